import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import * as BatchConcat from "../src/BatchConcat.ts"
import type { ChangeBatch } from "../src/ChangeBatch.ts"
import { Operation } from "../src/ChangeBatch.ts"
import type { ConnectorError } from "../src/ConnectorError.ts"
import type { Element } from "../src/Element.ts"
import * as MemoryBudget from "../src/MemoryBudget.ts"
import * as Pipeline from "../src/Pipeline.ts"
import * as Progress from "../src/Progress.ts"
import * as Sequence from "../src/Sequence.ts"
import type { Sink, TableElement } from "../src/Sink.ts"
import type { Source } from "../src/Source.ts"
import type { TableSchema } from "../src/TableSchema.ts"
import { tableId } from "../src/TableSchema.ts"
import type { Transform } from "../src/Transform.ts"
import * as Chance from "./doubles/Chance.ts"
import { chunkOf, LogServer, randomLog } from "./doubles/LogServer.ts"
import { MemoryState } from "./doubles/MemoryState.ts"
import { broken, PrefixSink } from "./doubles/PrefixSink.ts"
import { batch, cells, notSent, plain, types } from "./doubles/Tables.ts"

const tables = [plain("a"), plain("b"), plain("c")] as const
const [a, b] = tables

const options = (parts: Partial<Pipeline.Options> & Pick<Pipeline.Options, "source" | "sink">): Pipeline.Options => ({
  name: "shop",
  transforms: [],
  batch: { rows: 20, bytes: 1 << 20, every: "2 millis" },
  progress: Progress.make("shop"),
  state: new MemoryState(),
  stop: Effect.never,
  drain: "5 seconds",
  ...parts
})

const run = (parts: Parameters<typeof options>[0], capacity = MemoryBudget.defaultCapacity) =>
  Pipeline.run(options(parts)).pipe(Effect.provide([MemoryBudget.MemoryBudget.layer(capacity), Logger.layer([])]))

