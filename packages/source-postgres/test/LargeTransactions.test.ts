import { assert, layer } from "@effect/vitest"
import type { Element } from "@etl-stream/core/Element"
import * as Lsn from "@etl-stream/source-postgres/Lsn"
import * as PgOutputDecoder from "@etl-stream/source-postgres/PgOutputDecoder"
import * as PostgresType from "@etl-stream/source-postgres/PostgresType"
import * as ReplicationConnection from "@etl-stream/source-postgres/ReplicationConnection"
import * as StreamedTransactions from "@etl-stream/source-postgres/StreamedTransactions"
import * as EmbeddedPostgres from "@etl-stream/testkit/EmbeddedPostgres"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { Client } from "pg"
import { linesOf } from "./elementLines.ts"

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

type Postgres = EmbeddedPostgres.EmbeddedPostgres

const temporaryFolder = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "etl-stream-spool-"))),
  (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
)

const diskLimit = 1024 ** 3

/** A session of its own, for transactions that stay open. */
const session = (pg: Postgres) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const client = new Client({ connectionString: pg.url })
      client.on("error", () => undefined)
      await client.connect()
      return {
        run: (sql: string) => Effect.promise(() => client.query(sql)),
        end: () => client.end().catch(() => undefined)
      }
    }),
    ({ end }) => Effect.promise(end)
  )

const positionNow = (pg: Postgres) =>
  Effect.map(
    pg.query("SELECT pg_current_wal_insert_lsn()::text AS lsn"),
    ([row]) => Lsn.parse(String(row?.["lsn"])) ?? 0n
  )

/** Two slots on one publication of everything that is there. */
const prepare = Effect.fnUntraced(function*(pg: Postgres, name: string, tables: ReadonlyArray<string>) {
  yield* pg.query(`CREATE PUBLICATION ${name} FOR TABLE ${tables.join(", ")}`)
  for (const slot of [`${name}_on`, `${name}_off`]) {
    yield* pg.query(`SELECT pg_create_logical_replication_slot('${slot}', 'pgoutput')`)
  }
})

const decoder = () =>
  PgOutputDecoder.make({
    tables: [],
    copied: new Map(),
    resolveRelation: (relation) => ({
      table: { schema: relation.schema, name: relation.name },
      version: 1,
      columns: relation.columns.map((column) => ({
        name: column.name,
        ...PostgresType.resolve(PostgresType.emptyCatalog, column.typeOid, column.typmod),
        nullable: true
      })),
      identity: relation.replicaIdentity === "f" ? { _tag: "Full" } : { _tag: "Key", columns: [0] }
    })
  })

interface Reading {
  /** Lines per table, with the barriers between its rows. */
  readonly tables: Readonly<Record<string, ReadonlyArray<string>>>
  readonly messages: ReadonlyArray<string>
  /** Most that transactions in progress took on disk. */
  readonly spooled: number
  readonly files: ReadonlyArray<string>
}

const collect = (
  elements: ReadonlyArray<Element>,
  tables: Map<string, Array<string>>,
  messages: Array<string>
): void => {
  const say = (table: string, lines: ReadonlyArray<string>) => {
    const list = tables.get(table) ?? []
    for (const line of lines) list.push(line)
    tables.set(table, list)
  }
  for (const element of elements) {
    switch (element._tag) {
      case "Rows":
        say(element.batch.table.table.name, linesOf(element))
        break
      case "Truncate":
        say(element.table.table.name, linesOf(element))
        break
      case "Schema":
        say(element.table.table.name, [
          `Schema ${element.sequence.commit}/${element.sequence.ordinal} ${
            element.table.columns.map(({ name }) => name).join()
          }`
        ])
        break
      case "Message":
        messages.push(
          `${element.prefix} ${element.sequence.commit}/${element.sequence.ordinal} ${
            Buffer.from(element.content).toString()
          }`
        )
        break
      default:
    }
  }
}

interface ReadOptions {
  readonly streaming: boolean
  readonly folder?: string
  readonly immediate?: boolean
}

/** Reads a slot up to `target`, from wherever it is, and confirms nothing. */
const read = Effect.fnUntraced(function*(pg: Postgres, name: string, target: bigint, options: ReadOptions) {
  const folder = options.folder ?? (yield* temporaryFolder)
  const slot = `${name}_${options.streaming ? "on" : "off"}`
  return yield* Effect.scoped(Effect.gen(function*() {
    const connection = yield* ReplicationConnection.connect({
      host: pg.host,
      port: pg.port,
      user: pg.user,
      password: pg.password,
      database: pg.database,
      ...(options.immediate === true ? { options: "-c debug_logical_replication_streaming=immediate" } : {})
    })
    const wal = yield* connection.start({
      slot,
      publications: [name],
      messages: true,
      acknowledged: () => 0n,
      streaming: options.streaming
    })
    const stage = options.streaming
      ? yield* StreamedTransactions.make(wal.pull, { directory: folder, diskLimit })
      : { pull: wal.pull, spooled: () => 0 }
    const target_ = decoder()
    const tables = new Map<string, Array<string>>()
    const messages: Array<string> = []
    let spooled = 0
    for (;;) {
      const elements = yield* target_.decode(yield* stage.pull)
      spooled = Math.max(spooled, stage.spooled())
      collect(elements, tables, messages)
      if (elements.some((element) => element._tag === "Watermark" && element.position >= target)) {
        const reading: Reading = {
          tables: Object.fromEntries(tables),
          messages,
          spooled,
          files: options.streaming ? fs.readdirSync(folder) : []
        }
        return reading
      }
    }
  }))
})

/** Reads both slots and compares; the changes must have been streamed. */
const same = Effect.fnUntraced(function*(pg: Postgres, name: string, options: Partial<ReadOptions> = {}) {
  const target = yield* positionNow(pg)
  const off = yield* read(pg, name, target, { streaming: false })
  const on = yield* read(pg, name, target, { ...options, streaming: true })
  assert.isAbove(on.spooled, 0, "nothing was streamed")
  assert.deepStrictEqual(Object.keys(on.tables).sort(), Object.keys(off.tables).sort())
  for (const [table, lines] of Object.entries(off.tables)) {
    const actual = on.tables[table] ?? []
    lines.forEach((line, index) => assert.strictEqual(actual[index], line, `${table}, line ${index}`))
    assert.strictEqual(actual.length, lines.length, table)
  }
  assert.deepStrictEqual([...on.messages].sort(), [...off.messages].sort())
  return { off, on }
})

const rows = (table: string, from: number, count: number): string =>
  `INSERT INTO ${table} SELECT i, 'row ' || i, repeat('x', 100) FROM generate_series(${from}, ${from + count - 1}) i`

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

  it.effect("keep the announcements of other transactions that came while they were in progress", () =>
    Effect.gen(function*() {
      const pg = yield* Server
      const [{ version } = {}] = yield* pg.query("SELECT current_setting('server_version_num')::int AS version")
      // Column lists came with PostgreSQL 15; before, nothing changes a relation's announcement without a lock on the table.
      if (Number(version) < 150_000) return
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
