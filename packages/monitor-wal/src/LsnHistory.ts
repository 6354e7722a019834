/**
 * When which position of the log was written, so that a lag in bytes becomes one in time.
 *
 * Samples of the log's end are thinned out towards the past, so that a few hundred reach back for days: a lag of days needs no seconds.
 */
import type { Lsn } from "./Lsn.ts"

export interface LsnSample {
  /** Milliseconds since 1970-01-01 UTC, by one clock. */
  readonly at: number
  readonly lsn: Lsn
}

/** A time span in milliseconds; `atLeast`: the position is older than what is remembered. */
export interface Lag {
  readonly millis: number
  readonly atLeast: boolean
}

const mostSamples = 256

export class LsnHistory {
  private samples: Array<LsnSample>

  constructor(samples: ReadonlyArray<LsnSample> = []) {
    this.samples = [...samples]
  }

  /** The log's end at `at`. A position below the last one is another log's: what was known of the old one is forgotten. */
  add(at: number, lsn: Lsn): void {
    const last = this.samples.at(-1)
    if (last !== undefined && (lsn < last.lsn || at < last.at)) this.samples = []
    const before = this.samples.at(-2)
    // While nothing is written, two samples say from when to when.
    if (last?.lsn === lsn && before?.lsn === lsn) this.samples.pop()
    this.samples.push({ at, lsn })
    if (this.samples.length > mostSamples) {
      const old = this.samples.length >> 1
      this.samples = this.samples.filter((_, index) => index === 0 || index >= old || index % 2 === 0)
    }
  }

  reset(): void {
    this.samples = []
  }

  /** At most `count` samples, first and last among them, for keeping. */
  thinned(count: number): ReadonlyArray<LsnSample> {
    const last = this.samples.length - 1
    if (last < count) return [...this.samples]
    return Array.from({ length: count }, (_, index) => this.samples[Math.round(index * last / (count - 1))])
      .filter((sample) => sample !== undefined)
  }

  /** How long ago, at `now`, what follows `lsn` was written; 0 when nothing does. Undefined before anything is known. */
  lag(lsn: Lsn, now: number): Lag | undefined {
    const next = this.samples.findIndex((sample) => sample.lsn > lsn)
    if (next === -1) return this.samples.length === 0 ? undefined : { millis: 0, atLeast: false }
    const after = this.samples[next]
    const before = this.samples[next - 1]
    if (after === undefined) return undefined
    if (before === undefined) return { millis: Math.max(0, now - after.at), atLeast: true }
    // Written somewhere between the two; evenly, as far as anybody knows.
    const part = Number(lsn - before.lsn) / Number(after.lsn - before.lsn)
    return { millis: Math.max(0, now - (before.at + part * (after.at - before.at))), atLeast: false }
  }
}
