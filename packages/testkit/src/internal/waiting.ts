/**
 * Waiting for conditions that other processes bring about, and for what must be over in time.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import assert from "node:assert/strict"

/** Waits until the condition holds; fails when it doesn't in so many milliseconds, saying what was waited for. */
export const eventually = (what: () => string, condition: () => boolean, millis: number): Effect.Effect<void> =>
  Effect.gen(function*() {
    const until = Date.now() + millis
    while (!condition()) {
      if (Date.now() >= until) assert.fail(`After ${millis / 1000} s there still isn't ${what()}`)
      yield* Effect.sleep(2)
    }
  })

/** Interrupts a fiber and waits until it has ended; fails when it doesn't in time. */
export const interrupted = <A, E>(what: string, fiber: Fiber.Fiber<A, E>, millis: number): Effect.Effect<void> =>
  within(what, Fiber.interrupt(fiber), millis)

/** Fails when the effect isn't over in time. What doesn't end is left behind: waiting for it would hang as well. */
export const within = <A, E, R>(what: string, effect: Effect.Effect<A, E, R>, millis: number): Effect.Effect<A, E, R> =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkDetach(effect, { startImmediately: true })
    const answer = yield* Effect.raceFirst(
      Effect.map(Fiber.await(fiber), (exit) => ({ exit })),
      Effect.as(Effect.sleep(millis), undefined)
    )
    if (answer === undefined) return assert.fail(`${what} isn't over after ${millis / 1000} s`)
    return yield* answer.exit
  })

/** A scope that is closed with the outer one, at the latest, which waits no longer than so many milliseconds for it: what hangs must not hang the suite. */
export const boundedScope = (millis: number): Effect.Effect<Scope.Closeable, never, Scope.Scope> =>
  Effect.acquireRelease(
    Scope.make(),
    (scope) => Effect.exit(within("Closing", Scope.close(scope, Exit.void), millis))
  )
