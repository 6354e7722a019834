/**
 * A database in memory behind a row-wise sink: each table's rows and position, changed together, and what is durable of them after a crash.
 *
 * With `buffers`, writes wait in memory for a flush, and a crash loses them.
 */
import * as Effect from "effect/Effect"
import { notSent } from "../../src/Column.ts"
import { ConnectorError } from "../../src/ConnectorError.ts"
import * as RowSink from "../../src/RowSink.ts"
import type { RowView } from "../../src/RowView.ts"
import type { Sink } from "../../src/Sink.ts"
import { type TableId, tableId, type TableSchema } from "../../src/TableSchema.ts"
import { broken } from "./PrefixSink.ts"

export type Row = Readonly<Record<string, unknown>>

export interface Held {
  readonly rows: ReadonlyMap<string, Row>
  readonly position: string | undefined
}

const nothing: Held = { rows: new Map(), position: undefined }

export type Point = "open" | "write" | "written" | "clear" | "cleared" | "flush" | "flushed" | "retain" | "reshape"

export class RowDatabase {
  /** What is durable. */
  readonly tables = new Map<TableId, Held>()
  /** What this run has seen; with `buffers` more than is durable. */
  private seen = new Map<TableId, Held>()
  private readonly buffers: boolean
  /** Called where a fault can be injected. */
  at: (point: Point, table: TableId) => Effect.Effect<void, ConnectorError> = () => Effect.void
  /** Rows that were written, over all runs. */
  written = 0
  /** The most rows of one write. */
  largest = 0
  reshapes = true
  private next = 0

  constructor(buffers = false) {
    this.buffers = buffers
  }

  /** What isn't durable is gone. */
  crash(): void {
    this.seen = new Map()
  }

  /** Somebody removes the rows of a table behind everybody's back. */
  spoil(table: TableId): void {
    const held = { ...this.of(table), rows: new Map() }
    this.seen.set(table, held)
    this.tables.set(table, held)
  }

  private of(table: TableId): Held {
    return this.seen.get(table) ?? this.tables.get(table) ?? nothing
  }

  private put(table: TableId, held: Held): void {
    this.seen.set(table, held)
    if (!this.buffers) this.tables.set(table, held)
  }

  private compared(table: TableId, { position, previous }: RowSink.At, rows: ReadonlyMap<string, Row>) {
    return Effect.suspend(() => {
      if (this.of(table).position !== previous) {
        return Effect.fail(
          new ConnectorError({ reason: "Fenced", plugin: "test", message: "another writer", hint: "none", table })
        )
      }
      this.put(table, { rows, position })
      return Effect.void
    })
  }

  private applied(table: TableSchema, rows: Iterable<RowSink.SinkRow>): ReadonlyMap<string, Row> {
    const held = new Map(this.of(tableId(table.table)).rows)
    const { columns, identity } = table
    const key = (row: RowView): string =>
      identity._tag === "Key"
        ? JSON.stringify(identity.columns.map((index) => String(row.get(columns[index]?.name ?? ""))))
        : `${this.next++}`
    const empty = Object.fromEntries(columns.map(({ name }) => [name, null]))
    let count = 0
    for (const row of rows) {
      count++
      if (row.change === "remove") {
        held.delete(key(row))
        continue
      }
      const oldKey = row.old === undefined ? undefined : key(row.old)
      const old = oldKey === undefined ? undefined : held.get(oldKey)
      if (oldKey !== undefined) held.delete(oldKey)
      const newKey = key(row)
      const sent = Object.entries(row.toObject()).filter(([, value]) => value !== notSent)
      held.set(newKey, { ...old ?? held.get(newKey) ?? empty, ...Object.fromEntries(sent) })
    }
    this.written += count
    this.largest = Math.max(this.largest, count)
    return held
  }

  readonly sink: Sink = RowSink.make({
    plugin: "test",
    flushEvery: "1 millis",
    retain: (tables) =>
      Effect.andThen(
        Effect.suspend(() => this.at("retain", "")),
        Effect.sync(() => {
          for (const [table, held] of this.tables) {
            if (!tables.includes(table)) this.tables.set(table, { ...held, position: undefined })
          }
        })
      ),
    open: (table) =>
      Effect.gen({ self: this }, function*() {
        const id = tableId(table.table)
        yield* this.at("open", id)
        let shape = table
        return {
          position: this.of(id).position,
          write: (rows, at) =>
            this.at("write", id).pipe(
              Effect.andThen(Effect.suspend(() => this.compared(id, at, this.applied(shape, rows)))),
              Effect.andThen(Effect.suspend(() => this.at("written", id)))
            ),
          clear: (at) =>
            this.at("clear", id).pipe(
              Effect.andThen(this.compared(id, at, new Map())),
              Effect.andThen(Effect.suspend(() => this.at("cleared", id)))
            ),
          ...(this.reshapes
            ? {
              reshape: (table, at) =>
                this.at("reshape", id).pipe(
                  Effect.andThen(Effect.suspend(() => {
                    shape = table
                    return this.compared(id, at, this.of(id).rows)
                  }))
                )
            }
            : {}),
          ...(this.buffers
            ? {
              flush: Effect.suspend(() => this.at("flush", id)).pipe(
                Effect.andThen(Effect.sync(() => this.tables.set(id, this.of(id)))),
                Effect.andThen(Effect.suspend(() => this.at("flushed", id)))
              )
            }
            : {})
        } satisfies RowSink.TableWriter
      })
  })

  /** The rows of a table that are durable, in the order in which they came to be there. */
  rows(table: TableId): ReadonlyArray<Row> {
    return [...(this.tables.get(table) ?? nothing).rows.values()]
  }
}

/** A fault that passes, at the `n`th point that comes by. */
export const failsAt = (n: number): RowDatabase["at"] => {
  let left = n
  return () => Effect.suspend(() => left-- === 0 ? Effect.fail(broken("a fault")) : Effect.void)
}
