/**
 * The MERGE against a model in memory: random histories, cut into random windows.
 */
import { assert, layer } from "@effect/vitest"
import { Operation } from "@etl-stream/core/ChangeBatch"
import { isRetryable } from "@etl-stream/core/ConnectorError"
import * as Sequence from "@etl-stream/core/Sequence"
import type { TableSchema } from "@etl-stream/core/TableSchema"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Merger } from "../src/Merger.ts"
import * as MirrorWindow from "../src/MirrorWindow.ts"
import type * as SqlClient from "../src/SqlClient.ts"
import * as StateTable from "../src/StateTable.ts"
import * as Layout from "../src/TableLayout.ts"
import * as Batches from "./Batches.ts"
import { targetRows } from "./ChunkedCopyModel.ts"
import type * as Local from "./Local.ts"
import type { Step } from "./MirrorModel.ts"
import * as Model from "./MirrorModel.ts"
import { begin, replay, server } from "./MirrorReplay.ts"

class Server extends Context.Service<Server, Local.Local>()("test/Server") {
  static readonly layer = Layer.effect(Server, server)
}

layer(Server.layer, { timeout: 120_000, excludeTestServices: true })("Merge", (it) => {
  it.effect("leaves a keyed table as the source has it, for any history in any windows", () =>
    Effect.gen(function*() {
      const local = yield* Server
      for (let seed = 1; seed <= 6; seed++) yield* replay(local, Model.keyed, Model.keyedHistory(seed, 80), seed)
    }), 300_000)

  it.effect("leaves a keyless table with as many copies of each row as the source has", () =>
    Effect.gen(function*() {
      const local = yield* Server
      for (let seed = 101; seed <= 104; seed++) {
        const layout = yield* replay(local, Model.keyless, Model.keylessHistory(seed, 80, []), seed)
        const doubles = yield* local.query(
          `SELECT COUNT(*) AS "n" FROM (SELECT 1 FROM ${
            Layout.sqlName(layout.target)
          } GROUP BY "_ETL_ROW_KEY", "_ETL_COPY" HAVING COUNT(*) > 1) AS d`
        )
        assert.deepStrictEqual(doubles, [{ n: "0" }])
      }
    }), 300_000)

  it.effect(
    "keeps deleted rows with their last values where deletes are soft, whatever the windows",
    () =>
      Effect.gen(function*() {
        const local = yield* Server
        for (let seed = 11; seed <= 16; seed++) {
          yield* replay(local, Model.keyed, Model.keyedHistory(seed, 80), seed, "soft")
        }
      }),
    300_000
  )

  it.effect("keeps deleted copies of a keyless table's rows where deletes are soft", () =>
    Effect.gen(function*() {
      const local = yield* Server
      for (let seed = 111; seed <= 114; seed++) {
        yield* replay(local, Model.keyless, Model.keylessHistory(seed, 80, []), seed, "soft")
      }
    }), 300_000)

  it.effect("follows a long chain of changes of key in few rounds", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const sequence = (ordinal: number) => Sequence.make(50n, BigInt(ordinal))
      const row = (
        key: number,
        body: Batches.Value
      ): Batches.Row["values"] => [body, key, "a", 0, Batches.unsent, Batches.unsent, Batches.unsent]
      const rows = (key: number) => [Model.print(["first", key, "a", 0, "{\"n\":1}", "x", null])]
      const steps: Array<Step> = [{
        changes: [{
          op: Operation.Insert,
          sequence: sequence(1),
          values: ["first", 0, "a", 0, "{\"n\":1}", "x", null]
        }],
        sequence: sequence(1),
        rows: rows(0)
      }]
      for (let key = 1; key <= 100; key++) {
        steps.push({
          changes: [
            { op: Operation.KeyChangeOld, sequence: sequence(2 * key), values: [null, key - 1, "a"] },
            { op: Operation.KeyChangeNew, sequence: sequence(2 * key + 1), values: row(key, Batches.unsent) }
          ],
          sequence: sequence(2 * key + 1),
          rows: rows(key)
        })
      }
      yield* local.clearStatements
      yield* replay(local, Model.keyed, steps, 301)
      const rounds = (yield* local.statements).filter(({ sql }) => sql.startsWith("UPDATE") && sql.includes("_LINKS"))
      assert.isAbove(rounds.length, 0)
      assert.isBelow(rounds.length, 120)
    }), 120_000)

  it.effect("ends with Fenced, and changes nothing, when another runner has merged", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const layout = yield* replay(local, Model.keyed, Model.keyedHistory(401, 5), 401)
      const rows = yield* targetRows(local, layout)
      const state = StateTable.make(local.sql, "model401", "RAW", "ETL_STREAM")
      yield* state.claim
      const stale = new Merger(
        local.sql,
        state,
        local.config(),
        layout,
        MirrorWindow.apply,
        begin
      )
      const [last] = yield* local.query(`SELECT MAX("_ETL_SEQ") AS "S" FROM ${Layout.sqlName(layout.journal)}`)
      const error = yield* Effect.flip(stale.merge(String(last?.["S"]), true))
      assert.strictEqual(error.reason, "Fenced")
      assert.deepStrictEqual(yield* targetRows(local, layout), rows)
    }))

  it.effect("looks again for rows that are committed and not visible yet, and never passes over them", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const insert = (ordinal: number) => {
        const sequence = Sequence.make(80n, BigInt(ordinal))
        return {
          changes: [{ op: Operation.Insert, sequence, values: ["same", 1, "{}"] }],
          sequence,
          rows: Array.from({ length: ordinal }, () => Model.print(["same", 1, "{}"]))
        }
      }
      const table: TableSchema = {
        ...Model.keyless,
        table: { schema: "public", name: "late" },
        identity: { _tag: "None" }
      }
      const layout = yield* replay(local, table, [insert(1)], 701)
      const state = StateTable.make(local.sql, "model701", "RAW", "ETL_STREAM")
      yield* state.claim
      const [merged, late, lost] = [1, 2, 3].map((ordinal) => Sequence.format(Sequence.make(80n, BigInt(ordinal))))
      let looks = 0
      /** The row becomes visible when it has been looked for twice. */
      const delayed: SqlClient.SqlClient = {
        ...local.sql,
        execute: (statement) =>
          Effect.gen(function*() {
            if (statement.what.startsWith("Looking for changes") && ++looks === 3) {
              yield* local.query(
                `INSERT INTO ${
                  Layout.sqlName(layout.journal)
                } ("_ETL_OP", "_ETL_SEQ", "_ETL_COMMIT_TIME") VALUES ('insert', '${late}', '2026-01-01T00:00:00Z')`
              )
            }
            return yield* local.sql.execute(statement)
          })
      }
      const merger = new Merger(delayed, state, local.config(), layout, MirrorWindow.apply, merged)
      yield* merger.merge(late, true)
      assert.strictEqual(looks, 3)
      assert.strictEqual((yield* targetRows(local, layout)).length, 2)
      const error = yield* Effect.flip(merger.merge(lost, true))
      assert.strictEqual(error.reason, "Unreachable")
      assert.isTrue(isRetryable(error))
    }))

  it.effect("says so when changes remove rows that a keyless target doesn't hold", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const sequence = Sequence.make(60n, 1n)
      const steps: ReadonlyArray<Step> = [{
        changes: [{ op: Operation.Delete, sequence, values: ["never", 1, null] }],
        sequence,
        rows: []
      }]
      const error = yield* Effect.flip(replay(local, Model.keyless, steps, 501))
      assert.strictEqual(error.reason, "Lost")
    }))

  it.effect("appends for tables whose rows are only inserted", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const table: TableSchema = {
        ...Model.keyless,
        table: { schema: "public", name: "log" },
        identity: { _tag: "None" }
      }
      const steps = [1, 2, 3].map((ordinal): Step => ({
        changes: [{
          op: Operation.Insert,
          sequence: Sequence.make(70n, BigInt(ordinal)),
          values: ["same", 1, "{\"a\":1}"]
        }],
        sequence: Sequence.make(70n, BigInt(ordinal)),
        rows: Array.from({ length: ordinal }, () => Model.print(["same", 1, "{\"a\":1}"]))
      }))
      yield* replay(local, table, steps, 601)
    }))
})
