/**
 * The sink: one writer per table over channel, copy and merge, and the background work that they share.
 *
 * Rows go through the table's channel into its journal; copies go through the stage into the target; a fiber watches commits and
 * tells the engine what is durable; another merges. Any doubt about a channel or about the state table ends the run, and the next
 * run starts from what Snowflake holds.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import type { PluginContext } from "@etl-stream/core/Plugin"
import type { Sink } from "@etl-stream/core/Sink"
import type { TableSchema } from "@etl-stream/core/TableSchema"
import { tableId } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import { randomUUID } from "node:crypto"
import * as ChannelTable from "./ChannelTable.ts"
import { CommitWatcher } from "./CommitWatcher.ts"
import { Compression } from "./Compression.ts"
import type { Config } from "./Config.ts"
import * as Credentials from "./Credentials.ts"
import { DeadLetterWriter, storeOf } from "./DeadLetterWriter.ts"
import { EncodingPool } from "./EncodingPool.ts"
import * as Identifier from "./Identifier.ts"
import { MergeSchedule } from "./MergeSchedule.ts"
import { MergeTask } from "./MergeTask.ts"
import * as QuarantinedTable from "./QuarantinedTable.ts"
import * as ReplicatedTable from "./ReplicatedTable.ts"
import * as SdkStreamingClient from "./SdkStreamingClient.ts"
import * as Sql from "./SqlClient.ts"
import * as Stage from "./Stage.ts"
import { StagingMemory } from "./StagingMemory.ts"
import * as StateTable from "./StateTable.ts"
import * as StreamingClient from "./StreamingClient.ts"
import * as TableDdl from "./TableDdl.ts"
import * as Layout from "./TableLayout.ts"

type Failed = ConnectorError.ConnectorError

/** Channels that encode and send at a time: each needs some 30 MB for it, and one alone can be as fast as its channel. */
const concurrentWriters = 6

/** Tables that the pipeline copied or began to copy and that aren't among `tables`: their copies no longer count. */
const begin = Effect.fn("SnowflakeSink.begin")(
  function*(shared: ReplicatedTable.Shared, tables: ReadonlyArray<TableSchema>) {
    const present = new Set(tables.map((table) => tableId(table.table)))
    const unknown = Object.keys(shared.config.tables).filter((id) => !present.has(id))
    if (unknown.length > 0) {
      yield* Effect.logWarning("The sink's options name tables that the pipeline doesn't have").pipe(
        Effect.annotateLogs({
          tables: unknown,
          hint: "Check the names in `tables`, as the source and transforms have them."
        })
      )
    }
    for (const id of shared.states.keys()) if (!present.has(id)) shared.state.release(id)
    const task = new MergeTask(shared.sql, shared.state, shared.config, shared.pipeline, shared.sets)
    for (const [id, { journal, task: token }] of shared.states) {
      if (token !== undefined && !present.has(id)) yield* task.dropFormer(id, journal)
    }
    const left = [...shared.states].filter(([id, { copied, copying, quarantined }]) =>
      (copied !== undefined || copying !== undefined || quarantined !== undefined) && !present.has(id)
    ).map(([id]) => id)
    if (left.length === 0) return
    yield* shared.state.abandon(left)
    for (const id of left) shared.states.delete(id)
    yield* Effect.logInfo("Tables left the pipeline; should they come back, they are copied again").pipe(
      Effect.annotateLogs({ tables: left })
    )
  }
)

/** Has `map` hold what `now` does, and nothing else. */
const replace = <K, V>(map: Map<K, V>, now: ReadonlyMap<K, V>): void => {
  map.clear()
  for (const [key, value] of now) map.set(key, value)
}

/** Opens the connection and prepares the schema; the tables come with `open`. */
export const make = Effect.fn("SnowflakeSink.make")(function*(
  config: Config,
  context: PluginContext
): Effect.fn.Return<Sink, Failed, Scope.Scope> {
  const credentials = yield* Credentials.make(config.auth, context.directory)
  const { pipeline } = context
  const database = Identifier.fromConfig(config.database)
  const schema = Identifier.fromConfig(config.journalSchema)
  const sql = yield* Sql.make(config, credentials, pipeline)
  yield* TableDdl.ensureHome(sql, database, schema)
  const state = StateTable.make(Sql.serving(sql, "state"), pipeline, database, schema)
  yield* state.claim
  const { client: streaming, kind } = yield* SdkStreamingClient.choose(
    StreamingClient.make(config, credentials),
    config,
    credentials,
    { clientName: `etl-stream-${Layout.plainName(pipeline)}`, directory: context.directory }
  )
  const channelTable = ChannelTable.make(Sql.serving(sql, "state"), pipeline, database, schema)
  const store = yield* storeOf(config, context, sql)
  const shared: ReplicatedTable.Shared = {
    config,
    pipeline,
    sql,
    streaming,
    state,
    stage: Stage.make(Sql.serving(sql, "copy"), pipeline, database, schema),
    staging: new StagingMemory(config.copy.memory),
    watcher: new CommitWatcher(streaming),
    writers: Semaphore.makeUnsafe(concurrentWriters),
    compression: new Compression(kind === "sdk" ? "none" : config.streaming.compression),
    encoding: yield* EncodingPool.shared,
    channelTable,
    sets: new Map(yield* channelTable.load),
    run: randomUUID(),
    states: new Map(yield* state.load),
    schedule: new MergeSchedule(config),
    merges: Semaphore.makeUnsafe(config.merge.parallel ?? config.connections),
    letters: store === undefined ? undefined : new DeadLetterWriter(pipeline, store)
  }
  let begun = false
  return {
    begin: Effect.fnUntraced(function*(tables, conditions) {
      if (shared.letters !== undefined) shared.letters.conditions = conditions
      // What was read when the sink was made is of before: copies are complete by now, positions and channels others.
      if (begun) {
        replace(shared.states, yield* state.load)
        replace(shared.sets, yield* channelTable.load)
      }
      begun = true
      const present = new Set(tables.map(({ table }) => tableId(table)))
      yield* sql.raiseIn(conditions, (id) => present.has(id) && shared.states.get(id)?.quarantined === undefined)
      yield* begin(shared, tables)
    }),
    open: Effect.fnUntraced(function*(table, durable, failed, given) {
      const quarantined = shared.states.get(tableId(table.table))?.quarantined
      if (quarantined === undefined) return yield* ReplicatedTable.open(shared, table, durable, failed, given)
      const scope = yield* Effect.scope
      return QuarantinedTable.make(
        table,
        quarantined,
        (now) => Scope.provide(ReplicatedTable.open(shared, now, durable, failed, given), scope)
      )
    }),
    quarantine: Effect.fnUntraced(function*(table, why) {
      const id = tableId(table.table)
      yield* state.quarantine(id, why)
      const known = yield* state.read(id)
      if (known?.quarantined === undefined) return yield* StateTable.changedElsewhere({ id })
      shared.states.set(id, known)
      if (config.merge.by !== "task" && known.task === undefined) return
      // It isn't in charge any more; suspended it doesn't wake a warehouse either. Not the one of another table, which has the same target.
      yield* Layout.of(config, pipeline, table).pipe(
        Effect.flatMap((layout) =>
          state.owns(layout)
            ? Effect.asVoid(new MergeTask(sql, state, config, pipeline, shared.sets).takeBack(layout))
            : Effect.void
        ),
        Effect.ignore
      )
    }),
    run: Effect.raceFirst(shared.watcher.run, shared.schedule.run),
    settle: shared.schedule.settle
  }
})
