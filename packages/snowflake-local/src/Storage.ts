/**
 * The one DuckDB database file that holds everything the server acknowledges.
 *
 * Every Snowflake `DB.SCHEMA` is a DuckDB schema named literally `DB.SCHEMA`, so one DuckDB transaction covers rows of any table and the
 * server's own records (the `_local` schema). Each user of the database opens a connection of its own: `connect` for a session that lives
 * long, `write` for one transaction that is retried when DuckDB reports a write conflict.
 */
import type { DuckDBConnection } from "@duckdb/node-api"
import { DuckDBInstance } from "@duckdb/node-api"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { mkdir } from "node:fs/promises"
import { join } from "node:path"
import * as ConnectionUse from "./ConnectionUse.ts"
import * as Macros from "./sql/Macros.ts"

/**
 * DuckDB refused something. `reason` tells a write conflict (worth a retry) from the rest.
 */
export class StorageError
  extends Schema.TaggedError<StorageError>()("@etl-stream/snowflake-local/Storage/StorageError", {
    reason: Schema.Literals(["Conflict", "Failed"]),
    message: Schema.String
  })
{
  static readonly from = (cause: unknown): StorageError => {
    const message = cause instanceof Error ? cause.message : String(cause)
    return new StorageError({ reason: isConflict(message) ? "Conflict" : "Failed", message })
  }
}

/** DuckDB detects conflicts optimistically, at a statement or at COMMIT; each of these means "nothing happened, try again". */
const isConflict = (message: string): boolean =>
  (message.includes("TransactionContext Error") &&
    !/is aborted|no transaction is active|within a transaction/i.test(message)) ||
  /write-write conflict|serialization conflict/i.test(message)

/** Values are given to a prepared statement; SQL without any needs none, which is several calls of DuckDB less. */
const given = (values: ReadonlyArray<string | number | null> | undefined) =>
  values === undefined || values.length === 0 ? undefined : [...values]

/** Runs SQL and returns its rows as arrays of JavaScript values. */
export const rows = (
  connection: DuckDBConnection,
  sql: string,
  values?: ReadonlyArray<string | number | null>
): Effect.Effect<ReadonlyArray<ReadonlyArray<unknown>>, StorageError> =>
  ConnectionUse.use(
    connection,
    () => connection.runAndReadAll(sql, given(values)).then((reader) => reader.getRowsJS()),
    StorageError.from
  )

/** Runs SQL for its effect only. */
export const run = (
  connection: DuckDBConnection,
  sql: string,
  values?: ReadonlyArray<string | number | null>
): Effect.Effect<void, StorageError> =>
  Effect.asVoid(ConnectionUse.use(connection, () => connection.run(sql, given(values)), StorageError.from))

/** So many connections wait for the next write at most. */
const keptConnections = 8

const conflictRetries = Schedule.min([Schedule.exponential("2 millis"), Schedule.spaced("100 millis")]).pipe(
  Schedule.jittered,
  Schedule.upTo({ duration: "60 seconds" })
)

