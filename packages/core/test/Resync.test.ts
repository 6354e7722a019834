import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import { barrierFootprint } from "../src/ArrowBatcher.ts"
import * as BatchConcat from "../src/BatchConcat.ts"
import { ConnectorError } from "../src/ConnectorError.ts"
import * as MemoryBudget from "../src/MemoryBudget.ts"
import * as Pipeline from "../src/Pipeline.ts"
import * as PipelineControl from "../src/PipelineControl.ts"
import * as Progress from "../src/Progress.ts"
import * as ResyncRequest from "../src/ResyncRequest.ts"
import type { Source } from "../src/Source.ts"
import type { Transform } from "../src/Transform.ts"
import { CopyingSource } from "./doubles/CopyingSource.ts"
import { MemoryState } from "./doubles/MemoryState.ts"
import { broken, PrefixSink, refused } from "./doubles/PrefixSink.ts"
import { batch, plain } from "./doubles/Tables.ts"

const tables = [plain("a"), plain("b")] as const

/** A pipeline over two tables that can be run again and again, with so many bytes of memory for its batches. */
const landscape = (memory = MemoryBudget.defaultCapacity) => {
  const control = PipelineControl.make({ pipeline: "shop", spool: false })
  const server = new CopyingSource(tables)
  const sink = new PrefixSink()
  const state = new MemoryState()
  let last: Progress.Progress | undefined
  const start = Effect.fnUntraced(function*(parts: { source?: Source; transforms?: ReadonlyArray<Transform> } = {}) {
    const stop = yield* Deferred.make<void>()
    const progress = Progress.make("shop")
    last = progress
    const fiber = yield* Pipeline.run({
      name: "shop",
      source: parts.source ?? server.source(),
      transforms: parts.transforms ?? [],
      sink: sink.sink,
      batch: { rows: 20, bytes: 1 << 20, every: "2 millis" },
      progress,
      state,
      control,
      stop: Deferred.await(stop),
      drain: "5 seconds"
    }).pipe(
      Effect.provide([MemoryBudget.MemoryBudget.layer(memory), Logger.layer([])]),
      Effect.exit,
      Effect.forkChild
    )
    return { stop: Effect.andThen(Deferred.succeed(stop, undefined), Fiber.join(fiber)), ended: Fiber.join(fiber) }
  })
  const request = (table: string) =>
    Effect.map(ResyncRequest.all(state, "shop"), (all) => all.find((request) => request.table === table))
  const reaches = (table: string, wanted: ResyncRequest.State) =>
    until(Effect.map(request(table), (found) => found?.state === wanted))
  const streams = until(Effect.sync(() => last?.phase === "streaming"))
  const begins = () => sink.written.filter(([, what]) => what === "SnapshotBegin").map(([table]) => table)
  /** Waits until the run has looked for requests `times` more. */
  const looked = (times: number) =>
    Effect.suspend(() => {
      const enough = state.gets(ResyncRequest.key("shop")) + times
      return until(Effect.sync(() => state.gets(ResyncRequest.key("shop")) >= enough))
    })
  /** Bytes that wait for the sink. */
  const waits = (bytes: number) => until(Effect.sync(() => (last?.memory ?? 0) >= bytes))
  return { server, sink, state, control, start, request, reaches, streams, begins, looked, waits }
}

const until = <E>(condition: Effect.Effect<boolean, E>) =>
  Effect.gen(function*() {
    while (!(yield* condition)) yield* Effect.sleep(5)
  }).pipe(Effect.timeout("30 seconds"), Effect.orDie)

