/**
 * The contract of a sink: one writer per table, `accepted` when a write returns, `durable` reported separately.
 *
 * `RowSink` makes a sink from writing rows with a position; write one by columns where the target takes columns (Arrow, Parquet).
 *
 * **Who calls what, and when.** The plugin's `make` is called anew for each run, in the run's scope (`run` and `begin` may be called again in one run, with new writers, where a spool carries it over an outage). `run` is started first and goes on
 * beside everything; `begin` comes once, then `open` for each table, up to four at a time, and later for a table that joins. `settle` is called once everything accepted is durable and the pipeline stops or ends, not
 * when it fails. When a writer's scope is closed, everything under way for its table has to cease.
 *
 * **Order and concurrency.** A writer gets its table's elements one at a time and in order: the next only when the write before has returned. Tables are written beside each other. Rows have passed the transforms, and those of several batches of the source may
 * be joined to one (of one schema version, up to the pipeline's `batch` limits). `Truncate` and `Schema` are barriers: everything before was accepted. A batch after a `Schema` has the new shape.
 *
 * **Accepted and durable.** When `write` returns, the sink has *accepted* the element (the engine frees its memory) but may still lose it. Once `durable`
 * has reported a sequence, everything of that table up to it survives any crash, and only then does the engine acknowledge it to the source. What is accepted must become durable by itself, soon and without further elements: a stop waits for
 * it. A sink must be able to tell from what it holds itself how far it is (`TablePosition`): no outside state is trusted for that. So position and rows belong in one transaction.
 *
 * **At least once, and how it becomes exactly once.** After a crash everything after the acknowledged position comes again; per table, the engine leaves out what is at or before `TablePosition.committed`. A sink that stores its position with its rows gets nothing twice; one that can't must
 * set rows by their key.
 *
 * **Values.** "Not sent", NULL and a value are different things (`ChangeBatch`): a column that was not sent keeps what the target has. Nothing is truncated, rounded or skipped: what the target can't hold is an error of its table, or a dead letter.
 *
 * **Errors.** Whatever passes in a while (`Unreachable`, `Throttled`) is retried inside for a limited time, then ends the run, which the runner repeats with growing waits. `Fenced` says that another writer has taken over; the run
 * is repeated. `Unauthorized` and `Misconfigured` end the run and wait for somebody, as does any error without `table`. `Rejected`, `Unsupported`, `Missing`, `Forbidden`, `Lost` and `Protocol` with `table` put
 * that table in quarantine, and the others go on (`Quarantine.concernsTable`, the pipeline's `onTableError`); what `failed` is given is judged the same way.
 *
 * **The end.** A write may be interrupted at any moment, when the run fails or its stop takes too long: what it did then is either found at the next `open`, or comes again.
 */
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Conditions } from "./Condition.ts"
import type { ConnectorError } from "./ConnectorError.ts"
import {
  type Answer,
  type Complete,
  give,
  type Rows,
  type Schema,
  type SnapshotBegin,
  type SnapshotChunk,
  type SnapshotEnd,
  type SnapshotRows,
  type TableLeft,
  type Truncate
} from "./Element.ts"
import type { Quarantine } from "./Quarantine.ts"
import type { Sequence } from "./Sequence.ts"
import type { TableSchema } from "./TableSchema.ts"

/** A copy of which some chunks are durable, so that the rest is enough to complete it. */
export interface UnfinishedCopy {
  /** Position and plan of its `SnapshotBegin`, origin of its table. */
  readonly position: bigint
  readonly plan: string
  readonly origin: string | undefined
  /** Durable chunks, each with the position of its snapshot. */
  readonly chunks: ReadonlyMap<number, bigint>
  /** Rows of the durable chunks. */
  readonly rows: number
}

/** What a sink holds of a table. */
export interface TablePosition {
  /** Position of the copy (of its `SnapshotBegin`) that is complete and durable; undefined when there is none. */
  readonly copied: bigint | undefined
  /** `SnapshotEnd.settled` of that copy. */
  readonly settled?: bigint | undefined
  /** The copy that can go on; undefined when there is none, or when the sink can't resume copies. */
  readonly copying?: UnfinishedCopy | undefined
  /** Sequence of the last durable change; undefined when there is none. The engine does not write changes up to it again. */
  readonly committed: Sequence | undefined
  /** `TableSchema.origin` of the copy, or of the `Schema` element that came last; undefined when none was given. */
  readonly origin?: string | undefined
  /** The table is in quarantine: nothing of it counts, and its writer takes nothing but a `SnapshotBegin` or a `TableLeft`, which end that. */
  readonly quarantined?: Quarantine | undefined
}

