import { assert, describe, it } from "@effect/vitest"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as FaultProxy from "@etl-stream/testkit/FaultProxy"
import * as Standby from "@etl-stream/testkit/Standby"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { Mirror } from "./Mirror.ts"
import * as SourceRun from "./SourceRun.ts"

const { Server } = SourceRun

/** Waits until the standby's copy of the slot has confirmed `position`. */
const synced = (
  primary: EmbeddedPostgres.EmbeddedPostgres,
  standby: Standby.Standby,
  slot: string,
  position: unknown
) =>
  Effect.andThen(
    // A copy becomes whole when the slot's beginning moves; without this the server does that every 15 seconds.
    primary.query("SELECT pg_log_standby_snapshot()"),
    standby.query(
      `SELECT synced AND NOT temporary AND confirmed_flush_lsn >= $2::pg_lsn AS done FROM pg_replication_slots WHERE slot_name = $1`,
      [slot, position]
    )
  ).pipe(Effect.repeat({ until: ([row]) => row?.["done"] === true, schedule: Schedule.spaced("100 millis") }))

const logEnd = (pg: EmbeddedPostgres.EmbeddedPostgres) =>
  Effect.map(pg.query("SELECT pg_current_wal_insert_lsn()::text AS lsn"), ([row]) => row?.["lsn"])

/** A primary with a standby that keeps its failover slots, and a proxy in front of whichever serves. */
const landscape = Effect.fnUntraced(function*(waitForStandby: boolean) {
  const primary = yield* EmbeddedPostgres.start()
  const standby = yield* Standby.start(primary, { sync_replication_slots: "on" })
  if (waitForStandby) {
    yield* primary.query(`ALTER SYSTEM SET synchronized_standby_slots = '${standby.slot}'`)
    yield* primary.query("SELECT pg_reload_conf()")
  }
  const proxy = yield* FaultProxy.start({ host: primary.host, port: primary.port })
  return {
    primary,
    standby,
    proxy,
    url: primary.url.replace(`:${primary.port}/`, `:${proxy.port}/`),
    failOver: Effect.gen(function*() {
      yield* primary.kill
      yield* standby.query("SELECT pg_promote()")
      yield* proxy.retarget({ host: standby.host, port: standby.port })
    })
  }
})

const slotsFollow = () => {
  it.live("the pipeline goes on at the promoted standby, every row equal", () =>
    Effect.gen(function*() {
      const { failOver, primary, standby, url } = yield* landscape(true)
      const options = { url, slot: { failover: true, wait: "30 seconds" } }
      const mirror = new Mirror()
      yield* Effect.gen(function*() {
        const write = yield* SourceRun.schema(
          "kept",
          "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, 0 FROM generate_series(1, 1000) i"
        )
        const run = yield* SourceRun.start("kept", mirror, options)
        yield* write("UPDATE t SET v = 1 WHERE id < 500")
        yield* run.caughtUp
        yield* Effect.raceFirst(
          synced(primary, standby, "kept", yield* logEnd(primary)),
          Effect.andThen(run.failure, Effect.never)
        )
        // Beyond what the standby's copy of the slot has confirmed.
        yield* write("DELETE FROM t WHERE id % 7 = 0; UPDATE t SET id = id + 5000 WHERE id < 20")
        yield* run.caughtUp
        yield* failOver
        assert.strictEqual((yield* run.failure).reason, "Unreachable")
        yield* run.stop
      }).pipe(Effect.provideService(Server, primary))
      yield* Effect.gen(function*() {
        const write = SourceRun.write(standby, "kept")
        yield* write("INSERT INTO t VALUES (20000, 3); UPDATE t SET v = v + 1 WHERE id > 900")
        yield* SourceRun.catchUp("kept", mirror, options)
        assert.deepStrictEqual(yield* mirror.differences(standby), [])
        yield* write("DELETE FROM t WHERE id = 20000")
        yield* SourceRun.catchUp("kept", mirror, options)
        assert.deepStrictEqual(yield* mirror.differences(standby), [])
      }).pipe(Effect.provideService(Server, standby))
    }).pipe(Effect.scoped))

  it.live("changes that the promoted standby never had are recognised, also after its log has grown beyond them", () =>
    Effect.gen(function*() {
      const { failOver, primary, standby, url } = yield* landscape(false)
      const options = { url, slot: { failover: true, wait: "30 seconds" } }
      const mirror = new Mirror()
      yield* Effect.gen(function*() {
        const write = yield* SourceRun.schema(
          "phantom",
          "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)"
        )
        const run = yield* SourceRun.start("phantom", mirror, options)
        yield* run.caughtUp
        yield* Effect.raceFirst(
          synced(primary, standby, "phantom", yield* logEnd(primary)),
          Effect.andThen(run.failure, Effect.never)
        )
        yield* standby.stop
        yield* write("INSERT INTO t VALUES (2)")
        yield* run.until(() => mirror.tables.get("phantom.t")?.rows.size === 2)
        yield* primary.kill
        yield* run.failure
        yield* run.stop
        yield* standby.restart()
        yield* failOver
      }).pipe(Effect.provideService(Server, primary))
      yield* Effect.gen(function*() {
        yield* SourceRun.write(standby, "phantom")("INSERT INTO t SELECT generate_series(10, 3000)")
        const error = yield* Effect.flatMap(SourceRun.start("phantom", mirror, options), (run) => run.failure)
        assert.strictEqual(error.reason, "Lost")
        assert.match(error.message, /lacks transactions that the sink holds of phantom\.t/)
        mirror.recopies = true
        yield* SourceRun.catchUp("phantom", mirror, { ...options, slot: { ...options.slot, onLost: "resnapshot" } })
        assert.deepStrictEqual(yield* mirror.differences(standby), [])
      }).pipe(Effect.provideService(Server, standby))
    }).pipe(Effect.scoped))

  it.live("a slot that exists already becomes one that standbys keep", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPostgres.start()
      yield* Effect.gen(function*() {
        yield* SourceRun.schema("changed", "CREATE TABLE t (id int PRIMARY KEY)")
        const mirror = new Mirror()
        const failover = Effect.map(
          pg.query("SELECT failover FROM pg_replication_slots WHERE slot_name = 'changed'"),
          ([row]) => row?.["failover"]
        )
        yield* SourceRun.catchUp("changed", mirror)
        assert.isFalse(yield* failover)
        yield* SourceRun.catchUp("changed", mirror, { slot: { failover: true } })
        assert.isTrue(yield* failover)
        yield* SourceRun.catchUp("changed", mirror)
        assert.isFalse(yield* failover)
      }).pipe(Effect.provideService(Server, pg))
    }).pipe(Effect.scoped))
}

const olderServer = () => {
  it.live("they are refused with the version that has them", () =>
    Effect.gen(function*() {
      const pg = yield* EmbeddedPostgres.start()
      yield* pg.query("CREATE SCHEMA old; CREATE TABLE old.t (id int PRIMARY KEY)")
      const error = yield* Effect.flip(SourceRun.start("old", new Mirror(), { slot: { failover: true } })).pipe(
        Effect.provideService(Server, pg)
      )
      assert.strictEqual(error.reason, "Unsupported")
      assert.match(error.message, /slot\.failover needs PostgreSQL 17/)
    }).pipe(Effect.scoped))
}

describe("failover slots", () => {
  if (EmbeddedPostgres.version >= 17) slotsFollow()
  else olderServer()
})