// Each has a pipeline of its own, and mostly waits: for looks at the requests, which are a second apart.
describe("a request for a new copy", { concurrent: true }, () => {
  it.live("copies that table again while the pipeline runs, no other, and says when it is done", () =>
    Effect.gen(function*() {
      const { begins, reaches, server, sink, start, state, streams } = landscape()
      const run = yield* start()
      yield* streams
      assert.deepStrictEqual(begins(), ["public.a", "public.b"])
      const before = sink.held("public.b").copied
      yield* ResyncRequest.ask(state, "shop", ["public.a"])
      yield* reaches("public.a", "done")
      assert.isTrue(Exit.isSuccess(yield* run.stop))
      assert.deepStrictEqual(server.asked, ["public.a"])
      assert.deepStrictEqual(begins(), ["public.a", "public.b", "public.a"])
      assert.strictEqual(sink.held("public.b").copied, before)
      assert.strictEqual(sink.held("public.a").chunks.get(0)?.ids.length, 3)
      assert.deepStrictEqual(sink.breaches, [])
    }))

  it.live("is begun as soon as the sink took the copy's beginning, and done by the run that completes it", () =>
    Effect.gen(function*() {
      const { begins, reaches, request, server, start, state, streams } = landscape()
      const run = yield* start()
      yield* streams
      server.completes = false
      yield* ResyncRequest.ask(state, "shop", ["public.a"])
      yield* reaches("public.a", "begun")
      yield* run.stop
      assert.strictEqual((yield* request("public.a"))?.state, "begun")
      server.completes = true
      const again = yield* start()
      yield* reaches("public.a", "done")
      yield* again.stop
      assert.deepStrictEqual(server.asked, ["public.a"], "the copy that the sink knows to be missing needs no request")
      assert.deepStrictEqual(begins(), ["public.a", "public.b", "public.a", "public.a"])
    }))

  it.live("for a table that is being copied waits for the end of that copy, then another one is made; a withdrawn one isn't", () =>
    Effect.gen(function*() {
      const { begins, looked, reaches, request, server, sink, start, state } = landscape()
      const gate = yield* Deferred.make<void>()
      // The beginnings of the copies are taken, their rows aren't.
      sink.at = (point, table) =>
        point === "write" && begins().includes(table) && sink.held(table).copied === undefined
          ? Deferred.await(gate)
          : Effect.void
      const run = yield* start()
      yield* until(Effect.sync(() => begins().length === 2))
      yield* ResyncRequest.ask(state, "shop", ["public.a", "public.b"])
      yield* looked(2)
      assert.deepStrictEqual(server.asked, [])
      const [first] = yield* ResyncRequest.all(state, "shop")
      yield* ResyncRequest.ask(state, "shop", ["public.a"])
      assert.deepStrictEqual(yield* request("public.a"), first, "it is one request however often it is asked")
      const { version } = Option.getOrThrow(yield* state.get(ResyncRequest.key("shop")))
      yield* state.compareAndSet(
        ResyncRequest.key("shop"),
        ResyncRequest.encode(first === undefined ? [] : [first]),
        version
      )
      yield* Deferred.succeed(gate, undefined)
      yield* reaches("public.a", "done")
      assert.isTrue(Exit.isSuccess(yield* run.stop))
      assert.deepStrictEqual(server.asked, ["public.a"])
      assert.deepStrictEqual(begins(), ["public.a", "public.b", "public.a"])
      const written = sink.written.filter(([table]) => table === "public.a").map(([, what]) => what)
      const copy = ["SnapshotBegin", "SnapshotRows", "SnapshotChunk", "SnapshotEnd"]
      assert.deepStrictEqual(written, [...copy, ...copy])
      assert.deepStrictEqual(sink.breaches, [])
    }))

  it.live("for a table that goes into quarantine before its copy has ended is served by a copy that brings it back", () =>
    Effect.gen(function*() {
      const { begins, looked, reaches, server, sink, start, state } = landscape()
      const gate = yield* Deferred.make<void>()
      sink.at = (point, table) =>
        point === "write" && table === "public.a" && begins().includes(table) && !Deferred.isDoneUnsafe(gate)
          ? Effect.andThen(Deferred.await(gate), Effect.fail(refused(table)))
          : Effect.void
      const run = yield* start()
      yield* until(Effect.sync(() => begins().includes("public.a")))
      yield* ResyncRequest.ask(state, "shop", ["public.a"])
      yield* looked(2)
      assert.deepStrictEqual(server.asked, [])
      yield* Deferred.succeed(gate, undefined)
      yield* reaches("public.a", "done")
      assert.isUndefined(sink.held("public.a").quarantined)
      assert.strictEqual(sink.held("public.a").chunks.get(0)?.ids.length, 3)
      assert.isTrue(Exit.isSuccess(yield* run.stop))
      assert.deepStrictEqual(sink.breaches, [])
    }))

  it.live("that came while nothing ran is served by the next run", () =>
    Effect.gen(function*() {
      const { reaches, server, start, state, streams } = landscape()
      const first = yield* start()
      yield* streams
      yield* first.stop
      yield* ResyncRequest.ask(state, "shop", ["public.b"])
      const second = yield* start()
      yield* reaches("public.b", "done")
      yield* second.stop
      assert.deepStrictEqual(server.copied, ["public.a", "public.b"])
      assert.deepStrictEqual(server.asked, ["public.b"])
    }))

  it.live("is not lost when the run dies before the sink took the copy's beginning", () =>
    Effect.gen(function*() {
      const { reaches, request, server, sink, start, state, streams } = landscape()
      const first = yield* start()
      yield* streams
      sink.at = (point, table) =>
        point === "write" && table === "public.a" ? Effect.fail(broken("no connection")) : Effect.void
      yield* ResyncRequest.ask(state, "shop", ["public.a"])
      assert.isTrue(Exit.isFailure(yield* first.ended))
      assert.deepStrictEqual(server.asked, ["public.a"])
      assert.strictEqual((yield* request("public.a"))?.state, "requested")
      sink.at = () => Effect.void
      sink.crash()
      const second = yield* start()
      yield* reaches("public.a", "done")
      yield* second.stop
      assert.deepStrictEqual(server.asked, ["public.a", "public.a"])
    }))

  it.live("is refused with the reason when the source doesn't know the table, a transform leaves it out, or the source can't", () =>
    Effect.gen(function*() {
      const { begins, reaches, request, server, start, state, streams } = landscape()
      const withoutB: Transform = {
        schema: (table) => Effect.succeed(table.table.name === "b" ? undefined : table),
        apply: (batch) => Effect.succeed(batch)
      }
      const run = yield* start({ transforms: [withoutB] })
      yield* streams
      yield* ResyncRequest.ask(state, "shop", ["public.absent", "public.b"])
      yield* reaches("public.absent", "refused")
      yield* reaches("public.b", "refused")
      assert.include(yield* request("public.absent"), {
        message: "There is no table public.absent",
        hint: "Look at the tables."
      })
      assert.include((yield* request("public.b"))?.message, "transform")
      yield* run.stop
      assert.deepStrictEqual(server.asked, ["public.absent"])
      const { stream, tables } = server.source()
      const unable = yield* start({ source: { tables, stream } })
      yield* ResyncRequest.ask(state, "shop", ["public.a"])
      yield* reaches("public.a", "refused")
      assert.include((yield* request("public.a"))?.message, "can't copy a single table")
      assert.isTrue(Exit.isSuccess(yield* unable.stop))
      assert.deepStrictEqual(begins(), ["public.a", "public.b"])
    }))

  it.live("is tried again when the source is unreachable", () =>
    Effect.gen(function*() {
      const { reaches, server, start, state, streams } = landscape()
      const run = yield* start()
      yield* streams
      server.before = () =>
        server.asked.length > 1
          ? Effect.void
          : new ConnectorError({ reason: "Unreachable", plugin: "test", message: "no connection", hint: "none" })
      yield* ResyncRequest.ask(state, "shop", ["public.a"])
      yield* reaches("public.a", "done")
      yield* run.stop
      assert.strictEqual(server.asked.length, 2)
    }))

  it.live("is served again after its table was set aside while the beginning of the copy waited for memory", () =>
    Effect.gen(function*() {
      // What a copy without its end takes, and not another beginning.
      const rows = [1, 2, 3].map((id) => ({ op: 0 as const, commit: 1n, ordinal: 0n, values: [id, "x"] }))
      const copy = barrierFootprint + BatchConcat.footprint(batch(tables[1], rows))
      const { control, reaches, server, sink, start, state, streams, waits } = landscape(copy + barrierFootprint / 2)
      const run = yield* start()
      yield* streams
      const gate = yield* Deferred.make<void>()
      sink.at = (point, table) => point === "write" && table === "public.b" ? Deferred.await(gate) : Effect.void
      server.completes = false
      yield* ResyncRequest.ask(state, "shop", ["public.b"])
      yield* waits(copy)
      yield* ResyncRequest.ask(state, "shop", ["public.a"])
      yield* until(Effect.sync(() => server.asked.includes("public.a")))
      const why = { reason: "Rejected" as const, message: "somebody set it aside", hint: "none" }
      yield* control.quarantine("public.a", why)
      yield* reaches("public.a", "refused")
      yield* Deferred.succeed(gate, undefined)
      yield* reaches("public.b", "begun")
      server.completes = true
      yield* ResyncRequest.ask(state, "shop", ["public.a"])
      yield* reaches("public.a", "done")
      yield* run.stop
      assert.deepStrictEqual(sink.breaches, [])
    }))

  it.live("waits out a state store that is down, and so does its answer; the pipeline goes on", () =>
    Effect.gen(function*() {
      const { begins, reaches, request, server, start, state, streams } = landscape()
      yield* ResyncRequest.ask(state, "shop", ["public.a"])
      state.failing = true
      const run = yield* start()
      yield* streams
      // The store comes back for as long as the request takes to be read.
      const gate = yield* Deferred.make<void>()
      server.before = () => {
        state.failing = true
        return Deferred.await(gate)
      }
      state.failing = false
      yield* until(Effect.sync(() => server.asked.length === 1))
      yield* Deferred.succeed(gate, undefined)
      yield* until(Effect.sync(() => begins().length === 3))
      state.failing = false
      assert.strictEqual((yield* request("public.a"))?.state, "requested")
      yield* reaches("public.a", "done")
      yield* run.stop
      assert.strictEqual(server.asked.length, 1)
    }))

  it.live("whose table is left out before its copy is complete is refused", () =>
    Effect.gen(function*() {
      const { reaches, request, server, start, state, streams } = landscape()
      const run = yield* start()
      yield* streams
      server.completes = false
      yield* ResyncRequest.ask(state, "shop", ["public.a"])
      yield* reaches("public.a", "begun")
      yield* run.stop
      const smaller = yield* start({ source: new CopyingSource([tables[1]]).source() })
      yield* reaches("public.a", "refused")
      assert.include((yield* request("public.a"))?.message, "no longer read")
      yield* smaller.stop
    }))

  it.live("is one per table however often it is asked, also by several at once, and replaces what can't be read", () =>
    Effect.gen(function*() {
      const state = new MemoryState()
      yield* state.compareAndSet(ResyncRequest.key("shop"), "{\"version\":7}", undefined)
      const asked = yield* Effect.forEach(
        [["public.a"], ["public.b", "public.a"], ["public.b", "public.c", "public.c"]],
        (names) => ResyncRequest.ask(state, "shop", names),
        { concurrency: "unbounded" }
      )
      const all = yield* ResyncRequest.all(state, "shop")
      assert.deepStrictEqual(all.map(({ table }) => table).sort(), ["public.a", "public.b", "public.c"])
      for (const { id, table } of asked.flat()) {
        assert.strictEqual(all.find((request) => request.id === id)?.table, table)
      }
    }))
})
