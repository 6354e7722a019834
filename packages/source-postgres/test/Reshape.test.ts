/**
 * DDL under a pipeline, while it runs and while it is stopped: in the end every row and value is the server's, with a new copy only where
 * rows may have changed without a change in the log, and without going round in circles.
 */
import { assert, layer } from "@effect/vitest"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as Effect from "effect/Effect"
import * as TableOrigin from "../src/TableOrigin.ts"
import { Mirror } from "./Mirror.ts"
import { copiesOf, settle } from "./Settled.ts"
import * as SourceRun from "./SourceRun.ts"

const { Server } = SourceRun

interface Scenario {
  readonly title: string
  /** Creates `t` (and what else is needed) with rows. */
  readonly setup: string
  /** Changes in the old shape, the DDL, changes in the new shape. */
  readonly before: string
  readonly ddl: string
  readonly after: string
  /** A change after another start; default one of the key `id`. */
  readonly last?: string
  /** Tables that have to be copied again. */
  readonly copies: ReadonlyArray<string>
  /** The catalog shows nothing of it, and the log does: a start goes on, and ends when it comes to it. */
  readonly inLog?: boolean
  /** The log shows nothing of it (names and types are as they were): a run that goes on doesn't notice, the next start does. */
  readonly unseen?: boolean
}

const rows = "INSERT INTO t SELECT i, i, 'row ' || i FROM generate_series(1, 20) i"
const t = `CREATE TABLE t (id int PRIMARY KEY, a int, b text); ${rows};`
const before =
  "UPDATE t SET a = a + 100 WHERE id < 5; INSERT INTO t VALUES (30, 30, 'thirty'); DELETE FROM t WHERE id = 20"
const again = ["t"]

