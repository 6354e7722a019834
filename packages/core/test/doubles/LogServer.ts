/**
 * A database in memory with a log of transactions, and sources that read it: a snapshot of tables without a copy, then every change
 * after the confirmed position. `confirmed` survives the runs, as a replication slot does.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { Element } from "../../src/Element.ts"
import type { Quarantine } from "../../src/Quarantine.ts"
import type { Source, SourceContext } from "../../src/Source.ts"
import type { TableId, TableSchema } from "../../src/TableSchema.ts"
import { tableId } from "../../src/TableSchema.ts"
import type { Chance } from "./Chance.ts"
import { batch, type Row } from "./Tables.ts"

export interface Change {
  readonly table: TableSchema
  readonly ordinal: bigint
  readonly id: number
}

export interface Transaction {
  readonly commit: bigint
  readonly end: bigint
  readonly changes: ReadonlyArray<Change>
}

/** A log of `n` transactions over the tables, with changes numbered from 0. */
export const randomLog = (
  chance: Chance,
  tables: ReadonlyArray<TableSchema>,
  n: number
): ReadonlyArray<Transaction> => {
  let id = 0
  return Array.from({ length: n }, (_, i) => ({
    commit: BigInt(100 + i * 10),
    end: BigInt(105 + i * 10),
    changes: Array.from({ length: chance.below(8) }, (_, ordinal) => ({
      table: tables[chance.below(tables.length)] as TableSchema, // in range
      ordinal: BigInt(ordinal * 2 + 1),
      id: id++
    }))
  }))
}

/** Chunks of every copy. */
const chunks = 4

/** The chunk that a row belongs to. */
export const chunkOf = (id: number): number => id % chunks

export class LogServer {
  readonly tables: ReadonlyArray<TableSchema>
  readonly log: ReadonlyArray<Transaction>
  readonly chance: Chance
  /** As the slot remembers it. */
  confirmed = 0n
  /** Whether the stream ends after the log, instead of waiting for more. */
  ends: boolean
  streams = 0
  /** Copies that went on with durable chunks. */
  resumed = 0
  open = 0
  /** New copies that were asked for, each with what its beginning completes. */
  private wanted: Array<{ readonly table: TableSchema; readonly begun: Deferred.Deferred<void> }> = []

  constructor(tables: ReadonlyArray<TableSchema>, log: ReadonlyArray<Transaction>, chance: Chance, ends = true) {
    this.tables = tables
    this.log = log
    this.chance = chance
    this.ends = ends
  }

  get end(): bigint {
    return this.log.at(-1)?.end ?? 0n
  }

  private row(transaction: Transaction, change: Change): Row {
    return { commit: transaction.commit, ordinal: change.ordinal, values: [change.id, `note ${change.id}`] }
  }

  /** Chunk `chunk` of a table, whose rows are cut by their ids, as a snapshot at `position` sees it. */
  private *chunk(table: TableSchema, chunk: number, position: bigint): Generator<Element> {
    const rows = this.log.filter(({ commit }) => commit < position).flatMap((transaction) =>
      transaction.changes.filter((change) => change.table === table && chunkOf(change.id) === chunk).map((change) => ({
        ...this.row(transaction, change),
        op: 0 as const,
        commit: position,
        ordinal: 0n
      }))
    )
    for (let at = 0; at < rows.length;) {
      const n = 1 + this.chance.below(10)
      yield { _tag: "SnapshotRows", batch: batch(table, rows.slice(at, at + n)), position, chunk }
      at += n
    }
    yield { _tag: "SnapshotChunk", table, position, chunk, rows: rows.length }
  }

  /** The missing chunks of a table in random order and of random snapshots at or above `base`, then the end. */
  private *copy(table: TableSchema, base: bigint, held: ReadonlyMap<number, bigint>): Generator<Element> {
    let settled = [...held.values()].reduce((a, b) => a > b ? a : b, base)
    const missing = Array.from({ length: chunks }, (_, chunk) => chunk).filter((chunk) => !held.has(chunk))
    const later = this.log.filter(({ commit }) => commit >= base)
    while (missing.length > 0) {
      const [chunk = 0] = missing.splice(this.chance.below(missing.length), 1)
      const position = later[this.chance.below(later.length)]?.commit ?? base
      if (position > settled) settled = position
      yield* this.chunk(table, chunk, position)
    }
    yield { _tag: "SnapshotEnd", table, position: base, chunks, settled }
  }

