import { assert, layer } from "@effect/vitest"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { Element } from "@etl-stream/core/Element"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as Effect from "effect/Effect"
import * as fs from "node:fs/promises"
import * as os from "node:os"
import * as path from "node:path"
import * as Lsn from "../src/Lsn.ts"
import { Mirror } from "./Mirror.ts"
import * as SourceRun from "./SourceRun.ts"

const { Server } = SourceRun

/** Waits until the slot has confirmed at least what the server has written at this moment. */
const confirmed = (pg: EmbeddedPostgres.EmbeddedPostgres, slot: string) =>
  Effect.gen(function*() {
    const [row] = yield* pg.query("SELECT pg_current_wal_insert_lsn()::text AS lsn")
    yield* pg.query("SELECT confirmed_flush_lsn >= $2::pg_lsn AS done FROM pg_replication_slots WHERE slot_name = $1", [
      slot,
      row?.["lsn"]
    ]).pipe(Effect.repeat({ until: ([state]) => state?.["done"] === true }))
  })

const positionOf = (pg: EmbeddedPostgres.EmbeddedPostgres, slot: string) =>
  Effect.map(
    pg.query("SELECT confirmed_flush_lsn::text AS at FROM pg_replication_slots WHERE slot_name = $1", [slot]),
    ([row]) => Lsn.parse(String(row?.["at"])) ?? 0n
  )

/** Runs until everything has come and the slot has confirmed it, and stops. */
const confirmAll = Effect.fnUntraced(function*(name: string, mirror: Mirror, options: SourceRun.StartOptions = {}) {
  const pg = yield* Server
  const run = yield* SourceRun.start(name, mirror, options)
  yield* run.caughtUp
  yield* Effect.raceFirst(confirmed(pg, name), Effect.andThen(run.failure, Effect.never))
  yield* run.stop
})

/** The error that a run ends with before it has emitted anything. */
const refusal = Effect.fnUntraced(function*(name: string, mirror: Mirror, options: SourceRun.StartOptions = {}) {
  const elements: Array<Element["_tag"]> = []
  const each = (element: Element) => Effect.sync(() => elements.push(element._tag))
  const error: ConnectorError = yield* Effect.flatMap(
    SourceRun.start(name, mirror, { ...options, each }),
    (run) => run.failure
  )
  assert.deepStrictEqual(elements, [])
  return error
})

/** Runs under `onLost: resnapshot` until everything has come; returns the tables that were copied. */
const resnapshot = Effect.fnUntraced(function*(name: string, mirror: Mirror, options: SourceRun.StartOptions = {}) {
  const copied: Array<string> = []
  mirror.recopies = true
  yield* SourceRun.catchUp(name, mirror, {
    slot: { onLost: "resnapshot" },
    each: (element) => Effect.sync(() => element._tag === "SnapshotBegin" ? copied.push(element.table.table.name) : 0),
    ...options
  })
  return copied.sort()
})

