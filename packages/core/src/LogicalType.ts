/**
 * What a column's values mean, and the Arrow type that carries them.
 *
 * A source maps its own types to these; a sink maps these to its own. Where Arrow has no lossless form that every value
 * fits (numeric with NaN and any precision, intervals, arrays with lower bounds, extension types) the carrier is the
 * source's text, so nothing is rounded, clamped or dropped on the way.
 */
import * as Arrow from "apache-arrow/type"

/**
 * | type | Arrow carrier | values |
 * | --- | --- | --- |
 * | Boolean | Bool | |
 * | Int16, Int32, Int64, Float32, Float64 | the same | |
 * | Decimal | Utf8 | decimal text, `NaN`, `Infinity`, `-Infinity`; precision undefined = unbounded |
 * | Text | Utf8 | length in characters when limited |
 * | Binary | Binary | |
 * | Uuid | Utf8 | 36 characters, lower case |
 * | Date | Int32-backed DateDay | days since 1970-01-01, proleptic Gregorian; `dateInfinity`, `dateNegativeInfinity` are sentinels |
 * | Time | TimeMicrosecond | microseconds since midnight, 86,400,000,000 = 24:00 |
 * | Timestamp | TimestampMicrosecond, with "UTC" when `utc` | microseconds since 1970-01-01; the int64 extremes are ±infinity |
 * | Json | Utf8 | JSON text |
 * | Array | Utf8 | the source's array literal, elements of type `element` |
 * | Interval | Utf8 | the source's text |
 * | Other | Utf8 | the source's text of any other type |
 */
export type LogicalType =
  | { readonly _tag: "Boolean" }
  | { readonly _tag: "Int16" }
  | { readonly _tag: "Int32" }
  | { readonly _tag: "Int64" }
  | { readonly _tag: "Float32" }
  | { readonly _tag: "Float64" }
  | { readonly _tag: "Decimal"; readonly precision: number | undefined; readonly scale: number | undefined }
  | { readonly _tag: "Text"; readonly maxLength: number | undefined }
  | { readonly _tag: "Binary" }
  | { readonly _tag: "Uuid" }
  | { readonly _tag: "Date" }
  | { readonly _tag: "Time" }
  | { readonly _tag: "Timestamp"; readonly utc: boolean }
  | { readonly _tag: "Json" }
  | { readonly _tag: "Array"; readonly element: LogicalType }
  | { readonly _tag: "Interval" }
  | { readonly _tag: "Other" }

/** `Date` values that mean +infinity and -infinity, as in PostgreSQL: the extremes of int32. */
export const dateInfinity = 0x7fffffff
export const dateNegativeInfinity = -0x80000000

/** `Timestamp` values that mean +infinity and -infinity, as in PostgreSQL: the extremes of int64. */
export const timestampInfinity = 0x7fffffffffffffffn
export const timestampNegativeInfinity = -0x8000000000000000n

/** The Arrow type that carries values of `type`. */
export const arrowType = (type: LogicalType): Arrow.DataType => {
  switch (type._tag) {
    case "Boolean":
      return new Arrow.Bool()
    case "Int16":
      return new Arrow.Int16()
    case "Int32":
      return new Arrow.Int32()
    case "Int64":
      return new Arrow.Int64()
    case "Float32":
      return new Arrow.Float32()
    case "Float64":
      return new Arrow.Float64()
    case "Binary":
      return new Arrow.Binary()
    case "Date":
      return new Arrow.DateDay()
    case "Time":
      return new Arrow.TimeMicrosecond()
    case "Timestamp":
      return type.utc ? new Arrow.TimestampMicrosecond("UTC") : new Arrow.TimestampMicrosecond()
    case "Decimal":
    case "Text":
    case "Uuid":
    case "Json":
    case "Array":
    case "Interval":
    case "Other":
      return new Arrow.Utf8()
  }
}
