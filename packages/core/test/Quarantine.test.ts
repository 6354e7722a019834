import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import { barrierFootprint } from "../src/ArrowBatcher.ts"
import * as BatchConcat from "../src/BatchConcat.ts"
import { ConnectorError, Reason } from "../src/ConnectorError.ts"
import type { Element } from "../src/Element.ts"
import * as MemoryBudget from "../src/MemoryBudget.ts"
import * as Pipeline from "../src/Pipeline.ts"
import * as PipelineControl from "../src/PipelineControl.ts"
import * as Progress from "../src/Progress.ts"
import * as Quarantine from "../src/Quarantine.ts"
import * as ResyncRequest from "../src/ResyncRequest.ts"
import * as Sequence from "../src/Sequence.ts"
import type { Sink } from "../src/Sink.ts"
import type { Source, SourceContext } from "../src/Source.ts"
import type { TableId, TableSchema } from "../src/TableSchema.ts"
import { tableId } from "../src/TableSchema.ts"
import type { Transform } from "../src/Transform.ts"
import * as Chance from "./doubles/Chance.ts"
import { chunkOf, LogServer, randomLog } from "./doubles/LogServer.ts"
import { MemoryState } from "./doubles/MemoryState.ts"
import { broken, PrefixSink, refused } from "./doubles/PrefixSink.ts"
import { batch, plain } from "./doubles/Tables.ts"

const tables = [plain("a"), plain("b"), plain("c")] as const
const [a, b] = tables
const [idA, idB, idC] = ["public.a", "public.b", "public.c"] as const

const until = <E>(condition: Effect.Effect<boolean, E>, what: string) =>
  Effect.gen(function*() {
    while (!(yield* condition)) yield* Effect.sleep(2)
  }).pipe(
    Effect.timeout("30 seconds"),
    Effect.catchTag("TimeoutError", () => Effect.die(new Error(`it never came to this: ${what}`)))
  )
const eventually = (condition: () => boolean, what = String(condition)) => until(Effect.sync(condition), what)

const rows = (table: TableSchema, commit: number, n = 1): Element => ({
  _tag: "Rows",
  batch: batch(
    table,
    Array.from({ length: n }, (_, i) => ({
      commit: BigInt(commit),
      ordinal: BigInt(i * 2 + 1),
      values: [commit * 1000 + i, "x".repeat(100)]
    }))
  )
})
const begin = (table: TableSchema, position: bigint): Element => ({
  _tag: "SnapshotBegin",
  table,
  position,
  plan: undefined,
  resumed: false,
  estimatedRows: undefined,
  estimatedBytes: undefined
})
/** Rows of a chunk, and its end. */
const chunk = (table: TableSchema, position: bigint, ids: ReadonlyArray<number>): ReadonlyArray<Element> => [
  {
    _tag: "SnapshotRows",
    batch: batch(table, ids.map((id) => ({ op: 0 as const, commit: position, ordinal: 0n, values: [id, "x"] }))),
    position,
    chunk: 0
  },
  { _tag: "SnapshotChunk", table, position, chunk: 0, rows: ids.length }
]
const end = (table: TableSchema, position: bigint): Element => ({
  _tag: "SnapshotEnd",
  table,
  position,
  chunks: 1,
  settled: position
})
const copy = (table: TableSchema, position: bigint, ids: ReadonlyArray<number> = [1, 2]): ReadonlyArray<Element> => [
  begin(table, position),
  ...chunk(table, position, ids),
  end(table, position)
]
const mark = (position: number): Element => ({ _tag: "Watermark", position: BigInt(position), commitTime: 1_000_000n })

