/**
 * What has gone wrong in other systems that read PostgreSQL's log, as scenarios of their own, where no other file has them already.
 * docs/comparison.md says which behaviour is whose.
 */
import { assert, layer } from "@effect/vitest"
import type { Element } from "@etl-stream/core/Element"
import type * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as Effect from "effect/Effect"
import { Client } from "pg"
import { Mirror } from "./Mirror.ts"
import { copiesOf, settle } from "./Settled.ts"
import * as SourceRun from "./SourceRun.ts"

const { Server } = SourceRun

/** A session whose transactions stay open until it says otherwise. */
const session = (pg: EmbeddedPostgres.EmbeddedPostgres, schema: string) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.promise(async () => {
        const client = new Client({ connectionString: pg.url })
        await client.connect()
        await client.query(`SET search_path = ${schema}`)
        return client
      }),
      (client) => Effect.promise(() => client.end())
    ),
    (client) => (sql: string) => Effect.promise(() => client.query(sql))
  )

/** Holds the first change after `arm` up, as a sink that stands still, until `release`. */
const gate = () => {
  const state = { armed: false, held: false, released: false }
  const each = (element: Element): Effect.Effect<void> => {
    if (!state.armed || element._tag !== "Rows") return Effect.void
    state.held = true
    return Effect.void.pipe(Effect.delay("2 millis"), Effect.repeat({ until: () => state.released }), Effect.asVoid)
  }
  return {
    each,
    arm: () => (state.armed = true),
    release: () => (state.released = true),
    held: () => state.held
  }
}

const terminate = (slot: string) =>
  `SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '${slot}'`

