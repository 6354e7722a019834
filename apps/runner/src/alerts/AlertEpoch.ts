/**
 * By what it is seen that the state store has lost alerts: a document beside them that says since when the store keeps them (an id), and how often they were
 * written since (a generation).
 *
 * Another id than was known: the store was emptied. A lower generation: it went back to an old copy, as a failover or a restart from a backup makes it do.
 * Whoever sees that writes a new id, so that the others see it too, however often alerts are written until they look.
 */
import type { StateStoreShape } from "@etl-stream/core/StateStore"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Semaphore from "effect/Semaphore"
import { randomUUID } from "node:crypto"
import * as AlertRecord from "./AlertRecord.ts"

interface Epoch {
  readonly id: string
  readonly generation: number
}

export interface AlertEpoch {
  /** Takes note of the stored document as it was found beside the alerts. `lost`: alerts that were there before are gone by no one's doing. */
  readonly found: (document: string | undefined) => { readonly lost: boolean; readonly begins: boolean }
  /** Begins a new one, or finds the one that another process was faster to begin. */
  readonly begin: Effect.Effect<void, unknown>
  /** To be called after alerts were written. Those who call it at the same time share a write. */
  readonly raise: Effect.Effect<void, unknown>
}

/** Attempts to win against other writers. */
const most = 4

/** One that can't be read is one of its own. */
const decode = (document: string): Epoch => {
  const [id = "", generation] = document.split(" ")
  return { id, generation: Number(generation) || 0 }
}

const encode = ({ generation, id }: Epoch): string => `${id} ${generation}`

export const make = (state: StateStoreShape): AlertEpoch => {
  /** As it was known last, here or by what was written here. */
  let known: Epoch | undefined = undefined
  const isOlder = ({ generation, id }: Epoch): boolean =>
    known !== undefined && known.id === id && generation < known.generation

  /** `next`: what becomes of the stored one, undefined when it may stay. The one that is stored then, if that came about. */
  const write = Effect.fnUntraced(function*(next: (stored: Epoch) => Epoch | undefined) {
    for (let attempt = 0; attempt < most; attempt++) {
      const entry = Option.getOrUndefined(yield* state.get(AlertRecord.epochKey))
      const stored = entry === undefined ? undefined : decode(entry.value)
      const wanted = stored === undefined || isOlder(stored) ? { id: randomUUID(), generation: 0 } : next(stored)
      if (wanted === undefined) return stored
      const written = yield* state.compareAndSet(AlertRecord.epochKey, encode(wanted), entry?.version)
      if (Option.isSome(written)) return wanted
    }
    return undefined
  })

  const writing = Semaphore.makeUnsafe(1)
  let asked = 0
  let raised = 0

  return {
    found: (document) => {
      const stored = document === undefined ? undefined : decode(document)
      if (stored === undefined) return { lost: known !== undefined, begins: true }
      if (isOlder(stored)) return { lost: true, begins: true }
      const lost = known !== undefined && known.id !== stored.id
      known = stored
      return { lost, begins: false }
    },
    begin: Effect.map(write(() => undefined), (stored) => {
      known = stored ?? known
    }),
    raise: Effect.suspend(() => {
      const turn = ++asked
      return writing.withPermits(1)(Effect.gen(function*() {
        if (raised >= turn) return
        const upTo = asked
        const stored = yield* write(({ generation, id }) => ({ id, generation: generation + 1 }))
        raised = upTo
        // Another id is for `found` to see.
        if (stored !== undefined && (known === undefined || known.id === stored.id)) known = stored
      }))
    })
  }
}
