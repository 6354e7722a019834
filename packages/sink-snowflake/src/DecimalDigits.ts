/**
 * The digits of a decimal number in text (`-12.50`), from its bytes: zeros before the first other digit and after the last count for nothing.
 *
 * It is done for every value of a batch, so what was found last is kept here instead of in an object of its own.
 */

const minus = 0x2d
const point = 0x2e
const zero = 0x30

/** What the last scan found. */
export const last = {
  /** Digits before the point. */
  integers: 0,
  /** Digits after the point, without zeros at the end. */
  scale: 0,
  /** Digits from the first to the last that isn't zero. */
  significant: 0
}

export const isDigit = (byte: number | undefined): boolean => byte !== undefined && byte >= zero && byte <= 0x39

/** Scans the number that begins at `start` and returns where its digits end, at most at `end`. */
export const scan = (bytes: Uint8Array, start: number, end: number): number => {
  let at = bytes[start] === minus ? start + 1 : start
  let integers = 0
  let fraction = 0
  let scale = 0
  /** Digits from the first that isn't zero on. */
  let seen = 0
  let significant = 0
  let afterPoint = false
  for (; at < end; at++) {
    const byte = bytes[at] as number // in range
    if (byte === point) {
      afterPoint = true
      continue
    }
    if (!isDigit(byte)) break
    if (afterPoint) fraction++
    if (seen > 0 || byte !== zero) {
      seen++
      if (!afterPoint) integers++
    }
    if (byte !== zero) {
      significant = seen
      if (afterPoint) scale = fraction
    }
  }
  last.integers = integers
  last.scale = scale
  last.significant = significant
  return at
}
