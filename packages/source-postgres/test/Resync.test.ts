/**
 * Requests for a new copy of a table that come when it is being copied, or was altered, with the engine between the source and a `Mirror`.
 */
import { assert, describe, layer } from "@effect/vitest"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as MemoryBudget from "@etl-stream/core/MemoryBudget"
import * as Pipeline from "@etl-stream/core/Pipeline"
import * as PipelineControl from "@etl-stream/core/PipelineControl"
import * as Progress from "@etl-stream/core/Progress"
import * as ResyncRequest from "@etl-stream/core/ResyncRequest"
import type { Sink } from "@etl-stream/core/Sink"
import type { Entry, StateStoreShape } from "@etl-stream/core/StateStore"
import { tableId } from "@etl-stream/core/TableSchema"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Lsn from "../src/Lsn.ts"
import * as PostgresSource from "../src/PostgresSource.ts"
import { Mirror } from "./Mirror.ts"
import * as SourceRun from "./SourceRun.ts"

const { Server } = SourceRun

/** A store in memory that counts how often requests were looked for. */
const memory = () => {
  const entries = new Map<string, Entry>()
  const counted = { looks: 0 }
  let version = 0
  const store: StateStoreShape = {
    get: (key) =>
      Effect.sync(() => {
        if (key.endsWith("/resync")) counted.looks++
        return Option.fromNullishOr(entries.get(key))
      }),
    list: () => Effect.succeed([]),
    compareAndSet: (key, value, expected) =>
      Effect.sync(() => {
        if (entries.get(key)?.version !== expected) return Option.none()
        entries.set(key, { value, version: String(++version) })
        return Option.some(String(version))
      }),
    remove: (key) => Effect.sync(() => void entries.delete(key)),
    now: Effect.sync(() => Date.now())
  }
  return { store, counted }
}

/** A sink that is the mirror, in which everything is durable at once. `begins` are the tables whose copies began or went on. */
const sinkOf = (mirror: Mirror, begins: Array<string>): Sink => ({
  begin: (tables) => Effect.sync(() => mirror.begin(tables)),
  open: ({ table }, durable) =>
    Effect.sync(() => ({
      position: mirror.positions.get(tableId(table)) ?? { copied: undefined, committed: undefined },
      write: (element) =>
        Effect.suspend(() => {
          mirror.apply(element)
          if (element._tag === "SnapshotBegin") begins.push(element.table.table.name)
          return element._tag === "Rows"
            ? durable(element.batch.last)
            : element._tag === "Truncate"
            ? durable(element.sequence)
            : Effect.void
        })
    })),
  run: Effect.never,
  settle: Effect.void
})

const until = (what: string, condition: () => boolean) =>
  Effect.sync(condition).pipe(
    Effect.repeat({ schedule: Schedule.spaced("10 millis"), until: (done) => done }),
    Effect.timeoutOrElse({
      duration: "30 seconds",
      orElse: () => Effect.die(new Error(`it never came to this: ${what}`))
    })
  )

/** What a run failed by. */
const errorOf = (exit: Exit.Exit<void, ConnectorError>): ConnectorError | undefined =>
  Exit.isFailure(exit) ? exit.cause.reasons.find(Cause.isFailReason)?.error : undefined

