/**
 * What a mirrored table should be: a tiny model in memory, and random histories to try it with.
 *
 * A history is a list of changes as a source would emit them, valid by construction: what is updated, deleted or moved exists, what
 * is inserted doesn't. The state after each change is kept, so that a test can stop anywhere.
 */
import { Operation } from "@etl-stream/core/ChangeBatch"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Batches from "./Batches.ts"

/** A number in [0, bound) from a seed: reproducible, unlike Math.random. */
export type Random = (bound: number) => number

export const random = (seed: number): Random => {
  let state = seed >>> 0
  return (bound) => {
    // mulberry32
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return (((mixed ^ (mixed >>> 14)) >>> 0) % bound)
  }
}

export interface Truncate {
  readonly truncate: Sequence.Sequence
}

export interface Step {
  /** One row, two for a change of key. */
  readonly changes: ReadonlyArray<Batches.Row | Truncate>
  readonly sequence: Sequence.Sequence
  /** The table's rows afterwards, as sorted texts. */
  readonly rows: ReadonlyArray<string>
  /** Rows that are deleted, as they were last, likewise: those of keys that are free. Absent where a test has none. */
  readonly gone?: ReadonlyArray<string>
}

/** Columns of the keyed table: key (code, id), then values; every value may be NULL. */
export const keyed = Batches.table("items", {
  body: { _tag: "Text", maxLength: undefined },
  id: { _tag: "Int32" },
  code: { _tag: "Text", maxLength: undefined },
  count: { _tag: "Int32" },
  doc: { _tag: "Json" },
  // Names that a careless statement would confuse with its own, and one that is a pattern of another.
  row: { _tag: "Text", maxLength: undefined },
  "body\",\"row": { _tag: "Text", maxLength: undefined }
}, { _tag: "Key", columns: [2, 1] })

type Values = ReadonlyArray<Batches.Value>

export const print = (values: ReadonlyArray<unknown>): string =>
  JSON.stringify(values.map((value) => value === null || value === undefined ? null : String(value)))

const sorted = (rows: Iterable<Values>): ReadonlyArray<string> => [...rows].map(print).sort()

