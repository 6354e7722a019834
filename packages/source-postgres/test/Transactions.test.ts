/**
 * What else transactions may hold: truncations, messages, changes from elsewhere, parts that are given up, or nothing for us.
 */
import { assert, layer } from "@effect/vitest"
import * as Sequence from "@etl-stream/core/Sequence"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Mirror } from "./Mirror.ts"
import * as SourceRun from "./SourceRun.ts"

const { Server } = SourceRun

/** Filtering by origin came with PostgreSQL 16. */
const filtersOrigins = EmbeddedPostgres.version >= 16

const ServerWithPrepared = Layer.effect(
  Server,
  Effect.orDie(EmbeddedPostgres.start({ settings: { max_prepared_transactions: "4" } }))
)

layer(ServerWithPrepared, { excludeTestServices: true })("Transactions", (it) => {
  it.effect("TRUNCATE empties what it empties: several tables, by cascade, partly outside of the pipeline, between changes, and not when it is undone", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema(
        "truncated",
        `CREATE TABLE a (id serial PRIMARY KEY, v text); CREATE TABLE b (id serial PRIMARY KEY, a int REFERENCES a);
         CREATE TABLE outside (id serial PRIMARY KEY, a int REFERENCES a); CREATE TABLE c (id int PRIMARY KEY, o int REFERENCES outside);
         CREATE TABLE keyless (v int); ALTER TABLE keyless REPLICA IDENTITY FULL`
      )
      const fill =
        `INSERT INTO a (v) VALUES ('x'), ('y'); INSERT INTO b (a) SELECT id FROM a; INSERT INTO outside (a) SELECT id FROM a;
         INSERT INTO c SELECT id, id FROM outside ON CONFLICT DO NOTHING; INSERT INTO keyless VALUES (1), (1)`
      yield* write(fill)
      const mirror = new Mirror()
      const tables = ["a", "b", "c", "keyless"].map((table) => `truncated.${table}`)
      const run = yield* SourceRun.start("truncated", mirror, { tables })
      yield* run.caughtUp
      for (
        const sql of [
          "TRUNCATE a CASCADE",
          "TRUNCATE a, b, outside, c, keyless RESTART IDENTITY",
          `BEGIN; ${fill}; TRUNCATE a, keyless RESTART IDENTITY CASCADE; ${fill}; DELETE FROM c; COMMIT`,
          `BEGIN; TRUNCATE outside CASCADE; TRUNCATE keyless; TRUNCATE keyless; INSERT INTO keyless VALUES (3); COMMIT`,
          `BEGIN; SAVEPOINT s; TRUNCATE a, keyless CASCADE; ROLLBACK TO s; INSERT INTO keyless VALUES (4); COMMIT`,
          "BEGIN; TRUNCATE a, keyless CASCADE; ROLLBACK"
        ]
      ) {
        yield* write(fill)
        yield* write(sql)
        yield* run.caughtUp
        assert.deepStrictEqual(yield* mirror.differences(pg), [], sql)
      }
      assert.strictEqual(mirror.tables.size, 4)
      yield* run.stop
    }))

  it.effect("messages with the wanted prefixes come in their place among the changes, of any size and content, others not at all", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema("messages", "CREATE TABLE t (id int PRIMARY KEY)")
      const mirror = new Mirror()
      const sequences: Array<string> = []
      const run = yield* SourceRun.start("messages", mirror, {
        messages: ["app/*", "exactly"],
        each: (element) =>
          Effect.sync(() => element._tag === "Message" ? sequences.push(Sequence.format(element.sequence)) : 0)
      })
      yield* run.caughtUp
      yield* write(
        `BEGIN; INSERT INTO t VALUES (1); SELECT pg_logical_emit_message(true, 'app/one', 'among');
         INSERT INTO t VALUES (2), (3); SELECT pg_logical_emit_message(true, 'exactly', '\\x00ff00'::bytea); SELECT pg_logical_emit_message(true, 'exactly not', 'x');
         SELECT pg_logical_emit_message(true, 'app/large', repeat('é', 1000000)); INSERT INTO t VALUES (4); COMMIT;
         BEGIN; INSERT INTO t VALUES (99); SELECT pg_logical_emit_message(true, 'app/undone', 'x'); SELECT pg_logical_emit_message(false, 'app/at once', ''); ROLLBACK;
         SELECT pg_logical_emit_message(false, 'other', 'x'); INSERT INTO t VALUES (5)`
      )
      yield* run.caughtUp
      assert.deepStrictEqual(
        mirror.messages.filter(({ prefix }) => prefix !== "app/at once").map(({ after, prefix }) => [prefix, after]),
        [["app/one", 1], ["exactly", 3], ["app/large", 3]]
      )
      const content = (prefix: string) =>
        Buffer.from(mirror.messages.find((one) => one.prefix === prefix)?.content ?? [1])
      assert.strictEqual(content("app/one").toString(), "among")
      assert.strictEqual(content("exactly").toString("hex"), "00ff00")
      assert.strictEqual(content("app/large").toString(), "é".repeat(1_000_000))
      // Outside of its transaction, which was undone.
      assert.strictEqual(content("app/at once").length, 0)
      assert.strictEqual(sequences.length, 4)
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
      yield* run.stop

      // A pipeline that wants none gets none.
      const none = new Mirror()
      const quiet = yield* SourceRun.start("messages_none", none, { tables: ["messages.t"] })
      yield* quiet.caughtUp
      yield* write("SELECT pg_logical_emit_message(true, 'app/one', 'x'); INSERT INTO t VALUES (6)")
      yield* quiet.caughtUp
      assert.deepStrictEqual(none.messages, [])
      yield* quiet.stop
    }))

  it.effect("changes that were replicated to the server are left out when they are to be, where the server can", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema("origins", "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (0)")
      yield* pg.query("SELECT pg_replication_origin_create('elsewhere')")
      const replicated = (id: number) =>
        write(
          `SELECT pg_replication_origin_session_setup('elsewhere'); COMMIT; BEGIN; INSERT INTO t VALUES (${id}); COMMIT;
           SELECT pg_replication_origin_session_reset()`
        )
      yield* replicated(1)
      const rows = (mirror: Mirror) => [...mirror.tables.get("origins.t")?.rows.keys() ?? []].sort()
      const any = new Mirror()
      const all = yield* SourceRun.start("origins", any)
      yield* all.caughtUp
      const local = new Mirror()
      if (filtersOrigins) {
        const own = yield* SourceRun.start("origins_none", local, { tables: ["origins.t"], origin: "none" })
        yield* own.caughtUp
        yield* replicated(2)
        yield* write("INSERT INTO t VALUES (3)")
        yield* own.caughtUp
        // The copy has what is there, the stream only what began here.
        assert.deepStrictEqual(rows(local), [`["0"]`, `["1"]`, `["3"]`])
        assert.deepStrictEqual(local.problems, [])
        yield* own.stop
      } else {
        const error = yield* Effect.flip(
          SourceRun.start("origins_none", local, { tables: ["origins.t"], origin: "none" })
        )
        assert.strictEqual(error.reason, "Unsupported")
        assert.match(error.message, /can't leave out changes that were themselves replicated/)
        yield* replicated(2)
        yield* write("INSERT INTO t VALUES (3)")
      }
      yield* all.caughtUp
      assert.deepStrictEqual(yield* any.differences(pg), [])
      yield* all.stop
    }))

  it.effect("transactions with nothing for the pipeline move it on without a batch", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema(
        "empty",
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE elsewhere (id serial PRIMARY KEY); CREATE TABLE listed (id serial PRIMARY KEY)"
      )
      // Published, but not the pipeline's.
      yield* pg.query("CREATE PUBLICATION empty FOR ALL TABLES")
      const kinds = new Set<string>()
      const mirror = new Mirror()
      const run = yield* SourceRun.start("empty", mirror, {
        tables: ["empty.t"],
        publication: { manage: false },
        each: (element) => Effect.sync(() => kinds.add(element._tag))
      })
      yield* run.caughtUp
      kinds.clear()
      const before = mirror.watermarks.at(-1) ?? 0n
      yield* write(
        "INSERT INTO elsewhere DEFAULT VALUES; INSERT INTO listed SELECT generate_series(1, 1000); TRUNCATE listed"
      )
      yield* write(
        "CREATE TABLE more (id int); DROP TABLE more; SELECT txid_current(); COMMIT; BEGIN; SELECT txid_current(); COMMIT"
      )
      yield* write(
        "BEGIN; INSERT INTO t VALUES (1); ROLLBACK; BEGIN; SAVEPOINT s; INSERT INTO t VALUES (1); ROLLBACK TO s; COMMIT"
      )
      yield* pg.query("VACUUM pg_class")
      yield* run.caughtUp
      assert.deepStrictEqual([...kinds], ["Watermark"])
      assert.isTrue((mirror.watermarks.at(-1) ?? 0n) > before)
      yield* run.stop
    }))

  it.effect("savepoints that are given up leave nothing, in any nesting, and the others everything", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema(
        "savepoints",
        `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' FROM generate_series(1, 50) i;
         CREATE FUNCTION work(depth int, seed int) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
           INSERT INTO savepoints.t VALUES (1000 * seed + 100 * depth, 'in'); UPDATE savepoints.t SET v = v || depth WHERE id % 7 = depth;
           BEGIN
             IF depth < 6 THEN PERFORM savepoints.work(depth + 1, seed); END IF;
             DELETE FROM savepoints.t WHERE id = 10 * seed + depth;
             IF (depth + seed) % 3 = 0 THEN RAISE EXCEPTION 'undo'; END IF;
           EXCEPTION WHEN raise_exception THEN INSERT INTO savepoints.t VALUES (1000 * seed + 100 * depth + 1, 'after'); END;
         END $$`
      )
      const mirror = new Mirror()
      const run = yield* SourceRun.start("savepoints", mirror)
      yield* run.caughtUp
      for (const seed of [1, 2, 3, 4]) yield* write(`SELECT work(0, ${seed})`)
      yield* run.caughtUp
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
      yield* run.stop
    }))

  it.effect("prepared transactions come when they are committed, in that order, and never when they are rolled back", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const write = yield* SourceRun.schema("prepared", "CREATE TABLE t (id int PRIMARY KEY, v text)")
      const mirror = new Mirror()
      const run = yield* SourceRun.start("prepared", mirror)
      yield* run.caughtUp
      yield* write("BEGIN; INSERT INTO t VALUES (1, 'kept'); PREPARE TRANSACTION 'kept'")
      yield* write("BEGIN; INSERT INTO t VALUES (2, 'undone'); PREPARE TRANSACTION 'undone'")
      yield* write("INSERT INTO t VALUES (3, 'meanwhile')")
      yield* run.caughtUp
      assert.deepStrictEqual([...mirror.tables.get("prepared.t")?.rows.keys() ?? []], [`["3"]`])
      yield* run.stop
      yield* pg.query("COMMIT PREPARED 'kept'")
      yield* pg.query("ROLLBACK PREPARED 'undone'")
      yield* SourceRun.catchUp("prepared", mirror)
      assert.deepStrictEqual([...mirror.tables.get("prepared.t")?.rows.keys() ?? []], [`["3"]`, `["1"]`])
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
    }))

  it.effect("a hundred thousand transactions of one row come each once, many to a batch", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      yield* SourceRun.schema("tiny", "CREATE TABLE t (id int PRIMARY KEY, v int)")
      let batches = 0
      const mirror = new Mirror()
      const run = yield* SourceRun.start("tiny", mirror, {
        each: (element) => Effect.sync(() => element._tag === "Rows" ? batches++ : 0)
      })
      yield* run.caughtUp
      yield* pg.query(
        `DO $$ BEGIN PERFORM set_config('synchronous_commit', 'off', false);
         FOR i IN 1..100000 LOOP INSERT INTO tiny.t VALUES (i, i); COMMIT; END LOOP; PERFORM set_config('synchronous_commit', 'on', false); END $$`
      )
      yield* run.caughtUp
      assert.strictEqual(mirror.tables.get("tiny.t")?.rows.size, 100_000)
      assert.strictEqual(new Set(mirror.seen).size, 100_000)
      assert.isBelow(batches, 50_000)
      assert.deepStrictEqual(yield* mirror.differences(pg), [])
      yield* run.stop
    }))
})
