/**
 * A database in memory with a log of transactions, and sources that read it: a snapshot of tables without a copy, then every change
 * after the confirmed position. `confirmed` survives the runs, as a replication slot does.
 */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { Element } from "../../src/Element.ts"
import type { Source, SourceContext } from "../../src/Source.ts"
import type { TableSchema } from "../../src/TableSchema.ts"
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

export class LogServer {
  readonly tables: ReadonlyArray<TableSchema>
  readonly log: ReadonlyArray<Transaction>
  readonly chance: Chance
  /** As the slot remembers it. */
  confirmed = 0n
  /** Whether the stream ends after the log, instead of waiting for more. */
  ends: boolean
  streams = 0
  open = 0

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

  private *copy(table: TableSchema, position: bigint): Generator<Element> {
    const rows = this.log.filter(({ commit }) => commit < position).flatMap((transaction) =>
      transaction.changes.filter((change) => change.table === table).map((change) => ({
        ...this.row(transaction, change),
        op: 0 as const,
        commit: position,
        ordinal: 0n
      }))
    )
    yield { _tag: "SnapshotBegin", table, position, estimatedRows: rows.length, estimatedBytes: undefined }
    let part = 0
    for (let at = 0; at < rows.length;) {
      const n = 1 + this.chance.below(10)
      yield { _tag: "SnapshotRows", batch: batch(table, rows.slice(at, at + n)), position, part: part++ }
      at += n
    }
    yield { _tag: "SnapshotEnd", table, position, rows: rows.length }
  }

  /** Elements of a run: copies where there is none, then the log from the confirmed position on. */
  *elements(context: SourceContext): Generator<Element> {
    const copied = new Map<string, bigint>()
    const confirmed = this.confirmed
    for (const table of this.tables) {
      const held = context.positions.get(tableId(table.table))?.copied
      if (held !== undefined) copied.set(tableId(table.table), held)
    }
    // A new snapshot sees at least what was confirmed, and never less than an earlier one.
    const from = this.log.findIndex(({ end }) => end > confirmed)
    const missing = this.tables.filter(({ table }) => !copied.has(tableId(table)))
    if (missing.length > 0 && from >= 0) {
      const later = this.log[from + this.chance.below(this.log.length - from)]
      const position = [later?.commit ?? 0n, ...copied.values()].reduce((a, b) => a > b ? a : b)
      for (const table of missing) {
        copied.set(tableId(table.table), position)
        yield* this.copy(table, position)
      }
    }
    const gathered = new Map<TableSchema, Array<Row>>()
    const flush = (): ReadonlyArray<Element> => {
      const elements = [...gathered].map(([table, rows]): Element => ({ _tag: "Rows", batch: batch(table, rows) }))
      gathered.clear()
      return elements
    }
    for (const transaction of this.log) {
      if (transaction.end <= confirmed) continue
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
          const read = Stream.fromIterable(this.elements(context), { chunkSize: 1 })
          return this.ends ? read : Stream.concat(read, Stream.never)
        }))
        return elements
      }
    }
  }
}
