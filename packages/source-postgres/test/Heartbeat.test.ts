import { assert, layer } from "@effect/vitest"
import * as Progress from "@etl-stream/core/Progress"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as FaultProxy from "@etl-stream/testkit/FaultProxy"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Metric from "effect/Metric"
import * as Schedule from "effect/Schedule"
import * as HeartbeatRecord from "../src/HeartbeatRecord.ts"
import * as Lsn from "../src/Lsn.ts"
import * as Metrics from "../src/Metrics.ts"
import { Mirror } from "./Mirror.ts"
import * as SourceRun from "./SourceRun.ts"

const { Server } = SourceRun

const slotPosition = (slot: string) =>
  Effect.gen(function*() {
    const pg = yield* Server
    const [row] = yield* pg.query(
      "SELECT confirmed_flush_lsn::text AS at FROM pg_replication_slots WHERE slot_name = $1",
      [slot]
    )
    return Lsn.parse(String(row?.["at"])) ?? 0n
  })

const logEnd = Effect.gen(function*() {
  const pg = yield* Server
  const [row] = yield* pg.query("SELECT pg_current_wal_insert_lsn()::text AS lsn")
  return Lsn.parse(String(row?.["lsn"])) ?? 0n
})

const slotReaches = (slot: string, position: bigint) =>
  Effect.repeat(slotPosition(slot), { until: (at) => at >= position })

/** A sink that takes nothing while it is closed. */
const gate = () => {
  const latch = Latch.makeUnsafe(true)
  return { each: () => latch.await, close: latch.close, open: latch.open }
}

