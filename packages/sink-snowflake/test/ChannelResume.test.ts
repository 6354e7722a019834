/**
 * Several channels when a run ended with rows that are durable and not merged: they reach the target in the next run, whether or not anything changes in it.
 */
import { assert, layer } from "@effect/vitest"
import { Operation } from "@etl-stream/core/ChangeBatch"
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { Element, Rows } from "@etl-stream/core/Element"
import * as MemoryBudget from "@etl-stream/core/MemoryBudget"
import * as Pipeline from "@etl-stream/core/Pipeline"
import * as Progress from "@etl-stream/core/Progress"
import * as Sequence from "@etl-stream/core/Sequence"
import type { Source } from "@etl-stream/core/Source"
import type { TableSchema } from "@etl-stream/core/TableSchema"
import { tableId } from "@etl-stream/core/TableSchema"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as RowRouter from "../src/RowRouter.ts"
import * as SnowflakeSink from "../src/SnowflakeSink.ts"
import * as Layout from "../src/TableLayout.ts"
import * as Batches from "./Batches.ts"
import * as Local from "./Local.ts"

class Server extends Context.Service<Server, Local.Local>()("test/Server") {
  static readonly layer = Layer.effect(Server, Local.start())
}

const named = (name: string) =>
  Batches.table(name, { id: { _tag: "Int64" }, note: { _tag: "Text", maxLength: undefined } }, {
    _tag: "Key",
    columns: [0]
  })
const at = (commit: bigint, ordinal: number) => Sequence.make(commit, BigInt(ordinal))
const rowsOf = (table: TableSchema, commit: bigint, from: number, to: number): Rows => ({
  _tag: "Rows",
  batch: Batches.batch(
    table,
    Array.from({ length: to - from }, (_, index): Batches.Row => ({
      op: Operation.Insert,
      sequence: at(commit, from + index),
      values: [BigInt(from + index), "note"]
    }))
  )
})
const watermark = (position: bigint): Element => ({ _tag: "Watermark", position, commitTime: undefined })
const emptyCopy = (table: TableSchema, position: bigint): ReadonlyArray<Element> => [
  {
    _tag: "SnapshotBegin",
    table,
    position,
    plan: undefined,
    resumed: false,
    estimatedRows: undefined,
    estimatedBytes: undefined
  },
  { _tag: "SnapshotEnd", table, position, chunks: 0, settled: position }
]

const breaks = new ConnectorError({
  reason: "Unreachable",
  plugin: "test",
  message: "broken",
  hint: "Part of the test."
})

/** Emits the elements; then breaks off when everything up to `breaksAt` is durable and `until` is done, or ends when there is nothing to wait for. */
const sourceOf = (
  table: TableSchema,
  elements: ReadonlyArray<Element>,
  breaksAt?: bigint,
  until: Effect.Effect<unknown> = Effect.void
): Source => ({
  tables: Effect.succeed([table]),
  stream: ({ acknowledged }) =>
    Stream.concat(
      Stream.fromIterable(elements, { chunkSize: 1 }),
      breaksAt === undefined ? Stream.empty : Stream.unwrap(
        Effect.gen(function*() {
          while (acknowledged() < breaksAt) yield* Effect.sleep(5)
          yield* until
          return Stream.fail(breaks)
        })
      )
    )
})

const runOnce = (local: Local.Local, pipeline: string, source: Source, options: object) =>
  Effect.scoped(Effect.gen(function*() {
    const config = local.config({ merge: { every: "1 hour" }, ...options })
    const sink = yield* SnowflakeSink.make(config, { pipeline, directory: local.directory })
    yield* Pipeline.run({
      name: pipeline,
      source,
      transforms: [],
      sink,
      batch: { rows: 7, bytes: 1 << 20, every: "1 milli" },
      progress: Progress.make(pipeline),
      state: {
        get: () => Effect.succeedNone,
        list: () => Effect.succeed([]),
        compareAndSet: () => Effect.succeed(Option.some("1")),
        remove: () => Effect.void,
        now: Clock.currentTimeMillis
      },
      stop: Effect.never,
      drain: "1 minute"
    })
  })).pipe(Effect.provide([MemoryBudget.MemoryBudget.layer(), Logger.layer([])]), Effect.exit)

const inTarget = (local: Local.Local, pipeline: string, table: TableSchema) =>
  Effect.gen(function*() {
    const layout = yield* Layout.make(local.config(), pipeline, table)
    const rows = yield* local.query(`SELECT "ID" FROM ${Layout.sqlName(layout.target)} ORDER BY "ID"`)
    return rows.map(({ ID }) => Number(ID))
  })

