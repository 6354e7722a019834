/**
 * A point in time with microseconds, as expressions and conversions handle it.
 */
import { timestampInfinity, timestampNegativeInfinity } from "@etl-stream/core/LogicalType"
import * as Calendar from "./Calendar.ts"

/** Microseconds since 1970-01-01 (UTC, or of a clock without zone). */
export class Instant {
  readonly micros: bigint

  constructor(micros: bigint) {
    this.micros = micros
  }

  /** Whether it is a day or time at all, rather than ±infinity. */
  get isFinite(): boolean {
    return this.micros !== timestampInfinity && this.micros !== timestampNegativeInfinity
  }

  toString(): string {
    return this.isFinite
      ? Calendar.timestampText(this.micros, true)
      : this.micros > 0n
      ? "infinity"
      : "-infinity"
  }
}
