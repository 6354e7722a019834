/**
 * Commits a segment: its rows and its channel's record, in one DuckDB transaction.
 *
 * DuckDB reads the spool file as text columns, converts them all at once into a temporary table that also says which rows it refuses and why, and
 * inserts the good ones (ON_ERROR = CONTINUE). The record that is written with them holds the new offset token and counts, so neither can be on disk
 * without the other.
 */
import type { DuckDBConnection } from "@duckdb/node-api"
import * as Effect from "effect/Effect"
import type { Column, Table } from "../Catalog.ts"
import * as Identifier from "../sql/Identifier.ts"
import * as Storage from "../Storage.ts"
import type { ChannelRecord } from "./Channel.ts"
import * as ChannelStore from "./ChannelStore.ts"
import * as ColumnConversion from "./ColumnConversion.ts"
import type { Segment } from "./Segment.ts"
import { maxErrorRows } from "./Segment.ts"

const maxErrorDataCharacters = 65_536

/**
 * Writes `segment`'s rows to `table` and returns the channel's record as it then is, written as well. Runs inside the caller's transaction and may run
 * again after a conflict.
 */
export const commit = Effect.fnUntraced(function*(
  connection: DuckDBConnection,
  segment: Segment,
  table: Table,
  record: ChannelRecord,
  now: number
) {
  const spooled = segment.rows - segment.rejected
  const refused = spooled === 0 ? noneRefused : yield* load(connection, segment, table)
  const errors = [...segment.errors, ...refused.errors].sort((left, right) => left.row - right.row)
  const last = refused.count + segment.rejected === 0 ? undefined : errors[errors.length - 1]
  const inserted = spooled - refused.count
  const latency = now - segment.openedAt
  const next: ChannelRecord = {
    ...record,
    rowSequencer: segment.rowSequencer,
    offsetToken: segment.offsetToken ?? record.offsetToken,
    rowsParsed: record.rowsParsed + segment.rows,
    rowsInserted: record.rowsInserted + inserted,
    rowsErrorCount: record.rowsErrorCount + refused.count + segment.rejected,
    averageLatencyMs: record.averageLatencyMs === 0 ? latency : Math.round((record.averageLatencyMs * 7 + latency) / 8),
    ...(last === undefined ? {} : {
      lastErrorOffsetUpperBound: segment.offsetTokenOf(last.row),
      lastErrorMessage: last.message,
      lastErrorTimestamp: now
    })
  }
  yield* ChannelStore.putErrors(
    connection,
    errors.map((error) => ({
      channelId: record.id,
      table: table.id,
      at: now,
      message: error.message,
      offsetUpperBound: segment.offsetTokenOf(error.row),
      data: error.data,
      logged: table.options["ERROR_LOGGING"]?.toUpperCase() === "TRUE",
      source: error.source ?? null
    }))
  )
  yield* ChannelStore.put(connection, next)
  return next
})

interface Refused {
  readonly count: number
  readonly errors: Segment["errors"]
}
const noneRefused: Refused = { count: 0, errors: [] }

/** A column of the table together with its place in the spool; undefined when the segment was opened before the column was there. */
interface Loaded {
  readonly column: Column
  readonly place: number | undefined
}

const load = Effect.fnUntraced(function*(connection: DuckDBConnection, segment: Segment, table: Table) {
  const loaded = table.columns.map((column): Loaded => {
    const place = segment.columns.findIndex((known) => known.name === column.name)
    return { column, place: place < 0 ? undefined : place }
  })
  yield* Storage.run(connection, `CREATE OR REPLACE TEMP TABLE ${batch} AS ${converted(segment, loaded)}`)
  yield* Storage.run(
    connection,
    `INSERT INTO ${table.duckdb} (${table.columns.map(({ duckdbName }) => Identifier.quote(duckdbName)).join(", ")}) ` +
      `SELECT ${table.columns.map((_, index) => `v${index}`).join(", ")} FROM ${batch} WHERE e IS NULL`
  )
  const counted = yield* Storage.rows(connection, `SELECT count(e) FROM ${batch}`)
  const count = Number(counted[0]?.[0] ?? 0)
  const errors = count === 0 ? [] : yield* refusedRows(connection, segment, loaded)
  yield* Storage.run(connection, `DROP TABLE ${batch}`)
  return { count, errors }
})

