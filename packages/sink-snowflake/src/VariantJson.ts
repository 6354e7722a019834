/**
 * Which JSON documents a VARIANT can't hold as JSON, so that they go into it as a string with their text.
 *
 * A VARIANT keeps numbers exactly up to 38 digits, 37 of them after the point, and makes doubles of those with exponents; PostgreSQL's `json` and
 * `jsonb` have numbers of any size. PostgreSQL's `json` also takes the escape of half a surrogate pair, which is no text. Both are found in one
 * pass over the bytes, which are taken for JSON: what isn't, is kept as a string by whoever parses it.
 */
import * as DecimalDigits from "./DecimalDigits.ts"

const quote = 0x22
const backslash = 0x5c
const minus = 0x2d
const point = 0x2e
const zero = 0x30
const nine = 0x39

/** Digits that a NUMBER holds, and how many of them after the point. */
const maxDigits = 38
const maxScale = 37
/** Decimal digits that survive the way through a double, in the range in which it has all its bits. */
const doubleDigits = 15
const doubleExponent = 300

/** Whether the escape of a surrogate (D800 to DFFF) stands at `at`: `low` for the second half of a pair, otherwise the first. */
const isSurrogate = (bytes: Uint8Array, at: number, end: number, low: boolean): boolean => {
  if (at + 6 > end || bytes[at] !== backslash || bytes[at + 1] !== 0x75) return false
  // Digits have the bit that makes letters lower case already.
  if (((bytes[at + 2] as number) | 0x20) !== 0x64) return false // in range
  const digit = (bytes[at + 3] as number) | 0x20 // the same
  return low ? digit >= 0x63 : digit === 0x38 || digit === 0x39 || digit === 0x61 || digit === 0x62
}

/** Where the number that begins at `start` ends; negative (the end's complement) when a VARIANT would round it. */
const number = (bytes: Uint8Array, start: number, end: number): number => {
  const first = bytes[start] === minus ? start + 1 : start
  let at = first
  while (at < end) {
    const byte = bytes[at] as number // in range
    if ((byte < zero || byte > nine) && byte !== point) break
    at++
  }
  // Almost all: too short to be looked at closer.
  if (at - first <= maxDigits && (at === end || ((bytes[at] as number) | 0x20) !== 0x65)) return at // in range
  at = DecimalDigits.scan(bytes, start, end)
  const { integers, scale, significant } = DecimalDigits.last
  if (((bytes[at] ?? 0) | 0x20) !== 0x65 || at >= end) {
    return integers + scale <= maxDigits && scale <= maxScale ? at : ~at
  }
  at++
  const negative = bytes[at] === minus
  if (negative || bytes[at] === 0x2b) at++
  let exponent = 0
  for (; at < end && DecimalDigits.isDigit(bytes[at]); at++) {
    exponent = Math.min(exponent * 10 + ((bytes[at] as number) - zero), 1e6) // in range
  }
  if (significant === 0) return at
  // The power of ten of the first digit that isn't zero: of the integer part, or else after the point.
  const magnitude = (integers > 0 ? integers : significant - scale) + (negative ? -exponent : exponent)
  return significant <= doubleDigits && Math.abs(magnitude) <= doubleExponent ? at : ~at
}

/** Whether a VARIANT of this JSON text would hold something else. */
export const isInexact = (bytes: Uint8Array, start: number, end: number): boolean => {
  let at = start
  while (at < end) {
    const byte = bytes[at] as number // in range
    if (byte === quote) {
      at++
      while (at < end) {
        const inside = bytes[at] as number // in range
        if (inside === quote) break
        if (inside !== backslash) at++
        else if (isSurrogate(bytes, at, end, false) && isSurrogate(bytes, at + 6, end, true)) at += 12
        else if (isSurrogate(bytes, at, end, false) || isSurrogate(bytes, at, end, true)) return true
        else at += 2
      }
      at++
    } else if ((byte >= zero && byte <= nine) || byte === minus) {
      at = number(bytes, at, end)
      if (at < 0) return true
    } else at++
  }
  return false
}

/** Whether the text is `null` by itself. */
export const isNull = (bytes: Uint8Array, start: number, end: number): boolean => {
  let at = start
  while (at < end && (bytes[at] as number) <= 0x20) at++ // in range
  // Only `null` begins so.
  return bytes[at] === 0x6e
}
