/**
 * The contract of a source: tables, then a stream of elements that can be read again from the last acknowledged position.
 *
 * `RowSource` makes a source from pieces of row changes, and keeps most of what follows; write one by columns where rows come by the million.
 *
 * **Who calls what, and when.** The plugin's `make` is called anew for each run, in the run's scope. The engine asks for `tables` once, opens each of them at the sink (after the
 * transforms), then asks for `stream` once, with what the sink holds. Where a spool carries a run over an outage of the sink, `tables` isn't asked again and the stream goes on.
 * `resync` may be called at any time while the stream is read, beside it and several times, but not for a table of which the engine awaits the end of a copy, or the first one; nothing else is called concurrently.
 *
 * **Order and identity.** Changes come in the order of their commits, each with a `Sequence` that is the same every time it is read; per table, sequences only grow. Every change after
 * the acknowledged position comes (again): the engine skips what the sink has. Leaving one out loses it, and nobody would notice. Copies (`SnapshotBegin` to `SnapshotEnd`) may come beside changes.
 * Tables may join the stream later by their `SnapshotBegin`, and leave it by `TableLeft`.
 *
 * **Where to go on from.** From `SourceContext.positions` and from what the server itself has kept as confirmed, never from a state store. A source tells where it goes on from by a watermark, first or soon after, also when
 * nothing has changed since. Only `acknowledged()` may be confirmed to the server: what is accepted by a sink can still be lost.
 *
 * **Back pressure and memory.** An element is pulled when the one before was taken, which may be long ago: keep-alives and confirmations need a fiber of their own (in the stream's scope). Batches should
 * have about a thousand rows or a megabyte; a transaction of any size comes in pieces, and only its end is a watermark.
 *
 * **Errors.** A failure of `tables` or `stream` ends the run. `Unreachable`, `Throttled` and `Fenced` are tried again by the runner, in a new run, with growing waits; a reason that
 * means the environment (`ConnectorError.exitCode` 3) ends the pipeline at its first start, for somebody to read. What concerns one table comes as `TableFailed`, and lets the others go on. What passes within seconds is better retried inside.
 *
 * **The end.** Interrupting the stream stops the source, whatever it waits for. The stream's scope stays open after the stream's own end, and through a graceful stop, until what was accepted is durable: so
 * the last positions can be confirmed. Then it is closed; releasing may take some seconds, no more. A finite source just ends its stream; the pipeline then drains and is finished.
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type { Conditions } from "./Condition.ts"
import type { ConnectorError } from "./ConnectorError.ts"
import type { Element } from "./Element.ts"
import type { Quarantine } from "./Quarantine.ts"
import type { TablePosition } from "./Sink.ts"
import type { TableId, TableSchema } from "./TableSchema.ts"

/** What the engine keeps on local disk for a source: see `docs/spool.md`. */
export interface SourceSpool {
  /** Tells it from every other spool, over all runs: the spool of another folder, or one that was begun anew, has another. */
  readonly id: string
  /** Where it is, for messages. */
  readonly directory: string
  /** Everything up to here is durable at the sink or in this spool, as it was found when the run began. */
  readonly position: bigint
  /** What is wrong with what lay behind; undefined when nothing is. */
  readonly damage: string | undefined
  /** The highest commit position of each table's changes in it, as it was found: the source's log must have them, if it reaches back so far. */
  readonly commits: ReadonlyMap<TableId, bigint>
  /** Up to where everything is durable at the sink or in this spool now; 0 as long as nothing in it counts. Cheap. */
  readonly kept: () => bigint
}

export interface SourceContext {
  /** What the sink holds of each table. A table that is absent, or has no `copied` position, needs a snapshot. */
  readonly positions: ReadonlyMap<TableId, TablePosition>
  /** Tables that transforms leave out: neither to be copied nor to be streamed. */
  readonly unwanted: ReadonlySet<TableId>
  /**
   * Why a table is in quarantine now: it is not to be copied, whatever else comes of it is dropped, and a copy that is under way may cease where it is. The same
   * object is given until the beginning of a new copy (`resync`) was taken, which may be a little after the next element is pulled; then undefined, or that of a
   * new quarantine.
   */
  readonly quarantined: (table: TableId) => Quarantine | undefined
  /**
   * The highest watermark up to which everything is durable at the sink; 0 until there is one. Cheap: a source's
   * feedback reads it on its own timer, however slow its consumers are. Only this may be confirmed to the server.
   */
  readonly acknowledged: () => bigint
  /**
   * Where there is one, the highest of `acknowledged` and `kept` may be confirmed to the server, by a source that is `spoolable`: before it confirms a position above
   * `acknowledged` it writes, where that lasts as long as the confirmation does, which spool stands behind it and up to where the sink is. A later run that finds the server
   * further than any such note says the sink is must find that spool in its context, and it must reach so far: otherwise changes are lost.
   * Then the stream begins at what the server has confirmed; what the spool holds of changes after that comes twice, and is skipped.
   */
  readonly spool?: SourceSpool | undefined
  /** To be awaited before more of a copy is read than what is being read: completes at once unless copies are held up. Undefined: they never are. */
  readonly copiesGoOn?: Effect.Effect<void>
  /** Where the source raises what needs somebody while the pipeline goes on. */
  readonly conditions: Conditions
}

export interface Source {
  /** The tables of the source as they are now. Checks the environment (preflight) and fails with a clear error. */
  readonly tables: Effect.Effect<ReadonlyArray<TableSchema>, ConnectorError>
  /**
   * While the stream is read, something comes at least this often even when nothing changes (a watermark will do), so that silence means trouble.
   * Undefined: it may be silent for ever.
   */
  readonly heartbeat?: Duration.Duration | undefined
  /** Elements in order. Pulling is the only back pressure: what isn't pulled is not read from the server. */
  readonly stream: (context: SourceContext) => Stream.Stream<Element, ConnectorError, Scope.Scope>
  /**
   * Asks the running stream for a new copy of one table, beside all others, with the rows as they are from now on. Completes when the copy has begun (its `SnapshotBegin`
   * was taken), and no element of an earlier one comes after that; fails with `Missing` when the table isn't among the source's. Undefined: the source can't.
   */
  readonly resync?: (table: TableId) => Effect.Effect<void, ConnectorError>
  /**
   * Whether the source can tell a spool that is lost from one that is there (`SourceContext.spool`), so that positions may be confirmed that only a spool stands
   * behind: fails with `Misconfigured` when it can't with its options. Undefined: it never can. The elements by which its stream begins a copy, sets a table
   * aside or tells its shape, all before the first changes or watermark, hold for what the spool has of earlier runs, too.
   */
  readonly spoolable?: Effect.Effect<void, ConnectorError>
}