layer(Server.layer, { excludeTestServices: true })("SlotContinuity", (it) => {
  it.effect("a slot that was dropped and created again is recognised; the pipeline halts before it emits anything, or copies again", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema(
        "recreated",
        "CREATE TABLE a (id int PRIMARY KEY, v int); CREATE TABLE b (id int PRIMARY KEY); INSERT INTO a VALUES (1, 1), (2, 2); INSERT INTO b VALUES (1)"
      )
      const mirror = new Mirror()
      yield* confirmAll("recreated", mirror)
      yield* write("UPDATE a SET v = 0; DELETE FROM b")
      yield* SourceRun.released(pg, "recreated")
      yield* pg.query("SELECT pg_drop_replication_slot('recreated')")
      yield* pg.query("SELECT pg_create_logical_replication_slot('recreated', 'pgoutput')")
      yield* write("INSERT INTO a VALUES (3, 3)")

      const before = yield* positionOf(pg, "recreated")
      for (let attempt = 0; attempt < 2; attempt++) {
        const error = yield* refusal("recreated", mirror)
        assert.strictEqual(error.reason, "Lost")
        assert.match(error.message, /slot recreated stands at .*, which this pipeline never confirmed/)
        assert.include(error.hint, "slot.onLost")
      }
      assert.strictEqual(yield* positionOf(pg, "recreated"), before)

      assert.deepStrictEqual(yield* resnapshot("recreated", mirror), ["a", "b"])
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
      // Once is enough.
      yield* write("INSERT INTO a VALUES (4, 4)")
      yield* confirmAll("recreated", mirror)
      yield* write("DELETE FROM a WHERE id = 1")
      yield* confirmAll("recreated", mirror)
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
    }))

  it.effect("a slot that somebody else advanced, or read from, is recognised, however little is missing", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema("moved", "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
      const mirror = new Mirror()
      yield* confirmAll("moved", mirror)
      yield* write("INSERT INTO t VALUES (2)")
      yield* SourceRun.released(pg, "moved")
      yield* pg.query("SELECT pg_replication_slot_advance('moved', pg_current_wal_lsn())")
      yield* write("INSERT INTO t VALUES (3)")
      assert.strictEqual((yield* refusal("moved", mirror)).reason, "Lost")
      assert.deepStrictEqual(yield* resnapshot("moved", mirror), ["t"])

      yield* confirmAll("moved", mirror)
      yield* write("INSERT INTO t VALUES (4)")
      const stolen = yield* pg.query(
        "SELECT count(*)::int AS n FROM pg_logical_slot_get_binary_changes('moved', NULL, NULL, 'proto_version', '1', 'publication_names', 'moved')"
      )
      assert.isAbove(Number(stolen[0]?.["n"]), 0)
      assert.strictEqual((yield* refusal("moved", mirror)).reason, "Lost")
      assert.deepStrictEqual(yield* resnapshot("moved", mirror), ["t"])
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
    }))

  it.effect("only the tables that lack changes are copied again", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema(
        "partly",
        "CREATE TABLE old (id int PRIMARY KEY); CREATE TABLE new (id int PRIMARY KEY); INSERT INTO old VALUES (1); INSERT INTO new VALUES (1)"
      )
      const mirror = new Mirror()
      yield* confirmAll("partly", mirror, { tables: ["partly.old"] })
      yield* write("INSERT INTO old VALUES (2)")
      yield* SourceRun.released(pg, "partly")
      yield* pg.query("SELECT pg_replication_slot_advance('partly', pg_current_wal_lsn())")
      // The copy of the new table begins behind the slot's new position. The run ends before anything is confirmed.
      mirror.recopies = true
      let copied = false
      const first = yield* SourceRun.start("partly", mirror, {
        slot: { onLost: "resnapshot" },
        snapshot: { parallel: 1 },
        acknowledge: () => 0n,
        each: (element) =>
          Effect.suspend(() => {
            if (copied) return Effect.never
            copied ||= element._tag === "SnapshotEnd"
            return Effect.void
          })
      })
      yield* first.until(() => copied)
      yield* first.stop
      yield* write("INSERT INTO old VALUES (3); INSERT INTO new VALUES (2)")
      const again = yield* resnapshot("partly", mirror)
      assert.strictEqual(again.length, 1)
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
    }))

  it.effect("the operator can say that nothing is missing, with the statement of the hint", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema("trusted", "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
      const mirror = new Mirror()
      const off = { heartbeat: { enabled: false } }
      yield* confirmAll("trusted", mirror, off)
      yield* write("INSERT INTO t VALUES (2)")
      yield* confirmAll("trusted", mirror, off)
      const error = yield* refusal("trusted", mirror)
      assert.strictEqual(error.reason, "Lost")
      const [, statement] = /say so to the pipeline: (SELECT .*)$/.exec(error.hint) ?? []
      yield* pg.query(statement ?? "")
      yield* write("INSERT INTO t VALUES (3)")
      yield* confirmAll("trusted", mirror)
      yield* confirmAll("trusted", mirror)
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
    }))

  it.effect("runs that are cut off at any time, with everything confirmed as soon as it may be, never take their own slot for another's", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema("own", "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (0)")
      const mirror = new Mirror()
      for (let round = 1; round <= 12; round++) {
        const run = yield* SourceRun.start("own", mirror, { heartbeat: { every: "10 millis" } })
        yield* write(`INSERT INTO t VALUES (${round})`)
        const cutAt = round % 4
        if (cutAt === 0) yield* Effect.raceFirst(confirmed(pg, "own"), Effect.andThen(run.failure, Effect.never))
        else if (cutAt === 1) yield* run.caughtUp
        else if (cutAt === 2) yield* run.copied
        yield* run.stop
      }
      yield* confirmAll("own", mirror)
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
    }))

  it.effect("a slot that is lost while the pipeline runs is told by the next run, or made anew by it", () =>
    Effect.gen(function*() {
      const limited = yield* EmbeddedPostgres.start({
        settings: { max_slot_wal_keep_size: "1MB", wal_keep_size: "0", min_wal_size: "32MB", max_wal_size: "32MB" }
      })
      yield* Effect.gen(function*() {
        const write = yield* SourceRun.schema(
          "limited",
          "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'x')"
        )
        const mirror = new Mirror()
        // A sink that stands still, so that nothing is confirmed.
        const lose = Effect.gen(function*() {
          const stalled = { at: 0n }
          const run = yield* SourceRun.start("limited", mirror, {
            slot: { onLost: "resnapshot" },
            acknowledge: () => stalled.at
          })
          yield* run.caughtUp
          yield* write("UPDATE t SET v = 'y'; CREATE TABLE IF NOT EXISTS filler (v text)")
          yield* Effect.repeat(
            Effect.gen(function*() {
              yield* write("INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 1000)")
              yield* limited.query("SELECT pg_switch_wal()")
              yield* limited.query("CHECKPOINT")
              return (yield* limited.query("SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'limited'"))[
                0
              ]
            }),
            { until: (row) => row?.["wal_status"] === "lost" }
          )
          const error = yield* run.failure
          assert.include(["Unreachable", "Fenced"], error.reason, error.message)
          yield* run.stop
        })
        mirror.recopies = true
        yield* lose
        yield* write("INSERT INTO t VALUES (2, 'z')")
        const error = yield* Effect.flip(SourceRun.start("limited", mirror, { tables: ["limited.t"] }))
        assert.strictEqual(error.reason, "Lost")
        assert.match(error.message, /slot limited was invalidated by the server/)
        assert.include(error.hint, "pg_drop_replication_slot('limited')")
        assert.deepStrictEqual(yield* resnapshot("limited", mirror, { tables: ["limited.t"] }), ["t"])
        assert.deepStrictEqual(
          (yield* mirror.differences(limited)).filter((difference) => !difference.includes("filler")),
          []
        )
      }).pipe(Effect.provideService(Server, limited))
    }))

  it.effect("a slot that was dropped is made anew under resnapshot, and every table is copied again", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema("dropped", "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
      const mirror = new Mirror()
      yield* confirmAll("dropped", mirror)
      yield* write("INSERT INTO t VALUES (2)")
      yield* SourceRun.released(pg, "dropped")
      yield* pg.query("SELECT pg_drop_replication_slot('dropped')")
      yield* write("DELETE FROM t WHERE id = 1")
      assert.deepStrictEqual(yield* resnapshot("dropped", mirror), ["t"])
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
    }))

  it.effect("a server that was restored to an earlier state is recognised, also after its log has grown beyond the sink's positions", () =>
    Effect.gen(function*() {
      const folder = yield* Effect.acquireRelease(
        Effect.promise(async () => {
          const made = await fs.mkdtemp(path.join(os.tmpdir(), "etl-stream-restored-"))
          await fs.chmod(made, 0o777)
          return made
        }),
        (made) => Effect.promise(() => fs.rm(made, { recursive: true, force: true, maxRetries: 3 }))
      )
      const dataDir = path.join(folder, "data")
      const kept = path.join(folder, "kept")
      const original = yield* EmbeddedPostgres.start({ dataDir, persistent: true })
      yield* Effect.gen(function*() {
        const write = yield* SourceRun.schema(
          "restored",
          "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)"
        )
        const mirror = new Mirror()
        yield* confirmAll("restored", mirror)
        yield* original.stop
        yield* Effect.promise(() => fs.cp(dataDir, kept, { recursive: true, preserveTimestamps: true }))
        yield* original.restart()
        yield* write("INSERT INTO t VALUES (2)")
        yield* SourceRun.catchUp("restored", mirror)
        assert.strictEqual(mirror.tables.get("restored.t")?.rows.size, 2)

        yield* original.stop
        const { gid, uid } = yield* Effect.promise(() => fs.stat(dataDir))
        yield* Effect.promise(async () => {
          await fs.rm(dataDir, { recursive: true })
          await fs.cp(kept, dataDir, { recursive: true })
          const all = await fs.readdir(dataDir, { recursive: true })
          for (const file of all) await fs.lchown(path.join(dataDir, file), uid, gid)
          await fs.chown(dataDir, uid, gid)
          await fs.chmod(dataDir, 0o700)
        })
        yield* original.restart()
        // Another history, which goes beyond what the sink holds.
        yield* write("INSERT INTO t SELECT generate_series(10, 2000)")
        const error = yield* refusal("restored", mirror)
        assert.strictEqual(error.reason, "Lost")
        assert.match(error.message, /log lacks transactions that the sink holds of restored\.t/)
        assert.deepStrictEqual(yield* resnapshot("restored", mirror), ["t"])
        assert.deepStrictEqual(yield* mirror.differences(original), [])
      }).pipe(Effect.provideService(Server, original))
    }))
})