/** A pipeline of the tables of the schema `name` that can be run again and again, with its copies held up or not. */
const pipeline = Effect.fnUntraced(function*(name: string, publication: object = {}) {
  const pg = yield* Server
  const mirror = new Mirror()
  mirror.recopies = true
  const { counted, store } = memory()
  const begins: Array<string> = []
  const control = PipelineControl.make({ pipeline: name, spool: false })
  const start = Effect.fnUntraced(function*() {
    const stop = yield* Deferred.make<void>()
    const progress = Progress.make(name)
    mirror.restart()
    const fiber = yield* Effect.gen(function*() {
      const source = yield* PostgresSource.make(SourceRun.settings({
        url: pg.url,
        tables: [`${name}.*`],
        heartbeat: { every: "500 millis" },
        publication,
        snapshot: { chunkBytes: 8192, fetchRows: 50, parallel: 2 }
      }, name))
      yield* Pipeline.run({
        name,
        source,
        transforms: [],
        sink: sinkOf(mirror, begins),
        batch: { rows: 100, bytes: 1 << 20, every: "5 millis" },
        progress,
        state: store,
        control,
        stop: Deferred.await(stop),
        drain: "10 seconds"
      })
    }).pipe(
      Effect.scoped,
      Effect.provide([MemoryBudget.MemoryBudget.layer(MemoryBudget.defaultCapacity), Logger.layer([])]),
      Effect.exit,
      Effect.forkScoped
    )
    const phase = (table: string, wanted: Progress.TablePhase) =>
      until(`${table} is ${wanted}`, () => progress.table(`${name}.${table}`).phase === wanted)
    return {
      phase,
      /** Waits until everything that was written so far has been applied. */
      caughtUp: Effect.gen(function*() {
        const [row] = yield* pg.query("SELECT pg_current_wal_insert_lsn()::text AS lsn")
        const end = Lsn.parse(String(row?.["lsn"])) ?? 0n
        yield* until("everything written has come", () => progress.acknowledgedPosition >= end)
      }),
      /** How it ended by itself, or by `stop`. */
      ended: Fiber.join(fiber),
      stop: Effect.gen(function*() {
        yield* Deferred.succeed(stop, undefined)
        assert.isTrue(Exit.isSuccess(yield* Fiber.join(fiber)))
      })
    }
  })
  const request = (table: string) =>
    Effect.map(
      ResyncRequest.all(store, name),
      (all) => all.find((request) => request.table === `${name}.${table}`)
    )
  const reaches = (table: string, wanted: ResyncRequest.State) =>
    request(table).pipe(
      Effect.repeat({
        schedule: Schedule.spaced("10 millis"),
        until: (found) => found?.state === wanted
      }),
      Effect.timeoutOrElse({
        duration: "30 seconds",
        orElse: () => Effect.die(new Error(`the request for ${table} was never ${wanted}`))
      })
    )
  /** Waits until the run has looked for requests `times` more. */
  const looked = (times: number) =>
    Effect.suspend(() => {
      const enough = counted.looks + times
      return until("requests were looked for", () => counted.looks >= enough)
    })
  const ask = (table: string) => ResyncRequest.ask(store, name, [`${name}.${table}`])
  return { pg, mirror, begins, control, start, ask, request, reaches, looked }
})

const tables = (more = "") =>
  `CREATE TABLE a (id int PRIMARY KEY, v int, filler text); INSERT INTO a SELECT i, 0, repeat('x', 500) FROM generate_series(1, 200) i;
   CREATE TABLE b (id int PRIMARY KEY, v int); INSERT INTO b SELECT i, 0 FROM generate_series(1, 50) i; ${more}`

