/**
 * Worker threads as tests see them: which are started, and when something has come of them.
 */
import * as Effect from "effect/Effect"
import type { Worker } from "node:worker_threads"

/** Workers that are started while `body` runs, in order. */
export const watching = <A, E, R>(body: (started: ReadonlyArray<Worker>) => Effect.Effect<A, E, R>) =>
  Effect.acquireUseRelease(
    Effect.sync(() => {
      const started: Array<Worker> = []
      const add = (worker: Worker) => void started.push(worker)
      process.on("worker", add)
      return { started, add }
    }),
    ({ started }) => body(started),
    ({ add }) => Effect.sync(() => process.off("worker", add))
  )

export const until = (condition: () => boolean) =>
  Effect.repeat(Effect.sleep("1 millis"), { until: () => Effect.sync(condition) })
