/**
 * From JSON to values of columns, without losing a digit.
 *
 * `JSON.parse` turns numbers into doubles, which hold 53 bits: 9007199254740993 would become another number. So numbers are kept as the text that they have in
 * the line (`JSON.rawJSON`), and `JSON.stringify` gives that text back inside of `json` columns.
 */
import type { Value } from "@etl-stream/core/Column"
import type { LogicalType } from "@etl-stream/core/LogicalType"

/** What the engine has and TypeScript's libraries don't know yet. */
interface RawJson {
  readonly rawJSON: (text: string) => object
  readonly isRawJSON: (value: unknown) => value is { readonly rawJSON: string }
}
const Raw = JSON as unknown as RawJson // Node 22 and later have both functions

const keepNumbers = (_key: string, value: unknown, context?: { readonly source?: string }): unknown =>
  typeof value === "number" && context?.source !== undefined ? Raw.rawJSON(context.source) : value

/** JSON text as a value in which numbers are raw JSON. Throws a `SyntaxError` whose message may quote the text: it must not be passed on. */
export const parse = (text: string): unknown => JSON.parse(text, keepNumbers)

/** Where a `SyntaxError` of `parse` found something wrong, from 1; undefined when it doesn't say. */
export const columnOf = (cause: unknown): number | undefined => {
  const match = cause instanceof SyntaxError ? /at position (\d+)/.exec(cause.message) : null
  return match === null ? undefined : Number(match[1]) + 1
}

/** Whether a value of `parse` is a number. */
export const isNumber = (value: unknown): boolean => Raw.isRawJSON(value)

const numberText = (value: unknown): string | undefined => Raw.isRawJSON(value) ? value.rawJSON : undefined

const integer = (value: unknown): bigint | undefined => {
  const text = numberText(value)
  return text !== undefined && /^-?\d{1,20}$/.test(text) ? BigInt(text) : undefined
}

const between = (value: bigint | undefined, bits: number): bigint | undefined =>
  value !== undefined && BigInt.asIntN(bits, value) === value ? value : undefined

const smallInteger = (value: unknown, bits: number): number | undefined => {
  const inRange = between(integer(value), bits)
  return inRange === undefined ? undefined : Number(inRange)
}

const float = (value: unknown): number | undefined => {
  if (value === "NaN" || value === "Infinity" || value === "-Infinity") return Number(value)
  const text = numberText(value)
  const number = text === undefined ? Number.NaN : Number(text)
  return Number.isFinite(number) ? number : undefined
}

const decimal = (value: unknown, precision: number | undefined, scale: number): string | undefined => {
  const text = typeof value === "string" ? value : numberText(value)
  if (text === undefined) return undefined
  if (precision === undefined && /^(NaN|-?Infinity)$/.test(text)) return text
  const match = /^-?(\d+)(?:\.(\d+))?$/.exec(text)
  if (match === null) return undefined
  if (precision === undefined) return text
  const whole = (match[1] ?? "").replace(/^0+/, "").length
  const fraction = (match[2] ?? "").replace(/0+$/, "").length
  return whole <= precision - scale && fraction <= scale ? text : undefined
}

const micros = (fraction: string | undefined): bigint => BigInt((fraction ?? "").padEnd(6, "0"))

const date = (value: unknown): number | undefined => {
  const match = typeof value === "string" ? /^(\d{4})-(\d\d)-(\d\d)$/.exec(value) : null
  if (match === null) return undefined
  const millis = Date.parse(`${match[0]}T00:00:00Z`)
  // Date.parse takes the 31st of February for one of March.
  return Number.isNaN(millis) || new Date(millis).toISOString().slice(0, 10) !== match[0]
    ? undefined
    : millis / 86_400_000
}

const clock = (value: string): bigint | undefined => {
  const match = /^(\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?$/.exec(value)
  if (match === null) return undefined
  const [hours, minutes, seconds] = [Number(match[1]), Number(match[2]), Number(match[3])]
  if (hours > 23 || minutes > 59 || seconds > 59) return undefined
  return BigInt(hours * 3600 + minutes * 60 + seconds) * 1_000_000n + micros(match[4])
}

const timestamp = (value: unknown, utc: boolean): bigint | undefined => {
  const match = typeof value === "string"
    ? /^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d(?:\.\d{1,6})?)(Z|[+-]\d\d:\d\d)?$/.exec(value)
    : null
  if (match === null || (match[3] !== undefined) !== utc) return undefined
  const [day, time] = [date(match[1]), clock(match[2] ?? "")]
  if (day === undefined || time === undefined) return undefined
  const zone = match[3] ?? "Z"
  const minutes = zone === "Z"
    ? 0
    : (zone.startsWith("-") ? -1 : 1) * (Number(zone.slice(1, 3)) * 60 + Number(zone.slice(4)))
  return BigInt(day) * 86_400_000_000n + time - BigInt(minutes) * 60_000_000n
}

const binary = (value: unknown): Uint8Array | undefined =>
  typeof value === "string" && value.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(value)
    ? Buffer.from(value, "base64")
    : undefined

const text = (value: unknown, maxLength: number | undefined): string | undefined =>
  typeof value === "string" && (maxLength === undefined || value.length <= maxLength || [...value].length <= maxLength)
    ? value
    : undefined

/** The value of a column, of the type that `Column` says it has; undefined when the JSON value is none of the column's type. */
export const convert = (value: unknown, type: LogicalType): Value | undefined => {
  switch (type._tag) {
    case "Boolean":
      return typeof value === "boolean" ? value : undefined
    case "Int16":
      return smallInteger(value, 16)
    case "Int32":
      return smallInteger(value, 32)
    case "Int64":
      return between(integer(value), 64)
    case "Float32":
    case "Float64":
      return float(value)
    case "Decimal":
      return decimal(value, type.precision, type.scale ?? 0)
    case "Text":
      return text(value, type.maxLength)
    case "Binary":
      return binary(value)
    case "Uuid":
      return typeof value === "string" && /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(value) ? value : undefined
    case "Date":
      return date(value)
    case "Time":
      return typeof value === "string" ? clock(value) : undefined
    case "Timestamp":
      return timestamp(value, type.utc)
    case "Json":
      return JSON.stringify(value)
    case "Array":
    case "Interval":
    case "Other":
      return undefined
  }
}

/** How values of a type are written in JSON, for messages. */
export const expected = (type: LogicalType): string => {
  switch (type._tag) {
    case "Boolean":
      return "true or false"
    case "Int16":
    case "Int32":
    case "Int64":
      return `a whole number of ${type._tag.slice(3)} bits`
    case "Float32":
    case "Float64":
      return "a number, \"NaN\", \"Infinity\" or \"-Infinity\""
    case "Decimal":
      return type.precision === undefined
        ? "a decimal number without exponent"
        : `a decimal number with at most ${type.precision - (type.scale ?? 0)} digits before the point and ${
          type.scale ?? 0
        } behind it`
    case "Text":
      return type.maxLength === undefined ? "a text" : `a text of at most ${type.maxLength} characters`
    case "Binary":
      return "bytes in Base64"
    case "Uuid":
      return "a UUID"
    case "Date":
      return "a date such as 2026-01-31"
    case "Time":
      return "a time such as 23:59:59.999999"
    case "Timestamp":
      return type.utc
        ? "a time with its zone such as 2026-01-31T12:00:00Z"
        : "a time without zone such as 2026-01-31T12:00:00"
    default:
      return "JSON"
  }
}
