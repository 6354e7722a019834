/**
 * Partitioned tables in both ways of publishing them: whatever happens to partitions, the target is the table, exactly.
 */
import { assert, layer } from "@effect/vitest"
import * as Progress from "@etl-stream/core/Progress"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { Client } from "pg"
import { Mirror } from "./Mirror.ts"
import { type Step, walk } from "./Settled.ts"
import * as SourceRun from "./SourceRun.ts"

const { Server } = SourceRun

const big = (text: string) => `(SELECT string_agg(md5(i || ${text}), '') FROM generate_series(1, 300) i)`

/** In another order than the table's, one of them dropped: it was a table of its own once. */
const otherColumns = "w int, v text, gone int, region text NOT NULL, id int NOT NULL"

/** Two levels; `t_us` has the columns `own`. */
const setupWith = (own: string) => `
  CREATE TABLE t (id int, region text, v text, w int, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
  ALTER TABLE t ALTER COLUMN v SET STORAGE EXTERNAL;
  CREATE TABLE t_eu PARTITION OF t FOR VALUES IN ('eu') PARTITION BY RANGE (id);
  CREATE TABLE t_eu_1 PARTITION OF t_eu FOR VALUES FROM (0) TO (100);
  CREATE TABLE t_eu_2 PARTITION OF t_eu FOR VALUES FROM (100) TO (200);
  CREATE TABLE t_us (${own}, PRIMARY KEY (id, region));
  ALTER TABLE t_us DROP COLUMN IF EXISTS gone; ALTER TABLE t_us ALTER COLUMN v SET STORAGE EXTERNAL;
  ALTER TABLE t ATTACH PARTITION t_us FOR VALUES IN ('us');
  INSERT INTO t SELECT i, CASE WHEN i % 3 = 0 THEN 'us' ELSE 'eu' END, 'row ' || i, i FROM generate_series(1, 150) i;
  INSERT INTO t VALUES (151, 'us', ${big("'us'")}, 1), (152, 'eu', ${big("'eu'")}, 1);
  CREATE TABLE other (id int PRIMARY KEY)`

const setup = setupWith(otherColumns)

/** Before version 15 such partitions can't be published as their table: see `Publication.convertsRows`. */
const setupFor = (viaRoot: boolean) =>
  viaRoot && EmbeddedPostgres.version < 15
    ? setupWith("id int NOT NULL, region text NOT NULL, v text, w int")
    : setup

const apart = "CREATE TABLE t_as (LIKE t INCLUDING ALL); INSERT INTO t_as VALUES (1, 'as', 'before', 1)"

