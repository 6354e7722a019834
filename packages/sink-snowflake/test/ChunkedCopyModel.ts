/**
 * Copies whose chunks are read in different snapshots, over the histories of `MirrorModel`: what each chunk holds, and which changes come beside it.
 *
 * Changes of key are sent as a source must: complete when the old row may not be in the copy as it was then.
 */
import { Operation } from "@etl-stream/core/ChangeBatch"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Effect from "effect/Effect"
import * as fc from "fast-check"
import { literal, quote } from "../src/Identifier.ts"
import { NdjsonEncoder } from "../src/NdjsonEncoder.ts"
import type { TableLayout } from "../src/TableLayout.ts"
import * as Layout from "../src/TableLayout.ts"
import * as Batches from "./Batches.ts"
import type * as Local from "./Local.ts"
import type { Step, Truncate } from "./MirrorModel.ts"
import * as Model from "./MirrorModel.ts"

export type Change = Batches.Row | Truncate

/** A row as texts. */
export type Texts = ReadonlyArray<string | null>

export interface ChunkedCopy {
  readonly base: bigint
  readonly chunks: ReadonlyArray<{ readonly position: bigint; readonly rows: ReadonlyArray<Texts> }>
  readonly copiedTo: bigint
  /** Steps from `base` on, and their changes as they are sent. */
  readonly steps: ReadonlyArray<Step>
  readonly changes: ReadonlyArray<ReadonlyArray<Change>>
  readonly expected: ReadonlyArray<string>
}

export const sequenceOf = (change: Change | undefined): Sequence.Sequence =>
  change === undefined ? Sequence.zero : "truncate" in change ? change.truncate : change.sequence

export const parse = (row: string): Texts => JSON.parse(row) as Texts // written by `print`

export const keyOf = (values: ReadonlyArray<unknown>): string => `${String(values[1])} ${String(values[2])}`

/** The table in a snapshot at `position`: changes of lower commits are in it. */
export const rowsAt = (steps: ReadonlyArray<Step>, position: bigint): ReadonlyArray<Texts> => {
  const step = steps.findLast(({ sequence }) => sequence.commit < position)
  return step === undefined ? [] : step.rows.map(parse)
}

/** Positions that a snapshot may have: at a commit, or after it. */
export const positions = (
  steps: ReadonlyArray<Step>
): ReadonlyArray<bigint> => [...new Set(steps.flatMap(({ sequence }) => [sequence.commit, sequence.commit + 1n]))]

/** The chunk that a key belongs to, of `count`. */
export const chunkOf = (values: ReadonlyArray<unknown>, count: number): number =>
  (2 * Number(values[1]) + (values[2] === "a" ? 0 : 1)) % count

/** The changes of a step; a change of key with all its values when `complete` says so of the old key. */
export const sent = (step: Step, complete: (old: Batches.Row) => boolean): ReadonlyArray<Change> => {
  const [old, moved] = step.changes
  if (
    old === undefined || moved === undefined || "truncate" in old || "truncate" in moved ||
    moved.op !== Operation.KeyChangeNew || !complete(old)
  ) return step.changes
  const row = step.rows.map(parse).find((values) => keyOf(values) === keyOf(moved.values))
  return [old, {
    ...moved,
    values: moved.values.map((value, index) => value === Batches.unsent ? row?.[index] ?? null : value)
  }]
}

/** What a copy is made from: which history, how many chunks, which of its positions the copy and each chunk have. */
export interface Options {
  readonly seed: number
  readonly length: number
  readonly count: number
  readonly from: number
  readonly reads: ReadonlyArray<number>
}

