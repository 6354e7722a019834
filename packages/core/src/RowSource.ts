/**
 * A source that is written row by row: the author reads pieces of changes with positions, everything else is done here.
 *
 * ```ts
 * const orders = RowTable.make({
 *   name: "shop.orders",
 *   columns: { id: Column.int64(), note: Column.text().nullable },
 *   key: ["id"]
 * })
 *
 * export const plugin = Plugin.source({
 *   name: "@example/source-orders",
 *   version: "1.0.0",
 *   summary: "Orders from a log",
 *   config: Schema.Struct({ file: Schema.String }),
 *   make: ({ file }) =>
 *     Effect.succeed(RowSource.make({
 *       plugin: "@example/source-orders",
 *       tables: [orders],
 *       history: "kept",
 *       read: (from) =>
 *         readLines(file, from).pipe(
 *           Stream.map(({ id, note, number }) => ({ position: number, changes: [RowChange.insert(orders, { id, note })] }))
 *         )
 *     }))
 * })
 * ```
 *
 * **What the author promises.** A *piece* is what belongs together (a transaction, a message, a line). Its position grows strictly from piece to piece, is above
 * 0, and the same piece has the same position and the same changes in the same order each time it is read: an offset, a log sequence number, a line number.
 * Position and place within the piece are a change's identity (its `Sequence`), by which nothing is lost and nothing doubled.
 *
 * **What is done here.** Changes become batches, bounded by rows and bytes however long a piece is; a watermark follows the last piece of
 * each chunk of the stream that `read` gives (`Stream.rechunk`, `Stream.fromArrays`: chunks of a hundred pieces cost a hundredth of chunks of one). A table that the sink doesn't
 * hold yet begins by `copy`, if there is one, else with everything that `read(0n)` gives. `read` begins behind the lowest position that the sink
 * may lack something after, by what the sink itself says; what comes twice is skipped. A value that doesn't fit its column sets its table aside (the others go on), with an
 * error that names table and column.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { ConnectorError } from "./ConnectorError.ts"
import type { RowChange } from "./RowChange.ts"
import { RowReading } from "./RowReading.ts"
import type { RowTable } from "./RowTable.ts"
import type { Source, SourceContext } from "./Source.ts"
import { type TableId, tableId } from "./TableSchema.ts"

/** Changes that belong together, as a transaction does. */
export interface Piece {
  /** Above 0, higher than that of every piece before, and the same each time the piece is read. */
  readonly position: bigint
  /** Microseconds since 1970-01-01 UTC (`Column.microseconds`), for how far behind a pipeline is; not given, the moment when it was read stands in the rows. */
  readonly commitTime?: bigint
  /** In order. May be empty: then it only says how far the source is. A stream for pieces that are too large to be held in memory. */
  readonly changes: ReadonlyArray<RowChange> | Stream.Stream<RowChange, ConnectorError>
}

/** The rows of a table as they were after the piece at `position`. */
export interface Copy {
  /**
   * Everything up to the piece at this position is in the rows, and no change after it needs to be: what comes after it is applied to them.
   * When the rows can't be read as of one moment, this is the position before the reading began, and updates have to send whole rows. 0: before everything.
   */
  readonly position: bigint
  /** Each as `RowChange.insert`, in any order. */
  readonly rows: Stream.Stream<RowChange, ConnectorError, Scope.Scope>
  /** For progress only. */
  readonly estimatedRows?: number
}

export interface Definition {
  /** The plugin's name, for errors. */
  readonly plugin: string
  /** The tables as they are now: asked once per run, before everything else. A good place to find out whether the other side can be reached. */
  readonly tables: ReadonlyArray<RowTable> | Effect.Effect<ReadonlyArray<RowTable>, ConnectorError>
  /**
   * `kept`: `read(0n)` gives everything, whenever it is asked (files, an event store); then a table can be copied again on request. `consumed`: what was acknowledged may
   * be gone (a queue, a webhook's inbox); then only tables with `copy` can.
   */
  readonly history: "kept" | "consumed"
  /**
   * Pieces with positions above `from`, in order, without end if there is none: with more pieces when there are more. It may begin earlier (what the sink has is skipped), and may
   * leave out what `acknowledged` was told of, in this run or an earlier one; never anything else. Called once per run, and again when a table is copied again. Pulling is the only back pressure: what isn't pulled
   * shouldn't be read. Interrupting it ends it, and its scope releases what it opened.
   *
   * A failure ends the run. `Unreachable` and `Throttled` are tried again by the runner, with growing waits, from what is durable then; other reasons wait for somebody.
   */
  readonly read: (from: bigint) => Stream.Stream<Piece, ConnectorError, Scope.Scope>
  /** The rows of a table as they are, for a sink that has none of them. Undefined: the table is what `read` gives. */
  readonly copy?: (table: RowTable) => Effect.Effect<Copy, ConnectorError, Scope.Scope>
  /**
   * Told, one call at a time, that everything up to and including the piece at `position` is durable at the sink: a queue may confirm it now, and never before. Positions grow,
   * most are passed over. Not told of the last ones when the process dies: they come again. A call may take ten seconds, even when the pipeline stops. Its failure ends the run.
   */
  readonly acknowledged?: (position: bigint) => Effect.Effect<void, ConnectorError>
  /** `read` gives something at least this often (a piece without changes will do), so that silence means trouble. Not given: it may be silent for ever. */
  readonly heartbeat?: Duration.Duration
  /** Batches are cut at so many rows: 1,024 by default. */
  readonly batchRows?: number
  /** Batches are cut at about so many bytes: 1 MiB by default. */
  readonly batchBytes?: number
}