export class Storage extends Context.Service<Storage, {
  /** The folder that holds the database file and the stages' files. */
  readonly dataDir: string
  /** Opens a connection of its own, closed with the scope. */
  readonly connect: Effect.Effect<DuckDBConnection, StorageError, Scope.Scope>
  /**
   * Runs `use` in one write transaction on a connection of its own, again when DuckDB reports a conflict; commits when it succeeds and rolls
   * back when it fails. What it wrote is on disk when it returns.
   */
  readonly write: <A, E, R>(
    use: (connection: DuckDBConnection) => Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | StorageError, R>
}>()("@etl-stream/snowflake-local/Storage") {
  /** Opens (or creates) `<dataDir>/snowflake.duckdb` and prepares the server's own schema and macros. */
  static readonly layer = (dataDir: string, threads?: number): Layer.Layer<Storage, StorageError> =>
    Layer.effect(
      Storage,
      Effect.gen(function*() {
        const instance = yield* Effect.acquireRelease(
          Effect.tryPromise({
            try: async () => {
              await mkdir(dataDir, { recursive: true })
              return await DuckDBInstance.create(join(dataDir, "snowflake.duckdb"), {
                memory_limit: "2GB",
                // As in Snowflake, NULL sorts as if it were greater than everything.
                default_null_order: "nulls_last_on_asc_first_on_desc",
                ...(threads === undefined ? {} : { threads: String(threads) })
              })
            },
            catch: StorageError.from
          }),
          (instance) => Effect.sync(() => instance.closeSync())
        )

        const opened = Effect.tryPromise({ try: () => instance.connect(), catch: StorageError.from })
        const close = (connection: DuckDBConnection) => Effect.sync(() => connection.closeSync())
        const connect = Effect.acquireRelease(opened, close)
        // For every connection that doesn't set its own.
        yield* Effect.scoped(Effect.flatMap(connect, (connection) => run(connection, "SET GLOBAL TimeZone = 'UTC'")))

        /** Connections of transactions that ended well, for the next ones. */
        const idle: Array<DuckDBConnection> = []
        yield* Effect.addFinalizer(() => Effect.suspend(() => Effect.forEach(idle.splice(0), close, { discard: true })))
        const borrow = Effect.acquireRelease(
          Effect.suspend(() => {
            const connection = idle.pop()
            return connection === undefined ? opened : Effect.succeed(connection)
          }),
          (connection, exit) =>
            Effect.suspend(() => {
              if (exit._tag !== "Success" || idle.length >= keptConnections) return close(connection)
              idle.push(connection)
              return Effect.void
            })
        )

        const write = <A, E, R>(
          use: (connection: DuckDBConnection) => Effect.Effect<A, E, R>
        ): Effect.Effect<A, E | StorageError, R> =>
          Effect.scoped(Effect.gen(function*() {
            const connection = yield* borrow
            const attempt = Effect.acquireUseRelease(
              run(connection, "BEGIN TRANSACTION"),
              // COMMIT of a transaction that an error has aborted reports success while it rolls back; any query tells the truth.
              () => Effect.tap(use(connection), run(connection, "SELECT 1; COMMIT")),
              (_, exit) => exit._tag === "Success" ? Effect.void : Effect.ignore(run(connection, "ROLLBACK"))
            )
            return yield* Effect.retry(attempt, {
              schedule: conflictRetries,
              while: (error) => error instanceof StorageError && error.reason === "Conflict"
            })
          }))

        // In one piece: each call of DuckDB takes longer than what is asked here.
        yield* write((connection) => run(connection, [...ownTables, ...Macros.definitions].join(";\n")))
        return Storage.of({ dataDir, connect, write })
      })
    )
}

/** The server's own records. Snowflake names can't reach them: a Snowflake schema's DuckDB name always holds a dot. */
const ownTables: ReadonlyArray<string> = [
  `CREATE SCHEMA IF NOT EXISTS "_local"`,
  // Temporary tables live here under names of their own, and only as long as their session, which no restart survives.
  `DROP SCHEMA IF EXISTS "_temporary" CASCADE`,
  `CREATE SCHEMA "_temporary"`,
  `CREATE TABLE IF NOT EXISTS "_local".databases (name VARCHAR NOT NULL, created_on TIMESTAMP NOT NULL)`,
  `CREATE TABLE IF NOT EXISTS "_local".schemas (database VARCHAR NOT NULL, name VARCHAR NOT NULL, created_on TIMESTAMP NOT NULL)`,
  // A folder that an earlier version wrote has no owners.
  `ALTER TABLE "_local".databases ADD COLUMN IF NOT EXISTS owner VARCHAR DEFAULT 'SYSADMIN'`,
  `ALTER TABLE "_local".schemas ADD COLUMN IF NOT EXISTS owner VARCHAR DEFAULT 'SYSADMIN'`,
  `ALTER TABLE "_local".databases ADD COLUMN IF NOT EXISTS default_collation VARCHAR`,
  `ALTER TABLE "_local".schemas ADD COLUMN IF NOT EXISTS default_collation VARCHAR`,
  // See Grants.
  `CREATE TABLE IF NOT EXISTS "_local".roles (name VARCHAR NOT NULL)`,
  `CREATE TABLE IF NOT EXISTS "_local".role_grants (role VARCHAR NOT NULL, holder_kind VARCHAR NOT NULL, holder VARCHAR NOT NULL)`,
  `CREATE TABLE IF NOT EXISTS "_local".grants (
     role VARCHAR NOT NULL, privilege VARCHAR NOT NULL, kind VARCHAR NOT NULL, object VARCHAR NOT NULL, granted_on_ms BIGINT NOT NULL)`,
  // One row per table, view, stage, pipe, stream or task; `definition` is JSON: see Catalog.
  `CREATE TABLE IF NOT EXISTS "_local".objects (
     database VARCHAR NOT NULL, schema VARCHAR NOT NULL, name VARCHAR NOT NULL, kind VARCHAR NOT NULL,
     created_on TIMESTAMP NOT NULL, definition VARCHAR NOT NULL)`,
  `CREATE TABLE IF NOT EXISTS "_local".load_history (
     table_id VARCHAR NOT NULL, file VARCHAR NOT NULL, etag VARCHAR NOT NULL,
     loaded_on TIMESTAMP NOT NULL, row_count BIGINT NOT NULL)`,
  // One row per insert into a table with a stream, until the stream is read: see StreamLog.
  `CREATE TABLE IF NOT EXISTS "_local".stream_log (stream_id VARCHAR NOT NULL)`
]
