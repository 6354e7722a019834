import { assert, layer } from "@effect/vitest"
import type * as Element from "@etl-stream/core/Element"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as Effect from "effect/Effect"
import * as References from "effect/References"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as Catalog from "../src/Catalog.ts"
import * as Connections from "../src/Connections.ts"
import * as Publication from "../src/Publication.ts"
import * as Slot from "../src/Slot.ts"
import * as Snapshot from "../src/Snapshot.ts"
import { Mirror } from "./Mirror.ts"
import * as SourceRun from "./SourceRun.ts"

const { Server } = SourceRun

/** Publications have column lists and row filters since PostgreSQL 15. */
const hasLists = EmbeddedPostgres.version >= 15

/** A snapshot of all tables of a schema, where `meanwhile` happens after it was exported and before it is opened. */
const openAfter = (name: string, meanwhile: Effect.Effect<void>) =>
  Effect.gen(function*() {
    const pg = yield* Server
    const connections = yield* Connections.make(SourceRun.settings({ url: pg.url, tables: [`${name}.*`] }, name))
    const readTables = Catalog.read(connections, connections.settings.tables, undefined, 180000)
    const { tables, types } = yield* readTables
    const exported = yield* Slot.create(connections, "temporary")
    yield* meanwhile
    return yield* Snapshot.open(
      connections,
      exported,
      tables.map((table) => ({ table, unfinished: undefined })),
      readTables,
      types,
      (_, latest) => latest,
      () => false
    )
  }).pipe(Effect.provideService(References.MinimumLogLevel, "None"))