layer(Server.layer, { excludeTestServices: true })("what has gone wrong elsewhere", (it) => {
  it.effect("interleaved transactions, of which some commit before a stop, some after it and some never, come each once", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema("interleaved", "CREATE TABLE t (id int PRIMARY KEY, v text)")
      const [early, late, never] = [
        yield* session(pg, "interleaved"),
        yield* session(pg, "interleaved"),
        yield* session(pg, "interleaved")
      ]
      const mirror = new Mirror()
      const first = yield* SourceRun.start("interleaved", mirror)
      yield* first.caughtUp
      yield* late("BEGIN; INSERT INTO t VALUES (1, 'late')")
      yield* never("BEGIN; INSERT INTO t VALUES (2, 'never')")
      yield* early("BEGIN; INSERT INTO t VALUES (3, 'early')")
      yield* late("INSERT INTO t VALUES (4, 'late')")
      yield* early("INSERT INTO t VALUES (5, 'early'); COMMIT")
      yield* write("INSERT INTO t VALUES (6, 'alone')")
      yield* first.caughtUp
      assert.strictEqual(mirror.seen.length, 3)
      yield* first.stop
      yield* late("INSERT INTO t VALUES (7, 'late'); COMMIT")
      const second = yield* SourceRun.start("interleaved", mirror)
      yield* never("ROLLBACK")
      yield* write("INSERT INTO t VALUES (2, 'another')")
      yield* second.caughtUp
      yield* second.stop
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
      // What was not confirmed before the stop comes again, with the same sequences.
      assert.strictEqual(new Set(mirror.seen).size, 7)
    }))

  it.effect("changes that share one position in the log all come, each with a sequence of its own, also when the run stops among them", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema("shared", "CREATE TABLE t (id int PRIMARY KEY)")
      const mirror = new Mirror()
      let changes = 0
      const first = yield* SourceRun.start("shared", mirror, {
        each: (element) => element._tag === "Rows" && ++changes > 2 ? Effect.never : Effect.void
      })
      yield* first.caughtUp
      // COPY writes many rows into one record of the log.
      yield* write("COPY t FROM PROGRAM 'seq 1 100000'")
      yield* first.until(() => changes > 2)
      yield* first.stop
      const part = mirror.tables.get("shared.t")?.rows.size ?? 0
      assert.isAbove(part, 0)
      assert.isBelow(part, 100_000)
      yield* SourceRun.catchUp("shared", mirror)
      assert.strictEqual(mirror.tables.get("shared.t")?.rows.size, 100_000)
      assert.strictEqual(new Set(mirror.seen).size, 100_000)
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
    }))

  it.effect("transactions that are open while the copy's snapshot is taken are in it, or come after it, and never both", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema("parallel", "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
      const [first, second] = [yield* session(pg, "parallel"), yield* session(pg, "parallel")]
      yield* first("BEGIN; INSERT INTO t VALUES (2)")
      const mirror = new Mirror()
      const run = yield* SourceRun.start("parallel", mirror)
      // The server begins a slot only when what was under way has ended.
      yield* pg.query("SELECT count(*) AS n FROM pg_replication_slots WHERE slot_name LIKE 'parallel%'").pipe(
        Effect.repeat({ until: ([row]) => Number(row?.["n"]) > 0 })
      )
      yield* second("BEGIN; INSERT INTO t VALUES (3)")
      yield* write("INSERT INTO t VALUES (4)")
      yield* first("INSERT INTO t VALUES (5); COMMIT")
      yield* write("INSERT INTO t VALUES (6)")
      yield* second("INSERT INTO t VALUES (7); COMMIT")
      yield* run.caughtUp
      assert.strictEqual(mirror.tables.get("parallel.t")?.rows.size, 7)
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
    }))

  for (const [order, end] of [["before", "comes through before"], ["after", "is given up for"]] as const) {
    it.effect(`a write that is held up while the connection is lost, and ${end} the next one, is neither lost nor doubled`, () =>
      Effect.gen(function*() {
        const pg = yield* Server
        const name = `held_${order}`
        const write = yield* SourceRun.schema(name, "CREATE TABLE t (id int PRIMARY KEY, v int)")
        const mirror = new Mirror()
        const { arm, each, held, release } = gate()
        const first = yield* SourceRun.start(name, mirror, { each })
        yield* first.caughtUp
        arm()
        yield* write("INSERT INTO t SELECT i, 0 FROM generate_series(1, 50) i")
        yield* first.until(held)
        yield* write("UPDATE t SET v = 1 WHERE id <= 10")
        yield* pg.query(terminate(name))
        if (order === "before") {
          release()
          assert.strictEqual((yield* first.failure).reason, "Unreachable")
          assert.isAtLeast(mirror.tables.get(`${name}.t`)?.rows.size ?? 0, 50)
        }
        // What was held is given up with its run: nothing of it may be taken for confirmed.
        yield* first.stop
        yield* SourceRun.catchUp(name, mirror)
        assert.deepStrictEqual(yield* mirror.differences(pg), [])
        assert.strictEqual(mirror.tables.get(`${name}.t`)?.rows.size, 50)
      }))
  }

  it.effect("columns that are added, dropped, renamed and retyped within one transaction, with changes between, come out right", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema(
        "mixed",
        "CREATE TABLE t (id int PRIMARY KEY, a int, b text); INSERT INTO t SELECT i, i, 'b' FROM generate_series(1, 9) i"
      )
      const mirror = new Mirror()
      mirror.recopies = true
      const options: SourceRun.StartOptions = { acknowledge: () => 0n }
      const first = yield* SourceRun.start("mixed", mirror, options)
      yield* first.caughtUp
      yield* write(
        `INSERT INTO t VALUES (10, 10, 'x'); ALTER TABLE t ADD COLUMN c int; UPDATE t SET c = 1 WHERE id < 3;
         ALTER TABLE t RENAME COLUMN a TO z; UPDATE t SET z = 2 WHERE id = 4; ALTER TABLE t DROP COLUMN b; DELETE FROM t WHERE id = 5;
         ALTER TABLE t ADD COLUMN d text DEFAULT 'd'; INSERT INTO t VALUES (11, 1, 2, 'e');
         ALTER TABLE t ALTER COLUMN c TYPE text USING 'c' || c; UPDATE t SET c = 'last' WHERE id > 9`
      )
      const { run } = yield* settle("mixed", mirror, options, first)
      yield* write("UPDATE t SET z = z + 1")
      yield* run.caughtUp
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
      yield* run.stop
      const again = yield* settle("mixed", mirror, options, undefined)
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
      yield* again.run.stop
    }))

  it.effect("consecutive columns that are dropped, at once and one by one, and others in their place, shift no value", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema(
        "consecutive",
        "CREATE TABLE t (id int PRIMARY KEY, a int, b int, c int, d int, e int); INSERT INTO t SELECT i, 1, 2, 3, 4, 5 FROM generate_series(1, 9) i"
      )
      const mirror = new Mirror()
      const copies = copiesOf()
      const options: SourceRun.StartOptions = { each: copies.each }
      const first = yield* SourceRun.start("consecutive", mirror, options)
      yield* first.caughtUp
      copies.take()
      yield* write(
        "ALTER TABLE t DROP COLUMN b, DROP COLUMN c; INSERT INTO t VALUES (10, 1, 4, 5); UPDATE t SET e = 6 WHERE id = 1"
      )
      yield* write("ALTER TABLE t DROP COLUMN d")
      yield* write(
        "ALTER TABLE t DROP COLUMN a; ALTER TABLE t ADD COLUMN f int; INSERT INTO t VALUES (11, 5, 7); UPDATE t SET f = 8 WHERE id = 2"
      )
      const { run } = yield* settle("consecutive", mirror, options, first)
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
      assert.deepStrictEqual(copies.take(), [])
      yield* run.stop
    }))

  it.effect("values out of line that an update doesn't send are kept when the table's shape changes at the same time", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema(
        "toasted",
        `CREATE TABLE t (id int PRIMARY KEY, gone int, big text, v int); ALTER TABLE t ALTER COLUMN big SET STORAGE EXTERNAL;
         INSERT INTO t SELECT i, i, i || repeat('x', 9000), 0 FROM generate_series(1, 9) i`
      )
      const mirror = new Mirror()
      const first = yield* SourceRun.start("toasted", mirror)
      yield* first.caughtUp
      yield* write(
        "ALTER TABLE t ADD COLUMN w int; UPDATE t SET w = 1 WHERE id < 4; ALTER TABLE t DROP COLUMN gone; UPDATE t SET v = 1, id = id + 100 WHERE id < 6"
      )
      const { run } = yield* settle("toasted", mirror, {}, first)
      assert.isAtLeast(mirror.unsentCells, 1)
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
      yield* run.stop
    }))

  it.effect("a role that may not log in is an error at once, before anything is made", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      yield* SourceRun.schema("barred", "CREATE TABLE t (id int PRIMARY KEY)")
      yield* pg.query("CREATE ROLE barred_role NOLOGIN REPLICATION PASSWORD 'secret-of-barred'")
      const error = yield* Effect.flip(
        SourceRun.start("barred", new Mirror(), {
          url: pg.urlOf({ user: "barred_role", password: "secret-of-barred" })
        })
      )
      assert.strictEqual(error.reason, "Unauthorized")
      assert.notInclude(JSON.stringify([error.message, error.hint]), "secret-of-barred")
      assert.deepStrictEqual(yield* pg.query("SELECT 1 FROM pg_replication_slots WHERE slot_name = 'barred'"), [])
    }))

  it.effect("a slot whose name begins with digits is made, read and read again", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema("digits", "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
      const mirror = new Mirror()
      const options: SourceRun.StartOptions = { slot: { name: "1_2_digits" }, publication: { name: "3_digits" } }
      yield* SourceRun.catchUp("digits", mirror, options)
      yield* write("INSERT INTO t VALUES (2)")
      yield* SourceRun.catchUp("digits", mirror, options)
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
      const slots = yield* pg.query("SELECT 1 AS one FROM pg_replication_slots WHERE slot_name = '1_2_digits'")
      assert.deepStrictEqual(slots, [{ one: 1 }])
    }))

  it.effect("infinite dates and timestamps are copied and followed as what they are", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const values = "'infinity', '-infinity', 'infinity'"
      const write = yield* SourceRun.schema(
        "infinite",
        `CREATE TABLE t (id int PRIMARY KEY, a timestamptz, b timestamp, c date); INSERT INTO t VALUES (1, ${values}), (2, now(), now(), now())`
      )
      const mirror = new Mirror()
      const run = yield* SourceRun.start("infinite", mirror)
      yield* run.caughtUp
      yield* write(
        `INSERT INTO t VALUES (3, ${values}); UPDATE t SET a = '-infinity', b = 'infinity', c = '-infinity' WHERE id = 2`
      )
      yield* run.caughtUp
      assert.deepStrictEqual(mirror.tables.get("infinite.t")?.rows.get(`["2"]`)?.row.slice(1), [
        "-infinity",
        "infinity",
        "-infinity"
      ])
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
    }))

  it.effect("a child by inheritance that is made while the pipeline runs mixes no row of its own into its parent", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema(
        "heirs",
        "CREATE TABLE parent (id int PRIMARY KEY, v int); INSERT INTO parent VALUES (1, 1)"
      )
      const mirror = new Mirror()
      const options: SourceRun.StartOptions = { tables: ["heirs.parent"] }
      const run = yield* SourceRun.start("heirs", mirror, options)
      yield* run.caughtUp
      yield* write("CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent); INSERT INTO child VALUES (1, 2), (2, 2)")
      yield* write("UPDATE parent SET v = v + 1; ALTER TABLE parent ADD COLUMN w int; UPDATE parent SET w = 1")
      const { run: next } = yield* settle("heirs", mirror, options, run)
      assert.deepStrictEqual(yield* mirror.differences(pg, { "heirs.parent": "ONLY heirs.parent" }), [])
      yield* next.stop
    }))

  it.effect("a missing slot is made anew beside tables that are complete, in the middle of their copy, and new", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const rows = "SELECT i, 0 FROM generate_series(1, 3000) i"
      const write = yield* SourceRun.schema(
        "states",
        `CREATE TABLE a (id int PRIMARY KEY, v int); INSERT INTO a SELECT i, 0 FROM generate_series(1, 9) i;
         CREATE TABLE b (id int PRIMARY KEY, v int); INSERT INTO b ${rows}`
      )
      const mirror = new Mirror()
      let held = false
      const first = yield* SourceRun.start("states", mirror, {
        snapshot: { parallel: 1, fetchRows: 100, chunkBytes: 8192 },
        each: (element) =>
          element._tag === "SnapshotChunk" && element.table.table.name === "b"
            ? Effect.andThen(Effect.sync(() => (held = true)), Effect.never)
            : Effect.void
      })
      yield* first.until(() => held)
      yield* first.stop
      assert.isUndefined(mirror.positions.get("states.b")?.copied)
      yield* pg.query(
        "SELECT pg_drop_replication_slot(slot_name) AS x FROM pg_replication_slots WHERE slot_name = 'states'"
      ).pipe(
        Effect.repeat({ until: (dropped) => dropped.length > 0 })
      )
      yield* write(
        "CREATE TABLE c (id int PRIMARY KEY); INSERT INTO c VALUES (1); DELETE FROM a WHERE id = 1; UPDATE b SET v = 1 WHERE id < 9"
      )
      mirror.recopies = true
      const second = yield* SourceRun.start("states", mirror, { slot: { onLost: "resnapshot" } })
      yield* write("INSERT INTO a VALUES (10, 1); DELETE FROM b WHERE id = 20; INSERT INTO c VALUES (2)")
      yield* second.caughtUp
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
      assert.strictEqual(mirror.tables.size, 3)
    }))

  it.effect("the row filter of a table holds in partitions of its partitions, in the copy, in the stream and for rows that move", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      // Filters came with PostgreSQL 15: an older server publishes all rows.
      const filter = pg.version >= 15 ? "WHERE (v < 5)" : ""
      const write = yield* SourceRun.schema(
        "nested",
        `CREATE TABLE t (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
         CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100) PARTITION BY RANGE (id);
         CREATE TABLE t_1_a PARTITION OF t_1 FOR VALUES FROM (0) TO (50); CREATE TABLE t_1_b PARTITION OF t_1 FOR VALUES FROM (50) TO (100);
         CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (100) TO (200);
         ALTER TABLE t_1_a REPLICA IDENTITY FULL; ALTER TABLE t_1_b REPLICA IDENTITY FULL; ALTER TABLE t_2 REPLICA IDENTITY FULL;
         ALTER TABLE t REPLICA IDENTITY FULL; ALTER TABLE t_1 REPLICA IDENTITY FULL;
         INSERT INTO t SELECT i, i % 10 FROM generate_series(1, 149) i;
         CREATE PUBLICATION nested FOR TABLE t ${filter} WITH (publish_via_partition_root = true)`
      )
      const from = { "nested.t": `nested.t ${filter}` }
      const mirror = new Mirror()
      const run = yield* SourceRun.start("nested", mirror, { tables: ["nested.t"], publication: { manage: false } })
      yield* run.caughtUp
      assert.deepStrictEqual(yield* mirror.differences(pg, from), [])
      yield* write(
        "UPDATE t SET v = (v + 3) % 10; INSERT INTO t VALUES (150, 9), (151, 1); UPDATE t SET id = id + 120 WHERE id BETWEEN 40 AND 60; DELETE FROM t WHERE id < 20"
      )
      yield* run.caughtUp
      assert.deepStrictEqual(yield* mirror.differences(pg, from), [])
      yield* run.stop
    }))
})
