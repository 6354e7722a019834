/**
 * Stops calling something that keeps failing, and finds out by single probes when it works again.
 *
 * Closed: calls run; `failures` consecutive ones that count as failures open the circuit. Open: calls fail at once with
 * `CircuitOpen` until the open time is over. HalfOpen: one call is let through as the probe, others are refused; its success
 * closes the circuit, its failure opens it for the next, longer time of the `openTime` schedule. Retries and timeouts belong
 * inside: the breaker should see one outcome per call. Built on `Schedule.toStep`, `Clock` and `PubSub`, nothing unstable.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as PubSub from "effect/PubSub"
import * as Pull from "effect/Pull"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"

/** The call was refused without being made. `retryAfter` (milliseconds) is when the next probe may be made; 0 while one runs. */
export class CircuitOpen extends Schema.TaggedError<CircuitOpen>("@etl-stream/core/CircuitOpen")("CircuitOpen", {
  name: Schema.String,
  retryAfter: Schema.Finite
}) {}

export type State = "Closed" | "Open" | "HalfOpen"

export interface Transition {
  readonly from: State
  readonly to: State
  /** Milliseconds since 1970-01-01 UTC. */
  readonly at: number
}

export interface CircuitBreaker {
  readonly name: string
  /** Runs a call when the circuit allows it. */
  readonly execute: <A, E, R>(call: Effect.Effect<A, E, R>) => Effect.Effect<A, E | CircuitOpen, R>
  readonly state: Effect.Effect<State>
  /** The state as it is now, for status pages. */
  readonly current: () => State
  /** When the next probe may be made, milliseconds since 1970-01-01 UTC; undefined unless it is open. */
  readonly nextProbe: () => number | undefined
  /** Every change of state from the moment of subscription on; ends with the breaker's scope. */
  readonly transitions: Stream.Stream<Transition>
}

export interface Options {
  readonly name: string
  /** Consecutive failures that open the circuit. */
  readonly failures: number
  /** How long it stays open, each time in a row; when the schedule ends its last delay is used again. */
  readonly openTime: Schedule.Schedule<unknown>
  /** Which errors count; all by default. Defects count, interruptions never do. */
  readonly isFailure?: (error: unknown) => boolean
}

export const make = Effect.fnUntraced(
  function*(options: Options): Effect.fn.Return<CircuitBreaker, never, Scope.Scope> {
    const changes = yield* PubSub.sliding<Transition>(64)
    yield* Effect.addFinalizer(() => PubSub.shutdown(changes))
    let state: State = "Closed"
    let consecutive = 0
    let openUntil = 0
    let probing = false
    /** Changes with every transition: outcomes of calls that began before don't count. */
    let epoch = 0
    let step = yield* Schedule.toStep(options.openTime)
    let lastDelay = Duration.seconds(1)

    const become = (to: State, now: number): Effect.Effect<void> => {
      const from = state
      state = to
      epoch++
      probing = false
      return Effect.asVoid(PubSub.publish(changes, { from, to, at: now }))
    }

    const open = Effect.fnUntraced(function*() {
      const now = yield* Clock.currentTimeMillis
      const delay = yield* step(now, undefined).pipe(
        Effect.map(([, delay]) => delay),
        Pull.catchDone(() => Effect.succeed(lastDelay))
      )
      lastDelay = delay
      openUntil = now + Duration.toMillis(delay)
      consecutive = 0
      yield* become("Open", now)
    })

    const close = Effect.fnUntraced(function*() {
      consecutive = 0
      step = yield* Schedule.toStep(options.openTime)
      yield* become("Closed", yield* Clock.currentTimeMillis)
    })

    const failed = (exit: Exit.Exit<unknown, unknown>): boolean => {
      if (Exit.isSuccess(exit)) return false
      const { isFailure } = options
      return exit.cause.reasons.some((reason) =>
        Cause.isDieReason(reason) ||
        (Cause.isFailReason(reason) && (isFailure === undefined || isFailure(reason.error)))
      )
    }

    const record = Effect.fnUntraced(function*(admitted: number, exit: Exit.Exit<unknown, unknown>) {
      if (admitted !== epoch) return
      if (Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)) {
        probing = false
        return
      }
      if (state === "HalfOpen") return yield* failed(exit) ? open() : close()
      if (!failed(exit)) {
        consecutive = 0
        return
      }
      consecutive++
      if (consecutive >= options.failures) yield* open()
    })

    const admit = Effect.fnUntraced(function*() {
      const now = yield* Clock.currentTimeMillis
      if (state === "Open") {
        if (now < openUntil) return yield* new CircuitOpen({ name: options.name, retryAfter: openUntil - now })
        yield* become("HalfOpen", now)
      }
      if (state === "HalfOpen") {
        if (probing) return yield* new CircuitOpen({ name: options.name, retryAfter: 0 })
        probing = true
      }
      return epoch
    })

    return {
      name: options.name,
      execute: (call) =>
        Effect.uninterruptibleMask((restore) =>
          Effect.flatMap(admit(), (admitted) => Effect.onExit(restore(call), (exit) => record(admitted, exit)))
        ),
      state: Effect.sync(() => state),
      current: () => state,
      nextProbe: () => state === "Open" ? openUntil : undefined,
      transitions: Stream.fromPubSub(changes)
    }
  }
)
