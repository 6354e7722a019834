/**
 * A change batch as one piece of shared memory, so that other threads read it without a copy of their own.
 *
 * Only what the rows need is packed: columns may be views into much larger buffers.
 */
import * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import type { TableSchema } from "@etl-stream/core/TableSchema"
import type * as Arrow from "apache-arrow"
import { Data, makeData } from "apache-arrow/data"
import { RecordBatch } from "apache-arrow/recordbatch"
import { Bool, Struct } from "apache-arrow/type"

/** A range of the memory; `bytes` is undefined where the column has no such buffer. */
interface Range {
  readonly at: number
  readonly bytes: number
}

interface PackedColumn {
  readonly nullCount: number
  /** Where bit 0 of bitmaps is the first row's; as Arrow has it, for slices. */
  readonly offset: number
  readonly bitmap: Range | undefined
  readonly offsets: Range | undefined
  readonly values: Range
}

export interface PackedBatch {
  readonly table: TableSchema
  readonly rows: number
  readonly bytes: number
  readonly memory: SharedArrayBuffer
  readonly columns: ReadonlyArray<PackedColumn>
}

/** Not by bits, which have 32: a column may have 2 GiB. */
const align = (bytes: number): number => Math.ceil(bytes / 8) * 8

interface Source {
  readonly data: Arrow.Data
  readonly bitmap: Uint8Array | undefined
  readonly offsets: Int32Array | undefined
  readonly values: Uint8Array
}

const bytesOf = (view: ArrayBufferView, from: number, to: number): Uint8Array =>
  new Uint8Array(view.buffer, view.byteOffset + from, to - from)

/** What of a column's buffers its rows need. */
const sourceOf = (data: Arrow.Data, rows: number): Source => {
  const values = data.values as ArrayBufferView // a batch's columns aren't nested
  const firstByte = data.offset >> 3
  const lastByte = (data.offset + rows + 7) >> 3
  const bitmap = data.nullCount > 0 && data.nullBitmap.length > 0
    ? data.nullBitmap.subarray(firstByte, lastByte)
    : undefined
  const offsets = data.valueOffsets as Int32Array | undefined // of Utf8 and Binary
  if (offsets !== undefined && offsets !== null && offsets.length > 0) {
    const start = offsets[0] as number // there is one more than rows
    const end = offsets[rows] as number // the same
    return { data, bitmap, offsets: offsets.subarray(0, rows + 1), values: bytesOf(values, start, end) }
  }
  if (data.type instanceof Bool) {
    return { data, bitmap, offsets: undefined, values: bytesOf(values, firstByte, lastByte) }
  }
  const { BYTES_PER_ELEMENT: width } = data.values as Uint8Array // some typed array
  return { data, bitmap, offsets: undefined, values: bytesOf(values, 0, rows * width) }
}

/** Packs `batch` into memory that `take` gives for a number of bytes. Columns that aren't of the table's types would be read as something else. */
export const pack = (
  batch: ChangeBatch.ChangeBatch,
  take: (bytes: number) => SharedArrayBuffer
): PackedBatch => {
  const { bytes, records, rows, table } = batch
  const misfit = ChangeBatch.misfit(batch)
  if (misfit !== undefined) throw new TypeError(misfit)
  const sources = records.data.children.map((data) => sourceOf(data, rows))
  const memory = take(sources.reduce(
    (sum, { bitmap, offsets, values }) =>
      sum + align(bitmap?.byteLength ?? 0) + align(offsets?.byteLength ?? 0) + align(values.byteLength),
    0
  ))
  const target = new Uint8Array(memory)
  let next = 0
  const put = (source: Uint8Array): Range => {
    const at = next
    target.set(source, at)
    next += align(source.byteLength)
    return { at, bytes: source.byteLength }
  }
  const columns = sources.map(({ bitmap, data, offsets, values }): PackedColumn => {
    let ranges: Range | undefined
    if (offsets !== undefined) {
      ranges = put(bytesOf(offsets, 0, offsets.byteLength))
      const first = offsets[0] as number // there is one more than rows
      const packed = new Int32Array(memory, ranges.at, offsets.length)
      if (first !== 0) { for (let row = 0; row < packed.length; row++) packed[row] = (packed[row] as number) - first // in range
       }
    }
    return {
      nullCount: data.nullCount,
      offset: data.offset & 7,
      bitmap: bitmap === undefined ? undefined : put(bitmap),
      offsets: ranges,
      values: put(values)
    }
  })
  return { table, rows, bytes, memory, columns }
}

/** The batch that was packed, over the same memory. */
export const unpack = ({ bytes, columns, memory, rows, table }: PackedBatch): ChangeBatch.ChangeBatch => {
  const schema = ChangeBatch.arrowSchema(table)
  const view = ({ at, bytes }: Range): Uint8Array => new Uint8Array(memory, at, bytes)
  const children = columns.map(({ bitmap, nullCount, offset, offsets, values }, index) => {
    const type = schema.fields[index]?.type
    if (type === undefined) throw new RangeError(`The batch has no column ${index}`)
    return new Data(type, offset, rows, nullCount, {
      // In Arrow's order: offsets, values, validity.
      ...(offsets === undefined ? {} : { 0: new Int32Array(memory, offsets.at, offsets.bytes >> 2) }),
      1: typed(type, view(values)),
      ...(bitmap === undefined ? {} : { 2: view(bitmap) })
    })
  })
  const struct = makeData({ type: new Struct(schema.fields), length: rows, nullCount: 0, children })
  return ChangeBatch.make(table, new RecordBatch(schema, struct), bytes)
}

/** Bytes as the typed array that a column of the type has. */
const typed = (type: Arrow.DataType, bytes: Uint8Array): Uint8Array => {
  const ArrayType = type.ArrayType as Uint8ArrayConstructor // or that of another typed array, as the column's type says
  return new ArrayType(bytes.buffer, bytes.byteOffset, bytes.byteLength / ArrayType.BYTES_PER_ELEMENT)
}