const steps: ReadonlyArray<Step> = [
  {
    title: "changes in every partition",
    sql: `INSERT INTO t VALUES (10, 'us', 'new', 1), (199, 'eu', 'new', 1); UPDATE t SET w = w + 1 WHERE id > 140;
      DELETE FROM t WHERE id < 6; UPDATE t SET id = 190 WHERE id = 20; UPDATE t SET v = NULL WHERE id = 21`
  },
  {
    title: "rows that move between partitions, with a value that isn't rewritten",
    sql:
      `UPDATE t SET region = 'us' WHERE id IN (7, 152); UPDATE t SET region = 'eu' WHERE id IN (151, 9); UPDATE t SET id = 5 WHERE id = 100;
      UPDATE t SET w = 77 WHERE id IN (151, 152)`
  },
  {
    title: "a partition that is created and written to",
    sql:
      "CREATE TABLE t_ca PARTITION OF t FOR VALUES IN ('ca'); INSERT INTO t VALUES (1, 'ca', 'x', 1); UPDATE t SET region = 'ca' WHERE id = 7"
  },
  {
    title: "a partition that is attached empty by the transaction that makes it",
    sql: `BEGIN; CREATE TABLE t_za (LIKE t INCLUDING ALL); ALTER TABLE t ATTACH PARTITION t_za FOR VALUES IN ('za');
      INSERT INTO t VALUES (1, 'za', 'x', 1); COMMIT; UPDATE t SET w = 9 WHERE region = 'za'`
  },
  {
    title: "a partition that is attached with rows",
    sql:
      `${apart}; COMMIT; ALTER TABLE t ATTACH PARTITION t_as FOR VALUES IN ('as'); COMMIT; INSERT INTO t VALUES (2, 'as', 'after', 2)`,
    copies: ["t"]
  },
  {
    title: "a partition that is made, filled and attached by one transaction",
    sql: `BEGIN; ${apart.replaceAll("t_as", "t_af").replace("'as'", "'af'")};
      ALTER TABLE t ATTACH PARTITION t_af FOR VALUES IN ('af'); COMMIT; UPDATE t SET w = 5 WHERE id = 30`,
    copies: ["t"]
  },
  {
    title: "a partitioned table that is attached with its partitions",
    sql:
      `CREATE TABLE t_sa (LIKE t INCLUDING ALL) PARTITION BY RANGE (id); CREATE TABLE t_sa_1 PARTITION OF t_sa FOR VALUES FROM (0) TO (10);
      INSERT INTO t_sa VALUES (1, 'sa', 'x', 1); COMMIT; ALTER TABLE t ATTACH PARTITION t_sa FOR VALUES IN ('sa')`,
    copies: ["t"]
  },
  {
    title: "a partition that is detached, and changed by itself",
    sql:
      "ALTER TABLE t DETACH PARTITION t_as; COMMIT; UPDATE t_as SET w = 100; INSERT INTO t VALUES (31, 'us', 'x', 1) ON CONFLICT DO NOTHING",
    copies: ["t"]
  },
  {
    title: "a partition that comes back with other rows",
    sql: "ALTER TABLE t ATTACH PARTITION t_as FOR VALUES IN ('as')",
    copies: ["t"]
  },
  {
    title: "a partition that is detached and attached again between two looks",
    sql:
      "BEGIN; ALTER TABLE t DETACH PARTITION t_as; DELETE FROM t_as WHERE id = 1; ALTER TABLE t ATTACH PARTITION t_as FOR VALUES IN ('as'); COMMIT",
    copies: ["t"]
  },
  {
    title: "a partition that is truncated",
    sql: "TRUNCATE t_us; INSERT INTO t VALUES (134, 'us', 'x', 1)",
    copies: ["t"]
  },
  { title: "a partition that is dropped", sql: "DROP TABLE t_eu_2; DROP TABLE t_za", copies: ["t"] },
  {
    title: "the whole table truncated between changes",
    sql:
      "BEGIN; INSERT INTO t VALUES (34, 'us', 'x', 1); TRUNCATE t, other; INSERT INTO t VALUES (35, 'us', 'x', 1), (1, 'eu', 'y', 1); COMMIT",
    // More than needed: another file may mean a partition that was truncated by itself.
    copies: ["t"]
  },
  {
    title: "columns that are added and dropped",
    sql:
      `ALTER TABLE t ADD COLUMN x int; INSERT INTO t (id, region, x) VALUES (36, 'us', 3), (2, 'eu', 3); UPDATE t SET x = 4;
      ALTER TABLE t DROP COLUMN w; INSERT INTO t (id, region, v, x) VALUES (37, 'us', 'v', 3), (3, 'eu', 'v', 3)`
  }
]

/** Column changes end a run for the next one, without a copy. */
const options = (name: string): SourceRun.StartOptions => ({
  tables: [`${name}.t`, `${name}.other`],
  publication: { manage: false, check: "200 millis" }
})

