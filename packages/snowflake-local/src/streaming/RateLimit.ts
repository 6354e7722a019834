/**
 * The rates that one channel may be written at: requests per second and uncompressed bytes per second.
 *
 * Two token buckets, each holding one second's worth. A request passes while both are above zero and may take the bytes below: so a body larger than
 * the byte rate is let through once, and the channel then waits until the debt is paid.
 */

export interface Rates {
  readonly requestsPerSecond: number
  readonly bytesPerSecond: number
}

export class RateLimit {
  private readonly rates: Rates
  private requests: number
  private bytes: number
  private at: number

  constructor(rates: Rates, nowMillis: number) {
    this.rates = rates
    this.requests = rates.requestsPerSecond
    this.bytes = rates.bytesPerSecond
    this.at = nowMillis
  }

  /** Takes one request; false when the channel is over a rate, and then nothing is taken. */
  admit(nowMillis: number): boolean {
    const seconds = Math.max(0, nowMillis - this.at) / 1000
    this.at = nowMillis
    this.requests = Math.min(this.rates.requestsPerSecond, this.requests + seconds * this.rates.requestsPerSecond)
    this.bytes = Math.min(this.rates.bytesPerSecond, this.bytes + seconds * this.rates.bytesPerSecond)
    if (this.requests < 1 || this.bytes <= 0) return false
    this.requests--
    return true
  }

  /** Counts the body of an admitted request. */
  spend(bytes: number): void {
    this.bytes -= bytes
  }
}
