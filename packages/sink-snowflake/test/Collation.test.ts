/**
 * Keys that differ in nothing but case, where Snowflake's defaults or somebody's table would take them for the same.
 */
import { assert, layer } from "@effect/vitest"
import { Operation } from "@etl-stream/core/ChangeBatch"
import { ConnectorError, isRetryable } from "@etl-stream/core/ConnectorError"
import type { LogicalType } from "@etl-stream/core/LogicalType"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Batches from "./Batches.ts"
import * as Local from "./Local.ts"

class Server extends Context.Service<Server, Local.Local>()("test/Server") {
  static readonly layer = Layer.effect(Server, Local.start())
}

const text: LogicalType = { _tag: "Text", maxLength: undefined }
const shape = (name: string, more: Readonly<Record<string, LogicalType>> = {}, version = 1) =>
  Batches.table(name, { key: text, value: text, ...more }, { _tag: "Key", columns: [0] }, "public", version)
const change = (op: Operation, commit: number, ordinal: number, ...values: ReadonlyArray<Batches.Value>) => ({
  op,
  sequence: Sequence.make(BigInt(commit), BigInt(ordinal)),
  values
})
const later = { merge: { every: "1 hour" } }

/** Tables and columns of the schemas that the sink writes to which have a collation. */
const collated = (local: Local.Local) =>
  local.query(
    `SELECT TABLE_NAME || '.' || COLUMN_NAME AS "column" FROM RAW.INFORMATION_SCHEMA.COLUMNS ` +
      `WHERE COLLATION_NAME IS NOT NULL AND TABLE_SCHEMA IN ('SHOP', 'ETL_STREAM') ORDER BY 1`
  )

/** Copies two rows whose keys differ in case, and changes one of them. */
const copyBoth = Effect.fnUntraced(function*(local: Local.Local, name: string, options: object = {}) {
  const table = shape(name)
  yield* Effect.scoped(Effect.gen(function*() {
    const running = yield* Local.run(local, { ...later, ...options }, name)
    const opened = yield* running.open(table)
    yield* Local.copy(opened, table, 10n, [
      Batches.batch(table, [
        change(Operation.Read, 10, 0, "a", "small"),
        change(Operation.Read, 10, 0, "A", "large")
      ])
    ])
    yield* opened.rows(Batches.batch(table, [
      change(Operation.Update, 20, 1, "a", "SMALL"),
      change(Operation.Insert, 20, 2, "b", "another"),
      change(Operation.Insert, 20, 3, "B", "Another")
    ]))
    yield* opened.durable(Sequence.make(20n, 3n))
    yield* running.sink.settle
  }))
})

/** Opens the table and returns the error. */
const refusal = (local: Local.Local, name: string, options: object = {}) =>
  Effect.scoped(Effect.gen(function*() {
    const running = yield* Local.run(local, { ...later, ...options }, name)
    const error = yield* Effect.flip(running.open(shape(name)))
    assert(error instanceof ConnectorError)
    return error
  }))

const recreate = (local: Local.Local, name: string, columns: string) =>
  Effect.andThen(
    local.query(`DROP TABLE ${name}`),
    local.query(`CREATE TABLE ${name} (${columns})`)
  )

