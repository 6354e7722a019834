/**
 * What a history should be: every version of each row, from a list of changes by transaction, in plain code.
 *
 * Times are seconds: of a change its commit's, of what a copy brings the copy's.
 */
import { Operation } from "@etl-stream/core/ChangeBatch"
import * as Sequence from "@etl-stream/core/Sequence"
import type { Change, ChunkedCopy, Texts } from "./ChunkedCopyModel.ts"
import { keyOf, parse, sequenceOf } from "./ChunkedCopyModel.ts"
import type { Step } from "./MirrorModel.ts"
import { print } from "./MirrorModel.ts"

export interface Version {
  readonly values: Texts
  readonly from: bigint
  readonly to: bigint | undefined
  readonly sequence: string
}

/** Seconds at which a commit was made. */
export const timeOf = (commit: bigint): bigint => 1_700_000_000n + commit

export const printVersion = ({ from, sequence, to, values }: Version): string =>
  `${print(values)} ${from} ${to ?? "now"} ${sequence}`

export class HistoryModel {
  private readonly ended: Array<Version> = []
  private readonly open = new Map<string, Version>()

  get versions(): ReadonlyArray<string> {
    return [...this.ended, ...this.open.values()].map(printVersion).sort()
  }

  private end(key: string, to: bigint): void {
    const version = this.open.get(key)
    if (version === undefined) return
    this.open.delete(key)
    this.ended.push({ ...version, to })
  }

  /** The copy is complete: rows that are gone or differ end, others begin. Returns the keys that were kept. */
  copied({ chunks }: ChunkedCopy, time: bigint): ReadonlySet<string> {
    const rows = new Map(
      chunks.flatMap(({ position, rows }) => rows.map((values) => [keyOf(values), { values, position }] as const))
    )
    const kept = new Set<string>()
    for (const [key, { values }] of this.open) {
      const row = rows.get(key)
      if (row !== undefined && print(row.values) === print(values)) kept.add(key)
      else this.end(key, time)
    }
    for (const [key, { position, values }] of rows) {
      if (kept.has(key)) continue
      this.open.set(key, { values, from: time, to: undefined, sequence: Sequence.format(Sequence.make(position, 0n)) })
    }
    return kept
  }

  /** Changes of one transaction; the rows are there after it. `unseen`: what a version began with that counts to the transaction as well. */
  private commit(
    changes: ReadonlyArray<Change>,
    rows: ReadonlyArray<Texts>,
    counts: (key: string, sequence: string) => boolean,
    unseen: (key: string) => boolean
  ): void {
    interface Touched {
      readonly first: bigint
      readonly born: bigint | undefined
      readonly last: Sequence.Sequence
    }
    const touched = new Map<string, Touched>()
    for (const change of changes) {
      const sequence = sequenceOf(change)
      const keys = "truncate" in change
        ? [...new Set([...this.open.keys(), ...touched.keys()])]
        : [keyOf(change.values)]
      const time = timeOf(sequence.commit)
      const birth = "op" in change && (change.op === Operation.Insert || change.op === Operation.KeyChangeNew)
      for (const key of keys) {
        if (!counts(key, Sequence.format(sequence))) continue
        const before = touched.get(key)
        touched.set(key, { first: before?.first ?? time, born: birth ? time : before?.born, last: sequence })
      }
    }
    const after = new Map(rows.map((values) => [keyOf(values), values]))
    for (const [key, { born, first, last }] of touched) {
      const replaced = unseen(key) ? this.open.get(key) : undefined
      if (replaced === undefined) this.end(key, first)
      else this.open.delete(key)
      const values = after.get(key)
      if (values === undefined) continue
      this.open.set(key, {
        values,
        from: born ?? replaced?.from ?? first,
        to: undefined,
        sequence: Sequence.format(last)
      })
    }
  }

  /** The changes beside a copy, up to its last snapshot as one transaction, and those after it. `kept` are the keys whose versions are older than the copy. */
  changed(copy: ChunkedCopy, kept: ReadonlySet<string>): void {
    const beside = copy.steps.filter(({ sequence }) => sequence.commit < copy.copiedTo)
    const read = new Map([...this.open].filter(([key]) => !kept.has(key)).map(([key, { sequence }]) => [key, sequence]))
    this.commit(
      beside.flatMap(({ changes }) => changes),
      (beside.at(-1)?.rows ?? []).map(parse),
      (key, sequence) => sequence >= (read.get(key) ?? ""),
      (key) => read.has(key)
    )
    this.transactions(copy.steps.slice(beside.length))
  }

  transactions(steps: ReadonlyArray<Step>): void {
    for (const transaction of Map.groupBy(steps, ({ sequence }) => sequence.commit).values()) {
      this.commit(
        transaction.flatMap(({ changes }) => changes),
        (transaction.at(-1)?.rows ?? []).map(parse),
        () => true,
        () => false
      )
    }
  }
}
