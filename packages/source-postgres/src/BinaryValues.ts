/**
 * Decodes PostgreSQL's binary format (`…send` functions) into the same Arrow values as `TextValues` does its text.
 *
 * Used by the snapshot (`COPY … (FORMAT binary)`) and by pgoutput with `binary`. Types whose binary form says less than
 * their text, or would have to be printed as PostgreSQL prints them (intervals, arrays, ranges, extension types), have no
 * decoder: a snapshot selects them cast to text.
 */
import type { BoolColumn, BytesColumn, Int64Column, NumberColumn } from "@etl-stream/core/ColumnBuilder"
import { dateInfinity, dateNegativeInfinity } from "@etl-stream/core/LogicalType"
import { charFromBinary } from "./internal/charValues.ts"
import { copyBytes, malformed, microsecondsPerDay, outOfRange, type ValueDecoder } from "./internal/valueDecoder.ts"
import { Oid, type PostgresType } from "./PostgresType.ts"

// A logical type's column builder is fixed by `LogicalType.arrowType`, and every decoder checks the length first: that
// is why the casts below are safe.

const byteAt = (bytes: Uint8Array, at: number): number => bytes[at] as number

const int32At = (bytes: Uint8Array, at: number): number =>
  byteAt(bytes, at) << 24 | byteAt(bytes, at + 1) << 16 | byteAt(bytes, at + 2) << 8 | byteAt(bytes, at + 3)

const uint16At = (bytes: Uint8Array, at: number): number => byteAt(bytes, at) << 8 | byteAt(bytes, at + 1)

const bool: ValueDecoder = (column, bytes, start, end) => {
  if (end - start !== 1) malformed("boolean")
  const target = column as BoolColumn
  target.append(byteAt(bytes, start) !== 0)
}

const int16: ValueDecoder = (column, bytes, start, end) => {
  if (end - start !== 2) malformed("smallint")
  const target = column as NumberColumn<Int16Array>
  target.append(uint16At(bytes, start))
}

const int32: ValueDecoder = (column, bytes, start, end) => {
  if (end - start !== 4) malformed("integer")
  const target = column as NumberColumn<Int32Array>
  target.append(int32At(bytes, start))
}

const int64: ValueDecoder = (column, bytes, start, end) => {
  if (end - start !== 8) malformed("bigint")
  const target = column as Int64Column
  target.append(int32At(bytes, start), int32At(bytes, start + 4))
}

const scratch = new DataView(new ArrayBuffer(8))

const float32: ValueDecoder = (column, bytes, start, end) => {
  if (end - start !== 4) malformed("real")
  scratch.setInt32(0, int32At(bytes, start))
  const target = column as NumberColumn<Float32Array>
  target.append(scratch.getFloat32(0))
}

const float64: ValueDecoder = (column, bytes, start, end) => {
  if (end - start !== 8) malformed("double precision number")
  scratch.setInt32(0, int32At(bytes, start))
  scratch.setInt32(4, int32At(bytes, start + 4))
  const target = column as NumberColumn<Float64Array>
  target.append(scratch.getFloat64(0))
}

/** From 1970-01-01 to 2000-01-01, PostgreSQL's epoch, in days. */
const epochDays = 10_957

const date: ValueDecoder = (column, bytes, start, end) => {
  if (end - start !== 4) malformed("date")
  const days = int32At(bytes, start)
  const target = column as NumberColumn<Int32Array>
  if (days === dateInfinity || days === dateNegativeInfinity) target.append(days)
  else {
    if (days >= dateInfinity - epochDays) malformed("date")
    target.append(days + epochDays)
  }
}

const time: ValueDecoder = (column, bytes, start, end) => {
  if (end - start !== 8) malformed("time")
  const value = int32At(bytes, start) * 0x100000000 + (int32At(bytes, start + 4) >>> 0)
  if (value < 0 || value > microsecondsPerDay) malformed("time")
  const target = column as Int64Column
  target.appendNumber(value)
}

/** From 1970-01-01 to 2000-01-01 in microseconds, 946,684,800,000,000, as two halves. */
const epochHigh = 220_417
const epochLow = 946_684_800_000_000 - epochHigh * 0x100000000

/** 9,223,372,036,854 seconds, where `TextValues` stops too, in microseconds: high half and low half. */
const limitHigh = 0x7fffffff
const limitLow = 0xfff4_2980

const timestamp: ValueDecoder = (column, bytes, start, end) => {
  if (end - start !== 8) malformed("timestamp")
  const target = column as Int64Column
  const high = int32At(bytes, start)
  const low = int32At(bytes, start + 4) >>> 0
  if ((high === 0x7fffffff && low === 0xffffffff) || (high === -0x80000000 && low === 0)) target.append(high, low)
  else {
    const sum = low + epochLow
    const shifted = high + epochHigh + (sum >= 0x100000000 ? 1 : 0)
    const shiftedLow = sum >>> 0
    if (shifted > limitHigh || (shifted === limitHigh && shiftedLow >= limitLow)) outOfRange("timestamp")
    target.append(shifted, shiftedLow)
  }
}