const batch = `temp."_streaming_batch"`

const spool = (segment: Segment): string => {
  const fields = segment.columns.flatMap((column, place) => [
    `c${place}: 'VARCHAR'`,
    ...(column.default === undefined ? [] : [`n${place}: 'VARCHAR'`])
  ])
  // DuckDB sizes its buffers by the longest object it may meet; 16 MiB is its own default.
  const longest = Math.max(16 << 20, segment.longestAppend + 1024)
  return `read_json('${segment.file.replaceAll("'", "''")}', format = 'newline_delimited', ` +
    `maximum_object_size = ${longest}, columns = {r: 'BIGINT', ${fields.join(", ")}})`
}

/**
 * `r`, the converted columns `v<index>` and `e`: NULL for a good row, `index` when that column's text is refused, `-1 - index` when it may not be NULL.
 */
const converted = (segment: Segment, loaded: ReadonlyArray<Loaded>): string => {
  const values: Array<string> = []
  const checks: Array<string> = []
  loaded.forEach(({ column, place }, index) => {
    const byDefault = column.default === undefined ? `CAST(NULL AS ${column.duckdbType})` : `(${column.default.sql})`
    if (place === undefined) {
      values.push(`${byDefault} AS v${index}`)
    } else {
      const value = ColumnConversion.expression(column.type, `c${place}`)
      const known = segment.columns[place]?.default !== undefined
      values.push(
        column.default === undefined || !known
          ? `${value} AS v${index}`
          : `CASE WHEN c${place} IS NULL AND n${place} IS NULL THEN ${byDefault} ELSE ${value} END AS v${index}`
      )
      checks.push(`WHEN c${place} IS NOT NULL AND v${index} IS NULL THEN ${index}`)
    }
    if (!column.nullable) checks.push(`WHEN v${index} IS NULL THEN ${-1 - index}`)
  })
  const given = loaded.flatMap(({ place }) => place === undefined ? [] : [`c${place}`])
  const error = checks.length === 0 ? "CAST(NULL AS INTEGER)" : `CASE ${checks.join(" ")} END`
  return `SELECT r, ${loaded.map((_, index) => `v${index}`).join(", ")}, ${error} AS e ` +
    `FROM (SELECT r, ${[...given, ...values].join(", ")} FROM ${spool(segment)})`
}

const refusedRows = Effect.fnUntraced(function*(
  connection: DuckDBConnection,
  segment: Segment,
  loaded: ReadonlyArray<Loaded>
) {
  const object = segment.columns.map((column, place) => `'${column.name.replaceAll("'", "''")}', c${place}`).join(", ")
  // The last ones, because the newest error is the one that the channel's status shows.
  const rows = yield* Storage.rows(
    connection,
    `SELECT b.r, b.e, left(CAST(json_object(${object}) AS VARCHAR), ${maxErrorDataCharacters}) ` +
      `FROM (SELECT r, e FROM ${batch} WHERE e IS NOT NULL ORDER BY r DESC LIMIT ${maxErrorRows}) b ` +
      `JOIN ${spool(segment)} s ON s.r = b.r ORDER BY b.r`
  )
  return rows.map(([row, error, data]) => {
    const code = Number(error)
    const column = loaded[code >= 0 ? code : -1 - code]?.column
    const message = column === undefined
      ? "The row was refused"
      : code >= 0
      ? ColumnConversion.refusal(column)
      : ColumnConversion.nullRefusal(column)
    return { row: Number(row), message, data: String(data), source: column?.name }
  })
})
