import { assert, layer } from "@effect/vitest"
import type { Element } from "@etl-stream/core/Element"
import * as Effect from "effect/Effect"
import { Mirror } from "./Mirror.ts"
import * as SourceRun from "./SourceRun.ts"

const { Server } = SourceRun

/** Chunks of one page of rows with more than a page of values out of line each. */
const small = { chunkBytes: 8192, fetchRows: 16 }

/** Rows whose column `big` is stored out of line. */
const bigTable = (name: string, rows: number, key = "id int PRIMARY KEY") =>
  `CREATE TABLE ${name} (${key}, v int, big text); ALTER TABLE ${name} ALTER COLUMN big SET STORAGE EXTERNAL;
   INSERT INTO ${name} SELECT i, 0, i || repeat('x', 3000) FROM generate_series(1, ${rows}) i;`

/** Holds the source up for good when `count` chunks have ended. */
const stopAfter = (count: number) => {
  let ended = 0
  const state = { reached: false }
  const each = (element: Element): Effect.Effect<void> => {
    if (element._tag === "SnapshotChunk" && ++ended === count) state.reached = true
    return state.reached && element._tag !== "SnapshotChunk" ? Effect.never : Effect.void
  }
  return { each, reached: () => state.reached }
}

layer(Server.layer, { excludeTestServices: true })("A copy that was cut off", (it) => {
  it.effect("goes on with the missing chunks in a new snapshot, exact for rows that were changed, deleted, moved or re-keyed in between", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema("resumed", bigTable("t", 60) + bigTable("small", 3))
      const mirror = new Mirror()
      const { each, reached } = stopAfter(8)
      const first = yield* SourceRun.start("resumed", mirror, { snapshot: { ...small, parallel: 2 }, each })
      yield* first.until(reached)
      // Without the values out of line: what they are is only known from the rows, wherever those were at which time.
      yield* write("UPDATE t SET v = 1 WHERE id % 3 = 0")
      yield* write("UPDATE t SET id = id + 1000 WHERE id % 7 = 0")
      yield* write("UPDATE t SET id = id - 1000 WHERE id = 1007")
      yield* write("UPDATE t SET id = -id WHERE id > 40 AND id < 100")
      yield* write("DELETE FROM t WHERE id = 5; INSERT INTO t VALUES (5, 5, 'five')")
      yield* write("DELETE FROM t WHERE id BETWEEN 20 AND 24")
      yield* first.stop
      const before = mirror.positions.get("resumed.t")
      const done = new Set(before?.copying?.chunks.keys())
      assert.isAtLeast(done.size, 5)
      yield* write("UPDATE t SET id = id + 2000 WHERE id BETWEEN -45 AND -41; UPDATE t SET v = 2 WHERE id = 1014")

      const second = yield* SourceRun.start("resumed", mirror, { snapshot: { ...small, parallel: 3 } })
      yield* write("UPDATE t SET id = id + 5000 WHERE id = 1021; UPDATE t SET v = v + 1")
      yield* second.caughtUp
      yield* write(
        "UPDATE t SET id = id + 5000 WHERE id = 1; DELETE FROM t WHERE id = 2; UPDATE t SET id = 2 WHERE id = 3"
      )
      yield* second.caughtUp
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
      const again = mirror.read.filter(([table]) => table === "t").map(([, chunk]) => chunk)
      assert.isAtLeast(again.length, 1)
      assert.deepStrictEqual(again.filter((chunk) => done.has(chunk)), [])
      assert.strictEqual(mirror.positions.get("resumed.t")?.copied, before?.copying?.position)
    }))

  it.effect("values that a re-keyed row carries into a chunk that was copied before are not lost, however often the key changes", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema("carried", bigTable("t", 40))
      const mirror = new Mirror()
      // The first chunk is complete, all others are missing.
      const { each, reached } = stopAfter(1)
      const first = yield* SourceRun.start("carried", mirror, { snapshot: { ...small, parallel: 1 }, each })
      yield* first.until(reached)
      // Out of the missing part into the copied one, and then on, over several transactions, and back.
      yield* write("UPDATE t SET id = -40 WHERE id = 40")
      yield* write("UPDATE t SET id = -39 WHERE id = 39")
      yield* write("UPDATE t SET id = -1039 WHERE id = -39")
      yield* write("UPDATE t SET id = 38000 WHERE id = 38; UPDATE t SET id = -38 WHERE id = 38000")
      yield* write("UPDATE t SET id = -37 WHERE id = 37; INSERT INTO t VALUES (37, 7, 'another 37')")
      yield* write("UPDATE t SET id = -36 WHERE id = 36; DELETE FROM t WHERE id = -36")
      yield* first.stop
      yield* write("UPDATE t SET id = -2039 WHERE id = -1039; UPDATE t SET v = 9 WHERE id = -40")
      const second = yield* SourceRun.start("carried", mirror, { snapshot: { ...small, parallel: 2 } })
      yield* second.caughtUp
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
      assert.strictEqual(mirror.tables.get("carried.t")?.rows.get(`["-2039"]`)?.row[2]?.slice(0, 4), "39xx")
    }))

  it.effect("goes on after a TRUNCATE in between: what was copied before is gone, what is copied later stays", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema("emptied", bigTable("t", 30))
      const mirror = new Mirror()
      const { each, reached } = stopAfter(3)
      const first = yield* SourceRun.start("emptied", mirror, { snapshot: { ...small, parallel: 1 }, each })
      yield* first.until(reached)
      yield* first.stop
      yield* write("TRUNCATE t; INSERT INTO t SELECT i, 1, 'new' FROM generate_series(1, 30, 2) i")
      yield* SourceRun.catchUp("emptied", mirror, { snapshot: small })
      assert.strictEqual(mirror.tables.get("emptied.t")?.rows.size, 15)
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
    }))

  it.effect("begins anew when the table has another shape, was replaced, or got another partition since", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema(
        "reshaped_copy",
        bigTable("added", 30) + bigTable("replaced", 30) +
          `CREATE TABLE part (id int PRIMARY KEY, v int, big text) PARTITION BY RANGE (id);
           CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (1000);
           INSERT INTO part SELECT i, 0, repeat('x', 1000) FROM generate_series(1, 99) i;`
      )
      const mirror = new Mirror()
      const ended = new Map<string, number>()
      const first = yield* SourceRun.start("reshaped_copy", mirror, {
        snapshot: { ...small, parallel: 3 },
        each: (element) => {
          if (element._tag !== "SnapshotChunk") return Effect.void
          const { name } = element.table.table
          ended.set(name, (ended.get(name) ?? 0) + 1)
          return ended.get(name) === 3 && name === "part" ? Effect.never : Effect.void
        }
      })
      yield* first.until(() => (ended.get("part") ?? 0) >= 3)
      yield* first.stop
      yield* write(
        `ALTER TABLE added ADD COLUMN w int DEFAULT 7; DROP TABLE replaced; ${bigTable("replaced", 20)}
         CREATE TABLE part_2 (id int PRIMARY KEY, v int, big text); INSERT INTO part_2 VALUES (1500, 1, 'attached');
         ALTER TABLE part ATTACH PARTITION part_2 FOR VALUES FROM (1000) TO (2000)`
      )
      yield* SourceRun.catchUp("reshaped_copy", mirror, { snapshot: small })
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
      assert.include(mirror.read.filter(([table]) => table === "part").map(([, chunk]) => chunk), 0)
    }))

  it.effect("of keys whose type has an order of its own, from an extension, reads every row once", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      yield* SourceRun.schema(
        "own_order",
        `CREATE EXTENSION IF NOT EXISTS citext SCHEMA public; CREATE EXTENSION IF NOT EXISTS ltree SCHEMA public;
         CREATE DOMAIN folded_text AS public.citext;
         CREATE TABLE folded (id folded_text COLLATE "C" PRIMARY KEY, v int, big text);
         INSERT INTO folded SELECT CASE WHEN i % 2 = 0 THEN 'K' ELSE 'k' END || i, 0, repeat('x', 1000) FROM generate_series(1, 200) i;
         CREATE TABLE tree (id public.ltree PRIMARY KEY, v int, big text);
         INSERT INTO tree SELECT ('top.n' || i)::public.ltree, 0, repeat('x', 1000) FROM generate_series(1, 200) i`
      )
      const mirror = new Mirror()
      const rows = new Map<string, number>()
      yield* SourceRun.catchUp("own_order", mirror, {
        snapshot: small,
        each: (element) =>
          Effect.sync(() => {
            if (element._tag !== "SnapshotRows") return
            const { name } = element.batch.table.table
            rows.set(name, (rows.get(name) ?? 0) + element.batch.rows)
          })
      })
      assert.deepStrictEqual(rows, new Map([["folded", 200], ["tree", 200]]))
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
    }))

  it.effect("finds rows with new keys of an extension's type, whose values out of line weren't sent", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema(
        "own_equality",
        `CREATE EXTENSION IF NOT EXISTS citext SCHEMA public; CREATE EXTENSION IF NOT EXISTS ltree SCHEMA public;
         CREATE TABLE moved (a public.ltree, b public.citext, n int, big text, PRIMARY KEY (n, a, b));
         ALTER TABLE moved ALTER COLUMN big SET STORAGE EXTERNAL;
         INSERT INTO moved SELECT ('top.n' || i)::public.ltree, 'K' || i, i, i || repeat('x', 3000) FROM generate_series(1, 40) i`
      )
      const mirror = new Mirror()
      let reached = false
      const first = yield* SourceRun.start("own_equality", mirror, {
        snapshot: { ...small, parallel: 1 },
        each: (element) =>
          element._tag === "SnapshotRows"
            ? Effect.andThen(Effect.sync(() => (reached = true)), Effect.never)
            : Effect.void
      })
      yield* first.until(() => reached)
      // The copy began before these, and is read after them.
      yield* write("UPDATE moved SET a = ('other.n' || n)::public.ltree, b = b || 'y' WHERE n % 2 = 0")
      yield* write("UPDATE moved SET n = n + 1000 WHERE n % 3 = 0")
      yield* first.stop
      assert.isDefined(mirror.positions.get("own_equality.moved")?.copying)
      yield* SourceRun.catchUp("own_equality", mirror, { snapshot: small })
      yield* write("UPDATE moved SET n = n + 5000")
      yield* SourceRun.catchUp("own_equality", mirror, { snapshot: small })
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
    }))

  it.effect("needs no chunk again when only its end was missing", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema("nearly", bigTable("t", 20))
      const mirror = new Mirror()
      let held = false
      const first = yield* SourceRun.start("nearly", mirror, {
        snapshot: small,
        each: (element) =>
          element._tag === "SnapshotEnd" ? Effect.andThen(Effect.sync(() => (held = true)), Effect.never) : Effect.void
      })
      yield* first.until(() => held)
      yield* first.stop
      assert.isUndefined(mirror.positions.get("nearly.t")?.copied)
      yield* write("UPDATE t SET id = id + 100 WHERE id < 5")
      yield* SourceRun.catchUp("nearly", mirror, { snapshot: small })
      assert.deepStrictEqual(mirror.read, [])
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
    }))

  it.effect("is void when the slot is gone, whose changes it needs", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema("slotless", bigTable("t", 30))
      const mirror = new Mirror()
      const { each, reached } = stopAfter(3)
      const first = yield* SourceRun.start("slotless", mirror, { snapshot: { ...small, parallel: 1 }, each })
      yield* first.until(reached)
      yield* first.stop
      yield* SourceRun.released(pg, "slotless")
      yield* Effect.orDie(pg.query("SELECT pg_drop_replication_slot('slotless')"))
      yield* write("DELETE FROM t WHERE id = 1; UPDATE t SET v = 5")
      yield* SourceRun.catchUp("slotless", mirror, { snapshot: small })
      assert.include(mirror.read.map(([, chunk]) => chunk), 0)
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
    }))

  it.effect("keys of every kind cut a table into chunks that hold each row once", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      yield* SourceRun.schema(
        "keys",
        `CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
         CREATE DOMAIN code AS text;
         CREATE COLLATION keys.insensitive (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         CREATE TABLE uuids (id uuid PRIMARY KEY, f text); INSERT INTO uuids SELECT md5(i::text)::uuid, repeat('x', 200) FROM generate_series(1, 500) i;
         CREATE TABLE texts (id text COLLATE keys.insensitive PRIMARY KEY, f text);
         INSERT INTO texts SELECT chr(65 + i % 26) || '\\''"' || i, repeat('x', 200) FROM generate_series(1, 500) i;
         CREATE TABLE floats (id float8 PRIMARY KEY, f text);
         INSERT INTO floats SELECT 1 / i::float8, repeat('x', 200) FROM generate_series(1, 500) i;
         INSERT INTO floats VALUES ('NaN'), ('Infinity'), ('-Infinity'), ('-0');
         CREATE TABLE stamps (a timestamptz, b mood, c code, d bytea, f text, PRIMARY KEY (d, c, b, a));
         INSERT INTO stamps SELECT now() + i * interval '1 day', (ARRAY['sad', 'ok', 'happy'])[i % 3 + 1]::mood, 'c' || i, decode(md5(i::text), 'hex'), repeat('x', 200)
         FROM generate_series(1, 500) i;
         CREATE TABLE pairs (a int[], b numeric, c char(4), f text, PRIMARY KEY (a, b, c));
         INSERT INTO pairs SELECT ARRAY[i % 5, i], i / 7.0, 'c' || i % 9, repeat('x', 200) FROM generate_series(1, 500) i;
         CREATE TABLE indexed (x int NOT NULL, y int NOT NULL, f text); CREATE UNIQUE INDEX i ON indexed (y DESC, x);
         ALTER TABLE indexed REPLICA IDENTITY USING INDEX i; INSERT INTO indexed SELECT i, i % 7, repeat('x', 200) FROM generate_series(1, 500) i`
      )
      const mirror = new Mirror()
      yield* SourceRun.catchUp("keys", mirror, { snapshot: { ...small, parallel: 3 } })
      for (const name of ["uuids", "texts", "floats", "stamps", "pairs", "indexed"]) {
        assert.isAtLeast(mirror.read.filter(([table]) => table === name).length, 4, name)
      }
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
    }))

  it.effect("is cut off again and again while rows change, move and change their keys, and is exact in the end", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema(
        "storms",
        bigTable("t", 120) +
          bigTable("u", 60, "a int, b text, PRIMARY KEY (b, a)").replace("SELECT i, 0,", "SELECT i, 'k' || i % 9, 0,")
      )
      let random = 7
      const below = (n: number): number => {
        random = (random * 1103515245 + 12345) % 2147483648
        return Math.floor(random / 65536) % n
      }
      const change = () =>
        [
          `UPDATE t SET id = id + ${200 + below(500)} WHERE id = ${
            below(150)
          } AND NOT EXISTS (SELECT FROM t WHERE id > 150)`,
          `UPDATE t SET id = ${below(2000) - 1000} WHERE id = (SELECT id FROM t OFFSET ${below(40)} LIMIT 1)`,
          `UPDATE t SET v = v + 1 WHERE id % 11 = ${below(11)}`,
          `DELETE FROM t WHERE id = ${below(150)}`,
          `INSERT INTO t VALUES (${below(150)}, 1, 'again') ON CONFLICT DO NOTHING`,
          `UPDATE u SET b = 'k' || ${below(9)}, a = a + 1000 WHERE a % 13 = ${below(13)}`,
          `UPDATE u SET v = v + 1 WHERE b = 'k${below(9)}'`
        ][below(7)] ?? ""
      const attempt = (sql: string) => pg.query(`SET search_path = storms; ${sql}`).pipe(Effect.ignore)
      const mirror = new Mirror()
      for (let round = 0; round < 12; round++) {
        let left = 5 + below(60)
        let stopped = false
        const run = yield* SourceRun.start("storms", mirror, {
          snapshot: { ...small, parallel: 1 + below(3) },
          each: () => {
            if (--left <= 0) stopped = true
            return stopped ? Effect.never : below(3) === 0 ? attempt(change()) : Effect.void
          }
        })
        yield* Effect.raceFirst(run.until(() => stopped), run.copied)
        for (let i = 0; i < 4; i++) yield* attempt(change())
        yield* run.stop
        if (mirror.positions.get("storms.t")?.copied !== undefined) break
      }
      yield* SourceRun.catchUp("storms", mirror, { snapshot: small })
      yield* write("UPDATE t SET v = v + 1")
      yield* SourceRun.catchUp("storms", mirror, { snapshot: small })
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
    }))

  it.effect("lets the slot go on: what streams beside it comes, and is acknowledged, before it is complete", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema("beside", bigTable("t", 60) + "CREATE TABLE other (id int PRIMARY KEY)")
      const mirror = new Mirror()
      let beside = 0
      const run = yield* SourceRun.start("beside", mirror, {
        snapshot: { ...small, parallel: 1 },
        each: (element) => {
          if (element._tag === "SnapshotChunk" && element.table.table.name === "t") {
            return write(`INSERT INTO other VALUES (${element.chunk}); UPDATE t SET v = v + 1`)
          }
          const copying = mirror.tables.get("beside.t")?.copying === true
          if (copying && element._tag === "Watermark" && mirror.tables.get("beside.other")?.rows.size !== 0) beside++
          return Effect.void
        }
      })
      yield* run.copied
      yield* run.caughtUp
      assert.isAbove(beside, 0)
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
    }))
})
