/**
 * Worker threads as tests see them: which are started, and when something has come of them.
 */
import * as Effect from "effect/Effect"
import type { Worker } from "node:worker_threads"
import type { Answer } from "../src/EncodingProtocol.ts"

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

/** Holds back the worker's answers from now on, so that what it is asked for stays under way; tells how many there were. */
export const silence = (worker: Worker | undefined): () => number => {
  if (worker === undefined) throw new Error("no worker was started")
  const emit = worker.emit.bind(worker)
  let held = 0
  worker.emit = (event: string | symbol, ...given: ReadonlyArray<unknown>): boolean => {
    const [answer] = given
    if (event !== "message" || (answer as Answer)._tag === "Ready") return emit(event, ...given) // the worker sends nothing else
    held++
    return true
  }
  return () => held
}

export const until = (condition: () => boolean) =>
  Effect.repeat(Effect.sleep("1 millis"), { until: () => Effect.sync(condition) })
