import { assert, layer } from "@effect/vitest"
import type { SourceSpool } from "@etl-stream/core/Source"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as HeartbeatRecord from "../src/HeartbeatRecord.ts"
import * as Lsn from "../src/Lsn.ts"
import * as PostgresSource from "../src/PostgresSource.ts"
import { Mirror } from "./Mirror.ts"
import * as SourceRun from "./SourceRun.ts"

const { Server } = SourceRun

const spoolOf = (more: Partial<SourceSpool>): SourceSpool => ({
  id: "mine",
  directory: "/spool",
  position: 0n,
  damage: undefined,
  commits: new Map(),
  kept: () => 0n,
  ...more
})

const positionOf = (slot: string) =>
  Effect.gen(function*() {
    const pg = yield* Server
    const [row] = yield* pg.query(
      "SELECT confirmed_flush_lsn::text AS at FROM pg_replication_slots WHERE slot_name = $1",
      [
        slot
      ]
    )
    return Lsn.parse(String(row?.["at"])) ?? 0n
  })

/** Runs until the slot has confirmed what is written now. */
const confirmAll = Effect.fnUntraced(function*(name: string, mirror: Mirror, options: SourceRun.StartOptions = {}) {
  const pg = yield* Server
  const run = yield* SourceRun.start(name, mirror, options)
  yield* run.caughtUp
  const [row] = yield* pg.query("SELECT pg_current_wal_insert_lsn()::text AS lsn")
  const end = Lsn.parse(String(row?.["lsn"])) ?? 0n
  yield* Effect.raceFirst(
    Effect.repeat(positionOf(name), { until: (position) => position >= end }),
    Effect.andThen(run.failure, Effect.never)
  )
  yield* run.stop
})

/** The error that a run ends with before it has emitted anything; undefined when it catches up. */
const failure = Effect.fnUntraced(function*(name: string, mirror: Mirror, options: SourceRun.StartOptions) {
  const run = yield* SourceRun.start(name, mirror, options)
  const error = yield* Effect.raceFirst(Effect.as(run.caughtUp, undefined), run.failure).pipe(
    Effect.catch((error) => Effect.succeed(error))
  )
  yield* run.stop
  return error
})

