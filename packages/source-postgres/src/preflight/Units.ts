/**
 * Sizes and times as people read them.
 */

const sizes = ["bytes", "KiB", "MiB", "GiB", "TiB"]

/** `1536` as `1.5 KiB`. */
export const bytes = (count: number): string => {
  const power = count < 1024 ? 0 : Math.min(sizes.length - 1, Math.floor(Math.log2(count) / 10))
  const value = count / 1024 ** power
  return `${value >= 10 || power === 0 ? Math.round(value) : Math.round(value * 10) / 10} ${sizes[power] ?? ""}`
}

const spans = [["day", 86_400], ["hour", 3_600], ["minute", 60], ["second", 1]] as const

/** Seconds as the largest unit that fits: `7200` as `2 hours`. */
export const duration = (seconds: number): string => {
  const [unit, length] = spans.find(([, length]) => seconds >= length) ?? ["second", 1]
  const count = Math.floor(seconds / length)
  return `${count} ${unit}${count === 1 ? "" : "s"}`
}