/** What a table's writer is given. Truncates and schema changes come in order with the rows. */
export type TableElement =
  | SnapshotBegin
  | SnapshotRows
  | SnapshotChunk
  | SnapshotEnd
  | TableLeft
  | Rows
  | Truncate
  | Schema

/** A function for each kind of element that a writer is given. */
export type Handlers = { readonly [E in TableElement as E["_tag"]]: (element: E) => unknown }

/**
 * Gives an element to the function for its kind, in `TableWriter.write`. Leaving one out doesn't compile: a sink can't forget what it never thought of.
 *
 * ```ts
 * write: (element) => Sink.match(element, { Rows: ({ batch }) => append(batch), Truncate: () => empty, … })
 * ```
 */
export const match = <H extends Partial<Handlers>>(
  element: TableElement,
  handlers: H & Complete<H, Handlers>
): Answer<H> => give(element, handlers) as Answer<H> // what the function for its kind gives

export interface TableWriter {
  readonly position: TablePosition
  /**
   * Takes one element; called for one element at a time. Returns when it is accepted, for `SnapshotBegin` when the sink has
   * durably forgotten what it held (or, resumed, is ready to go on), and for `SnapshotEnd` when the whole copy is durable. Changes come
   * while a copy is under way, too, and are not applied to it before it is complete. Of a copy with a plan, chunks that have ended should
   * become durable as they come, each wholly or not at all. Transient trouble is retried inside; an error is the end of this writer: of the run, or, when it concerns the table
   * alone (`Quarantine.concernsTable`), of the table's part in it. Its scope is closed then, which stops all that is under way for the table.
   */
  readonly write: (element: TableElement) => Effect.Effect<void, ConnectorError>
}

export interface Sink {
  /**
   * Called once per run before the first `open`, with all tables that the run begins with (as transforms leave them). What the
   * sink holds of this pipeline's other tables stops counting as a complete copy, because their changes aren't read from now on; it
   * is not deleted. What needs somebody while the run goes on is raised in `conditions`.
   */
  readonly begin: (tables: ReadonlyArray<TableSchema>, conditions: Conditions) => Effect.Effect<void, ConnectorError>
  /**
   * Opens a table, creating what is missing, and fences an older writer. `durable` is to be called with the sequence of the
   * last change (rows or truncate) that can't be lost any more; calls may skip sequences but never go back. `failed` is to be called with an error of
   * background work for this table, whatever it is: the engine decides whether the run ends. A table in quarantine is left as it is.
   *
   * `given` tells up to where the table is complete: every change up to there was accepted by `write` in this run, or never will be given, because an earlier
   * run reported it durable. Undefined while that isn't known: before the first watermark, and while changes wait to be written. It is cheap, and for sinks that can't
   * tell by themselves whether anything before a change that they hold is missing.
   */
  readonly open: (
    table: TableSchema,
    durable: (sequence: Sequence) => Effect.Effect<void>,
    failed: (error: ConnectorError) => Effect.Effect<void>,
    given: () => Sequence | undefined
  ) => Effect.Effect<TableWriter, ConnectorError, Scope.Scope>
  /**
   * Puts a table in quarantine and completes when that is durable: what the sink holds of it no longer counts, in later runs neither, and `open` gives it back
   * as quarantined. Called when the table's writer, if it had one, is closed. Undefined: the sink can't remember, so a table that
   * can't go on ends the run.
   */
  readonly quarantine?: (table: TableSchema, why: Quarantine) => Effect.Effect<void, ConnectorError>
  /**
   * Runs as long as the pipeline does: background work such as watching commits and merging. Its failure ends the run; what only concerns one table goes to
   * that table's `failed`.
   */
  readonly run: Effect.Effect<never, ConnectorError, Scope.Scope>
  /** Brings everything durable so far into its final place (for example a last merge): part of a graceful stop. */
  readonly settle: Effect.Effect<void, ConnectorError>
}
