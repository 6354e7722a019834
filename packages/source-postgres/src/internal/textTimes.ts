/**
 * Dates, times and timestamps in PostgreSQL's text format, DateStyle ISO, with any offset from UTC.
 */
import type { Int64Column, NumberColumn } from "@etl-stream/core/ColumnBuilder"
import { dateInfinity, dateNegativeInfinity } from "@etl-stream/core/LogicalType"
import { uint32At } from "./frameBuffer.ts"
import {
  appendProduct,
  daysFromCivil,
  digitsOf,
  malformed,
  matches,
  microsecondsPerDay,
  outOfRange,
  type ValueDecoder
} from "./valueDecoder.ts"

const zero = 0x30
const minus = 0x2d
const plus = 0x2b
const point = 0x2e
const colon = 0x3a
const space = 0x20

// A logical type's column builder is fixed by `LogicalType.arrowType`, which is why the casts below are safe.

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

export const date: ValueDecoder = (column, bytes, start, end) => {
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

/** Seconds since midnight of `hh:mm:ss`, which something may follow. */
const parseSeconds = (bytes: Uint8Array, start: number, end: number, what: string): number => {
  if (end - start < 8 || bytes[start + 2] !== colon || bytes[start + 5] !== colon) malformed(what)
  const hours = twoDigits(bytes, start, what)
  const minutes = twoDigits(bytes, start + 3, what)
  const seconds = twoDigits(bytes, start + 6, what)
  if (hours > 24 || minutes > 59 || seconds > 59) malformed(what)
  return (hours * 60 + minutes) * 60 + seconds
}

/** Microseconds of `.ffffff` in `bytes[start, end)`, of which there may be less or nothing. */
const parseFraction = (bytes: Uint8Array, start: number, end: number, what: string): number => {
  const digits = end - start - 1
  if (digits < 0) return 0
  if (digits === 0 || digits > 6 || bytes[start] !== point) malformed(what)
  return digitsOf(bytes, start + 1, end, what) * (fractionUnits[digits] as number) // 1 to 6 digits
}

/** Microseconds since midnight of `hh:mm:ss[.ffffff]`. Its parts are small integers, this is not: V8 makes an object of it wherever it doesn't inline so small a function. */
const parseTime = (bytes: Uint8Array, start: number, end: number, what: string): number =>
  parseSeconds(bytes, start, end, what) * 1_000_000 + parseFraction(bytes, start + 8, end, what)

export const time: ValueDecoder = (column, bytes, start, end) => {
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

/** Days around 1970 whose microseconds are integers that a double holds exactly. */
const exactDays = 104_000

/**
 * `date time[offset][ BC]` of any form. PostgreSQL counts from 2000 and we from 1970, so the last 30 of its 294,276 years don't
 * fit, and the int64 extremes mean ±infinity.
 */
const anyTimestamp = (target: Int64Column, bytes: Uint8Array, start: number, end: number, utc: boolean): void => {
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

/**
 * Nearly all timestamps are of the form `YYYY-MM-DD hh:mm:ss[.ffffff]`, with `+hh` where they have an offset, and of the day of the one before; these take
 * a third of the time that the others do.
 */
const timestamp = (utc: boolean): ValueDecoder => {
  let lastYear = 0
  let lastMonth = 0
  // What no two bytes are.
  let lastDay = -1
  let lastDays = 0
  return (column, bytes, start, end) => {
    const target = column as Int64Column
    const timeEnd = utc ? end - 3 : end
    if (
      timeEnd - start < 19 || bytes[start + 4] !== minus || bytes[start + 7] !== minus ||
      bytes[start + 10] !== space || bytes[end - 1] === 0x43 ||
      (utc && bytes[timeEnd] !== plus && bytes[timeEnd] !== minus)
    ) {
      anyTimestamp(target, bytes, start, end, utc)
      return
    }
    // The bytes of its digits.
    const year = uint32At(bytes, start)
    const month = (bytes[start + 5] as number) << 8 | (bytes[start + 6] as number) // its length was checked
    const day = (bytes[start + 8] as number) << 8 | (bytes[start + 9] as number) // the same
    if (day !== lastDay || month !== lastMonth || year !== lastYear) {
      const days = parseDays(bytes, start, start + 10, false, "timestamp")
      if (days <= -exactDays || days >= exactDays) {
        anyTimestamp(target, bytes, start, end, utc)
        return
      }
      lastYear = year
      lastMonth = month
      lastDay = day
      lastDays = days
    }
    const micros = parseTime(bytes, start + 11, timeEnd, "timestamp")
    const hours = utc ? twoDigits(bytes, timeEnd + 1, "timestamp") : 0
    target.appendNumber(
      lastDays * microsecondsPerDay + micros + (utc && bytes[timeEnd] === plus ? -hours : hours) * 3_600_000_000
    )
  }
}

export const plainTimestamp = timestamp(false)
export const utcTimestamp = timestamp(true)
