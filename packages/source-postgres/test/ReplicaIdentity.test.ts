/**
 * Replica identities: which row a change is about, for every setting and while it changes.
 */
import { assert, layer } from "@effect/vitest"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as Effect from "effect/Effect"
import { Mirror } from "./Mirror.ts"
import { walk } from "./Settled.ts"
import * as SourceRun from "./SourceRun.ts"

const { Server } = SourceRun

const big = (seed: string) => `(SELECT string_agg(md5(g || ${seed}), '') FROM generate_series(1, 200) g)`

layer(Server.layer, { excludeTestServices: true })("ReplicaIdentity", (it) => {
  it.effect("every identity tells which row is meant: keys that change, values that aren't rewritten, equal rows, NULLs", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const columns = "(a int, b text NOT NULL, c int NOT NULL, v text, n int)"
      const write = yield* SourceRun.schema(
        "identities",
        // The index has its columns in another order than the table, and one that only comes along.
        `CREATE TABLE by_key ${columns}; ALTER TABLE by_key ADD PRIMARY KEY (c, b);
         CREATE TABLE by_index ${columns}; CREATE UNIQUE INDEX named ON by_index (c, b) INCLUDE (a); ALTER TABLE by_index REPLICA IDENTITY USING INDEX named;
         CREATE TABLE whole ${columns}; ALTER TABLE whole REPLICA IDENTITY FULL;
         CREATE TABLE whole_with_key ${columns}; ALTER TABLE whole_with_key ADD PRIMARY KEY (c, b); ALTER TABLE whole_with_key REPLICA IDENTITY FULL`
      )
      const tables = ["by_key", "by_index", "whole", "whole_with_key"]
      for (const table of tables) {
        yield* write(
          `ALTER TABLE ${table} ALTER COLUMN v SET STORAGE EXTERNAL; ALTER TABLE ${table} ALTER COLUMN b SET STORAGE EXTERNAL;
           INSERT INTO ${table} SELECT i, 'b', i, ${
            big("'_' || i")
          }, CASE WHEN i % 2 = 0 THEN i END FROM generate_series(1, 8) i`
        )
      }
      yield* write(
        "INSERT INTO whole SELECT * FROM whole; INSERT INTO whole VALUES (NULL, '', 0, NULL, NULL), (NULL, '', 0, NULL, NULL)"
      )
      const mirror = new Mirror()
      const run = yield* SourceRun.start("identities", mirror)
      yield* run.caughtUp
      for (const table of tables) {
        yield* write(
          `UPDATE ${table} SET n = 9 WHERE c = 1; UPDATE ${table} SET c = c + 100 WHERE c = 2; UPDATE ${table} SET c = 3, b = 'key' WHERE c = 3;
           UPDATE ${table} SET a = NULL, v = NULL WHERE c = 4; UPDATE ${table} SET c = c WHERE c = 5; DELETE FROM ${table} WHERE c = 6;
           UPDATE ${table} SET b = 'x', v = ${
            big("'new'")
          } WHERE c = 7; INSERT INTO ${table} VALUES (NULL, '', 200, '', NULL)`
        )
      }
      yield* write(
        `DELETE FROM whole WHERE ctid = (SELECT min(ctid) FROM whole WHERE c = 1); UPDATE whole SET n = 1 WHERE ctid = (SELECT max(ctid) FROM whole WHERE c = 5);
         DELETE FROM whole WHERE ctid = (SELECT min(ctid) FROM whole WHERE c = 0); UPDATE whole SET a = 7 WHERE c = 0`
      )
      yield* run.caughtUp
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
      assert.isAbove(mirror.unsentCells, 0)
      yield* run.stop
    }))

  it.effect("an identity that changes is followed, and where another key tells rows apart the table is copied again", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema(
        "changing",
        `CREATE TABLE t (id int PRIMARY KEY, code int NOT NULL, v text); CREATE UNIQUE INDEX codes ON t (code);
         INSERT INTO t SELECT i, 100 - i, 'v' FROM generate_series(1, 20) i;
         CREATE TABLE u (id int NOT NULL, v text); ALTER TABLE u REPLICA IDENTITY FULL; INSERT INTO u VALUES (1, 'v'), (2, 'v')`
      )
      const changes =
        "UPDATE t SET v = v || 'x'; UPDATE t SET id = id + 1000 WHERE id = (SELECT min(id) FROM t); DELETE FROM t WHERE id = (SELECT min(id) FROM t)"
      const mirror = new Mirror()
      yield* walk(
        "changing",
        mirror,
        { publication: { check: "200 millis" } },
        [
          { title: "to the whole row", sql: `ALTER TABLE t REPLICA IDENTITY FULL; ${changes}` },
          { title: "back to the key", sql: `${changes}; ALTER TABLE t REPLICA IDENTITY DEFAULT; ${changes}` },
          { title: "to an index", sql: `ALTER TABLE t REPLICA IDENTITY USING INDEX codes; ${changes}`, copies: ["t"] },
          {
            title: "with other codes",
            sql: "UPDATE t SET code = code + 500 WHERE id % 2 = 0; DELETE FROM t WHERE id % 5 = 0"
          },
          {
            title: "to another primary key, in one transaction with changes",
            sql:
              `BEGIN; ${changes}; ALTER TABLE t REPLICA IDENTITY DEFAULT; ALTER TABLE t DROP CONSTRAINT t_pkey; ALTER TABLE t ADD PRIMARY KEY (v, code);
              ${changes}; COMMIT`,
            copies: ["t"]
          },
          {
            title: "to another key of whole rows, which the log doesn't tell",
            sql:
              `ALTER TABLE t REPLICA IDENTITY FULL; ALTER TABLE t DROP CONSTRAINT t_pkey; UPDATE t SET v = 'equal'; ALTER TABLE t ADD PRIMARY KEY (id);
              ${changes}`,
            copies: ["t"]
          },
          {
            title: "a key for a table without one",
            sql: "UPDATE u SET v = 'w'; ALTER TABLE u ADD PRIMARY KEY (id); UPDATE u SET v = 'x'",
            copies: ["u"]
          }
        ],
        write,
        mirror.differences(pg)
      )
    }))

  it.effect("NOTHING is served as long as only inserts are published, and refused otherwise, also when it comes later", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema(
        "nothing",
        `CREATE TABLE t (id int PRIMARY KEY, v int); ALTER TABLE t REPLICA IDENTITY NOTHING; INSERT INTO t VALUES (1, 1);
         CREATE PUBLICATION nothing_inserts FOR TABLE t WITH (publish = 'insert'); CREATE PUBLICATION nothing_all FOR TABLE t`
      )
      const options = { tables: ["nothing.t"], publication: { manage: false } }
      const refusal = /table nothing\.t has REPLICA IDENTITY NOTHING, so updates and deletes can't be replicated/
      const error = yield* SourceRun.refused("nothing_all", new Mirror(), options)
      assert.strictEqual(error.reason, "Misconfigured")
      assert.match(error.message, refusal)

      const inserts = new Mirror()
      const run = yield* SourceRun.start("nothing_inserts", inserts, options)
      yield* run.caughtUp
      yield* write("INSERT INTO t VALUES (2, 2), (3, 3)")
      yield* run.caughtUp
      assert.deepStrictEqual(yield* inserts.differences(pg), [])
      yield* run.stop

      yield* write("ALTER TABLE t REPLICA IDENTITY DEFAULT")
      const all = new Mirror()
      const later = yield* SourceRun.start("nothing_all", all, options)
      yield* later.caughtUp
      yield* write("UPDATE t SET v = 5; ALTER TABLE t REPLICA IDENTITY NOTHING; INSERT INTO t VALUES (4, 4)")
      assert.strictEqual((yield* later.failure).reason, "Fenced")
      yield* later.stop
      assert.match((yield* SourceRun.refused("nothing_all", all, options)).message, refusal)
    }))

  // Column lists came with PostgreSQL 15.
  if (EmbeddedPostgres.version >= 15) {
    it.effect("a key of which only some columns are published identifies nothing: rows that differ in the others stay two", () =>
      Effect.gen(function*() {
        const pg = yield* Server
        const write = yield* SourceRun.schema(
          "partial_key",
          `CREATE TABLE t (a int, b int, v int, PRIMARY KEY (a, b)); INSERT INTO t VALUES (1, 1, 1), (1, 2, 2);
         CREATE PUBLICATION partial_key FOR TABLE t (a, v) WITH (publish = 'insert')`
        )
        const mirror = new Mirror()
        const run = yield* SourceRun.start("partial_key", mirror, { publication: { manage: false } })
        yield* run.caughtUp
        yield* write("INSERT INTO t VALUES (1, 3, 3), (1, 4, 4)")
        yield* run.caughtUp
        assert.deepStrictEqual(yield* mirror.differences(pg), [])
        yield* run.stop
      }))
  }
})
