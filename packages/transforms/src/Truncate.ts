/**
 * The transform `truncate`: text cut to a number of characters, days and timestamps to a unit.
 *
 * Characters are Unicode code points: none is ever cut in two. Different values become the same, so columns of a key are refused unless that is allowed.
 */
import { BytesColumn } from "@etl-stream/core/ColumnBuilder"
import * as ConfigOption from "@etl-stream/core/ConfigOption"
import {
  dateInfinity,
  dateNegativeInfinity,
  timestampInfinity,
  timestampNegativeInfinity
} from "@etl-stream/core/LogicalType"
import * as Plugin from "@etl-stream/core/Plugin"
import type { ColumnSchema, TableSchema } from "@etl-stream/core/TableSchema"
import type * as Arrow from "apache-arrow"
import { makeData } from "apache-arrow/data"
import { DateDay, Utf8 } from "apache-arrow/type"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Calendar from "./Calendar.ts"
import * as Cells from "./Cells.ts"
import * as ColumnChange from "./ColumnChange.ts"
import * as ColumnPattern from "./ColumnPattern.ts"
import { failure } from "./Failure.ts"
import * as TablePlan from "./TablePlan.ts"
import { nameOf } from "./TypeName.ts"

export const pluginName = "@etl-stream/transforms:truncate"

const Unit = Schema.Literals(["millisecond", "second", "minute", "hour", "day", "month", "year"])
type Unit = typeof Unit.Type

export const Config = Schema.Struct({
  columns: ColumnPattern.ColumnPatterns.annotateKey({
    description: "Columns whose values are cut, by name or by a pattern with `*`"
  }),
  length: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 100_000_000 }))).annotateKey({
    description: "For text: the number of characters that stay"
  }),
  unit: Schema.optionalKey(Unit).annotateKey({
    description:
      "For timestamps and dates: the unit that they are cut to, downwards, in UTC (timestamps without time zone as they are). Dates only to month and year"
  }),
  keys: Schema.Literals(["refuse", "allow"]).pipe(ConfigOption.withDefault("refuse"))
    .annotateKey({
      description:
        "Whether columns of a table's key may be cut. `allow`: rows whose cut keys are the same become one at a mirror"
    })
}).check(
  Schema.makeFilter(
    ({ length, unit }: { readonly length?: number; readonly unit?: Unit }) =>
      (length === undefined) !== (unit === undefined),
    { expected: "exactly one of length and unit" }
  )
)
export type Config = typeof Config.Type

/** Where the first `length` characters of `bytes[start, end)` end, in UTF-8. */
export const endOf = (bytes: Uint8Array, start: number, end: number, length: number): number => {
  // No character is shorter than a byte.
  if (end - start <= length) return end
  let left = length
  for (let at = start; at < end; at++) {
    // Bytes that continue a character are 10xxxxxx.
    if (((bytes[at] ?? 0) & 0xc0) !== 0x80 && left-- === 0) return at
  }
  return end
}

const cut = (column: ColumnSchema, length: number): ColumnChange.ColumnChange => ({
  column: {
    ...column,
    type: {
      _tag: "Text",
      maxLength: column.type._tag === "Text" ? Math.min(length, column.type.maxLength ?? length) : length
    }
  },
  convert: (data, rows) => {
    const { valueOffsets } = data
    const values = data.values as Uint8Array // a Utf8 column
    const builder = new BytesColumn(new Utf8())
    for (let row = 0; row < rows; row++) {
      const start = valueOffsets[row] ?? 0
      if (Cells.isNull(data, row)) builder.appendNull()
      else builder.append(values, start, endOf(values, start, valueOffsets[row + 1] ?? start, length))
    }
    return builder.finish()
  }
})

/** The first day of a day's month or year. */
const firstOf = (day: number, unit: Unit): number => {
  const [year, month] = Calendar.civil(day)
  return unit === "month" ? Calendar.dayOf(year, month, 1) : unit === "year" ? Calendar.dayOf(year, 1, 1) : day
}

