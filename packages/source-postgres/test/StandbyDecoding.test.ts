import { assert, describe, it } from "@effect/vitest"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as Standby from "@etl-stream/testkit/Standby"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { Mirror } from "./Mirror.ts"
import * as SourceRun from "./SourceRun.ts"

const { Server } = SourceRun

const confirmed = (standby: Standby.Standby, slot: string) =>
  Effect.map(
    standby.query("SELECT confirmed_flush_lsn - '0/0' AS at FROM pg_replication_slots WHERE slot_name = $1", [slot]),
    ([row]) => BigInt(String(row?.["at"] ?? 0))
  )

const decoding = () => {
  it.live("copies and streams from a standby while the primary is written to, and goes on after a crash of the standby and its promotion", () =>
    Effect.gen(function*() {
      const primary = yield* EmbeddedPostgres.start()
      const standby = yield* Standby.start(primary)
      const options = { url: standby.url, primary: { url: primary.url }, slot: { wait: "30 seconds" } }
      const mirror = new Mirror()
      yield* Effect.gen(function*() {
        const write = yield* SourceRun.schema(
          "near",
          `CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, 0 FROM generate_series(1, 5000) i;
           CREATE TABLE keyless (v int); ALTER TABLE keyless REPLICA IDENTITY FULL; INSERT INTO keyless SELECT generate_series(1, 100)`
        )
        const writing = { stop: false }
        const writer = yield* Effect.gen(function*() {
          for (let round = 0; !writing.stop; round++) {
            const id = 1 + (round * 37) % 5000
            yield* write(
              `UPDATE t SET v = v + 1 WHERE id BETWEEN ${id} AND ${id + 5}; INSERT INTO t VALUES (${10000 + round}, 1);
              DELETE FROM t WHERE id = ${id + 7}; INSERT INTO keyless VALUES (${round})`
            )
          }
        }).pipe(Effect.forkScoped)
        const run = yield* SourceRun.start("near", mirror, options)
        yield* run.until(() => mirror.watermarks.length > 10)
        writing.stop = true
        yield* Fiber.join(writer)
        yield* run.caughtUp
        assert.deepStrictEqual(yield* mirror.differences(primary), [])
        assert.deepStrictEqual(
          yield* primary.query("SELECT slot_name FROM pg_replication_slots WHERE slot_type = 'logical'"),
          []
        )
        // An idle slot advances there, too.
        const before = yield* confirmed(standby, "near")
        yield* Effect.raceFirst(
          Effect.repeat(confirmed(standby, "near"), { until: (at) => at > before }),
          Effect.andThen(run.failure, Effect.never)
        )
        yield* standby.kill
        assert.strictEqual((yield* run.failure).reason, "Unreachable")
        yield* run.stop
        yield* write("UPDATE t SET id = -id WHERE id < 10")
        yield* standby.restart()
        yield* SourceRun.catchUp("near", mirror, options)
        assert.deepStrictEqual(yield* mirror.differences(primary), [])

        // Changes that only somebody else has seen are noticed on a standby as well.
        yield* write("UPDATE t SET v = 0 WHERE id > 4000")
        yield* standby.query("SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn AS done", [
          (yield* primary.query("SELECT pg_current_wal_lsn()::text AS lsn"))[0]?.["lsn"]
        ]).pipe(Effect.repeat({ until: ([row]) => row?.["done"] === true }))
        yield* standby.query("SELECT pg_replication_slot_advance('near', pg_last_wal_replay_lsn())")
        const error = yield* Effect.flatMap(SourceRun.start("near", mirror, options), (again) => again.failure)
        assert.strictEqual(error.reason, "Lost")
        mirror.recopies = true
        const resnapshot = { ...options, slot: { ...options.slot, onLost: "resnapshot" } }
        yield* SourceRun.catchUp("near", mirror, resnapshot)
        assert.deepStrictEqual(yield* mirror.differences(primary), [])
        yield* primary.kill
      }).pipe(Effect.provideService(Server, primary))
      mirror.recopies = false
      yield* standby.query("SELECT pg_promote()")
      yield* Effect.gen(function*() {
        yield* SourceRun.write(standby, "near")("INSERT INTO t VALUES (99999, 9); DELETE FROM keyless WHERE v > 50")
        yield* SourceRun.catchUp("near", mirror, { url: standby.url, slot: { wait: "30 seconds" } })
        assert.deepStrictEqual(yield* mirror.differences(standby), [])
      }).pipe(Effect.provideService(Server, standby))
    }).pipe(Effect.scoped))
}

const olderServer = () => {
  it.live("a standby is refused with the version that can be read from", () =>
    Effect.gen(function*() {
      const primary = yield* EmbeddedPostgres.start()
      const standby = yield* Standby.start(primary)
      const error = yield* Effect.flip(
        SourceRun.start("old", new Mirror(), { url: standby.url, primary: { url: primary.url }, tables: ["public.*"] })
      ).pipe(Effect.provideService(Server, primary))
      assert.match(error.message, /standby that runs PostgreSQL 1[45]/)
    }).pipe(Effect.scoped))
}

describe("StandbyDecoding", () => {
  if (EmbeddedPostgres.version >= 16) decoding()
  else olderServer()
})
