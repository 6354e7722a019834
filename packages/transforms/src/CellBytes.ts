/**
 * Values as bytes, the same for equal values of one type: what hashes and tokens are made of.
 */
import type { LogicalType } from "@etl-stream/core/LogicalType"
import type * as Arrow from "apache-arrow"
import { isTextual, textReader } from "./CellValue.ts"

/**
 * Reads values as bytes: text as UTF-8 and binary as it is, others by their text. The bytes are only good until the next
 * value is read. Not to be asked for NULLs.
 */
export const reader = (type: LogicalType, data: Arrow.Data): (row: number) => Uint8Array | string => {
  if (!isTextual(type) && type._tag !== "Binary") return textReader(type, data)
  const { valueOffsets } = data
  const values = data.values as Uint8Array // Utf8 and Binary columns hold bytes
  return (row) => values.subarray(valueOffsets[row] ?? 0, valueOffsets[row + 1] ?? 0)
}
