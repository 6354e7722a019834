/**
 * What expressions come to, as values of columns.
 */
import type { LogicalType } from "@etl-stream/core/LogicalType"
import { UnsignedInt } from "@marcbachmann/cel-js/evaluator"
import type { CellValue } from "../CellValue.ts"
import { DecimalNumber } from "../DecimalNumber.ts"
import { Instant } from "../Instant.ts"

const types: Readonly<Record<string, LogicalType>> = {
  bool: { _tag: "Boolean" },
  int: { _tag: "Int64" },
  uint: { _tag: "Decimal", precision: 20, scale: 0 },
  double: { _tag: "Float64" },
  string: { _tag: "Text", maxLength: undefined },
  bytes: { _tag: "Binary" },
  timestamp: { _tag: "Timestamp", utc: true },
  decimal: { _tag: "Decimal", precision: undefined, scale: undefined }
}

/** The column type for an expression's type; undefined when there is none. */
export const typeOf = (expressionType: string): LogicalType | undefined =>
  Object.hasOwn(types, expressionType) ? types[expressionType] : undefined

/** Whether values of an expression's type may be of any: what JSON holds, say. */
export const isOpen = (expressionType: string): boolean => /^(dyn|list|map)\b/.test(expressionType)

const scalar = (value: unknown): CellValue | undefined => {
  switch (typeof value) {
    case "boolean":
    case "bigint":
    case "number":
    case "string":
      return value
    default:
      return value instanceof Uint8Array || value instanceof Instant || value instanceof DecimalNumber
        ? value
        : value instanceof UnsignedInt
        ? value.value
        : undefined
  }
}

/**
 * Integers and numbers of our own as JSON's numbers, exactly; what JSON has no form for as text: times in ISO 8601, bytes in base 64, `Infinity`. It looks at the value that
 * the holder has, since buffers come changed.
 */
const jsonValue = function(this: unknown, key: string, converted: unknown): unknown {
  const value: unknown = Reflect.get(Object(this), key)
  return typeof value === "bigint" || (value instanceof DecimalNumber && value.special === undefined)
    ? rawJson(String(value))
    : value instanceof UnsignedInt
    ? rawJson(String(value.value))
    : value instanceof Map
    ? Object.fromEntries(value)
    : value instanceof Instant || value instanceof DecimalNumber ||
        (typeof value === "number" && !Number.isFinite(value))
    ? String(value)
    : value instanceof Uint8Array
    ? Buffer.from(value).toString("base64")
    : converted
}

/** Node has it; the compiler's library doesn't know it yet. */
const rawJson = (text: string): unknown => (JSON as typeof JSON & { rawJSON(text: string): unknown }).rawJSON(text)

/** From what an expression came to (not NULL) to a value for a column of `type`; undefined when it is none. */
export const converter = (type: LogicalType): (outcome: unknown) => CellValue | undefined =>
  type._tag === "Json"
    ? (outcome) => typeof outcome === "string" ? outcome : JSON.stringify(outcome, jsonValue)
    : scalar