/** A history of `length` steps over few keys, so that keys are used again and again. */
export const keyedHistory = (seed: number, length: number, keys = 5): ReadonlyArray<Step> => {
  const next = random(seed)
  const state = new Map<number, Values>()
  const gone = new Map<number, Values>()
  const steps: Array<Step> = []
  let commit = 100n
  let index = 0n
  let serial = 0
  const keyOf = (key: number): Pick<Record<"id" | "code", Batches.Value>, "id" | "code"> => ({
    id: key >> 1,
    code: key % 2 === 0 ? "a" : "A'"
  })
  const value = (): Batches.Value => next(4) === 0 ? null : `v${serial++}\\'"${next(3)}`
  const json = (): Batches.Value => next(4) === 0 ? null : next(5) === 0 ? "null" : `{"n":${serial++}}`
  const row = (key: number, from?: Values): Values => {
    const { code, id } = keyOf(key)
    // An existing row may keep columns unsent.
    const choose = (make: () => Batches.Value): Batches.Value =>
      from !== undefined && next(2) === 0 ? Batches.unsent : make()
    return [
      choose(value),
      id,
      code,
      from === undefined || next(2) === 0 ? next(100) : from[3] ?? null,
      choose(json),
      choose(value),
      choose(value)
    ]
  }
  const merge = (from: Values, sent: Values): Values =>
    sent.map((item, column) => item === Batches.unsent ? from[column] ?? null : item)
  const keyOnly = (key: number): Values => {
    const { code, id } = keyOf(key)
    return [null, id, code, null, null, null, null]
  }
  const sequence = (odd: boolean): Sequence.Sequence => Sequence.make(commit, 2n * index + (odd ? 1n : 0n))
  const finish = (changes: Step["changes"]): void => {
    for (const key of state.keys()) gone.delete(key)
    steps.push({ changes, sequence: sequence(true), rows: sorted(state.values()), gone: sorted(gone.values()) })
    index++
    if (next(3) === 0) {
      commit += BigInt(1 + next(1000))
      index = BigInt(next(3))
    }
  }
  const change = (op: Operation, values: Values): void => finish([{ op, sequence: sequence(true), values }])
  const move = (from: number, to: number): void => {
    const old = state.get(from)
    if (old === undefined) throw new Error("a row that isn't there can't move")
    const sent = row(to, old)
    state.delete(from)
    gone.set(from, old)
    state.set(to, merge(old, sent))
    finish([
      { op: Operation.KeyChangeOld, sequence: sequence(false), values: keyOnly(from) },
      { op: Operation.KeyChangeNew, sequence: sequence(true), values: sent }
    ])
  }
  const pick = (from: ReadonlyArray<number>): number => from[next(from.length)] ?? 0
  while (steps.length < length) {
    const present = [...state.keys()]
    const absent = Array.from({ length: keys }, (_, key) => key).filter((key) => !state.has(key))
    const kind = next(20)
    if (kind === 0) {
      for (const [key, values] of state) gone.set(key, values)
      state.clear()
      finish([{ truncate: sequence(true) }])
    } else if (kind < 6 && absent.length > 0) {
      const key = pick(absent)
      const values = row(key)
      state.set(key, values)
      change(Operation.Insert, values)
    } else if (kind < 11 && present.length > 0) {
      const key = pick(present)
      const old = state.get(key) ?? []
      const sent = row(key, old)
      state.set(key, merge(old, sent))
      change(Operation.Update, sent)
    } else if (kind < 13 && present.length > 0) {
      const key = pick(present)
      gone.set(key, state.get(key) ?? [])
      state.delete(key)
      change(Operation.Delete, keyOnly(key))
    } else if (kind < 18 && present.length > 0 && absent.length > 0) move(pick(present), pick(absent))
    else if (kind >= 18 && present.length > 1 && absent.length > 0) {
      // A swap through a key that is free.
      const [first, second] = present.sort(() => next(2) - 0.5)
      const free = pick(absent)
      if (first === undefined || second === undefined) continue
      move(first, free)
      move(second, first)
      move(free, second)
    }
  }
  return steps
}

/** A table without a key: equal rows may exist several times. */
export const keyless = Batches.table("events", {
  name: { _tag: "Text", maxLength: undefined },
  count: { _tag: "Int32" },
  doc: { _tag: "Json" }
}, { _tag: "Full" })

/** A history of a multiset: `rows` holds each copy. `start` rows come from a snapshot. */
export const keylessHistory = (seed: number, length: number, start: ReadonlyArray<Values>): ReadonlyArray<Step> => {
  const next = random(seed)
  const state: Array<Values> = [...start]
  const gone: Array<Values> = []
  const steps: Array<Step> = []
  let index = 0n
  const row = (): Values => [
    next(3) === 0 ? null : `n${next(2)}`,
    next(2) === 0 ? null : next(2),
    next(3) === 0 ? "null" : next(2) === 0 ? null : "{\"a\":1}"
  ]
  const sequence = (odd: boolean): Sequence.Sequence => Sequence.make(200n, 2n * index + (odd ? 1n : 0n))
  const finish = (changes: Step["changes"]): void => {
    steps.push({ changes, sequence: sequence(true), rows: sorted(state), gone: sorted(gone) })
    index++
  }
  const take = (): Values => {
    const [taken = []] = state.splice(next(state.length), 1)
    gone.push(taken)
    return taken
  }
  while (steps.length < length) {
    const kind = next(20)
    if (kind === 0) {
      gone.push(...state.splice(0))
      finish([{ truncate: sequence(true) }])
    } else if (kind < 9 || state.length === 0) {
      const values = row()
      state.push(values)
      finish([{ op: Operation.Insert, sequence: sequence(true), values }])
    } else if (kind < 15) finish([{ op: Operation.Delete, sequence: sequence(true), values: take() }])
    else {
      const old = take()
      const values = row()
      state.push(values)
      finish([
        { op: Operation.KeyChangeOld, sequence: sequence(false), values: old },
        { op: Operation.KeyChangeNew, sequence: sequence(true), values }
      ])
    }
  }
  return steps
}
