/**
 * A sink in memory that holds, durably, a prefix of what it accepted per table: anything behind it is lost with the run.
 *
 * What is durable survives the runs in `tables`. Commits happen in the background in pieces that needn't end where a batch does, and
 * may fail to be reported. It checks the engine's duties: one write at a time, in order, nothing that it holds already.
 */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as BatchSlice from "../../src/BatchSlice.ts"
import type { ChangeBatch } from "../../src/ChangeBatch.ts"
import { ConnectorError } from "../../src/ConnectorError.ts"
import * as Sequence from "../../src/Sequence.ts"
import type { Sink, TableElement } from "../../src/Sink.ts"
import { tableId } from "../../src/TableSchema.ts"
import type { TableId } from "../../src/TableSchema.ts"
import { sequences } from "./Tables.ts"

export interface Held {
  copied: bigint | undefined
  /** Ids of the rows of the copy; void until `copied` is set. */
  copy: Array<number>
  /** Changes that are durable: sequence and id, truncates as `truncate`, schema changes aren't kept. */
  readonly changes: Array<readonly [sequence: Sequence.Sequence, what: number | "truncate"]>
}

interface Opened {
  readonly accepted: Array<readonly [Sequence.Sequence, number | "truncate"]>
  readonly durable: (sequence: Sequence.Sequence) => Effect.Effect<void>
  writing: boolean
  copy: Array<number>
}

export const broken = (message: string): ConnectorError =>
  new ConnectorError({ reason: "Unreachable", plugin: "test", message, hint: "none" })

const ids = (batch: ChangeBatch): ReadonlyArray<number> => {
  const column = batch.records.getChild("id")
  return Array.from({ length: batch.rows }, (_, row) => Number(column?.get(row)))
}

export class PrefixSink {
  readonly tables = new Map<TableId, Held>()
  /** Every element given to a writer, over all runs. */
  readonly written: Array<readonly [table: TableId, what: string, rows: number]> = []
  /** Breaches of the engine's duties. */
  readonly breaches: Array<string> = []
  settled = 0
  closed = 0
  /** Rows accepted and not yet durable, of this run. */
  private opened = new Map<TableId, Opened>()
  /** Called at each point where a fault can be injected. */
  at: (point: "open" | "write" | "accepted" | "commit" | "run", table: TableId) => Effect.Effect<void, ConnectorError> =
    () => Effect.void
  /** How many of `n` rows the next background commit makes durable; 0 stalls it. */
  commits: (n: number) => number = (n) => n
  /** Whether a commit is reported. */
  reports: () => boolean = () => true
  private readonly work = Latch.makeUnsafe(false)

  held(table: TableId): Held {
    let held = this.tables.get(table)
    if (held === undefined) {
      held = { copied: undefined, copy: [], changes: [] }
      this.tables.set(table, held)
    }
    return held
  }

  /** A crash: what is accepted and not durable is gone. */
  crash(): void {
    this.opened = new Map()
  }

  /** Lets the background look again, after `commits` was changed. */
  wake(): void {
    this.work.openUnsafe()
  }

  private write = Effect.fnUntraced({ self: this }, function*(table: TableId, opened: Opened, element: TableElement) {
    if (opened.writing) this.breaches.push(`two writes at a time for ${table}`)
    opened.writing = true
    yield* this.at("write", table)
    const held = this.held(table)
    this.written.push([table, element._tag, "batch" in element ? element.batch.rows : 0])
    const last = opened.accepted.at(-1)?.[0] ?? held.changes.at(-1)?.[0]
    const add = (sequence: Sequence.Sequence, what: number | "truncate") => {
      if (last !== undefined && Sequence.compare(sequence, last) <= 0) this.breaches.push(`${table} went back`)
      if (held.copied !== undefined && sequence.commit < held.copied) this.breaches.push(`${table} got what was copied`)
      opened.accepted.push([sequence, what])
    }
    switch (element._tag) {
      case "SnapshotBegin":
        held.copy = []
        opened.copy = []
        break
      case "SnapshotRows":
        opened.copy.push(...ids(element.batch))
        break
      case "SnapshotEnd":
        if (opened.copy.length !== element.rows) this.breaches.push(`${table} has not the rows of its copy`)
        held.copy = opened.copy
        held.copied = element.position
        break
      case "Rows": {
        if (BatchSlice.rowsUpTo(element.batch, last ?? Sequence.zero) > 0) this.breaches.push(`${table} got rows twice`)
        const values = ids(element.batch)
        sequences(element.batch).forEach((text, row) => {
          const [commit = "", ordinal = ""] = text.split(".")
          add(Sequence.make(BigInt(commit), BigInt(ordinal)), values[row] ?? -1)
        })
        break
      }
      case "Truncate":
        add(element.sequence, "truncate")
        break
      case "Schema":
        break
    }
    this.work.openUnsafe()
    yield* this.at("accepted", table)
    opened.writing = false
  })

  readonly sink: Sink = {
    begin: (tables) =>
      Effect.sync(() => {
        const ids = new Set(tables.map(({ table }) => tableId(table)))
        for (const [table, held] of this.tables) if (!ids.has(table)) held.copied = undefined
      }),
    open: (schema, durable) =>
      Effect.gen({ self: this }, function*() {
        const table = tableId(schema.table)
        yield* this.at("open", table)
        const held = this.held(table)
        const opened: Opened = { accepted: [], durable, writing: false, copy: [] }
        this.opened.set(table, opened)
        yield* Effect.addFinalizer(() => Effect.sync(() => this.closed++))
        return {
          position: { copied: held.copied, committed: held.changes.at(-1)?.[0] },
          write: (element) => this.write(table, opened, element)
        }
      }),
    run: Effect.gen({ self: this }, function*() {
      while (true) {
        this.work.closeUnsafe()
        let moved = false
        for (const [table, { accepted, durable }] of this.opened) {
          const n = this.commits(accepted.length)
          const committed = accepted.splice(0, n)
          const last = committed.at(-1)
          if (last === undefined) continue
          moved = true
          this.held(table).changes.push(...committed)
          yield* this.at("commit", table)
          if (this.reports() || accepted.length === 0) yield* durable(last[0])
        }
        yield* this.at("run", "")
        if (moved) yield* Effect.yieldNow
        else yield* this.work.await
      }
    }),
    settle: Effect.sync(() => {
      this.settled++
    })
  }
}
