/**
 * The DuckDB file: opened once per process, written in one transaction at a time.
 *
 * DuckDB locks a file for the process that writes to it, so no second runner can write: that is the fence between processes. Within one, pipelines
 * that write to the same file share one instance, and a semaphore has their transactions come one after another, because DuckDB would refuse one of two that meet.
 */
import { type DuckDBConnection, DuckDBInstance } from "@duckdb/node-api"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { TableId } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type { Config } from "./Config.ts"
import * as Failure from "./Failure.ts"
import { home, quote } from "./Names.ts"

/** What a transaction runs its statements on. */
export interface Session {
  readonly connection: DuckDBConnection
  readonly run: (sql: string) => Promise<void>
  /** Rows as arrays of JavaScript values; whole numbers of 64 bits are BigInts. */
  readonly rows: (sql: string) => Promise<ReadonlyArray<ReadonlyArray<unknown>>>
  /** The first value of the first row as a number; 0 when it is NULL or there is none. */
  readonly number: (sql: string) => Promise<number>
}

export interface Database {
  /**
   * Runs `use` in a transaction that commits when it resolves, and leaves no trace when it rejects or the process dies. It can't be interrupted: a batch bounds how long it
   * takes. `table` is the one that is written, for errors.
   */
  readonly transaction: <A>(
    table: TableId | undefined,
    use: (session: Session) => Promise<A>
  ) => Effect.Effect<A, ConnectorError>
  /** Brings everything from the log of the file into the file itself. */
  readonly checkpoint: Effect.Effect<void, ConnectorError>
}

interface Shared {
  readonly instance: DuckDBInstance
  readonly turn: Semaphore.Semaphore
  users: number
}

/** The files that are open in this process. */
const open = new Map<string, Shared>()
const opening = Semaphore.makeUnsafe(1)

const sessionOn = (connection: DuckDBConnection): Session => {
  const rows = async (sql: string) => (await connection.runAndReadAll(sql)).getRowsJS()
  return {
    connection,
    run: async (sql) => {
      await connection.run(sql)
    },
    rows,
    number: async (sql) => Number((await rows(sql))[0]?.[0] ?? 0)
  }
}

/** The tables by which the sink knows how far it is; see `TableState`. */
const homeTables = `
  CREATE SCHEMA IF NOT EXISTS ${quote(home)};
  CREATE TABLE IF NOT EXISTS ${quote(home)}.tables (
    pipeline VARCHAR, source VARCHAR, target_schema VARCHAR, target_name VARCHAR, writer VARCHAR, columns VARCHAR, origin VARCHAR,
    copied UBIGINT, settled UBIGINT, committed VARCHAR, copying UBIGINT, plan VARCHAR, truncated UBIGINT, quarantine VARCHAR
  );
  CREATE TABLE IF NOT EXISTS ${quote(home)}.chunks (
    pipeline VARCHAR, source VARCHAR, chunk INTEGER, position UBIGINT, row_count BIGINT
  )`

/** Opens the file, or shares what is open already. Everything is closed with the scope of its last user. */
export const make = Effect.fn("Database.make")(
  function*(file: string, config: Config): Effect.fn.Return<Database, ConnectorError, Scope.Scope> {
    const shared = yield* Effect.acquireRelease(
      opening.withPermits(1)(Effect.gen(function*() {
        const known = open.get(file)
        if (known !== undefined) {
          known.users++
          return known
        }
        const instance = yield* Effect.tryPromise({
          try: () =>
            DuckDBInstance.create(file, {
              memory_limit: `${config.memory}B`,
              threads: String(config.threads),
              preserve_insertion_order: "false"
            }),
          catch: (cause) => Failure.opening(file, cause)
        })
        const shared: Shared = { instance, turn: Semaphore.makeUnsafe(1), users: 1 }
        open.set(file, shared)
        return shared
      })),
      (shared) =>
        opening.withPermits(1)(Effect.sync(() => {
          if (--shared.users > 0) return
          open.delete(file)
          shared.instance.closeSync()
        }))
    )
    const connection = yield* Effect.acquireRelease(
      Effect.tryPromise({ try: () => shared.instance.connect(), catch: (cause) => Failure.opening(file, cause) }),
      (connection) => Effect.sync(() => connection.closeSync())
    )
    const session = sessionOn(connection)

    const attempt = <A>(table: TableId | undefined, use: () => Promise<A>): Effect.Effect<A, ConnectorError> =>
      shared.turn.withPermits(1)(
        Effect.uninterruptible(Effect.tryPromise({ try: use, catch: (cause) => Failure.writing(table, cause) }))
      )

    const transaction: Database["transaction"] = (table, use) =>
      attempt(table, async () => {
        await connection.run("BEGIN TRANSACTION")
        try {
          const result = await use(session)
          await connection.run("COMMIT")
          return result
        } catch (cause) {
          // After a failed COMMIT nothing is left to roll back.
          await connection.run("ROLLBACK").catch(() => {})
          throw cause
        }
      })

    yield* attempt(undefined, () => session.run(`SET TimeZone = 'UTC'; ${homeTables}`))
    return { transaction, checkpoint: attempt(undefined, () => session.run("CHECKPOINT")) }
  }
)
