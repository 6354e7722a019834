/**
 * Brings a document into the configuration database: what is different is found and written in one transaction.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as EncryptedSecret from "../EncryptedSecret.ts"
import { fromSql } from "./DatabaseError.ts"
import * as PlainSecrets from "./PlainSecrets.ts"
import { columnsFor, type Content, keyOf, readAll, type Row } from "./Rows.ts"
import { currentVersion, lockKey, schema, tables, tooNew, version } from "./Tables.ts"

/** A row to be written, with the secrets that are to be encrypted in it. */
export interface Wanted extends Content {
  readonly secrets: ReadonlyArray<PlainSecrets.PlainSecret>
}

export interface Change {
  readonly kind: "added" | "changed" | "removed"
  /** `table/name`. */
  readonly row: string
  /** The keys that differ, of a changed row. */
  readonly keys: ReadonlyArray<string>
}

export interface Applied {
  readonly changes: ReadonlyArray<Change>
  /** Rows that are as the document says. */
  readonly unchanged: ReadonlyArray<string>
  /** Rows that the document lacks, and that stay. */
  readonly kept: ReadonlyArray<string>
}

export interface Options {
  /** Removes rows that the document lacks. */
  readonly prune: boolean
  /** Changes nothing. */
  readonly dryRun: boolean
  /** For secrets that are to be encrypted. */
  readonly keys: EncryptedSecret.Keys | undefined
}

const keysOf = (value: unknown): ReadonlyArray<string> =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? Object.keys(value) : []

const field = (value: unknown, key: string): unknown =>
  typeof value === "object" && value !== null && Object.hasOwn(value, key) ? Reflect.get(value, key) : undefined

/** What a row holds, with what its columns default to. A pipeline keeps the status that it has when none is given. */
const complete = ({ table, value }: Content, before: Row | undefined): unknown => {
  switch (table) {
    case "settings":
      return value
    case "pipelines": {
      const entries = Object.entries(typeof value === "object" && value !== null ? value : {})
      const status = field(value, "status") ?? field(before?.value, "status") ?? "running"
      return Object.fromEntries([["transforms", []], ...entries, ["status", status]])
    }
    default:
      return Object.fromEntries([
        ["options", {}],
        ...Object.entries(typeof value === "object" && value !== null ? value : {})
      ])
  }
}

const differing = (before: unknown, after: unknown): ReadonlyArray<string> =>
  [...new Set([...keysOf(before), ...keysOf(after)])].filter((key) =>
    !Equal.equals(field(before, key), field(after, key))
  )

/** The value of `row` as it is to be stored. */
const sealed = (row: Wanted, before: Row | undefined, keys: EncryptedSecret.Keys | undefined): unknown =>
  row.secrets.reduce<unknown>((value, { path, secret }) => {
    if (keys === undefined) return value
    const place = [...PlainSecrets.documentPath(row), ...path]
    const known = PlainSecrets.unchanged(PlainSecrets.lookup(before?.value, path), secret, place, keys)
    return PlainSecrets.replace(value, path, known ?? EncryptedSecret.encrypt(secret, place, keys))
  }, row.value)

const jsonColumns: ReadonlySet<string> = new Set(["value", "options", "settings", "transforms"])

/** Writes a row's configuration, in the transaction that is open. `exists`: it is there. */
export const writeRow = Effect.fnUntraced(function*(row: Content, exists: boolean) {
  const sql = yield* SqlClient.SqlClient
  const columns = Object.entries(columnsFor(row))
  const placeholders = columns.map(([column], index) =>
    `$${index + 2}${jsonColumns.has(column) ? "::jsonb" : "::text"}`
  )
  const names = columns.map(([column]) => column)
  const statement = exists
    ? `UPDATE ${schema}.${row.table} SET ${
      names.map((name, index) => `${name} = ${placeholders[index]}`).join(", ")
    } WHERE name = $1::text`
    : `INSERT INTO ${schema}.${row.table} (name, ${names.join(", ")}) VALUES ($1::text, ${placeholders.join(", ")})`
  yield* sql.unsafe(statement, [row.name, ...columns.map(([, value]) => value)])
})

