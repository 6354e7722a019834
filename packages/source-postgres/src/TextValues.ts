/**
 * Decodes PostgreSQL's text format straight into column builders.
 *
 * Each decoder walks the value's bytes once; numbers, dates and times are put together in doubles and 32-bit halves, so
 * no string, BigInt or Date is made for a value (floats of more than 15 digits, which only JavaScript's own parser rounds
 * correctly, are the exception). The session must use DateStyle ISO; offsets other than UTC are understood.
 */
import type { BoolColumn, BytesColumn, Int64Column, NumberColumn } from "@etl-stream/core/ColumnBuilder"
import type { LogicalType } from "@etl-stream/core/LogicalType"
import { charArrayFromText, charFromText } from "./internal/charValues.ts"
import { date, plainTimestamp, time, utcTimestamp } from "./internal/textTimes.ts"
import { appendProduct, copyBytes, digitsOf, malformed, matches, type ValueDecoder } from "./internal/valueDecoder.ts"
import { Oid, type PostgresType } from "./PostgresType.ts"

export { type ValueDecoder, ValueError } from "./internal/valueDecoder.ts"

const zero = 0x30
const minus = 0x2d
const plus = 0x2b
const point = 0x2e
const backslash = 0x5c

// A logical type's column builder is fixed by `LogicalType.arrowType`, which is why the casts below are safe.

const bool: ValueDecoder = (column, bytes, start, end) => {
  const byte = bytes[start]
  if (end - start !== 1 || (byte !== 0x74 && byte !== 0x66)) malformed("boolean")
  const target = column as BoolColumn
  target.append(byte === 0x74)
}

const integer = (minimum: number, maximum: number): ValueDecoder => (column, bytes, start, end) => {
  let at = start
  const negative = bytes[at] === minus
  if (negative) at++
  if (at >= end || end - at > 10) malformed("integer")
  let value = 0
  for (; at < end; at++) {
    const digit = (bytes[at] as number) - zero // in range
    if (digit < 0 || digit > 9) malformed("integer")
    value = value * 10 + digit
  }
  if (negative) value = -value
  if (value < minimum || value > maximum) malformed("integer")
  const target = column as NumberColumn<Int32Array>
  target.append(value)
}

const int16 = integer(-0x8000, 0x7fff)
const int32 = integer(-0x80000000, 0x7fffffff)

const int64: ValueDecoder = (column, bytes, start, end) => {
  const target = column as Int64Column
  const negative = bytes[start] === minus
  const at = negative ? start + 1 : start
  const digits = end - at
  if (digits < 1 || digits > 19) malformed("bigint")
  if (digits <= 15) {
    const value = digitsOf(bytes, at, end, "bigint")
    target.appendNumber(negative ? -value : value)
    return
  }
  const split = end - 9
  const high = digitsOf(bytes, at, split, "bigint")
  const low = digitsOf(bytes, split, end, "bigint")
  // -(high * 10^9 + low) with a rest that isn't negative.
  const fits = !negative
    ? appendProduct(target, high, 1e9, low)
    : low === 0
    ? appendProduct(target, -high, 1e9, 0)
    : appendProduct(target, -high - 1, 1e9, 1e9 - low)
  if (!fits) malformed("bigint")
}

const powersOfTen = [
  1,
  1e1,
  1e2,
  1e3,
  1e4,
  1e5,
  1e6,
  1e7,
  1e8,
  1e9,
  1e10,
  1e11,
  1e12,
  1e13,
  1e14,
  1e15,
  1e16,
  1e17,
  1e18,
  1e19,
  1e20,
  1e21,
  1e22
]

const floatPattern = /^-?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i

/** The slow path: names of special values, and numbers that need correct rounding of more than 15 digits. */
const floatFromText = (bytes: Uint8Array, start: number, end: number): number => {
  if (matches(bytes, start, end, "NaN")) return NaN
  if (matches(bytes, start, end, "Infinity")) return Infinity
  if (matches(bytes, start, end, "-Infinity")) return -Infinity
  // Bounded: the longest float that PostgreSQL writes has 24 characters.
  const text = end - start > 64 ? "" : String.fromCharCode(...bytes.subarray(start, end))
  const value = floatPattern.test(text) ? Number(text) : Infinity
  return Number.isFinite(value) ? value : malformed("floating-point number")
}

/**
 * An integer of at most 15 digits times or divided by a power of ten up to 10^22: both are exact doubles, so one
 * operation rounds correctly (Clinger, "How to read floating point numbers accurately", 1990).
 */