/** How long the author may take to confirm, even when the pipeline stops. */
const confirmWithin = "10 seconds"
/** How often the position that is durable is looked at. */
const confirmEvery = "100 millis"

/** Tells the author what is durable, as long as the scope is open. */
const confirming = (
  { acknowledged, plugin }: Definition,
  context: SourceContext,
  failed: Deferred.Deferred<never, ConnectorError>
): Effect.Effect<void, never, Scope.Scope> => {
  if (acknowledged === undefined) return Effect.void
  let told = 0n
  const tell = Effect.suspend(() => {
    // A watermark is the position after its last piece.
    const position = context.acknowledged() - 1n
    if (position <= told) return Effect.void
    told = position
    return acknowledged(position).pipe(
      Effect.timeoutOrElse({
        duration: confirmWithin,
        orElse: () =>
          Effect.fail(
            new ConnectorError({
              reason: "Unreachable",
              plugin,
              message: "What is durable could not be confirmed to the source in time",
              hint: "Look at the source: what isn't confirmed comes again."
            })
          )
      })
    )
  })
  return Effect.uninterruptible(tell).pipe(
    Effect.andThen(Effect.sleep(confirmEvery)),
    Effect.forever,
    Effect.catchCause((cause) =>
      Cause.hasInterruptsOnly(cause)
        ? Effect.void
        : Effect.andThen(
          Effect.logWarning("What is durable can't be confirmed to the source").pipe(Effect.annotateLogs({ plugin })),
          Deferred.failCause(failed, cause)
        )
    ),
    Effect.forkScoped,
    Effect.asVoid
  )
}

const twice = (plugin: string, tables: ReadonlyArray<RowTable>): ConnectorError | undefined => {
  const ids = new Set<TableId>()
  for (const { schema } of tables) {
    const id = tableId(schema.table)
    if (ids.has(id)) {
      return new ConnectorError({
        reason: "Misconfigured",
        plugin,
        message: `The source has two tables of the name ${id}`,
        hint: "Give each table a name of its own."
      })
    }
    ids.add(id)
  }
  return undefined
}

/** The source. */
export const make = (definition: Definition): Source => {
  const { heartbeat, plugin } = definition
  const tables = Effect.gen(function*() {
    const found = Effect.isEffect(definition.tables) ? yield* definition.tables : definition.tables
    const error = twice(plugin, found)
    return error === undefined ? found : yield* error
  })
  let known: ReadonlyArray<RowTable> | undefined
  let reading: RowReading | undefined
  return {
    tables: Effect.map(tables, (found) => {
      known = found
      return found.map(({ schema }) => schema)
    }),
    ...(heartbeat === undefined ? {} : { heartbeat }),
    stream: (context) =>
      Stream.fromPull(Effect.gen(function*() {
        const scope = yield* Effect.scope
        const failed = yield* Deferred.make<never, ConnectorError>()
        const own = new RowReading({ definition, context, scope, tables: known ?? (yield* tables) })
        reading = own
        // In the scope of whoever runs the stream: what becomes durable after its end has to be confirmed, too.
        yield* confirming(definition, context, failed)
        return Effect.raceFirst(own.pull, Deferred.await(failed))
      })),
    resync: (table) =>
      Effect.suspend(() =>
        reading === undefined
          ? Effect.fail(
            new ConnectorError({
              reason: "Unreachable",
              plugin,
              message: `The source isn't read yet, so the table ${table} can't be copied again`,
              hint: "Ask again when the pipeline runs.",
              table
            })
          )
          : reading.request(table)
      )
  }
}
