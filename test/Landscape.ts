/**
 * What an end-to-end test runs in: a PostgreSQL, a local Snowflake and a folder, and the runner as a process of its own between them.
 *
 * Everything is on free ports and in temporary folders, and ends with the test's scope. Configurations are written as JSON, which
 * YAML contains.
 */
import { assert } from "@effect/vitest"
import * as ChildProcess from "@etl-stream/testkit/ChildProcess"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as MirrorState from "@etl-stream/testkit/MirrorState"
import * as RowComparison from "@etl-stream/testkit/RowComparison"
import type { SnowflakeSessionError } from "@etl-stream/testkit/SnowflakeSession"
import * as Warehouse from "@etl-stream/testkit/Warehouse"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"

export const pipeline = "e2e"
export const schema = "SHOP"

/** The runner's entry point. */
export const command = fileURLToPath(import.meta.resolve("@etl-stream/runner/main"))

/** The local Snowflake's entry point. */
export const serverMain = fileURLToPath(import.meta.resolve("@etl-stream/snowflake-local/main"))

export const temporaryFolder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(path.join(tmpdir(), "etl-stream-e2e-"))),
  (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true, maxRetries: 3 }))
)

/** What a test changes in the configuration. */
export interface Changes {
  readonly source?: Readonly<Record<string, unknown>>
  readonly sink?: Readonly<Record<string, unknown>>
  /** Further keys of the pipeline. */
  readonly pipeline?: Readonly<Record<string, unknown>>
  /** Host and port that the pipeline reaches PostgreSQL at, for example a proxy's. */
  readonly through?: { readonly host: string; readonly port: number }
}

export interface Landscape {
  readonly folder: string
  readonly postgres: EmbeddedPostgres.EmbeddedPostgres
  readonly warehouse: Warehouse.Warehouse
  /** File of the state store. */
  readonly stateFile: string
  readonly logFile: string
  /** The configuration as an object; `write` takes one. */
  readonly configuration: (changes?: Changes) => object
  /** Writes a configuration file and returns its name. */
  readonly write: (configuration: object | string) => string
  /** Starts the runner on a configuration file. */
  readonly run: (
    file: string,
    args?: ReadonlyArray<string>
  ) => Effect.Effect<ChildProcess.ChildProcess, ChildProcess.ChildProcessError, Scope.Scope>
  /** How far the mirror is, by a session that lives as long as the scope. */
  readonly mirror: Effect.Effect<
    MirrorState.Mirror,
    SnowflakeSessionError,
    Scope.Scope
  >
}

export interface Options {
  readonly postgres?: EmbeddedPostgres.Options
  /** Entry points of the runner and of the local Snowflake. Default: this checkout's. */
  readonly runner?: string
  readonly server?: string
  /** How many threads a statement of the local Snowflake may use; see `Warehouse`. */
  readonly threads?: number
}

/** Starts the runner with a file, without terminal view. */
export const runFile = (file: string, logFile: string, args: ReadonlyArray<string> = [], runner = command) =>
  ChildProcess.start({
    name: "the runner",
    command: process.execPath,
    args: [runner, "run", file, ...args],
    cwd: path.dirname(file),
    logFile
  })

export const make = (options: Options = {}) =>
  Effect.gen(function*() {
    const folder = yield* temporaryFolder
    const [postgres, warehouse] = yield* Effect.all([
      EmbeddedPostgres.start(options.postgres),
      Warehouse.start({ main: options.server ?? serverMain, folder, threads: options.threads ?? 1 })
    ], { concurrency: 2 })
    const logFile = path.join(folder, "runner.log")
    let files = 0
    const landscape: Landscape = {
      folder,
      postgres,
      warehouse,
      stateFile: path.join(folder, "state.sqlite"),
      logFile,
      configuration: ({ pipeline: more, sink, source, through } = {}) => {
        const url = new URL(postgres.url)
        if (through !== undefined) url.host = `${through.host}:${through.port}`
        return {
          apiVersion: 1,
          state: { plugin: "@etl-stream/state-sqlite", options: { file: "./state.sqlite" } },
          pipelines: {
            [pipeline]: {
              source: {
                plugin: "@etl-stream/source-postgres",
                // A slot of idle tables moves with the heartbeat only: tests wait for that, again and again.
                options: { url: url.href, tables: ["public.*"], heartbeat: { every: "500 millis" }, ...source }
              },
              sink: {
                plugin: "@etl-stream/sink-snowflake",
                options: {
                  account: warehouse.account,
                  url: warehouse.url,
                  user: warehouse.user,
                  auth: { privateKeyFile: warehouse.privateKeyFile },
                  role: warehouse.role,
                  warehouse: warehouse.warehouse,
                  database: warehouse.database,
                  schema,
                  merge: { every: "1 second" },
                  ...sink
                },
                batch: { every: "300 millis" }
              },
              ...more
            }
          }
        }
      },
      write: (configuration) => {
        const file = path.join(folder, `pipeline-${files++}.yaml`)
        writeFileSync(
          file,
          typeof configuration === "string" ? configuration : JSON.stringify(configuration, undefined, 2)
        )
        return file
      },
      run: (file, args) => runFile(file, logFile, args, options.runner),
      mirror: Effect.map(warehouse.session, (session): MirrorState.Mirror => ({
        session,
        pipeline,
        database: warehouse.database,
        schema
      }))
    }
    return landscape
  })

/** Asks for a new copy of one table of the pipeline, by the command, which ends when the copy is complete. */
export const resync = (file: string, table: string) =>
  ChildProcess.start({
    name: "resync",
    command: process.execPath,
    args: [command, "resync", file, "--pipeline", pipeline, "--wait", "complete", table]
  })

/** Waits until everything committed so far is in the target tables and confirmed. */
export const caughtUp = (
  landscape: Landscape,
  mirror: MirrorState.Mirror,
  tables: ReadonlyArray<string>,
  millis = 60_000
) => MirrorState.caughtUp({ postgres: landscape.postgres, slot: pipeline, mirror, tables, millis })

/** Compares tables of the schema `public` with their copies. */
export const compare = (
  landscape: Landscape,
  mirror: MirrorState.Mirror,
  tables: ReadonlyArray<string>,
  rowsPerPass = 200_000
) =>
  RowComparison.compare({
    rowsPerPass,
    postgres: landscape.postgres.url,
    snowflake: mirror.session,
    tables: tables.map((name) => ({
      source: { schema: "public", name },
      target: { database: mirror.database, schema, name: RowComparison.warehouseName(name) }
    }))
  })

/** Fails the test when a table is not the same on both sides, or a journal holds a change twice. */
export const assertSame = (
  landscape: Landscape,
  mirror: MirrorState.Mirror,
  tables: ReadonlyArray<string>,
  rowsPerPass?: number
) =>
  Effect.gen(function*() {
    for (const comparison of yield* compare(landscape, mirror, tables, rowsPerPass)) {
      assert.isTrue(RowComparison.isSame(comparison), JSON.stringify(comparison, undefined, 2))
    }
    for (const table of tables) {
      const { duplicates } = yield* MirrorState.journalState(mirror, table)
      assert.strictEqual(duplicates, 0, `${table}'s journal holds ${duplicates} changes twice`)
    }
  })
