/**
 * What a bench finds: its cases, each beside a reference, and whether they meet their bars.
 */

/** One figure, with the reference of the same run. Values that a case has no use for are null. */
export interface Case {
  readonly case: string
  readonly rows: number
  /** How often it was measured. */
  readonly rounds: number
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
  /** The bars, each with what was found. */
  readonly bars: ReadonlyArray<Judged>
  /** Whatever else was measured, in named units. */
  readonly figures: Readonly<Record<string, number>>
  /** How a figure went on, over the share (0 to 1) of what there was to do. */
  readonly series?: ReadonlyArray<readonly [share: number, value: number]>
}

/** A bar, and whether it holds. */
export interface Judged {
  readonly of: string
  readonly limit: number
  /** Whether it may be at most that, rather than at least. */
  readonly most: boolean
  /** Null: nothing was found. */
  readonly found: number | null
  readonly holds: boolean
}

export interface Result {
  readonly name: string
  readonly holds: boolean
  readonly cases: ReadonlyArray<Case>
}

/** What a bench asks for of one value of a case. */
export type Bar =
  | { readonly of: string; readonly atLeast: number }
  | { readonly of: string; readonly atMost: number }

/** What a bench found of a case. */
export type Found = Omit<Case, "bar" | "bars" | "holds">

export const median = (values: ReadonlyArray<number>): number => {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? Number.NaN
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? Number.NaN)) / 2
}

const round = (value: number): number => Number(value.toFixed(3))

const judge = (bar: Bar, value: number): Judged => {
  const most = "atMost" in bar
  const limit = most ? bar.atMost : bar.atLeast
  const found = Number.isFinite(value) ? value : null
  return {
    of: bar.of,
    limit,
    most,
    found: found === null ? null : round(found),
    holds: found !== null && (most ? found <= limit : found >= limit)
  }
}

/** A case, judged by its exact values, and rounded then. */
export const judged = (found: Found, bars: ReadonlyArray<Bar>): Case => {
  const { cpuRatio, peakRssMB, ratio } = found
  const values: Readonly<Record<string, number | null>> = { ...found.figures, ratio, cpuRatio, peakRssMB }
  const judged = bars.map((bar) => judge(bar, values[bar.of] ?? Number.NaN))
  return {
    ...found,
    ratio: ratio === null ? null : round(ratio),
    cpuRatio: cpuRatio === null ? null : round(cpuRatio),
    peakRssMB: peakRssMB === null ? null : Math.round(peakRssMB),
    figures: Object.fromEntries(Object.entries(found.figures).map(([name, figure]) => [name, round(figure)])),
    bar: judged.length === 0
      ? null
      : judged.map(({ limit, most, of }) => `${of} ${most ? "<=" : ">="} ${limit}`).join(", "),
    bars: judged,
    holds: judged.every(({ holds }) => holds)
  }
}

export const result = (name: string, cases: ReadonlyArray<Case>): Result => ({
  name,
  holds: cases.every((found) => found.holds),
  cases
})
