/**
 * The sink as the engine uses it, against the local server.
 */
import { assert, layer } from "@effect/vitest"
import { Operation } from "@etl-stream/core/ChangeBatch"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { LogicalType } from "@etl-stream/core/LogicalType"
import * as Sequence from "@etl-stream/core/Sequence"
import type { Identity, TableSchema } from "@etl-stream/core/TableSchema"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import { randomBytes } from "node:crypto"
import * as Batches from "./Batches.ts"
import * as Local from "./Local.ts"

class Server extends Context.Service<Server, Local.Local>()("test/Server") {
  static readonly layer = Layer.effect(Server, Local.start())
}

const text: LogicalType = { _tag: "Text", maxLength: undefined }
const byId: Identity = { _tag: "Key", columns: [0] }
const table = (
  name: string,
  columns: Readonly<Record<string, LogicalType>> = { id: { _tag: "Int64" }, note: text },
  identity: Identity = byId
): TableSchema => Batches.table(name, columns, identity)
const at = (commit: number, ordinal: number) => Sequence.make(BigInt(commit), BigInt(ordinal))
const row = (op: Operation, commit: number, ordinal: number, ...values: ReadonlyArray<Batches.Value>): Batches.Row => ({
  op,
  sequence: at(commit, ordinal),
  values
})
const insert = (commit: number, ordinal: number, ...values: ReadonlyArray<Batches.Value>) =>
  row(Operation.Insert, commit, ordinal, ...values)
const inserts = (of: TableSchema, commit: number, from: number, to: number) =>
  Batches.batch(
    of,
    Array.from({ length: to - from }, (_, index) =>
      insert(commit, from + index, BigInt(from + index), `note ${from + index}`))
  )

/** Counts of a journal: rows, and rows by different sequences. */
const journal = (local: Local.Local, name: string) =>
  Effect.map(
    local.query(
      `SELECT COUNT(*) AS "rows", COUNT(DISTINCT "_ETL_SEQ") AS "sequences" FROM RAW.ETL_STREAM.SHOP__${name}__JOURNAL`
    ),
    ([counts]) => ({ rows: Number(counts?.["rows"]), sequences: Number(counts?.["sequences"]) })
  )
const ids = (local: Local.Local, name: string) =>
  Effect.map(
    local.query(`SELECT "ID" FROM RAW.SHOP.${name} ORDER BY "ID"`),
    (rows) => rows.map((found) => Number(found["ID"]))
  )
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => from + index)

