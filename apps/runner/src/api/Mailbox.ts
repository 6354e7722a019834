/**
 * What waits for one client of a stream: so much and no more. When the client is slower than what comes, the oldest is given up, and the client is told how much
 * it missed.
 */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"

export interface Mailbox<A> {
  /** Never waits. */
  readonly offer: (item: A) => void
  /** Takes what there is, waiting when there is nothing; `lost`: how many were given up before these. Undefined: it was closed. */
  readonly take: Effect.Effect<{ readonly lost: number; readonly items: ReadonlyArray<A> } | undefined>
  /** Ends it for whoever takes. */
  readonly close: () => void
  /** How many wait. */
  readonly size: () => number
}

export const make = <A>(capacity: number): Mailbox<A> => {
  const latch = Latch.makeUnsafe(false)
  let items: Array<A> = []
  let lost = 0
  let closed = false
  return {
    offer: (item) => {
      if (closed) return
      items.push(item)
      if (items.length > capacity) {
        items.shift()
        lost++
      }
      latch.openUnsafe()
    },
    take: Effect.gen(function*() {
      while (true) {
        latch.closeUnsafe()
        if (items.length > 0 || lost > 0) {
          const taken = { lost, items }
          items = []
          lost = 0
          return taken
        }
        if (closed) return undefined
        yield* latch.await
      }
    }),
    close: () => {
      closed = true
      latch.openUnsafe()
    },
    size: () => items.length
  }
}
