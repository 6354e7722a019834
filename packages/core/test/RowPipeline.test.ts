import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Stream from "effect/Stream"
import { ConnectorError } from "../src/ConnectorError.ts"
import type { Element } from "../src/Element.ts"
import * as MemoryBudget from "../src/MemoryBudget.ts"
import * as Pipeline from "../src/Pipeline.ts"
import * as Progress from "../src/Progress.ts"
import * as ResyncRequest from "../src/ResyncRequest.ts"
import * as RowChange from "../src/RowChange.ts"
import * as RowPosition from "../src/RowPosition.ts"
import * as RowSource from "../src/RowSource.ts"
import * as Sequence from "../src/Sequence.ts"
import type { Source } from "../src/Source.ts"
import type { TableSchema } from "../src/TableSchema.ts"
import { tableId } from "../src/TableSchema.ts"
import * as Chance from "./doubles/Chance.ts"
import { LogServer, randomLog } from "./doubles/LogServer.ts"
import { MemoryState } from "./doubles/MemoryState.ts"
import { failsAt, RowDatabase } from "./doubles/RowDatabase.ts"
import { expected, orders, ordersId, randomPieces, RowLog, visits, visitsId } from "./doubles/RowLog.ts"
import { batch, plain } from "./doubles/Tables.ts"

const run = (source: Source, database: RowDatabase, parts: Partial<Pipeline.Options> = {}) =>
  Effect.andThen(
    Effect.sync(() => database.crash()),
    Pipeline.run({
      name: "shop",
      source,
      transforms: [],
      sink: database.sink,
      batch: { rows: 5, bytes: 1 << 20, every: "1 millis" },
      progress: Progress.make("shop"),
      state: new MemoryState(),
      stop: Effect.never,
      drain: "5 seconds",
      ...parts
    })
  ).pipe(Effect.provide([MemoryBudget.MemoryBudget.layer(), Logger.layer([])]))

/** Runs until a run comes to the end of the log; what fails is run again. Returns how many runs it took. */
const untilDone = Effect.fnUntraced(function*(log: RowLog, database: RowDatabase, between: (runs: number) => void) {
  for (let runs = 1;; runs++) {
    const result = yield* Effect.result(run(log.source(), database))
    if (result._tag === "Success") return runs
    assert.strictEqual(result.failure.reason, "Unreachable", result.failure.message)
    assert.isBelow(runs, 20)
    between(runs)
  }
})

const sorted = (rows: ReadonlyArray<Readonly<Record<string, unknown>>>) =>
  rows.map((row) => Object.entries(row).map(([name, value]) => `${name} ${String(value)}`).sort().join(", ")).sort()

const compare = (log: RowLog, database: RowDatabase, label: string) => {
  const { orders: held, visits: visited } = expected(log.pieces)
  assert.deepStrictEqual(sorted(database.rows(ordersId)), sorted(held), `${label}: rows by key`)
  assert.deepStrictEqual(database.rows(visitsId), visited, `${label}: rows in order`)
}

/** Waits until a condition holds. */
const eventually = (condition: () => boolean) =>
  Effect.gen(function*() {
    while (!condition()) yield* Effect.sleep(1)
  }).pipe(Effect.timeout("30 seconds"), Effect.orDie)