const scenarios: ReadonlyArray<Scenario> = [
  {
    title: "a plain added column",
    setup: t,
    before,
    ddl: "ALTER TABLE t ADD COLUMN c int",
    after: "UPDATE t SET c = 7, a = 0 WHERE id < 3; INSERT INTO t VALUES (31, 1, 'n', 9)",
    copies: []
  },
  {
    title: "a column added with a default",
    setup: t,
    before,
    ddl: "ALTER TABLE t ADD COLUMN c int DEFAULT 5",
    after: "UPDATE t SET c = 7 WHERE id < 3; INSERT INTO t VALUES (31, 1, 'n')",
    copies: again
  },
  {
    title: "a column added with a default that is computed for every row",
    setup: t,
    before,
    ddl: "ALTER TABLE t ADD COLUMN c uuid DEFAULT gen_random_uuid(); ALTER TABLE t ALTER COLUMN c DROP DEFAULT",
    after: "UPDATE t SET a = 7 WHERE id < 3; INSERT INTO t VALUES (31, 1, 'n')",
    copies: again
  },
  {
    title: "a dropped column",
    setup: t,
    before,
    ddl: "ALTER TABLE t DROP COLUMN a",
    after: "UPDATE t SET b = 'x' WHERE id < 3; INSERT INTO t VALUES (31, 'n')",
    copies: []
  },
  {
    title: "a column dropped and added again",
    unseen: true,
    setup: t,
    before,
    ddl: "ALTER TABLE t DROP COLUMN b; ALTER TABLE t ADD COLUMN b text",
    after: "UPDATE t SET a = 0 WHERE id < 3; INSERT INTO t VALUES (31, 1, 'n')",
    copies: again
  },
  {
    title: "a renamed column",
    setup: t,
    before,
    ddl: "ALTER TABLE t RENAME COLUMN a TO aa",
    after: "UPDATE t SET aa = 0 WHERE id < 3; INSERT INTO t VALUES (31, 1, 'n')",
    copies: []
  },
  {
    title: "a key column and another renamed, with a plain column added",
    setup: t,
    before,
    ddl:
      "ALTER TABLE t RENAME COLUMN id TO code; ALTER TABLE t ADD COLUMN c int; ALTER TABLE t RENAME COLUMN b TO \"Note\"",
    after: "UPDATE t SET c = 1 WHERE code < 3; DELETE FROM t WHERE code = 4; UPDATE t SET code = 90 WHERE code = 5",
    last: "UPDATE t SET code = code + 50 WHERE code = 2",
    copies: []
  },
  {
    title: "a column renamed twice with changes in between",
    setup: t,
    before,
    ddl: "ALTER TABLE t RENAME COLUMN a TO x; UPDATE t SET x = 0 WHERE id < 3; ALTER TABLE t RENAME COLUMN x TO aa",
    after: "UPDATE t SET aa = 9 WHERE id = 1; INSERT INTO t VALUES (31, 1, 'n')",
    copies: []
  },
  {
    title: "a column renamed and back with changes in between",
    setup: t,
    before,
    ddl: "ALTER TABLE t RENAME COLUMN a TO x; UPDATE t SET x = 0 WHERE id < 3; ALTER TABLE t RENAME COLUMN x TO a",
    after: "UPDATE t SET b = 'after' WHERE id = 1",
    copies: []
  },
  {
    title: "two columns that change their names",
    setup: "CREATE TABLE t (id int PRIMARY KEY, a text, b text); INSERT INTO t VALUES (1, 'a', 'b'), (2, 'a', 'b')",
    before: "UPDATE t SET a = 'A'",
    unseen: true,
    ddl: "ALTER TABLE t RENAME COLUMN a TO x; ALTER TABLE t RENAME COLUMN b TO a; ALTER TABLE t RENAME COLUMN x TO b",
    after: "UPDATE t SET a = 'now a' WHERE id = 1",
    copies: again
  },
  {
    title: "a renamed column whose old name another one gets",
    setup: t,
    before,
    ddl: "ALTER TABLE t RENAME COLUMN a TO a_old; ALTER TABLE t ADD COLUMN a int",
    after: "UPDATE t SET a = 7 WHERE id < 3; INSERT INTO t VALUES (31, 1, 'n', 8)",
    copies: again
  },
  {
    title: "a column that comes and goes",
    setup: t,
    before,
    ddl: "ALTER TABLE t ADD COLUMN c int; UPDATE t SET c = 1, a = 5 WHERE id < 3; ALTER TABLE t DROP COLUMN c",
    after: "UPDATE t SET b = 'after' WHERE id = 1; INSERT INTO t VALUES (31, 1, 'n')",
    copies: []
  },
  {
    title: "a column that comes and goes, and another one after it, which the log can't tell apart",
    inLog: true,
    setup: t,
    before,
    ddl:
      "ALTER TABLE t ADD COLUMN c int; UPDATE t SET c = 1 WHERE id < 3; ALTER TABLE t DROP COLUMN c; ALTER TABLE t ADD COLUMN c int",
    after: "UPDATE t SET b = 'after' WHERE id = 1; INSERT INTO t VALUES (31, 1, 'n', 9)",
    copies: again
  },
  {
    title: "a renamed column of a table without a key",
    setup:
      "CREATE TABLE t (a int, b text); ALTER TABLE t REPLICA IDENTITY FULL; INSERT INTO t VALUES (1, 'x'), (1, 'x')",
    before: "INSERT INTO t VALUES (2, 'y')",
    ddl: "ALTER TABLE t RENAME COLUMN a TO aa",
    after: "DELETE FROM t WHERE aa = 2; INSERT INTO t VALUES (3, 'z')",
    last: "UPDATE t SET aa = 8 WHERE aa = 3",
    copies: again
  },
  {
    title: "a dropped column of a table without a key",
    setup:
      "CREATE TABLE t (a int, b text); ALTER TABLE t REPLICA IDENTITY FULL; INSERT INTO t VALUES (1, 'x'), (1, 'x')",
    before: "INSERT INTO t VALUES (2, 'y')",
    ddl: "ALTER TABLE t DROP COLUMN a",
    after: "DELETE FROM t WHERE b = 'y'; INSERT INTO t VALUES ('z')",
    last: "UPDATE t SET b = 'last' WHERE b = 'z'",
    copies: again
  },
  {
    title: "wider types, and NOT NULL that comes and goes",
    setup: `CREATE TABLE t (id int PRIMARY KEY, a numeric(6,2), b varchar(10), c varchar(10) NOT NULL, d timestamp(3));
      INSERT INTO t SELECT i, i + 0.5, 'row ' || i, 'c', '2024-01-02 03:04:05.678' FROM generate_series(1, 20) i`,
    before: "UPDATE t SET a = 1.25 WHERE id < 5; INSERT INTO t VALUES (30, 30, 'thirty', 'c', NULL)",
    ddl: `ALTER TABLE t ALTER COLUMN a TYPE numeric(12,2), ALTER COLUMN b TYPE varchar(40), ALTER COLUMN c TYPE text,
      ALTER COLUMN d TYPE timestamp; ALTER TABLE t ALTER COLUMN c DROP NOT NULL; ALTER TABLE t ALTER COLUMN b SET NOT NULL`,
    after: "UPDATE t SET a = 1234567890.25, b = repeat('b', 40), c = NULL WHERE id < 3",
    copies: []
  },
  {
    title: "a wider type with new values",
    setup: "CREATE TABLE t (id int PRIMARY KEY, b varchar(10)); INSERT INTO t VALUES (1, 'one'), (2, 'two')",
    before: "UPDATE t SET b = 'uno' WHERE id = 1",
    ddl: "ALTER TABLE t ALTER COLUMN b TYPE varchar(40) USING upper(b)",
    after: "INSERT INTO t VALUES (3, 'three')",
    copies: again
  },
  {
    title: "a narrower type",
    setup: "CREATE TABLE t (id int PRIMARY KEY, b text); INSERT INTO t VALUES (1, 'one'), (2, 'two  ')",
    before: "UPDATE t SET b = 'uno' WHERE id = 1",
    ddl: "ALTER TABLE t ALTER COLUMN b TYPE varchar(3)",
    after: "INSERT INTO t VALUES (3, 'tre')",
    copies: again
  },
  {
    title: "another type with new values",
    setup: t,
    before,
    ddl: "ALTER TABLE t ALTER COLUMN a TYPE bigint USING a * 1000",
    after: "UPDATE t SET a = 0 WHERE id < 3; INSERT INTO t VALUES (31, 10000000000, 'n')",
    copies: again
  },
  {
    title: "new values of the same type",
    unseen: true,
    setup: t,
    before,
    ddl: "ALTER TABLE t ALTER COLUMN a TYPE int USING a + 1",
    after: "UPDATE t SET a = 0 WHERE id < 3; INSERT INTO t VALUES (31, 1, 'n')",
    copies: again
  },
  {
    title: "a table dropped and created again",
    setup: t,
    before,
    ddl:
      "DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, a int, b text); INSERT INTO t VALUES (2, 2, 'new'), (50, 5, 'new')",
    after: "UPDATE t SET a = 7; INSERT INTO t VALUES (51, 1, 'n')",
    copies: again
  },
  {
    title: "two tables that change their names",
    setup: `${t} CREATE TABLE u (id int PRIMARY KEY, a int, b text); INSERT INTO u VALUES (1, -1, 'u'), (40, -40, 'u')`,
    before: `${before}; UPDATE u SET a = -2`,
    ddl: "ALTER TABLE t RENAME TO x; ALTER TABLE u RENAME TO t; ALTER TABLE x RENAME TO u",
    after: "UPDATE t SET a = 8; INSERT INTO u VALUES (32, 1, 'n'); DELETE FROM u WHERE id = 1",
    copies: ["t", "u"]
  },
  {
    title: "tables rewritten as they are, and emptied",
    setup: `${t} CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u VALUES (1), (2)`,
    before,
    ddl: "CLUSTER t USING t_pkey; TRUNCATE u; ALTER TABLE u ALTER COLUMN id SET STATISTICS 10",
    after: "UPDATE t SET a = 0 WHERE id < 3; INSERT INTO u VALUES (3)",
    copies: ["u"]
  },
  {
    title: "a partitioned table with a plain column and a new partition",
    setup: `CREATE TABLE t (id int PRIMARY KEY, a int) PARTITION BY RANGE (id);
      CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100); INSERT INTO t SELECT i, i FROM generate_series(1, 9) i`,
    before: "UPDATE t SET a = 0 WHERE id < 3",
    ddl: "ALTER TABLE t ADD COLUMN c int; CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (100) TO (200)",
    after: "UPDATE t SET c = 1 WHERE id > 7; INSERT INTO t VALUES (100, 1, 2)",
    copies: []
  },
  {
    title: "a partitioned table and a column with a default",
    setup: `CREATE TABLE t (id int PRIMARY KEY, a int) PARTITION BY RANGE (id);
      CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100); INSERT INTO t SELECT i, i FROM generate_series(1, 9) i`,
    before: "UPDATE t SET a = 0 WHERE id < 3",
    ddl: "ALTER TABLE t ADD COLUMN c int DEFAULT 3",
    after: "UPDATE t SET c = 1 WHERE id > 7; INSERT INTO t VALUES (10, 1)",
    copies: again
  }
]

