/**
 * Joins and cuts `ChangeBatch`es at the level of their Arrow buffers: typed arrays, validity bitmaps and value offsets.
 *
 * `concat` makes one batch of several of the same table version; `BatchSlice.after` uses `copyRows` to cut. Results are
 * compact: offset 0, value offsets beginning at 0, buffers of their own. Inputs may be any layout that Arrow allows for
 * these types: a `Data` with an offset has its values and value offsets cut already, only bitmaps are read from `offset` on.
 */
import type * as Arrow from "apache-arrow"
import { makeData } from "apache-arrow/data"
import { RecordBatch } from "apache-arrow/recordbatch"
import { DataType, Struct } from "apache-arrow/type"
import * as ChangeBatch from "./ChangeBatch.ts"

/** Rows `[from, to)` of a column. */
interface Piece {
  readonly data: Arrow.Data
  readonly from: number
  readonly to: number
}

/** Typed arrays that columns of fixed width use. */
interface Fixed {
  readonly length: number
  readonly buffer: ArrayBufferLike
  set(source: Fixed, at: number): void
  subarray(from: number, to: number): Fixed
}

/** Copies `length` bits of `source` from bit `from` to bit `at` of `target`, whose bits from `at` on are zero. */
const copyBits = (source: Uint8Array, from: number, target: Uint8Array, at: number, length: number): void => {
  const read = from & 7
  const write = at & 7
  let i = from >> 3
  let o = at >> 3
  for (let left = length; left > 0; left -= 8, i++, o++) {
    let byte = read === 0 ? source[i] ?? 0 : ((source[i] ?? 0) >> read) | ((source[i + 1] ?? 0) << (8 - read))
    // Bits behind the end may be anything in the source; in the target they have to stay zero for what comes next.
    byte &= left < 8 ? (1 << left) - 1 : 0xff
    target[o] = (target[o] ?? 0) | (byte << write)
    if (write > 0 && left > 8 - write) target[o + 1] = byte >> (8 - write)
  }
}

const setBits = (target: Uint8Array, at: number, length: number): void => {
  let i = at
  const end = at + length
  for (; i < end && (i & 7) !== 0; i++) target[i >> 3] = (target[i >> 3] ?? 0) | (1 << (i & 7))
  const whole = (end - i) >> 3
  target.fill(0xff, i >> 3, (i >> 3) + whole)
  for (i += whole * 8; i < end; i++) target[i >> 3] = (target[i >> 3] ?? 0) | (1 << (i & 7))
}

const countBits = (bitmap: Uint8Array): number => {
  let count = 0
  for (let i = 0; i < bitmap.length; i++) {
    let byte = bitmap[i] ?? 0
    while (byte !== 0) {
      byte &= byte - 1
      count++
    }
  }
  return count
}

const hasNulls = (data: Arrow.Data): boolean =>
  data.nullBitmap !== undefined && data.nullBitmap.length > 0 && data.nullCount > 0

const validity = (pieces: ReadonlyArray<Piece>, rows: number): { nullCount: number; nullBitmap?: Uint8Array } => {
  if (!pieces.some(({ data }) => hasNulls(data))) return { nullCount: 0 }
  const nullBitmap = new Uint8Array((rows + 7) >> 3)
  let at = 0
  for (const { data, from, to } of pieces) {
    if (hasNulls(data)) copyBits(data.nullBitmap, data.offset + from, nullBitmap, at, to - from)
    else setBits(nullBitmap, at, to - from)
    at += to - from
  }
  const nullCount = rows - countBits(nullBitmap)
  return nullCount === 0 ? { nullCount } : { nullCount, nullBitmap }
}

const joinBits = (pieces: ReadonlyArray<Piece>, rows: number): Uint8Array => {
  const bits = new Uint8Array((rows + 7) >> 3)
  let at = 0
  for (const { data, from, to } of pieces) {
    copyBits(data.values as Uint8Array, data.offset + from, bits, at, to - from) // Bool columns are bitmaps
    at += to - from
  }
  return bits
}

const joinBytes = (pieces: ReadonlyArray<Piece>, rows: number): { valueOffsets: Int32Array; data: Uint8Array } => {
  let size = 0
  for (const { data, from, to } of pieces) size += (data.valueOffsets[to] ?? 0) - (data.valueOffsets[from] ?? 0)
  if (size > 0x7fffffff) throw new RangeError("A column of one batch can't hold more than 2 GiB")
  const bytes = new Uint8Array(size)
  const valueOffsets = new Int32Array(rows + 1)
  let row = 0
  let at = 0
  for (const { data, from, to } of pieces) {
    const offsets = data.valueOffsets
    const start = offsets[from] ?? 0
    const end = offsets[to] ?? 0
    bytes.set((data.values as Uint8Array).subarray(start, end), at) // Utf8 and Binary columns hold bytes
    const shift = at - start
    for (let i = from; i < to; i++) valueOffsets[row++] = (offsets[i] ?? 0) + shift
    at += end - start
  }
  valueOffsets[row] = at
  return { valueOffsets, data: bytes }
}