const remove = Effect.fnUntraced(function*({ name, table }: Content) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`DELETE FROM ${sql(`${schema}.${table}`)} WHERE name = ${name}`
})

const inTransaction = Effect.fnUntraced(function*(
  wanted: ReadonlyArray<Wanted>,
  { dryRun, keys, prune }: Options
): Effect.fn.Return<Applied, SqlError | ConnectorError, SqlClient.SqlClient> {
  const found = yield* currentVersion
  if (found > version) return yield* tooNew(found)
  // Only a dry run comes before the tables.
  const { rows } = found === 0 ? { rows: [] } : yield* readAll
  const known = new Map(rows.map((row) => [keyOf(row), row]))
  const names = new Set(wanted.map(keyOf))
  const changes: Array<Change> = []
  const unchanged: Array<string> = []
  // Sources and sinks come before the pipelines that name them.
  const ordered = tables.flatMap((table) => wanted.filter((row) => row.table === table))
  for (const row of ordered) {
    const key = keyOf(row)
    const before = known.get(key)
    const value = complete({ ...row, value: sealed(row, before, keys) }, before)
    if (before !== undefined && before.unreadable === undefined && Equal.equals(before.value, value)) {
      unchanged.push(key)
      continue
    }
    changes.push({
      kind: before === undefined ? "added" : "changed",
      row: key,
      keys: before === undefined ? [] : differing(before.value, value)
    })
    if (!dryRun) yield* writeRow({ ...row, value }, before !== undefined)
  }
  const others = rows.filter((row) => !names.has(keyOf(row)))
  if (prune) {
    // And go after them.
    for (const row of tables.toReversed().flatMap((table) => others.filter((row) => row.table === table))) {
      changes.push({ kind: "removed", row: keyOf(row), keys: [] })
      if (!dryRun) yield* remove(row)
    }
  }
  return { changes, unchanged, kept: prune ? [] : others.map(keyOf) }
})

/** Somebody else wrote at the same time: what is different is found anew. */
const again = Schedule.max([
  Schedule.spaced("50 millis").pipe(Schedule.jittered),
  Schedule.recurs(20)
]).pipe(
  Schedule.setInputType<ConnectorError>(),
  Schedule.while(({ input }) => input.reason === "Throttled")
)

/** Runs `change` in a transaction that sees and writes as if it were alone; begins anew when it wasn't. */
export const serially = <A>(
  change: Effect.Effect<A, SqlError | ConnectorError, SqlClient.SqlClient>
): Effect.Effect<A, ConnectorError, SqlClient.SqlClient> =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    return yield* sql.withTransaction(change)
  }).pipe(
    Effect.provideService(SqlClient.BeginTransaction, "BEGIN ISOLATION LEVEL SERIALIZABLE"),
    Effect.catchTag("SqlError", (error) => Effect.fail(fromSql(error))),
    Effect.retry(again)
  )

/** One of us after the other: otherwise two that write the same would only make each other begin anew. */
const alone = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`SELECT pg_advisory_xact_lock(${lockKey})`
})

/** Brings `wanted` into the database, whose tables are there unless it is a dry run. */
export const apply: (
  wanted: ReadonlyArray<Wanted>,
  options: Options
) => Effect.Effect<Applied, ConnectorError, SqlClient.SqlClient> = Effect.fn("Apply.apply")((wanted, options) =>
  serially(Effect.andThen(options.dryRun ? Effect.void : alone, inTransaction(wanted, options)))
)

/** The keys, where secrets are to be encrypted. */
export const keysFor = (
  encrypt: boolean,
  environment: Readonly<Record<string, string | undefined>>
): Result.Result<EncryptedSecret.Keys | undefined, EncryptedSecret.SecretProblem> =>
  encrypt ? EncryptedSecret.keysFrom(environment) : Result.succeed(undefined)
