/**
 * Batches as payloads of a spool's records, and back: numbers of fixed width, then of each column its nulls and the lengths of its buffers, then the buffers, each
 * at a multiple of eight bytes, so that a batch that is read needs no copy of them.
 */
import type * as Arrow from "apache-arrow"
import { Data, makeData } from "apache-arrow/data"
import { BufferType } from "apache-arrow/enum"
import { RecordBatch } from "apache-arrow/recordbatch"
import { Schema } from "apache-arrow/schema"
import { Binary, DataType, Struct, Utf8 } from "apache-arrow/type"
import * as BatchConcat from "./BatchConcat.ts"
import * as ChangeBatch from "./ChangeBatch.ts"
import type { Rows, SnapshotRows } from "./Element.ts"
import { type Encoded, framed, Kind, malformed } from "./SpoolFrame.ts"
import type { TableSchema } from "./TableSchema.ts"

const fixedHeader = 32
const columnHeader = 16
const align = (size: number): number => (size + 7) & ~7
const padding = new Uint8Array(8)

const bytesOf = (array: ArrayBufferView): Uint8Array => new Uint8Array(array.buffer, array.byteOffset, array.byteLength)

/** The buffers of a column of `rows` rows: validity, offsets, values; without what is behind the rows. */
const buffersOf = (data: Arrow.Data, rows: number): ReadonlyArray<Uint8Array> => {
  const bits = (rows + 7) >> 3
  const none = new Uint8Array(0)
  const validity = data.nullCount > 0 ? bytesOf(data.nullBitmap).subarray(0, bits) : none
  if (DataType.isUtf8(data.type) || DataType.isBinary(data.type)) {
    const offsets = data.valueOffsets.subarray(0, rows + 1)
    return [validity, bytesOf(offsets), bytesOf(data.values).subarray(0, offsets[rows] ?? 0)]
  }
  if (DataType.isBool(data.type)) return [validity, none, bytesOf(data.values).subarray(0, bits)]
  const values: { readonly BYTES_PER_ELEMENT: number } & ArrayBufferView = data.values
  return [validity, none, bytesOf(values).subarray(0, rows * values.BYTES_PER_ELEMENT)]
}

/** The record of a batch whose schema has the number `table` in its file. */
export const encode = (element: Rows | SnapshotRows, table: number): Encoded => {
  const { records, rows } = BatchConcat.compact(element.batch)
  const { children } = records.data
  const head = new Uint8Array(fixedHeader + children.length * columnHeader)
  const view = new DataView(head.buffer)
  head[0] = Kind.batch
  view.setUint32(4, table, true)
  view.setUint32(8, rows, true)
  view.setUint32(24, children.length, true)
  if (element._tag === "SnapshotRows") {
    head[1] = 1
    view.setUint32(12, element.chunk, true)
    view.setBigUint64(16, element.position, true)
  }
  const parts: Array<Uint8Array> = [head]
  children.forEach((child, index) => {
    const at = fixedHeader + index * columnHeader
    view.setUint32(at, child.nullCount, true)
    buffersOf(child, rows).forEach((buffer, place) => {
      view.setUint32(at + 4 + place * 4, buffer.length, true)
      parts.push(buffer, padding.subarray(0, align(buffer.length) - buffer.length))
    })
  })
  return framed(parts.filter(({ length }) => length > 0))
}

/** A column of `rows` rows over three buffers. */
const columnOf = (
  type: Arrow.DataType,
  rows: number,
  nullCount: number,
  [validity, offsets, values]: readonly [Uint8Array, Uint8Array, Uint8Array]
): Arrow.Data => {
  const bits = (rows + 7) >> 3
  if (nullCount > rows || validity.length !== (nullCount > 0 ? bits : 0)) malformed("a column with a wrong validity")
  const nulls = nullCount > 0 ? { nullCount, nullBitmap: validity } : { nullCount: 0 }
  const isText = DataType.isUtf8(type)
  if (isText || DataType.isBinary(type)) {
    if (offsets.length !== (rows + 1) * 4) malformed("a column with too few offsets")
    const valueOffsets = new Int32Array(offsets.buffer, offsets.byteOffset, rows + 1)
    let last = 0
    if (valueOffsets[0] !== 0) malformed("a column whose offsets don't begin at 0")
    for (const offset of valueOffsets) {
      if (offset < last) malformed("a column whose offsets go back")
      last = offset
    }
    if (last !== values.length) malformed("a column with values of another length")
    return isText
      ? makeData({ type: new Utf8(), length: rows, valueOffsets, data: values, ...nulls })
      : makeData({ type: new Binary(), length: rows, valueOffsets, data: values, ...nulls })
  }
  if (offsets.length !== 0) malformed("a column with offsets that it can't have")
  if (DataType.isBool(type)) {
    if (values.length !== bits) malformed("a column with values of another length")
    return makeData({ type, length: rows, data: values, ...nulls })
  }
  const Values: {
    readonly BYTES_PER_ELEMENT: number
    new(buffer: ArrayBufferLike, from: number, length: number): ArrayBufferView
  } = type.ArrayType
  if (values.length !== rows * Values.BYTES_PER_ELEMENT) malformed("a column with values of another length")
  const data = new Values(values.buffer, values.byteOffset, rows)
  return new Data(type, 0, rows, nulls.nullCount, {
    [BufferType.DATA]: data,
    ...("nullBitmap" in nulls ? { [BufferType.VALIDITY]: nulls.nullBitmap } : {})
  })
}

/** The batch that a payload holds, over the payload's own bytes. Throws `Malformed`. */
export const decode = (payload: Uint8Array, tables: ReadonlyArray<TableSchema>): Rows | SnapshotRows => {
  if (payload.length < fixedHeader) malformed("a batch that is cut off")
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength)
  const table = tables[view.getUint32(4, true)] ?? malformed("a batch of an unknown table")
  const rows = view.getUint32(8, true)
  const { fields } = ChangeBatch.arrowSchema(table)
  if (rows === 0 || view.getUint32(24, true) !== fields.length) malformed("a batch of another shape than its table")
  let at = fixedHeader + fields.length * columnHeader
  if (payload.length < at) malformed("a batch that is cut off")
  const next = (size: number): Uint8Array => {
    const end = at + size
    if (end > payload.length) malformed("a batch that is cut off")
    const buffer = payload.subarray(at, end)
    at += align(size)
    return buffer
  }
  const children = fields.map(({ type }, index) => {
    const head = fixedHeader + index * columnHeader
    const size = (place: number) => view.getUint32(head + 4 + place * 4, true)
    const buffers = [next(size(0)), next(size(1)), next(size(2))] as const
    return columnOf(type, rows, view.getUint32(head, true), buffers)
  })
  if (at !== payload.length) malformed("a batch with something behind it")
  const schema = new Schema(fields)
  const data = makeData({ type: new Struct(schema.fields), length: rows, nullCount: 0, children })
  const batch = ChangeBatch.make(table, new RecordBatch(schema, data))
  return payload[1] === 1
    ? { _tag: "SnapshotRows", batch, position: view.getBigUint64(16, true), chunk: view.getUint32(12, true) }
    : { _tag: "Rows", batch }
}
