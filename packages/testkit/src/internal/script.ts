/**
 * What a source gives of one table's history in one run, after what the sink said it holds: the copy that it lacks, or the rest of it, and all changes from its position on.
 */
import * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import * as Sequence from "@etl-stream/core/Sequence"
import type { TableElement, TablePosition } from "@etl-stream/core/Sink"
import * as BatchOf from "../BatchOf.ts"
import type { History } from "./history.ts"
import * as Histories from "./history.ts"
import { seeded } from "./random.ts"

/** An element, or the watermark that says that everything before `position` has been given. */
export type Item = TableElement | { readonly _tag: "Watermark"; readonly position: bigint }

/** A row of the copy that is valid, as it was read. */
export interface CopiedRow {
  readonly values: ReadonlyArray<BatchOf.Value>
  readonly position: bigint
}

/** What a table's runs have in common. */
export interface Memory {
  /** How many transactions were given or seen by a snapshot: the next run's catalog knows their shapes. */
  read: number
  /** Chunks of the copy that was begun last, and its position. */
  copy: { readonly base: bigint; readonly chunks: Map<number, ReadonlyArray<CopiedRow>> } | undefined
}

export const memory = (): Memory => ({ read: 0, copy: undefined })

export interface Options {
  /** What is different in each run. */
  readonly seed: number
  /** Number of chunks of copies. Keyless tables have one. */
  readonly chunks?: number
  /** Whether copies can be resumed. */
  readonly resumable?: boolean
  /** Up to where the source was told that everything is durable: it begins behind that. */
  readonly acknowledged?: Sequence.Sequence | undefined
  /** How many transactions a run gives; default: all. */
  readonly upTo?: number
}

/** Rows of a chunk: by their ids. */
const chunkOf = (values: ReadonlyArray<BatchOf.Value>, chunks: number): number =>
  Number(BigInt(values[0] as bigint) % BigInt(chunks)) // ids are bigints

const reads = (history: History, count: number, chunk: number, chunks: number): ReadonlyArray<CopiedRow> => {
  const position = Histories.positionOf(history, count)
  return Histories.rowsAfter(history, count).filter((values) => chunkOf(values, chunks) === chunk).map((values) => ({
    values,
    position
  }))
}

const isCovered = (changes: ReadonlyArray<Histories.Change>, acknowledged: Sequence.Sequence | undefined): boolean =>
  acknowledged !== undefined &&
  changes.every((change) =>
    Sequence.compare(change._tag === "Row" ? change.row.sequence : change.sequence, acknowledged) <= 0
  )

