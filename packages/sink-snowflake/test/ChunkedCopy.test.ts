/**
 * Copies by chunks of several snapshots beside the changes: the merge against the model, for any history, chunks, positions and windows.
 */
import { assert, layer } from "@effect/vitest"
import { Operation } from "@etl-stream/core/ChangeBatch"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as fc from "fast-check"
import { literal, quote } from "../src/Identifier.ts"
import { Merger } from "../src/Merger.ts"
import * as MirrorWindow from "../src/MirrorWindow.ts"
import * as StateTable from "../src/StateTable.ts"
import * as TableDdl from "../src/TableDdl.ts"
import * as Layout from "../src/TableLayout.ts"
import * as TableShape from "../src/TableShape.ts"
import * as Batches from "./Batches.ts"
import * as ChunkedCopy from "./ChunkedCopyModel.ts"
import * as Local from "./Local.ts"
import * as Model from "./MirrorModel.ts"

class Server extends Context.Service<Server, Local.Local>()("test/Server") {
  static readonly layer = Layer.effect(
    Server,
    Effect.gen(function*() {
      const local = yield* Local.start()
      yield* TableDdl.ensureHome(local.sql, "RAW", "ETL_STREAM")
      return local
    })
  )
}

/** A copy whose chunks hold what the model has at their positions, and all changes from its beginning on in the journal. */
const prepare = Effect.fnUntraced(function*(local: Local.Local, name: string, copy: ChunkedCopy.ChunkedCopy) {
  const layout = yield* Layout.make(local.config({ journal: { retention: "0 seconds" } }), name, {
    ...Model.keyed,
    table: { schema: "public", name }
  })
  const state = StateTable.make(local.sql, name, "RAW", "ETL_STREAM")
  yield* state.register(layout)
  yield* TableShape.settle({ config: local.config(), sql: local.sql, state }, layout, undefined, false)
  const merged = StateTable.mergedByCopy(copy.base)
  yield* local.query(
    `UPDATE RAW.ETL_STREAM.TABLES SET "COPIED" = '${copy.base}', "MERGED" = '${merged}' WHERE "PIPELINE" = '${name}'`
  )
  const columns = layout.columns.map(({ name: column }) => quote(column))
  for (const { position, rows } of copy.chunks) {
    if (rows.length === 0) continue
    const values = rows.map((row) =>
      `SELECT ${
        row.map((value, index) => {
          const text = value === null ? "NULL" : literal(value)
          return layout.columns[index]?.target === "VARIANT" ? `PARSE_JSON(${text})` : text
        }).join(", ")
      }, '${Sequence.format(Sequence.make(position, 0n))}'`
    )
    yield* local.query(
      `INSERT INTO ${Layout.sqlName(layout.target)} (${columns.join(", ")}, "_ETL_SEQ") ${values.join(" UNION ALL ")}`
    )
  }
  if (copy.changes.length > 0) {
    yield* local.query(
      `INSERT INTO ${Layout.sqlName(layout.journal)} (${
        Layout.journalColumns(layout).map(({ name: column }) => quote(column)).join(", ")
      }) VALUES ${ChunkedCopy.journalRows(layout, copy.changes.flat()).join(", ")}`
    )
  }
  return {
    layout,
    merger: new Merger(local.sql, state, local.config(), layout, MirrorWindow.apply, merged, {
      position: copy.base,
      copiedTo: copy.copiedTo
    })
  }
})

layer(Server.layer, { timeout: 120_000, excludeTestServices: true })("A copy by chunks", (it) => {
  let serial = 0

  it.effect(
    "and all changes beside it end as the source's table, for any snapshots and windows",
    () =>
      Effect.gen(function*() {
        const local = yield* Server
        const property = (options: ChunkedCopy.Options) =>
          Effect.gen(function*() {
            const copy = ChunkedCopy.make(options)
            const { layout, merger } = yield* prepare(local, `chunked_${serial++}`, copy)
            const next = Model.random(options.seed)
            for (let at = -1; at < copy.steps.length - 1;) {
              at = Math.min(copy.steps.length - 1, at + 1 + next(next(2) === 0 ? 4 : 40))
              const step = copy.steps[at]
              if (step === undefined) break
              yield* merger.merge(Sequence.format(step.sequence), true)
              const target = yield* ChunkedCopy.targetRows(local, layout)
              assert.deepStrictEqual(ChunkedCopy.difference(copy, step, target), undefined, `after step ${at}`)
              if (at === copy.steps.length - 1) assert.deepStrictEqual(target, copy.expected)
            }
          })
        yield* Effect.promise(() =>
          fc.assert(
            fc.asyncProperty(ChunkedCopy.options, (options) => Effect.runPromise(property(options))),
            { numRuns: 15, endOnFailure: true }
          )
        )
      }),
    240_000
  )

  it.effect("gives a moved row no values of the row that came after it, and a row none that its snapshot supersedes", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const change = (
        op: Operation,
        commit: bigint,
        ordinal: bigint,
        ...values: Batches.Row["values"]
      ): Batches.Row => ({
        op,
        sequence: Sequence.make(commit, ordinal),
        values
      })
      const none = [null, null, null] as const
      const unsent = [Batches.unsent, Batches.unsent, Batches.unsent] as const
      // The row moved before its chunk was read, and another one has its key since.
      const moved = [
        change(Operation.KeyChangeOld, 100n, 0n, null, 1, "a", null, ...none),
        change(Operation.KeyChangeNew, 100n, 1n, Batches.unsent, 2, "a", 5, ...unsent)
      ]
      const updated = [
        change(Operation.Update, 120n, 1n, "superseded", 3, "a", 6, ...none),
        change(Operation.Update, 200n, 1n, Batches.unsent, 3, "a", 8, ...none)
      ]
      for (const moves of [false, true]) {
        const copy: ChunkedCopy.ChunkedCopy = {
          base: 10n,
          copiedTo: 150n,
          chunks: [{
            position: 150n,
            rows: [["of the next row", "1", "a", "7", null, null, null], ["own", "3", "a", "7", null, null, null]]
          }],
          steps: [],
          changes: [moves ? moved : [], updated],
          expected: [
            ["of the next row", "1", "a", "7", null, null, null],
            ...(moves ? [[null, "2", "a", "5", null, null, null]] : []),
            ["own", "3", "a", "8", null, null, null]
          ].map(Model.print).sort()
        }
        const { layout, merger } = yield* prepare(local, `inherited_${moves}`, copy)
        yield* merger.merge(Sequence.format(Sequence.make(200n, 1n)), true)
        assert.deepStrictEqual(yield* ChunkedCopy.targetRows(local, layout), copy.expected)
      }
    }))
})