export const make = ({ count, from, length, reads, seed }: Options): ChunkedCopy => {
  const steps = Model.keyedHistory(seed, length)
  const all = positions(steps)
  const baseIndex = from % Math.max(1, all.length >> 1)
  const base = all[baseIndex] ?? 0n
  const streamed = steps.filter(({ sequence }) => sequence.commit >= base)
  const chunks = Array.from({ length: count }, (_, chunk) => {
    const position = all[baseIndex + (reads[chunk] ?? 0) % (all.length - baseIndex)] ?? base
    return { position, rows: rowsAt(steps, position).filter((row) => chunkOf(row, count) === chunk) }
  })
  return {
    base,
    chunks,
    copiedTo: chunks.reduce((latest, { position }) => position > latest ? position : latest, base),
    steps: streamed,
    changes: streamed.map((step) =>
      sent(step, (old) => step.sequence.commit < (chunks[chunkOf(old.values, count)]?.position ?? 0n))
    ),
    expected: steps.at(-1)?.rows ?? []
  }
}

export const options: fc.Arbitrary<Options> = fc.record({
  seed: fc.integer(),
  length: fc.integer({ min: 1, max: 80 }),
  count: fc.integer({ min: 1, max: 5 }),
  from: fc.nat(),
  reads: fc.array(fc.nat(), { minLength: 5, maxLength: 5 })
})

/**
 * What is wrong with a target that changes up to those of `step` are merged into; undefined when nothing is. Rows of a chunk are as they were read until
 * the changes reach its snapshot, and as the source has them from there on. Before, there may be rows besides that its snapshot lacks.
 */
export const difference = (
  copy: ChunkedCopy,
  step: Step,
  target: ReadonlyArray<string>
):
  | { readonly chunk: number; readonly found: ReadonlyArray<string>; readonly wanted: ReadonlyArray<string> }
  | undefined =>
{
  const count = copy.chunks.length
  for (const [chunk, { position, rows }] of copy.chunks.entries()) {
    const own = (all: ReadonlyArray<string>) => all.filter((row) => chunkOf(parse(row), count) === chunk)
    const reached = position <= step.sequence.commit
    const wanted = reached ? own(step.rows) : rows.map(Model.print).sort()
    const found = own(target).filter((row) => reached || wanted.includes(row))
    if (found.join() !== wanted.join()) return { chunk, found, wanted }
  }
  return undefined
}

/** What streaming takes for a column, as SQL takes it. */
const sql = (value: unknown, type: string): string => {
  const text = literal(String(value))
  return type === "BINARY" ? `TO_BINARY(${text}, 'BASE64')` : text
}

/** The journal's rows as SQL values, by way of the encoder that fills it in earnest. */
export const journalRows = (
  layout: TableLayout,
  changes: ReadonlyArray<Change>,
  commitTime: (commit: bigint) => bigint = () => Batches.commitTime
): ReadonlyArray<string> => {
  const encoder = new NdjsonEncoder(layout, "fail")
  const columns = Layout.journalColumns(layout)
  return changes.map((change) => {
    const bytes = "truncate" in change
      ? encoder.truncate(change.truncate, commitTime(change.truncate.commit))
      : encoder.encode(Batches.batch(layout.table, [change], commitTime(change.sequence.commit)), 0, 1e6).bytes
    const row: Record<string, unknown> = JSON.parse(Buffer.from(bytes).toString())
    return `(${columns.map(({ name, type }) => row[name] === undefined ? "NULL" : sql(row[name], type)).join(", ")})`
  })
}

const shown = (column: string, type: string): string => {
  if (type === "VARIANT") return `TO_JSON(${column})`
  return type.startsWith("TIMESTAMP") ? `TO_VARCHAR(${column}, 'YYYY-MM-DD HH24:MI:SS.FF6')` : `${column}::VARCHAR`
}

/** The target's rows as the model prints them, those that were softly deleted or the others. */
export const targetRows = (local: Local.Local, layout: TableLayout, deleted = false) =>
  Effect.map(
    local.query(
      `SELECT ${
        layout.columns.map(({ name, target }, index) => {
          const column = quote(name)
          return `${shown(column, target)} AS "C${index}"`
        }).join(", ")
      } FROM ${Layout.sqlName(layout.target)}${
        layout.softDelete ? ` WHERE ${quote(Layout.Metadata.deleted)} = ${deleted}` : ""
      }`
    ),
    (rows) => rows.map((row) => Model.print(layout.columns.map((_column, index) => row[`C${index}`]))).sort()
  )
