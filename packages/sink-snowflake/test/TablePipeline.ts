/**
 * The engine and the sink against a local Snowflake, with a source that emits what a test says.
 */
import { Operation } from "@etl-stream/core/ChangeBatch"
import type { Element } from "@etl-stream/core/Element"
import * as MemoryBudget from "@etl-stream/core/MemoryBudget"
import * as Pipeline from "@etl-stream/core/Pipeline"
import * as Progress from "@etl-stream/core/Progress"
import * as ResyncRequest from "@etl-stream/core/ResyncRequest"
import * as Sequence from "@etl-stream/core/Sequence"
import type { StateStoreShape } from "@etl-stream/core/StateStore"
import { tableId, type TableSchema } from "@etl-stream/core/TableSchema"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import * as SnowflakeSink from "../src/SnowflakeSink.ts"
import * as Batches from "./Batches.ts"
import type * as Local from "./Local.ts"

export const table = (name: string, columns: object = {}, version = 1): TableSchema =>
  Batches.table(
    name,
    { id: { _tag: "Int64" }, note: { _tag: "Text", maxLength: undefined }, ...columns },
    { _tag: "Key", columns: [0] },
    "public",
    version
  )

export const inserts = (of: TableSchema, commit: bigint, ids: ReadonlyArray<number>): Element => ({
  _tag: "Rows",
  batch: Batches.batch(
    of,
    ids.map((id, index) => ({
      op: Operation.Insert,
      sequence: Sequence.make(commit, BigInt(index * 2 + 1)),
      values: [BigInt(id), `note ${id}`, ...of.columns.slice(2).map(() => "more")]
    }))
  )
})
export const begin = (of: TableSchema, position: bigint): Element => ({
  _tag: "SnapshotBegin",
  table: of,
  position,
  plan: "the plan",
  resumed: false,
  estimatedRows: undefined,
  estimatedBytes: undefined
})
export const chunk = (
  of: TableSchema,
  position: bigint,
  number: number,
  ids: ReadonlyArray<number>
): ReadonlyArray<Element> => [
  {
    _tag: "SnapshotRows",
    batch: Batches.batch(
      of,
      ids.map((id) => ({
        op: Operation.Read,
        sequence: Sequence.make(position, 0n),
        values: [BigInt(id), `note ${id}`, ...of.columns.slice(2).map(() => "more")]
      }))
    ),
    position,
    chunk: number
  },
  { _tag: "SnapshotChunk", table: of, position, chunk: number, rows: ids.length }
]
export const copy = (of: TableSchema, position: bigint, ids: ReadonlyArray<number>): ReadonlyArray<Element> => [
  begin(of, position),
  ...chunk(of, position, 0, ids),
  { _tag: "SnapshotEnd", table: of, position, chunks: 1, settled: position }
]
export const mark = (position: number): Element => ({
  _tag: "Watermark",
  position: BigInt(position),
  commitTime: 1_000_000n
})

const memory = (): StateStoreShape => {
  const entries = new Map<string, { readonly value: string; readonly version: string }>()
  let version = 0
  return {
    get: (key) => Effect.sync(() => Option.fromNullishOr(entries.get(key))),
    list: () => Effect.succeed([]),
    compareAndSet: (key, value, expected) =>
      Effect.sync(() => {
        if (entries.get(key)?.version !== expected) return Option.none<string>()
        entries.set(key, { value, version: String(++version) })
        return Option.some(String(version))
      }),
    remove: (key) => Effect.sync(() => entries.delete(key)).pipe(Effect.asVoid),
    now: Clock.currentTimeMillis
  }
}

export const until = (condition: Effect.Effect<boolean>, what: string) =>
  Effect.gen(function*() {
    while (!(yield* condition)) yield* Effect.sleep(20)
  }).pipe(
    Effect.timeout("30 seconds"),
    Effect.catchTag("TimeoutError", () => Effect.die(new Error(`it never came to this: ${what}`)))
  )

