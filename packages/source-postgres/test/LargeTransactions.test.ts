import { assert, layer } from "@effect/vitest"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as fc from "fast-check"
import { positionNow, type Postgres, prepare, read, same, session } from "./SlotReading.ts"

/**
 * Transactions larger than the server's decoding memory, read through two slots: as the server sends them when they are committed,
 * and streamed while they are in progress. Both must give the same changes with the same sequences.
 */

class Server extends Context.Service<Server, EmbeddedPostgres.EmbeddedPostgres>()("test/LargeTransactions/Server") {
  static readonly layer = Layer.effect(
    Server,
    Effect.orDie(EmbeddedPostgres.start({ settings: { logical_decoding_work_mem: "64kB" } }))
  )
}

const rows = (table: string, from: number, count: number): string =>
  `INSERT INTO ${table} SELECT i, 'row ' || i, repeat('x', 100) FROM generate_series(${from}, ${from + count - 1}) i`

/** Tables of the random work: one that all sessions write to, each its own rows, and one for each session alone. */
const sessions = 4
const own = (index: number): string => `own_${index}`

/** What one session does next, by chance. Statements never wait for another session. */
const statement = (index: number, [what, size]: readonly [number, number], unique: number): string => {
  const table = what % 2 === 0 ? "shared" : own(index)
  const mine = `s = ${index}`
  const from = unique * 1000
  switch (what % 13) {
    case 0:
    case 1:
    case 2:
    case 3:
      return `INSERT INTO ${table} SELECT ${index}, i, 'row ' || i, repeat('v', ${size}) FROM generate_series(${from}, ${
        from + size
      }) i`
    case 4:
      return `INSERT INTO ${table} SELECT ${index}, i, 'large', repeat(i::text, 3000) FROM generate_series(${from}, ${
        from + size % 5
      }) i`
    case 5:
      return `UPDATE ${table} SET note = 'changed ' || ${unique} WHERE ${mine} AND k % 3 = ${size % 3}`
    case 6:
      return `UPDATE ${table} SET k = k + ${unique}000000 WHERE ${mine} AND k % 17 = ${size % 17}`
    case 7:
      return `DELETE FROM ${table} WHERE ${mine} AND k % 7 = ${size % 7}`
    case 8:
      return `SELECT pg_logical_emit_message(${size % 2 === 0}, 'm${index}', '${unique}')`
    case 9:
      return size % 4 === 0 ? `TRUNCATE ${own(index)}` : `SAVEPOINT s${unique}`
    case 10:
      return size % 4 === 0 ? `ALTER TABLE ${own(index)} ADD COLUMN c${unique} int DEFAULT 7` : `SAVEPOINT s${unique}`
    default:
      return `SAVEPOINT s${unique}`
  }
}

/** Lets sessions take turns with statements, savepoints and the ends of their transactions. */
const work = Effect.fnUntraced(function*(pg: Postgres, seed: number, steps: number) {
  const open = Array.from({ length: sessions }, () => session(pg))
  const clients = yield* Effect.all(open)
  const savepoints: ReadonlyArray<Array<string>> = clients.map(() => [])
  const choices = fc.sample(fc.tuple(fc.nat(sessions - 1), fc.nat(999), fc.integer({ min: 1, max: 400 })), {
    numRuns: steps,
    seed
  })
  yield* Effect.forEach(clients, ({ run }) => run("BEGIN"))
  for (const [unique, [index, what, size]] of choices.entries()) {
    const client = clients[index]
    const held = savepoints[index]
    if (client === undefined || held === undefined) continue
    if (what >= 960) {
      yield* client.run(`${what >= 970 ? "COMMIT" : "ROLLBACK"}; BEGIN`)
      held.length = 0
    } else if (what >= 800 && held.length > 0) {
      const [name = ""] = held.splice(size % held.length)
      yield* client.run(what >= 900 ? `RELEASE ${name}` : `ROLLBACK TO ${name}; RELEASE ${name}`)
    } else {
      const sql = statement(index, [what, size], unique + 1)
      // A message in a savepoint that may be rolled back is another matter, below.
      if (sql.includes("pg_logical_emit_message") && held.length > 0) continue
      if (sql.startsWith("SAVEPOINT")) held.push(sql.slice("SAVEPOINT ".length))
      yield* client.run(sql)
    }
  }
  yield* Effect.forEach(clients, ({ run }) => run("COMMIT"))
})

