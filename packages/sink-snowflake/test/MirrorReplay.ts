/**
 * Histories of `MirrorModel`, merged from a journal in windows, and compared with the model after each.
 */
import { assert } from "@effect/vitest"
import * as Sequence from "@etl-stream/core/Sequence"
import type { TableSchema } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import { literal, quote } from "../src/Identifier.ts"
import { Merger } from "../src/Merger.ts"
import * as MirrorWindow from "../src/MirrorWindow.ts"
import * as StateTable from "../src/StateTable.ts"
import * as TableDdl from "../src/TableDdl.ts"
import * as Layout from "../src/TableLayout.ts"
import * as TableShape from "../src/TableShape.ts"
import { journalRows, targetRows } from "./ChunkedCopyModel.ts"
import * as Local from "./Local.ts"
import type { Step } from "./MirrorModel.ts"
import * as Model from "./MirrorModel.ts"

/** A server with the sink's own schema. */
export const server = Effect.gen(function*() {
  const local = yield* Local.start()
  yield* TableDdl.ensureHome(local.sql, "RAW", "ETL_STREAM")
  return local
})

/** Where the histories begin. */
export const begin = Sequence.format(Sequence.make(1n, 0n))

/** Merges a history in random windows and compares the target with the model after each. */
export const replay = Effect.fnUntraced(
  function*(
    local: Local.Local,
    table: TableSchema,
    steps: ReadonlyArray<Step>,
    seed: number,
    deletes: "hard" | "soft" = "hard",
    more: object = {}
  ) {
    const pipeline = `model${seed}`
    const layout = yield* Layout.make(local.config({ deletes, ...more }), pipeline, {
      ...table,
      table: { schema: "public", name: `${table.table.name}_${seed}` }
    })
    const state = StateTable.make(local.sql, pipeline, "RAW", "ETL_STREAM")
    yield* state.register(layout)
    yield* TableShape.settle({ config: local.config(), sql: local.sql, state }, layout, undefined, false)
    yield* local.query(
      `UPDATE RAW.ETL_STREAM.TABLES SET "COPIED" = '1', "MERGED" = ${literal(begin)} WHERE "PIPELINE" = ${
        literal(pipeline)
      }`
    )
    yield* local.query(
      `INSERT INTO ${Layout.sqlName(layout.journal)} (${
        Layout.journalColumns(layout).map(({ name }) => quote(name)).join(", ")
      }) VALUES ${journalRows(layout, steps.flatMap(({ changes }) => changes)).join(", ")}`
    )
    const merger = new Merger(local.sql, state, local.config(), layout, MirrorWindow.apply, begin)
    const next = Model.random(seed + 1000)
    for (let at = -1; at < steps.length - 1;) {
      at = Math.min(steps.length - 1, at + 1 + next(next(2) === 0 ? 4 : 40))
      const step = steps[at]
      // Sometimes only the first half of the next change of key is committed yet.
      const [half] = steps[at + 1]?.changes.length === 2 && next(2) === 0 ? steps[at + 1]?.changes ?? [] : []
      const upTo = half !== undefined && "sequence" in half ? half.sequence : step?.sequence ?? Sequence.zero
      yield* merger.merge(Sequence.format(upTo), true)
      assert.deepStrictEqual(yield* targetRows(local, layout), step?.rows, `seed ${seed}, after step ${at}`)
      if (deletes === "hard") continue
      assert.deepStrictEqual(
        yield* targetRows(local, layout, true),
        step?.gone,
        `deleted, seed ${seed}, after step ${at}`
      )
    }
    return layout
  }
)
