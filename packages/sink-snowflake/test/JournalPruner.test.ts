/**
 * When and in which pieces journals lose what is merged, with the time in the test's hands.
 */
import { assert, layer } from "@effect/vitest"
import { Operation } from "@etl-stream/core/ChangeBatch"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { TestClock } from "effect/testing"
import { JournalPruner } from "../src/JournalPruner.ts"
import * as TableDdl from "../src/TableDdl.ts"
import * as Layout from "../src/TableLayout.ts"
import * as Batches from "./Batches.ts"
import * as Local from "./Local.ts"
import { server } from "./MirrorReplay.ts"

class Server extends Context.Service<Server, Local.Local>()("test/Server") {
  static readonly layer = Layer.effect(Server, server)
}

const hour = 3_600_000
const now = Date.UTC(2026, 5, 1)
const sequence = (index: number) => Sequence.format(Sequence.make(20n, BigInt(index)))

/** A table with a journal of rows that were committed so many hours ago. */
const journal = Effect.fnUntraced(function*(local: Local.Local, name: string, hoursAgo: ReadonlyArray<number>) {
  const config = local.config()
  const table = Batches.table(name, { id: { _tag: "Int32" } }, { _tag: "Key", columns: [0] })
  const layout = yield* Layout.make(config, name, table)
  yield* TableDdl.examine(local.sql, layout, undefined, config.schemaEvolution)
  const rows = hoursAgo.map((hours, index) =>
    `('insert', '${sequence(index + 1)}', '${new Date(now - hours * hour).toISOString()}', '${index}')`
  )
  yield* local.query(
    `INSERT INTO ${Layout.sqlName(layout.journal)} ("_ETL_OP", "_ETL_SEQ", "_ETL_COMMIT_TIME", "ID") VALUES ${
      rows.join(", ")
    }`
  )
  const left = Effect.map(
    local.query(`SELECT "ID" FROM ${Layout.sqlName(layout.journal)} ORDER BY "ID"::NUMBER`),
    (found) => found.map((row) => Number(row["ID"]))
  )
  yield* local.clearStatements
  /** Kinds of the statements that pruned since this was asked last. */
  const ran = Effect.gen(function*() {
    const found = (yield* local.statements).filter(({ tag }) => tag.includes("\"purpose\":\"prune\""))
    yield* local.clearStatements
    return found.map(({ sql }) => sql.slice(0, 6))
  })
  return { layout, left, ran }
})

const numbers = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => from + index)

layer(Server.layer, { timeout: 120_000, excludeTestServices: true })("A journal", (it) => {
  it.effect("loses its oldest rows piece by piece, twice as many as a merge brings, and none that isn't merged", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(now)
      const local = yield* Server
      const { layout, left, ran } = yield* journal(local, "pieces", Array.from({ length: 50 }, () => 100))
      const pruner = new JournalPruner(local.sql, 24 * hour, 1000, 10)
      yield* pruner.after(layout, sequence(45), 1)
      assert.deepStrictEqual(yield* left, numbers(10, 50))
      assert.deepStrictEqual(yield* ran, ["SELECT", "DELETE"])
      yield* pruner.after(layout, sequence(45), 10)
      assert.deepStrictEqual(yield* left, numbers(30, 50))
      assert.deepStrictEqual(yield* ran, ["SELECT", "DELETE", "SELECT", "DELETE"])
      yield* pruner.after(layout, sequence(45), 100)
      assert.deepStrictEqual(yield* left, numbers(45, 50), "to the end of what is merged")
      assert.deepStrictEqual(yield* ran, ["SELECT", "DELETE", "SELECT", "DELETE"])
      yield* pruner.after(layout, sequence(50), 100)
      assert.deepStrictEqual([yield* left, yield* ran], [numbers(45, 50), []], "not again so soon")
      yield* TestClock.adjust("1 hour")
      yield* pruner.after(layout, sequence(50), 100)
      assert.deepStrictEqual(yield* left, [])
    }).pipe(Effect.provide(TestClock.layer())))

  it.effect("loses nothing before some row is past its retention by an hour, and then all that are past it", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(now)
      const local = yield* Server
      const { layout, left, ran } = yield* journal(local, "slack", [24.9, 24.5, 23.5, 22])
      const pruner = new JournalPruner(local.sql, 24 * hour, 1000)
      yield* pruner.after(layout, sequence(4), 4)
      assert.deepStrictEqual([yield* left, yield* ran], [[0, 1, 2, 3], ["SELECT"]])
      yield* TestClock.adjust("59 minutes")
      yield* pruner.after(layout, sequence(4), 4)
      assert.deepStrictEqual(yield* ran, [], "nothing can be due")
      yield* TestClock.adjust("1 minute")
      yield* pruner.after(layout, sequence(4), 4)
      assert.deepStrictEqual([yield* left, yield* ran], [[3], ["SELECT", "DELETE"]])
      // Another run looks at once, and finds nothing to do.
      yield* new JournalPruner(local.sql, 24 * hour, 1000).after(layout, sequence(4), 4)
      assert.deepStrictEqual([yield* left, yield* ran], [[3], ["SELECT"]])
      yield* new JournalPruner(local.sql, Number.POSITIVE_INFINITY, 1000).after(layout, sequence(4), 4)
      yield* new JournalPruner(local.sql, 5000 * 365 * 24 * hour, 1000).after(layout, sequence(4), 4)
      assert.deepStrictEqual(yield* ran, [], "kept for ever, or for millennia")
    }).pipe(Effect.provide(TestClock.layer())))

  it.effect("is pruned by runs that never live for an hour, at their first merge", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const table = Batches.table("brief", { id: { _tag: "Int32" } }, { _tag: "Key", columns: [0] })
      for (let run = 0; run < 2; run++) {
        yield* Effect.scoped(Effect.gen(function*() {
          const running = yield* Local.run(local, { journal: { retention: "30 days" } }, "brief")
          const opened = yield* running.open(table)
          if (run === 0) yield* Local.copy(opened, table, 10n, [])
          const last = Sequence.make(20n + BigInt(run), 1n)
          // Committed long ago.
          yield* opened.rows(Batches.batch(table, [{ op: Operation.Insert, sequence: last, values: [run] }]))
          yield* opened.durable(last)
          yield* running.sink.settle
          assert.deepStrictEqual(yield* local.query("SELECT * FROM RAW.ETL_STREAM.SHOP__BRIEF__JOURNAL"), [])
        }))
      }
      assert.strictEqual((yield* local.query("SELECT ID FROM RAW.SHOP.BRIEF")).length, 2)
    }))
})
