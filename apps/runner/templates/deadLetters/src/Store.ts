/**
 * The dead-letter store: letters in one table of an SQLite file, each under its id.
 *
 * The contract (`@etl-stream/core/DeadLetterStore`): what `put` was given is durable when it returns, and there once however often it is put; lists hold a page at a time. A
 * letter is the only copy of a value, and holds values of rows: the file is its owner's alone, and no error has anything of a letter in it.
 */
import { ConnectorError, type Reason } from "@etl-stream/core/ConnectorError"
import { DeadLetter } from "@etl-stream/core/DeadLetter"
import type { DeadLetterStore } from "@etl-stream/core/DeadLetterStore"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { closeSync, mkdirSync, openSync } from "node:fs"
import { dirname } from "node:path"
import { DatabaseSync } from "node:sqlite"
import type { Config } from "./Config.ts"

/** The name that configurations use. */
export const pluginName = "etl-stream-kind-example"

/** SQLite's result code when another process has the file locked (https://www.sqlite.org/rescode.html). */
const busy = 5

/** The reason decides what happens then: `Unreachable` is tried again, an error with a table sets the table aside. */
const failure = (reason: Reason, message: string, hint: string, more: object = {}): ConnectorError =>
  new ConnectorError({ reason, plugin: pluginName, message, hint, ...more })

const fromCause = (file: string) => (cause: unknown): ConnectorError => {
  if (cause instanceof ConnectorError) return cause
  const locked = typeof cause === "object" && cause !== null && "errcode" in cause && cause.errcode === busy
  return locked
    ? failure("Unreachable", `The file of dead letters ${file} is locked`, "Find out which process holds it.", {
      cause
    })
    : failure(
      "Misconfigured",
      `The file of dead letters ${file} can't be used`,
      "Check its permissions and its disk.",
      {
        cause
      }
    )
}

const schema = `PRAGMA synchronous = FULL;
  CREATE TABLE IF NOT EXISTS letters (
    place INTEGER PRIMARY KEY, pipeline TEXT, id TEXT, table_id TEXT, column_name TEXT, letter TEXT, UNIQUE (pipeline, id)
  ) STRICT;
  CREATE INDEX IF NOT EXISTS letters_by_table ON letters (pipeline, table_id)`

const open = (file: string): DatabaseSync => {
  mkdirSync(dirname(file), { recursive: true })
  // SQLite would make it readable by everybody.
  closeSync(openSync(file, "a", 0o600))
  // A short wait inside SQLite, which holds up everything else in this process; longer ones are between the attempts.
  const database = new DatabaseSync(file, { timeout: 20 })
  try {
    database.exec(schema)
    return database
  } catch (cause) {
    database.close()
    throw cause
  }
}

const Row = Schema.Struct({ place: Schema.Number, letter: Schema.fromJsonString(DeadLetter) })
const decodeRow = Schema.decodeUnknownSync(Row)
const decodeCount = Schema.decodeUnknownSync(Schema.Struct({ count: Schema.Number }))

/** Letters of a list that are held at a time. */
const page = 10

/** The store in `file` (an absolute path), closed with the scope. */
export const make = Effect.fn("Store.make")(function*(
  file: string,
  { limit, patience }: Config
): Effect.fn.Return<DeadLetterStore, ConnectorError, Scope.Scope> {
  /** Runs something on the database; while that is locked, again and again for as long as the options say. */
  const attempt = <A>(run: () => A): Effect.Effect<A, ConnectorError> =>
    Effect.try({ try: run, catch: fromCause(file) }).pipe(
      Effect.retry({
        schedule: Schedule.spaced("20 millis").pipe(Schedule.jittered, Schedule.upTo({ duration: patience })),
        while: ({ reason }) => reason === "Unreachable"
      })
    )
  const database = yield* Effect.acquireRelease(
    attempt(() => open(file)),
    (database) => Effect.sync(() => database.close())
  )

  /** Does all of it or nothing. */
  const transaction = <A>(run: () => A): Effect.Effect<A, ConnectorError> =>
    attempt(() => {
      database.exec("BEGIN IMMEDIATE")
      try {
        const result = run()
        database.exec("COMMIT")
        return result
      } catch (cause) {
        if (database.isTransaction) database.exec("ROLLBACK")
        throw cause
      }
    })

  const insert = (letter: DeadLetter): boolean => {
    const { column, id, pipeline, table } = letter
    const { changes } = database.prepare(
      "INSERT INTO letters (pipeline, id, table_id, column_name, letter) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
    ).run(pipeline, id, table, column.name, JSON.stringify(letter))
    return Number(changes) === 1
  }

  /** Fails when the store has more letters of the table than it may. */
  const checkLimit = ({ pipeline, table }: DeadLetter): void => {
    const found = database.prepare("SELECT count(*) AS count FROM letters WHERE pipeline = ? AND table_id = ?")
      .get(pipeline, table)
    if (decodeCount(found).count <= limit) return
    throw failure(
      "Rejected",
      `${table} has more than ${limit} values that can't be written, the most that are kept`,
      "Look at what they have in common (`etl-stream dlq ls`), mend that, and replay or drop them; or raise `limit`.",
      { table }
    )
  }

  return {
    put: (letters) =>
      letters.length === 0 ? Effect.succeed(0) : transaction(() => {
        const fresh = letters.filter(insert)
        for (const letter of new Map(fresh.map((letter) => [`${letter.pipeline} ${letter.table}`, letter])).values()) {
          checkLimit(letter)
        }
        return fresh.length
      }),
    list: ({ column, pipeline, table }) =>
      Stream.paginate(0, (after) =>
        attempt(() => {
          const rows = database.prepare(
            `SELECT place, letter FROM letters WHERE pipeline = ?1 AND place > ?2
               AND (?3 IS NULL OR table_id = ?3) AND (?4 IS NULL OR column_name = ?4) ORDER BY place LIMIT ${page}`
          ).all(pipeline, after, table ?? null, column ?? null).map((row) => decodeRow(row))
          const last = rows.at(-1)
          return [rows.map(({ letter }) => letter), Option.fromUndefinedOr(last?.place)] as const
        })),
    get: (pipeline, id) =>
      attempt(() => {
        const row = database.prepare("SELECT place, letter FROM letters WHERE pipeline = ? AND id = ?").get(
          pipeline,
          id
        )
        return row === undefined ? undefined : decodeRow(row).letter
      }),
    remove: (letters) =>
      transaction(() => {
        const remove = database.prepare("DELETE FROM letters WHERE pipeline = ? AND id = ?")
        for (const { id, pipeline } of letters) remove.run(pipeline, id)
      })
  }
})
