import { assert, layer } from "@effect/vitest"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { Element } from "@etl-stream/core/Element"
import * as Progress from "@etl-stream/core/Progress"
import type { Quarantine } from "@etl-stream/core/Quarantine"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import { Mirror } from "./Mirror.ts"
import * as SourceRun from "./SourceRun.ts"

const { Server } = SourceRun

const small = { chunkBytes: 8192, fetchRows: 50, parallel: 2 }

/** Writes again and again, one transaction after another, until it is told to stop. */
const busy = (sql: (round: number) => string) =>
  Effect.gen(function*() {
    const pg = yield* Server
    const state = { stop: false, rounds: 0 }
    const fiber = yield* Effect.gen(function*() {
      while (!state.stop) yield* Effect.orDie(pg.query(sql(state.rounds++)))
    }).pipe(Effect.forkScoped)
    return { rounds: () => state.rounds, stop: Effect.suspend(() => ((state.stop = true), Fiber.join(fiber))) }
  })

/** Which tables' copies began, in order. */
const begins = () => {
  const names: Array<string> = []
  const each = (element: Element): Effect.Effect<void> =>
    Effect.sync(() => {
      if (element._tag === "SnapshotBegin") names.push(element.table.table.name)
    })
  return { names, each }
}

/** Waits until changes are streamed. */
const streamed = (resync: Effect.Effect<void, ConnectorError>) =>
  Effect.retry(resync, { while: ({ reason }) => reason === "Unreachable", schedule: Schedule.spaced("50 millis") })

const conditionsOf = (progress: Progress.Progress) =>
  [...progress.conditions.values()].map(({ name, table }) => `${name} ${table}`)

