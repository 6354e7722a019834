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
import type { Quarantine } from "../../src/Quarantine.ts"
import * as Sequence from "../../src/Sequence.ts"
import type { Sink, TableElement } from "../../src/Sink.ts"
import { tableId } from "../../src/TableSchema.ts"
import type { TableId } from "../../src/TableSchema.ts"
import { sequences } from "./Tables.ts"

export interface Chunk {
  /** Position of its snapshot. */
  readonly position: bigint
  readonly ids: ReadonlyArray<number>
}

export interface Held {
  copied: bigint | undefined
  /** Position and plan of the copy that is under way or complete. */
  copy: { readonly position: bigint; readonly plan: string | undefined } | undefined
  /** Durable chunks of the copy. */
  chunks: Map<number, Chunk>
  /** Changes that are durable: sequence and id, truncates as `truncate`, schema changes aren't kept. */
  readonly changes: Array<readonly [sequence: Sequence.Sequence, what: number | "truncate"]>
  /** Why the table is in quarantine, durably. */
  quarantined?: Quarantine | undefined
}

interface Opened {
  readonly accepted: Array<readonly [Sequence.Sequence, number | "truncate"]>
  readonly durable: (sequence: Sequence.Sequence) => Effect.Effect<void>
  readonly failed: (error: ConnectorError) => Effect.Effect<void>
  writing: boolean
  /** Rows of chunks that haven't ended. */
  readonly chunks: Map<number, Array<number>>
}

export const broken = (message: string): ConnectorError =>
  new ConnectorError({ reason: "Unreachable", plugin: "test", message, hint: "none" })

/** An error that only concerns one table. */
export const refused = (table: TableId, message = "a value is refused"): ConnectorError =>
  new ConnectorError({ reason: "Rejected", plugin: "test", message, hint: "Mend the value.", table })

const ids = (batch: ChangeBatch): ReadonlyArray<number> => {
  const column = batch.records.getChild("id")
  return Array.from({ length: batch.rows }, (_, row) => Number(column?.get(row)))
}

export type Point = "open" | "write" | "accepted" | "commit" | "run" | "quarantine" | "quarantined"

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
  at: (point: Point, table: TableId) => Effect.Effect<void, ConnectorError> = () => Effect.void
  /** How many of `n` rows the next background commit makes durable; 0 stalls it. */
  commits: (n: number) => number = (n) => n
  /** Whether a commit is reported. */
  reports: () => boolean = () => true
  private readonly work = Latch.makeUnsafe(false)

  held(table: TableId): Held {
    let held = this.tables.get(table)
    if (held === undefined) {
      held = { copied: undefined, copy: undefined, chunks: new Map(), changes: [] }
      this.tables.set(table, held)
    }
    return held
  }

  /** A crash: what is accepted and not durable is gone. */
  crash(): void {
    this.opened = new Map()
  }

  /** Background work for a table fails. */
  fail(table: TableId, error: ConnectorError): Effect.Effect<void> {
    return this.opened.get(table)?.failed(error) ?? Effect.void
  }

  /** Lets the background look again, after `commits` was changed. */
  wake(): void {
    this.work.openUnsafe()
  }

  private write = Effect.fnUntraced({ self: this }, function*(table: TableId, opened: Opened, element: TableElement) {
    if (opened.writing) this.breaches.push(`two writes at a time for ${table}`)
    opened.writing = true
    yield* this.at("write", table)
    if (this.opened.get(table) !== opened) this.breaches.push(`${table} was written to by a run that had ended`)
    const held = this.held(table)
    this.written.push([table, element._tag, "batch" in element ? element.batch.rows : 0])
    if (held.quarantined !== undefined) {
      if (element._tag !== "SnapshotBegin" && element._tag !== "TableLeft") {
        this.breaches.push(`${table} got ${element._tag} in quarantine`)
      }
      held.quarantined = undefined
    }
    const last = opened.accepted.at(-1)?.[0] ?? held.changes.at(-1)?.[0]
    const add = (sequence: Sequence.Sequence, what: number | "truncate") => {
      if (last !== undefined && Sequence.compare(sequence, last) <= 0) this.breaches.push(`${table} went back`)
      if (held.copied !== undefined && sequence.commit < held.copied) this.breaches.push(`${table} got what was copied`)
      opened.accepted.push([sequence, what])
    }
    switch (element._tag) {
      case "SnapshotBegin":
        opened.chunks.clear()
        if (!element.resumed) {
          held.copy = { position: element.position, plan: element.plan }
          held.copied = undefined
          held.chunks = new Map()
          held.changes.length = 0
          opened.accepted.length = 0
        } else if (held.copy?.position !== element.position) this.breaches.push(`${table} resumes another copy`)
        break
      case "SnapshotRows": {
        const rows = opened.chunks.get(element.chunk) ?? []
        opened.chunks.set(element.chunk, rows)
        rows.push(...ids(element.batch))
        break
      }
      case "SnapshotChunk": {
        const rows = opened.chunks.get(element.chunk) ?? []
        if (rows.length !== element.rows) this.breaches.push(`${table} has not the rows of a chunk`)
        held.chunks.set(element.chunk, { position: element.position, ids: rows })
        opened.chunks.delete(element.chunk)
        break
      }
      case "SnapshotEnd":
        if (held.chunks.size !== element.chunks) this.breaches.push(`${table} has not the chunks of its copy`)
        held.copied = element.position
        break
      case "TableLeft":
        held.copied = undefined
        held.copy = undefined
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
        for (const [table, held] of this.tables) {
          if (ids.has(table)) continue
          held.copied = undefined
          held.copy = undefined
          held.quarantined = undefined
        }
      }),
    quarantine: ({ table: name }, why) =>
      Effect.gen({ self: this }, function*() {
        const table = tableId(name)
        if (this.opened.has(table)) this.breaches.push(`${table} is put in quarantine while it is open`)
        yield* this.at("quarantine", table)
        const held = this.held(table)
        held.quarantined = why
        held.copied = undefined
        held.copy = undefined
        held.chunks = new Map()
        held.changes.length = 0
        yield* this.at("quarantined", table)
      }),
    open: (schema, durable, failed) =>
      Effect.gen({ self: this }, function*() {
        const table = tableId(schema.table)
        const held = this.held(table)
        if (held.quarantined === undefined) yield* this.at("open", table)
        const opened: Opened = { accepted: [], durable, failed, writing: false, chunks: new Map() }
        this.opened.set(table, opened)
        yield* Effect.addFinalizer(() =>
          Effect.sync(() => {
            this.closed++
            if (this.opened.get(table) === opened) this.opened.delete(table)
          })
        )
        return {
          position: {
            quarantined: held.quarantined,
            copied: held.copied,
            committed: held.changes.at(-1)?.[0],
            copying: held.copied === undefined && held.copy?.plan !== undefined
              ? {
                position: held.copy.position,
                plan: held.copy.plan,
                origin: undefined,
                chunks: new Map([...held.chunks].map(([chunk, { position }]) => [chunk, position])),
                rows: [...held.chunks.values()].reduce((sum, { ids }) => sum + ids.length, 0)
              }
              : undefined
          },
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