const rows = (table: TableSchema, commit: number, n = 1, note = "x"): Element => ({
  _tag: "Rows",
  batch: batch(
    table,
    Array.from({ length: n }, (_, i) => ({
      commit: BigInt(commit),
      ordinal: BigInt(i * 2 + 1),
      values: [commit * 1000 + i, note]
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
const chunkEnd = (table: TableSchema, position: bigint, chunk: number, rows: number): Element => ({
  _tag: "SnapshotChunk",
  table,
  position,
  chunk,
  rows
})
const end = (table: TableSchema, position: bigint, chunks: number): Element => ({
  _tag: "SnapshotEnd",
  table,
  position,
  chunks,
  settled: position
})
const mark = (position: number): Element => ({ _tag: "Watermark", position: BigInt(position), commitTime: 1_000_000n })

/** A source of the given elements; ends after them, or waits. */
const list = (elements: ReadonlyArray<Element>, ends = true, tables_: ReadonlyArray<TableSchema> = tables): Source => ({
  tables: Effect.succeed(tables_),
  stream: () => ends ? Stream.fromIterable(elements) : Stream.concat(Stream.fromIterable(elements), Stream.never)
})

/** A sink that records what it is given and holds it at once. */
const recorder = (position: { copied?: bigint; committed?: Sequence.Sequence } = {}) => {
  const written: Array<readonly [string, TableElement]> = []
  const sink: Sink = {
    begin: () => Effect.void,
    open: (table, durable) =>
      Effect.succeed({
        position: { copied: position.copied, committed: position.committed },
        write: (element) => {
          written.push([tableId(table.table), element])
          const sequence = element._tag === "Rows"
            ? element.batch.last
            : element._tag === "Truncate"
            ? element.sequence
            : undefined
          return sequence === undefined ? Effect.void : durable(sequence)
        }
      }),
    run: Effect.never,
    settle: Effect.void
  }
  const of = (table: TableSchema) =>
    written.filter(([id]) => id === tableId(table.table)).map(([, element]) =>
      "batch" in element ? `${element._tag} ${element.batch.rows}` : element._tag
    )
  return { sink, written, of }
}

const failure = <E>(exit: Exit.Exit<unknown, E>): E | undefined =>
  Exit.isFailure(exit) ? exit.cause.reasons.find(Cause.isFailReason)?.error : undefined

/** Waits until a condition holds. */
const eventually = (condition: () => boolean) =>
  Effect.gen(function*() {
    while (!condition()) yield* Effect.sleep(1)
  }).pipe(Effect.timeout("5 seconds"), Effect.orDie)

/** Every change of the log is in the copy or among the changes of its table, exactly once and in order. */
const compare = (server: LogServer, sink: PrefixSink, label: string) => {
  assert.deepStrictEqual(sink.breaches, [], label)
  for (const table of server.tables) {
    const held = sink.held(tableId(table.table))
    const all = server.log.flatMap(({ changes, commit }) =>
      changes.filter((c) => c.table === table).map((c) => ({ ...c, commit }))
    )
    const copied = held.copied ?? 0n
    assert.deepStrictEqual(
      [...held.chunks.values()].flatMap(({ ids }) => ids).sort((x, y) => x - y),
      all.filter(({ commit, id }) => commit < (held.chunks.get(chunkOf(id))?.position ?? 0n)).map(({ id }) => id),
      `${label}: copy of ${table.table.name}`
    )
    assert.deepStrictEqual(
      held.changes.map(([, what]) => what),
      all.filter(({ commit }) => commit >= copied).map(({ id }) => id),
      `${label}: changes of ${table.table.name}`
    )
  }
}

describe("Pipeline", () => {
  it.live("copies, streams, acknowledges everything and settles the sink at the end of a finite source", () =>
    Effect.gen(function*() {
      const chance = Chance.make(1)
      const server = new LogServer(tables, randomLog(chance, tables, 60), chance)
      const sink = new PrefixSink()
      const progress = Progress.make("shop")
      const state = new MemoryState()
      yield* run({ source: server.source(), sink: sink.sink, progress, state })
      compare(server, sink, "one run")
      assert.strictEqual(server.confirmed, server.end)
      assert.strictEqual(server.open, 0)
      assert.strictEqual(sink.settled, 1)
      assert.strictEqual(sink.closed, tables.length)
      const view = progress.snapshot(Date.now())
      assert.strictEqual(view.phase, "stopped")
      assert.strictEqual(view.acknowledgedPosition, server.end)
      assert.strictEqual(view.freshness, 0)
      assert.strictEqual(
        view.tables.reduce((sum, table) => sum + table.snapshotRows + table.changes, 0),
        [...sink.tables.values()].reduce(
          (sum, { changes, chunks }) =>
            sum + changes.length + [...chunks.values()].reduce((rows, { ids }) => rows + ids.length, 0),
          0
        )
      )
      assert.isTrue(view.tables.every(({ copiedAt, phase }) => phase === "streaming" && copiedAt !== undefined))
      const checkpoint = JSON.parse(state.entries.get("pipelines/shop/checkpoint")?.value ?? "{}")
      assert.strictEqual(checkpoint.acknowledged, server.end.toString())
    }))

  it.live("loses and doubles nothing, whatever fails and however often it is run again", () =>
    Effect.gen(function*() {
      let resumed = 0
      for (let seed = 1; seed <= 25; seed++) {
        const chance = Chance.make(seed)
        const server = new LogServer(tables, randomLog(chance, tables, 40), chance)
        const sink = new PrefixSink()
        sink.commits = (n) => chance.below(n + 1)
        sink.reports = () => !chance.oneIn(3)
        const state = new MemoryState()
        let runs = 0
        let calm = false
        sink.at = (point) =>
          calm
            ? Effect.void
            : chance.oneIn(point === "open" ? 12 : 60)
            ? Effect.fail(broken(point))
            : chance.oneIn(3)
            ? Effect.yieldNow
            : Effect.void
        while (true) {
          runs++
          calm = runs > 30
          // A background that commits nothing needs another push, as a real one gets from its timer.
          const push = Effect.forever(Effect.andThen(Effect.sleep(1), Effect.sync(() => sink.wake())))
          const parts = {
            source: server.source(),
            sink: sink.sink,
            state,
            batch: { rows: 1 + chance.below(15), bytes: 1 << 16, every: 1 }
          }
          const one = Effect.raceFirst(run(parts, chance.oneIn(2) ? 1 << 28 : 1 + chance.below(30_000)), push)
          // Sometimes the process is killed.
          const exit = yield* Effect.exit(
            !calm && chance.oneIn(3) ? Effect.timeoutOption(one, chance.below(15)) : one
          )
          sink.crash()
          if (chance.oneIn(4)) state.entries.clear()
          // Everything may be confirmed while a copy isn't complete.
          const complete = tables.every(({ table }) => sink.held(tableId(table)).copied !== undefined)
          if (complete && server.confirmed === server.end && Exit.isSuccess(exit)) break
        }
        compare(server, sink, `seed ${seed}, ${runs} runs`)
        assert.strictEqual(server.open, 0)
        resumed += server.resumed
      }
      assert.isAbove(resumed, 10)
    }), 60_000)

  it.live("flushes and keeps the order at barriers, joins small batches, and cuts none across versions", () =>
    Effect.gen(function*() {
      const newer = plain("a", 2)
      const sink = recorder({ copied: 0n })
      yield* run({
        source: list([
          rows(a, 10, 2),
          rows(a, 11, 3),
          { _tag: "Truncate", table: a, sequence: Sequence.make(12n, 1n), commitTime: 0n },
          rows(a, 13, 1),
          { _tag: "Schema", table: newer, sequence: Sequence.make(14n, 0n) },
          rows(newer, 14, 1),
          rows(b, 15, 1),
          { _tag: "Message", sequence: Sequence.make(15n, 3n), prefix: "p", content: new Uint8Array(1) },
          mark(16)
        ]),
        sink: sink.sink,
        batch: { rows: 1000, bytes: 1 << 20, every: "1 minute" }
      })
      assert.deepStrictEqual(sink.of(a), ["Rows 5", "Truncate", "Rows 1", "Schema", "Rows 1"])
      assert.deepStrictEqual(sink.of(b), ["Rows 1"])
    }))

  it.live("cuts off what the sink holds already, also when a source reads again within a run", () =>
    Effect.gen(function*() {
      const sink = recorder({ copied: 5n, committed: Sequence.make(10n, 3n) })
      const progress = Progress.make("shop")
      yield* run({
        source: list([
          rows(a, 9, 4),
          { _tag: "Truncate", table: a, sequence: Sequence.make(10n, 1n), commitTime: 0n },
          rows(a, 10, 4),
          mark(11),
          rows(a, 10, 4),
          rows(a, 12, 1),
          mark(13)
        ]),
        sink: sink.sink,
        progress,
        batch: { rows: 1000, bytes: 1 << 20, every: "1 minute" }
      })
      assert.deepStrictEqual(sink.of(a), ["Rows 3"])
      const view = progress.snapshot(0).tables.find(({ table }) => table === "public.a")
      assert.strictEqual(view?.skipped, 10)
      assert.strictEqual(view?.changes, 3)
    }))

  it.live("keeps unsent masks, nulls and values apart through cutting and joining", () =>
    Effect.gen(function*() {
      const table = types()
      const row = (commit: bigint, values: ReadonlyArray<null | typeof notSent | string | number>) => ({
        op: Operation.Update,
        commit,
        ordinal: 1n,
        values: [true, 1, Number(commit), 5n, 1.5, 2.5, ...values]
      })
      const all = [
        row(1n, ["held", notSent, 1]),
        row(2n, [notSent, null, notSent]),
        row(3n, ["text", "bytes", null]),
        row(4n, [null, notSent, 4])
      ]
      const sink = recorder({ copied: 0n, committed: Sequence.make(1n, 1n) })
      const source = list(
        [
          { _tag: "Rows", batch: batch(table, all.slice(0, 3)) },
          { _tag: "Rows", batch: batch(table, all.slice(3)) },
          mark(9)
        ],
        true,
        [table]
      )
      yield* run({ source, sink: sink.sink, batch: { rows: 100, bytes: 1 << 20, every: 60_000 } })
      const given = sink.written.map(([, element]) => element).filter((element) => element._tag === "Rows")
      assert.strictEqual(given.length, 1)
      assert.deepStrictEqual(given.flatMap((element) => cells(element.batch)), [...cells(batch(table, all.slice(1)))])
    }))

  it.live("lets other tables go on while one is slow, and keeps memory bounded while it is", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      const budget = MemoryBudget.make(200_000)
      let peak = 0
      let largest = 0
      let pulled = 0
      const elements = Array.from({ length: 400 }, (_, i) => rows(i % 2 === 0 ? a : b, i + 1, 20, "n".repeat(100)))
      for (const element of elements) {
        if (element._tag === "Rows") largest = Math.max(largest, BatchConcat.footprint(element.batch))
      }
      const source: Source = {
        tables: Effect.succeed(tables),
        stream: () =>
          Stream.fromIterable([...elements, mark(1000)], { chunkSize: 1 }).pipe(
            Stream.tap(() => Effect.sync(() => pulled++))
          )
      }
      const written = { a: 0, b: 0 }
      const sink: Sink = {
        begin: () => Effect.void,
        open: (table, durable) =>
          Effect.succeed({
            position: { copied: 0n, committed: undefined },
            write: Effect.fnUntraced(function*(element) {
              peak = Math.max(peak, budget.used())
              if (table.table.name === "a") yield* Deferred.await(gate)
              if (element._tag !== "Rows") return
              written[table.table.name === "a" ? "a" : "b"] += element.batch.rows
              yield* durable(element.batch.last)
            })
          }),
        run: Effect.never,
        settle: Effect.void
      }
      const fiber = yield* Pipeline.run(options({ source, sink })).pipe(
        Effect.provideService(MemoryBudget.MemoryBudget, budget),
        Effect.provide(Logger.layer([])),
        Effect.forkChild
      )
      yield* eventually(() => budget.waiting() > 0 && written.b > 0)
      const stalled = pulled
      // That nothing happens can only be seen by waiting.
      yield* Effect.sleep(20)
      assert.strictEqual(pulled, stalled)
      assert.isBelow(pulled, 200)
      assert.strictEqual(written.a, 0)
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(written, { a: 4000, b: 4000 })
      assert.isAtMost(peak, budget.capacity + largest)
      assert.strictEqual(budget.used(), 0)
    }))

  it.live("goes on with a budget smaller than any batch", () =>
    Effect.gen(function*() {
      const chance = Chance.make(7)
      const server = new LogServer(tables, randomLog(chance, tables, 60), chance)
      const sink = new PrefixSink()
      const parts = {
        source: server.source(),
        sink: sink.sink,
        batch: { rows: 1000, bytes: 1 << 20, every: "1 hour" as const }
      }
      yield* run(parts, 1)
      compare(server, sink, "tiny budget")
    }))

  it.live("gives the memory back and releases everything when it is interrupted", () =>
    Effect.gen(function*() {
      const budget = MemoryBudget.make()
      const chance = Chance.make(3)
      const server = new LogServer(tables, randomLog(chance, tables, 30), chance, false)
      const sink = new PrefixSink()
      sink.at = (point, table) => point === "write" && table === "public.b" ? Effect.never : Effect.void
      const fiber = yield* Pipeline.run(options({ source: server.source(), sink: sink.sink })).pipe(
        Effect.provideService(MemoryBudget.MemoryBudget, budget),
        Effect.provide(Logger.layer([])),
        Effect.forkChild
      )
      yield* eventually(() => budget.used() > 0 && sink.written.length > 0)
      yield* Fiber.interrupt(fiber)
      assert.strictEqual(budget.used(), 0)
      assert.strictEqual(server.open, 0)
      assert.strictEqual(sink.closed, tables.length)
      assert.strictEqual(sink.settled, 0)
    }))

  it.live("stops gracefully: writes what has gathered, waits until it is durable, lets the source confirm it", () =>
    Effect.gen(function*() {
      const chance = Chance.make(11)
      const server = new LogServer(tables, randomLog(chance, tables, 30), chance, false)
      const sink = new PrefixSink()
      const stop = yield* Deferred.make<void>()
      const progress = Progress.make("shop")
      let commit = false
      sink.commits = (n) => commit ? n : 0
      const fiber = yield* run({
        source: server.source(),
        sink: sink.sink,
        progress,
        stop: Deferred.await(stop),
        batch: { rows: 1000, bytes: 1 << 20, every: "1 hour" }
      }).pipe(Effect.forkChild)
      yield* eventually(() => progress.receivedPosition === server.end)
      yield* Deferred.succeed(stop, undefined)
      yield* eventually(() => progress.phase === "draining" && progress.memory === 0)
      assert.strictEqual(server.open, 1)
      assert.notStrictEqual(server.confirmed, server.end)
      assert.strictEqual(sink.settled, 0)
      commit = true
      sink.wake()
      yield* Fiber.join(fiber)
      compare(server, sink, "stopped")
      assert.strictEqual(server.confirmed, server.end)
      assert.strictEqual(sink.settled, 1)
      assert.strictEqual(progress.phase, "stopped")
    }))

  it.live("stops in the middle of a copy without waiting for the rest of it", () =>
    Effect.gen(function*() {
      const { sink } = recorder()
      let settles = 0
      const stop = yield* Deferred.make<void>()
      const progress = Progress.make("shop")
      const fiber = yield* run({
        source: list([
          begin(a, 5n),
          {
            _tag: "SnapshotRows",
            batch: batch(a, [{ op: Operation.Read, commit: 5n, ordinal: 0n, values: [1, "x"] }]),
            position: 5n,
            chunk: 0
          }
        ], false),
        sink: { ...sink, settle: Effect.sync(() => void settles++) },
        progress,
        stop: Deferred.await(stop),
        drain: "1 hour"
      }).pipe(Effect.forkChild)
      yield* eventually(() => progress.table("public.a").snapshotRows === 1)
      yield* Deferred.succeed(stop, undefined)
      yield* Fiber.join(fiber)
      assert.strictEqual(settles, 1)
    }))

  it.live("stops in the middle of a busy stream: pulls no more, keeps the source open until what it took is durable", () =>
    Effect.gen(function*() {
      const stop = yield* Deferred.make<void>()
      const sink = new PrefixSink()
      const progress = Progress.make("shop")
      let pulled = 0
      let open = false
      let confirmed = 0n
      let commit = false
      sink.commits = (n) => commit ? n : 0
      const source: Source = {
        tables: Effect.succeed(tables),
        stream: ({ acknowledged }) =>
          Stream.unwrap(Effect.gen(function*() {
            open = true
            yield* Effect.addFinalizer(() =>
              Effect.sync(() => {
                open = false
              })
            )
            const confirm = Effect.sync(() => {
              confirmed = acknowledged()
            })
            yield* Effect.forkScoped(Effect.forever(Effect.andThen(confirm, Effect.sleep(1))))
            const elements = function*() {
              for (let i = 1;; i++) yield (pulled++, i % 2 === 0) ? mark(i) : rows(a, i)
            }
            return Stream.fromIterable(elements(), { chunkSize: 1 })
          }))
      }
      const fiber = yield* run({ source, sink: sink.sink, progress, stop: Deferred.await(stop) }).pipe(Effect.forkChild)
      yield* eventually(() => pulled > 100)
      yield* Deferred.succeed(stop, undefined)
      yield* eventually(() => progress.phase === "draining" && progress.memory === 0)
      const last = pulled
      // As above: nothing more is pulled.
      yield* Effect.sleep(10)
      assert.strictEqual(pulled, last)
      assert.isTrue(open)
      commit = true
      sink.wake()
      yield* Fiber.join(fiber)
      assert.isFalse(open)
      assert.strictEqual(confirmed, progress.receivedPosition)
      assert.isAbove(Number(confirmed), 50)
    }))

  it.live("finishes a stop although the source fails meanwhile", () =>
    Effect.gen(function*() {
      const stop = yield* Deferred.make<void>()
      const fails = yield* Deferred.make<void, ConnectorError>()
      const sink = new PrefixSink()
      const progress = Progress.make("shop")
      let commit = false
      sink.commits = (n) => commit ? n : 0
      const source: Source = {
        tables: Effect.succeed(tables),
        stream: () => Stream.concat(Stream.make(rows(a, 1), mark(2)), Stream.fromEffectDrain(Deferred.await(fails)))
      }
      const fiber = yield* run({ source, sink: sink.sink, progress, stop: Deferred.await(stop) }).pipe(Effect.forkChild)
      yield* eventually(() => progress.receivedPosition === 2n)
      yield* Deferred.succeed(stop, undefined)
      yield* eventually(() => progress.phase === "draining")
      yield* Deferred.fail(fails, broken("gone"))
      commit = true
      sink.wake()
      yield* Fiber.join(fiber)
      assert.strictEqual(progress.acknowledgedPosition, 2n)
    }))

  it.effect("ends at the deadline when a sink doesn't get its rows durable", () =>
    Effect.gen(function*() {
      const sink = new PrefixSink()
      sink.commits = () => 0
      const stop = yield* Deferred.make<void>()
      const progress = Progress.make("shop")
      const fiber = yield* run({
        source: list([rows(a, 10), mark(11)], false),
        sink: sink.sink,
        progress,
        stop: Deferred.await(stop),
        drain: "10 seconds"
      }).pipe(Effect.forkChild)
      yield* TestClock.adjust("1 second")
      yield* Deferred.succeed(stop, undefined)
      yield* TestClock.adjust("9 seconds")
      assert.strictEqual(progress.phase, "draining")
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(fiber)
      assert.strictEqual(progress.phase, "stopped")
      assert.strictEqual(progress.acknowledgedPosition, 0n)
    }))

  it.effect("stops at once while it is still opening tables", () =>
    Effect.gen(function*() {
      const { sink } = recorder()
      yield* run({ source: list([]), sink: { ...sink, open: () => Effect.never }, stop: Effect.void })
    }))

  it.effect("ends at a stop although an element waits for memory", () =>
    Effect.gen(function*() {
      const { sink } = recorder()
      const stop = yield* Deferred.make<void>()
      const stuck: Sink = {
        ...sink,
        open: () => Effect.succeed({ position: { copied: 0n, committed: undefined }, write: () => Effect.never })
      }
      const fiber = yield* run(
        { source: list([rows(a, 1), rows(a, 2), mark(3)]), sink: stuck, stop: Deferred.await(stop), drain: "1 second" },
        10
      ).pipe(Effect.forkChild)
      yield* TestClock.adjust("1 second")
      yield* Deferred.succeed(stop, undefined)
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(fiber)
    }))

  it.live("tells the sink up to where a table is complete, but not while changes of it wait to be written", () =>
    Effect.gen(function*() {
      const goesOn = yield* Deferred.make<void>()
      const release = yield* Deferred.make<void>()
      const stop = yield* Deferred.make<void>()
      const recording = recorder({ copied: 0n })
      const told: Array<() => Sequence.Sequence | undefined> = []
      let writing = false
      const sink: Sink = {
        ...recording.sink,
        open: (table, durable, failed, given) => {
          assert.isUndefined(given())
          if (table.table.name === "a") told.push(given)
          return Effect.map(recording.sink.open(table, durable, failed, given), (writer) => ({
            ...writer,
            write: (element) =>
              Effect.gen(function*() {
                writing = true
                if (element._tag === "Rows") yield* Deferred.await(release)
                yield* writer.write(element)
              })
          }))
        }
      }
      const given = () => told[0]?.()
      const source: Source = {
        tables: Effect.succeed(tables),
        stream: () =>
          Stream.make(mark(5)).pipe(
            Stream.concat(Stream.drain(Stream.fromEffect(Deferred.await(goesOn)))),
            Stream.concat(Stream.fromIterable([rows(a, 10), mark(15)])),
            Stream.concat(Stream.never)
          )
      }
      const progress = Progress.make("shop")
      const fiber = yield* run({ source, sink, progress, stop: Deferred.await(stop) }).pipe(Effect.forkChild)
      yield* eventually(() => given() !== undefined)
      assert.deepStrictEqual(given(), Sequence.before(5n))
      yield* Deferred.succeed(goesOn, undefined)
      yield* eventually(() => writing && progress.receivedPosition === 15n)
      assert.isUndefined(given())
      yield* Deferred.succeed(release, undefined)
      yield* eventually(() => given() !== undefined)
      assert.deepStrictEqual(given(), Sequence.before(15n))
      yield* Deferred.succeed(stop, undefined)
      yield* Fiber.join(fiber)
    }))

  it.live("ends with the error of the source, the sink's write, its background or its opening", () =>
    Effect.gen(function*() {
      const { sink } = recorder({ copied: 0n })
      const fails = Effect.fail(broken("here"))
      const endless = list([rows(a, 10), mark(11)], false)
      const cases: ReadonlyArray<Parameters<typeof run>[0]> = [
        { source: { ...endless, tables: fails }, sink },
        {
          source: { ...endless, stream: () => Stream.concat(Stream.make(rows(a, 1)), Stream.fail(broken("here"))) },
          sink
        },
        { source: endless, sink: { ...sink, run: fails } },
        { source: endless, sink: { ...sink, open: () => fails } },
        {
          source: endless,
          sink: {
            ...sink,
            open: () => Effect.succeed({ position: { copied: 0n, committed: undefined }, write: () => fails })
          }
        },
        { source: list([rows(a, 10), mark(11)]), sink: { ...sink, settle: fails } },
        { source: endless, sink, transforms: [{ schema: Effect.succeed, apply: () => fails }] }
      ]
      for (const parts of cases) {
        const progress = Progress.make("shop")
        const exit = yield* Effect.exit(run({ ...parts, progress }))
        assert.strictEqual(failure(exit)?.message, "here")
        assert.strictEqual(progress.phase, "failed")
        assert.strictEqual(progress.lastError?.message, "here")
      }
    }))

  it.live("ends when a transform's batches aren't of its schema's types, and says which column", () =>
    Effect.gen(function*() {
      const { of, sink } = recorder({ copied: 0n })
      const wide: TableSchema = {
        ...a,
        columns: a.columns.map((column, index) => index === 0 ? { ...column, type: { _tag: "Int64" } } : column)
      }
      const widens: Transform = {
        schema: (table) => Effect.succeed(table === a ? wide : table),
        // Its values stay what they were.
        apply: (batch) => Effect.succeed({ ...batch, table: wide })
      }
      const exit = yield* Effect.exit(
        run({ source: list([rows(a, 10), mark(11)], false), sink, transforms: [widens] })
      )
      const error = failure(exit)
      assert.strictEqual(error?.reason, "Protocol")
      assert.strictEqual(error?.message, "The column id of public.a came as Int32, not as Int64, after a transform")
      assert.deepStrictEqual(of(wide), [])
    }))

  it.live("dies with a defect of a plugin instead of hanging", () =>
    Effect.gen(function*() {
      const { sink } = recorder({ copied: 0n })
      const dies: Sink = {
        ...sink,
        open: () =>
          Effect.succeed({
            position: { copied: 0n, committed: undefined },
            write: () => Effect.die(new Error("defect"))
          })
      }
      const exit = yield* Effect.exit(run({ source: list([rows(a, 10), mark(11)], false), sink: dies }))
      assert.isTrue(Exit.hasDies(exit))
    }))

  it.live("applies transforms: a table renamed, one left out, rows dropped, tickets only for what is left", () =>
    Effect.gen(function*() {
      const renamed: TableSchema = { ...a, table: { schema: "public", name: "renamed" } }
      const rename = (batch: ChangeBatch): ChangeBatch => ({ ...batch, table: renamed })
      const transform: Transform = {
        schema: (table) => Effect.succeed(table.table.name === "b" ? undefined : table === a ? renamed : table),
        apply: (batch) => Effect.succeed(batch.rows === 1 ? undefined : batch.table === a ? rename(batch) : batch)
      }
      const opened: Array<string> = []
      const recording = recorder({ copied: 0n })
      const sink: Sink = {
        ...recording.sink,
        open: (table, durable, failed, given) => {
          opened.push(table.table.name)
          return recording.sink.open(table, durable, failed, given)
        }
      }
      const progress = Progress.make("shop")
      yield* run({
        source: list([
          begin(a, 5n),
          { ...(rows(a, 5, 3) as Extract<Element, { _tag: "Rows" }>), _tag: "SnapshotRows", position: 5n, chunk: 0 },
          { ...(rows(a, 5, 1) as Extract<Element, { _tag: "Rows" }>), _tag: "SnapshotRows", position: 5n, chunk: 0 },
          chunkEnd(a, 5n, 0, 4),
          end(a, 5n, 1),
          rows(b, 10, 2),
          rows(a, 11, 1),
          rows(a, 12, 2),
          mark(13)
        ]),
        sink,
        transforms: [transform],
        progress
      })
      assert.deepStrictEqual(opened, ["renamed", "c"])
      assert.deepStrictEqual(recording.of(renamed), [
        "SnapshotBegin",
        "SnapshotRows 3",
        "SnapshotChunk",
        "SnapshotEnd",
        "Rows 2"
      ])
      const chunk = recording.written.map(([, element]) => element).find((element) => element._tag === "SnapshotChunk")
      assert.strictEqual(chunk?._tag === "SnapshotChunk" ? chunk.rows : undefined, 3)
      assert.strictEqual(progress.acknowledgedPosition, 13n)
      assert.strictEqual(progress.snapshot(0).tables.find(({ table }) => table === "public.b")?.dropped, 2)
    }))

  it.live("says that it streams once the last copy is complete, though nothing was changed yet", () =>
    Effect.gen(function*() {
      const { sink } = recorder()
      const stop = yield* Deferred.make<void>()
      const progress = Progress.make("shop")
      const more = yield* Deferred.make<void>()
      const copy = (table: TableSchema): ReadonlyArray<Element> => [
        begin(table, 5n),
        end(table, 5n, 0)
      ]
      const source: Source = {
        tables: Effect.succeed([a, b]),
        stream: () =>
          Stream.fromIterable(copy(a)).pipe(
            Stream.concat(Stream.fromEffectDrain(Deferred.await(more))),
            Stream.concat(Stream.fromIterable(copy(b))),
            Stream.concat(Stream.never)
          )
      }
      const fiber = yield* run({ source, sink, progress, stop: Deferred.await(stop) }).pipe(Effect.forkChild)
      yield* eventually(() => progress.table("public.a").phase === "streaming")
      assert.strictEqual(progress.phase, "snapshot")
      yield* Deferred.succeed(more, undefined)
      yield* eventually(() => progress.phase === "streaming")
      yield* Deferred.succeed(stop, undefined)
      yield* Fiber.join(fiber)
    }))

  it.live("tells the sink which tables a run begins with, before it opens the first, and asks transforms only once", () =>
    Effect.gen(function*() {
      const calls: Array<string> = []
      const asked: Array<string> = []
      const recording = recorder({ copied: 0n })
      const sink: Sink = {
        ...recording.sink,
        begin: (begun) =>
          Effect.sync(() => calls.push(`begin ${begun.map(({ origin, table }) => `${table.name}:${origin}`).join()}`)),
        open: (table, durable, failed, given) =>
          Effect.andThen(
            Effect.sync(() => calls.push(`open ${table.table.name}`)),
            recording.sink.open(table, durable, failed, given)
          )
      }
      const transform: Transform = {
        schema: (table) => {
          asked.push(`${table.table.name} ${table.version}`)
          return Effect.succeed(
            table.table.name === "b"
              ? undefined
              : { ...table, table: { ...table.table, name: `${table.table.name}_x` } }
          )
        },
        apply: Effect.succeed
      }
      const later = { ...plain("a", 2), origin: "second" }
      yield* run({
        source: list(
          [{ _tag: "Schema", table: later, sequence: Sequence.zero }, mark(5)],
          true,
          tables.map((table) => ({ ...table, origin: `first ${table.table.name}` }))
        ),
        sink,
        transforms: [transform]
      })
      assert.strictEqual(calls[0], "begin a_x:first a,c_x:first c")
      assert.deepStrictEqual(calls.slice(1).sort(), ["open a_x", "open c_x"])
      assert.deepStrictEqual(asked, ["a 1", "b 1", "c 1", "a 2"])
      const [element] = recording.written.map(([, written]) => written)
      assert.strictEqual(element?._tag === "Schema" ? element.table.origin : undefined, "second")

      const broke = yield* Effect.exit(
        run({ source: list([]), sink: { ...sink, begin: () => Effect.fail(broken("begin")) } })
      )
      assert.strictEqual(failure(broke)?.message, "begin")
    }))

  it.live("refuses two tables with one target", () =>
    Effect.gen(function*() {
      const { sink } = recorder()
      const same: Transform = {
        schema: (table) => Effect.succeed({ ...table, table: { schema: "public", name: "one" } }),
        apply: Effect.succeed
      }
      const exit = yield* Effect.exit(run({ source: list([]), sink, transforms: [same] }))
      assert.strictEqual(failure(exit)?.reason, "Unsupported")
      assert.match(failure(exit)?.message ?? "", /public\.a and public\.b/)
    }))

  it.live("opens a table that appears in the stream", () =>
    Effect.gen(function*() {
      const late = plain("late")
      const sink = recorder()
      const snapshot = batch(late, [{ op: 0, commit: 20n, ordinal: 0n, values: [1, "x"] }])
      yield* run({
        source: list([
          rows(a, 10),
          begin(late, 20n),
          { _tag: "SnapshotRows", batch: snapshot, position: 20n, chunk: 0 },
          chunkEnd(late, 20n, 0, 1),
          end(late, 20n, 1),
          rows(late, 19),
          rows(late, 20),
          mark(21)
        ]),
        sink: sink.sink
      })
      assert.deepStrictEqual(sink.of(late), [
        "SnapshotBegin",
        "SnapshotRows 1",
        "SnapshotChunk",
        "SnapshotEnd",
        "Rows 1"
      ])
    }))

  it.live("acknowledges what streams beside a copy, but nothing before the sink knows of the copy", () =>
    Effect.gen(function*() {
      const gates = { SnapshotBegin: yield* Deferred.make<void>(), SnapshotEnd: yield* Deferred.make<void>() }
      const recording = recorder()
      const progress = Progress.make("shop")
      const sink: Sink = {
        ...recording.sink,
        open: (table, durable, failed, given) =>
          Effect.map(recording.sink.open(table, durable, failed, given), (writer) => ({
            ...writer,
            write: (element) =>
              Effect.andThen(
                element._tag === "SnapshotBegin" || element._tag === "SnapshotEnd"
                  ? Deferred.await(gates[element._tag])
                  : Effect.void,
                writer.write(element)
              )
          }))
      }
      const fiber = yield* run({
        source: list([
          begin(a, 5n),
          rows(b, 10),
          mark(11),
          rows(a, 12),
          mark(13),
          chunkEnd(a, 14n, 0, 0),
          end(a, 5n, 1)
        ]),
        sink,
        progress
      }).pipe(Effect.forkChild)
      yield* eventually(() => recording.of(b).length > 0)
      assert.strictEqual(progress.acknowledgedPosition, 0n)
      yield* Deferred.succeed(gates.SnapshotBegin, undefined)
      yield* eventually(() => progress.acknowledgedPosition === 13n)
      assert.strictEqual(progress.snapshot(0).tables.find(({ table }) => table === "public.a")?.phase, "copying")
      yield* Deferred.succeed(gates.SnapshotEnd, undefined)
      yield* Fiber.join(fiber)
      assert.strictEqual(progress.snapshot(0).tables.find(({ table }) => table === "public.a")?.phase, "streaming")
    }))

  it.live("a table that leaves is no longer in step, and may come back", () =>
    Effect.gen(function*() {
      const recording = recorder({ copied: 0n })
      const progress = Progress.make("shop")
      const phase = () => progress.snapshot(0).tables.find(({ table }) => table === "public.a")?.phase
      const stop = yield* Deferred.make<void>()
      const back = yield* Deferred.make<void>()
      const fiber = yield* run({
        source: {
          tables: Effect.succeed(tables),
          stream: () =>
            Stream.fromIterable([rows(a, 10), { _tag: "TableLeft", table: a } as const, mark(11)]).pipe(
              Stream.concat(Stream.fromEffectDrain(Deferred.await(back))),
              Stream.concat(
                Stream.fromIterable([begin(a, 20n), chunkEnd(a, 20n, 0, 0), end(a, 20n, 1), rows(a, 21), mark(22)])
              ),
              Stream.concat(Stream.never)
            )
        },
        sink: recording.sink,
        progress,
        stop: Deferred.await(stop)
      }).pipe(Effect.forkChild)
      yield* eventually(() => progress.acknowledgedPosition === 11n && recording.of(a).includes("TableLeft"))
      assert.strictEqual(phase(), "left")
      yield* Deferred.succeed(back, undefined)
      yield* eventually(() => progress.acknowledgedPosition === 22n)
      assert.strictEqual(phase(), "streaming")
      yield* Deferred.succeed(stop, undefined)
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(recording.of(a), [
        "Rows 1",
        "TableLeft",
        "SnapshotBegin",
        "SnapshotChunk",
        "SnapshotEnd",
        "Rows 1"
      ])
    }))

  it.live("begins anew when a table comes with other columns under the version that it had, instead of leaving values out", () =>
    Effect.gen(function*() {
      const { of, sink } = recorder({ copied: 0n })
      const more: TableSchema = {
        ...a,
        columns: [...a.columns, { name: "more", type: { _tag: "Int32" }, sourceType: "integer", nullable: true }]
      }
      for (const element of [rows(more, 12), begin(more, 12n)]) {
        const error = failure(yield* Effect.exit(run({ source: list([rows(a, 10), mark(11), element]), sink })))
        assert.strictEqual(error?.reason, "Fenced")
        assert.strictEqual(error?.table, "public.a")
        assert.include(error?.message, "other columns")
      }
      assert.deepStrictEqual(of(more).filter((what) => what === "SnapshotBegin"), [])
      // The same columns as another object are the same table.
      yield* run({
        source: list([rows(a, 10), rows({ ...a, columns: a.columns.map((one) => ({ ...one })) }, 12), mark(13)]),
        sink
      })
    }))

  it.live("refuses a copy that isn't complete, and rows of a copy that didn't begin", () =>
    Effect.gen(function*() {
      const { sink } = recorder()
      const part: Element = {
        ...(rows(a, 5, 2) as Extract<Element, { _tag: "Rows" }>), // rows makes Rows
        _tag: "SnapshotRows",
        position: 5n,
        chunk: 0
      }
      const refused: ReadonlyArray<ReadonlyArray<Element>> = [
        [begin(a, 5n), part, chunkEnd(a, 5n, 0, 3)],
        [begin(a, 5n), part, end(a, 5n, 1)],
        [part],
        [chunkEnd(a, 5n, 0, 0)],
        [end(a, 5n, 0)]
      ]
      for (const elements of refused) {
        const exit = yield* Effect.exit(run({ source: list(elements), sink }))
        assert.strictEqual(failure(exit)?.reason, "Protocol")
      }
    }))

  it.live("keeps what needs somebody in the checkpoint", () =>
    Effect.gen(function*() {
      const state = new MemoryState()
      const source: Source = {
        tables: Effect.succeed(tables),
        stream: ({ conditions }) =>
          Stream.unwrap(Effect.as(
            conditions.raise({
              name: "late",
              severity: "warning",
              table: "public.a",
              message: "It is late",
              hint: "Wait"
            }),
            Stream.fromIterable([mark(5)])
          ))
      }
      yield* run({ source, sink: recorder({ copied: 0n }).sink, state })
      const { conditions } = JSON.parse(state.entries.get("pipelines/shop/checkpoint")?.value ?? "{}")
      assert.strictEqual(conditions.length, 1)
      assert.deepInclude(conditions[0], { name: "late", severity: "warning", table: "public.a" })
      assert.match(conditions[0].since, /^\d{4}-.*Z$/)
    }))

  it.live("goes on when the state store fails, and replaces a checkpoint of another run", () =>
    Effect.gen(function*() {
      const state = new MemoryState()
      state.failing = true
      yield* run({ source: list([rows(a, 10), mark(11)]), sink: recorder({ copied: 0n }).sink, state })
      state.failing = false
      for (const position of [13, 15]) {
        yield* run({
          source: list([rows(a, position - 1), mark(position)]),
          sink: recorder({ copied: 0n }).sink,
          state
        })
        const checkpoint = JSON.parse(state.entries.get("pipelines/shop/checkpoint")?.value ?? "{}")
        assert.strictEqual(checkpoint.acknowledged, `${position}`)
        assert.deepStrictEqual(checkpoint.tables, {
          "public.a": Sequence.format(Sequence.make(BigInt(position - 1), 1n))
        })
      }
    }))
})
