/**
 * The driver's bind variables as DuckDB literals.
 */
import * as Schema from "effect/Schema"
import * as SnowflakeError from "./SnowflakeError.ts"
import * as Literal from "./sql/Literal.ts"

const Value = Schema.NullOr(Schema.String)

export const Bindings = Schema.Record(
  Schema.String,
  Schema.Struct({ type: Schema.String, value: Schema.Union([Value, Schema.Array(Value)]) })
)
export type Bindings = typeof Bindings.Type

const literal = (type: string, value: string | null): string => {
  if (value === null) return "NULL"
  switch (type) {
    case "FIXED":
    case "REAL":
      if (/^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/.test(value)) {
        return type === "REAL"
          ? `CAST(${Literal.string(value)} AS DOUBLE)`
          : value.startsWith("-")
          ? `(${value})`
          : value
      }
      if (type === "REAL" && /^(nan|-?inf(inity)?)$/i.test(value)) return `CAST(${Literal.string(value)} AS DOUBLE)`
      throw SnowflakeError.notRecognized("100038", "Numeric", value)
    case "TEXT":
      return Literal.string(value)
    case "BOOLEAN":
      return value.toLowerCase() === "true" || value === "1" ? "TRUE" : "FALSE"
    case "BINARY":
      return `unhex(${Literal.string(value)})`
    case "VARIANT":
    case "OBJECT":
    case "ARRAY":
      return `sf_parse_json(${Literal.string(value)})`
    // Milliseconds for a date, nanoseconds for a time of day or a timestamp.
    case "DATE":
      return `CAST(make_timestamp(${integer(value)} * 1000) AS DATE)`
    case "TIME":
      return `CAST(make_timestamp(${integer(value)} // 1000) AS TIME)`
    case "TIMESTAMP_NTZ":
      return `make_timestamp(${integer(value)} // 1000)`
    case "TIMESTAMP_LTZ":
    case "TIMESTAMP_TZ":
      return `make_timestamptz(${integer(value.split(" ")[0] ?? "")} // 1000)`
    default:
      throw SnowflakeError.unsupported(`binds of type ${type}`)
  }
}

const integer = (value: string): string => {
  if (/^-?\d+$/.test(value)) return `CAST(${value} AS BIGINT)`
  throw SnowflakeError.notRecognized("100035", "Timestamp", value)
}

/** One map of literals, or one per row when the driver binds arrays. Throws a SnowflakeError for a value that isn't of its type. */
export const literals = (bindings: Bindings | undefined): ReadonlyArray<ReadonlyMap<string, string>> => {
  const entries = Object.entries(bindings ?? {})
  const lengths = entries.map(([, { value }]) => typeof value === "object" && value !== null ? value.length : 1)
  const rows = Math.max(1, ...lengths)
  return Array.from({ length: rows }, (_, row) =>
    new Map(entries.map(([name, { type, value }]) => {
      const one = typeof value === "object" && value !== null ? value[row] ?? null : value
      return [name, literal(type, one)] as const
    })))
}
