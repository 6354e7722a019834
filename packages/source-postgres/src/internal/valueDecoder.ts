/**
 * What the text and the binary decoder have in common: the shape of a value decoder, its failure, and 64-bit integers
 * put together from doubles, so that no value needs a BigInt.
 */
import type { ColumnBuilder, Int64Column } from "@etl-stream/core/ColumnBuilder"

/**
 * Appends the value in `bytes[start, end)` to `column`, exactly one value, or throws a `ValueError`. `column` must be the
 * builder that core makes for the decoder's logical type.
 */
export type ValueDecoder = (column: ColumnBuilder, bytes: Uint8Array, start: number, end: number) => void

/**
 * A value that can't be decoded. `Malformed`: its bytes aren't a value of its type; `OutOfRange`: PostgreSQL can hold
 * it, its logical type can't. It never carries the value.
 */
export class ValueError extends Error {
  readonly reason: "Malformed" | "OutOfRange"

  constructor(reason: "Malformed" | "OutOfRange", message: string) {
    super(message)
    this.name = "ValueError"
    this.reason = reason
  }
}

export const malformed = (what: string): never => {
  throw new ValueError("Malformed", `not a valid ${what}`)
}

export const outOfRange = (what: string): never => {
  throw new ValueError("OutOfRange", `a ${what} beyond what can be represented`)
}

/** Copies bytes as they are: text, JSON, and every type that is carried as the server's text. */
export const copyBytes: ValueDecoder = (column, bytes, start, end) => {
  // Utf8 and Binary columns are built by a BytesColumn.
  const target = column as Extract<ColumnBuilder, { readonly reserve: unknown }>
  target.append(bytes, start, end)
}

/** The number whose decimal digits stand in `bytes[start, end)`: at most 15, to be exact. */
export const digitsOf = (bytes: Uint8Array, start: number, end: number, what: string): number => {
  let value = 0
  for (let at = start; at < end; at++) {
    const digit = (bytes[at] as number) - 0x30 // in range
    if (digit < 0 || digit > 9) malformed(what)
    value = value * 10 + digit
  }
  return value
}

/** Whether `word` stands in `bytes[start, end)`. */
export const matches = (bytes: Uint8Array, start: number, end: number, word: string): boolean => {
  if (end - start !== word.length) return false
  for (let index = 0; index < word.length; index++) if (bytes[start + index] !== word.charCodeAt(index)) return false
  return true
}

const two16 = 0x10000
const two32 = 0x100000000
/** Below this a product of integers, and its sum with a `rest`, is exact. */
const exactLimit = 2 ** 52

/**
 * Appends `value * factor + rest`; `value` is an integer below 2^44 in magnitude, `factor` at most 10^9, `rest` from 0 to
 * below 2^32. False, with nothing appended, when the result doesn't fit into an int64.
 */
export const appendProduct = (column: Int64Column, value: number, factor: number, rest: number): boolean => {
  const product = value * factor
  if (product < exactLimit && product > -exactLimit) {
    column.appendNumber(product + rest)
    return true
  }
  // value = high * 2^16 + low, so every product below is an integer that a double holds exactly.
  const high = Math.floor(value / two16)
  const low = value - high * two16
  const upper = high * factor
  const upperHigh = Math.floor(upper / two16)
  const sum = (upper - upperHigh * two16) * two16 + low * factor + rest
  const carried = Math.floor(sum / two32)
  const resultHigh = upperHigh + carried
  if (resultHigh > 0x7fffffff || resultHigh < -0x80000000) return false
  column.append(resultHigh, sum - carried * two32)
  return true
}

/** Days from 1970-01-01 to a day of the proleptic Gregorian calendar; `year` is astronomical (1 BC = 0). */
export const daysFromCivil = (year: number, month: number, day: number): number => {
  const y = month <= 2 ? year - 1 : year
  const era = Math.floor(y / 400)
  const yearOfEra = y - era * 400
  const dayOfYear = Math.floor((153 * (month + (month > 2 ? -3 : 9)) + 2) / 5) + day - 1
  const dayOfEra = yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear
  return era * 146097 + dayOfEra - 719468
}

/** Microseconds of a day: 24:00 is the last value of `time`. */
export const microsecondsPerDay = 86_400_000_000