const joinFixed = (pieces: ReadonlyArray<Piece>, rows: number): Fixed => {
  const first = pieces[0]?.data.values as Fixed // columns of fixed width have a typed array, and there is a piece
  const Make = first.constructor as new(length: number) => Fixed // a typed array's constructor
  const joined = new Make(rows)
  let at = 0
  for (const { data, from, to } of pieces) {
    joined.set((data.values as Fixed).subarray(from, to), at) // the pieces are of one type
    at += to - from
  }
  return joined
}

const join = (pieces: ReadonlyArray<Piece>, rows: number): Arrow.Data => {
  const type: Arrow.DataType | undefined = pieces[0]?.data.type
  if (type === undefined) throw new RangeError("There is nothing to join")
  const common = { length: rows, ...validity(pieces, rows) }
  if (DataType.isBool(type)) return makeData({ type, data: joinBits(pieces, rows), ...common })
  if (DataType.isUtf8(type)) return makeData({ type, ...joinBytes(pieces, rows), ...common })
  if (DataType.isBinary(type)) return makeData({ type, ...joinBytes(pieces, rows), ...common })
  if (
    DataType.isInt(type) || DataType.isFloat(type) || DataType.isDate(type) ||
    DataType.isTime(type) ||
    DataType.isTimestamp(type)
  ) {
    // makeData's overloads are per Arrow type; the values keep the array type that they came in.
    return makeData({
      type: type as Arrow.Float64,
      data: joinFixed(pieces, rows) as Float64Array & Fixed,
      ...common
    })
  }
  throw new TypeError(`Columns of the Arrow type ${type} can't be joined`)
}

/** A new batch of the rows `[from, to)` of each part, in the given order; there must be at least one row. */
const joinRows = (
  parts: ReadonlyArray<{ readonly batch: ChangeBatch.ChangeBatch; readonly from: number; readonly to: number }>
): ChangeBatch.ChangeBatch => {
  const first = parts[0]
  if (first === undefined) throw new RangeError("There is nothing to join")
  const { schema } = first.batch.records
  let rows = 0
  for (const { from, to } of parts) rows += to - from
  const children = schema.fields.map((_, column) =>
    join(parts.map(({ batch, from, to }) => ({ data: ChangeBatch.child(batch.records, column), from, to })), rows)
  )
  const data = makeData({ type: new Struct(schema.fields), length: rows, nullCount: 0, children })
  return ChangeBatch.make(first.batch.table, new RecordBatch(schema, data))
}

/** Rows `[from, to)` of a batch as a batch with buffers of its own. */
export const copyRows = (batch: ChangeBatch.ChangeBatch, from: number, to: number): ChangeBatch.ChangeBatch =>
  joinRows([{ batch, from, to }])

const isCompact = (data: Arrow.Data): boolean =>
  data.offset === 0 && (data.valueOffsets === undefined || data.valueOffsets[0] === 0)

/** The rows of the given ranges as a batch with buffers of its own; there must be at least one row. */
export const select = (
  batch: ChangeBatch.ChangeBatch,
  ranges: ReadonlyArray<{ readonly from: number; readonly to: number }>
): ChangeBatch.ChangeBatch => joinRows(ranges.map(({ from, to }) => ({ batch, from, to })))

/** The batch itself when its columns begin at offset 0, as consumers may expect; a copy when it is an Arrow slice. */
export const compact = (batch: ChangeBatch.ChangeBatch): ChangeBatch.ChangeBatch =>
  batch.records.data.children.every(isCompact) ? batch : copyRows(batch, 0, batch.rows)

/**
 * The rows of all `batches`, in their order, as one batch; a single batch is returned as it is. All must be of the same
 * table version.
 */
export const concat = (batches: ReadonlyArray<ChangeBatch.ChangeBatch>): ChangeBatch.ChangeBatch => {
  const [only] = batches
  return batches.length === 1 && only !== undefined
    ? only
    : joinRows(batches.map((batch) => ({ batch, from: 0, to: batch.rows })))
}

/** Estimated size of the objects that describe a column in memory, beside its buffers. */
const columnOverhead = 512

/**
 * Bytes of memory that a batch keeps from being collected: its whole buffers (which may be larger than what is filled of them)
 * and the objects around them. A batch of one row holds kilobytes; a memory budget must not count it as a few bytes.
 */
export const footprint = (batch: ChangeBatch.ChangeBatch): number => {
  const { children } = batch.records.data
  const seen = new Set<ArrayBufferLike>()
  let bytes = children.length * columnOverhead
  for (const { nullBitmap, valueOffsets, values } of children) {
    for (const buffer of [nullBitmap?.buffer, valueOffsets?.buffer, (values as Fixed | undefined)?.buffer]) { // typed arrays all
      if (buffer === undefined || seen.has(buffer)) continue
      seen.add(buffer)
      bytes += buffer.byteLength
    }
  }
  return bytes
}
