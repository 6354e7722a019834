/**
 * Values of columns as JSON, and back: for files and tests that people write, not for the hot path.
 *
 * | type | as JSON |
 * | --- | --- |
 * | Boolean | `true`, `false` |
 * | Int16, Int32 | number |
 * | Int64 | number when that is exact, otherwise text of digits; both are read |
 * | Float32, Float64 | number; `"NaN"`, `"Infinity"`, `"-Infinity"` |
 * | Decimal | text, as the source wrote it; numbers are read, too |
 * | Binary | text: `\x` and two hexadecimal digits for each byte |
 * | Date | `"2024-01-31"`, `"infinity"`, `"-infinity"`; years beyond four digits with sign and six (ISO 8601) |
 * | Time | `"12:34:56.123456"` |
 * | Timestamp | `"2024-01-31T12:34:56.123456"`, with `Z` behind it when `utc`; offsets are read; `"infinity"`, `"-infinity"` |
 * | Json | the JSON itself; when read, text stands for itself if it is JSON, and for a JSON string if it is not |
 * | all others | text |
 */
import type * as Arrow from "apache-arrow"
import type * as Schema from "effect/Schema"
import * as ColumnBuilder from "./ColumnBuilder.ts"
import {
  dateInfinity,
  dateNegativeInfinity,
  type LogicalType,
  timestampInfinity,
  timestampNegativeInfinity
} from "./LogicalType.ts"

const encoder = new TextEncoder()
const decoder = new TextDecoder()

const dayMillis = 86_400_000
const dayMicros = 86_400_000_000

