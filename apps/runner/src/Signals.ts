/**
 * SIGTERM and SIGINT: the first asks for a graceful stop, a second one ends the process at once. SIGHUP asks for a reload.
 *
 * When the terminal that the process was started on goes away, that is a SIGHUP too, and nobody is left: it asks for a stop then.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import { constants } from "node:os"

export interface Signals {
  /** Completes with the first signal that asks for a stop. */
  readonly stop: Effect.Effect<void>
  readonly stopping: () => boolean
  /** Completes when a reload was asked for since the last time; several at once are one. */
  readonly reload: Effect.Effect<void>
}

const handled = ["SIGTERM", "SIGINT", "SIGHUP"] as const

/** Whether the process has a terminal that controls it. */
const hasTerminal = (): boolean => {
  try {
    Fs.closeSync(Fs.openSync("/dev/tty", "r"))
    return true
  } catch {
    return false
  }
}

/** Handles signals until the scope closes. `first` is called with the first one that asks for a stop. */
export const make = (first: (signal: NodeJS.Signals) => void): Effect.Effect<Signals, never, Scope.Scope> =>
  Effect.gen(function*() {
    const stopped = yield* Deferred.make<void>()
    const reloads = yield* Queue.sliding<void>(1)
    const hadTerminal = hasTerminal()
    let stopping = false
    const handle = (signal: NodeJS.Signals): void => {
      // Windows knows SIGHUP as the closing of the console only.
      if (signal === "SIGHUP" && process.platform !== "win32" && !(hadTerminal && !hasTerminal())) {
        if (!stopping) Queue.offerUnsafe(reloads, undefined)
        return
      }
      if (stopping && signal !== "SIGHUP") process.exit(128 + constants.signals[signal])
      if (stopping) return
      stopping = true
      first(signal)
      Deferred.doneUnsafe(stopped, Effect.void)
    }
    yield* Effect.acquireRelease(
      Effect.sync(() => {
        for (const signal of handled) process.on(signal, handle)
      }),
      () =>
        Effect.sync(() => {
          for (const signal of handled) process.off(signal, handle)
        })
    )
    return { stop: Deferred.await(stopped), stopping: () => stopping, reload: Queue.take(reloads) }
  })
