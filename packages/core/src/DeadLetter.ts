/**
 * A value that a sink could not write, with the change that it came in: what is needed to look into it and to write it later.
 *
 * The row itself was written without the value (as NULL). A letter holds values of rows: that is its purpose, so it belongs in a dead-letter
 * store and nowhere else.
 */
import * as Schema from "effect/Schema"
import { createHash } from "node:crypto"
import type { LogicalType } from "./LogicalType.ts"

/** A column as it was then: its name at the source and at the sink, and its type. */
export const Column = Schema.Struct({
  name: Schema.String,
  target: Schema.String,
  /** `LogicalType` as JSON. */
  type: Schema.String
})
export type Column = typeof Column.Type

export const DeadLetter = Schema.Struct({
  id: Schema.String,
  pipeline: Schema.String,
  table: Schema.String,
  /** `Sequence` of the change; of a copied row its snapshot's. */
  sequence: Schema.String,
  operation: Schema.String,
  /** ISO 8601. */
  commitTime: Schema.String,
  /** Which row of the table it is: its key's values as a JSON array, or what else the sink tells rows apart by. */
  row: Schema.String,
  /** How rows of the table are identified: tag of `TableSchema.Identity`. */
  identity: Schema.Literals(["Key", "Full", "None"]),
  /** Columns of the key; empty for tables without one. */
  key: Schema.Array(Column),
  /** The column whose value was refused. */
  column: Column,
  /** Why, without the value. */
  reason: Schema.String,
  /** All values that the change sent, as the source's text, by the source's names. */
  values: Schema.Record(Schema.String, Schema.NullOr(Schema.String)),
  /** Columns that the change didn't send. */
  unsent: Schema.Array(Schema.String),
  /** When the letter was written, ISO 8601. */
  at: Schema.String
})
export type DeadLetter = typeof DeadLetter.Type

/** The identity of a letter: the same refused value of the same change gives the same, however often it is delivered. */
export const idOf = (
  { column, pipeline, row, sequence, table }: Pick<DeadLetter, "pipeline" | "table" | "sequence" | "row"> & {
    readonly column: Pick<Column, "name">
  }
): string =>
  createHash("sha256").update(JSON.stringify([pipeline, table, sequence, row, column.name])).digest("hex").slice(0, 32)

export const encodeType = (type: LogicalType): string => JSON.stringify(type)

const size = Schema.optionalKey(Schema.Number)
const Encoded = Schema.Struct({
  _tag: Schema.String,
  precision: size,
  scale: size,
  maxLength: size,
  utc: Schema.optionalKey(Schema.Boolean),
  element: Schema.optionalKey(Schema.Unknown)
})

const revive = (value: unknown): LogicalType | undefined => {
  const decoded = Schema.decodeUnknownOption(Encoded)(value)
  if (decoded._tag === "None") return undefined
  const { _tag, element, maxLength, precision, scale, utc } = decoded.value
  switch (_tag) {
    case "Boolean":
    case "Int16":
    case "Int32":
    case "Int64":
    case "Float32":
    case "Float64":
    case "Binary":
    case "Uuid":
    case "Date":
    case "Time":
    case "Json":
    case "Interval":
    case "Other":
      return { _tag }
    case "Decimal":
      return { _tag, precision, scale }
    case "Text":
      return { _tag, maxLength }
    case "Timestamp":
      return { _tag, utc: utc === true }
    case "Array": {
      const inner = revive(element)
      return inner === undefined ? undefined : { _tag, element: inner }
    }
    default:
      return undefined
  }
}

/** The type that `encodeType` wrote; undefined when the text is none. */
export const decodeType = (text: string): LogicalType | undefined => {
  try {
    return revive(JSON.parse(text))
  } catch {
    return undefined
  }
}
