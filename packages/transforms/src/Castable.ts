/**
 * Which types can become which.
 */
import type { LogicalType } from "@etl-stream/core/LogicalType"

type Tag = LogicalType["_tag"]

const numbers: ReadonlyArray<Tag> = ["Int16", "Int32", "Int64", "Float32", "Float64", "Decimal"]

/** What can become a type at all. Anything can become text. */
const sources: Partial<Record<Tag, ReadonlyArray<Tag>>> = {
  Boolean: ["Boolean", "Text", "Int16", "Int32", "Int64"],
  Int16: [...numbers, "Boolean", "Text"],
  Int32: [...numbers, "Boolean", "Text"],
  Int64: [...numbers, "Boolean", "Text"],
  Float32: [...numbers, "Text"],
  Float64: [...numbers, "Text"],
  Decimal: [...numbers, "Text"],
  Binary: ["Binary"],
  Uuid: ["Uuid", "Text"],
  Date: ["Date", "Timestamp", "Text"],
  Time: ["Time", "Text"],
  Timestamp: ["Timestamp", "Date", "Text"],
  Json: ["Json", "Text"]
}

/** Whether values of a type may become those of another, as far as each of them fits. */
export const canBecome = (from: LogicalType, to: LogicalType): boolean =>
  to._tag === "Text" || sources[to._tag]?.includes(from._tag) === true

/** Whether different values stay different: text may write one value in several ways. */
export const keepsApart = (from: LogicalType, to: LogicalType): boolean => from._tag !== "Text" || to._tag === "Text"