const word = (text: string): Uint8Array => new TextEncoder().encode(text)
const numericNaN = word("NaN")
const numericInfinity = word("Infinity")
const numericNegativeInfinity = word("-Infinity")

/** Base-10000 digit number `index`, 0 where the number has none. */
const numericDigit = (bytes: Uint8Array, start: number, index: number, count: number): number => {
  if (index < 0 || index >= count) return 0
  const digit = uint16At(bytes, start + 8 + index * 2)
  return digit > 9999 ? malformed("numeric") : digit
}

/**
 * `numeric_send`: count of base-10000 digits, weight of the first, sign, number of decimals to show, digits. Written as
 * `numeric_out` writes it: no leading zeros, exactly `dscale` decimals.
 */
const numeric: ValueDecoder = (column, bytes, start, end) => {
  if (end - start < 8) malformed("numeric")
  const target = column as BytesColumn
  const count = uint16At(bytes, start)
  const weight = uint16At(bytes, start + 2) << 16 >> 16
  const sign = uint16At(bytes, start + 4)
  const decimals = uint16At(bytes, start + 6)
  if (sign === 0xc000) return target.append(numericNaN, 0, numericNaN.length)
  if (sign === 0xd000) return target.append(numericInfinity, 0, numericInfinity.length)
  if (sign === 0xf000) return target.append(numericNegativeInfinity, 0, numericNegativeInfinity.length)
  if ((sign !== 0 && sign !== 0x4000) || decimals > 0x3fff || end - start !== 8 + count * 2) malformed("numeric")

  let to = target.reserve((weight < 0 ? 1 : (weight + 1) * 4) + decimals + 6)
  const into = target.target
  if (sign === 0x4000) into[to++] = 0x2d
  if (weight < 0) into[to++] = 0x30
  else {
    for (let index = 0; index <= weight; index++) {
      const digit = numericDigit(bytes, start, index, count)
      if (index > 0 || digit >= 1000) into[to++] = 0x30 + (digit / 1000 | 0)
      if (index > 0 || digit >= 100) into[to++] = 0x30 + (digit / 100 | 0) % 10
      if (index > 0 || digit >= 10) into[to++] = 0x30 + (digit / 10 | 0) % 10
      into[to++] = 0x30 + digit % 10
    }
  }
  if (decimals > 0) {
    into[to++] = 0x2e
    const stop = to + decimals
    // The last group may reach past `decimals`; the room reserved covers it and it is cut off.
    for (let index = weight + 1; to < stop; index++) {
      const digit = numericDigit(bytes, start, index, count)
      into[to++] = 0x30 + (digit / 1000 | 0)
      into[to++] = 0x30 + (digit / 100 | 0) % 10
      into[to++] = 0x30 + (digit / 10 | 0) % 10
      into[to++] = 0x30 + digit % 10
    }
    to = stop
  }
  target.commit(to)
}

const hexDigits = word("0123456789abcdef")

const uuid: ValueDecoder = (column, bytes, start, end) => {
  if (end - start !== 16) malformed("uuid")
  const target = column as BytesColumn
  let to = target.reserve(36)
  const into = target.target
  for (let index = 0; index < 16; index++) {
    if (index === 4 || index === 6 || index === 8 || index === 10) into[to++] = 0x2d
    const byte = byteAt(bytes, start + index)
    into[to++] = byteAt(hexDigits, byte >> 4)
    into[to++] = byteAt(hexDigits, byte & 15)
  }
  target.commit(to)
}

/** `jsonb_send`: a version byte, 1, then the text. */
const jsonb: ValueDecoder = (column, bytes, start, end) => {
  if (end - start < 1 || byteAt(bytes, start) !== 1) malformed("jsonb (version 1)")
  copyBytes(column, bytes, start + 1, end)
}

/** The decoder for values of `type` in binary format, undefined when there is none (have the server cast it to text). */
export const decoder = (type: PostgresType): ValueDecoder | undefined => {
  switch (type.type._tag) {
    case "Boolean":
      return bool
    case "Int16":
      return int16
    case "Int32":
      return int32
    case "Int64":
      return int64
    case "Float32":
      return float32
    case "Float64":
      return float64
    case "Decimal":
      return numeric
    case "Text":
      return type.wireType === Oid.char ? charFromBinary : copyBytes
    case "Binary":
      return copyBytes
    case "Uuid":
      return uuid
    case "Date":
      return date
    case "Time":
      return time
    case "Timestamp":
      return timestamp
    case "Json":
      return type.wireType === Oid.jsonb ? jsonb : copyBytes
    case "Array":
    case "Interval":
    case "Other":
      return undefined
  }
}
