/**
 * What a publication leaves out, in the copy as in the stream, and publications that are changed under a pipeline.
 */
import { assert, layer } from "@effect/vitest"
import * as Progress from "@etl-stream/core/Progress"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as Effect from "effect/Effect"
import * as Sql from "../src/Sql.ts"
import { Mirror } from "./Mirror.ts"
import { copiesOf, settle, walk } from "./Settled.ts"
import * as SourceRun from "./SourceRun.ts"

const { Server } = SourceRun

/** Row filters, column lists and whole schemas came with PostgreSQL 15, published generated columns with 18. */
const { version } = EmbeddedPostgres
const hasLists = version >= 15
const publishesGenerated = version >= 18

const options = { publication: { manage: false, check: "200 millis" } }

/** Differences from the rows that the publication's filters let pass. */
const filteredDifferences = (name: string, mirror: Mirror) =>
  Effect.gen(function*() {
    const pg = yield* Server
    const rows = yield* Effect.orDie(pg.query(
      "SELECT schemaname, tablename, rowfilter FROM pg_publication_tables WHERE pubname = $1 AND rowfilter IS NOT NULL",
      [name]
    ))
    const from = rows.map((row) => {
      const table = { schema: String(row["schemaname"]), name: String(row["tablename"]) }
      return [`${table.schema}.${table.name}`, `${Sql.table(table)} WHERE ${String(row["rowfilter"])}`] as const
    })
    return yield* mirror.differences(pg, Object.fromEntries(from))
  })

