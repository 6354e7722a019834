/**
 * The document that a running pipeline keeps in the state store: how far it was, for people and tools.
 *
 * It is written every few seconds and at the end, only when it changed. Nothing is ever decided by it: what has to be written is
 * told by the sink. So a failing store is a warning, and a document of somebody else's is replaced.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Acknowledgement } from "./Acknowledgement.ts"
import type { Raised } from "./Condition.ts"
import type { Progress } from "./Progress.ts"
import * as Sequence from "./Sequence.ts"
import type { StateStoreShape } from "./StateStore.ts"

/** The stored JSON document. Positions are decimal text, sequences `Sequence.format`. */
export interface Document {
  readonly version: 1
  /** When it was written, ISO 8601. */
  readonly at: string
  readonly acknowledged: string
  /** Commit time of the last acknowledged transaction, ISO 8601 with milliseconds; null before there is one. */
  readonly committedAt: string | null
  /** Per table (`schema.name`), up to where it is durable at the sink. */
  readonly tables: Readonly<Record<string, string>>
  /** What needs somebody, in the order in which it came up; `since` as ISO 8601. */
  readonly conditions: ReadonlyArray<Omit<Raised, "since"> & { readonly since: string }>
}

/** The state store's key of a pipeline's checkpoint. */
export const key = (pipeline: string): string => `pipelines/${pipeline}/checkpoint`

export const document = (acknowledgement: Acknowledgement, progress: Progress, now: number): Document => {
  const committed = acknowledgement.acknowledgedTime()
  return {
    version: 1,
    at: new Date(now).toISOString(),
    acknowledged: acknowledgement.acknowledged().toString(),
    committedAt: committed === undefined ? null : new Date(Number(committed / 1000n)).toISOString(),
    tables: Object.fromEntries(
      [...acknowledgement.durablePositions()].map(([table, at]) => [table, Sequence.format(at)])
    ),
    conditions: [...progress.conditions.values()].map((condition) => ({
      ...condition,
      since: new Date(condition.since).toISOString()
    }))
  }
}

/** An effect that stores the checkpoint as it is now, when it differs from the last one stored. Never fails. */
export const writer = (
  pipeline: string,
  state: StateStoreShape,
  acknowledgement: Acknowledgement,
  progress: Progress
): Effect.Effect<void> => {
  const name = key(pipeline)
  let version: string | undefined
  let stored = ""

  const put = Effect.fnUntraced(function*(value: string) {
    const first = yield* state.compareAndSet(name, value, version)
    if (Option.isSome(first)) return first.value
    // Another version is there: from an earlier run, or of a store that was replaced.
    const entry = yield* state.get(name)
    const second = yield* state.compareAndSet(name, value, Option.getOrUndefined(entry)?.version)
    return Option.getOrUndefined(second)
  })

  return Effect.gen(function*() {
    const now = document(acknowledgement, progress, yield* Clock.currentTimeMillis)
    const content = JSON.stringify([now.acknowledged, now.tables, now.conditions])
    if (content === stored) return
    version = yield* put(JSON.stringify(now))
    if (version !== undefined) stored = content
  }).pipe(
    Effect.catch((error) =>
      Effect.logWarning("The checkpoint could not be stored; the pipeline goes on without it").pipe(
        Effect.annotateLogs({ reason: error.reason, message: error.message, hint: error.hint })
      )
    )
  )
}
