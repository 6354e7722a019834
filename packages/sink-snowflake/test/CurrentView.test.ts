/**
 * The view of the current state beside a changelog, against a model in memory.
 */
import { assert, layer } from "@effect/vitest"
import { Operation } from "@etl-stream/core/ChangeBatch"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as fc from "fast-check"
import * as CurrentView from "../src/CurrentView.ts"
import { quote } from "../src/Identifier.ts"
import * as TableDdl from "../src/TableDdl.ts"
import type { TableLayout } from "../src/TableLayout.ts"
import * as Layout from "../src/TableLayout.ts"
import * as Batches from "./Batches.ts"
import { journalRows, options, targetRows } from "./ChunkedCopyModel.ts"
import * as ChunkedCopy from "./ChunkedCopyModel.ts"
import * as Local from "./Local.ts"
import * as Model from "./MirrorModel.ts"

class Server extends Context.Service<Server, Local.Local>()("test/Server") {
  static readonly layer = Layer.effect(Server, Local.start())
}

const orders = (columns: Readonly<Record<string, "Int64" | "Text">>) =>
  Batches.table(
    "orders",
    Object.fromEntries(
      Object.entries(columns).map(([name, type]) => [
        name,
        type === "Text" ? { _tag: "Text" as const, maxLength: undefined } : { _tag: "Int64" as const }
      ])
    ),
    { _tag: "Key", columns: [0] }
  )

