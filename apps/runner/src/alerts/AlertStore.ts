/**
 * Keeps alerts in the state store, by compare-and-set, without ever waiting long for it: alerts go on when the store doesn't.
 *
 * Beside them is a document that says since when the store has kept them, its epoch. An alert that is gone while the epoch is the same has ended at another
 * process; when the epoch is gone or another one, the store was emptied, and nothing has ended.
 */
import type { StateStoreShape } from "@etl-stream/core/StateStore"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { randomUUID } from "node:crypto"
import * as AlertRecord from "./AlertRecord.ts"

/** How long a read or write may take. */
const patience = "5 seconds"

/** A record and the stored version that the next write must name. */
export interface Stored {
  readonly record: AlertRecord.AlertRecord
  readonly version: string | undefined
}

/** What is stored. `epoch`: undefined when the store has none, as when it is new or was emptied. */
export interface Contents {
  readonly epoch: string | undefined
  readonly stored: ReadonlyArray<Stored>
}

export interface AlertStore {
  /** What is stored; undefined when the store can't be asked. */
  readonly load: Effect.Effect<Contents | undefined>
  /** Begins an epoch, or finds the one that another process was faster to begin; undefined when the store can't be written. */
  readonly begin: Effect.Effect<string | undefined>
  /**
   * Writes `record` over `version`. When somebody else was faster, what they told counts as told here too, and it is written over theirs.
   * Undefined when the store can't be written.
   */
  readonly save: (record: AlertRecord.AlertRecord, version: string | undefined) => Effect.Effect<Stored | undefined>
  /** Whether it was removed. */
  readonly remove: (key: string) => Effect.Effect<boolean>
}

/** What was told by either of two; of what both say, the later. */
export const together = (
  ours: AlertRecord.AlertRecord["told"],
  theirs: AlertRecord.AlertRecord["told"]
): AlertRecord.AlertRecord["told"] => {
  const told: Record<string, AlertRecord.Told> = { ...ours }
  for (const [name, their] of Object.entries(theirs)) {
    const our = Object.hasOwn(told, name) ? told[name] : undefined
    if (our === undefined || our.at < their.at) told[name] = their
  }
  return told
}

/** Attempts to win against other writers before a save is given up until the next one. */
const most = 4

export const make = (state: StateStoreShape): AlertStore => {
  const quietly = <A>(what: string, effect: Effect.Effect<A, unknown>): Effect.Effect<A | undefined> =>
    effect.pipe(
      Effect.timeout(patience),
      Effect.tapCause((cause) => Effect.logDebug(`The state of alerts can't be ${what}`, cause)),
      Effect.catchCause(() => Effect.undefined)
    )

  const save = Effect.fnUntraced(function*(record: AlertRecord.AlertRecord, version: string | undefined) {
    const key = AlertRecord.storeKey(record.key)
    let expected = version
    let merged = record
    for (let attempt = 0; attempt < most; attempt++) {
      const written = yield* state.compareAndSet(key, AlertRecord.encode(merged), expected)
      if (Option.isSome(written)) return { record: merged, version: written.value }
      const entry = Option.getOrUndefined(yield* state.get(key))
      expected = entry?.version
      const theirs = entry === undefined ? undefined : AlertRecord.decode(entry.value)
      if (theirs !== undefined && theirs.key === record.key) {
        merged = { ...record, told: together(record.told, theirs.told) }
      }
    }
    return undefined
  })

  return {
    load: quietly(
      "read",
      Effect.map(
        state.list(AlertRecord.prefix),
        (entries) => ({
          epoch: entries.find(([key]) => key === AlertRecord.epochKey)?.[1].value,
          stored: entries.flatMap(([key, { value, version }]): ReadonlyArray<Stored> => {
            const record = AlertRecord.decode(value)
            return record === undefined || AlertRecord.storeKey(record.key) !== key ? [] : [{ record, version }]
          })
        })
      )
    ),
    begin: quietly(
      "written",
      Effect.gen(function*() {
        const epoch = randomUUID()
        const written = yield* state.compareAndSet(AlertRecord.epochKey, epoch, undefined)
        if (Option.isSome(written)) return epoch
        return Option.getOrUndefined(yield* state.get(AlertRecord.epochKey))?.value
      })
    ),
    save: (record, version) => quietly("written", save(record, version)),
    remove: (key) =>
      Effect.map(quietly("removed", Effect.as(state.remove(AlertRecord.storeKey(key)), true)), (done) => done === true)
  }
}
