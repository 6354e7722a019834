/**
 * Keeps a channel within its rates, whatever it has to send: no window of one second holds more requests or bytes than allowed.
 *
 * It remembers what was sent in the last second. A request waits until it and those together fit; one that is larger than a second's bytes waits until nothing
 * else was sent for a second. Repeated requests count like first ones.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

export interface Rates {
  readonly requestsPerSecond: number
  /** Uncompressed. */
  readonly bytesPerSecond: number
}

/** The published limits of a named channel, with some room to them: the way to Snowflake may bring requests closer together. */
export const channelRates: Rates = { requestsPerSecond: 9, bytesPerSecond: 19_000_000 }

const windowMillis = 1000

export class RequestPacer {
  private readonly rates: Rates
  private sent: Array<{ readonly at: number; readonly bytes: number }> = []

  constructor(rates: Rates = channelRates) {
    this.rates = rates
  }

  /** How long a request of so many bytes has to wait at `now`; 0: it may be sent. */
  private wait(now: number, bytes: number): number {
    this.sent = this.sent.filter(({ at }) => at > now - windowMillis)
    const { length } = this.sent
    let held = this.sent.reduce((sum, request) => sum + request.bytes, 0)
    for (let gone = 0; gone <= length; gone++) {
      if (
        length - gone < this.rates.requestsPerSecond && (gone === length || held + bytes <= this.rates.bytesPerSecond)
      ) {
        const last = this.sent[gone - 1]
        return last === undefined ? 0 : last.at + windowMillis - now
      }
      held -= this.sent[gone]?.bytes ?? 0
    }
    return 0
  }

  /** Waits until a request of so many bytes may be sent, and counts it. For one request at a time. */
  admit(bytes: number): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      for (;;) {
        const now = yield* Clock.currentTimeMillis
        const wait = this.wait(now, bytes)
        if (wait <= 0) {
          this.sent.push({ at: now, bytes })
          return
        }
        yield* Effect.sleep(wait)
      }
    })
  }
}
