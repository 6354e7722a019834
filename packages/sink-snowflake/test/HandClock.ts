/**
 * A clock of which whole days pass by hand.
 */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import { withSleep } from "./SleepingClock.ts"

/** Longer than anything else that is waited for, such as the answer to a statement. */
const days = 86_400_000

/** The real clock, but for sleeps of a day or more: they end when the test says so. */
export const handClock = Effect.map(Clock.Clock, (real) => {
  const asleep = new Map<number, Set<Deferred.Deferred<void>>>()
  const changed = Latch.makeUnsafe(false)
  const clock = withSleep(real, (duration) => {
    const millis = Duration.toMillis(duration)
    if (millis < days) return real.sleep(duration)
    return Effect.suspend(() => {
      const end = Deferred.makeUnsafe<void>()
      const sleepers = asleep.get(millis) ?? new Set()
      asleep.set(millis, sleepers.add(end))
      changed.openUnsafe()
      return Effect.ensuring(Deferred.await(end), Effect.sync(() => sleepers.delete(end)))
    })
  })
  /** Waits until `count` sleep for so many days. */
  const sleeping = (count: number, of: number): Effect.Effect<void> =>
    Effect.gen(function*() {
      for (;;) {
        changed.closeUnsafe()
        if (asleep.get(of * days)?.size === count) return
        yield* changed.await
      }
    })
  /** Lets so many days pass for the `count` that sleep for them, and waits until they sleep for them again. */
  const pass = (of: number, count = 1): Effect.Effect<void> =>
    Effect.gen(function*() {
      yield* sleeping(count, of)
      const ends = [...asleep.get(of * days) ?? []]
      asleep.delete(of * days)
      for (const end of ends) yield* Deferred.succeed(end, undefined)
      yield* sleeping(count, of)
    })
  return { clock, pass }
})
