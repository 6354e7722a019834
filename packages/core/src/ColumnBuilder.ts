/**
 * Growable Arrow columns for decoders: values go straight into buffers of the columns' types.
 *
 * One builder per column, appended to row by row without an object, string or BigInt per value. Buffers grow by doubling and are kept; `finish` copies out what was
 * filled. So memory that V8 has to collect is no more than the batches are, half of what it is when buffers are handed over as they grew, and what
 * is written to is in the processor's cache (measured: a tenth less processor time from a slot to batches).
 */
import type * as Arrow from "apache-arrow"
import { makeData } from "apache-arrow/data"
import { Precision, Type } from "apache-arrow/enum"
import { Binary, Bool, DataType, Utf8 } from "apache-arrow/type"
import * as ByteCopy from "./ByteCopy.ts"

const initialRows = 64
/** Larger buffers of texts aren't kept. */
const largestKept = 4 << 20

/** Sources in larger memory are viewed anew for each value: what was copied from last would be held for nobody knows how long. A connection reads into 4 MiB, with TLS into a little more. */
const largestViewed = 16 << 20

/** The array that was copied from last, and a view of it: values of a batch come from few. */
let lastSource: Uint8Array = new Uint8Array(0)
let lastView = ByteCopy.viewOf(lastSource)

const viewOf = (source: Uint8Array): DataView => {
  if (source === lastSource) return lastView
  const view = ByteCopy.viewOf(source)
  if (source.buffer.byteLength <= largestViewed) {
    lastSource = source
    lastView = view
  }
  return view
}

/** Length and validity, common to all builders. */
abstract class Validity {
  length = 0
  nulls = 0
  /** Rows that there is room for. */
  protected capacity = 0
  /** Kept from a batch's first null on: most columns of most batches have none. */
  private bitmap: Uint8Array | undefined

  protected abstract grow(rows: number): void

  /** Bytes of the buffers that it has, filled or not. */
  abstract get held(): number

  /** Makes room for one more row and marks it valid. */
  protected begin(): number {
    const row = this.length
    if (row === this.capacity) this.enlarge()
    if (this.bitmap !== undefined) this.bitmap[row >> 3] = (this.bitmap[row >> 3] as number) | (1 << (row & 7)) // in range
    this.length = row + 1
    return row
  }

  appendNull(): void {
    this.beginNulls(1)
  }

  /** Makes room for as many more rows and marks them valid. */
  protected beginRun(rows: number): number {
    const first = this.length
    while (first + rows > this.capacity) this.enlarge()
    this.length = first + rows
    const { bitmap } = this
    if (bitmap !== undefined) {
      for (let row = first; row < this.length; row++) {
        bitmap[row >> 3] = (bitmap[row >> 3] as number) | (1 << (row & 7)) // in range
      }
    }
    return first
  }

  protected beginNulls(rows: number): void {
    const first = this.length
    while (first + rows > this.capacity) this.enlarge()
    if (this.bitmap === undefined) {
      this.bitmap = new Uint8Array(this.capacity >> 3).fill(0xff, 0, first >> 3)
      this.bitmap[first >> 3] = (1 << (first & 7)) - 1
    }
    this.length = first + rows
    this.nulls += rows
  }

  private enlarge(): void {
    this.capacity = Math.max(initialRows, this.capacity * 2)
    if (this.bitmap !== undefined) {
      const larger = new Uint8Array(this.capacity >> 3)
      larger.set(this.bitmap)
      this.bitmap = larger
    }
    this.grow(this.capacity)
  }

  /** The validity buffer, undefined when nothing is null. Comes last: the builder is empty then. */
  protected takeValidity(): { readonly length: number; readonly nullCount: number; readonly nullBitmap?: Uint8Array } {
    const { bitmap, length, nulls } = this
    this.bitmap = undefined
    this.length = 0
    this.nulls = 0
    const taken = { length, nullCount: nulls }
    return bitmap === undefined ? taken : { ...taken, nullBitmap: bitmap.slice(0, (length + 7) >> 3) }
  }
}

type Numbers = Int8Array | Uint8Array | Int16Array | Int32Array | Float32Array | Float64Array

/** Fixed-width numbers of at most 53 significant bits: integers up to 32 bits, floats, dates. */
export class NumberColumn<A extends Numbers> extends Validity {
  private values: A
  private readonly type: Arrow.DataType
  private readonly allocate: (rows: number) => A

