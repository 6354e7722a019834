import { defineConfig, type TestProjectInlineConfiguration } from "vitest/config"
import { BaseSequencer, type TestSpecification } from "vitest/node"

const all = ["packages/*/test/**/*.test.ts", "apps/*/test/**/*.test.ts", "test/**/*.test.ts"]

/** What depends on the version of PostgreSQL: the source, the monitor of its log, and the faults of the server that only a whole pipeline can show. */
const source = [
  "packages/source-postgres/test/**/*.test.ts",
  "packages/monitor-wal/test/{Conformance,Postgres}.test.ts",
  "packages/testkit/test/EmbeddedPostgres.test.ts",
  "test/{PostgresCrash,RandomFaults,Types}.test.ts"
]

/** Left out on the versions that `npm test` runs besides the newest, since nothing in them, or hardly anything, is the server's; `npm run test:matrix` has them on all. */
const newestOnly = [
  // Without a server.
  "packages/source-postgres/test/{Claims,ColumnHistory,Config,ConnectionOptions,ConnectionString,CopyReader,FrameBuffer,PgOutputDecoder,PublicationWatch,WireReader}.test.ts",
  "packages/source-postgres/test/{FailPoints,MessageBuffer,Wide,BinaryValues,TextValues,StreamedTransactions,LargeTransactions}.test.ts",
  "packages/source-postgres/test/{Reshape,ReplicationConnection}.test.ts",
  "test/RandomFaults.test.ts"
]

/** Files that take minutes go first, so that none of them runs alone in the end. */
class LongFilesFirst extends BaseSequencer {
  override async sort(files: Array<TestSpecification>): Promise<Array<TestSpecification>> {
    const sorted = await super.sort(files)
    const takesMinutes = ({ moduleId }: TestSpecification): boolean => moduleId.endsWith("Matrix.test.ts")
    return [...sorted.filter(takesMinutes), ...sorted.filter((file) => !takesMinutes(file))]
  }
}

const onPostgres = (
  version: string,
  include: ReadonlyArray<string>,
  order: number,
  exclude: ReadonlyArray<string> = []
): TestProjectInlineConfiguration => ({
  extends: true,
  test: {
    name: `postgres ${version}`,
    include: [...include],
    exclude: ["**/node_modules/**", ...exclude],
    env: { ETL_STREAM_POSTGRES_VERSION: version },
    // One version after another: two servers at a time are enough, and what fails is together.
    sequence: { groupOrder: order }
  }
})

/**
 * Everything runs on one version of PostgreSQL, `ETL_STREAM_POSTGRES_VERSION` or the newest. `ETL_STREAM_SOURCE_ON` names
 * versions, separated by commas, on which the source's tests run as well (`npm test`), or alone (`npm run test:matrix`).
 */
const main = process.env["ETL_STREAM_POSTGRES_VERSION"] ?? "18"
const more = (process.env["ETL_STREAM_SOURCE_ON"] ?? "").split(",").filter((version) => version !== "")
const sourceOnly = more.includes(main)

export default defineConfig({
  test: {
    // Real servers start inside tests; two at a time is what a two-core machine carries.
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 120_000,
    globalSetup: new URL("test/CompileCache.ts", import.meta.url).pathname,
    sequence: { sequencer: LongFilesFirst },
    env: { ETL_STREAM_POSTGRES_PACKAGES: new URL("test/postgres-versions", import.meta.url).pathname },
    projects: [
      ...(sourceOnly ? [] : [onPostgres(main, all, 0)]),
      ...more.map((version, index) => onPostgres(version, source, index + 1, sourceOnly ? [] : newestOnly))
    ]
  }
})
