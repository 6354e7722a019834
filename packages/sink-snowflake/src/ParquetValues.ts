/**
 * Arrow columns as values of Parquet: what type they have there, and their bytes in a page.
 *
 * Everything is encoded as plainly as there is, which every reader reads and costs little: zstd finds what repeats. Signed integers of 16, 32 and 64 bits, doubles and text are all that files of this
 * sink hold.
 */
import type * as Arrow from "apache-arrow"
import { Precision } from "apache-arrow/enum"
import { DataType } from "apache-arrow/type"
import type { ByteBuffer } from "./ByteBuffer.ts"
import type { ThriftStruct } from "./ThriftStruct.ts"
import { varint } from "./ThriftStruct.ts"
import { isNull } from "./ValueWriter.ts"

export interface ParquetType {
  /** As Parquet numbers them. */
  readonly physical: number
  /** What the values are besides, as older readers are told, and newer ones. */
  readonly converted?: number
  readonly logical?: (union: ThriftStruct) => void
  /** Bytes of rows `from` to `to`, nulls not left out. */
  readonly bytes: (data: Arrow.Data, from: number, to: number) => number
  /** Writes those of the rows that aren't null. There is room for them. */
  readonly write: (out: ByteBuffer, data: Arrow.Data, from: number, to: number) => void
}

const viewOf = ({ buffer, byteLength, byteOffset }: ArrayBufferView): DataView =>
  new DataView(buffer, byteOffset, byteLength)

/** Up to here a text is copied by words, beyond it by a call (measured: break-even near 128 bytes). */
const shortText = 128

const writeTexts: ParquetType["write"] = (out, data, from, to) => {
  const offsets = data.valueOffsets
  const source = data.values as Uint8Array // text
  const sourceWords = viewOf(source)
  const target = out.bytes
  const targetWords = viewOf(target)
  /** The last words of the two begin here. */
  const lastSource = source.length - 8
  const lastTarget = target.length - 8
  const nulls = data.nullCount > 0
  let at = out.length
  for (let row = from; row < to; row++) {
    if (nulls && isNull(data, row)) continue
    const start = offsets[row] as number // in range
    const length = (offsets[row + 1] as number) - start // there is one more than rows
    targetWords.setInt32(at, length, true)
    at += 4
    if (length > shortText) target.set(source.subarray(start, start + length), at)
    else if (start + length > lastSource || at + length > lastTarget) {
      for (let i = 0; i < length; i++) target[at + i] = source[start + i] as number // in range
    } else {
      // What a last word has too much the next value overwrites. The compiler makes no BigInt of what only passes through.
      for (let i = 0; i < length; i += 8) {
        targetWords.setBigInt64(at + i, sourceWords.getBigInt64(start + i, true), true)
      }
    }
    at += length
  }
  out.length = at
}

const text: ParquetType = {
  physical: 6,
  converted: 0,
  logical: (union) => union.struct(1, () => {}),
  bytes: ({ valueOffsets }, from, to) =>
    (to - from) * 4 + (valueOffsets[to] as number) - (valueOffsets[from] as number), // there is one more than rows
  write: writeTexts
}

/** Values that lie in Arrow's buffer as in the page. */
const writeFixed: ParquetType["write"] = (out, data, from, to) => {
  const values = data.values as Int32Array // or another typed array of numbers
  const width = values.BYTES_PER_ELEMENT
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
  if (data.nullCount === 0) return out.raw(bytes, from * width, to * width)
  const source = viewOf(bytes)
  const target = viewOf(out.bytes)
  let at = out.length
  for (let row = from; row < to; row++) {
    if (isNull(data, row)) continue
    for (let i = 0; i < width; i += 4, at += 4) target.setInt32(at, source.getInt32(row * width + i, true), true)
  }
  out.length = at
}

const fixed = (physical: number, width: number): ParquetType => ({
  physical,
  bytes: (_, from, to) => (to - from) * width,
  write: writeFixed
})

const int16: ParquetType = {
  ...fixed(1, 4),
  converted: 16,
  logical: (union) => union.struct(10, (integer) => integer.byte(1, 16).true(2)),
  write: (out, data, from, to) => {
    const values = data.values as Int16Array // of this type
    const nulls = data.nullCount > 0
    const target = viewOf(out.bytes)
    let at = out.length
    for (let row = from; row < to; row++) {
      if (nulls && isNull(data, row)) continue
      target.setInt32(at, values[row] as number, true) // in range
      at += 4
    }
    out.length = at
  }
}
const int32 = fixed(1, 4)
const int64 = fixed(2, 8)
const double = fixed(5, 8)

export const typeOf = (type: Arrow.DataType): ParquetType => {
  if (DataType.isUtf8(type)) return text
  if (DataType.isFloat(type) && type.precision === Precision.DOUBLE) return double
  if (DataType.isInt(type) && type.isSigned) {
    if (type.bitWidth === 16) return int16
    if (type.bitWidth === 32) return int32
    if (type.bitWidth === 64) return int64
  }
  throw new TypeError(`Files have no column of the Arrow type ${type}`)
}

/**
 * Writes which of rows `from` to `to` have a value, one bit each: what Parquet calls definition levels, in its hybrid of runs and packed bits, its length before
 * it.
 */
export const writePresence = (out: ByteBuffer, data: Arrow.Data, from: number, to: number): void => {
  const rows = to - from
  const start = out.length
  out.raw(lengthPlace)
  if (data.nullCount === 0) {
    varint(out, rows * 2)
    out.byte(1)
  } else {
    const used = (rows + 7) >> 3
    varint(out, used * 2 + 1)
    writeBits(out, data.nullBitmap, data.offset + from, rows)
  }
  viewOf(out.bytes).setInt32(start, out.length - start - 4, true)
}

const lengthPlace = new Uint8Array(4)

/** Copies `count` bits from bit `first` on, with zeros behind them. */
const writeBits = (out: ByteBuffer, bits: Uint8Array, first: number, count: number): void => {
  const bytes = (count + 7) >> 3
  const shift = first & 7
  const start = first >> 3
  out.reserve(bytes)
  const target = out.bytes
  const at = out.length
  for (let i = 0; i < bytes; i++) {
    // Behind the end there is nothing to shift in.
    target[at + i] = ((bits[start + i] as number) >> shift) | ((bits[start + i + 1] ?? 0) << (8 - shift)) // in range
  }
  const rest = count & 7
  if (rest > 0) target[at + bytes - 1] = (target[at + bytes - 1] as number) & ((1 << rest) - 1) // in range
  out.length = at + bytes
}

/** The row behind the last one of a page that begins at `from` and has at most `most` bytes, or one row. */
export const pageEnd = (type: ParquetType, data: Arrow.Data, from: number, rows: number, most: number): number => {
  let low = from + 1
  let high = rows
  while (low < high) {
    const middle = (low + high + 1) >> 1
    if (type.bytes(data, from, middle) <= most) low = middle
    else high = middle - 1
  }
  return low
}
