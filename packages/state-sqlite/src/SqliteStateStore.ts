/**
 * A `StateStore` in one local SQLite file, on Node's own `node:sqlite`.
 *
 * The file and its folder are created when missing, readable by their owner only. Writes are synced to disk before they return
 * (WAL with `synchronous = FULL`). Several processes may share the file: a statement waits a moment inside SQLite, then with the event loop
 * free, before it gives up. A file that SQLite can't read is never repaired or overwritten: the error says that it may be deleted.
 */
import { ConnectorError, type Reason } from "@etl-stream/core/ConnectorError"
import type { StateStoreShape } from "@etl-stream/core/StateStore"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { randomUUID } from "node:crypto"
import * as Fs from "node:fs"
import { dirname } from "node:path"
import type { DatabaseSync } from "node:sqlite"

/** The plugin's name, also in its errors. */
export const pluginName = "@etl-stream/state-sqlite"

/** Layout of the database, kept in its `user_version`. */
const layout = 1

/** How long one statement may hold up the event loop while another process has the file locked. */
const lockWaitMillis = 50

/** SQLite's primary result codes that need telling apart (https://www.sqlite.org/rescode.html). */
const ResultCode = {
  busy: 5,
  locked: 6,
  readOnly: 8,
  ioError: 10,
  corrupt: 11,
  full: 13,
  cantOpen: 14,
  notADatabase: 26
} as const

const cacheHint = (file: string) =>
  `The state is a cache: stop etl-stream, delete ${file} (and ${file}-wal, ${file}-shm) and start again; no data is lost, only time.`

const failure = (reason: Reason, message: string, hint: string, cause: unknown): ConnectorError =>
  new ConnectorError({ reason, plugin: pluginName, message, hint, cause })

/** Code of an error of Node's, such as `EACCES`. */
const codeOf = (cause: unknown): unknown =>
  typeof cause === "object" && cause !== null && "code" in cause ? cause.code : undefined

/** SQLite's primary result code of an error of `node:sqlite`. */
const resultCode = (cause: unknown): number | undefined =>
  typeof cause === "object" && cause !== null && "errcode" in cause && typeof cause.errcode === "number"
    ? cause.errcode & 0xff
    : undefined

const fromCause = (file: string) => (cause: unknown): ConnectorError => {
  switch (resultCode(cause)) {
    case ResultCode.busy:
    case ResultCode.locked:
      return failure(
        "Unreachable",
        `The state file ${file} is locked by another process`,
        "Give each etl-stream process a state file of its own.",
        cause
      )
    case ResultCode.corrupt:
    case ResultCode.notADatabase:
      return failure("Misconfigured", `The state file ${file} is corrupted or not a state file`, cacheHint(file), cause)
    case ResultCode.full:
      return failure(
        "Misconfigured",
        `No space is left for the state file ${file}`,
        "Free some space on its disk.",
        cause
      )
    case ResultCode.readOnly:
    case ResultCode.cantOpen:
      return failure(
        "Misconfigured",
        `The state file ${file} can't be opened for writing`,
        `Check the permissions of the file and of its folder. ${cacheHint(file)}`,
        cause
      )
    case ResultCode.ioError:
      return failure(
        "Misconfigured",
        `Reading or writing the state file ${file} failed`,
        `Check its disk. ${cacheHint(file)}`,
        cause
      )
  }
  switch (codeOf(cause)) {
    case "EACCES":
    case "EPERM":
    case "EROFS":
      return failure(
        "Misconfigured",
        `No permission to read and write the state file ${file}`,
        "Check the permissions of the file and of its folder, or choose another path in `state.options.file`.",
        cause
      )
    case "EISDIR":
    case "ENOTDIR":
    case "EEXIST":
      return failure(
        "Misconfigured",
        `The path of the state file ${file} is not a file, or its folder is not a folder`,
        "Choose another path in `state.options.file`.",
        cause
      )
  }
  return failure("Misconfigured", `The state file ${file} can't be used`, cacheHint(file), cause)
}