layer(Server.layer, { excludeTestServices: true })("Heartbeat", (it) => {
  it.effect("the slot of a database where nothing happens at all advances, and heartbeats are no elements", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema("still", "CREATE TABLE t (id int PRIMARY KEY)")
      const mirror = new Mirror()
      const messages: Array<string> = []
      const run = yield* SourceRun.start("still", mirror, {
        messages: ["*"],
        each: (element) => Effect.sync(() => element._tag === "Message" ? messages.push(element.prefix) : 0)
      })
      yield* run.caughtUp
      for (let round = 0; round < 3; round++) {
        const before = yield* slotPosition("still")
        yield* Effect.raceFirst(slotReaches("still", before + 1n), Effect.andThen(run.failure, Effect.never))
      }
      // Messages of applications are, and so is nothing of another pipeline.
      yield* pg.query(`SELECT pg_logical_emit_message(true, 'app', 'x'), pg_logical_emit_message(false, 'app 2', 'y'),
        pg_logical_emit_message(true, '${HeartbeatRecord.prefix}', 'not ours')`)
      yield* write("INSERT INTO t VALUES (1)")
      yield* run.caughtUp
      assert.deepStrictEqual(messages.sort(), ["app", "app 2"])
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
    }))

  it.effect("the slot advances when only tables change that aren't replicated", () =>
    Effect.gen(function*() {
      yield* SourceRun.schema("foreign_only", "CREATE TABLE t (id int PRIMARY KEY)")
      const mirror = new Mirror()
      const run = yield* SourceRun.start("foreign_only", mirror)
      yield* run.caughtUp
      const pg = yield* Server
      yield* pg.query("CREATE TABLE public.not_ours AS SELECT generate_series(1, 20000)")
      const end = yield* logEnd
      yield* Effect.raceFirst(slotReaches("foreign_only", end), Effect.andThen(run.failure, Effect.never))
      assert.deepStrictEqual(mirror.seen, [])
    }))

  it.effect("nothing is confirmed that isn't acknowledged, however many heartbeats go round", () =>
    Effect.gen(function*() {
      const write = yield* SourceRun.schema("unacknowledged", "CREATE TABLE t (id int PRIMARY KEY)")
      const mirror = new Mirror()
      let acknowledged = 0n
      const run = yield* SourceRun.start("unacknowledged", mirror, {
        heartbeat: { every: "20 millis" },
        acknowledge: () => acknowledged
      })
      yield* run.caughtUp
      const begin = yield* slotPosition("unacknowledged")
      yield* write("INSERT INTO t VALUES (1)")
      const end = yield* logEnd
      yield* run.caughtUp
      yield* run.until(() => (mirror.watermarks.at(-1) ?? 0n) > end + 1000n)
      assert.strictEqual(yield* slotPosition("unacknowledged"), begin)
      acknowledged = mirror.watermarks.find((position) => position >= end) ?? 0n
      yield* Effect.raceFirst(
        slotReaches("unacknowledged", acknowledged),
        Effect.andThen(run.failure, Effect.never)
      )
      assert.strictEqual(yield* slotPosition("unacknowledged"), acknowledged)
    }))

  it.effect("heartbeats that don't come back are a condition until they do, and their delay is a metric", () =>
    Effect.gen(function*() {
      const write = yield* SourceRun.schema("late", "CREATE TABLE t (id int PRIMARY KEY)")
      const mirror = new Mirror()
      const progress = Progress.make("late")
      const sink = gate()
      const run = yield* SourceRun.start("late", mirror, {
        heartbeat: { every: "100 millis" },
        progress,
        each: sink.each
      })
      yield* run.caughtUp
      const names = () => progress.snapshot(0).conditions.map(({ name }) => name)
      // A server that stood still for a moment may have been late before.
      yield* run.until(() => names().length === 0)
      yield* sink.close
      yield* write("INSERT INTO t SELECT generate_series(1, 100)")
      yield* run.until(() => names().includes("heartbeat-late"))
      // The one that is late tells so; those after it may be back within a millisecond.
      const delay = yield* Metric.value(Metrics.forPipeline("late").heartbeatDelay).pipe(
        Effect.repeat({ schedule: Schedule.spaced("1 millis"), until: ({ value }) => Number(value) > 0 }),
        Effect.forkScoped({ startImmediately: true })
      )
      yield* sink.open
      yield* run.until(() => !names().includes("heartbeat-late"))
      yield* run.caughtUp
      assert.isAbove(Number((yield* Fiber.join(delay)).value), 0)
      const pg = yield* Server
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
    }))

  it.effect("a role that may not write messages is told at the start, with the statement that lets it", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      yield* SourceRun.schema("mute", "CREATE TABLE t (id int PRIMARY KEY)")
      yield* pg.query(`CREATE ROLE mute LOGIN REPLICATION PASSWORD 'secret';
        GRANT CREATE ON DATABASE postgres TO mute; GRANT USAGE ON SCHEMA mute TO mute; ALTER TABLE mute.t OWNER TO mute`)
      const [row] = yield* pg.query(
        "SELECT oid::regprocedure::text AS f FROM pg_proc WHERE proname = 'pg_logical_emit_message' AND proargtypes[2] = 'text'::regtype"
      )
      const emit = String(row?.["f"])
      yield* pg.query(`REVOKE EXECUTE ON FUNCTION ${emit} FROM PUBLIC`)
      yield* Effect.gen(function*() {
        const options = { url: pg.urlOf({ user: "mute", password: "secret" }) }
        const error = yield* Effect.flip(SourceRun.start("mute", new Mirror(), options))
        assert.strictEqual(error.reason, "Forbidden")
        const [grant] = /GRANT EXECUTE ON FUNCTION .* TO "mute"/.exec(error.hint) ?? []
        yield* SourceRun.catchUp("mute", new Mirror(), { ...options, heartbeat: { enabled: false } })
        yield* pg.query(grant ?? "")
        yield* SourceRun.catchUp("mute", new Mirror(), options)
      }).pipe(Effect.ensuring(Effect.orDie(pg.query(`GRANT EXECUTE ON FUNCTION ${emit} TO PUBLIC`))))
    }))

  it.effect("a fast shutdown doesn't wait for a pipeline whose sink stands still; nothing is lost or doubled after it", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPostgres.start()
      yield* Effect.gen(function*() {
        const write = yield* SourceRun.schema(
          "stopping",
          "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (0, 'x')"
        )
        const mirror = new Mirror()
        const sink = gate()
        const run = yield* SourceRun.start("stopping", mirror, { each: sink.each })
        yield* run.caughtUp
        yield* sink.close
        // More than the buffers of the way hold: the walsender waits in a send.
        yield* write("INSERT INTO t SELECT i, repeat(md5(i::text), 100) FROM generate_series(1, 20000) i")
        const before = performance.now()
        yield* pg.stop
        // The testkit would cut it off after ten.
        assert.isBelow(performance.now() - before, 9000)
        yield* sink.open
        assert.strictEqual((yield* run.failure).reason, "Unreachable")
        yield* run.stop
        yield* pg.restart()
        yield* write("UPDATE t SET v = 'y' WHERE id = 0")
        yield* SourceRun.catchUp("stopping", mirror)
        assert.deepStrictEqual(yield* mirror.differences(pg), [])

        // An idle one is as quick.
        const idle = yield* SourceRun.start("stopping", mirror, { acknowledge: () => 0n })
        yield* idle.caughtUp
        const again = performance.now()
        yield* pg.stop
        assert.isBelow(performance.now() - again, 9000)
        assert.strictEqual((yield* idle.failure).reason, "Unreachable")
        yield* idle.stop
      }).pipe(Effect.provideService(Server, pg))
    }))

  it.effect("crashes of the server in the stream lose and double nothing", () =>
    Effect.gen(function*() {
      // Without fsync a test's crash is one of the processes, not of the machine.
      const pg = yield* EmbeddedPostgres.start()
      yield* Effect.gen(function*() {
        const write = yield* SourceRun.schema("crashing", "CREATE TABLE t (id int PRIMARY KEY, v int)")
        const mirror = new Mirror()
        for (let round = 1; round <= 3; round++) {
          const run = yield* SourceRun.start("crashing", mirror, { heartbeat: { every: "20 millis" } })
          yield* write(`INSERT INTO t SELECT i, ${round} FROM generate_series(${round} * 1000, ${round} * 1000 + 500) i;
            UPDATE t SET v = -v WHERE id % 3 = 0`)
          const end = yield* logEnd
          yield* run.until(() => (mirror.watermarks.at(-1) ?? 0n) >= end)
          if (round > 1) {
            yield* Effect.raceFirst(slotReaches("crashing", end), Effect.andThen(run.failure, Effect.never))
          }
          yield* pg.kill
          assert.strictEqual((yield* run.failure).reason, "Unreachable")
          yield* run.stop
          yield* pg.restart()
        }
        yield* SourceRun.catchUp("crashing", mirror)
        assert.deepStrictEqual(yield* mirror.differences(pg), [])
      }).pipe(Effect.provideService(Server, pg))
    }))

  it.effect("a network that cuts connections, refuses them, or swallows everything: the pipeline goes on where it was", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema(
        "network",
        "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (0, 0)"
      )
      const proxy = yield* FaultProxy.start({ host: pg.host, port: pg.port })
      const url = pg.url.replace(`:${pg.port}/`, `:${proxy.port}/`)
      const mirror = new Mirror()
      for (let round = 1; round <= 4; round++) {
        const run = yield* SourceRun.start("network", mirror, { url, slot: { wait: "30 seconds" } })
        yield* write(`INSERT INTO t VALUES (${round}, 0); UPDATE t SET v = v + 1`)
        yield* run.caughtUp
        if (round === 4) {
          yield* proxy.stall
          yield* write("UPDATE t SET v = v + 1")
          const before = performance.now()
          yield* run.stop
          // A peer that doesn't answer isn't waited for.
          assert.isBelow(performance.now() - before, 20_000)
          yield* proxy.cut
          yield* proxy.resume
          continue
        }
        yield* round === 1 ? proxy.cut : proxy.refuse
        assert.strictEqual((yield* run.failure).reason, "Unreachable")
        yield* proxy.resume
        yield* run.stop
      }
      yield* SourceRun.catchUp("network", mirror, { url })
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
    }))

  it.effect("log that the server is about to take away from the slot is a condition", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPostgres.start({
        settings: { max_slot_wal_keep_size: "32MB", min_wal_size: "32MB", max_wal_size: "1GB" }
      })
      yield* Effect.gen(function*() {
        const write = yield* SourceRun.schema("risk", "CREATE TABLE t (id int PRIMARY KEY, v text)")
        const mirror = new Mirror()
        const progress = Progress.make("risk")
        let stalled = true
        const run = yield* SourceRun.start("risk", mirror, {
          heartbeat: { every: "100 millis" },
          progress,
          acknowledge: () => stalled ? 0n : mirror.acknowledged
        })
        yield* run.caughtUp
        const names = () => progress.snapshot(0).conditions.map(({ name }) => name)
        let id = 0
        while (!names().includes("slot-at-risk")) {
          yield* write(`INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(${id + 1}, ${id += 4000}) i`)
          yield* run.caughtUp
        }
        const { value } = yield* Metric.value(Metrics.forPipeline("risk").slotSafeSize)
        assert.isBelow(Number(value), 32 * 1024 * 1024)
        // The sink goes on before a checkpoint does harm.
        stalled = false
        while (names().includes("slot-at-risk")) {
          // Lets slots advance their beginning, as the server does by itself every 15 seconds.
          yield* pg.query(
            "SELECT pg_create_logical_replication_slot('nudge', 'pgoutput'), pg_drop_replication_slot('nudge')"
          )
          yield* run.caughtUp
        }
        assert.deepStrictEqual(yield* mirror.differences(pg), [])
      }).pipe(Effect.provideService(Server, pg))
    }))
})
