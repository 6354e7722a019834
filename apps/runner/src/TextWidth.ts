/**
 * Columns that text takes on a terminal, and cutting text to fit.
 *
 * Control characters, which a table's name may contain, are shown as `?`: they never reach the terminal.
 */
import { displayWidth } from "effect/cli/CliOutput"

// Control characters of Unicode's categories Cc and Cf, line and paragraph separators.
const control = /[\p{Cc}\p{Cf}\u2028\u2029]/gu

/** `text` without anything that a terminal would obey. */
export const printable = (text: string): string => text.replace(control, "?")

/** Columns of `text`, once it is printable. */
export const width = (text: string): number => displayWidth(printable(text))

const segmenter = new Intl.Segmenter()

/** As much of `text` as fits in `columns`, printable; cut text ends in `…`. */
export const clip = (text: string, columns: number): string => {
  const safe = printable(text)
  if (columns <= 0) return ""
  if (displayWidth(safe) <= columns) return safe
  let taken = ""
  let used = 1
  for (const { segment } of segmenter.segment(safe)) {
    used += displayWidth(segment)
    if (used > columns) break
    taken += segment
  }
  return `${taken}…`
}