/** Opens `file`, making it and its folder when missing, readable by the owner only. */
const open = async (file: string): Promise<DatabaseSync> => {
  Fs.mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
  // The file exists with the right mode before SQLite sees it; its -wal and -shm files take the mode over.
  Fs.closeSync(Fs.openSync(file, "a", 0o600))
  if ((Fs.statSync(file).mode & 0o077) !== 0) Fs.chmodSync(file, 0o600)
  const { DatabaseSync } = await import("node:sqlite")
  const database = new DatabaseSync(file, { timeout: lockWaitMillis })
  try {
    database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL")
    const check = database.prepare("PRAGMA quick_check(1)").get()
    if (check?.["quick_check"] !== "ok") {
      throw Object.assign(new Error("quick_check failed"), { errcode: ResultCode.corrupt })
    }
    const version = database.prepare("PRAGMA user_version").get()?.["user_version"]
    if (version !== 0 && version !== layout) {
      throw Object.assign(new Error("unknown layout"), { errcode: ResultCode.notADatabase })
    }
    database.exec(
      `BEGIN IMMEDIATE;
       CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, value TEXT NOT NULL, version TEXT NOT NULL) STRICT, WITHOUT ROWID;
       PRAGMA user_version = ${layout};
       COMMIT`
    )
    return database
  } catch (cause) {
    database.close()
    throw cause
  }
}

/** Waits for other processes without holding up the event loop: for about five seconds. */
const whileLocked = Schedule.spaced("100 millis").pipe(Schedule.jittered, Schedule.upTo({ duration: "5 seconds" }))

const Row = Schema.Struct({ key: Schema.String, value: Schema.String, version: Schema.String })
const decodeRow = Schema.decodeUnknownSync(Row)

/** The store in `file` (absolute), closed with the scope. */
export const make = Effect.fn("SqliteStateStore.make")(function*(
  file: string
): Effect.fn.Return<StateStoreShape, ConnectorError, Scope.Scope> {
  const patiently = <A>(effect: Effect.Effect<A, ConnectorError>): Effect.Effect<A, ConnectorError> =>
    Effect.retry(effect, { schedule: whileLocked, while: (error) => error.reason === "Unreachable" })
  const database = yield* Effect.acquireRelease(
    patiently(Effect.tryPromise({ try: () => open(file), catch: fromCause(file) })),
    (database) => Effect.sync(() => database.close())
  )
  const statement = <A>(run: () => A): Effect.Effect<A, ConnectorError> =>
    patiently(Effect.try({ try: run, catch: fromCause(file) }))

  const get = yield* statement(() => database.prepare("SELECT key, value, version FROM state WHERE key = ?"))
  const list = yield* statement(() =>
    database.prepare(
      "SELECT key, value, version FROM state WHERE key >= ?1 AND substr(key, 1, length(?1)) = ?1 ORDER BY key"
    )
  )
  const insert = yield* statement(() =>
    database.prepare("INSERT INTO state (key, value, version) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
  )
  const update = yield* statement(() =>
    database.prepare("UPDATE state SET value = ?2, version = ?3 WHERE key = ?1 AND version = ?4")
  )
  const remove = yield* statement(() => database.prepare("DELETE FROM state WHERE key = ?"))

  return {
    get: (key) =>
      statement(() => {
        const row = get.get(key)
        return row === undefined ? Option.none() : Option.some(decodeRow(row))
      }).pipe(Effect.map(Option.map(({ value, version }) => ({ value, version })))),
    list: (prefix) =>
      statement(() => list.all(prefix).map((row) => decodeRow(row))).pipe(
        Effect.map((rows) => rows.map(({ key, value, version }) => [key, { value, version }] as const))
      ),
    compareAndSet: (key, value, expected) =>
      statement(() => {
        const version = randomUUID()
        const { changes } = expected === undefined
          ? insert.run(key, value, version)
          : update.run(key, value, version, expected)
        return Number(changes) === 1 ? Option.some(version) : Option.none()
      }),
    remove: (key) => Effect.asVoid(statement(() => remove.run(key))),
    // All who share the file are on this machine.
    now: Clock.currentTimeMillis
  }
})