/** The mirror has the server's rows, values and columns. */
const expectSame = Effect.fnUntraced(function*(name: string, mirror: Mirror) {
  const pg = yield* Server
  assert.deepStrictEqual(yield* mirror.differences(pg), [])
  for (const { schema } of mirror.tables.values()) {
    const columns = yield* pg.query(
      "SELECT attname::text AS name FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
      [`${name}.${schema.table.name}`]
    )
    assert.deepStrictEqual(schema.columns.map((column) => column.name), columns.map((row) => row["name"]))
  }
})

layer(Server.layer, { excludeTestServices: true })("Reshape", (it) => {
  for (const [index, { after, before, copies, ddl, inLog, last, setup, title, unseen }] of scenarios.entries()) {
    for (const mode of ["running", "stopped", "running, all in one transaction"] as const) {
      it.effect(`${title}, while ${mode}`, () =>
        Effect.gen(function*() {
          const pg = yield* Server
          const name = `reshape_${index}_${mode.replace(/\W+/g, "_")}`
          const write = yield* SourceRun.schema(name, setup)
          // A managed one wouldn't publish a table that is created anew while the pipeline runs.
          yield* pg.query(`CREATE PUBLICATION ${name} FOR ALL TABLES WITH (publish_via_partition_root = true)`)
          // The server has only so many slots.
          yield* Effect.addFinalizer(() =>
            SourceRun.released(pg, name).pipe(
              Effect.andThen(
                pg.query("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1", [
                  name
                ])
              ),
              Effect.andThen(pg.query(`DROP PUBLICATION ${name}`)),
              Effect.orDie
            )
          )
          const mirror = new Mirror()
          mirror.recopies = inLog === true
          const copied = copiesOf()
          // Nothing is confirmed, so every start reads all shapes from the first on again.
          const options: SourceRun.StartOptions = {
            tables: [`${name}.t`, `${name}.u*`],
            publication: { manage: false },
            each: copied.each,
            acknowledge: () => 0n
          }
          if (!setup.includes("TABLE u")) Object.assign(options, { tables: [`${name}.t`] })
          const first = yield* SourceRun.start(name, mirror, options)
          yield* first.caughtUp
          assert.isAbove(copied.take().length, 0)
          if (mode === "stopped") yield* first.stop
          if (mode === "running, all in one transaction") yield* write(`${before}; ${ddl}; ${after}`)
          else for (const sql of [before, ddl, after]) yield* write(sql)
          const { restarts, run } = yield* settle(name, mirror, options, mode === "stopped" ? undefined : first)
          if (mode === "stopped") assert.strictEqual(restarts, inLog === true ? 1 : 0)
          if (mode === "stopped" || unseen !== true) yield* expectSame(name, mirror)
          yield* run.stop

          // Another start reads everything again, and changes flow.
          const second = yield* settle(name, mirror, options, undefined)
          assert.deepStrictEqual(copied.take(), copies)
          assert.strictEqual(second.restarts, 0)
          yield* write(last ?? "UPDATE t SET id = id + 50 WHERE id = 2")
          yield* second.run.caughtUp
          yield* expectSame(name, mirror)
          yield* second.run.stop
          // And in the end nothing is copied any more.
          yield* SourceRun.catchUp(name, mirror, options)
          assert.deepStrictEqual(copied.take(), [])
        }))
    }
  }

  it.effect("a rewrite that only fills defaults in copies nothing; a copy without an origin is taken as good, a strange one isn't", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema("origins", `${t} ALTER TABLE t ADD COLUMN c int DEFAULT 5`)
      const mirror = new Mirror()
      const copied = copiesOf()
      const held = () => mirror.tables.get("origins.t")
      yield* SourceRun.catchUp("origins", mirror, { each: copied.each })
      assert.deepStrictEqual(copied.take(), ["t"])
      yield* pg.query("VACUUM FULL origins.t")
      yield* write("UPDATE t SET c = 6 WHERE id = 1")
      yield* SourceRun.catchUp("origins", mirror, { each: copied.each })
      assert.deepStrictEqual(copied.take(), [])
      const origin = held()?.origin
      Object.assign(held() ?? {}, { origin: undefined })
      yield* SourceRun.catchUp("origins", mirror, { each: copied.each })
      assert.deepStrictEqual(copied.take(), [])
      // Nothing is known to have been altered since.
      const columns = (text: string | undefined) => text === undefined ? undefined : TableOrigin.parse(text)?.columns
      assert.deepStrictEqual(columns(held()?.origin), columns(origin))
      for (const strange of ["", "{}", `{"oid":"${"9".repeat(40)}"}`, `[${origin}]`]) {
        Object.assign(held() ?? {}, { origin: strange })
        yield* SourceRun.catchUp("origins", mirror, { each: copied.each })
        assert.deepStrictEqual(copied.take(), ["t"])
      }
      yield* expectSame("origins", mirror)
    }))

  it.effect("a column that comes back long after it was dropped doesn't bring its old values back", () =>
    Effect.gen(function*() {
      const write = yield* SourceRun.schema("comes_back", t)
      const mirror = new Mirror()
      const copied = copiesOf()
      const catchUp = SourceRun.catchUp("comes_back", mirror, { each: copied.each })
      yield* catchUp
      copied.take()
      yield* write("ALTER TABLE t DROP COLUMN b")
      yield* catchUp
      yield* catchUp
      assert.deepStrictEqual(copied.take(), [])
      yield* write("ALTER TABLE t ADD COLUMN b text")
      yield* catchUp
      assert.deepStrictEqual(copied.take(), ["t"])
      yield* expectSame("comes_back", mirror)
    }))

  it.effect("a table of a managed publication that is replaced while the pipeline is stopped is copied again", () =>
    Effect.gen(function*() {
      const write = yield* SourceRun.schema(
        "replaced",
        `${t} CREATE TABLE kept (id int PRIMARY KEY); INSERT INTO kept VALUES (1)`
      )
      const mirror = new Mirror()
      const copied = copiesOf()
      yield* SourceRun.catchUp("replaced", mirror, { each: copied.each })
      copied.take()
      yield* write(`${before}; DROP TABLE t; ${t} DELETE FROM t WHERE id > 3; INSERT INTO kept VALUES (2)`)
      yield* SourceRun.catchUp("replaced", mirror, { each: copied.each })
      assert.deepStrictEqual(copied.take(), ["t"])
      yield* expectSame("replaced", mirror)
    }))

  it.effect("a table that leaves the pipeline for a while is copied again under a publication that goes on with it", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema(
        "absent",
        `${t} CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u VALUES (1)`
      )
      yield* pg.query("CREATE PUBLICATION absent FOR TABLE absent.t, absent.u WITH (publish_via_partition_root = true)")
      const mirror = new Mirror()
      const copied = copiesOf()
      const options = { publication: { manage: false }, each: copied.each }
      yield* SourceRun.catchUp("absent", mirror, options)
      yield* SourceRun.catchUp("absent", mirror, { ...options, tables: ["absent.t"] })
      assert.deepStrictEqual(copied.take(), ["t", "u"])
      yield* write("INSERT INTO u VALUES (2); DELETE FROM u WHERE id = 1; UPDATE t SET a = 0")
      yield* SourceRun.catchUp("absent", mirror, { ...options, tables: ["absent.t"] })
      yield* SourceRun.catchUp("absent", mirror, options)
      assert.deepStrictEqual(copied.take(), ["u"])
      yield* expectSame("absent", mirror)
    }))

  // Publications have column lists since PostgreSQL 15.
  if (EmbeddedPostgres.version >= 15) {
    it.effect("a column that the publication begins to publish is copied with the values that it had", () =>
      Effect.gen(function*() {
        const pg = yield* Server
        const write = yield* SourceRun.schema("listed", t)
        yield* pg.query("CREATE PUBLICATION listed FOR TABLE listed.t (id, a) WITH (publish_via_partition_root = true)")
        const mirror = new Mirror()
        const copied = copiesOf()
        const options = { publication: { manage: false }, each: copied.each }
        yield* SourceRun.catchUp("listed", mirror, options)
        copied.take()
        yield* write("UPDATE t SET a = 1 WHERE id = 1")
        yield* pg.query("ALTER PUBLICATION listed SET TABLE listed.t (id, a, b)")
        yield* write("UPDATE t SET a = 2 WHERE id = 2")
        yield* SourceRun.catchUp("listed", mirror, options)
        assert.deepStrictEqual(copied.take(), ["t"])
        yield* expectSame("listed", mirror)
      }))
  }
})
