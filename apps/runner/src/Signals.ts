/**
 * SIGTERM, SIGINT and SIGHUP: the first asks for a graceful stop, a second one ends the process at once.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { constants } from "node:os"

export interface Signals {
  /** Completes with the first signal. */
  readonly stop: Effect.Effect<void>
  readonly stopping: () => boolean
}

const handled = ["SIGTERM", "SIGINT", "SIGHUP"] as const

/** Handles signals until the scope closes. `first` is called with the first one. */
export const make = (first: (signal: NodeJS.Signals) => void): Effect.Effect<Signals, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const stopped = Deferred.makeUnsafe<void>()
      let stopping = false
      const handle = (signal: NodeJS.Signals): void => {
        if (stopping) process.exit(128 + constants.signals[signal])
        stopping = true
        first(signal)
        Deferred.doneUnsafe(stopped, Effect.void)
      }
      for (const signal of handled) process.on(signal, handle)
      return { signals: { stop: Deferred.await(stopped), stopping: () => stopping }, handle }
    }),
    ({ handle }) =>
      Effect.sync(() => {
        for (const signal of handled) process.off(signal, handle)
      })
  ).pipe(Effect.map(({ signals }) => signals))
