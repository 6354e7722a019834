/**
 * The row key of tables without a key: SHA-256 over a canonical encoding of the row's values.
 *
 * Snapshot rows and changes must agree on it, so it is computed from the Arrow values, which are the same for both. Each value
 * that isn't null contributes its column's name, its length and its bytes; a null contributes nothing, so a column that
 * is added later leaves the keys of older rows as they were.
 */
import * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import type { LogicalType } from "@etl-stream/core/LogicalType"
import type * as Arrow from "apache-arrow"
import { hash } from "node:crypto"
import { ByteBuffer } from "./ByteBuffer.ts"
import type { TableValues } from "./ValueLayout.ts"
import * as ValueWriter from "./ValueWriter.ts"

const scratch = new ByteBuffer(1024)

const uint32 = (out: ByteBuffer, value: number): void => {
  out.reserve(4)
  for (let shift = 0; shift < 32; shift += 8) out.bytes[out.length++] = (value >>> shift) & 255
}

const canonicalNaN = new Uint8Array(new Float64Array([Number.NaN]).buffer)

/** Bytes of the value in `row`, fixed-width types by their Arrow width. */
const writeBytes = (data: Arrow.Data, row: number, type: LogicalType["_tag"], out: ByteBuffer): void => {
  if (type === "Boolean") {
    const bit = data.offset + row
    const bits = data.values as Uint8Array // booleans are bits
    uint32(out, 1)
    return out.byte(((bits[bit >> 3] as number) >> (bit & 7)) & 1) // one bit per row
  }
  if (data.valueOffsets !== undefined && data.valueOffsets !== null && data.valueOffsets.length > 0) {
    const start = data.valueOffsets[row] as number // in range
    const end = data.valueOffsets[row + 1] as number // in range
    uint32(out, end - start)
    return out.raw(data.values as Uint8Array, start, end) // variable-width columns hold bytes
  }
  const values = data.values as Float64Array // any fixed-width column: only its width and bytes matter
  const width = values.BYTES_PER_ELEMENT
  uint32(out, width)
  if ((type === "Float32" || type === "Float64") && Number.isNaN(values[row])) return out.raw(canonicalNaN, 0, width)
  const at = values.byteOffset + row * width
  out.raw(new Uint8Array(values.buffer, at, width))
}

/** A function from row to row key (64 hexadecimal digits) for `records`. */
export const make = (layout: TableValues, records: Arrow.RecordBatch): (row: number) => string => {
  const columns = layout.columns.map((column) => ({
    prefix: Buffer.from(column.name),
    type: column.type._tag,
    data: ChangeBatch.child(records, ChangeBatch.metadataColumns + column.index)
  }))
  return (row) => {
    scratch.length = 0
    for (const { data, prefix, type } of columns) {
      if (ValueWriter.isNull(data, row)) continue
      uint32(scratch, prefix.length)
      scratch.raw(prefix)
      writeBytes(data, row, type, scratch)
    }
    return hash("sha256", scratch.view(), "hex")
  }
}