layer(Server.layer, { excludeTestServices: true, timeout: 60_000 })("large transactions", (it) => {
  it.effect("give the same changes with the same sequences when they are streamed in progress", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      yield* pg.query("CREATE TABLE plain (id int PRIMARY KEY, note text, body text)")
      yield* prepare(pg, "plain", ["plain"])
      yield* pg.query(rows("plain", 1, 10))
      yield* pg.query(rows("plain", 1001, 3000))
      yield* pg.query(`BEGIN; ${rows("plain", 10_001, 2000)}; UPDATE plain SET note = 'new' WHERE id % 3 = 0;
        DELETE FROM plain WHERE id % 7 = 0; UPDATE plain SET id = id + 1000000 WHERE id % 11 = 0; COMMIT`)
      yield* pg.query(rows("plain", 11, 10))
      const { off } = yield* same(pg, "plain")
      assert.isAbove(off.tables["plain"]?.length ?? 0, 6000)
    }).pipe(Effect.scoped))

  it.effect("leave out exactly what savepoints rolled back, however they are nested", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      yield* pg.query("CREATE TABLE saved (id int PRIMARY KEY, note text, body text)")
      yield* pg.query("CREATE TABLE other (id int PRIMARY KEY, note text, body text)")
      yield* prepare(pg, "saved", ["saved", "other"])
      // The first announcement of both tables lies in a savepoint that is rolled back.
      yield* pg.query(`BEGIN;
        SAVEPOINT a; ${rows("saved", 1, 800)}; ${rows("other", 1, 800)}; ROLLBACK TO a;
        ${rows("saved", 1, 700)};
        SAVEPOINT b; ${rows("saved", 2001, 600)};
          SAVEPOINT c; ${rows("other", 2001, 600)}; RELEASE c;
          SAVEPOINT d; UPDATE saved SET note = 'rolled back'; ROLLBACK TO d;
          UPDATE saved SET note = 'kept in b' WHERE id > 2000;
        ROLLBACK TO b; DELETE FROM saved WHERE id % 5 = 0;
        SAVEPOINT e; ${rows("other", 1, 300)}; SAVEPOINT f; ${rows("other", 5001, 900)}; RELEASE f; RELEASE e;
        COMMIT`)
      // A sub-transaction for each row, every third of which fails, at two depths.
      yield* pg.query(`DO $$ BEGIN FOR i IN 10001..12000 LOOP
          BEGIN INSERT INTO saved VALUES (i, 'row ' || i, repeat('y', 50));
            BEGIN INSERT INTO other VALUES (i, 'other', NULL);
              IF i % 3 = 0 THEN RAISE EXCEPTION 'inner'; END IF;
            EXCEPTION WHEN raise_exception THEN NULL; END;
            IF i % 7 = 0 THEN RAISE EXCEPTION 'outer'; END IF;
          EXCEPTION WHEN raise_exception THEN NULL; END;
        END LOOP; END $$`)
      const { off } = yield* same(pg, "saved")
      assert.strictEqual(off.tables["saved"]?.filter((line) => line.startsWith("Insert")).length, 700 + 1714)
    }).pipe(Effect.scoped))

  it.effect("of several sessions may take turns, be rolled back, or be prepared first", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      yield* pg.query("CREATE TABLE turns (id int PRIMARY KEY, note text, body text)")
      yield* prepare(pg, "turns", ["turns"])
      yield* pg.query("SELECT pg_replication_origin_create('elsewhere')")
      const open = session(pg)
      const sessions = yield* Effect.all([open, open, open, open, open])
      const [kept, rolledBack, prepared, unprepared, replicated] = sessions
      yield* replicated.run("SELECT pg_replication_origin_session_setup('elsewhere')")
      yield* Effect.forEach(sessions, ({ run }) => run("BEGIN"))
      yield* replicated.run("SELECT pg_replication_origin_xact_setup('0/ABC', now())")
      for (let round = 0; round < 5; round++) {
        for (const [index, { run }] of sessions.entries()) {
          yield* run(rows("turns", 1 + index * 10_000 + round * 400, 400))
          yield* run(`SELECT pg_logical_emit_message(true, 'within', '${index}/${round}')`)
        }
        yield* pg.query(`INSERT INTO turns VALUES (${100_000 + round}, 'small', NULL)`)
        yield* pg.query(`SELECT pg_logical_emit_message(false, 'alone', '${round}')`)
      }
      yield* rolledBack.run("ROLLBACK")
      yield* prepared.run("PREPARE TRANSACTION 'turns1'")
      yield* unprepared.run("PREPARE TRANSACTION 'turns2'")
      yield* kept.run("COMMIT")
      yield* pg.query("ROLLBACK PREPARED 'turns2'")
      yield* pg.query("COMMIT PREPARED 'turns1'")
      yield* replicated.run("COMMIT")
      const { off, on } = yield* same(pg, "turns")
      assert.strictEqual(off.tables["turns"]?.length, 3 * 2000 + 5 + 1)
      assert.strictEqual(off.messages.length, 3 * 5 + 5)
      assert.deepStrictEqual(on.files, [], "files of transactions that ended are gone")
    }).pipe(Effect.scoped))

  it.effect("may change tables' shapes, truncate them, and leave large values unsent", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      yield* pg.query("CREATE TABLE shapes (id int PRIMARY KEY, note text, body text)")
      yield* pg.query("ALTER TABLE shapes ALTER body SET STORAGE EXTERNAL; ALTER TABLE shapes REPLICA IDENTITY FULL")
      yield* pg.query("CREATE TABLE toast (id int PRIMARY KEY, note text, body text)")
      yield* pg.query("ALTER TABLE toast ALTER body SET STORAGE EXTERNAL")
      yield* prepare(pg, "shapes", ["shapes", "toast"])
      const large = "INSERT INTO toast SELECT i, 'large', repeat(i::text, 3000) FROM generate_series(1, 50) i"
      yield* pg.query(`BEGIN; ${rows("shapes", 1, 500)}; ${large}; UPDATE toast SET note = 'small' WHERE id % 2 = 0;
        UPDATE toast SET id = id + 1000 WHERE id % 10 = 0;
        SAVEPOINT a; ALTER TABLE shapes ADD COLUMN gone int; UPDATE shapes SET gone = 1; ROLLBACK TO a;
        ALTER TABLE shapes ADD COLUMN added int DEFAULT 5; UPDATE shapes SET added = id WHERE id % 2 = 0;
        ALTER TABLE shapes DROP COLUMN note; INSERT INTO shapes (id, body) VALUES (0, 'short');
        TRUNCATE shapes, toast; ${large}; INSERT INTO shapes SELECT i, 'after', i FROM generate_series(1, 900) i; COMMIT`)
      yield* pg.query("INSERT INTO shapes VALUES (5000, 'later', 1)")
      const { off } = yield* same(pg, "shapes")
      const lines = off.tables["shapes"] ?? []
      assert.deepStrictEqual(
        lines.filter((line) => line.startsWith("Schema")).map((line) => line.split(" ").at(-1)),
        ["id,note,body", "id,note,body,added", "id,body,added"]
      )
      assert.strictEqual(lines.filter((line) => line.startsWith("Truncate")).length, 1)
      assert.isTrue(off.tables["toast"]?.some((line) => line.includes("~unsent")))
    }).pipe(Effect.scoped))

  it.effect("that are rolled back leave nothing behind, neither rows nor the announcement of a table", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      yield* pg.query("CREATE TABLE aborted (id int PRIMARY KEY, note text, body text)")
      yield* prepare(pg, "aborted", ["aborted"])
      yield* pg.query(`BEGIN; ${rows("aborted", 1, 900)}; ROLLBACK`)
      yield* pg.query(rows("aborted", 1, 1))
      yield* pg.query(`BEGIN; ALTER TABLE aborted ADD COLUMN gone int; UPDATE aborted SET gone = 1;
        INSERT INTO aborted SELECT i, 'gone', repeat('z', 100), i FROM generate_series(2, 900) i; ROLLBACK`)
      yield* pg.query(rows("aborted", 2, 900))
      const { off } = yield* same(pg, "aborted")
      assert.strictEqual(off.tables["aborted"]?.length, 1 + 901)
    }).pipe(Effect.scoped))

  it.effect("of random work in several sessions give the same with and without streaming, of single changes too", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const columns = "(s int, k bigint, note text, body text, PRIMARY KEY (k, s))"
      const tables = ["shared", ...Array.from({ length: sessions }, (_, index) => own(index))]
      for (const table of tables) {
        yield* pg.query(`CREATE TABLE ${table} ${columns}; ALTER TABLE ${table} ALTER body SET STORAGE EXTERNAL`)
      }
      yield* prepare(pg, "random", tables)
      yield* work(pg, 20_261_125, 300)
      const { off } = yield* same(pg, "random")
      const lines = Object.values(off.tables).flat()
      assert.isAbove(lines.length, 5000)
      for (const what of ["Insert", "Update", "Delete", "KeyChangeNew", "Truncate", "Schema", "~unsent"]) {
        assert.isTrue(lines.some((line) => line.includes(what)), `the work has ${what}`)
      }
      assert.isAbove(off.messages.length, 0)
      // A block for every change, where the server can be told to.
      if (EmbeddedPostgres.version >= 16) yield* same(pg, "random", { immediate: true })
    }).pipe(Effect.scoped))

  it.effect("bring messages of savepoints that were rolled back, which the server ascribes to the whole transaction", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      yield* pg.query("CREATE TABLE told (id int PRIMARY KEY, note text, body text)")
      yield* prepare(pg, "told", ["told"])
      yield* pg.query(`BEGIN; ${rows("told", 1, 900)}; SELECT pg_logical_emit_message(true, 'told', 'kept');
        SAVEPOINT a; SELECT pg_logical_emit_message(true, 'told', 'rolled back'); ${
        rows("told", 1001, 900)
      }; ROLLBACK TO a;
        ${rows("told", 2001, 900)}; COMMIT`)
      const target = yield* positionNow(pg)
      const told = (streaming: boolean) =>
        Effect.map(
          read(pg, "told", target, { streaming }),
          ({ messages }) => messages.map((line) => line.split("/")[1])
        )
      assert.deepStrictEqual(yield* told(false), ["1800 kept"])
      assert.deepStrictEqual(yield* told(true), ["1800 kept", "1800 rolled back"])
    }).pipe(Effect.scoped))

  it.effect("keep the announcements of other transactions that came while they were in progress", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      // Column lists came with PostgreSQL 15; before, nothing changes a relation's announcement without a lock on the table.
      if (EmbeddedPostgres.version < 15) return
      yield* pg.query("CREATE TABLE listed (id int PRIMARY KEY, note text, body text, more text)")
      yield* pg.query("CREATE PUBLICATION listed FOR TABLE listed (id, note)")
      for (const slot of ["listed_on", "listed_off"]) {
        yield* pg.query(`SELECT pg_create_logical_replication_slot('${slot}', 'pgoutput')`)
      }
      const [first, second] = [yield* session(pg), yield* session(pg)]
      const some = (from: number) =>
        `INSERT INTO listed SELECT i, 'note', repeat('b', 100), 'm' FROM generate_series(${from}, ${from + 999}) i`
      yield* first.run(`BEGIN; ${some(1)}`)
      yield* pg.query("ALTER PUBLICATION listed SET TABLE listed (id, note, body)")
      yield* second.run(`BEGIN; ${some(2001)}`)
      yield* pg.query("INSERT INTO listed VALUES (5001, 'between', 'wide', 'm')")
      yield* first.run("COMMIT")
      yield* pg.query("INSERT INTO listed VALUES (5002, 'after the first', 'wide', 'm')")
      yield* second.run("COMMIT")
      yield* pg.query("INSERT INTO listed VALUES (5003, 'after both', 'wide', 'm')")
      const target = yield* positionNow(pg)
      const on = yield* read(pg, "listed", target, { streaming: true })
      assert.isAbove(on.spooled, 0)
      const lines = on.tables["listed"] ?? []
      for (const note of ["between", "after the first", "after both"]) {
        assert.isTrue(lines.some((line) => line.endsWith(`"${note}","wide"]`)), note)
      }
      assert.strictEqual(lines.filter((line) => line.startsWith("Insert")).length, 2003)
    }).pipe(Effect.scoped))
})
