/**
 * Logical types as people write them in options and files: `int64`, `decimal(12,2)`, `text(80)`, `timestamptz`, `int32[]`.
 */
import type { LogicalType } from "./LogicalType.ts"

/** Names of the types that take no argument. */
const plain = {
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
  json: { _tag: "Json" },
  interval: { _tag: "Interval" },
  other: { _tag: "Other" }
} as const satisfies Readonly<Record<string, LogicalType>>

/** The names, for messages. */
export const names: ReadonlyArray<string> = Object.keys(plain)

const written = /^([a-z]+[0-9]*)(?:\(\s*(\d{1,9})\s*(?:,\s*(\d{1,9})\s*)?\))?$/

/** The type that `text` names, in lower case, and `undefined` when it names none. */
export const parse = (text: string): LogicalType | undefined => {
  if (text.endsWith("[]")) {
    const element = parse(text.slice(0, -2))
    return element === undefined ? undefined : { _tag: "Array", element }
  }
  const [, name = "", first, second] = written.exec(text) ?? []
  if (first === undefined) return Object.hasOwn(plain, name) ? plain[name as keyof typeof plain] : undefined // an own key of it
  if (name === "decimal") {
    const [precision, scale] = [Number(first), Number(second ?? 0)]
    return precision === 0 || scale > precision ? undefined : { _tag: "Decimal", precision, scale }
  }
  return name === "text" && second === undefined && Number(first) > 0
    ? { _tag: "Text", maxLength: Number(first) }
    : undefined
}

/** The text that `parse` understands as `type`. */
export const format = (type: LogicalType): string => {
  switch (type._tag) {
    case "Decimal":
      return type.precision === undefined ? "decimal" : `decimal(${type.precision},${type.scale ?? 0})`
    case "Text":
      return type.maxLength === undefined ? "text" : `text(${type.maxLength})`
    case "Timestamp":
      return type.utc ? "timestamptz" : "timestamp"
    case "Array":
      return `${format(type.element)}[]`
    default:
      return type._tag.toLowerCase()
  }
}
