/**
 * The writer of a table that is replicated: its rows go through its channels into the journal, its copies through the stage into the target, and what is committed
 * is merged.
 *
 * Opening it brings Snowflake's tables into its shape and finds out what is held. Any doubt about a channel or about the state table is an error, and the
 * next run starts from what Snowflake holds.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import type * as Element from "@etl-stream/core/Element"
import * as Sequence from "@etl-stream/core/Sequence"
import type { TableElement, TableWriter } from "@etl-stream/core/Sink"
import type { TableId, TableSchema } from "@etl-stream/core/TableSchema"
import { sampledSpan } from "@etl-stream/core/Tracing"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import type * as Semaphore from "effect/Semaphore"
import * as ChannelGroup from "./ChannelGroup.ts"
import { single } from "./ChannelTable.ts"
import type { Config } from "./Config.ts"
import * as CurrentView from "./CurrentView.ts"
import { failure } from "./ErrorPolicy.ts"
import * as HeldPosition from "./HeldPosition.ts"
import * as HistoryCopy from "./HistoryCopy.ts"
import * as HistoryWindow from "./HistoryWindow.ts"
import { Merger } from "./Merger.ts"
import type { MergeSchedule } from "./MergeSchedule.ts"
import { MergeTask } from "./MergeTask.ts"
import * as MetadataColumns from "./MetadataColumns.ts"
import * as MirrorWindow from "./MirrorWindow.ts"
import * as SkippedRows from "./SkippedRows.ts"
import { SnapshotLoader } from "./SnapshotLoader.ts"
import * as Sql from "./SqlClient.ts"
import type { StagingMemory } from "./StagingMemory.ts"
import * as StateTable from "./StateTable.ts"
import type { TableLayout } from "./TableLayout.ts"
import * as Layout from "./TableLayout.ts"
import * as TableOptions from "./TableOptions.ts"
import * as TableShape from "./TableShape.ts"
import type { TableState } from "./TableState.ts"

type Failed = ConnectorError.ConnectorError

/** What the tables of a pipeline share. */
export interface Shared extends ChannelGroup.Shared {
  readonly config: Config
  readonly pipeline: string
  readonly state: StateTable.StateTable
  readonly staging: StagingMemory
  readonly states: Map<TableId, TableState>
  readonly schedule: MergeSchedule
  /** Merges that may run at a time. */
  readonly merges: Semaphore.Semaphore
}

const keyChanged = ({ id, mode, target }: TableLayout): Failed =>
  failure(
    "Unsupported",
    `The key of ${id} has changed`,
    mode === "history"
      ? `Rename ${Layout.sqlName(target)} in Snowflake to keep its history: a new one begins then, with the new key.`
      : "The target gets the new key with a new copy of the table (etl-stream resync). Another replica identity, or value of the option `keyless`, counts as another key.",
    { table: id }
  )

const changedInCopy = (table: TableId): Failed =>
  failure(
    "Fenced",
    `The columns of ${table} changed while it was being copied`,
    "The next run compares the table with its unfinished copy, and copies it again when it must.",
    { table }
  )

/** Whether nothing but the table's version or origin differs. */
const sameColumns = (a: TableSchema, b: TableSchema): boolean =>
  JSON.stringify([a.columns, a.identity]) === JSON.stringify([b.columns, b.identity])

/** Forgets what is known of a table that goes to another target than before: that may be one where it was still earlier, with rows of then. */
const follow = Effect.fnUntraced(function*(shared: Shared, layout: TableLayout, task: MergeTask) {
  const known = shared.states.get(layout.id)
  const before = known?.target
  const target = Layout.sqlName(layout.target)
  if (before === undefined || before === "" || before === target) return
  if (known?.task !== undefined) yield* task.dropFormer(layout.id, known.journal)
  yield* shared.state.move(layout)
  shared.states.delete(layout.id)
  yield* Effect.logWarning(`the table is copied again: it goes to ${target} now, and went to ${before}`).pipe(
    Effect.annotateLogs({ table: layout.id })
  )
})

/** Waits until what an earlier run has sent is committed; from then on that one can send no more. */
const quiet = (shared: Shared, layout: TableLayout, failed: (error: Failed) => Effect.Effect<void>) =>
  Effect.suspend(() => {
    const { outOfRange } = shared.config
    const channels = new ChannelGroup.ChannelGroup(layout, shared, {
      // As many as there are.
      channels: (shared.sets.get(layout.id) ?? single).channels,
      fresh: false,
      void: false,
      outOfRange,
      durable: () => Effect.void,
      given: () => undefined,
      failed
    })
    const merged = shared.states.get(layout.id)?.merged
    return Effect.ensuring(Effect.asVoid(channels.open(merged)), Effect.sync(() => channels.close()))
  })

