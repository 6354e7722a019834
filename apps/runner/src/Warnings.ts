/**
 * What is to be said of a configuration though it can be used: in the log of a run.
 */
import * as Effect from "effect/Effect"
import type { Problem } from "./Problem.ts"

/** Those of `warnings` that `before` doesn't have. */
export const since = (before: ReadonlyArray<Problem>, warnings: ReadonlyArray<Problem>): ReadonlyArray<Problem> => {
  const identity = ({ message, path, row }: Problem): string => JSON.stringify([row, path, message])
  const told = new Set(before.map(identity))
  return warnings.filter((warning) => !told.has(identity(warning)))
}

/** Logs each of `warnings`. */
export const log = (warnings: ReadonlyArray<Problem>): Effect.Effect<void> =>
  Effect.forEach(warnings, ({ message, remedy, ...place }) =>
    Effect.logWarning(message).pipe(
      Effect.annotateLogs({ ...place, ...(remedy === "" ? {} : { hint: remedy }) })
    ), { discard: true })