  /** Elements of a run: copies where there is none, or the rest of them, while the log comes from the confirmed position on. */
  *elements(context: SourceContext): Generator<Element> {
    const copied = new Map<string, bigint>()
    const confirmed = this.confirmed
    const copies: Array<{ readonly id: TableId; readonly elements: Generator<Element> }> = []
    const from = this.log.findIndex(({ end }) => end > confirmed)
    for (const table of this.tables) {
      const id = tableId(table.table)
      if (context.quarantined(id) !== undefined) continue
      const held = context.positions.get(id)
      const resumed = held?.copying !== undefined
      // A new copy begins with changes that weren't confirmed yet, at any of them.
      const later = this.log[from + this.chance.below(this.log.length - from)]
      const base = held?.copied ?? held?.copying?.position ?? (from < 0 ? this.end + 1n : later?.commit ?? 0n)
      copied.set(id, base)
      if (held?.copied !== undefined) continue
      const chunks = held?.copying?.chunks ?? new Map<number, bigint>()
      if (chunks.size > 0) this.resumed++
      yield {
        _tag: "SnapshotBegin",
        table,
        position: base,
        plan: "by id",
        resumed,
        estimatedRows: undefined,
        estimatedBytes: undefined
      }
      copies.push({ id, elements: this.copy(table, base, chunks) })
    }
    /** The quarantine that a new copy ends: the beginning may still be on its way. */
    const ended = new Map<TableId, Quarantine | undefined>()
    const isGivenUp = (id: TableId) => {
      const now = context.quarantined(id)
      return now !== undefined && now !== ended.get(id)
    }
    const someOfCopies = function*(count: number): Generator<Element> {
      for (let i = 0; i < count; i++) {
        const copy = copies[i % Math.max(1, copies.length)]
        if (copy === undefined) return
        // Nobody wants the rest of a copy that was given up.
        const next = isGivenUp(copy.id) ? undefined : copy.elements.next()
        if (next === undefined || next.done === true) copies.splice(i % copies.length, 1)
        else yield next.value
      }
    }
    const gathered = new Map<TableSchema, Array<Row>>()
    const flush = (): ReadonlyArray<Element> => {
      const elements = [...gathered].map(([table, rows]): Element => ({ _tag: "Rows", batch: batch(table, rows) }))
      gathered.clear()
      return elements
    }
    const again = function*(this: LogServer, here: bigint): Generator<Element> {
      for (let next = this.wanted.shift(); next !== undefined; next = this.wanted.shift()) {
        const { begun, table } = next
        const id = tableId(table.table)
        for (let at = copies.length - 1; at >= 0; at--) if (copies[at]?.id === id) copies.splice(at, 1)
        yield* flush()
        // A copy that began ahead of the log has left changes before it out.
        const before = copied.get(id) ?? 0n
        const base = before > here ? before : here
        copied.set(id, base)
        ended.set(id, context.quarantined(id))
        yield {
          _tag: "SnapshotBegin",
          table,
          position: base,
          plan: "by id",
          resumed: false,
          estimatedRows: undefined,
          estimatedBytes: undefined
        }
        Deferred.doneUnsafe(begun, Effect.void)
        copies.push({ id, elements: this.copy(table, base, new Map()) })
      }
    }.bind(this)
    for (const transaction of this.log) {
      if (transaction.end <= confirmed) continue
      yield* again(transaction.commit)
      yield* someOfCopies(this.chance.below(3))
      for (const change of transaction.changes) {
        if (transaction.commit < (copied.get(tableId(change.table.table)) ?? 0n)) continue
        const rows = gathered.get(change.table) ?? []
        gathered.set(change.table, rows)
        rows.push(this.row(transaction, change))
        if (this.chance.oneIn(6)) yield* flush()
      }
      // A batch may hold rows of several transactions; a watermark comes after everything before it.
      if (this.chance.oneIn(2) || transaction === this.log.at(-1)) {
        yield* flush()
        yield { _tag: "Watermark", position: transaction.end, commitTime: transaction.commit * 1_000_000n }
      }
    }
    while (true) {
      while (copies.length > 0) yield* someOfCopies(copies.length)
      if (this.ends) return
      yield* again(this.end + 1n)
      // Nothing to do: a mark that says nothing new gives others their turn.
      if (copies.length === 0) yield { _tag: "Watermark", position: this.end, commitTime: undefined }
    }
  }

  source(): Source {
    return {
      tables: Effect.sync(() => this.tables),
      stream: (context) => {
        const confirm = Effect.sync(() => {
          const position = context.acknowledged()
          if (position > this.confirmed) this.confirmed = position
        })
        const elements = Stream.unwrap(Effect.gen({ self: this }, function*() {
          this.streams++
          this.open++
          yield* Effect.addFinalizer(() => Effect.sync(() => this.open--))
          // Feedback is a fiber of its own, however slow the consumer is.
          yield* Effect.forkScoped(Effect.forever(Effect.andThen(confirm, Effect.sleep(1))))
          yield* Effect.addFinalizer(() => Effect.sync(() => this.wanted = []))
          const read = Stream.fromIterable(this.elements(context), { chunkSize: 1 })
          return this.ends ? read : Stream.tap(read, ({ _tag }) => _tag === "Watermark" ? Effect.sleep(1) : Effect.void)
        }))
        return elements
      },
      resync: Effect.fnUntraced({ self: this }, function*(id: TableId) {
        const table = this.tables.find(({ table }) => tableId(table) === id)
        if (table === undefined) return
        const begun = yield* Deferred.make<void>()
        this.wanted.push({ table, begun })
        yield* Deferred.await(begun)
      })
    }
  }
}