layer(Server.layer, { timeout: 120_000, excludeTestServices: true })("The view beside a changelog", (it) => {
  let serial = 0

  it.effect("shows the source's table, for any history, chunks of a copy and snapshots", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const config = local.config({ mode: "changelog" })
      yield* TableDdl.ensureHome(local.sql, "RAW", "ETL_STREAM")
      const property = (given: ChunkedCopy.Options) =>
        Effect.gen(function*() {
          const copy = ChunkedCopy.make(given)
          const name = `view_${serial++}`
          const layout = yield* Layout.make(config, name, { ...Model.keyed, table: { schema: "public", name } })
          yield* TableDdl.examine(local.sql, layout, undefined, config.schemaEvolution)
          yield* CurrentView.ensure(local.sql, layout, config, name)
          const view: TableLayout = { ...layout, target: { ...layout.target, name: `${layout.target.name}_CURRENT` } }
          const insert = (changes: ReadonlyArray<ChunkedCopy.Change>) =>
            changes.length === 0 ? Effect.void : Effect.asVoid(local.query(
              `INSERT INTO ${Layout.sqlName(layout.target)} (${
                Layout.journalColumns(layout).map(({ name: column }) => quote(column)).join(", ")
              }) SELECT ${
                Layout.journalColumns(layout).map(({ type }, index) =>
                  type === "VARIANT" ? `PARSE_JSON(column${index + 1})` : `column${index + 1}`
                ).join(", ")
              } FROM VALUES ${journalRows({ ...layout, mode: "mirror" }, changes).join(", ")}`
            ))
          yield* insert(copy.chunks.flatMap(({ position, rows }) =>
            rows.map((values): Batches.Row => ({
              op: Operation.Read,
              sequence: Sequence.make(position, 0n),
              values: values.map((value, index) =>
                value !== null && (index === 1 || index === 3) ? Number(value) : value
              )
            }))
          ))
          const cut = copy.changes.length >> 1
          yield* insert(copy.changes.slice(0, cut).flat())
          const step = copy.steps[cut - 1]
          if (step !== undefined) {
            assert.deepStrictEqual(
              ChunkedCopy.difference(copy, step, yield* targetRows(local, view)),
              undefined
            )
          }
          yield* insert(copy.changes.slice(cut).flat())
          assert.deepStrictEqual(yield* targetRows(local, view), copy.expected)
        })
      yield* Effect.promise(() =>
        fc.assert(fc.asyncProperty(options, (given) => Effect.runPromise(property(given))), {
          numRuns: 25,
          // A row that was read at the sequence of the change that moves it.
          examples: [[{
            seed: 123257384,
            length: 3,
            count: 5,
            from: 1630433392,
            reads: [902230577, 909651884, 28, 1197517076, 2147483646]
          }]],
          endOnFailure: true
        })
      )
    }), 240_000)

  it.effect("follows columns, and forgets after a new copy what was gone by then", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const narrow = orders({ id: "Int64", note: "Text" })
      const wide = { ...orders({ id: "Int64", note: "Text", city: "Text" }), version: 2 }
      const current = (columns: string) => local.query(`SELECT ${columns} FROM RAW.SHOP.ORDERS_CURRENT ORDER BY ID`)
      yield* Effect.scoped(Effect.gen(function*() {
        const running = yield* Local.run(local, { mode: "changelog" })
        const opened = yield* running.open(narrow)
        const read = (id: bigint, position: bigint): Batches.Row => ({
          op: Operation.Read,
          sequence: Sequence.make(position, 0n),
          values: [id, "copied"]
        })
        yield* Local.copy(opened, narrow, 10n, [Batches.batch(narrow, [read(1n, 10n), read(2n, 10n)])])
        yield* opened.rows(Batches.batch(narrow, [
          { op: Operation.Update, sequence: Sequence.make(20n, 1n), values: [1n, "changed"] }
        ]))
        yield* opened.durable(Sequence.make(20n, 1n))
        assert.deepStrictEqual(yield* current("ID, NOTE"), [{ ID: "1", NOTE: "changed" }, { ID: "2", NOTE: "copied" }])
        yield* opened.writer.write({ _tag: "Schema", table: wide, sequence: Sequence.make(30n, 0n) })
        const rows = Batches.batch(wide, [
          { op: Operation.Update, sequence: Sequence.make(30n, 1n), values: [1n, Batches.unsent, "Rome"] }
        ])
        yield* opened.rows(rows)
        yield* opened.durable(Sequence.make(30n, 1n))
        assert.deepStrictEqual(yield* current("ID, NOTE, CITY"), [
          { ID: "1", NOTE: "changed", CITY: "Rome" },
          { ID: "2", NOTE: "copied", CITY: null }
        ])
        // A delete of 2 and an update of 1 were missed.
        yield* Local.copy(opened, wide, 50n, [
          Batches.batch(wide, [{ op: Operation.Read, sequence: Sequence.make(50n, 0n), values: [1n, "again", "Oslo"] }])
        ])
        assert.deepStrictEqual(yield* current("ID, NOTE, CITY"), [{ ID: "1", NOTE: "again", CITY: "Oslo" }])
      }))
      yield* local.clearStatements
      yield* Effect.scoped(Effect.flatMap(Local.run(local, { mode: "changelog" }), (running) => running.open(wide)))
      const made = (yield* local.statements).filter(({ sql }) => /^CREATE .*VIEW/.test(sql))
      assert.deepStrictEqual(made, [], "a view that fits is left as it is")
    }), 60_000)

  it.effect("is not made over somebody else's, which stops nothing", () =>
    Effect.gen(function*() {
      const local = yield* Server
      yield* local.query("CREATE SCHEMA IF NOT EXISTS RAW.SHOP")
      yield* local.query("CREATE VIEW RAW.SHOP.THEIRS_CURRENT AS SELECT 1 AS ONE")
      const table = { ...orders({ id: "Int64" }), table: { schema: "public", name: "theirs" } }
      yield* Effect.scoped(Effect.gen(function*() {
        const running = yield* Local.run(local, { mode: "changelog" })
        const opened = yield* running.open(table)
        yield* Local.copy(opened, table, 10n, [])
      }))
      assert.deepStrictEqual(yield* local.query("SELECT ONE FROM RAW.SHOP.THEIRS_CURRENT"), [{ ONE: "1" }])
    }), 60_000)
})
