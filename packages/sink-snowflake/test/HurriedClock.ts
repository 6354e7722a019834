/**
 * The real clock, but for one duration: who sleeps for that is woken at once. It stands for an option that can't be set as short as a test would like.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { withSleep } from "./SleepingClock.ts"

/** Runs `body` with sleeps of `passing` that take a moment; nothing else of it may take just as long. */
export const hurried = <A, E, R>(passing: Duration.Input, body: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(Clock.Clock, (real) => {
    const millis = Duration.toMillis(Duration.fromInputUnsafe(passing))
    return Effect.provideService(
      body,
      Clock.Clock,
      withSleep(
        real,
        (duration) => real.sleep(Duration.toMillis(duration) === millis ? Duration.millis(100) : duration)
      )
    )
  })
