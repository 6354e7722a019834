/**
 * A sink that is written row by row: the author writes rows together with a position, everything else is done here.
 *
 * ```ts
 * RowSink.make({
 *   plugin: "@example/sink-files",
 *   retain: (tables) => forgetPositionsOfOthers(tables),
 *   open: Effect.fnUntraced(function*(table) {
 *     yield* createTableIfMissing(table)
 *     return {
 *       position: yield* readPosition(table),
 *       write: (rows, at) => transaction([...statements(rows), comparePosition(at.previous), storePosition(at.position)]),
 *       clear: (at) => transaction([deleteAll(table), comparePosition(at.previous), storePosition(at.position)])
 *     }
 *   })
 * })
 * ```
 *
 * **The position** is a short text that this module makes: how far the table is, whether its copy is complete, whether it is in quarantine. The author stores it with the rows, *in
 * the same transaction*, one per table, and gives it back when the table is opened again; nothing else tells the sink how far it is. So a write that was
 * applied is never applied again, and one that wasn't comes again. `previous` is the text that must be there still: a transaction that finds another one in its place must
 * fail with `Fenced`, for then another runner writes to the table. (A sink that can't compare may leave that out, and relies on the runner's lease.)
 *
 * **Without transactions.** A sink that can't store rows and position as one stores the rows first. After a crash the rows between come again: tables with a key
 * come out right, since every write sets rows to what they are, but tables without a key, and changelogs, may have rows twice.
 *
 * **Accepted and durable.** Without `flush`, a write is durable when it returns. With `flush`, writes are only accepted: the sink may buffer them, and what was
 * written is durable, with the last position given, when `flush` returns. It is called every `flushEvery`, before anything that must be durable, and when a
 * pipeline stops; never at the same time as a write of the table.
 *
 * **Order.** Everything of one table comes one call at a time and in order; tables come beside each other. A copy's rows come between `clear` and the first changes: changes that a source sends
 * while the copy is under way are kept in a local file until it is complete (and are read again after a crash: a source that holds its log back for them has to hold it
 * that long). An unfinished copy begins anew with the next run.
 *
 * **Errors.** `Unreachable` and `Throttled` end the run, which the runner tries again with growing waits; what passes in a moment is better retried inside. `Rejected`, `Unsupported`, `Missing`, `Forbidden`, `Lost` and `Protocol` with
 * `table` set that table aside (what is at the target stays as it is) while the others go on; without `table`, and with any other reason, the run ends. Nothing is ever skipped: what a sink
 * doesn't provide (`reshape`) is an `Unsupported` error of the table that needs it.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { randomUUID } from "node:crypto"
import type { Conditions } from "./Condition.ts"
import type { ConnectorError } from "./ConnectorError.ts"
import * as RowPosition from "./RowPosition.ts"
import type { RowView } from "./RowView.ts"
import * as RowWriting from "./RowWriting.ts"
import type { Sink } from "./Sink.ts"
import { type TableId, tableId, type TableSchema } from "./TableSchema.ts"

/** The position to be stored, and the one that is stored now (undefined: none). */
export interface At {
  readonly position: string
  readonly previous: string | undefined
}

/** A row that is to be written: a view, valid until the next row. */
export interface SinkRow extends RowView {
  /**
   * `put`: the row is to have these values; it is inserted if its key isn't there, and what wasn't sent (`isSent`) stays as it is. In a table without a key it is always
   * inserted. `remove`: the row with this key is to be removed if it is there; in a table without a key, one row that is equal to it in all columns. `rekey`: the row with the
   * key of `old` (in a table without a key, one row that is equal to `old`) becomes this one, in place of whatever has the new key; where it isn't there, the same as `put`.
   */
  readonly change: "put" | "remove" | "rekey"
  /** Of a `rekey`, the row as it was, of which only the key is certain; else undefined. */
  readonly old: RowView | undefined
}

/** An open table. */
export interface TableWriter {
  /** The text that was stored last for the table; undefined when none was. */
  readonly position: string | undefined
  /** Applies rows in their order, and stores the position. There may be no rows. */
  readonly write: (rows: Iterable<SinkRow>, at: At) => Effect.Effect<void, ConnectorError>
  /** Removes all rows of the table (a copy begins, or the source's table was emptied), and stores the position. */
  readonly clear: (at: At) => Effect.Effect<void, ConnectorError>
  /** Changes the table to another shape, and stores the position. Not given: a table whose shape changes can't go on. */
  readonly reshape?: (table: TableSchema, at: At) => Effect.Effect<void, ConnectorError>
  /** Makes durable what was written. Not given: every write is durable when it returns. */
  readonly flush?: Effect.Effect<void, ConnectorError>
}

export interface Definition {
  /** The plugin's name, for errors. */
  readonly plugin: string
  /**
   * Called first in each run, with the tables that it begins with: forgets the positions of all *other* tables of this pipeline (not their rows), because their
   * changes aren't read any more. Keep positions apart by pipeline (`PluginContext.pipeline`).
   */
  readonly retain: (
    tables: ReadonlyArray<TableId>,
    conditions: Conditions
  ) => Effect.Effect<void, ConnectorError>
  /**
   * Opens a table, creating what is missing. It is called for a quarantine as well, whose position is stored by an empty `write`; so a table that can't even be opened ends the run.
   * The scope is closed when the run, or the table's part in it, ends. A table may be opened again then.
   */
  readonly open: (table: TableSchema) => Effect.Effect<TableWriter, ConnectorError, Scope.Scope>
  /** How often `flush` is called at most: every second by default. */
  readonly flushEvery?: Duration.Input
  /** Brings what is durable to its final place, when a pipeline stops. Nothing by default. */
  readonly settle?: Effect.Effect<void, ConnectorError>
  /** Where changes are kept while a copy is under way: the system's folder for temporary files by default. */
  readonly directory?: string
}

/** The sink. */
export const make = (definition: Definition): Sink => ({
  begin: (tables, conditions) => definition.retain(tables.map(({ table }) => tableId(table)), conditions),
  open: (table, durable, failed) =>
    Effect.gen(function*() {
      const writing = yield* RowWriting.open({
        definition,
        table,
        durable,
        failed,
        every: Duration.fromInputUnsafe(definition.flushEvery ?? "1 second")
      })
      return { position: writing.position, write: writing.write }
    }),
  quarantine: (table, why) =>
    Effect.scoped(Effect.gen(function*() {
      const writer = yield* definition.open(table)
      const position = RowPosition.format({ ...RowPosition.none, quarantined: why }, randomUUID())
      yield* writer.write([], { position, previous: writer.position })
      if (writer.flush !== undefined) yield* writer.flush
    })),
  run: Effect.never,
  settle: definition.settle ?? Effect.void
})
