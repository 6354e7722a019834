/**
 * How fast a size grows, over a window of samples.
 *
 * The rate is the median of the slopes between all pairs of samples (Theil-Sen): a single jump, or the saw-tooth of a slot whose reader confirms in steps, doesn't
 * move it as it would move a mean. It is taken over the whole window and over its last quarter, and the greater one counts: what began to
 * grow just now is noticed in time, and what has been growing is not forgotten for a moment's rest.
 */

interface Sample {
  readonly at: number
  readonly value: number
}

/** Samples that are kept at most; pairs grow with the square. */
const mostSamples = 64
/** Fewer say nothing. */
const fewestSamples = 4

/** Median slope of all pairs, in units per millisecond; undefined with too few samples. */
const slope = (samples: ReadonlyArray<Sample>): number | undefined => {
  if (samples.length < fewestSamples) return undefined
  const slopes: Array<number> = []
  for (const [index, a] of samples.entries()) {
    for (const b of samples.slice(index + 1)) {
      if (b.at > a.at) slopes.push((b.value - a.value) / (b.at - a.at))
    }
  }
  slopes.sort((a, b) => a - b)
  const middle = slopes.length >> 1
  const upper = slopes[middle]
  const lower = slopes[slopes.length % 2 === 0 ? middle - 1 : middle]
  return upper === undefined || lower === undefined ? undefined : (upper + lower) / 2
}

export class Growth {
  private readonly window: number
  private samples: Array<Sample> = []

  /** @param window Milliseconds. */
  constructor(window: number) {
    this.window = window
  }

  /** `value` at `at` (milliseconds, never before the last). A sample that comes too soon after the last one takes its place. */
  add(at: number, value: number): void {
    const last = this.samples.at(-1)
    const before = this.samples.at(-2)
    if (last !== undefined && before !== undefined && last.at - before.at < this.window / mostSamples) {
      this.samples.pop()
    }
    this.samples.push({ at, value })
    this.samples = this.samples.filter((sample) => sample.at > at - this.window)
  }

  /** Forgets everything: what was measured is something else now. */
  reset(): void {
    this.samples = []
  }

  /** Units per second; undefined before there is enough to tell. */
  rate(): number | undefined {
    const last = this.samples.at(-1)
    const whole = slope(this.samples)
    if (last === undefined || whole === undefined) return undefined
    const lately = slope(this.samples.filter(({ at }) => at > last.at - this.window / 4))
    return Math.max(whole, lately ?? whole) * 1000
  }
}
