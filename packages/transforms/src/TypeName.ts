/**
 * Logical types as options name them: `int64`, `text(20)`, `decimal(12,2)`, `timestamptz`.
 */
import type { LogicalType } from "@etl-stream/core/LogicalType"
import * as LogicalTypeText from "@etl-stream/core/LogicalTypeText"
import * as Schema from "effect/Schema"

const names =
  "boolean, int16, int32, int64, float32, float64, decimal, decimal(p,s), text, text(n), binary, uuid, date, " +
  "time, timestamp, timestamptz or json"

/** The type that `text` names, if values can be made for it; undefined otherwise. */
const parse = (text: string): LogicalType | undefined => {
  const type = LogicalTypeText.parse(text)
  return type === undefined || type._tag === "Array" || type._tag === "Interval" || type._tag === "Other"
    ? undefined
    : type
}

/** A type's name, in options. */
export const TypeName = Schema.String.check(
  Schema.makeFilter((text: string) => parse(text) !== undefined, { expected: `a type: ${names}` })
)

/** The type that a checked option names. */
export const typeOf = (name: string): LogicalType => parse(name) ?? { _tag: "Text", maxLength: undefined }

/** How a type is called in messages and in `sourceType` of new columns. */
export const nameOf = LogicalTypeText.format
