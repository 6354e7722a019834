/**
 * The tests on several versions of PostgreSQL, in one run of the test runner with one summary. `npm test` runs everything on the
 * newest version and the source's tests again on the oldest; `npm run test:matrix` runs the source's tests on every version.
 *
 * The older versions' binaries are no dependency of anything but tests: they are installed here. Further arguments go to the
 * test runner.
 */
import { spawnSync } from "node:child_process"

const newest = "18"
// Binaries of 14 are published for Linux on x64 alone.
const older = process.platform === "linux" && process.arch === "x64" ? ["14", "15", "16", "17"] : ["15", "16", "17"]

const run = (command: string, args: ReadonlyArray<string>, env: NodeJS.ProcessEnv): number => {
  const { error, status } = spawnSync(command, args, { stdio: "inherit", env })
  if (error !== undefined) console.error(`Could not run ${command}: ${error.message}`)
  return status ?? 1
}

const matrix = process.argv.includes("--matrix")
const runnerArgs = process.argv.slice(2).filter((argument) => argument !== "--matrix")
const versions = matrix ? [...older, newest] : older.slice(0, 1)
// Takes no time when they are there already.
const installed = run(
  "pnpm",
  ["install", "--frozen-lockfile", "--filter", "@etl-stream/postgres-versions", "--reporter=append-only"],
  process.env
)
process.exitCode = installed !== 0 ? installed : run("vitest", ["run", ...runnerArgs], {
  ...process.env,
  ETL_STREAM_SOURCE_ON: versions.join(",")
})