layer(Server.layer, { excludeTestServices: true })("a source with a spool", (it) => {
  it.effect("moves its slot on while the sink stands still, and then needs that spool, up to there, until the sink has it", () =>
    Effect.gen(function*() {
      const write = yield* SourceRun.schema("spooled", "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
      const mirror = new Mirror()
      yield* confirmAll("spooled", mirror)
      const before = yield* positionOf("spooled")
      yield* write("INSERT INTO t VALUES (2)")
      // The sink has nothing of it; a spool has.
      yield* confirmAll("spooled", mirror, {
        acknowledge: () => before,
        spool: spoolOf({ kept: () => mirror.acknowledged })
      })
      const confirmed = yield* positionOf("spooled")
      assert.isTrue(confirmed > before)

      const stuck = { acknowledge: () => 0n }
      const none = yield* failure("spooled", mirror, stuck)
      assert.strictEqual(none?.reason, "Lost")
      assert.match(none?.message ?? "", /only kept in the spool mine, but the pipeline has no spool now/)
      assert.include(none?.hint ?? "", "spool.directory")
      const other = yield* failure("spooled", mirror, {
        ...stuck,
        spool: spoolOf({ id: "other", position: confirmed })
      })
      assert.match(other?.message ?? "", /the spool in \/spool is another one/)
      const short = yield* failure("spooled", mirror, {
        ...stuck,
        spool: spoolOf({ position: confirmed - 1n, damage: "segment 3 is missing" })
      })
      assert.match(short?.message ?? "", /it ends at .* \(segment 3 is missing\)/)
      assert.strictEqual(yield* positionOf("spooled"), confirmed)
      const whole = { ...stuck, spool: spoolOf({ position: confirmed, kept: () => confirmed }) }
      assert.isUndefined(yield* failure("spooled", mirror, whole))

      // Once the sink has it, nobody needs the spool.
      yield* write("INSERT INTO t VALUES (3)")
      yield* confirmAll("spooled", mirror, { spool: spoolOf({ position: confirmed }) })
      assert.isUndefined(yield* failure("spooled", mirror, {}))
    }))

  it.effect("misses transactions that the spool has beyond the slot when the server's log lacks them", () =>
    Effect.gen(function*() {
      const write = yield* SourceRun.schema("beyond", "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
      const mirror = new Mirror()
      yield* confirmAll("beyond", mirror)
      const at = yield* positionOf("beyond")
      yield* write("INSERT INTO t VALUES (2)")
      // No transaction ends at a position that isn't a multiple of 8.
      const error = yield* failure("beyond", mirror, {
        spool: spoolOf({ position: at + 2n, commits: new Map([["beyond.t", at + 1n]]) })
      })
      assert.strictEqual(error?.reason, "Lost")
      assert.match(error?.message ?? "", /log lacks transactions that the sink, or the spool, holds of beyond\.t/)
    }))

  it.effect("refuses a server whose log ends before what the spool has, also where lost tables are copied again", () =>
    Effect.gen(function*() {
      yield* SourceRun.schema("behind", "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
      const mirror = new Mirror()
      yield* confirmAll("behind", mirror)
      const at = yield* positionOf("behind")
      const position = at + (1n << 32n)
      const error = yield* failure("behind", mirror, {
        slot: { onLost: "resnapshot" },
        spool: spoolOf({ position, kept: () => position })
      })
      assert.strictEqual(error?.reason, "Lost")
      assert.match(error?.message ?? "", /up to where the spool in \/spool has changes/)
      assert.isTrue((yield* positionOf("behind")) < position)
    }))

  it.effect("can't have one while heartbeats are off", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const spoolable = (enabled: boolean) =>
        Effect.flatMap(
          PostgresSource.make(SourceRun.settings({ url: pg.url, tables: ["x.*"], heartbeat: { enabled } }, "x")),
          ({ spoolable }) => spoolable ?? Effect.die("unknown")
        )
      yield* spoolable(true)
      assert.strictEqual((yield* Effect.flip(spoolable(false))).reason, "Misconfigured")
    }))

  it.effect("holds its copies up before the next chunk while changes stream, and goes on with them", () =>
    Effect.gen(function*() {
      const write = yield* SourceRun.schema("paused", "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
      const gate = Latch.makeUnsafe(false)
      const seen: Array<string> = []
      const mirror = new Mirror()
      const run = yield* SourceRun.start("paused", mirror, {
        copiesGoOn: gate.await,
        each: (element) => Effect.sync(() => void seen.push(element._tag))
      })
      yield* run.until(() => seen.includes("SnapshotBegin"))
      yield* write("INSERT INTO t VALUES (2)")
      yield* run.until(() => seen.includes("Rows"))
      assert.isFalse(seen.includes("SnapshotRows"))
      gate.openUnsafe()
      yield* run.caughtUp
      assert.isTrue(seen.includes("SnapshotEnd"))
      assert.deepStrictEqual(yield* mirror.differences(yield* Server), [])
      yield* run.stop
    }))

  it.effect("writes records that an earlier version doesn't take for a proof", () =>
    Effect.sync(() => {
      const fields = { pipeline: "p", slot: "s", run: "r", at: 1, confirmed: "0/20" }
      const parse = (record: HeartbeatRecord.Record) =>
        HeartbeatRecord.parse(new TextEncoder().encode(JSON.stringify(record)))
      const plain = parse({ version: 1, ...fields }) ?? assert.fail("no record")
      assert.deepStrictEqual([HeartbeatRecord.durable(plain), HeartbeatRecord.spool(plain)], [0x20n, undefined])
      const kept = parse({ version: 2, ...fields, durable: "0/10", spool: "mine" }) ?? assert.fail("no record")
      assert.strictEqual(kept.version, 2)
      assert.deepStrictEqual([HeartbeatRecord.confirmed(kept), HeartbeatRecord.durable(kept)], [0x20n, 0x10n])
      assert.strictEqual(HeartbeatRecord.spool(kept), "mine")
    }))
})