/** The elements, made as they are pulled. */
export function* items(history: History, held: TablePosition, memory: Memory, options: Options): Generator<Item> {
  const random = seeded(options.seed)
  const keyed = history.table.identity._tag === "Key"
  const chunks = keyed ? options.chunks ?? 3 : 1
  const upTo = options.upTo ?? history.transactions.length
  // A version of its own in each run; the shape is that of what was read last.
  let shape = Histories.shapeAfter(history, memory.read)
  const copies: Array<Generator<Item>> = []
  let base = held.copied
  if (base === undefined) {
    const { copying } = held
    const known = memory.copy
    const goesOn = copying !== undefined && known?.base === copying.position && keyed && memory.read <= Histories.plain
    if (!goesOn) {
      // A snapshot can't see less than an earlier one did; only plain transactions come beside the copy.
      const from = memory.read < Histories.plain ? memory.read + random.below(2) : memory.read
      base = Histories.positionOf(history, from)
      memory.read = Math.max(memory.read, from)
      memory.copy = { base, chunks: new Map() }
      shape = Histories.shapeAfter(history, from)
    } else base = copying.position
    yield {
      _tag: "SnapshotBegin",
      table: shape,
      position: base,
      plan: options.resumable === false ? undefined : `${chunks} chunks`,
      resumed: goesOn,
      estimatedRows: undefined,
      estimatedBytes: undefined
    }
    copies.push(copy(history, memory, base, new Set(goesOn ? copying.chunks.keys() : []), chunks, keyed, random.below))
  }
  const someOfCopy = function*(count: number): Generator<Item> {
    for (let taken = 0; taken < count; taken++) {
      const next = copies[0]?.next()
      if (next === undefined) return
      if (next.done === true) copies.pop()
      else yield next.value
    }
  }
  let gathered: Array<BatchOf.Row> = []
  const flush = function*(): Generator<Item> {
    const rows = gathered
    gathered = []
    if (rows.length > 0) yield { _tag: "Rows", batch: BatchOf.make(shape, rows) }
  }
  for (const [index, { changes, commit, end }] of history.transactions.entries()) {
    if (index >= upTo) break
    if (commit < base) continue
    if (held.copied !== undefined && isCovered(changes, options.acknowledged)) continue
    if (index >= Histories.plain) yield* someOfCopy(Number.POSITIVE_INFINITY)
    else yield* someOfCopy(random.below(4))
    for (const change of changes) {
      switch (change._tag) {
        case "Schema":
          // What an earlier run gave already is known to the catalog that this run began with.
          if (index < memory.read) break
          yield* flush()
          shape = change.table
          memory.read = Math.max(memory.read, index + 1)
          yield { _tag: "Schema", table: shape, sequence: change.sequence }
          break
        case "Truncate":
          yield* flush()
          yield { _tag: "Truncate", table: shape, sequence: change.sequence, commitTime: commit * 1_000_000n }
          break
        case "Row": {
          gathered.push({ ...change.row, values: Histories.shaped(change.row.values, shape) })
          if (change.row.operation !== ChangeBatch.Operation.KeyChangeOld && random.below(3) === 0) yield* flush()
          break
        }
      }
    }
    if (random.below(2) === 0 || index === upTo - 1) {
      yield* flush()
      memory.read = Math.max(memory.read, index + 1)
      yield { _tag: "Watermark", position: end }
    }
    memory.read = Math.max(memory.read, index + 1)
  }
  yield* flush()
  yield* someOfCopy(Number.POSITIVE_INFINITY)
}

/** The missing chunks in any order, each in a snapshot at or after the copy's position, its rows in two batches; then the end. */
function* copy(
  history: History,
  memory: Memory,
  base: bigint,
  held: ReadonlySet<number>,
  chunks: number,
  keyed: boolean,
  below: (n: number) => number
): Generator<Item> {
  const first = history.transactions.filter(({ commit }) => commit < base).length
  const shape = Histories.shapeAfter(history, first)
  const last = Math.max(first, memory.read, Math.min(Histories.plain, history.transactions.length))
  const missing = Array.from({ length: chunks }, (_, chunk) => chunk).filter((chunk) => !held.has(chunk))
  while (missing.length > 0) {
    const [chunk = 0] = missing.splice(below(missing.length), 1)
    // Rows without a key can't be told apart: they are read in the snapshot that the copy begins with.
    const count = keyed && first < Histories.plain ? first + below(last - first + 1) : first
    const position = Histories.positionOf(history, count)
    const rows = reads(history, count, chunk, chunks)
    const half = Math.ceil(rows.length / 2)
    for (const part of [rows.slice(0, half), rows.slice(half)]) {
      if (part.length === 0) continue
      const sequence = Sequence.make(position, 0n)
      const batch = BatchOf.make(
        shape,
        part.map(({ values }) => ({
          operation: ChangeBatch.Operation.Read,
          sequence,
          values: Histories.shaped(values, shape)
        }))
      )
      yield { _tag: "SnapshotRows", batch, position, chunk }
    }
    memory.copy?.chunks.set(chunk, rows)
    yield { _tag: "SnapshotChunk", table: shape, position, chunk, rows: rows.length }
  }
  const settled = [...memory.copy?.chunks.values() ?? []].flat().reduce(
    (most, { position }) => position > most ? position : most,
    base
  )
  yield { _tag: "SnapshotEnd", table: shape, position: base, chunks, settled }
}