const datePattern = /^(\d{4}|[+-]\d{6})-(\d\d)-(\d\d)$/
const timePattern = /^(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?$/
const timestampPattern = /^([^T ]+)[T ]([\d:.]+)(Z|[+-]\d\d(?::?\d\d)?)?$/
const decimalPattern = /^(?:[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|NaN|-?Infinity)$/
const uuidPattern = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

/** Days since 1970-01-01; undefined when `text` is no date. */
const days = (text: string): number | undefined => {
  const [, year, month, day] = datePattern.exec(text) ?? []
  if (year === undefined) return undefined
  const date = new Date(0)
  date.setUTCFullYear(Number(year), Number(month) - 1, Number(day))
  const exact = date.getUTCMonth() === Number(month) - 1 && date.getUTCDate() === Number(day)
  return exact ? date.getTime() / dayMillis : undefined
}

/** Microseconds since midnight; undefined when `text` is no time of day. */
const micros = (text: string): number | undefined => {
  const [, hour, minute, second = "0", fraction = ""] = timePattern.exec(text) ?? []
  if (hour === undefined || Number(minute) > 59 || Number(second) > 59) return undefined
  const sum = ((Number(hour) * 60 + Number(minute)) * 60 + Number(second)) * 1e6 + Number(fraction.padEnd(6, "0"))
  return sum <= dayMicros ? sum : undefined
}

const offsetMicros = (text: string): number => {
  if (text === "Z") return 0
  const [, sign, hours, minutes = "0"] = /^([+-])(\d\d):?(\d\d)?$/.exec(text) ?? []
  return (sign === "-" ? -1 : 1) * (Number(hours) * 60 + Number(minutes)) * 60e6
}

/** Microseconds since 1970-01-01; undefined when `text` is no timestamp of this kind. */
const timestamp = (text: string, utc: boolean): bigint | undefined => {
  if (text === "infinity") return timestampInfinity
  if (text === "-infinity") return timestampNegativeInfinity
  const [, date = "", time = "", zone] = timestampPattern.exec(text) ?? []
  const day = days(date)
  const within = micros(time)
  if (day === undefined || within === undefined || (zone !== undefined) !== utc) return undefined
  return BigInt(day) * BigInt(dayMicros) + BigInt(within - (zone === undefined ? 0 : offsetMicros(zone)))
}

const two = (value: number): string => String(value).padStart(2, "0")

const timeText = (value: number): string => {
  const fraction = value % 1e6
  const seconds = (value - fraction) / 1e6
  const clock = `${two(Math.floor(seconds / 3600))}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`
  return fraction === 0 ? clock : `${clock}.${String(fraction).padStart(6, "0").replace(/0+$/, "")}`
}

const dateText = (day: number): string => new Date(day * dayMillis).toISOString().replace(/T.*$/, "")

const timestampText = (value: bigint, utc: boolean): string => {
  if (value === timestampInfinity) return "infinity"
  if (value === timestampNegativeInfinity) return "-infinity"
  const within = Number(BigInt.asUintN(64, ((value % BigInt(dayMicros)) + BigInt(dayMicros)) % BigInt(dayMicros)))
  const day = Number((value - BigInt(within)) / BigInt(dayMicros))
  return `${dateText(day)}T${timeText(within)}${utc ? "Z" : ""}`
}

const appendBigInt = (builder: ColumnBuilder.Int64Column, value: bigint): void =>
  builder.append(Number(BigInt.asIntN(32, value >> 32n)), Number(BigInt.asIntN(32, value)))

const number = (json: Schema.Json): number | undefined => {
  if (typeof json === "number") return json
  return json === "NaN" || json === "Infinity" || json === "-Infinity" ? Number(json) : undefined
}

/** A whole number within `bits` bits; undefined when `json` is none. */
const integer = (json: Schema.Json, bits: number): bigint | undefined => {
  const exact = typeof json === "number"
    ? Number.isSafeInteger(json)
    : typeof json === "string" && /^-?\d{1,20}$/.test(json)
  if (!exact) return undefined
  const value = BigInt(json as number | string) // one of the two, just looked at
  return BigInt.asIntN(bits, value) === value ? value : undefined
}

/** The text that carries `json` in a column of `type`; undefined when it doesn't fit. */
const carried = (type: LogicalType, json: Schema.Json): string | undefined => {
  switch (type._tag) {
    case "Json": {
      if (typeof json !== "string") return JSON.stringify(json)
      try {
        JSON.parse(json)
        return json
      } catch {
        return JSON.stringify(json)
      }
    }
    case "Decimal": {
      const text = typeof json === "number" ? String(json) : json
      return typeof text === "string" && decimalPattern.test(text) ? text : undefined
    }
    case "Uuid":
      return typeof json === "string" && uuidPattern.test(json) ? json : undefined
    default:
      return typeof json === "string" ? json : undefined
  }
}

/** Appends what `json` (not null) means in a column of `type`; returns whether it is a value of the type, and appends nothing otherwise. */
export const append = (builder: ColumnBuilder.ColumnBuilder, type: LogicalType, json: Schema.Json): boolean => {
  if (builder instanceof ColumnBuilder.BoolColumn) {
    if (typeof json !== "boolean") return false
    builder.append(json)
    return true
  }
  if (builder instanceof ColumnBuilder.Int64Column) {
    const text = typeof json === "string" ? json : ""
    const time = type._tag === "Time" ? micros(text) : undefined
    const value = type._tag === "Timestamp"
      ? timestamp(text, type.utc)
      : type._tag === "Time"
      ? time === undefined ? undefined : BigInt(time)
      : integer(json, 64)
    if (value === undefined) return false
    appendBigInt(builder, value)
    return true
  }
  if (builder instanceof ColumnBuilder.BytesColumn) {
    if (type._tag === "Binary") {
      if (typeof json !== "string" || !/^\\x(?:[0-9a-fA-F]{2})*$/.test(json)) return false
      const bytes = Buffer.from(json.slice(2), "hex")
      builder.append(bytes, 0, bytes.length)
      return true
    }
    const text = carried(type, json)
    if (text === undefined) return false
    const bytes = encoder.encode(text)
    builder.append(bytes, 0, bytes.length)
    return true
  }
  const value = type._tag === "Date"
    ? json === "infinity" ? dateInfinity : json === "-infinity" ? dateNegativeInfinity : days(String(json))
    : type._tag === "Int16" || type._tag === "Int32"
    ? integer(json, type._tag === "Int16" ? 16 : 32)
    : number(json)
  if (value === undefined) return false
  builder.append(Number(value))
  return true
}

const isValid = ({ nullBitmap, nullCount }: Arrow.Data, row: number): boolean =>
  nullCount === 0 || (((nullBitmap[row >> 3] ?? 0) >> (row & 7)) & 1) === 1

const bytesAt = ({ valueOffsets, values }: Arrow.Data, row: number): Uint8Array => {
  const offsets = valueOffsets as Int32Array // of a Utf8 or Binary column
  return (values as Uint8Array).subarray(offsets[row], offsets[row + 1]) // the same
}

const floatJson = (value: number): Schema.Json => Number.isFinite(value) ? value : String(value)

const int64Json = (value: bigint): Schema.Json => {
  const number = Number(value)
  return Number.isSafeInteger(number) ? number : value.toString()
}

const jsonOf = (text: string): Schema.Json => {
  try {
    return JSON.parse(text) as Schema.Json // what JSON.parse gives
  } catch {
    return text
  }
}

/** The value of row `row` in a column of `type` with the layout that `LogicalType` says; null when it is null or was not sent. */
export const read = (type: LogicalType, data: Arrow.Data, row: number): Schema.Json => {
  if (!isValid(data, row)) return null
  switch (type._tag) {
    case "Boolean": {
      const bits = data.values as Uint8Array // the carrier of this type, here and below
      return (((bits[row >> 3] ?? 0) >> (row & 7)) & 1) === 1
    }
    case "Int16":
    case "Int32":
      return Number(data.values[row])
    case "Int64":
      return int64Json((data.values as BigInt64Array)[row] ?? 0n)
    case "Float32":
    case "Float64":
      return floatJson(Number(data.values[row]))
    case "Binary":
      return `\\x${Buffer.from(bytesAt(data, row)).toString("hex")}`
    case "Date": {
      const day = Number(data.values[row])
      return day === dateInfinity ? "infinity" : day === dateNegativeInfinity ? "-infinity" : dateText(day)
    }
    case "Time":
      return timeText(Number(data.values[row]))
    case "Timestamp":
      return timestampText((data.values as BigInt64Array)[row] ?? 0n, type.utc)
    case "Json":
      return jsonOf(decoder.decode(bytesAt(data, row)))
    case "Decimal":
    case "Text":
    case "Uuid":
    case "Array":
    case "Interval":
    case "Other":
      return decoder.decode(bytesAt(data, row))
  }
}
