/**
 * Keeps alerts in the state store, by compare-and-set, without ever waiting long for it: alerts go on when the store doesn't.
 *
 * Beside them is their epoch (AlertEpoch.ts). An alert that is gone while the store has lost nothing has ended at another process; when it was emptied, or
 * went back to an old copy, nothing has ended.
 */
import type { StateStoreShape } from "@etl-stream/core/StateStore"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as AlertEpoch from "./AlertEpoch.ts"
import * as AlertRecord from "./AlertRecord.ts"

/** How long a read or write may take. */
const patience = "5 seconds"

/** A record and the stored version that the next write must name. */
export interface Stored {
  readonly record: AlertRecord.AlertRecord
  readonly version: string | undefined
}

/** What is stored. `lost`: the store had more of it before, and nobody has removed that. `begins`: the store is new, or has lost something, and `begin` is to note that. */
export interface Contents {
  readonly lost: boolean
  readonly begins: boolean
  readonly stored: ReadonlyArray<Stored>
}

export interface AlertStore {
  /** What is stored; undefined when the store can't be asked. */
  readonly load: Effect.Effect<Contents | undefined>
  /** Begins an epoch, or finds the one that another process was faster to begin, if the store can be written. */
  readonly begin: Effect.Effect<void>
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

/** Whether `theirs` lacks something that was told, or has it older. */
export const saysLess = (theirs: AlertRecord.AlertRecord["told"], ours: AlertRecord.AlertRecord["told"]): boolean =>
  Object.entries(ours).some(([name, { at }]) => {
    const their = Object.hasOwn(theirs, name) ? theirs[name] : undefined
    return their === undefined || their.at < at
  })

/** Attempts to win against other writers before a save is given up until the next one. */
const most = 4

export const make = (state: StateStoreShape): AlertStore => {
  const epoch = AlertEpoch.make(state)
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
          ...epoch.found(entries.find(([key]) => key === AlertRecord.epochKey)?.[1].value),
          stored: entries.flatMap(([key, { value, version }]): ReadonlyArray<Stored> => {
            const record = AlertRecord.decode(value)
            return record === undefined || AlertRecord.storeKey(record.key) !== key ? [] : [{ record, version }]
          })
        })
      )
    ),
    begin: Effect.asVoid(quietly("written", epoch.begin)),
    save: (record, version) =>
      Effect.tap(
        quietly("written", save(record, version)),
        (stored) => stored === undefined ? Effect.void : quietly("written", epoch.raise)
      ),
    remove: (key) =>
      Effect.map(quietly("removed", Effect.as(state.remove(AlertRecord.storeKey(key)), true)), (done) => done === true)
  }
}