layer(Server.layer, { excludeTestServices: true })("Partition", (it) => {
  for (const viaRoot of [true, false]) {
    const mode = viaRoot ? "as their table" : "under their own names"
    it.effect(`partitions that are published ${mode} are one table, whatever happens to them`, () =>
      Effect.gen(function*() {
        const pg = yield* Server
        const name = viaRoot ? "by_table" : "by_partition"
        const write = yield* SourceRun.schema(name, setupFor(viaRoot))
        yield* pg.query(
          `CREATE PUBLICATION ${name} FOR TABLE ${name}.t, ${name}.other WITH (publish_via_partition_root = ${viaRoot})`
        )
        const mirror = new Mirror()
        yield* walk(name, mirror, options(name), steps, write, mirror.differences(pg))
        assert.deepStrictEqual([...mirror.tables.keys()].sort(), [`${name}.other`, `${name}.t`])
        assert.isAbove(mirror.unsentCells, 0)
      }))

    it.effect(`rows of partitions that go, published ${mode}, stay when they are to be kept`, () =>
      Effect.gen(function*() {
        const pg = yield* Server
        const name = viaRoot ? "kept_table" : "kept_partition"
        const write = yield* SourceRun.schema(name, setupFor(viaRoot))
        yield* pg.query(`CREATE PUBLICATION ${name} FOR TABLE ${name}.t, ${name}.other
          WITH (publish_via_partition_root = ${viaRoot})`)
        const mirror = new Mirror()
        const keep = { ...options(name), removedPartitions: "keep" }
        const held = () => mirror.tables.get(`${name}.t`)?.rows.size ?? 0
        const progress = Progress.make(name)
        const run = yield* SourceRun.start(name, mirror, { ...keep, progress })
        yield* run.caughtUp
        assert.strictEqual(held(), 152)
        yield* write("TRUNCATE t_us; DROP TABLE t_eu_1; INSERT INTO t VALUES (500, 'us', 'x', 1); UPDATE t SET w = 0")
        yield* run.until(() => [...progress.conditions.values()].some((one) => one.name === "partition-rows-kept"))
        yield* run.caughtUp
        yield* run.stop
        yield* write("ALTER TABLE t DETACH PARTITION t_eu")
        yield* SourceRun.catchUp(name, mirror, keep)
        assert.deepStrictEqual(mirror.problems, [])
        assert.strictEqual(held(), 153, [...mirror.tables.get(`${name}.t`)?.rows.keys() ?? []].slice(-8).join(" "))
        assert.strictEqual(mirror.tables.get(`${name}.t`)?.copiedRows, 152)
        // Exactness can be had back.
        yield* SourceRun.catchUp(name, mirror, options(name))
        assert.strictEqual(mirror.tables.get(`${name}.t`)?.copiedRows, 152)
      }))
  }

  it.effect("partitions that are listed by themselves are tables of their own", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema("leaves", setup)
      const tables = ["leaves.t_eu_*", "leaves.t_us"]
      yield* pg.query("CREATE PUBLICATION hiding FOR TABLE leaves.t WITH (publish_via_partition_root = true)")
      const hidden = yield* SourceRun.refused("leaves", new Mirror(), {
        tables,
        publication: { name: "hiding", manage: false }
      })
      assert.strictEqual(hidden.reason, "Misconfigured")
      assert.match(
        hidden.message,
        /publishes changes of .*leaves\.t_us.* as those of the tables that they are partitions of/
      )

      for (const manage of [true, false]) {
        if (!manage) yield* pg.query("CREATE PUBLICATION own FOR TABLE leaves.t")
        const mirror = new Mirror()
        const run = yield* SourceRun.start(manage ? "leaves" : "own", mirror, {
          tables,
          publication: { manage }
        })
        yield* run.caughtUp
        yield* write(
          "UPDATE t SET w = w + 1; UPDATE t SET region = 'us' WHERE id = 50; DELETE FROM t WHERE id = 51; TRUNCATE t_eu_2; INSERT INTO t VALUES (50, 'eu', 'x', 0), (51, 'us', 'y', 0)"
        )
        yield* run.caughtUp
        assert.deepStrictEqual(yield* mirror.differences(pg), [])
        assert.deepStrictEqual([...mirror.tables.keys()].sort(), ["leaves.t_eu_1", "leaves.t_eu_2", "leaves.t_us"])
        yield* run.stop
        yield* write(
          "DELETE FROM t WHERE id = 50 OR id = 51; INSERT INTO t VALUES (50, 'eu', 'x', 0), (51, 'us', 'x', 0)"
        )
      }
    }))

  it.effect("a partition with another replica identity than its table is served when its old rows are complete, and refused otherwise", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      for (const viaRoot of [true, false]) {
        const name = `identities_${viaRoot}`
        const write = yield* SourceRun.schema(name, `${setupFor(viaRoot)}; ALTER TABLE t_us REPLICA IDENTITY FULL`)
        yield* pg.query(`CREATE PUBLICATION ${name} FOR TABLE ${name}.t, ${name}.other
          WITH (publish_via_partition_root = ${viaRoot})`)
        const mirror = new Mirror()
        yield* walk(name, mirror, options(name), steps.slice(0, 2), write, mirror.differences(pg))
        yield* write("ALTER TABLE t_eu_1 REPLICA IDENTITY NOTHING")
        const error = yield* SourceRun.refused(name, mirror, options(name))
        assert.strictEqual(error.reason, "Misconfigured")
        assert.match(error.message, /partition identities_\w+\.t_eu_1 has another replica identity than its table/)
      }
    }))

  it.effect("a partition that is unlogged is refused rather than missed", () =>
    Effect.gen(function*() {
      yield* SourceRun.schema(
        "unlogged",
        `CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10);
         CREATE UNLOGGED TABLE t_2 PARTITION OF t FOR VALUES FROM (10) TO (20)`
      )
      const error = yield* SourceRun.refused("unlogged", new Mirror())
      assert.strictEqual(error.reason, "Misconfigured")
      assert.include(error.message, "partition unlogged.t_2 is an unlogged table")
    }))

  it.effect("a partition with its columns in another order is refused where PostgreSQL may mix them up, and a publication of ours avoids it", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const reliable = EmbeddedPostgres.version >= 15
      const write = yield* SourceRun.schema("layouts", setup)
      yield* pg.query("CREATE PUBLICATION layouts FOR TABLE layouts.t WITH (publish_via_partition_root = true)")
      const unmanaged = { tables: ["layouts.t"], publication: { manage: false } }
      if (!reliable) {
        const error = yield* SourceRun.refused("layouts", new Mirror(), unmanaged)
        assert.strictEqual(error.reason, "Misconfigured")
        assert.match(error.message, /partition layouts\.t_us has its columns .* in another order than table layouts\.t/)
        yield* write("ALTER PUBLICATION layouts SET (publish_via_partition_root = false)")
      }
      yield* SourceRun.catchUp("layouts", new Mirror(), unmanaged)
      yield* SourceRun.catchUp("layouts_managed", new Mirror(), { tables: ["layouts.t"] })
      const [made] = yield* pg.query(
        `SELECT p.pubviaroot AS "viaRoot" FROM pg_publication p WHERE obj_description(p.oid) LIKE '%layouts_managed%'`
      )
      assert.strictEqual(made?.["viaRoot"], reliable)
    }))

  it.effect("looking at partitions holds no lock on one while it waits for another, so that no DDL is the victim of a deadlock", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      yield* SourceRun.schema("unlocked", setup)
      const run = yield* SourceRun.start("unlocked", new Mirror(), {
        tables: ["unlocked.t"],
        publication: { check: "200 millis" }
      })
      yield* run.caughtUp
      const blocker = yield* Effect.acquireRelease(
        Effect.promise(async () => {
          const client = new Client({ connectionString: pg.url })
          await client.connect()
          await client.query("BEGIN; LOCK TABLE unlocked.t_us IN ACCESS EXCLUSIVE MODE")
          return client
        }),
        (client) => Effect.promise(() => client.end())
      )
      const others = pg.query(
        `SELECT h.relation::regclass::text AS relation, h.mode FROM pg_locks w
         JOIN pg_locks h ON h.pid = w.pid AND h.granted JOIN pg_class c ON c.oid = h.relation AND c.relkind IN ('r', 'p')
         WHERE NOT w.granted AND w.relation = 'unlocked.t_us'::regclass AND c.relnamespace = 'unlocked'::regnamespace`
      )
      yield* pg.query("SELECT FROM pg_locks WHERE NOT granted AND relation = 'unlocked.t_us'::regclass").pipe(
        Effect.repeat({ schedule: Schedule.spaced("5 millis"), until: (waiting) => waiting.length > 0 })
      )
      assert.deepStrictEqual(yield* others, [])
      // What the deadlock would be made of.
      yield* Effect.promise(() =>
        blocker.query("LOCK TABLE unlocked.t_eu_1, unlocked.t IN ACCESS EXCLUSIVE MODE; COMMIT")
      )
      yield* run.caughtUp
    }))
})
