/**
 * When something that failed is tried again: exponential waits with a cap and jitter, only for errors that trying again can mend.
 *
 * `make` gives the `Schedule`. `supervise` runs something long-lived by it: as long as it fails retryably it runs again, and a run
 * that was healthy for a while makes the waits start from the beginning, so that a pipeline that breaks once a day doesn't wait as
 * long as one that breaks at once each time.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Pull from "effect/Pull"
import * as Schedule from "effect/Schedule"
import type { ConnectorError } from "./ConnectorError.ts"
import { isRetryable } from "./ConnectorError.ts"

export interface Options {
  /** First wait; each is twice the one before. 250 ms by default. */
  readonly initial?: Duration.Input
  /** Longest wait. 30 seconds by default. */
  readonly cap?: Duration.Input
  /** Gives up after this many retries; never by default. */
  readonly times?: number
  /** Gives up after this time; never by default. */
  readonly within?: Duration.Input
  /** Whether waits vary by ±20 %, so that many clients don't return at the same moment. True by default. */
  readonly jitter?: boolean
}

export type RetryPolicy = Schedule.Schedule<Duration.Duration | number, ConnectorError>

/** Retries `ConnectorError`s that are retryable; any other ends the schedule at once. */
export const make = (options: Options = {}): RetryPolicy => {
  const waits = Schedule.min([
    Schedule.exponential(options.initial ?? "250 millis"),
    Schedule.spaced(options.cap ?? "30 seconds")
  ])
  const spread = options.jitter === false ? waits : Schedule.jittered(waits)
  return spread.pipe(
    Schedule.upTo({ times: options.times, duration: options.within }),
    Schedule.setInputType<ConnectorError>(),
    Schedule.while(({ input }) => isRetryable(input))
  )
}

/** What `supervise` tells before it waits. */
export interface Attempt {
  readonly error: ConnectorError
  readonly delay: Duration.Duration
  /** Number of failures since the last healthy run, from 1. */
  readonly failures: number
}

/**
 * Runs `run` until it succeeds, or fails with an error for which the policy has no further retry; that error is the result.
 *
 * A run that lasted at least `healthyAfter`, or for which `healthy` says true when it ends (for example: it made something
 * durable), resets the policy. `onRetry` is told of every failure that is retried.
 */
export const supervise = <A, R>(
  run: Effect.Effect<A, ConnectorError, R>,
  options: {
    readonly policy: RetryPolicy
    readonly healthyAfter: Duration.Input
    readonly healthy?: Effect.Effect<boolean>
    readonly onRetry?: (attempt: Attempt) => Effect.Effect<void>
  }
): Effect.Effect<A, ConnectorError, R> =>
  Effect.gen(function*() {
    const healthyAfter = Duration.toMillis(Duration.fromInputUnsafe(options.healthyAfter))
    let step = yield* Schedule.toStep(options.policy)
    let failures = 0
    while (true) {
      const started = yield* Clock.currentTimeMillis
      const result = yield* Effect.result(run)
      if (result._tag === "Success") return result.success
      const error = result.failure
      const now = yield* Clock.currentTimeMillis
      if (now - started >= healthyAfter || (options.healthy !== undefined && (yield* options.healthy))) {
        step = yield* Schedule.toStep(options.policy)
        failures = 0
      }
      failures++
      const delay = yield* step(now, error).pipe(
        Effect.map(([, delay]): Duration.Duration | undefined => delay),
        Pull.catchDone(() => Effect.undefined)
      )
      if (delay === undefined) return yield* error
      if (options.onRetry !== undefined) yield* options.onRetry({ error, delay, failures })
      yield* Effect.sleep(delay)
    }
  })