layer(Server.layer, { excludeTestServices: true })("Snapshot", (it) => {
  it.effect("tables that were truncated, rewritten or altered before they are locked are not taken for empty or complete", () =>
    Effect.gen(function*() {
      const write = yield* SourceRun.schema(
        "moved",
        `CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1);
         CREATE TABLE part (id int) PARTITION BY RANGE (id); CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10);
         INSERT INTO part VALUES (1)`
      )
      for (
        const statement of [
          "TRUNCATE t",
          "ALTER TABLE t ALTER COLUMN v TYPE bigint",
          "ALTER TABLE t ADD COLUMN w int",
          "ALTER TABLE t RENAME COLUMN w TO ww",
          "TRUNCATE part_1",
          "ALTER TABLE part DETACH PARTITION part_1; ALTER TABLE part ATTACH PARTITION part_1 FOR VALUES FROM (0) TO (10)",
          "CREATE TABLE part_2 (id int); INSERT INTO part_2 VALUES (10); ALTER TABLE part ATTACH PARTITION part_2 FOR VALUES FROM (10) TO (20)",
          "VACUUM FULL t",
          "DROP TABLE t"
        ]
      ) {
        const meanwhile = statement.startsWith("VACUUM")
          ? Effect.flatMap(Server, (pg) => Effect.orDie(pg.query("VACUUM FULL moved.t")))
          : write(statement)
        const pg = yield* Server
        const error = yield* openAfter("moved", Effect.asVoid(Effect.provideService(meanwhile, Server, pg))).pipe(
          Effect.scoped,
          Effect.flip
        )
        assert.strictEqual(error.reason, "Fenced", statement)
        assert.match(error.message, /table moved\.(t|part|part_1) was altered/, statement)
      }
    }))

  it.effect("tables can't be altered while they are copied, and a copy that nobody pulls stays at the server", () =>
    Effect.gen(function*() {
      const write = yield* SourceRun.schema(
        "stalled",
        "CREATE TABLE t (id int PRIMARY KEY, filler text); INSERT INTO t SELECT i, repeat(md5(i::text), 30) FROM generate_series(1, 60000) i"
      )
      const pg = yield* Server
      const { elements } = yield* openAfter("stalled", Effect.void)
      let rows = 0
      yield* elements.pipe(
        Stream.tap((element: Element.Element) => {
          if (element._tag !== "SnapshotRows") return Effect.void
          if (rows++ > 0) return Effect.void
          // The first batch is held until the server has filled all buffers and waits for us.
          return Effect.gen(function*() {
            yield* pg.query(
              "SELECT wait_event FROM pg_stat_activity WHERE application_name = 'etl-stream stalled' AND query LIKE 'COPY%'"
            ).pipe(Effect.repeat({
              schedule: Schedule.spaced("5 millis"),
              until: ([session]) => session?.["wait_event"] === "ClientWrite"
            }))
            const altered = yield* Effect.exit(
              pg.query("SET LOCAL lock_timeout = '50ms'; ALTER TABLE stalled.t ADD COLUMN x int")
            )
            assert.strictEqual(altered._tag, "Failure")
          })
        }),
        Stream.runDrain
      )
      assert.isAbove(rows, 5)
      yield* write("INSERT INTO t VALUES (0)")
    }).pipe(Effect.scoped))

  if (hasLists) {
    it.effect("column lists, row filters and children by inheritance are copied as they are published", () =>
      Effect.gen(function*() {
        const write = yield* SourceRun.schema(
          "filtered",
          `CREATE TABLE t (id int PRIMARY KEY, secret text, v int); INSERT INTO t SELECT i, 'secret', i FROM generate_series(1, 10) i;
         CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);
         INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2);
         CREATE PUBLICATION filtered FOR TABLE t (id, v) WHERE (id > 3), ONLY parent, ONLY child`
        )
        const mirror = new Mirror()
        const run = yield* SourceRun.start("filtered", mirror, { publication: { manage: false } })
        yield* run.copied
        yield* write(
          "INSERT INTO t VALUES (11, 'secret', 1), (0, 'secret', 1); UPDATE t SET v = 0; DELETE FROM t WHERE id < 5; UPDATE child SET id = 3"
        )
        yield* run.caughtUp
        const table = mirror.tables.get("filtered.t")
        assert.deepStrictEqual(table?.schema.columns.map(({ name }) => name), ["id", "v"])
        assert.deepStrictEqual(
          [...(table?.rows.keys() ?? [])].sort(),
          ["10", "11", "5", "6", "7", "8", "9"].map((id) => `["${id}"]`)
        )
        assert.deepStrictEqual([...(mirror.tables.get("filtered.parent")?.rows.keys() ?? [])], [`["1"]`])
        assert.deepStrictEqual([...(mirror.tables.get("filtered.child")?.rows.keys() ?? [])], [`["3"]`])
        assert.deepStrictEqual(mirror.problems, [])
      }))
  }

  it.effect("a role that may read a partitioned table but not its partitions copies by way of the table", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      yield* SourceRun.schema(
        "by_root",
        `CREATE TABLE part (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
         CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10); CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (10) TO (20);
         CREATE TABLE empty (id int PRIMARY KEY) PARTITION BY RANGE (id);
         INSERT INTO part SELECT i, i FROM generate_series(1, 19) i;
         CREATE PUBLICATION by_root FOR TABLE part, empty WITH (publish_via_partition_root = true);
         CREATE ROLE rooted LOGIN REPLICATION PASSWORD 'rooted'; GRANT USAGE ON SCHEMA by_root TO rooted; GRANT SELECT ON part, empty TO rooted`
      )
      const mirror = new Mirror()
      yield* SourceRun.catchUp("by_root", mirror, {
        url: pg.urlOf({ user: "rooted", password: "rooted" }),
        publication: { manage: false }
      })
      assert.strictEqual(mirror.tables.get("by_root.part")?.rows.size, 19)
      assert.isDefined(mirror.tables.get("by_root.empty")?.copied)
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
    }))

  it.effect("foreign partitions are neither read nor locked, and the others are copied one by one", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      // Reading a table of this wrapper is an error.
      yield* SourceRun.schema(
        "elsewhere",
        `CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER nowhere FOREIGN DATA WRAPPER nowhere;
         CREATE TABLE part (id int, v text) PARTITION BY RANGE (id); ALTER TABLE part REPLICA IDENTITY FULL;
         CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10); ALTER TABLE part_1 REPLICA IDENTITY FULL;
         CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (10) TO (20); ALTER TABLE part_2 REPLICA IDENTITY FULL;
         CREATE FOREIGN TABLE part_3 PARTITION OF part FOR VALUES FROM (20) TO (30) SERVER nowhere;
         CREATE TABLE remote (id int) PARTITION BY RANGE (id);
         CREATE FOREIGN TABLE remote_1 PARTITION OF remote FOR VALUES FROM (0) TO (10) SERVER nowhere;
         INSERT INTO part SELECT i, i FROM generate_series(1, 19) i;
         CREATE PUBLICATION elsewhere FOR TABLE part, remote WITH (publish_via_partition_root = true);
         CREATE ROLE partial LOGIN REPLICATION PASSWORD 'partial'; GRANT USAGE ON SCHEMA elsewhere TO partial;
         GRANT SELECT ON part, part_1, remote TO partial`
      )
      const options = {
        url: pg.urlOf({ user: "partial", password: "partial" }),
        publication: { manage: false },
        snapshot: { parallel: 3 }
      }
      const mirror = new Mirror()
      const error = yield* SourceRun.refused("elsewhere", mirror, options)
      assert.strictEqual(error.reason, "Forbidden")
      assert.match(error.message, /role partial may not read partition elsewhere\.part_2,.*foreign partitions/)
      assert.include(error.hint, `GRANT SELECT ON "elsewhere"."part_2" TO "partial"`)

      yield* pg.query(/GRANT SELECT [^.]*\.[^.]*/.exec(error.hint)?.[0] ?? "SELECT 1/0")
      const run = yield* SourceRun.start("elsewhere", mirror, options)
      yield* run.copied
      yield* pg.query("INSERT INTO elsewhere.part VALUES (0, 'new')")
      yield* run.caughtUp
      assert.strictEqual(mirror.tables.get("elsewhere.part")?.rows.size, 20)
      assert.isDefined(mirror.tables.get("elsewhere.remote")?.copied)
      assert.strictEqual(mirror.tables.get("elsewhere.remote")?.rows.size, 0)
      assert.deepStrictEqual(mirror.problems, [])
    }))

  if (hasLists) {
    it.effect("rights to the published columns are enough, also of a table that is large enough for ranges", () =>
      Effect.gen(function*() {
        const pg = yield* Server
        yield* SourceRun.schema(
          "some_columns",
          // A page holds one row.
          `CREATE TABLE wide (id int PRIMARY KEY, secret text, filler text) WITH (fillfactor = 10, autovacuum_enabled = off);
         ALTER TABLE wide ALTER COLUMN filler SET STORAGE PLAIN;
         INSERT INTO wide SELECT i, 'secret', repeat('x', 500) FROM generate_series(1, 8300) i;
         CREATE TABLE part (id int PRIMARY KEY, secret text) PARTITION BY RANGE (id);
         CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10); INSERT INTO part VALUES (1, 'secret');
         CREATE PUBLICATION some_columns FOR TABLE wide (id, filler), part (id) WITH (publish_via_partition_root = true);
         CREATE ROLE columns LOGIN REPLICATION PASSWORD 'columns'; GRANT USAGE ON SCHEMA some_columns TO columns;
         GRANT SELECT (id, filler) ON wide TO columns; GRANT SELECT (id) ON part TO columns`
        )
        const mirror = new Mirror()
        yield* SourceRun.catchUp("some_columns", mirror, {
          url: pg.urlOf({ user: "columns", password: "columns" }),
          publication: { manage: false }
        })
        assert.strictEqual(mirror.tables.get("some_columns.wide")?.rows.size, 8300)
        assert.strictEqual(mirror.tables.get("some_columns.part")?.rows.size, 1)
        assert.deepStrictEqual(mirror.problems, [])
      }))
  }

  it.effect("partitions are locked with their table while it is copied", () =>
    Effect.gen(function*() {
      yield* SourceRun.schema(
        "locked",
        `CREATE TABLE t (id int PRIMARY KEY);
         CREATE TABLE part (id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10)`
      )
      yield* openAfter("locked", Effect.void)
      const pg = yield* Server
      for (const statement of ["TRUNCATE locked.t", "TRUNCATE locked.part_1", "DROP TABLE locked.part_1"]) {
        const error = yield* Effect.flip(pg.query(`SET LOCAL lock_timeout = '20ms'; ${statement}`))
        assert.include(error.message, "lock timeout", statement)
      }
    }).pipe(Effect.scoped))

  const members = (name: string) =>
    Effect.gen(function*() {
      const pg = yield* Server
      const connections = yield* Connections.make(SourceRun.settings({ url: pg.url }, name))
      return [...(yield* Publication.read(connections, name, pg.version * 10_000))?.tables.keys() ?? []].sort()
    }).pipe(Effect.scoped)

  it.effect("the tables of a publication that the pipeline made are exactly the pipeline's", () =>
    Effect.gen(function*() {
      yield* SourceRun.schema("managed", "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)")
      yield* SourceRun.catchUp("managed", new Mirror())
      assert.deepStrictEqual(yield* members("managed"), ["managed.a", "managed.b"])
      yield* SourceRun.catchUp("managed", new Mirror(), { tables: ["managed.b"] })
      assert.deepStrictEqual(yield* members("managed"), ["managed.b"])
    }))

  it.effect("a publication that somebody else made, or another pipeline, gets missing tables and loses none", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      yield* SourceRun.schema(
        "shared",
        `CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY);
         CREATE PUBLICATION shared FOR TABLE a, b`
      )
      const all = ["shared.a", "shared.b", "shared.c"]
      yield* SourceRun.catchUp("shared", new Mirror(), { tables: ["shared.b", "shared.c"] })
      assert.deepStrictEqual(yield* members("shared"), all)
      yield* pg.query("COMMENT ON PUBLICATION shared IS 'etl-stream pipeline another'")
      yield* SourceRun.catchUp("shared", new Mirror(), { tables: ["shared.c"] })
      assert.deepStrictEqual(yield* members("shared"), all)

      // Nothing is missing, so nothing is needed but to read.
      yield* pg.query(
        `CREATE ROLE guest LOGIN REPLICATION PASSWORD 'guest'; GRANT USAGE ON SCHEMA shared TO guest;
         GRANT SELECT ON ALL TABLES IN SCHEMA shared TO guest`
      )
      const url = pg.urlOf({ user: "guest", password: "guest" })
      yield* SourceRun.catchUp("shared", new Mirror(), { url, tables: ["shared.a"] })
      assert.deepStrictEqual(yield* members("shared"), all)
    }))
})
