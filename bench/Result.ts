/**
 * What a bench finds: its cases, each beside a reference, and whether they meet their bars.
 */

/** One figure, with the reference of the same run. Values that a case has no use for are null. */
export interface Case {
  readonly case: string
  readonly rows: number
  readonly rowsPerSecond: number | null
  /** What `ratio` is to. */
  readonly reference: string | null
  /** Median over pairs of our value to the reference's. */
  readonly ratio: number | null
  /** Processor seconds of the client to those of the reference's. */
  readonly cpuRatio: number | null
  readonly peakRssMB: number | null
  /** What is asked for, in words: `ratio >= 1.8`; null: measured only. */
  readonly bar: string | null
  readonly holds: boolean
  /** Whatever else was measured, in named units. */
  readonly figures: Readonly<Record<string, number>>
}

export interface Result {
  readonly name: string
  readonly holds: boolean
  readonly cases: ReadonlyArray<Case>
}

/** A bar for one value of a case. */
export interface Bar {
  readonly of: string
  readonly atLeast?: number
  readonly atMost?: number
}

export const median = (values: ReadonlyArray<number>): number => {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? Number.NaN
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? Number.NaN)) / 2
}

/** The share `p` (0 to 1) of the values is at most this. */
export const percentile = (values: ReadonlyArray<number>, p: number): number => {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(p * sorted.length) - 1))] ?? Number.NaN
}

const round = (value: number): number => Number(value.toFixed(3))

const holds = ({ atLeast, atMost, of }: Bar, value: (name: string) => number): boolean => {
  const found = value(of)
  return Number.isFinite(found) && found >= (atLeast ?? -Infinity) && found <= (atMost ?? Infinity)
}

const words = ({ atLeast, atMost, of }: Bar): string =>
  [...(atLeast === undefined ? [] : [`${of} >= ${atLeast}`]), ...(atMost === undefined ? [] : [`${of} <= ${atMost}`])]
    .join(" and ")

/** A case, judged by its exact values, and rounded then. */
export const judged = (
  found: Omit<Case, "bar" | "holds">,
  bars: ReadonlyArray<Bar>
): Case => {
  const value = (name: string): number => {
    const own = { ratio: found.ratio, cpuRatio: found.cpuRatio, peakRssMB: found.peakRssMB }
    return (name in own ? own[name as keyof typeof own] : found.figures[name]) ?? Number.NaN // just looked
  }
  return {
    ...found,
    ratio: found.ratio === null ? null : round(found.ratio),
    cpuRatio: found.cpuRatio === null ? null : round(found.cpuRatio),
    figures: Object.fromEntries(Object.entries(found.figures).map(([name, figure]) => [name, round(figure)])),
    bar: bars.length === 0 ? null : bars.map(words).join(", "),
    holds: bars.every((bar) => holds(bar, value))
  }
}

export const result = (name: string, cases: ReadonlyArray<Case>): Result => ({
  name,
  holds: cases.every((found) => found.holds),
  cases
})