layer(Server.layer, { timeout: 120_000, excludeTestServices: true })("Keys that differ in case", (it) => {
  it.effect("stay apart where new columns are compared without case by default", () =>
    Effect.gen(function*() {
      const local = yield* Server
      yield* local.query("ALTER DATABASE RAW SET DEFAULT_DDL_COLLATION = 'en-ci'")
      yield* copyBoth(local, "defaults")
      yield* copyBoth(local, "defaults_history", { tables: { "public.defaults_history": { mode: "history" } } })
      const target = yield* local.query(`SELECT "KEY", "VALUE" FROM RAW.SHOP.DEFAULTS ORDER BY 1`)
      assert.deepStrictEqual(target.map(({ KEY, VALUE }) => `${String(KEY)} ${String(VALUE)}`).sort(), [
        "A large",
        "B Another",
        "a SMALL",
        "b another"
      ])
      const history = yield* local.query(
        `SELECT "KEY", "VALUE" FROM RAW.SHOP.DEFAULTS_HISTORY WHERE "_ETL_VALID_TO" IS NULL ORDER BY 1`
      )
      assert.strictEqual(history.length, 4)
      // Columns that come later, too.
      const next = shape("defaults", { more: text }, 2)
      yield* Effect.scoped(Effect.gen(function*() {
        const running = yield* Local.run(local, later, "defaults")
        const opened = yield* running.open(next)
        yield* opened.rows(Batches.batch(next, [change(Operation.Insert, 30, 1, "C", "c", "more")]))
        yield* opened.durable(Sequence.make(30n, 1n))
        yield* running.sink.settle
      }))
      assert.deepStrictEqual(yield* collated(local), [])
      yield* local.query("ALTER DATABASE RAW UNSET DEFAULT_DDL_COLLATION")
    }))

  it.effect("stop their table when the target's or the journal's key has a collation, naming both and the remedy", () =>
    Effect.gen(function*() {
      const local = yield* Server
      for (
        const [name, mode] of [["by_hand", "mirror"], ["by_hand_log", "changelog"], [
          "by_hand_past",
          "history"
        ]] as const
      ) {
        const options = { tables: { [`public.${name}`]: { mode } } }
        yield* copyBoth(local, name, options)
        const target = `RAW.SHOP.${name.toUpperCase()}`
        const columns = (yield* local.query(`DESCRIBE TABLE ${target}`)).map((column) =>
          `"${String(column["name"])}" ${String(column["type"])}`
        )
        yield* recreate(
          local,
          target,
          columns.map((column) => column.startsWith(`"KEY"`) ? `${column} COLLATE 'en-ci' PRIMARY KEY` : column).join(
            ", "
          )
        )
        const error = yield* refusal(local, name, options)
        assert.strictEqual(error.reason, "Unsupported")
        assert.isFalse(isRetryable(error))
        assert.strictEqual(error.table, `public.${name}`)
        assert.match(error.message, new RegExp(`KEY of .*${name.toUpperCase()}.* has the collation en-ci`))
        assert.match(error.hint, /Rename/)
      }
      const journal = "RAW.ETL_STREAM.SHOP__OF_JOURNAL__JOURNAL"
      yield* copyBoth(local, "of_journal")
      const columns = (yield* local.query(`DESCRIBE TABLE ${journal}`)).map((column) =>
        `"${String(column["name"])}" ${String(column["type"])}${column["name"] === "KEY" ? " COLLATE 'fr-ai'" : ""}`
      )
      yield* recreate(local, journal, columns.join(", "))
      assert.match((yield* refusal(local, "of_journal")).message, /KEY of .*JOURNAL.* has the collation fr-ai/)
    }))

  it.effect("are no concern of a mirror's other columns, nor of columns that are compared exactly by name", () =>
    Effect.gen(function*() {
      const local = yield* Server
      yield* copyBoth(local, "others")
      const columns = (yield* local.query("DESCRIBE TABLE RAW.SHOP.OTHERS")).map((column) => {
        const collation = column["name"] === "KEY"
          ? " COLLATE 'utf8' PRIMARY KEY"
          : column["name"] === "VALUE"
          ? " COLLATE 'en-ci'"
          : ""
        return `"${String(column["name"])}" ${String(column["type"])}${collation}`
      })
      yield* local.query("ALTER TABLE RAW.SHOP.OTHERS RENAME TO RAW.SHOP.OTHERS_BEFORE")
      yield* local.query(`CREATE TABLE RAW.SHOP.OTHERS (${columns.join(", ")})`)
      yield* local.query("INSERT INTO RAW.SHOP.OTHERS SELECT * FROM RAW.SHOP.OTHERS_BEFORE")
      yield* Effect.scoped(Effect.gen(function*() {
        const table = shape("others")
        const running = yield* Local.run(local, later, "others")
        const opened = yield* running.open(table)
        yield* opened.rows(Batches.batch(table, [
          change(Operation.Update, 30, 1, "A", "LARGE"),
          change(Operation.Delete, 30, 2, "b", null)
        ]))
        yield* opened.durable(Sequence.make(30n, 2n))
        yield* running.sink.settle
      }))
      const rows = yield* local.query(`SELECT "KEY", "VALUE" FROM RAW.SHOP.OTHERS`)
      assert.deepStrictEqual(rows.map(({ KEY, VALUE }) => `${String(KEY)} ${String(VALUE)}`).sort(), [
        "A LARGE",
        "B Another",
        "a SMALL"
      ])
    }))
})