/** A pipeline that can be run again and again; its source emits what the test says. */
export const pipeline = (local: Local.Local, name: string, tables: ReadonlyArray<TableSchema>) => {
  const state = memory()
  /** What a copy that is asked for consists of. */
  const again = new Map<string, ReadonlyArray<Element>>()
  const start = Effect.fnUntraced(function*(more: object = {}) {
    const queue = yield* Queue.unbounded<Element>()
    const stop = yield* Deferred.make<void>()
    const progress = Progress.make(name)
    const run = Effect.gen(function*() {
      const sink = yield* SnowflakeSink.make(local.config(more), { pipeline: name, directory: local.directory })
      yield* Pipeline.run({
        name,
        source: {
          tables: Effect.succeed(tables),
          stream: () => Stream.fromQueue(queue),
          resync: (id) => Effect.asVoid(Queue.offerAll(queue, again.get(id) ?? []))
        },
        transforms: [],
        sink,
        batch: { rows: 1000, bytes: 1 << 20, every: "5 millis" },
        progress,
        state,
        stop: Deferred.await(stop),
        drain: "20 seconds"
      })
    })
    const fiber = yield* run.pipe(
      Effect.scoped,
      Effect.provide(MemoryBudget.MemoryBudget.layer(MemoryBudget.defaultCapacity)),
      Effect.exit,
      Effect.forkChild
    )
    const view = (of: TableSchema) =>
      progress.snapshot(Date.now()).tables.find((found) => found.table === tableId(of.table))
    const phase = (of: TableSchema, wanted: Progress.TablePhase) =>
      until(Effect.sync(() => view(of)?.phase === wanted), `${of.table.name} is ${wanted}, not ${view(of)?.phase}`)
    return {
      emit: (...elements: ReadonlyArray<Element>) => Queue.offerAll(queue, elements),
      progress,
      view,
      phase,
      acknowledged: (position: bigint) =>
        until(
          Effect.sync(() => progress.acknowledgedPosition === position),
          `${progress.acknowledgedPosition} becomes ${position}`
        ),
      kill: Fiber.interrupt(fiber),
      stop: Effect.andThen(Deferred.succeed(stop, undefined), Fiber.join(fiber)),
      ended: Fiber.join(fiber)
    }
  })
  /** Has a table copied again, and waits for what becomes of that. */
  const resync = Effect.fnUntraced(function*(
    of: TableSchema,
    elements: ReadonlyArray<Element>,
    outcome: ResyncRequest.State = "done"
  ) {
    const id = tableId(of.table)
    again.set(id, elements)
    yield* ResyncRequest.ask(state, name, [id])
    yield* until(
      Effect.map(
        ResyncRequest.all(state, name),
        (all) => all.some((request) => request.table === id && request.state === outcome)
      ).pipe(Effect.orDie),
      `the new copy of ${id} is ${outcome}`
    )
  })
  return { start, resync, state }
}

export const rowsOf = (local: Local.Local, name: string) =>
  Effect.map(
    local.query(`SELECT "ID", "NOTE" FROM RAW.SHOP.${name.toUpperCase()} ORDER BY "ID"`),
    (rows) => rows.map(({ ID, NOTE }) => `${String(ID)} ${String(NOTE)}`)
  )
export const expected = (ids: ReadonlyArray<number>) => ids.map((id) => `${id} note ${id}`)

export const marked = (local: Local.Local, pipeline: string) =>
  Effect.map(
    local.query(
      `SELECT "SOURCE_TABLE", "COPIED", "COPYING", "MERGED", "QUARANTINE_REASON" FROM RAW.ETL_STREAM.TABLES WHERE ` +
        `"PIPELINE" = '${pipeline}' AND "QUARANTINED_AT" IS NOT NULL ORDER BY "SOURCE_TABLE"`
    ),
    (rows) => rows.map((row) => Object.values(row).map((value) => value === null ? "-" : String(value)).join(" "))
  )
