/**
 * Values of columns as JSON, and back: for files and tests that people write, not for the hot path. Between them and columns are `RowValue`'s readers and writers.
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
import type * as Schema from "effect/Schema"
import type { Value } from "./Column.ts"
import {
  dateInfinity,
  dateNegativeInfinity,
  type LogicalType,
  timestampInfinity,
  timestampNegativeInfinity
} from "./LogicalType.ts"

const dayMillis = 86_400_000
const dayMicros = 86_400_000_000

const datePattern = /^(\d{4}|[+-]\d{6})-(\d\d)-(\d\d)$/
const timePattern = /^(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?$/
const timestampPattern = /^([^T ]+)[T ]([\d:.]+)(Z|[+-]\d\d(?::?\d\d)?)?$/
const binaryPattern = /^\\x(?:[0-9a-fA-F]{2})*$/

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

const jsonText = (json: Schema.Json): string => {
  if (typeof json !== "string") return JSON.stringify(json)
  try {
    JSON.parse(json)
    return json
  } catch {
    return JSON.stringify(json)
  }
}

/** What `json` (not null) means in a column of `type`, as `Column` has it; undefined when it is no value of the type. */
export const toValue = (type: LogicalType, json: Schema.Json): Value | undefined => {
  const text = typeof json === "string" ? json : undefined
  switch (type._tag) {
    case "Boolean":
      return typeof json === "boolean" ? json : undefined
    case "Int16":
    case "Int32": {
      const value = integer(json, type._tag === "Int16" ? 16 : 32)
      return value === undefined ? undefined : Number(value)
    }
    case "Int64":
      return integer(json, 64)
    case "Float32":
    case "Float64":
      return number(json)
    case "Decimal":
      return typeof json === "number" ? String(json) : text
    case "Binary":
      return text !== undefined && binaryPattern.test(text) ? Buffer.from(text.slice(2), "hex") : undefined
    case "Date":
      return text === "infinity" ? dateInfinity : text === "-infinity" ? dateNegativeInfinity : days(text ?? "")
    case "Time": {
      const value = micros(text ?? "")
      return value === undefined ? undefined : BigInt(value)
    }
    case "Timestamp":
      return timestamp(text ?? "", type.utc)
    case "Json":
      return jsonText(json)
    case "Text":
    case "Uuid":
    case "Array":
    case "Interval":
    case "Other":
      return text
  }
}

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

/** A value of a column of `type` as JSON. */
export const fromValue = (type: LogicalType, value: Value): Schema.Json => {
  switch (typeof value) {
    case "boolean":
      return value
    case "number":
      if (type._tag !== "Date") return Number.isFinite(value) ? value : String(value)
      return value === dateInfinity ? "infinity" : value === dateNegativeInfinity ? "-infinity" : dateText(value)
    case "bigint":
      return type._tag === "Time"
        ? timeText(Number(value))
        : type._tag === "Timestamp"
        ? timestampText(value, type.utc)
        : int64Json(value)
    case "string":
      return type._tag === "Json" ? jsonOf(value) : value
    case "object":
      return `\\x${Buffer.from(value).toString("hex")}`
  }
}
