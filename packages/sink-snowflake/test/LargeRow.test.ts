/**
 * Rows that no streaming request can carry: they arrive once, and nothing is called durable that didn't.
 */
import { assert, layer } from "@effect/vitest"
import { Operation } from "@etl-stream/core/ChangeBatch"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { randomBytes } from "node:crypto"
import * as Stage from "../src/Stage.ts"
import * as TableLayout from "../src/TableLayout.ts"
import * as Batches from "./Batches.ts"
import * as Local from "./Local.ts"

class Server extends Context.Service<Server, Local.Local>()("test/Server") {
  static readonly layer = Layer.effect(Server, Local.start())
}

const named = (name: string) =>
  Batches.table(name, { id: { _tag: "Int64" }, note: { _tag: "Text", maxLength: undefined } }, {
    _tag: "Key",
    columns: [0]
  })
const at = (ordinal: number) => Sequence.make(20n, BigInt(ordinal))
const insert = (name: string, ordinal: number, note: string) =>
  Batches.batch(named(name), [{ op: Operation.Insert, sequence: at(ordinal), values: [BigInt(ordinal), note] }])
/** Four million bytes when compressed. */
const note = randomBytes(4_125_000).toString("base64")
const idle = { merge: { every: "1 hour" } }

const lengths = (local: Local.Local, name: string) =>
  Effect.map(
    local.query(
      `SELECT "ID", LENGTH("NOTE") AS "N" FROM RAW.ETL_STREAM.SHOP__${name.toUpperCase()}__JOURNAL ORDER BY "_ETL_SEQ"`
    ),
    (rows) => rows.map((row) => [Number(row["ID"]), Number(row["N"])])
  )

layer(Server.layer, { timeout: 120_000, excludeTestServices: true })("Large rows", (it) => {
  it.effect("are left alone by a runner that another one has taken over from", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const stale = yield* (yield* Local.run(local, idle, "takeover")).open(named("takeover"))
      yield* Local.copy(stale, named("takeover"), 10n, [])
      const next = yield* (yield* Local.run(local, idle, "takeover")).open(named("takeover"))
      yield* next.rows(insert("takeover", 1, "by the other"))
      yield* next.durable(at(1))
      const error = (yield* Effect.flip(stale.rows(insert("takeover", 0, note)))) as ConnectorError // the sink's only error type
      assert.strictEqual(error.reason, "Fenced")
      assert.deepStrictEqual(stale.reported, [])
      assert.deepStrictEqual(yield* lengths(local, "takeover"), [[1, 12]])
      const again = yield* (yield* Local.run(local, idle, "takeover")).open(named("takeover"))
      assert.deepStrictEqual(again.writer.position.committed, at(1))
    }))

  it.effect("don't let a runner that was taken over from begin a copy", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const stale = yield* (yield* Local.run(local, idle, "recopy")).open(named("recopy"))
      yield* Local.copy(stale, named("recopy"), 10n, [])
      const next = yield* (yield* Local.run(local, idle, "recopy")).open(named("recopy"))
      yield* next.rows(insert("recopy", 1, "kept"))
      yield* next.durable(at(1))
      const error = yield* Effect.flip(Local.copy(stale, named("recopy"), 15n, []))
      assert.strictEqual((error as ConnectorError).reason, "Fenced") // the sink's only error type
      assert.deepStrictEqual(yield* lengths(local, "recopy"), [[1, 4]])
    }))

  it.effect("replace the file of an earlier attempt", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const layout = yield* TableLayout.make(local.config(), "leftover", named("leftover"))
      const opened = yield* (yield* Local.run(local, idle, "leftover")).open(named("leftover"))
      yield* Local.copy(opened, named("leftover"), 10n, [])
      const stage = Stage.make(local.sql, "leftover", "RAW", "ETL_STREAM")
      const folder = stage.folder(layout, Sequence.format(at(5)).replace("/", "_"))
      yield* stage.upload(layout, folder, "row.parquet", Buffer.from("cut off"))
      yield* local.clearStatements
      yield* opened.rows(insert("leftover", 5, note))
      assert.isTrue((yield* local.statements).some(({ sql }) => sql.startsWith("COPY INTO")))
      yield* opened.durable(at(5))
      assert.deepStrictEqual(yield* lengths(local, "leftover"), [[5, note.length]])
    }))

  it.effect("aren't called durable when COPY loads nothing", () =>
    Effect.gen(function*() {
      const local = yield* Server
      yield* Effect.scoped(Effect.gen(function*() {
        const opened = yield* (yield* Local.run(local, idle, "nothing")).open(named("nothing"))
        yield* Local.copy(opened, named("nothing"), 10n, [])
        yield* opened.rows(insert("nothing", 5, note))
      }))
      // Snowflake remembers the file as loaded, but somebody removed the row.
      yield* local.query("DELETE FROM RAW.ETL_STREAM.SHOP__NOTHING__JOURNAL")
      yield* Local.dropChannel(local, "SHOP__NOTHING__JOURNAL", "nothing")
      const opened = yield* (yield* Local.run(local, idle, "nothing")).open(named("nothing"))
      const error = (yield* Effect.flip(opened.rows(insert("nothing", 5, note)))) as ConnectorError // the sink's only error type
      assert.strictEqual(error.reason, "Rejected")
      assert.include(error.message, "exactly once")
      assert.deepStrictEqual(opened.reported, [])
    }))
})
