/**
 * Something that several fibers wait on: each looks at its own condition again whenever anything has changed.
 */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"

export interface Changes {
  /** Says that something has changed. Whoever waits looks at once. */
  readonly touch: () => void
  /** Waits until `condition` holds. */
  readonly until: (condition: () => boolean) => Effect.Effect<void>
}

export const make = (): Changes => {
  const latch = Latch.makeUnsafe(false)
  return {
    touch: () => {
      latch.openUnsafe()
    },
    until: (condition) =>
      Effect.gen(function*() {
        while (true) {
          latch.closeUnsafe()
          if (condition()) return
          yield* latch.await
        }
      })
  }
}
