/**
 * The sink: keeps tables in one SQLite file in step with their source.
 *
 * Row-wise sinks are made by `@etl-stream/core/RowSink`, whose documentation is the contract. The one rule that everything rests on: rows and the position that comes with
 * them are stored in the same transaction. So a write that was applied is never applied again, and one that wasn't comes again.
 */
import { ConnectorError, type Reason } from "@etl-stream/core/ConnectorError"
import type { PluginContext } from "@etl-stream/core/Plugin"
import * as RowSink from "@etl-stream/core/RowSink"
import type { Sink } from "@etl-stream/core/Sink"
import { type TableId, tableId, type TableSchema } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { randomUUID } from "node:crypto"
import { mkdirSync } from "node:fs"
import { dirname, resolve } from "node:path"
import { DatabaseSync } from "node:sqlite"
import type { Config } from "./Config.ts"
import * as Statements from "./Statements.ts"

/** The name that configurations use. */
export const pluginName = "etl-stream-kind-example"

/** How far each table is, for each pipeline, the shape that it has (JSON), and who opened it last. */
const bookkeeping = `CREATE TABLE IF NOT EXISTS etl_stream_tables (
  pipeline TEXT, table_id TEXT, position TEXT, shape TEXT, writer TEXT, PRIMARY KEY (pipeline, table_id)
)`

/** The reason decides what happens: see `ConnectorError.Reason` and the header of `RowSink`. Messages never hold a value of a row. */
const failure = (reason: Reason, message: string, hint: string, table?: TableId, cause?: unknown): ConnectorError =>
  new ConnectorError({
    reason,
    plugin: pluginName,
    message,
    hint,
    ...(table === undefined ? {} : { table }),
    ...(cause === undefined ? {} : { cause })
  })

/** SQLite's result codes that need telling apart (https://www.sqlite.org/rescode.html). */
const code = { busy: 5, locked: 6, readOnly: 8, ioError: 10, corrupt: 11, full: 13, cantOpen: 14, notADatabase: 26 }

const fromCause = (file: string, table?: TableId) => (cause: unknown): ConnectorError => {
  if (cause instanceof ConnectorError) return cause
  const result = typeof cause === "object" && cause !== null && "errcode" in cause ? Number(cause.errcode) & 0xff : 0
  if (result === code.busy || result === code.locked) {
    return failure(
      "Unreachable",
      `The database ${file} is locked`,
      "Find out which process holds it.",
      undefined,
      cause
    )
  }
  // A refused row concerns its table; anything else of these, or outside of a table's work, concerns the file as a whole.
  return table === undefined || Object.values(code).includes(result)
    ? failure(
      "Misconfigured",
      `The database ${file} can't be used`,
      "Check its permissions and its disk, and that it is an SQLite file.",
      undefined,
      cause
    )
    : failure("Rejected", "SQLite refused a change", "Compare the table there with the source's.", table, cause)
}

const Row = Schema.Struct({ position: Schema.NullOr(Schema.String), shape: Schema.NullOr(Schema.String) })
const decodeRow = Schema.decodeUnknownSync(Row)