/** A pipeline whose source emits what a test says, and copies a table again at the position that it says. */
const landscape = (parts: { readonly tables?: ReadonlyArray<TableSchema>; readonly sink?: PrefixSink } = {}) => {
  const sink = parts.sink ?? new PrefixSink()
  const state = new MemoryState()
  /** Where a copy that is asked for begins, and its rows. */
  const again = { position: 100n, ids: [7, 8, 9] as ReadonlyArray<number>, rest: true }
  const start = Effect.fnUntraced(function*(
    more: Partial<Pipeline.Options> & { readonly capacity?: number } = {}
  ) {
    const queue = yield* Queue.unbounded<Element>()
    const stop = yield* Deferred.make<void>()
    const progress = more.progress ?? Progress.make("shop")
    const logged: Array<string> = []
    let context: SourceContext | undefined
    const source: Source = {
      tables: Effect.succeed(parts.tables ?? tables),
      stream: (given) => {
        context = given
        return Stream.fromQueue(queue)
      },
      resync: Effect.fnUntraced(function*(id: TableId) {
        const table = tables.find(({ table }) => tableId(table) === id)
        if (table === undefined) return
        const { ids, position, rest } = again
        yield* Queue.offerAll(queue, rest ? copy(table, position, ids) : [begin(table, position)])
      })
    }
    const fiber = yield* Pipeline.run({
      name: "shop",
      source,
      transforms: [],
      sink: sink.sink,
      batch: { rows: 20, bytes: 1 << 20, every: "2 millis" },
      progress,
      state,
      stop: Deferred.await(stop),
      drain: "5 seconds",
      ...more
    }).pipe(
      Effect.provide([
        MemoryBudget.MemoryBudget.layer(more.capacity ?? MemoryBudget.defaultCapacity),
        Logger.layer([Logger.make(({ logLevel, message }) => {
          if (logLevel === "Error") logged.push(String(message))
        })])
      ]),
      Effect.exit,
      Effect.forkChild
    )
    const emit = (...elements: ReadonlyArray<Element>) => Queue.offerAll(queue, elements)
    const view = (id: TableId) => progress.snapshot(Date.now()).tables.find(({ table }) => table === id)
    return {
      emit,
      progress,
      logged,
      view,
      phase: (id: TableId) => view(id)?.phase,
      context: () => context,
      kill: Effect.andThen(Fiber.interrupt(fiber), Effect.sync(() => sink.crash())),
      stop: Effect.andThen(Deferred.succeed(stop, undefined), Fiber.join(fiber)),
      ended: Fiber.join(fiber)
    }
  })
  const answered = (table: TableId, wanted: ResyncRequest.State) =>
    until(
      Effect.map(ResyncRequest.all(state, "shop"), (all) =>
        all.some((request) => request.table === table && request.state === wanted)),
      `the request for ${table} is ${wanted}`
    )
  return { sink, state, start, again, answered }
}

/** Fails a table's writes with an error that concerns it alone, as long as `on` says so. */
const refuses = (sink: PrefixSink, table: TableId, point: "open" | "write" = "write") => {
  const switches = { on: true }
  const before = sink.at
  sink.at = (at, of) => switches.on && at === point && of === table ? Effect.fail(refused(table)) : before(at, of)
  return switches
}