layer(Server.layer, { excludeTestServices: true })("Tables over time", (it) => {
  it.effect("a table that is created while the pipeline runs joins it beside busy tables, with and without a key", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema(
        "joining",
        "CREATE TABLE old (id int PRIMARY KEY, v int); INSERT INTO old SELECT i, 0 FROM generate_series(1, 100) i"
      )
      const mirror = new Mirror()
      const { each, names } = begins()
      const run = yield* SourceRun.start("joining", mirror, {
        snapshot: small,
        publication: { check: "200 millis" },
        each
      })
      yield* run.copied
      const writer = yield* busy((round) => `UPDATE joining.old SET v = v + 1 WHERE id = ${round % 100 + 1}`)
      yield* write(
        `CREATE TABLE fresh (id int PRIMARY KEY, v int, filler text); CREATE TABLE keyless (id int, v int, filler text);
         ALTER TABLE keyless REPLICA IDENTITY FULL;
         INSERT INTO fresh SELECT i, 0, repeat('x', 500) FROM generate_series(1, 400) i; INSERT INTO keyless SELECT i % 50, 0, repeat('x', 500) FROM generate_series(1, 400) i`
      )
      const more = yield* busy((round) =>
        `UPDATE joining.fresh SET v = v + 1, id = id + ${round % 3 === 0 ? 1000 : 0} WHERE id = ${round % 400 + 1};
         UPDATE joining.keyless SET v = v + 1 WHERE id = ${round % 50}; DELETE FROM joining.fresh WHERE id = ${
          round % 400 + 2
        };
         INSERT INTO joining.keyless VALUES (${round}, 1, 'new')`
      )
      yield* run.until(() => mirror.positions.get("joining.fresh")?.copied !== undefined)
      yield* run.until(() => mirror.positions.get("joining.keyless")?.copied !== undefined)
      yield* more.stop
      yield* writer.stop
      yield* run.caughtUp
      assert.deepStrictEqual(names, ["old", "fresh", "keyless"])
      assert.isAbove(more.rounds(), 2)
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
      yield* run.stop
      // The next run knows them all.
      yield* write("UPDATE fresh SET v = -1; INSERT INTO old VALUES (101, 1)")
      yield* SourceRun.catchUp("joining", mirror, { snapshot: small })
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
    }))

  it.effect("a table joins when somebody adds it to the publication, and is a condition until then", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema(
        "added",
        "CREATE TABLE old (id int PRIMARY KEY); CREATE PUBLICATION added FOR TABLE old"
      )
      const mirror = new Mirror()
      const progress = Progress.make("added")
      const run = yield* SourceRun.start("added", mirror, {
        publication: { check: "200 millis", manage: false },
        snapshot: small,
        progress
      })
      yield* run.copied
      yield* write("CREATE TABLE late (id int PRIMARY KEY); INSERT INTO late VALUES (1)")
      yield* run.until(() => conditionsOf(progress).includes("table-not-replicated added.late"))
      assert.isUndefined(mirror.tables.get("added.late"))
      const [{ hint } = { hint: "" }] = [...progress.conditions.values()]
      assert.include(hint, `ALTER PUBLICATION "added" ADD TABLE ONLY "added"."late"`)

      // It writes before the table is published and commits after: its rows are neither left out nor doubled.
      const straddling = yield* Effect.forkScoped(Effect.orDie(
        pg.query(
          `BEGIN; INSERT INTO added.late VALUES (2);
           DO $$ BEGIN
             WHILE NOT EXISTS (SELECT FROM pg_publication_rel WHERE prrelid = 'added.late'::regclass) LOOP PERFORM pg_sleep(0.01); END LOOP;
           END $$;
           SELECT pg_sleep(1.5); INSERT INTO added.late VALUES (3); COMMIT`
        )
      ))
      yield* pg.query(
        "SELECT FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND query LIKE '%INTO added.late VALUES (2)%'"
      ).pipe(
        Effect.repeat({ until: (rows) => rows.length > 0 })
      )
      yield* write(`ALTER PUBLICATION added ADD TABLE ONLY late`)
      yield* run.until(() => mirror.positions.get("added.late")?.copied !== undefined)
      yield* Fiber.join(straddling)
      yield* write("INSERT INTO late VALUES (4); INSERT INTO old VALUES (1)")
      yield* run.caughtUp
      assert.deepStrictEqual(conditionsOf(progress), [])
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
    }))

  it.effect("a table that can't be replicated as it is stays out, with the reason, and stops nothing", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema("unfit", "CREATE TABLE old (id int PRIMARY KEY)")
      const mirror = new Mirror()
      const progress = Progress.make("unfit")
      const run = yield* SourceRun.start("unfit", mirror, { publication: { check: "200 millis" }, progress })
      yield* run.copied
      yield* write(
        "CREATE TABLE nothing (id int PRIMARY KEY, v int); ALTER TABLE nothing REPLICA IDENTITY NOTHING; INSERT INTO nothing VALUES (1, 1)"
      )
      yield* run.until(() => conditionsOf(progress).includes("table-not-replicated unfit.nothing"))
      yield* write("INSERT INTO old VALUES (1)")
      yield* run.caughtUp
      assert.isUndefined(mirror.tables.get("unfit.nothing"))
      yield* write("ALTER TABLE nothing REPLICA IDENTITY DEFAULT")
      yield* run.until(() => mirror.positions.get("unfit.nothing")?.copied !== undefined)
      yield* run.caughtUp
      assert.deepStrictEqual(conditionsOf(progress), [])
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
    }))

  it.effect("a table that is replaced by another of its name is copied again, though the new one was never changed", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema(
        "swapped",
        "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1); CREATE TABLE other (id int PRIMARY KEY)"
      )
      const mirror = new Mirror()
      const progress = Progress.make("swapped")
      const run = yield* SourceRun.start("swapped", mirror, { publication: { check: "200 millis" }, progress })
      yield* run.copied
      yield* write("CREATE TABLE unfit (id int PRIMARY KEY); ALTER TABLE unfit REPLICA IDENTITY NOTHING")
      yield* run.until(() => conditionsOf(progress).includes("table-not-replicated swapped.unfit"))
      yield* write("DROP TABLE unfit")
      yield* run.until(() => !conditionsOf(progress).includes("table-not-replicated swapped.unfit"))
      yield* write("DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (2, 2)")
      assert.strictEqual((yield* run.failure).reason, "Fenced")
      yield* run.stop
      yield* SourceRun.catchUp("swapped", mirror)
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
    }))

  it.effect("one table is copied again on request, while it and others change, and no other is", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      yield* SourceRun.schema(
        "again",
        `CREATE TABLE a (id int PRIMARY KEY, v int, big text); ALTER TABLE a ALTER COLUMN big SET STORAGE EXTERNAL;
         INSERT INTO a SELECT i, 0, i || repeat('x', 3000) FROM generate_series(1, 200) i;
         CREATE TABLE b (id int, v int); ALTER TABLE b REPLICA IDENTITY FULL; INSERT INTO b SELECT i, 0 FROM generate_series(1, 200) i;
         CREATE TABLE c (id int PRIMARY KEY)`
      )
      const mirror = new Mirror()
      mirror.recopies = true
      const { each, names } = begins()
      const run = yield* SourceRun.start("again", mirror, { snapshot: small, each })
      yield* run.copied
      const before = mirror.positions
      const writer = yield* busy((round) =>
        `UPDATE again.a SET v = v + 1 WHERE id % 50 = ${round % 50}; UPDATE again.a SET id = id + ${
          round % 2 === 0 ? 10_000 : -10_000
        } WHERE id % 97 = ${round % 97};
         UPDATE again.b SET v = v + 1 WHERE id = ${round % 200}; INSERT INTO again.c VALUES (${round})`
      )
      yield* run.resync("again.a")
      yield* run.resync("again.b")
      // Twice: it is being copied already, or it is copied once more.
      yield* run.resync("again.a")
      yield* run.caughtUp
      yield* writer.stop
      yield* run.caughtUp
      assert.deepStrictEqual(names.slice(0, 5), ["a", "b", "c", "a", "b"])
      assert.isAtMost(names.length, 6)
      assert.strictEqual(mirror.positions.get("again.c")?.copied, before.get("again.c")?.copied)
      assert.isTrue((mirror.positions.get("again.a")?.copied ?? 0n) > (before.get("again.a")?.copied ?? 0n))
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
      const error = yield* Effect.flip(run.resync("again.nowhere"))
      assert.strictEqual(error.reason, "Missing")
      assert.include(error.hint, "again.a, again.b, again.c")
      const slots = yield* pg.query("SELECT slot_name FROM pg_replication_slots WHERE slot_name LIKE 'again%'")
      assert.deepStrictEqual(slots, [{ slot_name: "again" }])
    }))

  it.effect("a table that the role may not read fails alone, and not at all when its copy is held; once it may, it is copied on request", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema(
        "granted",
        `CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); INSERT INTO a VALUES (1); INSERT INTO b VALUES (1);
         CREATE TABLE c (id int PRIMARY KEY); ALTER TABLE c REPLICA IDENTITY NOTHING; CREATE PUBLICATION granted FOR TABLE a, b, c;
         CREATE ROLE granted LOGIN REPLICATION PASSWORD 'granted'; GRANT USAGE ON SCHEMA granted TO granted`
      )
      const options = {
        url: pg.urlOf({ user: "granted", password: "granted" }),
        tables: ["granted.a", "granted.b"],
        publication: { manage: false },
        snapshot: small
      }
      const mirror = new Mirror()
      mirror.recopies = true
      const all = yield* SourceRun.start("granted", mirror, { ...options, quarantined: new Map() })
      const none = yield* all.failure
      yield* all.stop
      assert.deepStrictEqual([none.reason, none.table], ["Forbidden", undefined])
      assert.match(none.message, /granted\.a; .*granted\.b/)

      yield* write("GRANT SELECT ON a TO granted")
      const quarantined = new Map<string, Quarantine>()
      const first = yield* SourceRun.start("granted", mirror, { ...options, quarantined })
      yield* first.until(() => mirror.positions.get("granted.a")?.copied !== undefined && quarantined.size === 1)
      const why = quarantined.get("granted.b")
      assert.deepStrictEqual([why?.reason, why?.message], ["Forbidden", "role granted may not read table granted.b"])
      assert.include(why?.hint, `GRANT SELECT ON "granted"."b" TO "granted"`)
      const still = yield* Effect.flip(first.resync("granted.b"))
      assert.deepStrictEqual([still.reason, still.message], ["Forbidden", why?.message])
      yield* write("INSERT INTO a VALUES (2); INSERT INTO b VALUES (2)")
      yield* first.until(() => mirror.tables.get("granted.a")?.rows.size === 2)
      yield* first.stop

      // What is wrong with a table in quarantine ends no run; what is held of another one isn't read again.
      yield* write("REVOKE SELECT ON a FROM granted; ALTER TABLE b REPLICA IDENTITY NOTHING")
      const second = yield* SourceRun.start("granted", mirror, { ...options, quarantined })
      yield* write("INSERT INTO a VALUES (3)")
      yield* second.until(() => mirror.tables.get("granted.a")?.rows.size === 3)
      assert.deepStrictEqual([...quarantined.keys()], ["granted.b"])
      yield* second.stop
      yield* write("GRANT SELECT ON b TO granted; ALTER TABLE b REPLICA IDENTITY DEFAULT")
      const third = yield* SourceRun.start("granted", mirror, { ...options, quarantined })
      yield* streamed(third.resync("granted.b"))
      yield* third.until(() => mirror.positions.get("granted.b")?.copied !== undefined)
      yield* write("INSERT INTO b VALUES (4)")
      yield* third.caughtUp
      assert.deepStrictEqual([...quarantined.keys()], [])
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
    }))

  it.effect("a table in quarantine that is replaced by another of its name can be copied again; one that is renamed can't by its old name", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema(
        "set_aside",
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY); CREATE TABLE good (id int PRIMARY KEY)"
      )
      const mirror = new Mirror()
      mirror.recopies = true
      const why: Quarantine = { reason: "Rejected", message: "it can't go on", hint: "None.", since: 0 }
      const quarantined = new Map([["set_aside.t", why], ["set_aside.u", why]])
      const options = { publication: { check: "200 millis" }, snapshot: small, quarantined }
      const run = yield* SourceRun.start("set_aside", mirror, options)
      yield* run.until(() => mirror.positions.get("set_aside.good")?.copied !== undefined)
      yield* write("ALTER TABLE u RENAME TO v")
      const renamed = yield* Effect.flip(run.resync("set_aside.u"))
      assert.deepStrictEqual([renamed.reason, renamed.message], [
        "Missing",
        "table set_aside.u has another name now: set_aside.v"
      ])
      yield* write("DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (7)")
      assert.strictEqual((yield* run.failure).reason, "Fenced")
      yield* run.stop
      const next = yield* SourceRun.start("set_aside", mirror, options)
      yield* next.until(() => mirror.positions.get("set_aside.good")?.copied !== undefined)
      yield* streamed(next.resync("set_aside.t"))
      yield* next.until(() => mirror.positions.get("set_aside.t")?.copied !== undefined)
      yield* next.caughtUp
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
    }))

  it.effect("a new copy that couldn't be begun is begun when it is asked for again", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      yield* SourceRun.schema("asked_twice", "CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1)")
      const mirror = new Mirror()
      mirror.recopies = true
      const { each, names } = begins()
      const run = yield* SourceRun.start("asked_twice", mirror, { snapshot: small, each })
      yield* run.copied
      // The last question before the copy begins can't be answered.
      yield* pg.query("ALTER FUNCTION pg_catalog.pg_current_wal_insert_lsn() RENAME TO hidden_position")
      yield* Effect.flip(run.resync("asked_twice.a")).pipe(
        Effect.ensuring(
          Effect.orDie(pg.query("ALTER FUNCTION pg_catalog.hidden_position() RENAME TO pg_current_wal_insert_lsn"))
        )
      )
      yield* run.resync("asked_twice.a")
      yield* run.caughtUp
      assert.deepStrictEqual(names, ["a", "a"])
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
    }))

  it.effect("a copy of a table that joined is resumed by the next run, its changes since then included", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema("joined_half", "CREATE TABLE old (id int PRIMARY KEY)")
      const mirror = new Mirror()
      let ended = 0
      const run = yield* SourceRun.start("joined_half", mirror, {
        snapshot: { ...small, parallel: 1 },
        publication: { check: "200 millis" },
        each: (element) =>
          element._tag === "SnapshotChunk" && element.table.table.name === "fresh" && ++ended === 4
            ? Effect.never
            : Effect.void
      })
      yield* run.copied
      yield* write(
        "CREATE TABLE fresh (id int PRIMARY KEY, v int, filler text); INSERT INTO fresh SELECT i, 0, repeat('x', 500) FROM generate_series(1, 200) i"
      )
      yield* run.until(() => ended === 4)
      yield* run.stop
      yield* write(
        "UPDATE fresh SET v = 1 WHERE id % 3 = 0; UPDATE fresh SET id = -id WHERE id % 7 = 0; DELETE FROM fresh WHERE id = 11"
      )
      const done = new Set(mirror.positions.get("joined_half.fresh")?.copying?.chunks.keys())
      assert.isAtLeast(done.size, 3)
      yield* SourceRun.catchUp("joined_half", mirror, { snapshot: small })
      assert.deepStrictEqual(mirror.read.filter(([, chunk]) => done.has(chunk)), [])
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
    }))
})