  constructor(type: Arrow.DataType, allocate: (rows: number) => A) {
    super()
    this.type = type
    this.allocate = allocate
    this.values = allocate(0)
  }

  append(value: number): void {
    const row = this.begin() // may replace `values`: it has to come first
    this.values[row] = value
  }

  /** The same number in so many rows. */
  appendRun(value: number, rows: number): void {
    const first = this.beginRun(rows)
    this.values.fill(value, first, first + rows)
  }

  protected grow(rows: number): void {
    const larger = this.allocate(rows)
    larger.set(this.values)
    this.values = larger
  }

  get bytes(): number {
    return this.length * this.values.BYTES_PER_ELEMENT
  }

  get held(): number {
    return this.values.byteLength
  }

  finish(): Arrow.Data {
    const { length, values } = this
    const data = values.slice(0, length)
    // Nulls leave what is there.
    values.fill(0, 0, length)
    // makeData's overloads are per Arrow type; the constructor's caller pairs type and array.
    return makeData({ type: this.type as Arrow.Float64, data: data as Float64Array, ...this.takeValidity() })
  }
}

/** 64-bit integers, written as two halves so that no BigInt is made: bigint, sequences, times and timestamps. */
export class Int64Column extends Validity {
  private halves = new Int32Array(0)
  private readonly type: Arrow.DataType

  constructor(type: Arrow.DataType) {
    super()
    this.type = type
  }

  /** The integer `high * 2^32 + low`, both halves taken as 32 bits (two's complement). */
  append(high: number, low: number): void {
    const at = this.begin() * 2
    this.halves[at] = low // typed arrays are little-endian on every platform that Node runs on
    this.halves[at + 1] = high
  }

  /** An integer that a double holds exactly (|value| <= 2^53). */
  appendNumber(value: number): void {
    const high = Math.floor(value / 0x100000000)
    // Not `%`, which calls a function of the C library.
    this.append(high, value - high * 0x100000000)
  }

  /** The same integer in so many rows. */
  appendRun(high: number, low: number, rows: number): void {
    const first = this.beginRun(rows)
    const { halves } = this
    for (let at = first * 2, end = at + rows * 2; at < end; at += 2) {
      halves[at] = low
      halves[at + 1] = high
    }
  }

  protected grow(rows: number): void {
    const larger = new Int32Array(rows * 2)
    larger.set(this.halves)
    this.halves = larger
  }

  get bytes(): number {
    return this.length * 8
  }

  get held(): number {
    return this.halves.byteLength
  }

  finish(): Arrow.Data {
    const { halves, length } = this
    const { buffer } = halves.slice(0, length * 2)
    const unsigned = DataType.isInt(this.type) && !this.type.isSigned
    const data = unsigned ? new BigUint64Array(buffer) : new BigInt64Array(buffer)
    halves.fill(0, 0, length * 2)
    // As in NumberColumn: the constructor's caller chose a 64-bit type.
    return makeData({ type: this.type as Arrow.Int64, data: data as BigInt64Array, ...this.takeValidity() })
  }
}

/** Booleans, one bit each. */
export class BoolColumn extends Validity {
  private bits: Uint8Array = new Uint8Array(0)

  append(value: boolean): void {
    const row = this.begin()
    if (value) this.bits[row >> 3] = (this.bits[row >> 3] as number) | (1 << (row & 7)) // in range
  }

  protected grow(rows: number): void {
    const larger = new Uint8Array(rows >> 3)
    larger.set(this.bits)
    this.bits = larger
  }

  get bytes(): number {
    return (this.length + 7) >> 3
  }

  get held(): number {
    return this.bits.byteLength
  }

  finish(): Arrow.Data {
    const { bits } = this
    const used = (this.length + 7) >> 3
    const data = bits.slice(0, used)
    bits.fill(0, 0, used)
    return makeData({ type: new Bool(), data, ...this.takeValidity() })
  }
}

/** Text (UTF-8) or bytes of any length. */
export class BytesColumn extends Validity {
  private offsets = new Int32Array(1)
  private data: Uint8Array = new Uint8Array(0)
  private view = ByteCopy.viewOf(this.data)
  private used = 0
  private readonly type: Arrow.Utf8 | Arrow.Binary

