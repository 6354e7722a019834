/**
 * Whether a value fits a column whose type may be narrower than the source's: from the value's bytes, without making anything of them.
 */
import * as DecimalDigits from "./DecimalDigits.ts"
import type { Narrowing } from "./TypeMapping.ts"
import { maxTextLength } from "./TypeMapping.ts"

const minus = 0x2d
const zero = 0x30

/** Decimal digits that a double keeps whatever they are, and the powers of ten where it has all of its bits. */
const doubleDigits = 15
const doubleExponent = 300
const maxSafe = Buffer.from("9007199254740992")

/** Whether text has at most `maxLength` characters, and no more bytes than any VARCHAR. */
export const text = (maxLength: number, bytes: Uint8Array, start: number, end: number): boolean => {
  // No text has more characters than bytes.
  if (end - start <= maxLength) return true
  if (end - start > maxTextLength) return false
  let characters = 0
  for (let at = start; at < end; at++) {
    if (((bytes[at] as number) & 0xc0) !== 0x80 && ++characters > maxLength) return false // in range
  }
  return true
}

/** Whether a 64-bit integer's decimal digits fit. */
export const integer = (narrowing: Narrowing, bytes: Uint8Array, start: number, end: number): boolean => {
  const first = bytes[start] === minus ? start + 1 : start
  const digits = end - first
  switch (narrowing._tag) {
    case "Digits":
      return digits <= narrowing.integer || (digits === 1 && bytes[first] === zero)
    case "Double": {
      if (digits !== maxSafe.length) return digits < maxSafe.length
      for (let at = 0; at < digits; at++) {
        const difference = (bytes[first + at] as number) - (maxSafe[at] as number) // as many digits
        if (difference !== 0) return difference < 0
      }
      return true
    }
    case "Step":
      return true
  }
}

/** Whether a decimal number (`-12.50`, no exponent) fits. Zeros before and after its digits count for nothing. */
export const decimal = (narrowing: Narrowing, bytes: Uint8Array, start: number, end: number): boolean => {
  DecimalDigits.scan(bytes, start, end)
  const { integers, scale, significant } = DecimalDigits.last
  switch (narrowing._tag) {
    case "Digits":
      return integers <= narrowing.integer && scale <= narrowing.scale
    case "Double":
      return significant <= doubleDigits && integers <= doubleExponent && scale <= doubleExponent
    case "Step":
      return true
  }
}
