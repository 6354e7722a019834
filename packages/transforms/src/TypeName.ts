/**
 * Logical types as options name them: `int64`, `text(20)`, `decimal(12,2)`, `timestamptz`.
 */
import type { LogicalType } from "@etl-stream/core/LogicalType"
import * as Schema from "effect/Schema"

const plain: Readonly<Record<string, LogicalType>> = {
  boolean: { _tag: "Boolean" },
  int16: { _tag: "Int16" },
  int32: { _tag: "Int32" },
  int64: { _tag: "Int64" },
  float32: { _tag: "Float32" },
  float64: { _tag: "Float64" },
  decimal: { _tag: "Decimal", precision: undefined, scale: undefined },
  text: { _tag: "Text", maxLength: undefined },
  binary: { _tag: "Binary" },
  uuid: { _tag: "Uuid" },
  date: { _tag: "Date" },
  time: { _tag: "Time" },
  timestamp: { _tag: "Timestamp", utc: false },
  timestamptz: { _tag: "Timestamp", utc: true },
  json: { _tag: "Json" }
}

const names = "boolean, int16, int32, int64, float32, float64, decimal, decimal(p,s), text, text(n), binary, uuid, date, " +
  "time, timestamp, timestamptz or json"

const written = /^(?:text\((\d{1,9})\)|decimal\((\d{1,3})(?:, ?(\d{1,3}))?\))$/

/** The type that `text` names; undefined when it names none. */
export const parse = (text: string): LogicalType | undefined => {
  if (Object.hasOwn(plain, text)) return plain[text]
  const [, length, precision, scale = "0"] = written.exec(text) ?? []
  if (length !== undefined) return Number(length) > 0 ? { _tag: "Text", maxLength: Number(length) } : undefined
  return precision === undefined || Number(precision) === 0 || Number(scale) > Number(precision)
    ? undefined
    : { _tag: "Decimal", precision: Number(precision), scale: Number(scale) }
}

/** A type's name, in options. */
export const TypeName = Schema.String.check(
  Schema.makeFilter((text: string) => parse(text) !== undefined, { expected: `a type: ${names}` })
)

/** The type that a checked option names. */
export const typeOf = (name: string): LogicalType => parse(name) ?? { _tag: "Text", maxLength: undefined }

/** How a type is called in messages and in `sourceType` of new columns. */
export const nameOf = (type: LogicalType): string => {
  switch (type._tag) {
    case "Decimal":
      return type.precision === undefined ? "decimal" : `decimal(${type.precision},${type.scale ?? 0})`
    case "Text":
      return type.maxLength === undefined ? "text" : `text(${type.maxLength})`
    case "Timestamp":
      return type.utc ? "timestamptz" : "timestamp"
    case "Array":
      return `array of ${nameOf(type.element)}`
    default:
      return type._tag.toLowerCase()
  }
}