// Each has a schema of its own, and mostly waits: for looks at the requests, which are a second apart.
describe("A resync of a table", { concurrent: true }, () => {
  layer(Server.layer, { excludeTestServices: true })((it) => {
    it.effect("that is being copied is served in the same run, by a copy that begins when the one under way has ended; others go on", () =>
      Effect.gen(function*() {
        const write = yield* SourceRun.schema("meanwhile", tables())
        const { ask, begins, control, looked, mirror, pg, reaches, request, start } = yield* pipeline("meanwhile")
        const run = yield* start()
        yield* run.phase("a", "streaming")
        yield* run.phase("b", "streaming")
        const before = mirror.positions

        yield* control.pauseCopies(true)
        yield* ask("a")
        yield* reaches("a", "begun")
        const held = mirror.positions.get("meanwhile.a")?.copying?.position
        yield* ask("a")
        yield* write("UPDATE a SET v = 1 WHERE id % 3 = 0; UPDATE a SET id = -id WHERE id % 7 = 0; UPDATE b SET v = 1")
        yield* looked(3)
        assert.strictEqual((yield* request("a"))?.state, "requested")
        yield* until(
          "b's changes come meanwhile",
          () => [...mirror.tables.get("meanwhile.b")?.rows.values() ?? []].every(({ row }) => row[1] === "1")
        )

        yield* control.pauseCopies(false)
        yield* reaches("a", "done")
        yield* run.caughtUp
        assert.deepStrictEqual([...begins].sort(), ["a", "a", "a", "b"])
        const after = mirror.positions
        assert.strictEqual(after.get("meanwhile.b")?.copied, before.get("meanwhile.b")?.copied)
        assert.isDefined(held)
        assert.isTrue((after.get("meanwhile.a")?.copied ?? 0n) > (held ?? 0n))
        assert.deepStrictEqual(yield* mirror.differences(pg), [])
        // Whoever asks later is served as well.
        yield* ask("a")
        yield* reaches("a", "done")
        assert.deepStrictEqual([...begins].sort(), ["a", "a", "a", "a", "b"])
        yield* run.stop
      }))

    it.effect("that is being copied is served by the next run when this one ends first, after the rest of the copy that it waited for", () =>
      Effect.gen(function*() {
        const write = yield* SourceRun.schema("cut_short", tables())
        const { ask, begins, control, looked, mirror, pg, reaches, request, start } = yield* pipeline("cut_short")
        yield* control.pauseCopies(true)
        const first = yield* start()
        yield* first.phase("a", "copying")
        yield* ask("a")
        yield* looked(2)
        yield* first.stop
        assert.strictEqual((yield* request("a"))?.state, "requested")
        assert.deepStrictEqual([...begins].sort(), ["a", "b"])

        yield* write("UPDATE a SET v = 1 WHERE id % 3 = 0; DELETE FROM a WHERE id % 5 = 0")
        const second = yield* start()
        yield* second.phase("a", "copying")
        yield* looked(2)
        assert.strictEqual(
          (yield* request("a"))?.state,
          "requested",
          "what was read before the request doesn't serve it"
        )
        yield* control.pauseCopies(false)
        yield* reaches("a", "done")
        yield* second.caughtUp
        assert.deepStrictEqual([...begins].sort(), ["a", "a", "a", "b", "b"])
        assert.deepStrictEqual(yield* mirror.differences(pg), [])
        yield* second.stop
      }))

    it.effect("that has left the publication is refused, so that the table is copied with what was missed when it is back", () =>
      Effect.gen(function*() {
        const write = yield* SourceRun.schema("gone", tables("CREATE PUBLICATION gone FOR TABLE a, b"))
        const { ask, begins, control, looked, mirror, pg, reaches, request, start } = yield* pipeline("gone", {
          check: "200 millis"
        })
        yield* control.pauseCopies(true)
        const first = yield* start()
        yield* first.phase("a", "copying")
        yield* ask("a")
        yield* looked(2)
        yield* write("ALTER PUBLICATION gone DROP TABLE a")
        yield* control.pauseCopies(false)
        yield* reaches("a", "refused")
        assert.include((yield* request("a"))?.message, "no longer publishes table gone.a")
        yield* write("INSERT INTO a VALUES (1000, 0, 'missed')")
        yield* write("ALTER PUBLICATION gone ADD TABLE ONLY a")
        assert.include(errorOf(yield* Effect.timeout(first.ended, "20 seconds")), { reason: "Fenced", table: "gone.a" })
        const second = yield* start()
        yield* until("a is copied again", () => begins.filter((table) => table === "a").length === 2)
        yield* second.phase("a", "streaming")
        yield* second.caughtUp
        assert.deepStrictEqual(yield* mirror.differences(pg), [])
        assert.deepStrictEqual([...begins].sort(), ["a", "a", "b"])
        yield* second.stop
      }))

    it.effect("that was altered without a trace in the log has the run begin anew, so that the copy isn't taken for one of the table as it was when that is undone", () =>
      Effect.gen(function*() {
        const write = yield* SourceRun.schema(
          "undone",
          `CREATE TYPE mood AS ENUM ('calm', 'glad'); CREATE TABLE a (id int PRIMARY KEY, m mood);
         INSERT INTO a SELECT i, 'calm' FROM generate_series(1, 20) i; CREATE TABLE b (id int PRIMARY KEY)`
        )
        const { ask, begins, mirror, pg, reaches, start } = yield* pipeline("undone")
        const first = yield* start()
        yield* first.phase("a", "streaming")
        yield* first.phase("b", "streaming")
        yield* write("ALTER TYPE mood RENAME VALUE 'calm' TO 'quiet'")
        yield* ask("a")
        const ended = errorOf(yield* Effect.timeout(first.ended, "20 seconds"))
        assert.include(ended, { reason: "Fenced", table: "undone.a" })
        assert.include(ended?.message, "a value of the enum of column m was renamed")
        yield* write("ALTER TYPE mood RENAME VALUE 'quiet' TO 'calm'")
        const second = yield* start()
        yield* reaches("a", "done")
        yield* second.caughtUp
        assert.deepStrictEqual(yield* mirror.differences(pg), [])
        assert.deepStrictEqual([...begins].sort(), ["a", "a", "b"])
        yield* second.stop
      }))
  })
})