const open = (file: string): DatabaseSync => {
  mkdirSync(dirname(file), { recursive: true })
  const database = new DatabaseSync(file, { timeout: 1000 })
  try {
    database.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; ${bookkeeping}`)
    return database
  } catch (cause) {
    database.close()
    throw cause
  }
}

export const make = Effect.fn("Sink.make")(function*(
  config: Config,
  { directory, pipeline }: PluginContext
): Effect.fn.Return<Sink, ConnectorError, Scope.Scope> {
  const file = resolve(directory, config.file)
  const database = yield* Effect.acquireRelease(
    Effect.try({ try: () => open(file), catch: fromCause(file) }),
    (database) => Effect.sync(() => database.close())
  )

  /** Does all of it or nothing. */
  const transaction = <A>(table: TableId | undefined, run: () => A): Effect.Effect<A, ConnectorError> =>
    Effect.try({
      try: () => {
        database.exec("BEGIN IMMEDIATE")
        try {
          const result = run()
          database.exec("COMMIT")
          return result
        } catch (cause) {
          if (database.isTransaction) database.exec("ROLLBACK")
          throw cause
        }
      },
      catch: fromCause(file, table)
    })

  /** Who we are: whoever opens a table after us, a later run or another runner, makes us stop. */
  const writer = randomUUID()

  /** Stores the position if the one before it is still there and nobody else has opened the table since. */
  const store = (table: TableId, { position, previous }: RowSink.At): void => {
    const { changes } = database.prepare(
      "UPDATE etl_stream_tables SET position = ? WHERE pipeline = ? AND table_id = ? AND writer = ? AND position IS ?"
    ).run(position, pipeline, table, writer, previous ?? null)
    if (Number(changes) === 1) return
    throw failure("Fenced", "Another runner writes to the table", "Let one runner at a time run a pipeline.", table)
  }

  const storeShape = (table: TableSchema): void => {
    database.prepare("UPDATE etl_stream_tables SET shape = ? WHERE pipeline = ? AND table_id = ?")
      .run(JSON.stringify(table), pipeline, tableId(table.table))
  }

  const create = (table: TableSchema): void => {
    const id = tableId(table.table)
    const same = database.prepare("SELECT 1 FROM sqlite_schema WHERE name = ? COLLATE NOCASE AND name <> ?").get(id, id)
    if (same !== undefined) {
      throw failure(
        "Unsupported",
        "SQLite can't tell the table from another one, whose name differs in upper and lower case alone",
        "Write it to a file of its own, or rename it by a transform.",
        id
      )
    }
    database.exec(`DROP TABLE IF EXISTS ${Statements.nameOf(table)}; ${Statements.create(table)}`)
    storeShape(table)
  }

  const reshape = (from: TableSchema, to: TableSchema): void => {
    const sql = Statements.reshape(from, to)
    if (sql === undefined) {
      throw failure(
        "Unsupported",
        "The table's columns or key changed in a way that SQLite can't follow",
        "Copy the table again: `etl-stream resync`.",
        tableId(to.table)
      )
    }
    for (const statement of sql) database.exec(statement)
    storeShape(to)
  }

  return RowSink.make({
    plugin: pluginName,
    retain: (tables) =>
      transaction(undefined, () => {
        database.prepare(
          `UPDATE etl_stream_tables SET position = NULL
           WHERE pipeline = ? AND table_id NOT IN (SELECT value FROM json_each(?))`
        ).run(pipeline, JSON.stringify(tables))
      }),
    open: (table) => {
      const id = tableId(table.table)
      let write = Statements.writer(database, table)
      return transaction(id, () => {
        database.prepare(
          `INSERT INTO etl_stream_tables (pipeline, table_id, writer) VALUES (?, ?, ?)
           ON CONFLICT DO UPDATE SET writer = excluded.writer`
        ).run(pipeline, id, writer)
        const { position, shape } = decodeRow(
          database.prepare("SELECT position, shape FROM etl_stream_tables WHERE pipeline = ? AND table_id = ?")
            .get(pipeline, id)
        )
        // What isn't there, or doesn't count any more, is made anew when its copy begins.
        if (position === null || shape === null) create(table)
        else reshape(JSON.parse(shape) as TableSchema, table) // written by `storeShape`
        return position ?? undefined
      }).pipe(
        Effect.map((position): RowSink.TableWriter => {
          let current = table
          return {
            position,
            write: (rows, at) =>
              transaction(id, () => {
                for (const row of rows) write(row)
                store(id, at)
              }),
            clear: (at) =>
              transaction(id, () => {
                create(current)
                store(id, at)
              }),
            reshape: (next, at) =>
              transaction(id, () => {
                reshape(current, next)
                store(id, at)
              }).pipe(Effect.tap(() =>
                Effect.sync(() => {
                  current = next
                  write = Statements.writer(database, next)
                })
              ))
          }
        })
      )
    }
  })
})