  constructor(type: Arrow.Utf8 | Arrow.Binary) {
    super()
    this.type = type
  }

  /** Appends the bytes `source[start, end)`. */
  append(source: Uint8Array, start: number, end: number): void {
    this.copy(viewOf(source), start, end)
  }

  /** The same from a view of them. */
  copy(source: DataView, start: number, end: number): void {
    const at = this.reserve(end - start)
    ByteCopy.copy(this.view, at, source, start, end)
    this.commit(at + end - start)
  }

  /**
   * Makes room for a value of at most `length` bytes and returns where it begins in `target`; the value ends with `commit`.
   * For values that are produced in place, such as unescaped text. `target` must be read again after each call.
   */
  reserve(length: number): number {
    const needed = this.used + length
    if (needed > this.data.length) {
      if (needed > 0x7fffffff) throw new RangeError("A column of one batch can't hold more than 2 GiB")
      const larger = new Uint8Array(Math.min(0x7fffffff, Math.max(needed, this.data.length * 2, initialRows * 16)))
      larger.set(this.data.subarray(0, this.used))
      this.hold(larger)
    }
    return this.used
  }

  get target(): Uint8Array {
    return this.data
  }

  private hold(data: Uint8Array): void {
    this.data = data
    this.view = ByteCopy.viewOf(data)
  }

  /** Ends the value begun by `reserve` at `end` in `target`. */
  commit(end: number): void {
    const row = this.begin()
    this.used = end
    this.offsets[row + 1] = end
  }

  override appendNull(): void {
    this.appendNulls(1)
  }

  appendNulls(rows: number): void {
    this.beginNulls(rows)
    this.offsets.fill(this.used, this.length - rows + 1, this.length + 1)
  }

  protected grow(rows: number): void {
    const larger = new Int32Array(rows + 1)
    larger.set(this.offsets)
    this.offsets = larger
  }

  get bytes(): number {
    return this.used + this.length * 4
  }

  get held(): number {
    return this.data.byteLength + this.offsets.byteLength
  }

  finish(): Arrow.Data {
    const { data: filled, length, used } = this
    // The first offset is always 0, and those of nulls are written.
    const valueOffsets = this.offsets.slice(0, length + 1)
    const isLarge = filled.length > largestKept
    const data = isLarge && used * 2 > filled.length ? filled.subarray(0, used) : filled.slice(0, used)
    if (isLarge) this.hold(new Uint8Array(0))
    this.used = 0
    const validity = this.takeValidity()
    return this.type.typeId === Type.Binary
      ? makeData({ type: new Binary(), valueOffsets, data, ...validity })
      : makeData({ type: new Utf8(), valueOffsets, data, ...validity })
  }
}

export type ColumnBuilder =
  | NumberColumn<Int8Array>
  | NumberColumn<Uint8Array>
  | NumberColumn<Int16Array>
  | NumberColumn<Int32Array>
  | NumberColumn<Float32Array>
  | NumberColumn<Float64Array>
  | Int64Column
  | BoolColumn
  | BytesColumn

/** The builder for an Arrow type that `LogicalType.arrowType` or `ChangeBatch.arrowSchema` uses. */
export const make = (type: Arrow.DataType): ColumnBuilder => {
  if (DataType.isBool(type)) return new BoolColumn()
  if (DataType.isUtf8(type) || DataType.isBinary(type)) return new BytesColumn(type)
  if (DataType.isTime(type) || DataType.isTimestamp(type)) return new Int64Column(type)
  if (DataType.isDate(type)) return new NumberColumn(type, (rows) => new Int32Array(rows))
  if (DataType.isFloat(type)) {
    return type.precision === Precision.DOUBLE
      ? new NumberColumn(type, (rows) => new Float64Array(rows))
      : new NumberColumn(type, (rows) => new Float32Array(rows))
  }
  if (DataType.isInt(type)) {
    switch (type.bitWidth) {
      case 64:
        return new Int64Column(type)
      case 32:
        return new NumberColumn(type, (rows) => new Int32Array(rows))
      case 16:
        return new NumberColumn(type, (rows) => new Int16Array(rows))
      case 8:
        return type.isSigned
          ? new NumberColumn(type, (rows) => new Int8Array(rows))
          : new NumberColumn(type, (rows) => new Uint8Array(rows))
    }
  }
  throw new TypeError(`No column builder for the Arrow type ${type}`)
}
