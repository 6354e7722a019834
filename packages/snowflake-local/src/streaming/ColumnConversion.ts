/**
 * How text becomes a column's value: one DuckDB expression per Snowflake type.
 *
 * The expression is NULL for text that Snowflake would refuse, so "given but NULL" is a row error; it never fails a statement. DuckDB's own casts
 * take more than Snowflake's (`0x10`, `1_000`, `24:00`, `infinity`), so a pattern guards each of them.
 */
import type { Column } from "../Catalog.ts"
import type { SnowflakeType } from "../sql/SnowflakeType.ts"
import * as Types from "../sql/SnowflakeType.ts"
import type { Holds } from "./NdjsonRows.ts"

/** Which JSON values a column takes at all. */
export const holds = (type: SnowflakeType): Holds => {
  switch (type.kind) {
    case "VARIANT":
      return "semiStructured"
    case "OBJECT":
      return "object"
    case "ARRAY":
      return "array"
    case "TEXT":
      return "varchar"
    default:
      return "text"
  }
}

/** Why text was refused, for `last_error_message`; names the column and its type, not the value. */
export const refusal = (column: Column): string => {
  const what = column.type.kind === "TEXT" || column.type.kind === "BINARY"
    ? "Value is too long or not valid"
    : "Value is not recognized or out of range"
  return `${what} for ${Types.print(column.type)}, column ${column.name}`
}

/** Why a NULL was refused. */
export const nullRefusal = (column: Column): string => `NULL result in a non-nullable column ${column.name}`

const number = String.raw`[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?`
const date = String.raw`\d{4}-\d{2}-\d{2}`
const time = String.raw`([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,9})?)?`
const offset = String.raw`(Z|[+-]\d{2}(:?\d{2})?)`
const base64 = String.raw`(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?`

const matches = (text: string, pattern: string): string => `regexp_full_match(${text}, '${pattern}')`

/** The expression that converts `text` (a VARCHAR expression without side effects). */
export const expression = (type: SnowflakeType, text: string): string => {
  switch (type.kind) {
    case "FIXED":
      return `CASE WHEN ${matches(text, number)} THEN ${decimal(type.precision, type.scale, text)} END`
    case "REAL":
      // A number too large for a double becomes infinite in DuckDB; only the spelled-out infinities may be.
      return `CASE WHEN lower(${text}) IN ('nan', 'inf', '-inf') THEN TRY_CAST(${text} AS DOUBLE) ` +
        `WHEN ${matches(text, number)} AND isfinite(TRY_CAST(${text} AS DOUBLE)) THEN TRY_CAST(${text} AS DOUBLE) END`
    case "BOOLEAN":
      return `CASE WHEN lower(${text}) IN ('true', 't', 'yes', 'y', 'on', '1') THEN true ` +
        `WHEN lower(${text}) IN ('false', 'f', 'no', 'n', 'off', '0') THEN false END`
    case "TEXT":
      // Counting bytes is cheap, and no text has more characters than bytes.
      return `CASE WHEN strlen(${text}) <= ${type.length} ` +
        `OR (strlen(${text}) <= ${Types.maxTextLength} AND length(${text}) <= ${type.length}) THEN ${text} END`
    case "BINARY":
      return `CASE WHEN ${
        matches(text, base64)
      } AND octet_length(from_base64(${text})) <= ${type.length} THEN from_base64(${text}) END`
    case "DATE":
      return `CASE WHEN ${matches(text, date)} AND ${text} >= '0001' THEN TRY_CAST(${text} AS DATE) END`
    case "TIME":
      return `CASE WHEN ${matches(text, time)} THEN TRY_CAST(${fraction(type.scale, text)} AS TIME) END`
    case "TIMESTAMP_NTZ":
      // The wall clock as written: an offset is dropped, not applied.
      return `CASE WHEN ${matches(text, `${date}([T ]${time}( ?${offset})?)?`)} AND ${text} >= '0001' ` +
        `THEN TRY_CAST(${
          fraction(type.scale, `regexp_replace(${text}, '(:[0-9.]+) ?${offset}$', '\\1')`)
        } AS TIMESTAMP) END`
    case "TIMESTAMP_LTZ":
    case "TIMESTAMP_TZ":
      // Storage's connections count in UTC, which is what a text without an offset means here.
      return `CASE WHEN ${matches(text, `${date}([T ]${time}( ?${offset})?)?`)} AND ${text} >= '0001' ` +
        `THEN TRY_CAST(${fraction(type.scale, `regexp_replace(${text}, ' ([Z+-])', '\\1')`)} AS TIMESTAMPTZ) END`
    case "VARIANT":
    case "OBJECT":
    case "ARRAY":
      return `CASE WHEN strlen(${text}) <= ${Types.maxVariantLength} THEN TRY_CAST(${text} AS JSON) END`
  }
}

/**
 * DuckDB's cast from text to a decimal of more than 18 digits takes microseconds per value, so the values that fit take the way over a small type,
 * which rounds alike.
 */
const decimal = (precision: number, scale: number, text: string): string => {
  const type = `DECIMAL(${precision},${scale})`
  if (precision <= 18) return `TRY_CAST(${text} AS ${type})`
  if (scale === 0) {
    return `COALESCE(TRY_CAST(TRY_CAST(${text} AS BIGINT) AS ${type}), TRY_CAST(TRY_CAST(${text} AS HUGEINT) AS ${type}))`
  }
  const exact = `TRY_CAST(${text} AS ${type})`
  return scale > 17 ? exact : `COALESCE(TRY_CAST(TRY_CAST(${text} AS DECIMAL(18,${scale})) AS ${type}), ${exact})`
}

/** Cuts a fraction of a second to the type's scale; DuckDB itself keeps six digits. */
const fraction = (scale: number, text: string): string => {
  if (scale >= 6) return text
  return scale === 0
    ? `regexp_replace(${text}, '\\.[0-9]+', '')`
    : `regexp_replace(${text}, '(\\.[0-9]{${scale}})[0-9]+', '\\1')`
}