layer(Server.layer, { timeout: 120_000, excludeTestServices: true })("SnowflakeSink", (it) => {
  it.effect("mirrors a snapshot and the changes after it", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const orders = table("orders", {
        id: { _tag: "Int64" },
        note: text,
        total: { _tag: "Decimal", precision: 12, scale: 2 }
      })
      const running = yield* Local.run(local, {}, "mirror")
      const opened = yield* running.open(orders)
      assert.deepStrictEqual(opened.writer.position, { copied: undefined, committed: undefined })
      yield* Local.copy(opened, orders, 100n, [
        Batches.batch(orders, [
          row(Operation.Read, 100, 0, 1n, "one", "1.00"),
          row(Operation.Read, 100, 0, 2n, null, "2.50")
        ]),
        Batches.batch(orders, [row(Operation.Read, 100, 0, 3n, "three", null)])
      ])
      yield* opened.rows(Batches.batch(orders, [
        // A change of key as the very first change after the snapshot's position.
        row(Operation.KeyChangeOld, 100, 0, 2n),
        row(Operation.KeyChangeNew, 100, 1, 20n, Batches.unsent, "2.51"),
        insert(200, 1, 4n, "four", "4.00"),
        row(Operation.Update, 200, 3, 1n, Batches.unsent, "1.11"),
        row(Operation.Delete, 200, 5, 3n)
      ]))
      yield* opened.durable(at(200, 5))
      yield* running.sink.settle
      assert.deepStrictEqual(
        yield* local.query(
          `SELECT "ID", "NOTE", "TOTAL"::VARCHAR AS "TOTAL", "_ETL_SEQ" AS "SEQ" FROM RAW.SHOP.ORDERS ORDER BY "ID"`
        ),
        [
          { ID: "1", NOTE: "one", TOTAL: "1.11", SEQ: Sequence.format(at(200, 3)) },
          { ID: "4", NOTE: "four", TOTAL: "4.00", SEQ: Sequence.format(at(200, 1)) },
          { ID: "20", NOTE: null, TOTAL: "2.51", SEQ: Sequence.format(at(100, 1)) }
        ]
      )
    }))

  it.effect("goes on after what is committed when it is opened again, and nothing is in the journal twice", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const restarted = table("restarted")
      const start = Effect.gen(function*() {
        const running = yield* Local.run(local, {}, "restart")
        return { running, opened: yield* running.open(restarted) }
      })
      yield* Effect.scoped(Effect.gen(function*() {
        const { opened } = yield* start
        yield* Local.copy(opened, restarted, 10n, [])
        yield* opened.rows(inserts(restarted, 20, 0, 100))
        yield* opened.durable(at(20, 99))
        // Accepted, but the run ends before it is known to be committed.
        yield* opened.rows(inserts(restarted, 20, 100, 150))
      }))
      for (let run = 0; run < 3; run++) {
        yield* Effect.scoped(Effect.gen(function*() {
          const { opened } = yield* start
          const { committed, copied } = opened.writer.position
          assert.strictEqual(copied, 10n)
          const held = Number(committed?.ordinal)
          assert.strictEqual(held, 149 + 10 * run)
          yield* opened.rows(inserts(restarted, 20, held + 1, held + 11))
        }))
      }
      const { opened, running } = yield* start
      yield* opened.rows(inserts(restarted, 20, 180, 200))
      yield* opened.durable(at(20, 199))
      yield* running.sink.settle
      assert.deepStrictEqual(yield* journal(local, "RESTARTED"), { rows: 200, sequences: 200 })
      assert.deepStrictEqual(yield* ids(local, "RESTARTED"), range(0, 200))
    }))

  it.effect("fences an older writer of the same pipeline", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const shared = table("shared")
      const first = yield* Local.run(local, { merge: { every: "1 hour" } }, "twice")
      const older = yield* first.open(shared)
      yield* Local.copy(older, shared, 10n, [])
      const second = yield* Local.run(local, { merge: { every: "1 hour" } }, "twice")
      const newer = yield* second.open(shared)
      const error = (yield* Effect.flip(older.rows(inserts(shared, 20, 0, 5)))) as ConnectorError // the sink's only error type
      assert.strictEqual(error.reason, "Fenced")
      assert.strictEqual(error.table, "public.shared")
      yield* newer.rows(inserts(shared, 20, 0, 5))
      yield* newer.durable(at(20, 4))
      yield* second.sink.settle
      assert.deepStrictEqual(yield* journal(local, "SHARED"), { rows: 5, sequences: 5 })
    }))

  it.effect("begins a copy anew after an unfinished one, and an older copy can't load into it", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const copied = table("copied")
      const read = (from: number, to: number) =>
        Batches.batch(copied, range(from, to).map((id) => row(Operation.Read, 10, 0, BigInt(id), "r")))
      const first = yield* Local.run(local, {}, "copies")
      const unfinished = yield* first.open(copied)
      yield* Local.begin(unfinished.writer, copied, 10n)
      yield* Local.chunk(unfinished.writer, copied, 10n, 0, [read(0, 50)])
      const second = yield* Local.run(local, {}, "copies")
      const opened = yield* second.open(copied)
      assert.deepStrictEqual(opened.writer.position, { copied: undefined, committed: undefined })
      yield* Local.begin(opened.writer, copied, 10n)
      yield* Local.chunk(opened.writer, copied, 10n, 0, [read(0, 30)])
      const end = { _tag: "SnapshotEnd", table: copied, position: 10n, chunks: 1, settled: 10n } as const
      const error = yield* Effect.flip(unfinished.writer.write(end))
      assert.strictEqual(error.reason, "Fenced")
      yield* opened.writer.write(end)
      assert.deepStrictEqual(yield* ids(local, "COPIED"), range(0, 30))
    }))

  it.effect("doesn't call a copy complete that lacks rows or chunks, or holds others", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const short = table("short")
      const batch = Batches.batch(short, [row(Operation.Read, 10, 0, 1n, "r")])
      const opened = Effect.flatMap(Local.run(local, {}, "short"), ({ open }) => open(short))
      for (const plan of [undefined, "plan"]) {
        const { writer } = yield* opened
        yield* Local.begin(writer, short, 10n, plan)
        yield* writer.write({ _tag: "SnapshotRows", batch, position: 10n, chunk: 0 })
        const rows = yield* Effect.flip(
          writer.write({ _tag: "SnapshotChunk", table: short, position: 10n, chunk: 0, rows: 2 })
        )
        assert.strictEqual(rows.reason, "Protocol")
        const open = yield* Effect.flip(
          writer.write({ _tag: "SnapshotEnd", table: short, position: 10n, chunks: 1, settled: 10n })
        )
        assert.strictEqual(open.reason, "Protocol")
        const complete = Local.copy(yield* opened, short, 10n, [batch], plan)
        yield* complete
        for (const wrong of ["chunk", "row"]) {
          const again = yield* opened
          yield* Local.begin(again.writer, short, 20n, plan)
          yield* Local.chunk(again.writer, short, 20n, 0, [batch])
          if (wrong === "row") yield* local.query(`INSERT INTO RAW.SHOP.SHORT ("ID") VALUES (7)`)
          const error = yield* Effect.flip(again.writer.write({
            _tag: "SnapshotEnd",
            table: short,
            position: 20n,
            chunks: wrong === "row" ? 1 : 2,
            settled: 20n
          }))
          assert.strictEqual(error.reason, "Fenced")
          // Resuming it would only find the same again.
          const { position } = (yield* opened).writer
          assert.deepStrictEqual(position, { copied: undefined, committed: undefined })
        }
      }
    }))

  it.effect("takes a row of 5 MB that doesn't compress, in its place between the others", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const large = table("large")
      const running = yield* Local.run(local, {}, "large")
      const opened = yield* running.open(large)
      yield* Local.copy(opened, large, 10n, [])
      const note = randomBytes(4_125_000).toString("base64")
      yield* opened.rows(Batches.batch(large, [
        insert(20, 1, 1n, "before"),
        insert(20, 3, 2n, note),
        row(Operation.Update, 20, 5, 2n, Batches.unsent),
        insert(20, 7, 3n, "after"),
        row(Operation.Update, 20, 9, 3n, note.split("").reverse().join(""))
      ]))
      yield* opened.durable(at(20, 9))
      yield* running.sink.settle
      const found = yield* local.query(
        `SELECT "ID", LENGTH("NOTE") AS "LENGTH", "NOTE" = ${`'${note}'`} AS "SAME" FROM RAW.SHOP.LARGE ORDER BY "ID"`
      )
      assert.deepStrictEqual(found.map((one) => [one["ID"], one["LENGTH"], one["SAME"]]), [["1", "6", false], [
        "2",
        "5500000",
        true
      ], ["3", "5500000", false]])
      assert.deepStrictEqual(yield* journal(local, "LARGE"), { rows: 5, sequences: 5 })
      // Once more after a restart: the channel remembers the large row.
      const again = yield* Local.run(local, {}, "large")
      assert.deepStrictEqual((yield* again.open(large)).writer.position.committed, at(20, 9))
    }), 120_000)

  it.effect("streams 100,000 rows and merges them", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const many = table("many")
      const running = yield* Local.run(local, {}, "many")
      const opened = yield* running.open(many)
      yield* Local.copy(opened, many, 10n, [])
      for (let from = 0; from < 100_000; from += 25_000) yield* opened.rows(inserts(many, 20, from, from + 25_000))
      yield* opened.durable(at(20, 99_999))
      yield* running.sink.settle
      assert.deepStrictEqual(
        yield* local.query(
          `SELECT COUNT(*) AS "n", SUM("ID")::VARCHAR AS "sum", COUNT(DISTINCT "NOTE") AS "notes" FROM RAW.SHOP.MANY`
        ),
        [{ n: "100000", sum: "4999950000", notes: "100000" }]
      )
    }), 120_000)

  it.effect("issues no statement when there is nothing to merge", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const idle = table("idle")
      const running = yield* Local.run(local, { merge: { every: "20 millis" } }, "idle")
      const opened = yield* running.open(idle)
      yield* Local.copy(opened, idle, 10n, [])
      yield* opened.rows(inserts(idle, 20, 0, 5))
      yield* opened.durable(at(20, 4))
      yield* running.sink.settle
      yield* local.clearStatements
      yield* Effect.sleep("400 millis")
      yield* running.sink.settle
      const own = (yield* local.statements).filter(({ sql }) => sql.includes("IDLE"))
      assert.deepStrictEqual(own, [])
    }))

  it.effect(
    "waits with a merge until enough has gathered, and prunes what is past its retention",
    () =>
      Effect.gen(function*() {
        const local = yield* Server
        const few = table("few")
        const more = { merge: { every: "50 millis", minRows: 100 }, journal: { retention: "0 seconds" } }
        const running = yield* Local.run(local, more, "few")
        const opened = yield* running.open(few)
        yield* Local.copy(opened, few, 10n, [])
        yield* opened.rows(inserts(few, 20, 0, 1))
        yield* opened.durable(at(20, 0))
        yield* running.sink.settle
        assert.deepStrictEqual(yield* journal(local, "FEW"), { rows: 0, sequences: 0 })
        yield* opened.rows(inserts(few, 20, 1, 51))
        yield* opened.durable(at(20, 50))
        yield* local.clearStatements
        yield* Effect.sleep("200 millis")
        assert.deepStrictEqual((yield* local.statements).filter(({ sql }) => sql.includes("FEW")), [])
        yield* opened.rows(inserts(few, 20, 51, 101))
        yield* opened.durable(at(20, 100))
        yield* Effect.repeat(ids(local, "FEW"), {
          until: (found) => found.length === 101,
          schedule: Schedule.spaced("20 millis")
        })
      }),
    20_000
  )

  it.effect("truncates within the order of changes", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const emptied = table("emptied")
      const running = yield* Local.run(local, {}, "truncate")
      const opened = yield* running.open(emptied)
      yield* Local.copy(opened, emptied, 10n, [Batches.batch(emptied, [row(Operation.Read, 10, 0, 1n, "copied")])])
      yield* opened.rows(inserts(emptied, 20, 2, 5))
      yield* opened.writer.write({
        _tag: "Truncate",
        table: emptied,
        sequence: at(20, 5),
        commitTime: Batches.commitTime
      })
      yield* opened.rows(inserts(emptied, 20, 6, 8))
      yield* opened.durable(at(20, 7))
      yield* running.sink.settle
      assert.deepStrictEqual(yield* ids(local, "EMPTIED"), [6, 7])
    }))

  it.effect("adds columns that the source adds, and copies the table again for another type", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const before = table("shaped")
      const after: TableSchema = {
        ...table("shaped", { id: { _tag: "Int64" }, note: text, added: { _tag: "Json" } }),
        version: 2
      }
      const running = yield* Local.run(local, {}, "shape")
      const opened = yield* running.open(before)
      yield* Local.copy(opened, before, 10n, [])
      yield* opened.rows(inserts(before, 20, 1, 2))
      yield* opened.writer.write({ _tag: "Schema", table: after, sequence: at(30, 0) })
      yield* opened.rows(
        Batches.batch(after, [
          insert(30, 1, 2n, "n", "{\"a\":[1]}"),
          row(Operation.Update, 30, 3, 1n, Batches.unsent, "null")
        ])
      )
      yield* opened.durable(at(30, 3))
      yield* running.sink.settle
      assert.deepStrictEqual(
        yield* local.query(`SELECT "ID", "NOTE", TO_JSON("ADDED") AS "ADDED" FROM RAW.SHOP.SHAPED ORDER BY "ID"`),
        [{ ID: "1", NOTE: "note 1", ADDED: "null" }, { ID: "2", NOTE: "n", ADDED: "{\"a\":[1]}" }]
      )
      const error = yield* Effect.flip(
        opened.writer.write({
          _tag: "Schema",
          table: { ...table("shaped", { id: { _tag: "Int64" }, note: { _tag: "Date" } }), version: 3 },
          sequence: at(40, 0)
        })
      )
      assert.strictEqual(error.reason, "Fenced")
      assert.include(error.message, "NOTE")
    }))

  it.effect("keeps the origin of a copy and of later shapes, and gives it back with the position", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const before: TableSchema = { ...table("rooted"), origin: "{\"it's\":\"1 \\\\ é\"}" }
      const position = Effect.scoped(Effect.gen(function*() {
        const running = yield* Local.run(local, {}, "origin")
        return (yield* running.open(before)).writer.position
      }))
      yield* Effect.scoped(Effect.gen(function*() {
        const running = yield* Local.run(local, {}, "origin")
        const opened = yield* running.open(before)
        assert.deepStrictEqual(opened.writer.position, { copied: undefined, committed: undefined })
        yield* Local.copy(opened, before, 10n, [])
      }))
      const first = yield* position
      assert.strictEqual(first.copied, 10n)
      assert.strictEqual(first.origin, before.origin)
      yield* Effect.scoped(Effect.gen(function*() {
        const running = yield* Local.run(local, {}, "origin")
        const opened = yield* running.open(before)
        const next: TableSchema = { ...before, version: 2, origin: "second" }
        yield* opened.writer.write({ _tag: "Schema", table: next, sequence: Sequence.zero })
        yield* opened.rows(inserts(next, 20, 1, 3))
        yield* opened.durable(at(20, 2))
        yield* running.sink.settle
      }))
      assert.strictEqual((yield* position).origin, "second")
      assert.deepStrictEqual(yield* ids(local, "ROOTED"), [1, 2])
      const wider = table("rooted", { id: { _tag: "Int64" }, note: text, added: text })
      yield* Effect.scoped(Effect.gen(function*() {
        const running = yield* Local.run(local, {}, "origin")
        const opened = yield* running.open(before)
        const next: TableSchema = { ...wider, version: 3, origin: "third" }
        yield* opened.writer.write({ _tag: "Schema", table: next, sequence: at(30, 0) })
        // A shape without an origin takes nothing away.
        yield* opened.writer.write({ _tag: "Schema", table: { ...table("rooted"), version: 4 }, sequence: at(30, 2) })
      }))
      assert.strictEqual((yield* position).origin, "third")
      // A copy of another table of this name comes with its own.
      yield* Effect.scoped(Effect.gen(function*() {
        const running = yield* Local.run(local, {}, "origin")
        const next: TableSchema = { ...wider, origin: "fourth" }
        yield* Local.copy(yield* running.open(next), next, 40n, [])
      }))
      const last = yield* position
      assert.deepStrictEqual([last.copied, last.origin], [40n, "fourth"])
      assert.deepStrictEqual(yield* ids(local, "ROOTED"), [])
    }))

  it.effect("takes a table that left the pipeline for a while as not copied, and deletes nothing of it", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const [kept, left] = [table("stays"), table("leaves")] as const
      const open = (tables: ReadonlyArray<TableSchema>, pipeline = "absence") =>
        Effect.scoped(Effect.gen(function*() {
          const running = yield* Local.run(local, { schema: pipeline }, pipeline)
          yield* local.clearStatements
          yield* running.sink.begin(tables, Local.conditions())
          const statements = (yield* local.statements).length
          const positions: Array<bigint | undefined> = []
          for (const of of tables) {
            const opened = yield* running.open(of)
            positions.push(opened.writer.position.copied)
            if (opened.writer.position.copied === undefined) {
              yield* Local.copy(opened, of, 10n, [Batches.batch(of, [row(Operation.Read, 10, 0, 1n, "copied")])])
            }
          }
          return { positions, statements }
        }))
      assert.deepStrictEqual(yield* open([kept, left]), { positions: [undefined, undefined], statements: 0 })
      assert.deepStrictEqual((yield* open([kept, left], "other")).positions, [undefined, undefined])
      assert.deepStrictEqual(yield* open([left, kept]), { positions: [10n, 10n], statements: 0 })
      assert.deepStrictEqual(yield* open([kept]), { positions: [10n], statements: 2 })
      assert.deepStrictEqual(yield* open([kept]), { positions: [10n], statements: 0 })
      const rows = yield* local.query("SELECT COUNT(*) AS \"n\" FROM RAW.ABSENCE.LEAVES")
      assert.strictEqual(Number(rows[0]?.["n"]), 1)
      assert.deepStrictEqual(yield* open([kept, left]), { positions: [10n, undefined], statements: 0 })
      // Another pipeline's tables are none of its business.
      assert.deepStrictEqual((yield* open([kept, left], "other")).positions, [10n, 10n])
    }))

  it.effect("adds the columns that a state table of an earlier version lacks", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const more = { journalSchema: "OLDER" }
      yield* local.query("CREATE SCHEMA RAW.OLDER")
      yield* local.query(
        `CREATE TABLE RAW.OLDER.TABLES ("PIPELINE" VARCHAR, "SOURCE_TABLE" VARCHAR, "TARGET" VARCHAR, "JOURNAL" VARCHAR, ` +
          `"COPYING" VARCHAR, "COPIED" VARCHAR, "MERGED" VARCHAR(33), "UPDATED_AT" TIMESTAMP_TZ(6))`
      )
      const old: TableSchema = { ...table("older"), origin: "now" }
      for (const expected of [undefined, "now"]) {
        yield* Effect.scoped(Effect.gen(function*() {
          const opened = yield* (yield* Local.run(local, more, "older")).open(old)
          assert.strictEqual(opened.writer.position.origin, expected)
          if (expected === undefined) yield* Local.copy(opened, old, 10n, [])
        }))
      }
    }))

  it.effect("keeps a changelog with every change, copied rows included", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const log = table("log", { id: { _tag: "Int64" }, note: text, doc: { _tag: "Json" } })
      const more = { mode: "changelog", schema: "LOGS" }
      const running = yield* Local.run(local, more, "changelog")
      const opened = yield* running.open(log)
      yield* Local.copy(opened, log, 10n, [
        Batches.batch(log, [row(Operation.Read, 10, 0, 1n, "copied", "{\"a\":1}")])
      ])
      yield* opened.rows(Batches.batch(log, [
        insert(20, 1, 2n, "new", "[1,2]"),
        row(Operation.Update, 20, 3, 1n, Batches.unsent, null),
        row(Operation.Delete, 20, 5, 2n)
      ]))
      yield* opened.durable(at(20, 5))
      yield* running.sink.settle
      assert.deepStrictEqual(
        yield* local.query(
          `SELECT "_ETL_OP" AS "OP", "_ETL_UNSENT" AS "UNSENT", "ID", "NOTE", TO_JSON("DOC") AS "DOC" FROM RAW.LOGS.LOG ORDER BY "_ETL_SEQ"`
        ),
        [
          { OP: "read", UNSENT: null, ID: "1", NOTE: "copied", DOC: "{\"a\":1}" },
          { OP: "insert", UNSENT: null, ID: "2", NOTE: "new", DOC: "[1,2]" },
          { OP: "update", UNSENT: "[\"NOTE\"]", ID: "1", NOTE: null, DOC: null },
          { OP: "delete", UNSENT: null, ID: "2", NOTE: null, DOC: null }
        ]
      )
      const again = yield* Local.run(local, more, "changelog")
      assert.deepStrictEqual((yield* again.open(log)).writer.position, {
        copied: 10n,
        committed: at(20, 5),
        settled: 10n
      })
    }))

  it.effect("keeps every copy of equal rows of a table without a key, from snapshot and changes alike", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const bag = table("bag", { name: text, n: { _tag: "Int32" } }, { _tag: "Full" })
      const read = (...values: ReadonlyArray<Batches.Value>) => row(Operation.Read, 10, 0, ...values)
      const running = yield* Local.run(local, {}, "bag")
      const opened = yield* running.open(bag)
      yield* Local.copy(opened, bag, 10n, [
        Batches.batch(bag, [read("x", 1), read("x", 1), read(null, 2)]),
        Batches.batch(bag, [read("x", 1), read(null, 2)])
      ])
      yield* opened.rows(Batches.batch(bag, [
        row(Operation.Delete, 20, 1, "x", 1),
        insert(20, 3, null, 2),
        row(Operation.KeyChangeOld, 20, 4, "x", 1),
        row(Operation.KeyChangeNew, 20, 5, "y", 1)
      ]))
      yield* opened.durable(at(20, 5))
      yield* running.sink.settle
      assert.deepStrictEqual(
        yield* local.query(
          `SELECT "NAME", "N", COUNT(*) AS "C", COUNT(DISTINCT "_ETL_COPY") AS "D" FROM RAW.SHOP.BAG GROUP BY "NAME", "N" ORDER BY "NAME" NULLS FIRST`
        ),
        [{ NAME: null, N: "2", C: "3", D: "3" }, { NAME: "x", N: "1", C: "1", D: "1" }, {
          NAME: "y",
          N: "1",
          C: "1",
          D: "1"
        }]
      )
    }))

  it.effect("copies a table again whose target was dropped in Snowflake", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const dropped = table("dropped")
      yield* Effect.scoped(Effect.gen(function*() {
        const opened = yield* (yield* Local.run(local, {}, "dropped")).open(dropped)
        yield* Local.copy(opened, dropped, 10n, [])
      }))
      yield* local.query("DROP TABLE RAW.SHOP.DROPPED")
      const opened = yield* (yield* Local.run(local, {}, "dropped")).open(dropped)
      assert.deepStrictEqual(opened.writer.position, { copied: undefined, committed: undefined })
    }))

  it.effect("leaves tables alone that aren't its own, and targets of another pipeline", () =>
    Effect.gen(function*() {
      const local = yield* Server
      yield* local.query("CREATE SCHEMA IF NOT EXISTS RAW.SHOP")
      yield* local.query("CREATE TABLE RAW.SHOP.PRECIOUS (ID NUMBER)")
      const first = yield* Local.run(local, {}, "first")
      const foreign = (yield* Effect.flip(first.open(table("precious")))) as ConnectorError // the sink's only error type
      assert.strictEqual(foreign.reason, "Unsupported")
      yield* first.open(table("mine"))
      const second = yield* Local.run(local, {}, "second")
      const taken = (yield* Effect.flip(second.open(table("mine")))) as ConnectorError // the same
      assert.strictEqual(taken.reason, "Unsupported")
      assert.include(taken.message, "first")
    }))

  it.effect("finds its place by the journal when Snowflake has forgotten the channel", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const old = table("old")
      yield* Effect.scoped(Effect.gen(function*() {
        const opened = yield* (yield* Local.run(local, { merge: { every: "1 hour" } }, "old")).open(old)
        yield* Local.copy(opened, old, 10n, [])
        yield* opened.rows(inserts(old, 20, 0, 5))
        yield* opened.durable(at(20, 4))
      }))
      yield* Local.dropChannel(local, "SHOP__OLD__JOURNAL", "old")
      const running = yield* Local.run(local, {}, "old")
      const opened = yield* running.open(old)
      assert.deepStrictEqual(opened.writer.position.committed, at(20, 4))
      yield* opened.rows(inserts(old, 20, 5, 7))
      yield* opened.durable(at(20, 6))
      yield* running.sink.settle
      assert.deepStrictEqual(yield* ids(local, "OLD"), range(0, 7))
    }))

  it.effect("ends the run when Snowflake skips a row, without calling it durable", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const skipped = table("skipped")
      const running = yield* Local.run(local, {}, "skipping")
      const opened = yield* running.open(skipped)
      yield* Local.copy(opened, skipped, 10n, [])
      yield* local.fault("streaming", { kind: "rejectRowSilently", endpoint: "append" })
      yield* opened.rows(inserts(skipped, 20, 0, 5))
      const error = (yield* Effect.flip(Deferred.await(running.failure))) as ConnectorError // the sink's only error type
      assert.strictEqual(error.reason, "Rejected")
      assert.deepStrictEqual(opened.reported, [])
      // The next run must not go on after the gap; a new copy closes it.
      const again = yield* Local.run(local, {}, "skipping")
      const refused = (yield* Effect.flip(again.open(skipped))) as ConnectorError // the same
      assert.strictEqual(refused.reason, "Rejected")
      yield* local.query(`DELETE FROM RAW.ETL_STREAM.TABLES WHERE "PIPELINE" = 'skipping'`)
      const mended = yield* Local.run(local, {}, "skipping")
      const copied = yield* mended.open(skipped)
      yield* Local.copy(copied, skipped, 30n, [])
      yield* copied.rows(inserts(skipped, 40, 0, 3))
      yield* copied.durable(at(40, 2))
      const last = yield* Local.run(local, {}, "skipping")
      assert.deepStrictEqual((yield* last.open(skipped)).writer.position.committed, at(40, 2))
    }))
})