// Each has a pipeline of its own, and mostly waits.
describe("RowSource and RowSink", { concurrent: true }, () => {
  for (const buffers of [false, true]) {
    const kind = buffers ? "with flushes" : "with transactions"

    it.live(`bring every row once through faults of the source before each piece, ${kind}`, () =>
      Effect.gen(function*() {
        const scenario = Effect.fnUntraced(function*(seed: number) {
          const chance = Chance.make(seed)
          const pieces = randomPieces(chance, 10)
          for (let at = 0; at <= pieces.length; at++) {
            const log = new RowLog(pieces)
            const database = new RowDatabase(buffers)
            log.chunk = 1 + chance.below(4)
            log.streamed = chance.oneIn(2)
            log.failsAt = at
            yield* untilDone(log, database, () => {
              log.failsAt = undefined
            })
            compare(log, database, `seed ${seed}, fault before piece ${at}`)
          }
        })
        yield* Effect.forEach([0, 1, 2], scenario, { concurrency: "unbounded" })
      }))

    it.live(`bring every row once through faults of the sink at each of its steps, ${kind}`, () =>
      Effect.gen(function*() {
        const scenario = Effect.fnUntraced(function*(seed: number) {
          const chance = Chance.make(seed)
          const pieces = randomPieces(chance, 10)
          for (let at = 0;; at++) {
            const log = new RowLog(pieces)
            const database = new RowDatabase(buffers)
            log.chunk = 1 + chance.below(4)
            database.at = failsAt(at)
            const runs = yield* untilDone(log, database, () => {
              // Some fail once more, early in the next run.
              database.at = chance.oneIn(2) ? failsAt(chance.below(6)) : () => Effect.void
            })
            compare(log, database, `seed ${seed}, fault at step ${at}`)
            if (runs === 1) break
            assert.isBelow(at, 400)
          }
        })
        yield* Effect.forEach([0, 1], scenario, { concurrency: "unbounded" })
      }))
  }

  it.live("tell a queue what is durable, never more, and in the end all of it", () =>
    Effect.gen(function*() {
      for (let seed = 0; seed < 6; seed++) {
        const chance = Chance.make(seed)
        const log = new RowLog(randomPieces(chance, 30))
        log.history = "consumed"
        const database = new RowDatabase(chance.oneIn(2))
        database.at = failsAt(5 + chance.below(30))
        let worst = 0n
        const source = log.source()
        const told = log.told
        const watched: typeof told.push = (...positions) => {
          for (const position of positions) {
            const { orders: held } = expected(log.pieces, position)
            // The rows of the target are those of this position or of a later one.
            if (database.rows(visitsId).length < expected(log.pieces, position).visits.length) worst = position
            assert.isAtLeast(database.rows(ordersId).length + 100, held.length)
          }
          return Array.prototype.push.apply(told, positions)
        }
        told.push = watched
        assert.isDefined(source)
        yield* untilDone(log, database, () => {
          database.at = () => Effect.void
        })
        assert.strictEqual(worst, 0n, `seed ${seed}`)
        assert.strictEqual(told.at(-1), log.end, `seed ${seed}`)
        assert.deepStrictEqual(told, [...told].sort((a, b) => a < b ? -1 : 1))
        compare(log, database, `seed ${seed}`)
      }
    }))

  it.live("go on behind what the sink holds, and read everything for a table that is new", () =>
    Effect.gen(function*() {
      const log = new RowLog([
        { position: 10n, changes: [RowChange.insert(orders, { id: 1n, total: "1.00", note: null })] },
        { position: 20n, changes: [RowChange.insert(visits, { page: "/", at: 1n })] },
        { position: 30n, changes: [RowChange.insert(orders, { id: 2n, total: "2.00", note: null })] }
      ])
      const database = new RowDatabase()
      log.tables = [orders]
      yield* run(log.source(), database)
      yield* run(log.source(), database)
      const { written } = database
      assert.strictEqual(written, 2)
      log.tables = [orders, visits]
      yield* run(log.source(), database)
      // A piece may be there in part: it comes again.
      assert.deepStrictEqual(log.begun, [0n, 29n, 0n])
      assert.strictEqual(database.written, written + 1)
      compare(log, database, "in the end")
      log.tables = [orders]
      yield* run(log.source(), database)
      log.tables = [orders, visits]
      yield* run(log.source(), database)
      // Its changes weren't read for a while, so it began anew.
      assert.deepStrictEqual(database.rows(visitsId), [{ page: "/", at: 1n }])
      assert.strictEqual(log.begun.at(-1), 0n)
    }))

  it.live("begin a table by a copy where the source has one, and go on behind it", () =>
    Effect.gen(function*() {
      for (let seed = 0; seed < 5; seed++) {
        const chance = Chance.make(seed)
        const log = new RowLog(randomPieces(chance, 20))
        const database = new RowDatabase(chance.oneIn(2))
        const copied = log.pieces[chance.below(20)]?.position ?? 0n
        log.copyAt = () => copied
        database.at = failsAt(chance.below(12))
        yield* untilDone(log, database, () => {
          database.at = () => Effect.void
        })
        assert.isTrue(log.begun.every((from) => from >= copied), `seed ${seed}`)
        compare(log, database, `seed ${seed}`)
      }
    }))

  it.live("set a table aside for a value that doesn't fit, and copy it again when that is asked for", () =>
    Effect.gen(function*() {
      const bad = { position: 20n, changes: [RowChange.insert(orders, { id: 2n, total: "not a number", note: null })] }
      const mended = { position: 20n, changes: [RowChange.insert(orders, { id: 2n, total: "2.00", note: null })] }
      const first = { position: 10n, changes: [RowChange.insert(orders, { id: 1n, total: "1.00", note: null })] }
      const last = { position: 30n, changes: [RowChange.insert(visits, { page: "/", at: 1n })] }
      const database = new RowDatabase()
      const log = new RowLog([first, bad, last])
      const progress = Progress.make("shop")
      yield* run(log.source(), database, { progress })
      const why = progress.table(ordersId).quarantine
      assert.match(why?.message ?? "", /came for the column total of the table shop\.orders isn't decimal text/)
      assert.notMatch(why?.message ?? "", /not a number/)
      assert.deepStrictEqual(database.rows(visitsId), [{ page: "/", at: 1n }])
      assert.deepStrictEqual(
        RowPosition.parse(database.tables.get(ordersId)?.position ?? "")?.quarantined?.message,
        why?.message
      )

      const next = new RowLog([first, mended, last])
      next.ends = false
      const source = next.source()
      const stop = yield* Deferred.make<void>()
      const state = new MemoryState()
      const fiber = yield* Effect.forkChild(run(source, database, { state, stop: Deferred.await(stop) }))
      yield* ResyncRequest.ask(state, "shop", [ordersId])
      yield* eventually(() => database.rows(ordersId).length === 2)
      yield* Deferred.succeed(stop, undefined)
      yield* Fiber.join(fiber)
      compare(next, database, "after the new copy")
    }))

  it.live("copy a table again while it streams, where the source has copies, and refuse it where it has none", () =>
    Effect.gen(function*() {
      for (const copies of [true, false]) {
        const log = new RowLog(randomPieces(Chance.make(7), 20))
        log.ends = false
        if (copies) log.copyAt = () => log.end
        const database = new RowDatabase()
        const state = new MemoryState()
        const stop = yield* Deferred.make<void>()
        const fiber = yield* Effect.forkChild(run(log.source(), database, { state, stop: Deferred.await(stop) }))
        yield* eventually(() => database.rows(visitsId).length === expected(log.pieces).visits.length)
        // Somebody has been at the target.
        const { position } = database.tables.get(ordersId) ?? {}
        yield* eventually(() => RowPosition.parse(database.tables.get(ordersId)?.position ?? "")?.copied !== undefined)
        if (copies) database.spoil(ordersId)
        yield* ResyncRequest.ask(state, "shop", [ordersId])
        const request = () => ResyncRequest.all(state, "shop").pipe(Effect.map(([first]) => first))
        let last = yield* request()
        while (last?.state === "requested" || last?.state === "begun") {
          yield* Effect.sleep(20)
          last = yield* request()
        }
        assert.strictEqual(last?.state, copies ? "done" : "refused", last?.message)
        if (!copies) assert.match(last?.message ?? "", /only while it is in quarantine/)
        assert.isDefined(position)
        yield* Deferred.succeed(stop, undefined)
        yield* Fiber.join(fiber)
        compare(log, database, copies ? "with copies" : "without")
      }
    }))

  it.live("refuse a new copy that can't be had, and go on with the table as it was", () =>
    Effect.gen(function*() {
      const log = new RowLog(randomPieces(Chance.make(3), 20))
      log.ends = false
      log.copyAt = () => log.end
      const database = new RowDatabase()
      const state = new MemoryState()
      const progress = Progress.make("shop")
      const stop = yield* Deferred.make<void>()
      const fiber = yield* Effect.forkChild(
        run(log.source(), database, { progress, state, stop: Deferred.await(stop) })
      )
      yield* eventually(() =>
        progress.table(ordersId).phase === "streaming" && progress.table(visitsId).phase === "streaming"
      )
      log.noCopies = new ConnectorError({
        reason: "Missing",
        plugin: "test",
        message: "The export of the orders is gone",
        hint: "Make another one.",
        table: ordersId
      })
      yield* ResyncRequest.ask(state, "shop", [ordersId])
      const request = () => ResyncRequest.all(state, "shop").pipe(Effect.map(([first]) => first))
      let last = yield* request()
      for (let looks = 0; last?.state === "requested" && looks < 1500; looks++) {
        yield* Effect.sleep(20)
        last = yield* request()
      }
      assert.strictEqual(last?.state, "refused")
      assert.strictEqual(last?.message, "The export of the orders is gone")
      assert.isUndefined(progress.table(ordersId).quarantine)
      yield* Deferred.succeed(stop, undefined)
      yield* Fiber.join(fiber)
      compare(log, database, "after a copy that couldn't be had")
    }))

  it.live("keep memory bounded for a piece without end, and write it in order", () =>
    Effect.gen(function*() {
      const rows = 40_000
      const page = "x".repeat(500)
      let pulled = 0
      let ahead = 0
      const database = new RowDatabase()
      const source = RowSource.make({
        plugin: "test",
        tables: [visits],
        history: "kept",
        read: (from) =>
          from > 0n ? Stream.empty : Stream.succeed({
            position: 1n,
            changes: Stream.range(1, rows).pipe(Stream.map((at) => {
              pulled++
              ahead = Math.max(ahead, pulled - database.written)
              return RowChange.insert(visits, { page, at: BigInt(at) })
            }))
          })
      })
      // Twenty megabytes in a budget of one.
      yield* Pipeline.run({
        name: "shop",
        source,
        transforms: [],
        sink: database.sink,
        batch: { rows: 5000, bytes: 1 << 18, every: "1 millis" },
        progress: Progress.make("shop"),
        state: new MemoryState(),
        stop: Effect.never,
        drain: "5 seconds"
      }).pipe(Effect.provide([MemoryBudget.MemoryBudget.layer(1 << 20), Logger.layer([])]))
      assert.deepStrictEqual(
        database.rows(visitsId).map((row) => row["at"]),
        Array.from({ length: rows }, (_, index) => BigInt(index + 1))
      )
      assert.isBelow(ahead, 10_000)
    }))

  it.live("end the run for positions that go back, without a row lost", () =>
    Effect.gen(function*() {
      const database = new RowDatabase()
      const log = new RowLog([
        { position: 10n, changes: [RowChange.insert(visits, { page: "/1", at: 1n })] },
        { position: 10n, changes: [RowChange.insert(visits, { page: "/2", at: 2n })] }
      ])
      const error = yield* Effect.flip(run(log.source(), database))
      assert.strictEqual(error.reason, "Protocol")
      assert.match(error.message, /position \(10\) that isn't above that of the one before \(10\)/)
    }))
})

describe("RowSink", () => {
  it.live("copies and streams side by side from a source that does so, through faults and restarts", () =>
    Effect.gen(function*() {
      const tables = [plain("a"), plain("b")]
      for (let seed = 0; seed < 12; seed++) {
        const chance = Chance.make(seed)
        const server = new LogServer(tables, randomLog(chance, tables, 30), chance)
        const database = new RowDatabase(chance.oneIn(2))
        for (let runs = 1;; runs++) {
          database.at = runs < 4 ? failsAt(chance.below(60)) : () => Effect.void
          const result = yield* Effect.result(run(server.source(), database))
          if (result._tag === "Success") break
          assert.isBelow(runs, 10)
        }
        for (const table of tables) {
          const ids = server.log.flatMap(({ changes }) => changes.filter((c) => c.table === table).map(({ id }) => id))
          assert.deepStrictEqual(
            database.rows(tableId(table.table)).map((row) => Number(row["id"])).sort((x, y) => x - y),
            ids,
            `seed ${seed}: ${table.table.name}`
          )
        }
      }
    }))

  const table = plain("a")
  const list = (elements: ReadonlyArray<Element>, tables: ReadonlyArray<TableSchema> = [table]): Source => ({
    tables: Effect.succeed(tables),
    stream: () => Stream.fromIterable(elements, { chunkSize: 1 })
  })
  const begin = (schema: TableSchema, position: bigint): Element => ({
    _tag: "SnapshotBegin",
    table: schema,
    position,
    plan: undefined,
    resumed: false,
    estimatedRows: undefined,
    estimatedBytes: undefined
  })
  const copied = (schema: TableSchema, position: bigint, settled = position): ReadonlyArray<Element> => [
    begin(schema, position),
    { _tag: "SnapshotEnd", table: schema, position, chunks: 0, settled }
  ]
  const row = (schema: TableSchema, commit: bigint, id: number): Element => ({
    _tag: "Rows",
    batch: batch(schema, [{ commit, ordinal: 1n, values: [id, "x"] }])
  })

  it.live("holds back changes until the copy is complete, and then applies them in order", () =>
    Effect.gen(function*() {
      const database = new RowDatabase()
      const [start, end] = copied(table, 10n)
      const seen: Array<number> = []
      database.at = (point) =>
        Effect.sync(() => {
          if (point === "written") seen.push(database.rows("public.a").length)
        })
      yield* run(
        list([
          start as Element, // there are two
          row(table, 11n, 1),
          { _tag: "Truncate", table, sequence: Sequence.make(12n, 1n), commitTime: 0n },
          row(table, 13n, 2),
          end as Element,
          row(table, 14n, 3),
          { _tag: "Watermark", position: 15n, commitTime: undefined }
        ]),
        database
      )
      assert.deepStrictEqual(database.rows("public.a").map((row) => row["id"]), [2, 3])
      assert.deepStrictEqual(seen, [0, 1, 1, 2])
    }))

  it.live("makes durable in between what was held back for long, lest a sink has to buffer all of it", () =>
    Effect.gen(function*() {
      const database = new RowDatabase(true)
      const [start, end] = copied(table, 10n)
      const changes = Array.from({ length: 60 }, (_, index) => row(table, BigInt(11 + index), index))
      let waiting = 0
      let most = 0
      database.at = (point) =>
        Effect.suspend(() => {
          if (point === "flushed") waiting = 0
          if (point === "written") most = Math.max(most, ++waiting)
          return point === "written" ? Effect.sleep(2) : Effect.void
        })
      yield* run(
        list([
          start as Element, // there are two
          ...changes,
          end as Element,
          { _tag: "Watermark", position: 100n, commitTime: undefined }
        ]),
        database,
        { batch: { rows: 1, bytes: 1 << 20, every: "1 millis" } }
      )
      assert.lengthOf(database.rows("public.a"), 60)
      assert.isBelow(most, 20)
    }))

  it.live("leaves out what the copy of a table without a key holds already", () =>
    Effect.gen(function*() {
      const keyless: TableSchema = { ...table, identity: { _tag: "None" } }
      const database = new RowDatabase()
      yield* run(
        list([
          ...copied(keyless, 10n, 20n),
          row(keyless, 15n, 1),
          { _tag: "Truncate", table: keyless, sequence: Sequence.make(16n, 1n), commitTime: 0n },
          row(keyless, 20n, 2),
          { _tag: "Watermark", position: 30n, commitTime: undefined }
        ], [keyless]),
        database
      )
      assert.deepStrictEqual(database.rows("public.a").map((row) => row["id"]), [2])
    }))

  const reshaped: TableSchema = {
    ...table,
    version: 2,
    columns: [...table.columns, { name: "extra", type: { _tag: "Int32" }, sourceType: "int", nullable: true }]
  }
  const reshaping = list([
    ...copied(table, 10n),
    row(table, 11n, 1),
    { _tag: "Schema", table: reshaped, sequence: Sequence.make(12n, 0n) },
    row(reshaped, 13n, 2),
    { _tag: "Watermark", position: 14n, commitTime: undefined }
  ])

  it.live("changes the shape of a table where the author can", () =>
    Effect.gen(function*() {
      const database = new RowDatabase()
      yield* run(reshaping, database)
      assert.deepStrictEqual(database.rows("public.a"), [
        { id: 1, note: "x" },
        { id: 2, note: "x", extra: null }
      ])
    }))

  it.live("sets a table aside, or ends, when its shape changes and the author can't follow", () =>
    Effect.gen(function*() {
      const database = new RowDatabase()
      database.reshapes = false
      const progress = Progress.make("shop")
      yield* run(reshaping, database, { progress })
      assert.match(progress.table("public.a").quarantine?.message ?? "", /shape of the table public\.a has changed/)
      assert.deepStrictEqual(database.rows("public.a"), [{ id: 1, note: "x" }])
      const other = new RowDatabase()
      other.reshapes = false
      const error = yield* Effect.flip(run(reshaping, other, { onTableError: "stop" }))
      assert.strictEqual(error.reason, "Unsupported")
      assert.strictEqual(error.table, "public.a")
    }))

  it.live("sets a table aside whose flush breaks, rather than waiting for ever for what never becomes durable", () =>
    Effect.gen(function*() {
      const database = new RowDatabase(true)
      let breaks = true
      database.at = (point) =>
        Effect.sync(() => {
          if (point !== "flush" || database.written === 0 || !breaks) return
          breaks = false
          throw new TypeError("a defect")
        })
      const progress = Progress.make("shop")
      yield* run(
        list([...copied(table, 10n), row(table, 11n, 1), { _tag: "Watermark", position: 12n, commitTime: undefined }]),
        database,
        {
          progress
        }
      ).pipe(Effect.timeout("5 seconds"))
      assert.match(
        progress.table("public.a").quarantine?.message ?? "",
        /public\.a can't be made durable: the sink's flush broke/
      )
    }))

  it.live("refuses a position that it hasn't written", () =>
    Effect.gen(function*() {
      const database = new RowDatabase()
      database.tables.set("public.a", { rows: new Map(), position: "17" })
      const error = yield* Effect.flip(run(reshaping, database, { onTableError: "stop" }))
      assert.match(error.message, /stored as the position of the table public\.a is none/)
    }))

  it.live("gives way to a writer that took over", () =>
    Effect.gen(function*() {
      const database = new RowDatabase()
      let meanwhile = false
      database.at = (point) =>
        Effect.sync(() => {
          if (point !== "write" || meanwhile) return
          meanwhile = true
          database.crash()
          database.tables.set("public.a", {
            rows: new Map(),
            position: RowPosition.format(RowPosition.none, "another")
          })
        })
      const error = yield* Effect.flip(run(reshaping, database))
      assert.instanceOf(error, ConnectorError)
      assert.strictEqual(error.reason, "Fenced")
      assert.deepStrictEqual(database.rows("public.a"), [])
    }))
})

describe("A table whose history is read late", () => {
  it.live("isn't said to be complete before its history has come", () =>
    Effect.gen(function*() {
      const [table, late] = [plain("a"), plain("late")]
      const seen: Array<readonly [string, Sequence.Sequence | undefined]> = []
      const snapshot = (position: bigint): ReadonlyArray<Element> => [
        {
          _tag: "SnapshotBegin",
          table: late,
          position,
          plan: undefined,
          resumed: false,
          estimatedRows: undefined,
          estimatedBytes: undefined
        },
        { _tag: "SnapshotEnd", table: late, position, chunks: 0, settled: position }
      ]
      const given = new Map<string, () => Sequence.Sequence | undefined>()
      const accepted: Array<string> = []
      yield* Pipeline.run({
        name: "shop",
        source: {
          tables: Effect.succeed([table]),
          stream: () =>
            Stream.fromIterable<Element>([
              { _tag: "Watermark", position: 100n, commitTime: undefined },
              ...snapshot(1n),
              { _tag: "Rows", batch: batch(late, [{ commit: 5n, ordinal: 1n, values: [1, "x"] }]) },
              { _tag: "Watermark", position: 50n, commitTime: undefined },
              { _tag: "Watermark", position: 101n, commitTime: undefined }
            ], { chunkSize: 1 }).pipe(
              Stream.tap((element) =>
                Effect.gen(function*() {
                  // Everything before has been accepted.
                  if (element._tag !== "Watermark" || element.position < 101n) return
                  yield* eventually(() => accepted.includes("Rows"))
                  yield* Effect.sleep(0)
                  seen.push(["before 101", given.get("public.late")?.()])
                })
              )
            )
        },
        transforms: [],
        sink: {
          begin: () => Effect.void,
          open: ({ table: { schema, name } }, durable, _failed, isGiven) =>
            Effect.sync(() => {
              given.set(`${schema}.${name}`, isGiven)
              return {
                position: { copied: undefined, committed: undefined },
                write: (element) =>
                  Effect.suspend(() => {
                    accepted.push(element._tag)
                    return element._tag === "Rows" ? durable(element.batch.last) : Effect.void
                  })
              }
            }),
          run: Effect.never,
          settle: Effect.sync(() => {
            seen.push(["in the end", given.get("public.late")?.()])
          })
        },
        batch: { rows: 5, bytes: 1 << 20, every: "1 millis" },
        progress: Progress.make("shop"),
        state: new MemoryState(),
        stop: Effect.never,
        drain: "5 seconds"
      }).pipe(Effect.provide([MemoryBudget.MemoryBudget.layer(), Logger.layer([])]))
      assert.deepStrictEqual(seen, [["before 101", undefined], ["in the end", Sequence.before(101n)]])
    }))
})
