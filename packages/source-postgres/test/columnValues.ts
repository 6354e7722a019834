/**
 * What a decoder put into a column, in a form that tests compare: every bit of it, without Arrow's conversions.
 */
import * as ColumnBuilder from "@etl-stream/core/ColumnBuilder"
import { arrowType, type LogicalType } from "@etl-stream/core/LogicalType"
import type * as Arrow from "apache-arrow"
import type { ValueDecoder } from "../src/internal/valueDecoder.ts"

/** Value `row` of a finished column: null, text of an integer or float (`-0` and `0` differ), UTF-8 text, or bytes as hex. */
export const valueAt = (data: Arrow.Data, type: LogicalType, row: number): string | null => {
  if (data.nullCount > 0 && ((data.nullBitmap[row >> 3] ?? 0) & (1 << (row & 7))) === 0) return null
  switch (type._tag) {
    case "Boolean":
      return ((data.values[row >> 3] ?? 0) & (1 << (row & 7))) === 0 ? "false" : "true"
    case "Int16":
    case "Int32":
    case "Int64":
    case "Date":
    case "Time":
    case "Timestamp":
      return String(data.values[row])
    case "Float32":
    case "Float64":
      return Object.is(data.values[row], -0) ? "-0" : String(data.values[row])
    default: {
      const bytes = Buffer.from(data.values.subarray(data.valueOffsets[row], data.valueOffsets[row + 1]))
      return type._tag === "Binary" ? bytes.toString("hex") : bytes.toString("utf8")
    }
  }
}

/** Decodes values, each surrounded by bytes that aren't its own, into one column and reads them back. */
export const decodeAll = (
  type: LogicalType,
  decoder: ValueDecoder,
  values: ReadonlyArray<Uint8Array | null>
): ReadonlyArray<string | null> => {
  const column = ColumnBuilder.make(arrowType(type))
  for (const value of values) {
    if (value === null) column.appendNull()
    else {
      const bytes = new Uint8Array(value.length + 6).fill(0x39)
      bytes.set(value, 3)
      decoder(column, bytes, 3, 3 + value.length)
    }
  }
  const data = column.finish()
  return values.map((_, row) => valueAt(data, type, row))
}

/** Decodes one value. */
export const decodeOne = (type: LogicalType, decoder: ValueDecoder, value: Uint8Array): string | null =>
  decodeAll(type, decoder, [value])[0] ?? null
