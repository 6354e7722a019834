/**
 * The scenario matrix of the Snowflake sink with as many sequences as a night has time for: `npm run test:long`, 100,000 unless `ETL_STREAM_SEQUENCES` says otherwise.
 *
 * `npm test` runs the same with 200. Further arguments go to the test runner.
 */
import { spawnSync } from "node:child_process"

const { error, status } = spawnSync(
  "vitest",
  [
    "run",
    ...["Mirror", "SoftDelete", "History", "Changes"].map((mode) => `packages/sink-snowflake/test/${mode}Matrix`),
    ...process.argv.slice(2)
  ],
  { stdio: "inherit", env: { ETL_STREAM_SEQUENCES: "100000", ...process.env } }
)
if (error !== undefined) console.error(`Could not run vitest: ${error.message}`)
process.exitCode = status ?? 1
