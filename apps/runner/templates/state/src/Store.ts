/**
 * The state store: documents in one table of an SQLite file, each with the version that its last change gave it.
 *
 * The contract (`@etl-stream/core/StateStore`) asks for little: a compare-and-set that is atomic whoever else uses the store, versions that are never given
 * twice, and an answer or an error within a bounded time. Most databases have what that needs; SQLite stands here for yours.
 */
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { StateStoreShape } from "@etl-stream/core/StateStore"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { randomUUID } from "node:crypto"
import { mkdirSync } from "node:fs"
import { dirname } from "node:path"
import { DatabaseSync } from "node:sqlite"
import type { Config } from "./Config.ts"

/** The name that configurations use. */
export const pluginName = "etl-stream-kind-example"

/** SQLite's result code when another process has the file locked (https://www.sqlite.org/rescode.html). */
const busy = 5

/**
 * Why an operation failed. The reason decides what happens then: `Unreachable` is tried again, also by the pipeline as a whole; `Misconfigured` waits for
 * somebody. Neither message nor hint may hold a document.
 */
const fromCause = (file: string) => (cause: unknown): ConnectorError => {
  const locked = typeof cause === "object" && cause !== null && "errcode" in cause && cause.errcode === busy
  return new ConnectorError({
    reason: locked ? "Unreachable" : "Misconfigured",
    plugin: pluginName,
    message: locked ? `The state file ${file} is locked by another process` : `The state file ${file} can't be used`,
    hint: locked
      ? "Find out which process holds it."
      : "Check its permissions and disk. The state is a cache: without the file the pipelines find out anew how far they are.",
    cause
  })
}

const Row = Schema.Struct({ key: Schema.String, value: Schema.String, version: Schema.String })
const decodeRow = Schema.decodeUnknownSync(Row)

const open = (file: string): DatabaseSync => {
  mkdirSync(dirname(file), { recursive: true })
  // A short wait inside SQLite, which holds up everything else in this process; longer ones are between the attempts.
  const database = new DatabaseSync(file, { timeout: 20 })
  try {
    database.exec(
      `PRAGMA synchronous = FULL;
       CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, value TEXT NOT NULL, version TEXT NOT NULL) STRICT`
    )
    return database
  } catch (cause) {
    database.close()
    throw cause
  }
}

/** The store in `file` (an absolute path), closed with the scope. */
export const make = Effect.fn("Store.make")(function*(
  file: string,
  { patience }: Config
): Effect.fn.Return<StateStoreShape, ConnectorError, Scope.Scope> {
  /** Runs something on the database; while that is locked, again and again for as long as the options say. */
  const attempt = <A>(run: () => A): Effect.Effect<A, ConnectorError> =>
    Effect.try({ try: run, catch: fromCause(file) }).pipe(
      Effect.retry({
        schedule: Schedule.spaced("50 millis").pipe(Schedule.jittered, Schedule.upTo({ duration: patience })),
        while: ({ reason }) => reason === "Unreachable"
      })
    )
  const database = yield* Effect.acquireRelease(
    attempt(() => open(file)),
    (database) => Effect.sync(() => database.close())
  )

  return {
    get: (key) =>
      attempt(() => {
        const row = database.prepare("SELECT key, value, version FROM state WHERE key = ?").get(key)
        if (row === undefined) return Option.none()
        const { value, version } = decodeRow(row)
        return Option.some({ value, version })
      }),
    list: (prefix) =>
      attempt(() =>
        database.prepare(
          "SELECT key, value, version FROM state WHERE substr(key, 1, length(?1)) = ?1 ORDER BY key"
        ).all(prefix).map((row) => {
          const { key, value, version } = decodeRow(row)
          return [key, { value, version }] as const
        })
      ),
    compareAndSet: (key, value, expected) =>
      attempt(() => {
        // Never given twice, so a document that was removed and made again isn't taken for the old one.
        const version = randomUUID()
        const { changes } = expected === undefined
          ? database.prepare("INSERT INTO state (key, value, version) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
            .run(key, value, version)
          : database.prepare("UPDATE state SET value = ?, version = ? WHERE key = ? AND version = ?")
            .run(value, version, key, expected)
        return Number(changes) === 1 ? Option.some(version) : Option.none()
      }),
    remove: (key) => attempt(() => void database.prepare("DELETE FROM state WHERE key = ?").run(key)),
    // Whoever shares a file shares a machine and its clock. A server's own clock is better where there is a server.
    now: Clock.currentTimeMillis
  }
})