const numbers = (to: number): ReadonlyArray<number> => Array.from({ length: to }, (_, index) => index)

layer(Server.layer, { timeout: 120_000, excludeTestServices: true })("Channels of a run that goes on", (it) => {
  for (const mode of ["mirror", "history"] as const) {
    it.effect(`bring durable rows that the last run didn't merge into a ${mode}, without another change`, () =>
      Effect.gen(function*() {
        const local = yield* Server
        const name = `resumed_${mode}`
        const table = named(name)
        const options = { mode, tables: { [tableId(table.table)]: { channels: 3 } } }
        const first = yield* runOnce(
          local,
          name,
          sourceOf(table, [...emptyCopy(table, 10n), rowsOf(table, 20n, 0, 20), watermark(25n)], 25n),
          options
        )
        assert.isTrue(Exit.isFailure(first))
        assert.deepStrictEqual(yield* inTarget(local, name, table), [])
        // The source was told that everything is durable, so it has nothing to say but where it is.
        assert.isTrue(Exit.isSuccess(yield* runOnce(local, name, sourceOf(table, [watermark(25n)]), options)))
        assert.deepStrictEqual(yield* inTarget(local, name, table), numbers(20))
      }))
  }

  it.effect("merge nothing past rows that a slower channel had lost, and all once these came again", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const name = "lagging"
      const table = named(name)
      const options = { tables: { [tableId(table.table)]: { channels: 3 } } }
      const begun = [...emptyCopy(table, 10n), rowsOf(table, 20n, 0, 20), watermark(25n)]
      assert.isTrue(Exit.isFailure(yield* runOnce(local, name, sourceOf(table, begun, 25n), options)))
      const [set] = yield* local.query(`SELECT "EPOCH" FROM RAW.ETL_STREAM.CHANNELS WHERE "PIPELINE" = '${name}'`)
      const slow = `ETL_STREAM_${Layout.plainName(name)}_${String(set?.["EPOCH"])}_1`
      yield* local.fault("streaming", { kind: "holdCommits", channel: slow })
      const layout = yield* Layout.make(local.config(), name, table)
      const more = rowsOf(table, 30n, 20, 60)
      const others = RowRouter.route(layout, more.batch, 3).filter((route) => route !== 1).length
      const inJournal = Effect.map(
        local.query(`SELECT COUNT(*) AS "N" FROM ${Layout.sqlName(layout.journal)}`),
        ([row]) => Number(row?.["N"])
      )
      // The other channels have committed all of theirs when the run ends, and nothing of it was acknowledged.
      const ahead = Effect.repeat(inJournal, { until: (rows) => rows === 20 + others })
      const second = sourceOf(table, [watermark(25n), more, watermark(35n)], 25n, ahead)
      assert.isTrue(Exit.isFailure(yield* runOnce(local, name, second, options)))
      yield* local.fault("streaming", { kind: "loseUncommitted", endpoint: "open", channel: slow })
      // A run that ends before anything comes again.
      assert.isTrue(Exit.isSuccess(yield* runOnce(local, name, sourceOf(table, [watermark(25n)]), options)))
      const before = yield* inTarget(local, name, table)
      assert.isAtMost(before.length, 20)
      assert.deepStrictEqual(before, numbers(before.length))
      yield* local.clearFaults
      assert.isTrue(
        Exit.isSuccess(yield* runOnce(local, name, sourceOf(table, [watermark(25n), more, watermark(35n)]), options))
      )
      assert.deepStrictEqual(yield* inTarget(local, name, table), numbers(60))
    }))

  it.effect("aren't taken for forgotten when they never had a row", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const name = "quiet"
      const table = named(name)
      const options = { tables: { [tableId(table.table)]: { channels: 8 } } }
      const begun = [...emptyCopy(table, 10n), rowsOf(table, 20n, 0, 2), watermark(25n)]
      assert.isTrue(Exit.isFailure(yield* runOnce(local, name, sourceOf(table, begun, 25n), options)))
      yield* local.clearStatements
      assert.isTrue(Exit.isSuccess(yield* runOnce(local, name, sourceOf(table, [watermark(25n)]), options)))
      const asked = (yield* local.statements).filter(({ sql }) => sql.startsWith("SELECT DISTINCT \"_ETL_SEQ\""))
      assert.deepStrictEqual(asked, [])
      assert.deepStrictEqual(yield* inTarget(local, name, table), numbers(2))
    }))
})