/** Opens it, creating what is missing, and fences an older writer. */
export const open = Effect.fn("SnowflakeSink.open")(function*(
  shared: Shared,
  table: TableSchema,
  durable: (sequence: Sequence.Sequence) => Effect.Effect<void>,
  failed: (error: Failed) => Effect.Effect<void>,
  given: () => Sequence.Sequence | undefined
): Effect.fn.Return<TableWriter, Failed, Scope.Scope> {
  const { config, pipeline, sql, state } = shared
  const wanted = yield* Layout.make(config, pipeline, table)
  yield* state.register(wanted)
  /** Whatever is left of it is void, its channel too: a copy begins. */
  const lifted = shared.states.get(wanted.id)?.quarantined !== undefined
  const task = new MergeTask(sql, state, config, pipeline, shared.sets)
  yield* follow(shared, wanted, task)
  const stored = shared.states.get(wanted.id)
  const left = stored?.copying
  // Before anything is altered, so that no run of a task that doesn't know about it follows.
  const begun = yield* task.begin(wanted, stored?.task)
  yield* MetadataColumns.settle(sql, state, wanted, stored?.metadata)
  const shape = yield* TableShape.settle(
    shared,
    wanted,
    stored?.columns,
    stored?.copied !== undefined || left !== undefined,
    lifted ? Effect.void : quiet(shared, wanted, failed)
  )
  let { columns, layout } = shape
  yield* CurrentView.ensure(sql, layout, config, pipeline)
  const known = TableShape.voided(stored, shape)
  /** The copy that can go on; not with another key than it began with. */
  const resumable = shape.otherKey === undefined ? known?.copying?.resumable : undefined
  const unfinished = resumable !== undefined && (yield* HistoryCopy.holds(sql, layout)) ? resumable : undefined
  const handed = begun.handed && known?.copied !== undefined && task.fits(layout, stored?.task)
  const takenBack = begun.handed && !handed ? yield* task.takeBack(layout) : begun.merged
  const merged = known?.copied === undefined ? undefined : takenBack ?? known.merged
  if (config.journal.errorLogging) yield* SkippedRows.keep(sql, layout)
  if (lifted) yield* state.expectClaim(layout.id)
  const news = Latch.makeUnsafe(false)
  const channels = new ChannelGroup.ChannelGroup(layout, shared, {
    channels: TableOptions.of(config, layout.id).channels,
    fresh: shape.journalCreated,
    void: lifted,
    outOfRange: config.outOfRange,
    durable: (sequence) => Effect.andThen(news.open, durable(sequence)),
    given,
    failed
  })
  yield* Effect.addFinalizer(() => Effect.sync(() => channels.close()))
  const held = yield* channels.open(
    merged ?? (unfinished === undefined ? undefined : StateTable.mergedByCopy(unfinished.position))
  )
  // An earlier run ended for this; what was skipped is committed past, so going on would lose it.
  const skipped = known?.copied !== undefined || unfinished !== undefined ? yield* channels.skipped : undefined
  if (skipped !== undefined) return yield* skipped
  const position = HeldPosition.of(known, unfinished, held)
  channels.start(position.committed === undefined ? undefined : Sequence.format(position.committed))

  /** While the target has another key than the source, its journal can't be merged and nothing but a copy may follow. */
  let { otherKey } = shape
  if (otherKey !== undefined && known?.copied !== undefined) {
    yield* Effect.logWarning("the table's key has changed: it has to be copied again").pipe(
      Effect.annotateLogs({ table: layout.id })
    )
  }
  const mergeable = layout.mode !== "changelog" && otherKey === undefined
  const merger = new Merger(
    Sql.serving(sql, "merge"),
    state,
    config,
    layout,
    layout.mode === "history" ? HistoryWindow.apply : MirrorWindow.apply,
    mergeable ? merged : undefined,
    HeldPosition.copySpan(known),
    task,
    handed,
    shared.merges
  )
  const loader = new SnapshotLoader(
    Sql.serving(sql, "copy"),
    state,
    shared.stage,
    config,
    shared.staging,
    yield* Effect.scope,
    Layout.forCopy(layout),
    left,
    shared.letters,
    shared.encoding
  )
  yield* Effect.addFinalizer(() => loader.abandon)
  yield* shared.schedule.add(
    { id: layout.id, merger, committed: () => channels.committed, news, failed },
    () => merger.reset(layout, undefined)
  )

  const mergeCommitted = Effect.suspend(() => {
    const { committed } = channels
    return merger.merge(committed?.upTo, true, committed?.rows)
  })

  /** Everything of the old shape is committed first; then the tables are altered and the channels, whose pipe depends on them, are opened anew. */
  const reshape = Effect.fnUntraced(function*(next: TableSchema) {
    const wanted = yield* Layout.make(config, pipeline, next)
    if (sameColumns(next, layout.table)) return yield* state.keepOrigin(wanted)
    if (loader.copying) return yield* changedInCopy(layout.id)
    yield* channels.settled
    yield* merger.takeBack
    // With the old columns and key: one that is dropped now may still have values to merge.
    yield* mergeCommitted
    const shape = yield* merger.lock.withPermits(1)(TableShape.settle(shared, wanted, columns, true))
    if (shape.otherKey !== undefined || shape.layout.keyless !== layout.keyless) return yield* keyChanged(layout)
    if (shape.void !== undefined) return yield* TableShape.copiedAgain(layout.id, shape.void)
    const changed = shape.layout
    columns = shape.columns
    yield* CurrentView.ensure(sql, changed, config, pipeline)
    layout = changed
    yield* channels.reshape(changed)
    merger.reshape(changed)
    yield* state.keepOrigin(changed)
  })

  /** Whatever came before is void, in the journal too; its channels begin anew at the copy's position, which may be lower than its offset. */
  const beginCopy = Effect.fnUntraced(function*(element: Element.SnapshotBegin) {
    yield* channels.settled
    // A runner that took over must not lose what it has copied.
    yield* channels.reopen
    yield* merger.takeBack
    // A history keeps what there was before.
    if (layout.mode === "history") yield* mergeCommitted
    yield* HistoryCopy.begin(sql, layout)
    yield* merger.lock.withPermits(1)(Effect.suspend(() => {
      merger.reset(layout, undefined)
      return loader.begin(Layout.forCopy(layout), element)
    }))
    if (otherKey !== undefined) yield* TableShape.rekey(shared, layout, columns, otherKey)
    otherKey = undefined
    yield* channels.restart(StateTable.mergedByCopy(element.position))
    // Not before: a run that resumes the copy goes on after the channel's offset.
    yield* loader.keepPlan
  })

  const endCopy = Effect.fnUntraced(function*(element: Element.SnapshotEnd) {
    const finished = yield* loader.end(element, (session) => HistoryCopy.complete(session, layout))
    yield* HistoryCopy.drop(sql, layout)
    merger.reset(
      layout,
      layout.mode !== "changelog" ? StateTable.mergedByFinished(layout, finished) : undefined,
      finished
    )
  })

  /** What is merged stays as it is, and nothing more is. */
  const leave = Effect.fnUntraced(function*() {
    yield* channels.settled
    yield* merger.takeBack
    // A runner that took over decides for itself.
    yield* channels.reopen
    yield* merger.lock.withPermits(1)(Effect.suspend(() => {
      merger.reset(layout, undefined)
      return state.forget(layout)
    }))
    yield* loader.discard
    yield* HistoryCopy.drop(sql, layout)
    if (task.serves(layout)) yield* task.drop(layout)
  })

  const write = (element: TableElement): Effect.Effect<void, Failed> => {
    if (
      otherKey !== undefined && element._tag !== "TableLeft" &&
      (element._tag !== "SnapshotBegin" || layout.mode === "history")
    ) {
      return Effect.fail(keyChanged(layout))
    }
    switch (element._tag) {
      case "Rows":
        merger.written(element.batch.rows, Sequence.format(element.batch.last))
        return Effect.withFiber((fiber) => {
          const span = sampledSpan(fiber)
          if (span !== undefined) merger.writtenIn(span)
          return channels.write(element.batch)
        })
      case "Truncate":
        merger.written(1, Sequence.format(element.sequence))
        return channels.truncate(element.sequence, element.commitTime)
      case "Schema":
        return reshape(element.table)
      case "SnapshotBegin":
        return Effect.andThen(
          // Of an empty table there is nothing to encode.
          element.estimatedBytes === 0 ? Effect.void : shared.encoding.prepare,
          element.resumed ? loader.resume(Layout.forCopy(layout), element) : beginCopy(element)
        )
      case "SnapshotRows":
        return loader.write(element)
      case "SnapshotChunk":
        return loader.endChunk(element)
      case "SnapshotEnd":
        return endCopy(element)
      case "TableLeft":
        return leave()
    }
  }
  return { position, write }
})