layer(Server.layer, { excludeTestServices: true })("Publication", (it) => {
  if (hasLists) {
    it.effect("rows that a filter lets pass are copied and followed in and out; a filter that changes copies the table again", () =>
      Effect.gen(function*() {
        const pg = yield* Server
        const write = yield* SourceRun.schema(
          "filters",
          `CREATE TABLE t (id int PRIMARY KEY, v int, s text); ALTER TABLE t REPLICA IDENTITY FULL;
           INSERT INTO t SELECT i, CASE WHEN i % 7 = 0 THEN NULL ELSE i - 20 END, 's' FROM generate_series(1, 40) i;
           CREATE TABLE u (id int PRIMARY KEY, a int, b text); INSERT INTO u VALUES (1, 1, 'b'), (2, 2, 'b');
           CREATE PUBLICATION filters FOR TABLE t WHERE (v >= 0), u`
        )
        const mirror = new Mirror()
        yield* walk(
          "filters",
          mirror,
          options,
          [
            {
              title: "rows that move in and out of the filter",
              sql:
                `INSERT INTO t VALUES (50, 0, 'in'), (51, -1, 'out'), (52, NULL, 'out'); UPDATE t SET v = -v; UPDATE t SET s = 'x' WHERE v < 0;
                UPDATE t SET id = id + 100, v = 1 WHERE id = 52; UPDATE t SET id = id + 100 WHERE id = 50; DELETE FROM t WHERE id > 30 AND id < 36`
            },
            {
              title: "another filter",
              sql: "ALTER PUBLICATION filters SET TABLE t WHERE (v >= 5), u",
              copies: ["t"]
            },
            {
              title: "the same statement again",
              sql: "ALTER PUBLICATION filters SET TABLE t WHERE (v >= 5), u; INSERT INTO t VALUES (60, 10, 'in')"
            },
            {
              title: "no filter, for a moment",
              sql: `ALTER PUBLICATION filters SET TABLE t, u; UPDATE t SET v = 4 WHERE v = 10; COMMIT;
                ALTER PUBLICATION filters SET TABLE t WHERE (v >= 5), u; COMMIT; INSERT INTO t VALUES (61, 10, 'in')`,
              copies: ["t"]
            },
            {
              title: "a table that is away for a moment",
              sql: `ALTER PUBLICATION filters DROP TABLE u; COMMIT; INSERT INTO u VALUES (3, 3, 'missed'); COMMIT;
                ALTER PUBLICATION filters ADD TABLE u; COMMIT; INSERT INTO u VALUES (4, 4, 'seen')`,
              copies: ["u"]
            },
            {
              title: "fewer columns",
              sql:
                "ALTER PUBLICATION filters SET TABLE t WHERE (v >= 5), u (id, a); INSERT INTO u VALUES (5, 5, 'secret')",
              copies: ["u"]
            },
            {
              title: "all columns",
              sql: "ALTER PUBLICATION filters SET TABLE t WHERE (v >= 5), u; INSERT INTO u VALUES (6, 6, 'b')",
              copies: ["u"]
            },
            { title: "no filter", sql: "ALTER PUBLICATION filters SET TABLE t, u", copies: ["t"] }
          ],
          write,
          Effect.provideService(filteredDifferences("filters", mirror), Server, pg)
        )
      }))

    it.effect("filters and columns of partitions are the table's, or each partition's own, as the publication has it", () =>
      Effect.gen(function*() {
        const pg = yield* Server
        const write = yield* SourceRun.schema(
          "parts",
          `CREATE TABLE t (id int PRIMARY KEY, v int, s text) PARTITION BY RANGE (id);
           CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100);
           CREATE TABLE t_2 (s text, v int, id int NOT NULL PRIMARY KEY); ALTER TABLE t ATTACH PARTITION t_2 FOR VALUES FROM (100) TO (200);
           ALTER TABLE t REPLICA IDENTITY FULL; ALTER TABLE t_1 REPLICA IDENTITY FULL; ALTER TABLE t_2 REPLICA IDENTITY FULL;
           INSERT INTO t SELECT i, i % 10, 's' FROM generate_series(1, 199) i;
           CREATE PUBLICATION parts_root FOR TABLE t WHERE (v < 5), t_2 WHERE (v > 7) WITH (publish_via_partition_root = true);
           CREATE PUBLICATION parts_leaf FOR TABLE t_1 WHERE (v < 5), t_2 WHERE (v > 7)`
        )
        const tables = ["parts.t"]
        const changes =
          "DELETE FROM t WHERE id = 198; UPDATE t SET v = (v + 1) % 10; UPDATE t SET id = id + 100 WHERE id = 98; DELETE FROM t WHERE id = 97 OR id = 194"
        for (
          const [name, from] of [
            ["parts_root", "parts.t WHERE v < 5"],
            [
              "parts_leaf",
              "(SELECT id, v, s FROM parts.t_1 WHERE v < 5 UNION ALL SELECT id, v, s FROM parts.t_2 WHERE v > 7) r"
            ]
          ] as const
        ) {
          const mirror = new Mirror()
          const run = yield* SourceRun.start(name, mirror, { ...options, tables })
          yield* run.caughtUp
          assert.deepStrictEqual(yield* mirror.differences(pg, { "parts.t": from }), [], name)
          yield* write(changes)
          yield* run.caughtUp
          assert.deepStrictEqual(yield* mirror.differences(pg, { "parts.t": from }), [], name)
          yield* run.stop
          yield* write(
            "INSERT INTO t VALUES (97, 1, 'again'), (194, 1, 'again'), (98, 1, 'again')"
          )
        }
        yield* write("CREATE PUBLICATION parts_lists FOR TABLE t_1 (id, v), t_2")
        const error = yield* SourceRun.refused("parts_lists", new Mirror(), { ...options, tables })
        assert.strictEqual(error.reason, "Misconfigured")
        assert.match(
          error.message,
          /publishes other columns of partition parts\.t_2 than of other partitions of table parts\.t/
        )
      }))

    it.effect("all tables of schemas are published, the same names in several, and those created later", () =>
      Effect.gen(function*() {
        const pg = yield* Server
        const write = yield* SourceRun.schema(
          "north",
          "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'n')"
        )
        const writeSouth = yield* SourceRun.schema(
          "south",
          "CREATE TABLE t (id int PRIMARY KEY, w int); INSERT INTO t VALUES (1, 5)"
        )
        yield* pg.query("CREATE PUBLICATION whole_schemas FOR TABLES IN SCHEMA north, south")
        const mirror = new Mirror()
        const copied = copiesOf()
        const all = { ...options, tables: ["north.*", "south.*"], each: copied.each }
        const run = yield* SourceRun.start("whole_schemas", mirror, all)
        yield* run.caughtUp
        yield* write("UPDATE t SET v = 'm'; CREATE TABLE late (id int PRIMARY KEY); INSERT INTO late VALUES (1)")
        yield* writeSouth("INSERT INTO t VALUES (2, 6)")
        yield* run.caughtUp
        yield* run.stop
        yield* SourceRun.catchUp("whole_schemas", mirror, all)
        assert.deepStrictEqual(copied.take(), ["late", "t", "t"])
        assert.deepStrictEqual(yield* mirror.differences(pg), [])
        yield* pg.query("ALTER PUBLICATION whole_schemas DROP TABLES IN SCHEMA south")
        yield* writeSouth("INSERT INTO t VALUES (3, 7)")
        yield* pg.query("ALTER PUBLICATION whole_schemas ADD TABLES IN SCHEMA south")
        yield* SourceRun.catchUp("whole_schemas", mirror, all)
        assert.deepStrictEqual(copied.take(), ["t"])
        assert.deepStrictEqual(yield* mirror.differences(pg), [])
      }))
  } else {
    it.effect("a server without row filters and column lists publishes whole tables", () =>
      Effect.gen(function*() {
        const pg = yield* Server
        const write = yield* SourceRun.schema(
          "unlisted",
          "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1)"
        )
        const refused = yield* Effect.flip(pg.query("CREATE PUBLICATION unlisted FOR TABLE unlisted.t WHERE (v > 0)"))
        assert.include(refused.message, "syntax error")
        const mirror = new Mirror()
        const run = yield* SourceRun.start("unlisted", mirror)
        yield* run.caughtUp
        yield* write("UPDATE t SET v = -1")
        yield* run.caughtUp
        assert.deepStrictEqual(yield* mirror.differences(pg), [])
      }))
  }

  it.effect("a table that leaves the publication while the pipeline runs raises a condition, and is copied again when it is back", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema(
        "leaving",
        `CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u VALUES (1); CREATE PUBLICATION leaving FOR TABLE t, u`
      )
      const mirror = new Mirror()
      const copied = copiesOf()
      const progress = Progress.make("leaving")
      const all = { ...options, each: copied.each, progress }
      const run = yield* SourceRun.start("leaving", mirror, all)
      yield* run.caughtUp
      copied.take()
      yield* write("ALTER PUBLICATION leaving DROP TABLE u")
      yield* run.until(() => progress.conditions.size > 0)
      const [raised] = progress.conditions.values()
      assert.strictEqual(raised?.severity, "critical")
      assert.include(raised?.message, "publication leaving no longer publishes table leaving.u")
      assert.include(raised?.hint, `ALTER PUBLICATION "leaving" ADD TABLE ONLY "leaving"."u"`)
      yield* write("INSERT INTO u VALUES (2); INSERT INTO t VALUES (1)")
      // The other table isn't stopped.
      yield* run.caughtUp
      assert.strictEqual(mirror.tables.get("leaving.t")?.rows.size, 1)
      yield* write("ALTER PUBLICATION leaving ADD TABLE u")
      assert.strictEqual((yield* run.failure).reason, "Fenced")
      yield* run.stop
      const again = yield* settle("leaving", mirror, all, undefined)
      assert.deepStrictEqual(copied.take(), ["u"])
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
      yield* again.run.stop
    }))

  it.effect("a managed publication whose entry for a table was made anew has the table copied again, from its first copy on", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema(
        "entries",
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u VALUES (1)"
      )
      const mirror = new Mirror()
      const copied = copiesOf()
      const all = { each: copied.each }
      yield* SourceRun.catchUp("entries", mirror, all)
      assert.deepStrictEqual(copied.take(), ["t", "u"])
      yield* write(
        "ALTER PUBLICATION entries DROP TABLE u; COMMIT; INSERT INTO u VALUES (2); COMMIT; ALTER PUBLICATION entries ADD TABLE u"
      )
      yield* SourceRun.catchUp("entries", mirror, all)
      assert.deepStrictEqual(copied.take(), ["u"])
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
    }))

  it.effect("a publication that is dropped while the pipeline runs isn't taken for silence", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema(
        "dropped",
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1); CREATE PUBLICATION dropped FOR TABLE t"
      )
      const mirror = new Mirror()
      const progress = Progress.make("dropped")
      const run = yield* SourceRun.start("dropped", mirror, { ...options, progress })
      yield* run.caughtUp
      yield* write("DROP PUBLICATION dropped")
      yield* run.until(() => progress.conditions.size > 0)
      assert.include(
        [...progress.conditions.values()][0]?.message,
        "publication dropped no longer publishes table dropped.t"
      )
      yield* write("INSERT INTO t VALUES (2)")
      if (version >= 18) {
        // The server goes on without it and only notes so in its own log.
        yield* run.caughtUp
        yield* write("CREATE PUBLICATION dropped FOR TABLE t")
        assert.strictEqual((yield* run.failure).reason, "Fenced")
        yield* run.stop
        yield* SourceRun.catchUp("dropped", mirror, options)
        assert.deepStrictEqual(yield* mirror.differences(pg), [])
      } else {
        const error = yield* run.failure
        assert.strictEqual(error.reason, "Missing")
        assert.include(error.message, "a publication does not exist")
        yield* run.stop
      }
      yield* pg.query("DROP PUBLICATION IF EXISTS dropped")
      const error = yield* SourceRun.refused("dropped", mirror, options)
      assert.strictEqual(error.reason, "Missing")
      assert.include(error.message, "there is no publication dropped")
    }))

  it.effect("generated columns come as the server sends them, in the copy as in the stream", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const virtual = publishesGenerated ? ", w int GENERATED ALWAYS AS (a * 3) VIRTUAL" : ""
      const write = yield* SourceRun.schema(
        "generated",
        `CREATE TABLE t (id int PRIMARY KEY, g int GENERATED ALWAYS AS (a * 2) STORED, a int${virtual}, b text);
         INSERT INTO t (id, a, b) VALUES (1, 1, 'b'), (2, NULL, 'b'); CREATE PUBLICATION generated FOR TABLE t`
      )
      const changes =
        "INSERT INTO t (id, a) SELECT max(id) + 1, 5 FROM t; UPDATE t SET a = a + 1; UPDATE t SET id = id + 10 WHERE id = 2"
      const names = (mirror: Mirror) => mirror.tables.get("generated.t")?.schema.columns.map(({ name }) => name)
      const mirror = new Mirror()
      const copied = copiesOf()
      const all = { ...options, each: copied.each }
      const run = yield* SourceRun.start("generated", mirror, all)
      yield* run.caughtUp
      yield* write(changes)
      yield* run.caughtUp
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
      assert.deepStrictEqual(names(mirror), ["id", "a", "b"])
      copied.take()
      if (!publishesGenerated) {
        yield* run.stop
        return
      }
      yield* pg.query("ALTER PUBLICATION generated SET (publish_generated_columns = stored)")
      yield* write(changes)
      assert.strictEqual((yield* run.failure).reason, "Fenced")
      yield* run.stop
      const stored = yield* settle("generated", mirror, all, undefined)
      assert.deepStrictEqual(copied.take(), ["t"])
      yield* write(changes)
      yield* stored.run.caughtUp
      assert.deepStrictEqual(names(mirror), ["id", "g", "a", "b"])
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
      yield* stored.run.stop

      // A column list decides alone.
      yield* write("CREATE PUBLICATION listing FOR TABLE t (id, g)")
      const listing = new Mirror()
      const listed = yield* SourceRun.start("listing", listing, { ...options, tables: ["generated.t"] })
      yield* listed.caughtUp
      yield* write(changes)
      yield* listed.caughtUp
      assert.deepStrictEqual(names(listing), ["id", "g"])
      assert.deepStrictEqual(yield* listing.differences(pg), [])
      yield* listed.stop
    }))

  it.effect("rows of children by inheritance are their own tables' rows, however they were written", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema(
        "inherited",
        `CREATE TABLE parent (id int PRIMARY KEY, v text); CREATE TABLE child (w int, PRIMARY KEY (id)) INHERITS (parent);
         CREATE TABLE grandchild (x int, PRIMARY KEY (id)) INHERITS (child);
         INSERT INTO parent VALUES (1, 'p'), (2, 'p'); INSERT INTO child VALUES (1, 'c', 1), (3, 'c', 1); INSERT INTO grandchild VALUES (1, 'g', 1, 1)`
      )
      const only = { "inherited.parent": "ONLY inherited.parent", "inherited.child": "ONLY inherited.child" }
      for (const name of ["inherited", "with_children"]) {
        // Without ONLY it takes the children in.
        if (name === "with_children") yield* write("CREATE PUBLICATION with_children FOR TABLE parent")
        const mirror = new Mirror()
        const run = yield* SourceRun.start(name, mirror, {
          tables: ["inherited.*"],
          publication: { manage: name === "inherited" }
        })
        yield* run.caughtUp
        assert.deepStrictEqual(yield* mirror.differences(pg, only), [])
        yield* write(
          `UPDATE parent SET v = v || '!' WHERE id = 1; UPDATE ONLY parent SET v = 'only' WHERE id = 2; INSERT INTO grandchild VALUES (9, 'g', 2, 2);
           DELETE FROM parent WHERE id = 3; INSERT INTO child VALUES (3, 'again', 2); ALTER TABLE grandchild NO INHERIT child; UPDATE parent SET v = 'x';
           ALTER TABLE grandchild INHERIT child; TRUNCATE ONLY parent; INSERT INTO parent VALUES (2, 'p')`
        )
        yield* run.caughtUp
        assert.deepStrictEqual(yield* mirror.differences(pg, only), [])
        yield* write("TRUNCATE parent; INSERT INTO child VALUES (3, 'c', 1), (1, 'c', 1)")
        yield* run.caughtUp
        assert.deepStrictEqual(yield* mirror.differences(pg, only), [])
        assert.strictEqual(mirror.tables.size, 3)
        yield* run.stop
      }
    }))
})