// Each has a pipeline of its own, and mostly waits: for looks at the requests, which are a second apart.
describe("a table that can't go on", { concurrent: true }, () => {
  it("is told from trouble that passes or concerns more by the error's reason and table, in one place", () => {
    const aTable: ReadonlyArray<Reason> = ["Forbidden", "Missing", "Lost", "Rejected", "Unsupported", "Protocol"]
    for (const reason of Reason.literals) {
      const fields = { reason, plugin: "test", message: "m", hint: "h" }
      assert.strictEqual(
        Quarantine.concernsTable(new ConnectorError({ ...fields, table: idA })),
        aTable.includes(reason),
        reason
      )
      assert.isFalse(Quarantine.concernsTable(new ConnectorError(fields)), reason)
    }
  })

  it.live("is set aside when a transform can do nothing with it, at the start, when it appears and when it changes its shape; nothing of it is copied in that shape", () =>
    Effect.gen(function*() {
      const { again, answered, sink, start, state } = landscape({ tables: [a, b] })
      const [, , c] = tables
      const unfit: Transform = {
        schema: (table) =>
          tableId(table.table) === idA && table.version === 1
            ? Effect.succeed(table)
            : Effect.fail(refused(tableId(table.table))),
        apply: (batch) => Effect.succeed(batch)
      }
      const named: Transform = {
        schema: (table) => Effect.succeed({ ...table, table: { schema: "shop", name: table.table.name } }),
        apply: (batch) =>
          Effect.succeed({
            ...batch,
            table: { ...batch.table, table: { schema: "shop", name: batch.table.table.name } }
          })
      }
      const run = yield* start({ transforms: [unfit, named] })
      yield* run.emit(...copy(a, 5n), ...copy(b, 5n), mark(6), rows(a, 10), rows(b, 10), ...copy(c, 12n), mark(13))
      yield* eventually(() => run.progress.acknowledgedPosition === 13n)
      assert.deepStrictEqual([run.phase(idA), run.phase(idB), run.phase(idC)], [
        "streaming",
        "quarantined",
        "quarantined"
      ])
      // Under the names that they have at the sink.
      assert.strictEqual(sink.held("shop.b").quarantined?.message, "a value is refused")
      assert.deepStrictEqual([sink.held("shop.b").copied, sink.held("shop.b").changes], [undefined, []])
      assert.isDefined(sink.held("shop.c").quarantined)
      assert.deepStrictEqual(sink.held("shop.a").changes.map(([{ commit }]) => commit), [10n])

      // A copy that is asked for fails as before.
      again.position = 20n
      yield* ResyncRequest.ask(state, "shop", [idB])
      yield* answered(idB, "refused")
      yield* run.emit(rows(a, 21), mark(22))
      yield* eventually(() => run.progress.acknowledgedPosition === 22n)
      assert.deepStrictEqual([sink.held("shop.b").copied, sink.held("shop.b").changes], [undefined, []])

      const changed: TableSchema = { ...a, version: 2 }
      yield* run.emit({ _tag: "Schema", table: changed, sequence: Sequence.make(23n, 0n) }, rows(changed, 24), mark(25))
      yield* eventually(() => run.phase(idA) === "quarantined" && run.progress.acknowledgedPosition === 25n)
      assert.isDefined(sink.held("shop.a").quarantined)
      yield* run.stop
    }))

  for (const point of ["write", "open"] as const) {
    it.live(`is set aside when its ${point} fails; the others go on, and the position passes it once that is durable`, () =>
      Effect.gen(function*() {
        const { sink, start } = landscape()
        refuses(sink, idB, point)
        const run = yield* start()
        yield* run.emit(...copy(a, 5n), ...copy(b, 5n), mark(6), rows(a, 10), rows(b, 10), mark(11))
        yield* eventually(() => run.phase(idB) === "quarantined" && run.progress.acknowledgedPosition === 11n)
        yield* run.emit(rows(b, 12, 3), rows(a, 12), mark(13))
        yield* eventually(() => run.progress.acknowledgedPosition === 13n)
        const held = sink.held(idB)
        assert.strictEqual(held.quarantined?.message, "a value is refused")
        assert.deepStrictEqual([held.copied, held.changes], [undefined, []])
        assert.deepStrictEqual(sink.held(idA).changes.map(([{ commit }]) => commit), [10n, 12n])
        const view = run.view(idB)
        assert.deepStrictEqual([view?.quarantine?.reason, view?.quarantine?.hint], ["Rejected", "Mend the value."])
        const [condition, ...others] = run.progress.snapshot(Date.now()).conditions
        assert.deepStrictEqual(others, [])
        assert.deepStrictEqual([condition?.name, condition?.severity, condition?.table], [
          "table-quarantined",
          "critical",
          idB
        ])
        assert.match(condition?.hint ?? "", /Mend the value\..*resync/)
        assert.strictEqual(run.logged.length, 1)
        assert.isTrue(Exit.isSuccess(yield* run.stop))
        assert.deepStrictEqual(sink.breaches, [])
      }))
  }

  it.live("is set aside for background work that failed, with changes in flight and without", () =>
    Effect.gen(function*() {
      for (const inFlight of [true, false]) {
        const { sink, start } = landscape()
        const run = yield* start()
        yield* run.emit(...copy(a, 5n), ...copy(b, 5n), mark(6))
        yield* eventually(() => run.progress.acknowledgedPosition === 6n)
        if (inFlight) {
          sink.commits = () => 0
          yield* run.emit(rows(b, 7), mark(8))
          yield* eventually(() => run.view(idB)?.changes === 1)
        }
        assert.strictEqual(run.progress.acknowledgedPosition, 6n)
        yield* sink.fail(idB, refused(idB))
        sink.commits = (n) => n
        yield* run.emit(rows(a, 10), rows(b, 10), mark(11))
        yield* eventually(() => run.phase(idB) === "quarantined" && run.progress.acknowledgedPosition === 11n)
        assert.strictEqual(sink.held(idB).quarantined?.reason, "Rejected")
        assert.isTrue(Exit.isSuccess(yield* run.stop))
        assert.deepStrictEqual(sink.breaches, [])
      }
    }))

  it.live("is set aside for an error of the source, of a transform, and at a change of shape", () =>
    Effect.gen(function*() {
      const failing: Transform = {
        schema: Effect.succeed,
        apply: (given) =>
          given.table.table.name === "b" ? Effect.fail(refused(idB, "no mask fits")) : Effect.succeed(given)
      }
      const cases: ReadonlyArray<readonly [string, Element, ReadonlyArray<Transform>]> = [
        ["a value is refused", { _tag: "TableFailed", table: b, error: refused(idB) }, []],
        ["no mask fits", rows(b, 8), [failing]],
        ["a value is refused", { _tag: "Schema", table: plain("b", 2), sequence: Sequence.make(8n, 1n) }, []]
      ]
      for (const [message, element, transforms] of cases) {
        const { sink, start } = landscape()
        const run = yield* start({ transforms })
        yield* run.emit(...copy(a, 5n), begin(b, 5n), ...transforms.length === 0 ? [end(b, 5n)] : [], mark(6))
        yield* eventually(() => run.progress.acknowledgedPosition === 6n)
        if (element._tag === "Schema") refuses(sink, idB)
        yield* run.emit(element, rows(a, 10), rows(b, 10), mark(11))
        yield* eventually(() => run.phase(idB) === "quarantined" && run.progress.acknowledgedPosition === 11n)
        assert.strictEqual(sink.held(idB).quarantined?.message, message)
        assert.isTrue(Exit.isSuccess(yield* run.stop))
      }
    }))

  it.live("holds the acknowledged position until its quarantine is durable, whatever comes meanwhile", () =>
    Effect.gen(function*() {
      const failures: ReadonlyArray<Element | undefined> = [
        rows(b, 8),
        { _tag: "TableFailed", table: b, error: refused(idB) },
        undefined
      ]
      for (const failure of failures) {
        const gate = yield* Deferred.make<void>()
        const { sink, start } = landscape()
        sink.at = (point, table) =>
          point === "quarantine"
            ? Deferred.await(gate)
            : point === "write" && table === idB && failure?._tag === "Rows" && sink.held(idB).copied !== undefined
            ? Effect.fail(refused(idB))
            : Effect.void
        const run = yield* start()
        yield* run.emit(...copy(a, 5n), ...copy(b, 5n), mark(6))
        yield* eventually(() => run.progress.acknowledgedPosition === 6n)
        if (failure === undefined) yield* sink.fail(idB, refused(idB))
        else yield* run.emit(failure)
        for (let commit = 10; commit < 50; commit += 2) {
          yield* run.emit(rows(b, commit), rows(a, commit), mark(commit + 1))
        }
        yield* eventually(() => sink.held(idA).changes.length === 20)
        assert.strictEqual(run.progress.acknowledgedPosition, 6n)
        assert.strictEqual(sink.held(idB).quarantined, undefined)
        yield* Deferred.succeed(gate, undefined)
        yield* eventually(() => run.progress.acknowledgedPosition === 49n)
        assert.isTrue(Exit.isSuccess(yield* run.stop))
        assert.deepStrictEqual(sink.breaches, [])
      }
    }))

  it.live("gives back the memory of what it had under way, so that others don't wait for it", () =>
    Effect.gen(function*() {
      const { sink, start } = landscape()
      const gate = yield* Deferred.make<void>()
      sink.at = (point, table) =>
        point === "write" && table === idB && sink.held(idB).copied !== undefined
          ? Effect.andThen(Deferred.await(gate), refused(idB))
          : Effect.void
      const run = yield* start({ capacity: 60_000 })
      yield* run.emit(...copy(a, 5n), ...copy(b, 5n), mark(6))
      yield* eventually(() => run.progress.acknowledgedPosition === 6n)
      for (let commit = 10; commit < 60; commit++) yield* run.emit(rows(b, commit, 20))
      yield* run.emit(rows(a, 60, 20), mark(61))
      yield* eventually(() => run.progress.memory > 30_000)
      assert.strictEqual(sink.held(idA).changes.length, 0)
      yield* Deferred.succeed(gate, undefined)
      yield* eventually(() => run.progress.acknowledgedPosition === 61n)
      yield* run.emit(rows(a, 70), mark(71))
      yield* eventually(() => run.progress.acknowledgedPosition === 71n && run.progress.memory === 0)
      assert.isTrue(Exit.isSuccess(yield* run.stop))
    }))

  it.live("stays set aside over restarts, is not copied by itself, and is repaired by a resync with every row", () =>
    Effect.gen(function*() {
      const { answered, sink, start, state } = landscape()
      const failing = refuses(sink, idB)
      const first = yield* start()
      yield* first.emit(...copy(a, 5n), ...copy(b, 5n), mark(6))
      yield* eventually(() => first.phase(idB) === "quarantined" && first.progress.acknowledgedPosition === 6n)
      yield* first.kill
      failing.on = false
      const second = yield* start()
      yield* eventually(() => second.context() !== undefined)
      assert.strictEqual(second.phase(idB), "quarantined")
      assert.strictEqual(second.context()?.quarantined(idB)?.message, "a value is refused")
      assert.deepStrictEqual(second.progress.snapshot(0).conditions.map(({ name, table }) => [name, table]), [
        ["table-quarantined", idB]
      ])
      // A source that copies it all the same changes nothing.
      yield* second.emit(...copy(b, 20n), rows(b, 21), rows(a, 21), mark(22))
      yield* eventually(() => second.progress.acknowledgedPosition === 22n)
      assert.isDefined(sink.held(idB).quarantined)
      yield* ResyncRequest.ask(state, "shop", [idB])
      yield* answered(idB, "done")
      assert.strictEqual(second.context()?.quarantined(idB), undefined)
      assert.deepStrictEqual(second.progress.snapshot(0).conditions, [])
      yield* second.emit(rows(b, 101), mark(102))
      yield* eventually(() => second.progress.acknowledgedPosition === 102n)
      const held = sink.held(idB)
      assert.strictEqual(held.quarantined, undefined)
      assert.deepStrictEqual([...held.chunks.values()].map(({ ids }) => ids), [[7, 8, 9]])
      assert.deepStrictEqual(held.changes.map(([{ commit }]) => commit), [101n])
      assert.isTrue(Exit.isSuccess(yield* second.stop))
      assert.deepStrictEqual(sink.breaches, [])
    }))

  it.live("is no longer said to be set aside when the next run is without it", () =>
    Effect.gen(function*() {
      const progress = Progress.make("shop")
      const sink = new PrefixSink()
      refuses(sink, idB)
      refuses(sink, idC)
      const said = () => progress.snapshot(0).conditions.map(({ name, table }) => `${name} ${table}`)
      const all = landscape({ sink })
      const first = yield* all.start({ progress })
      yield* first.emit(...copy(a, 5n), ...copy(b, 5n), ...copy(tables[2], 5n), mark(6))
      yield* eventually(() => first.progress.acknowledgedPosition === 6n)
      assert.deepStrictEqual(said().sort(), [`table-quarantined ${idB}`, `table-quarantined ${idC}`])
      yield* first.stop
      const fewer = landscape({ sink, tables: [a, tables[2]] })
      const second = yield* fewer.start({ progress })
      yield* eventually(() => second.context() !== undefined)
      assert.deepStrictEqual(said(), [`table-quarantined ${idC}`])
      yield* second.stop
    }))

  it.live("whose cause isn't mended is set aside again by a resync, which is refused with the reason", () =>
    Effect.gen(function*() {
      const { again, answered, sink, start, state } = landscape()
      const failing = refuses(sink, idB)
      const run = yield* start()
      yield* run.emit(...copy(a, 5n), ...copy(b, 5n), mark(6))
      yield* eventually(() => run.phase(idB) === "quarantined")
      yield* ResyncRequest.ask(state, "shop", [idB])
      yield* answered(idB, "refused")
      const [request] = yield* ResyncRequest.all(state, "shop")
      assert.deepStrictEqual([request?.message, request?.hint], ["a value is refused", "Mend the value."])
      yield* eventually(() => run.phase(idB) === "quarantined")
      // Mended.
      failing.on = false
      again.position = 200n
      yield* ResyncRequest.ask(state, "shop", [idB])
      yield* answered(idB, "done")
      yield* run.emit(rows(a, 300), rows(b, 300), mark(301))
      yield* eventually(() => run.progress.acknowledgedPosition === 301n)
      assert.deepStrictEqual(sink.held(idB).changes.map(([{ commit }]) => commit), [300n])
      assert.isTrue(Exit.isSuccess(yield* run.stop))
      assert.deepStrictEqual(sink.breaches, [])
    }))

  it.live("in mid-copy is copied again without anything of the copy that was given up", () =>
    Effect.gen(function*() {
      const { again, answered, sink, start, state } = landscape()
      const run = yield* start()
      yield* run.emit(...copy(a, 5n), begin(b, 5n))
      yield* eventually(() => sink.written.some(([id, what]) => id === idB && what === "SnapshotBegin"))
      yield* sink.fail(idB, refused(idB))
      yield* eventually(() => run.phase(idB) === "quarantined")
      again.rest = false
      yield* ResyncRequest.ask(state, "shop", [idB])
      yield* answered(idB, "begun")
      // What was on its way comes after the new beginning.
      yield* run.emit(...chunk(b, 6n, [1, 2, 3]), end(b, 5n))
      yield* run.emit(...chunk(b, 100n, [4]), end(b, 100n), rows(b, 101), mark(102))
      yield* eventually(() => run.progress.acknowledgedPosition === 102n && run.phase(idB) === "streaming")
      const held = sink.held(idB)
      assert.deepStrictEqual([...held.chunks.values()].map(({ ids }) => ids), [[4]])
      assert.deepStrictEqual(held.changes.map(([{ commit }]) => commit), [101n])
      assert.isTrue(Exit.isSuccess(yield* run.stop))
      assert.deepStrictEqual(sink.breaches, [])
    }))

  it.live("is waited for by a graceful stop, also when the sink's last work fails for it", () =>
    Effect.gen(function*() {
      const { sink, start } = landscape()
      const settling: Sink = { ...sink.sink, settle: Effect.suspend(() => sink.fail(idB, refused(idB))) }
      sink.at = (point) => point === "quarantine" ? Effect.sleep(20) : Effect.void
      const run = yield* start({ sink: settling })
      yield* run.emit(...copy(a, 5n), ...copy(b, 5n), rows(b, 6), mark(7))
      yield* eventually(() => run.progress.acknowledgedPosition === 7n)
      assert.isTrue(Exit.isSuccess(yield* run.stop))
      assert.isDefined(sink.held(idB).quarantined)
      assert.strictEqual(run.phase(idB), "quarantined")
    }))

  it.live("ends the run when that is wanted, when the sink can't remember, or when what it should remember can't be written", () =>
    Effect.gen(function*() {
      const stop = landscape()
      refuses(stop.sink, idB)
      const forgetful = landscape()
      refuses(forgetful.sink, idB)
      const { quarantine: _, ...without } = forgetful.sink.sink
      const unwritable = landscape()
      refuses(unwritable.sink, idB)
      const before = unwritable.sink.at
      unwritable.sink.at = (point, table) =>
        point === "quarantine" ? Effect.fail(broken("the mark")) : before(point, table)
      const runs = [
        [yield* stop.start({ onTableError: "stop" }), "a value is refused"],
        [yield* forgetful.start({ sink: without }), "a value is refused"],
        [yield* unwritable.start(), "the mark"]
      ] as const
      for (const [run, message] of runs) {
        yield* run.emit(...copy(a, 5n), ...copy(b, 5n), mark(6))
        assert.isTrue(Exit.isFailure(yield* run.ended))
        assert.strictEqual(run.progress.lastError?.message, message)
        assert.strictEqual(run.progress.acknowledgedPosition, 0n)
      }
      const failed = yield* landscape().start({ onTableError: "stop" })
      yield* failed.emit({ _tag: "TableFailed", table: b, error: refused(idB) }, mark(6))
      assert.isTrue(Exit.isFailure(yield* failed.ended))
      assert.strictEqual(failed.progress.acknowledgedPosition, 0n)
    }))

  it.live("that leaves the pipeline leaves its quarantine, too", () =>
    Effect.gen(function*() {
      const { sink, start } = landscape()
      const failing = refuses(sink, idB)
      const run = yield* start()
      yield* run.emit(...copy(a, 5n), ...copy(b, 5n), mark(6))
      yield* eventually(() => run.phase(idB) === "quarantined")
      failing.on = false
      yield* run.emit({ _tag: "TableLeft", table: b }, rows(a, 8), mark(9))
      yield* eventually(() => run.phase(idB) === "left" && run.progress.acknowledgedPosition === 9n)
      yield* eventually(() => run.progress.snapshot(0).conditions.length === 0)
      assert.strictEqual(sink.held(idB).quarantined, undefined)
      assert.isTrue(Exit.isSuccess(yield* run.stop))
    }))

  for (const [where, waits] of [["waits for memory", true], ["waits behind what it fails by", false]] as const) {
    it.live(`that is set aside while its leaving ${where} leaves its quarantine, too`, () =>
      Effect.gen(function*() {
        const { sink, start } = landscape()
        const last = rows(b, 6, 10)
        const footprint = last._tag === "Rows" ? BatchConcat.footprint(last.batch) : 0
        const failing = yield* Deferred.make<void>()
        const slow = yield* Deferred.make<void>()
        const run = yield* start(waits ? { capacity: 2 * footprint + barrierFootprint / 2 } : {})
        yield* run.emit(...copy(a, 5n), ...copy(b, 5n), mark(5))
        yield* eventually(() => run.progress.acknowledgedPosition === 5n)
        let refusals = 0
        sink.at = (point, table) =>
          point !== "write" ? Effect.void : table === idB
            ? Deferred.await(slow)
            : refusals++ === 0
            ? Effect.andThen(Deferred.await(failing), Effect.fail(refused(idA)))
            : Effect.void
        yield* run.emit(rows(a, 6, 10), last, { _tag: "TableLeft", table: a }, mark(7))
        const under = 2 * footprint + (waits ? 0 : barrierFootprint)
        yield* eventually(() => run.progress.memory >= under)
        yield* Deferred.succeed(failing, undefined)
        yield* Deferred.succeed(slow, undefined)
        yield* eventually(() => run.phase(idA) === "left" && run.progress.acknowledgedPosition === 7n)
        yield* eventually(() => run.progress.snapshot(0).conditions.length === 0)
        assert.strictEqual(sink.held(idA).quarantined, undefined)
        // Back again it is copied like any other.
        yield* run.emit(...copy(a, 8n), mark(9))
        yield* eventually(() => run.phase(idA) === "streaming" && run.progress.acknowledgedPosition === 9n)
        assert.isTrue(Exit.isSuccess(yield* run.stop))
      }))
  }

  it.live("that somebody sets aside while it is leaving stays in quarantine", () =>
    Effect.gen(function*() {
      const { sink, start } = landscape()
      const control = PipelineControl.make({ pipeline: "shop", spool: false })
      const run = yield* start({ control })
      yield* run.emit(...copy(a, 5n), mark(5))
      yield* eventually(() => run.progress.acknowledgedPosition === 5n)
      const slow = yield* Deferred.make<void>()
      sink.at = (point, table) => point === "write" && table === idA ? Deferred.await(slow) : Effect.void
      yield* run.emit(rows(a, 6), { _tag: "TableLeft", table: a }, mark(7))
      yield* eventually(() => run.phase(idA) === "left")
      yield* control.quarantine(idA, { reason: "Rejected", message: "somebody set it aside", hint: "none" })
      yield* Deferred.succeed(slow, undefined)
      yield* eventually(() => run.phase(idA) === "quarantined" && run.progress.acknowledgedPosition === 7n)
      assert.strictEqual(sink.held(idA).quarantined?.message, "somebody set it aside")
      assert.isTrue(Exit.isSuccess(yield* run.stop))
    }))

  it.live("that fails by its leaving stays in quarantine", () =>
    Effect.gen(function*() {
      const { sink, start } = landscape()
      const run = yield* start()
      yield* run.emit(...copy(a, 5n), mark(5))
      yield* eventually(() => run.progress.acknowledgedPosition === 5n)
      let refusals = 0
      sink.at = (point, table) => {
        if (point !== "write" || table !== idA) return Effect.void
        refusals++
        return Effect.fail(refused(idA))
      }
      yield* run.emit({ _tag: "TableLeft", table: a }, mark(7))
      yield* eventually(() => run.phase(idA) === "quarantined" && run.progress.acknowledgedPosition === 7n)
      assert.isTrue(Exit.isSuccess(yield* run.stop))
      assert.strictEqual(refusals, 2)
    }))

  it.live(
    "loses, doubles and mixes up nothing, whatever tables fail when, however runs end, and whoever repairs them when",
    () =>
      Effect.gen(function*() {
        let quarantines = 0
        let killed = 0
        const scenario = Effect.fnUntraced(function*(seed: number) {
          const chance = Chance.make(seed)
          const server = new LogServer(tables, randomLog(chance, tables, 40), chance, false)
          const sink = new PrefixSink()
          sink.commits = (n) => chance.below(n + 1)
          sink.reports = () => !chance.oneIn(3)
          const state = new MemoryState()
          let calm = false
          sink.at = (point, table) => {
            if (calm) return Effect.void
            if (point === "quarantined") quarantines++
            if (table !== idA && (point === "open" || point === "write" || point === "accepted") && chance.oneIn(40)) {
              return Effect.fail(refused(table))
            }
            if (point === "quarantine" || point === "quarantined") {
              return chance.oneIn(4) ? Effect.fail(broken(point)) : Effect.sleep(chance.below(4))
            }
            return chance.oneIn(150) ? Effect.fail(broken(point)) : chance.oneIn(3) ? Effect.yieldNow : Effect.void
          }
          const complete = () =>
            server.confirmed === server.end &&
            tables.every(({ table }) => sink.held(tableId(table)).copied !== undefined)
          for (let runs = 1;; runs++) {
            assert.isBelow(runs, 80, `seed ${seed}`)
            calm = runs > 10
            const stop = yield* Deferred.make<void>()
            const push = Effect.forever(Effect.andThen(
              Effect.sleep(1),
              Effect.suspend(() => {
                sink.wake()
                const [id = idB] = [idB, idC].filter(() => chance.oneIn(2))
                return !calm && chance.oneIn(100) ? sink.fail(id, refused(id)) : Effect.void
              })
            ))
            // Whoever looks after it repairs what is in quarantine, sooner or later.
            const repair = Effect.forever(Effect.andThen(
              Effect.sleep(20),
              Effect.suspend(() => {
                const broken = [idA, idB, idC].filter((id) => sink.held(id).quarantined !== undefined)
                return calm || chance.oneIn(3) ? ResyncRequest.ask(state, "shop", broken) : Effect.void
              })
            ))
            const one = Pipeline.run({
              name: "shop",
              source: server.source(),
              transforms: [],
              sink: sink.sink,
              batch: { rows: 1 + chance.below(15), bytes: 1 << 16, every: 1 },
              progress: Progress.make("shop"),
              state,
              stop: Deferred.await(stop),
              drain: "5 seconds"
            }).pipe(Effect.provide([
              MemoryBudget.MemoryBudget.layer(chance.oneIn(2) ? 1 << 28 : 1 + chance.below(30_000)),
              Logger.layer([])
            ]))
            const done = eventually(complete, `seed ${seed} is complete`).pipe(
              Effect.andThen(Deferred.succeed(stop, undefined))
            )
            const watched = Effect.raceFirst(
              one,
              Effect.andThen(Effect.all([push, repair, calm ? done : Effect.void], { concurrency: 3 }), Effect.never)
            )
            const kill = !calm && !chance.oneIn(4)
            if (kill) killed++
            const exit = yield* Effect.exit(
              kill ? Effect.timeoutOption(watched, 1 + chance.below(60)) : watched.pipe(
                Effect.timeoutOption(calm ? "15 seconds" : "100 millis")
              )
            )
            sink.crash()
            if (chance.oneIn(4)) state.entries.clear()
            if (complete() && Exit.isSuccess(exit)) break
          }
          assert.deepStrictEqual(sink.breaches, [], `seed ${seed}`)
          for (const table of server.tables) {
            const held = sink.held(tableId(table.table))
            const all = server.log.flatMap(({ changes, commit }) =>
              changes.filter((change) => change.table === table).map((change) => ({ ...change, commit }))
            )
            assert.deepStrictEqual(
              [...held.chunks.values()].flatMap(({ ids }) => ids).sort((x, y) => x - y),
              all.filter(({ commit, id }) => commit < (held.chunks.get(chunkOf(id))?.position ?? 0n)).map(({ id }) =>
                id
              ),
              `seed ${seed}: copy of ${table.table.name}`
            )
            assert.deepStrictEqual(
              held.changes.map(([, what]) => what),
              all.filter(({ commit }) => commit >= (held.copied ?? 0n)).map(({ id }) => id),
              `seed ${seed}: changes of ${table.table.name}`
            )
          }
        })
        yield* Effect.forEach(Array.from({ length: 15 }, (_, index) => index + 1), scenario, { concurrency: 5 })
        assert.isAbove(quarantines, 5)
        assert.isAbove(killed, 5)
      }),
    120_000
  )
})
