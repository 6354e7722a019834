/**
 * Decodes PostgreSQL's text format straight into column builders.
 *
 * Each decoder walks the value's bytes once; numbers, dates and times are put together in doubles and 32-bit halves, so
 * no string, BigInt or Date is made for a value (floats of more than 15 digits, which only JavaScript's own parser rounds
 * correctly, are the exception). The session must use DateStyle ISO; offsets other than UTC are understood.
 */
import type { BoolColumn, BytesColumn, Int64Column, NumberColumn } from "@etl-stream/core/ColumnBuilder"
import { dateInfinity, dateNegativeInfinity, type LogicalType } from "@etl-stream/core/LogicalType"
import { charArrayFromText, charFromText } from "./internal/charValues.ts"
import {
  appendProduct,
  copyBytes,
  daysFromCivil,
  malformed,
  microsecondsPerDay,
  outOfRange,
  type ValueDecoder
} from "./internal/valueDecoder.ts"
import { Oid, type PostgresType } from "./PostgresType.ts"

export { type ValueDecoder, ValueError } from "./internal/valueDecoder.ts"

const zero = 0x30
const minus = 0x2d
const plus = 0x2b
const point = 0x2e
const colon = 0x3a
const space = 0x20
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

const digitsOf = (bytes: Uint8Array, start: number, end: number, what: string): number => {
  let value = 0
  for (let at = start; at < end; at++) {
    const digit = (bytes[at] as number) - zero // in range
    if (digit < 0 || digit > 9) malformed(what)
    value = value * 10 + digit
  }
  return value
}

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

const matches = (bytes: Uint8Array, start: number, end: number, word: string): boolean => {
  if (end - start !== word.length) return false
  for (let index = 0; index < word.length; index++) if (bytes[start + index] !== word.charCodeAt(index)) return false
  return true
}

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

const twoDigits = (bytes: Uint8Array, at: number, what: string): number => {
  const tens = (bytes[at] as number) - zero // the caller has checked the length
  const ones = (bytes[at + 1] as number) - zero // the same
  if (tens < 0 || tens > 9 || ones < 0 || ones > 9) malformed(what)
  return tens * 10 + ones
}

const isBc = (bytes: Uint8Array, end: number): boolean =>
  bytes[end - 3] === space && bytes[end - 2] === 0x42 && bytes[end - 1] === 0x43

/** Days since 1970-01-01 of `year-month-day` in `bytes[start, end)`, the year with four to seven digits. */
const parseDays = (bytes: Uint8Array, start: number, end: number, bc: boolean, what: string): number => {
  const yearEnd = end - 6
  if (yearEnd - start < 4 || yearEnd - start > 7 || bytes[yearEnd] !== minus || bytes[yearEnd + 3] !== minus) {
    malformed(what)
  }
  const year = digitsOf(bytes, start, yearEnd, what)
  const month = twoDigits(bytes, yearEnd + 1, what)
  const day = twoDigits(bytes, yearEnd + 4, what)
  if (year === 0 || month < 1 || month > 12 || day < 1 || day > 31) malformed(what)
  return daysFromCivil(bc ? 1 - year : year, month, day)
}

/** -1, 0 or 1 as the value is `-infinity`, finite or `infinity`. */
const infinitySign = (bytes: Uint8Array, start: number, end: number): number =>
  bytes[start] === 0x69 && matches(bytes, start, end, "infinity")
    ? 1
    : bytes[start] === minus && matches(bytes, start, end, "-infinity")
    ? -1
    : 0

const date: ValueDecoder = (column, bytes, start, end) => {
  const target = column as NumberColumn<Int32Array>
  const infinity = infinitySign(bytes, start, end)
  if (infinity !== 0) {
    target.append(infinity > 0 ? dateInfinity : dateNegativeInfinity)
    return
  }
  const bc = end - start > 10 && isBc(bytes, end)
  const days = parseDays(bytes, start, bc ? end - 3 : end, bc, "date")
  if (days >= dateInfinity || days <= dateNegativeInfinity) malformed("date")
  target.append(days)
}

const fractionUnits = [1_000_000, 100_000, 10_000, 1_000, 100, 10, 1]

/** Microseconds since midnight of `hh:mm:ss[.ffffff]`. */
const parseTime = (bytes: Uint8Array, start: number, end: number, what: string): number => {
  const digits = end - start - 9
  if (end - start < 8 || digits === 0 || digits > 6 || bytes[start + 2] !== colon || bytes[start + 5] !== colon) {
    malformed(what)
  }
  const hours = twoDigits(bytes, start, what)
  const minutes = twoDigits(bytes, start + 3, what)
  const seconds = twoDigits(bytes, start + 6, what)
  if (hours > 24 || minutes > 59 || seconds > 59) malformed(what)
  let fraction = 0
  if (digits > 0) {
    if (bytes[start + 8] !== point) malformed(what)
    fraction = digitsOf(bytes, start + 9, end, what) * (fractionUnits[digits] as number) // 1 to 6 digits
  }
  return ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + fraction
}

const time: ValueDecoder = (column, bytes, start, end) => {
  const value = parseTime(bytes, start, end, "time")
  if (value > microsecondsPerDay) malformed("time")
  const target = column as Int64Column
  target.appendNumber(value)
}

/** Seconds of `hh[:mm[:ss]]`, the digits of an offset from UTC. */
const parseOffset = (bytes: Uint8Array, start: number, end: number): number => {
  const length = end - start
  if (length !== 2 && length !== 5 && length !== 8) malformed("timestamp")
  let seconds = twoDigits(bytes, start, "timestamp") * 3600
  for (let at = start + 2, unit = 60; at < end; at += 3, unit = 1) {
    if (bytes[at] !== colon) malformed("timestamp")
    seconds += twoDigits(bytes, at + 1, "timestamp") * unit
  }
  return seconds
}

/**
 * `date time[offset][ BC]`. PostgreSQL counts from 2000 and we from 1970, so the last 30 of its 294,276 years don't
 * fit, and the int64 extremes mean ±infinity.
 */
const timestamp = (utc: boolean): ValueDecoder => (column, bytes, start, end) => {
  const target = column as Int64Column
  const infinity = infinitySign(bytes, start, end)
  if (infinity !== 0) {
    if (infinity > 0) target.append(0x7fffffff, 0xffffffff)
    else target.append(-0x80000000, 0)
    return
  }
  const bc = end - start > 19 && isBc(bytes, end)
  const stop = bc ? end - 3 : end
  let middle = start
  while (middle < stop && bytes[middle] !== space) middle++
  if (stop - middle < 9) malformed("timestamp")
  let timeEnd = middle + 9
  while (timeEnd < stop && bytes[timeEnd] !== plus && bytes[timeEnd] !== minus) timeEnd++
  if ((timeEnd < stop) !== utc) malformed("timestamp")
  const days = parseDays(bytes, start, middle, bc, "timestamp")
  const micros = parseTime(bytes, middle + 1, timeEnd, "timestamp")
  const offset = !utc ? 0 : parseOffset(bytes, timeEnd + 1, stop) * (bytes[timeEnd] === minus ? -1 : 1)
  const fraction = micros % 1_000_000
  const seconds = days * 86_400 - offset + (micros - fraction) / 1_000_000
  // The last second before infinity is given up, which is simpler than a comparison of 64 bits.
  if (seconds >= 9_223_372_036_854 || !appendProduct(target, seconds, 1_000_000, fraction)) outOfRange("timestamp")
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

const plainTimestamp = timestamp(false)
const utcTimestamp = timestamp(true)

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
