/**
 * The rows of the configuration database: read in one snapshot, so that a transaction of an operator is seen as a whole or not at all.
 *
 * Rows are written by people and programs of all kinds. What a row holds is read within limits; what is beyond them, or no JSON of the right kind, is a
 * finding of that row alone.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { databaseError, fromSql } from "./DatabaseError.ts"
import { currentVersion, schema, type StageTable, stageTables, type Table, tables, tooNew, version } from "./Tables.ts"

/** A row's part of the configuration, apart from what the runner writes back. */
export interface Content {
  readonly table: Table
  readonly name: string
  /** As it stands in the configuration's document under the table's section (settings: at its top) and the row's name. */
  readonly value: unknown
}

export interface Row extends Content {
  /** Changes when the configuration in the row does, and only then. */
  readonly text: string
  /** The row's version in the database. */
  readonly xmin: string
  /** What was written back. */
  readonly problem: string | undefined
  /** Why the row can't be read. */
  readonly unreadable: { readonly message: string; readonly remedy: string } | undefined
}

export interface Snapshot {
  readonly rows: ReadonlyArray<Row>
}

/** `table/name`: tells rows apart, for people too. */
export const keyOf = ({ name, table }: { readonly table: Table; readonly name: string }): string => `${table}/${name}`

/** A JSON column may be this large, in bytes of its text. */
const largestJson = 1024 * 1024
/** Rows of a table. */
const mostRows = 10_000
/** Levels of a JSON value. */
const deepest = 100

/** A row as its query gives it: JSON as text, null where it is too large. */
interface Raw {
  readonly name: string
  readonly xmin: string
  readonly problem: string | null
  readonly columns: Readonly<Record<string, string | null>>
}

type Json = { readonly value: unknown } | { readonly message: string; readonly remedy: string }

const isTooDeep = (value: unknown): boolean => {
  let level: ReadonlyArray<unknown> = [value]
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > deepest) return true
    level = level.flatMap((item) => typeof item === "object" && item !== null ? Object.values(item) : [])
  }
  return false
}

const parse = (column: string, text: string | null | undefined): Json => {
  if (text === null || text === undefined) {
    return {
      message: `\`${column}\` is larger than ${largestJson / 1024 / 1024} MiB.`,
      remedy: "Put what is large into a file and write `${file:path}`."
    }
  }
  const value: unknown = JSON.parse(text)
  return isTooDeep(value)
    ? { message: `\`${column}\` has more than ${deepest} levels.`, remedy: "Nest less." }
    : { value }
}

const isMapping = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const statuses: Readonly<Record<string, string>> = { START: "running", PAUSE: "paused" }

/** Columns of a stage or pipeline that are text; the others are JSON. */
const textColumns: ReadonlySet<string> = new Set(["plugin", "source", "sink", "status"])

const columnsOf = (table: Table): ReadonlyArray<string> => {
  switch (table) {
    case "settings":
      return ["value"]
    case "pipelines":
      return ["status", "source", "sink", "transforms", "settings"]
    default:
      return ["plugin", "options", "settings"]
  }
}

const rowOf = (table: Table, raw: Raw): Row => {
  const { columns, name, problem, xmin } = raw
  const names = columnsOf(table)
  const text = JSON.stringify(names.map((column) => columns[column]))
  const row = (value: unknown, unreadable: Row["unreadable"]): Row => ({
    table,
    name,
    value,
    text,
    xmin,
    problem: problem ?? undefined,
    unreadable
  })
  const own: Array<readonly [string, unknown]> = []
  for (const column of names) {
    const text = columns[column]
    if (textColumns.has(column)) {
      own.push([column, column === "status" ? statuses[text ?? ""] ?? text : text])
      continue
    }
    const json = parse(column, text)
    if ("message" in json) return row(undefined, json)
    own.push([column, json.value])
  }
  const others = Object.fromEntries(own)
  if (table === "settings") return row(others["value"], undefined)
  const { settings, ...rest } = others
  if (!isMapping(settings)) {
    return row(undefined, {
      message: "`settings` is not a mapping.",
      remedy: "Write a JSON object: `{}` when there is nothing to say."
    })
  }
  const doubled = Object.keys(settings).find((key) => Object.hasOwn(rest, key))
  return doubled === undefined
    ? row(Object.fromEntries([...Object.entries(rest), ...Object.entries(settings)]), undefined)
    : row(undefined, {
      message: `\`settings\` says \`${doubled}\`, which has a column of its own.`,
      remedy: "Take it out of `settings`."
    })
}

/** The columns of the row that holds `value`; those that are JSON as its text. */
export const columnsFor = ({ table, value }: Content): Readonly<Record<string, string>> => {
  if (table === "settings") return { value: JSON.stringify(value) }
  const { options, plugin, sink, source, status, transforms, ...settings } = isMapping(value) ? value : {}
  const rest = JSON.stringify(settings)
  return table === "pipelines"
    ? {
      ...(status === undefined ? {} : { status: status === "paused" ? "PAUSE" : "START" }),
      source: String(source),
      sink: String(sink),
      transforms: JSON.stringify(transforms ?? []),
      settings: rest
    }
    : { plugin: String(plugin), options: JSON.stringify(options ?? {}), settings: rest }
}

const readTable = Effect.fnUntraced(
  function*(table: Table): Effect.fn.Return<ReadonlyArray<Row>, SqlError | ConnectorError, SqlClient.SqlClient> {
    const sql = yield* SqlClient.SqlClient
    const columns = columnsOf(table).map((column) =>
      textColumns.has(column)
        ? `left(${column}, 1000)`
        : `CASE WHEN octet_length(${column}::text) <= ${largestJson} THEN ${column}::text END`
    )
    // The columns come as an array, whatever they are called.
    const raws = yield* sql.unsafe<
      {
        readonly name: string
        readonly xmin: string
        readonly problem: string | null
        readonly columns: ReadonlyArray<string | null>
      }
    >(
      `SELECT name, xmin::text AS xmin, left(problem, 10000) AS problem, ARRAY[${columns.join(", ")}] AS columns
      FROM ${schema}.${table} ORDER BY name COLLATE "C" LIMIT ${mostRows + 1}`
    )
    if (raws.length > mostRows) {
      return yield* databaseError(
        "Unsupported",
        `The table ${schema}.${table} has more than ${mostRows} rows.`,
        "Delete what is not needed, or use a second configuration database and a second runner."
      )
    }
    return raws.map(({ columns, ...raw }) =>
      rowOf(table, {
        ...raw,
        columns: Object.fromEntries(columnsOf(table).map((column, index) => [column, columns[index] ?? null]))
      })
    )
  }
)

/** All rows, in the transaction that is open. */
export const readAll = Effect.forEach(tables, readTable).pipe(
  Effect.map((rows): Snapshot => ({ rows: rows.flat() }))
)

/** All rows as of one moment. Fails when the tables are of a later version. */
export const read: Effect.Effect<Snapshot, ConnectorError, SqlClient.SqlClient> = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  return yield* sql.withTransaction(Effect.gen(function*() {
    const found = yield* currentVersion
    if (found > version) return yield* tooNew(found)
    return yield* readAll
  }))
}).pipe(
  Effect.provideService(SqlClient.BeginTransaction, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"),
  Effect.catchTag("SqlError", (error) => Effect.fail(fromSql(error)))
)

/** Whether `table` holds plugins and their options. */
export const isStageTable = (table: string): table is StageTable => stageTables.some((known) => known === table)