const parseFloat64 = (bytes: Uint8Array, start: number, end: number): number => {
  let at = start
  const negative = bytes[at] === minus
  if (negative) at++
  let mantissa = 0
  let digits = 0
  let fraction = -1
  for (; at < end; at++) {
    const byte = bytes[at] as number // in range
    const digit = byte - zero
    if (digit >= 0 && digit <= 9) {
      mantissa = mantissa * 10 + digit
      digits++
      if (fraction >= 0) fraction++
    } else if (byte === point && fraction < 0) fraction = 0
    else break
  }
  if (digits === 0 || digits > 15) return floatFromText(bytes, start, end)
  let exponent = fraction > 0 ? -fraction : 0
  if (at < end) {
    if ((bytes[at] as number | 0x20) !== 0x65) return floatFromText(bytes, start, end)
    at++
    const sign = bytes[at]
    if (sign === minus || sign === plus) at++
    if (at >= end || end - at > 3) return floatFromText(bytes, start, end)
    const given = digitsOf(bytes, at, end, "floating-point number")
    exponent += sign === minus ? -given : given
  }
  if (exponent < -22 || exponent > 22) return floatFromText(bytes, start, end)
  const value = exponent < 0
    ? mantissa / (powersOfTen[-exponent] as number) // in range
    : mantissa * (powersOfTen[exponent] as number) // the same
  return negative ? -value : value
}

const float: ValueDecoder = (column, bytes, start, end) => {
  const target = column as NumberColumn<Float64Array>
  target.append(parseFloat64(bytes, start, end))
}

const nibble = (byte: number): number => {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30
  const letter = byte | 0x20
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1
}

const escapedBytea = (target: BytesColumn, bytes: Uint8Array, start: number, end: number): void => {
  let to = target.reserve(end - start)
  const into = target.target
  for (let at = start; at < end;) {
    const byte = bytes[at] as number // in range
    if (byte !== backslash) {
      into[to++] = byte
      at++
    } else if (at + 1 < end && bytes[at + 1] === backslash) {
      into[to++] = backslash
      at += 2
    } else {
      if (end - at < 4) malformed("bytea")
      const a = (bytes[at + 1] as number) - zero // four bytes are there
      const b = (bytes[at + 2] as number) - zero // the same
      const c = (bytes[at + 3] as number) - zero // the same
      if (a < 0 || a > 3 || b < 0 || b > 7 || c < 0 || c > 7) malformed("bytea")
      into[to++] = a * 64 + b * 8 + c
      at += 4
    }
  }
  target.commit(to)
}

const bytea: ValueDecoder = (column, bytes, start, end) => {
  const target = column as BytesColumn
  // In the escape format a backslash is followed by another or by digits, so `\x` is always the hex format.
  if (bytes[start] !== backslash || end - start < 2 || bytes[start + 1] !== 0x78) {
    escapedBytea(target, bytes, start, end)
    return
  }
  if ((end - start) % 2 !== 0) malformed("bytea")
  let to = target.reserve((end - start) / 2 - 1)
  const into = target.target
  for (let at = start + 2; at < end; at += 2) {
    const high = nibble(bytes[at] as number) // in range, the length is even
    const low = nibble(bytes[at + 1] as number) // the same
    if (high < 0 || low < 0) malformed("bytea")
    into[to++] = high << 4 | low
  }
  target.commit(to)
}

const uuid: ValueDecoder = (column, bytes, start, end) => {
  if (end - start !== 36) malformed("uuid")
  copyBytes(column, bytes, start, end)
}

/**
 * The decoder for values of `type` in text format. `Decimal`, `Text`, `Json`, `Array`, `Interval` and `Other` are the
 * server's text, copied.
 */
export const decoder = (type: LogicalType): ValueDecoder => {
  switch (type._tag) {
    case "Boolean":
      return bool
    case "Int16":
      return int16
    case "Int32":
      return int32
    case "Int64":
      return int64
    case "Float32":
    case "Float64":
      return float
    case "Binary":
      return bytea
    case "Uuid":
      return uuid
    case "Date":
      return date
    case "Time":
      return time
    case "Timestamp":
      return type.utc ? utcTimestamp : plainTimestamp
    case "Decimal":
    case "Text":
    case "Json":
    case "Array":
    case "Interval":
    case "Other":
      return copyBytes
  }
}

/** The decoder for values of a column of PostgreSQL type `type`: that of its logical type, but for `"char"`. */
export const decoderOf = (type: PostgresType): ValueDecoder =>
  type.wireType === Oid.char ? charFromText : type.wireType === Oid._char ? charArrayFromText : decoder(type.type)