const micros: Readonly<Record<Exclude<Unit, "month" | "year">, number>> = {
  millisecond: 1000,
  second: 1_000_000,
  minute: 60_000_000,
  hour: 3_600_000_000,
  day: 86_400_000_000
}

/** Microseconds since 1970-01-01, cut downwards. */
export const instantOf = (value: bigint, unit: Unit): bigint => {
  if (value === timestampInfinity || value === timestampNegativeInfinity) return value
  const [day, within] = Calendar.split(value)
  if (unit === "month" || unit === "year") return Calendar.microsOfDay(firstOf(day, unit))
  return Calendar.microsOfDay(day) + BigInt(within - within % micros[unit])
}

const floored = (column: ColumnSchema, unit: Unit): ColumnChange.ColumnChange => ({
  column,
  convert: (data, rows) => {
    const validity = data.nullCount > 0 ? { nullCount: data.nullCount, nullBitmap: data.nullBitmap } : { nullCount: 0 }
    if (column.type._tag === "Date") {
      const days = (data.values as Int32Array).slice(0, rows) // a DateDay column is built over an Int32Array
      for (let row = 0; row < rows; row++) {
        const day = days[row] ?? 0
        if (day !== dateInfinity && day !== dateNegativeInfinity) days[row] = firstOf(day, unit)
      }
      return makeData({ type: new DateDay(), length: rows, data: days, ...validity })
    }
    const instants = (data.values as BigInt64Array).slice(0, rows) // a timestamp column is built over a BigInt64Array
    for (let row = 0; row < rows; row++) instants[row] = instantOf(instants[row] ?? 0n, unit)
    const type = data.type as Arrow.TimestampMicrosecond // the type of a timestamp column
    return makeData({ type, length: rows, data: instants, ...validity })
  }
})

const changeOf = (table: TableSchema, column: ColumnSchema, { length, unit }: Config): ColumnChange.ColumnChange => {
  const { type } = column
  if (length !== undefined && type._tag === "Text") return cut(column, length)
  if (unit !== undefined && type._tag === "Timestamp") return floored(column, unit)
  if (unit !== undefined && type._tag === "Date" && (unit === "month" || unit === "year")) return floored(column, unit)
  throw failure(
    pluginName,
    table.table,
    `The column ${column.name} is of the type ${nameOf(type)}, which can't be cut to ${
      length === undefined ? `the unit ${unit}` : "a number of characters"
    }`,
    length === undefined
      ? "Units are for timestamps, month and year for dates, too."
      : "Only text can be cut: leave the column out, or use the transform cast before."
  )
}

export const make = (config: Config) => {
  const patterns = config.columns.map(ColumnPattern.parse)
  return TablePlan.transform((table) => {
    const changes = new Map<number, ColumnChange.ColumnChange>()
    for (const index of ColumnPattern.indexesOf(pluginName, table, patterns)) {
      const column = table.columns[index]
      if (column === undefined) continue
      if (config.keys === "refuse") {
        const remedy = "Leave it out, or set the option keys to allow if rows may become one."
        ColumnChange.refuseKey(pluginName, table, index, "cut", remedy)
      }
      changes.set(index, changeOf(table, column, config))
    }
    return ColumnChange.plan(table, changes)
  })
}

export const truncate = Plugin.transform({
  name: pluginName,
  version: "0.1.0",
  summary: "Cuts text to a number of characters, and timestamps to a unit",
  stability: "beta",
  description:
    "Characters are Unicode code points; none is cut in two. What stays of a character made of several code points (an emoji with a skin tone, say) may look different.",
  examples: [
    { title: "The first 200 characters", options: { columns: ["description"], length: 200 } },
    { title: "Births to the year", options: { columns: ["born_on"], unit: "year" } }
  ],
  config: Config,
  make: (config) => Effect.sync(() => make(config))
})
