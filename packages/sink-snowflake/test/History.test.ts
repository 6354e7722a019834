/**
 * Histories against a model that keeps every version: random changes, chunks of copies, windows, and copies made again after changes were lost.
 */
import { assert, layer } from "@effect/vitest"
import { Operation } from "@etl-stream/core/ChangeBatch"
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Sequence from "@etl-stream/core/Sequence"
import type { Identity } from "@etl-stream/core/TableSchema"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as fc from "fast-check"
import * as HistoryCopy from "../src/HistoryCopy.ts"
import * as HistoryWindow from "../src/HistoryWindow.ts"
import { literal, quote } from "../src/Identifier.ts"
import { Merger } from "../src/Merger.ts"
import * as StateTable from "../src/StateTable.ts"
import * as TableDdl from "../src/TableDdl.ts"
import * as Layout from "../src/TableLayout.ts"
import * as Batches from "./Batches.ts"
import type { ChunkedCopy } from "./ChunkedCopyModel.ts"
import * as Copies from "./ChunkedCopyModel.ts"
import { HistoryModel, printVersion, timeOf } from "./HistoryModel.ts"
import { historyRows } from "./HistoryRows.ts"
import * as Local from "./Local.ts"
import * as Model from "./MirrorModel.ts"

class Server extends Context.Service<Server, Local.Local>()("test/Server") {
  static readonly layer = Layer.effect(Server, Local.start())
}

const micros = (commit: bigint): bigint => timeOf(commit) * 1_000_000n

const prepare = Effect.fnUntraced(function*(local: Local.Local, name: string) {
  const config = local.config({ mode: "history" })
  const layout = yield* Layout.make(config, name, { ...Model.keyed, table: { schema: "public", name } })
  const state = StateTable.make(local.sql, name, "RAW", "ETL_STREAM")
  yield* state.register(layout)
  yield* TableDdl.examine(local.sql, layout, undefined, config.schemaEvolution)
  const journal = (changes: ReadonlyArray<Copies.Change>) =>
    changes.length === 0 ? Effect.void : Effect.asVoid(local.query(
      `INSERT INTO ${Layout.sqlName(layout.journal)} (${
        Layout.journalColumns(layout).map(({ name: column }) => quote(column)).join(", ")
      }) VALUES ${Copies.journalRows(layout, changes, micros).join(", ")}`
    ))
  /** Loads a copy, as the loader does, while the changes beside it come, and completes it. Its rows are loaded at the time of `commit`. */
  const copied = Effect.fnUntraced(function*({ base, changes, chunks, copiedTo }: ChunkedCopy, commit: bigint) {
    yield* HistoryCopy.begin(local.sql, layout)
    const staged = Layout.forCopy(layout)
    const columns = layout.columns.map(({ name: column }) => quote(column))
    const rows = chunks.flatMap(({ position, rows }) =>
      rows.map((row) =>
        `SELECT ${
          row.map((value, index) => {
            const text = value === null ? "NULL" : literal(value)
            return layout.columns[index]?.target === "VARIANT" ? `PARSE_JSON(${text})` : text
          }).join(", ")
        }, '${Sequence.format(Sequence.make(position, 0n))}', TO_TIMESTAMP_NTZ(${timeOf(commit)})::TIMESTAMP_TZ`
      )
    )
    if (rows.length > 0) {
      yield* local.query(
        `INSERT INTO ${Layout.sqlName(staged.target)} (${columns.join(", ")}, "_ETL_SEQ", "_ETL_SYNCED_AT") ${
          rows.join(" UNION ALL ")
        }`
      )
    }
    const merged = StateTable.mergedByCopy(base)
    yield* local.query(`DELETE FROM ${Layout.sqlName(layout.journal)}`)
    yield* journal(changes.flat())
    yield* local.sql.use((session) => session.transaction({ what: "test" }, HistoryCopy.complete(session, layout)))
    yield* local.query(
      `UPDATE RAW.ETL_STREAM.TABLES SET "COPIED" = '${base}', "MERGED" = '${merged}' WHERE "PIPELINE" = '${name}'`
    )
    return new Merger(local.sql, state, local.config(), layout, HistoryWindow.apply, merged, {
      position: base,
      copiedTo
    })
  })
  return { layout, copied, journal }
})

/** Merges in random windows, some of which end within a transaction or between the halves of a change of key. */
const mergeAll = Effect.fnUntraced(function*(
  merger: Merger,
  changes: ReadonlyArray<ReadonlyArray<Copies.Change>>,
  seed: number
) {
  const next = Model.random(seed)
  for (let at = -1; at < changes.length - 1;) {
    at = Math.min(changes.length - 1, at + 1 + next(next(2) === 0 ? 4 : 40))
    const half = changes[at + 1]
    const last = half?.length === 2 && next(2) === 0 ? half[0] : changes[at]?.at(-1)
    yield* merger.merge(Sequence.format(Copies.sequenceOf(last)), true)
  }
})

const none: ChunkedCopy = { base: 1n, chunks: [], copiedTo: 1n, steps: [], changes: [], expected: [] }

layer(Server.layer, { timeout: 120_000, excludeTestServices: true })("A history", (it) => {
  let serial = 0

  it.effect(
    "holds every version of each row once, for any changes, chunks of a copy and windows",
    () =>
      Effect.gen(function*() {
        const local = yield* Server
        yield* TableDdl.ensureHome(local.sql, "RAW", "ETL_STREAM")
        const property = (options: Copies.Options) =>
          Effect.gen(function*() {
            const copy = Copies.make(options)
            const { copied, layout } = yield* prepare(local, `history_${serial++}`)
            const merger = yield* copied(copy, 0n)
            yield* mergeAll(merger, copy.changes, options.seed)
            const model = new HistoryModel()
            model.changed(copy, model.copied(copy, timeOf(0n)))
            assert.deepStrictEqual(yield* historyRows(local, layout), model.versions)
          })
        yield* Effect.promise(() =>
          fc.assert(fc.asyncProperty(Copies.options, (options) => Effect.runPromise(property(options))), {
            numRuns: 8,
            endOnFailure: true
          })
        )
      }),
    240_000
  )

  it.effect("survives a copy that is made again after changes were lost", () =>
    Effect.gen(function*() {
      const local = yield* Server
      yield* TableDdl.ensureHome(local.sql, "RAW", "ETL_STREAM")
      const property = (options: Copies.Options, lost: number) =>
        Effect.gen(function*() {
          const copy = Copies.make(options)
          const [first] = copy.changes.flat()
          const empty = copy.chunks.every(({ rows }) => rows.length === 0)
          // Without rows and changes there is no other time than now.
          if (empty && first === undefined) return
          const loadedAt = empty ? Copies.sequenceOf(first).commit : copy.base
          // The history knows the table up to some steps before the copy.
          const before = Model.keyedHistory(options.seed, options.length)
            .filter(({ sequence }) => sequence.commit < copy.base)
          const known = before.slice(0, before.length - lost % (before.length + 1))
          const { copied, journal, layout } = yield* prepare(local, `again_${serial++}`)
          const initial = yield* copied(none, 0n)
          yield* journal(known.flatMap(({ changes }) => changes))
          yield* mergeAll(initial, known.map(({ changes }) => changes), options.seed)
          const again = yield* copied(copy, loadedAt)
          yield* mergeAll(again, copy.changes, options.seed + 1)
          const model = new HistoryModel()
          model.transactions(known)
          model.changed(copy, model.copied(copy, timeOf(loadedAt)))
          assert.deepStrictEqual(yield* historyRows(local, layout), model.versions)
        })
      yield* Effect.promise(() =>
        fc.assert(
          fc.asyncProperty(Copies.options, fc.nat(), (options, lost) => Effect.runPromise(property(options, lost))),
          { numRuns: 8, endOnFailure: true }
        )
      )
    }), 240_000)

  it.effect("lets no version end before it began when the source's clock is set back", () =>
    Effect.gen(function*() {
      const local = yield* Server
      yield* TableDdl.ensureHome(local.sql, "RAW", "ETL_STREAM")
      const { copied, layout } = yield* prepare(local, "clock")
      const merger = yield* copied(none, 0n)
      const change = (op: Operation, commit: bigint): Batches.Row => ({
        op,
        sequence: Sequence.make(commit, 1n),
        values: [`at ${commit}`, 1, "a", 1, null, null, null]
      })
      const changes = [
        change(Operation.Insert, 10n),
        change(Operation.Update, 20n),
        change(Operation.Update, 30n),
        change(Operation.Delete, 40n)
      ]
      const times = new Map([[10n, 100n], [20n, 50n], [30n, 120n], [40n, 110n]])
      yield* local.query(
        `INSERT INTO ${Layout.sqlName(layout.journal)} (${
          Layout.journalColumns(layout).map(({ name }) => quote(name)).join(", ")
        }) VALUES ${Copies.journalRows(layout, changes, (commit) => micros(times.get(commit) ?? 0n)).join(", ")}`
      )
      for (const { sequence } of changes) yield* merger.merge(Sequence.format(sequence), true)
      const found = yield* historyRows(local, layout)
      const valid = (body: string, commit: bigint, from: bigint, to: bigint) =>
        printVersion({
          values: [body, "1", "a", "1", null, null, null],
          from: timeOf(from),
          to: timeOf(to),
          sequence: Sequence.format(Sequence.make(commit, 1n))
        })
      assert.deepStrictEqual(found, [
        valid("at 10", 10n, 100n, 100n),
        valid("at 20", 20n, 100n, 120n),
        valid("at 30", 30n, 120n, 120n)
      ])
    }), 60_000)

  it.effect("is never emptied: not for another mode, and not for another key", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const table = (identity: Identity) =>
        Batches.table("guarded", { id: { _tag: "Int64" }, code: { _tag: "Int64" } }, identity)
      const byId = table({ _tag: "Key", columns: [0] })
      const row = (sequence: Sequence.Sequence): Batches.Row => ({ op: Operation.Insert, sequence, values: [1n, 2n] })
      yield* Effect.scoped(Effect.gen(function*() {
        const opened = yield* (yield* Local.run(local, { mode: "history" })).open(byId)
        yield* Local.copy(opened, byId, 10n, [Batches.batch(byId, [row(Sequence.make(10n, 0n))])])
      }))
      const failed = (mode: string, schema: typeof byId) =>
        Effect.scoped(Effect.gen(function*() {
          const opened = yield* (yield* Local.run(local, { mode })).open(schema)
          yield* Local.copy(opened, schema, 20n, [])
        })).pipe(Effect.flip, Effect.map((error) => error instanceof ConnectorError ? error.message : String(error)))
      assert.include(yield* failed("mirror", byId), "is a history")
      assert.include(yield* failed("changelog", byId), "is a history")
      assert.include(
        yield* failed("history", table({ _tag: "Key", columns: [1] })),
        "The key of public.guarded has changed"
      )
      assert.include(yield* failed("history", table({ _tag: "Full" })), "has no key")
      assert.deepStrictEqual(yield* local.query("SELECT ID, CODE FROM RAW.SHOP.GUARDED"), [{ ID: "1", CODE: "2" }])
    }), 60_000)

  it.effect("goes on with a copy that another run began", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const table = Batches.table("resumed", { id: { _tag: "Int64" } }, { _tag: "Key", columns: [0] })
      const read = (id: bigint, position: bigint) =>
        Batches.batch(table, [{ op: Operation.Read, sequence: Sequence.make(position, 0n), values: [id] }])
      const config = { mode: "history", copy: { every: "0 seconds" } }
      yield* Effect.scoped(Effect.gen(function*() {
        const { writer } = yield* (yield* Local.run(local, config)).open(table)
        yield* Local.begin(writer, table, 10n, "plan")
        yield* Local.chunk(writer, table, 10n, 0, [read(1n, 10n)])
      }))
      yield* Effect.scoped(Effect.gen(function*() {
        const { writer } = yield* (yield* Local.run(local, config)).open(table)
        assert.deepStrictEqual([...writer.position.copying?.chunks ?? []], [[0, 10n]])
        yield* Local.begin(writer, table, 10n, "plan", true)
        yield* Local.chunk(writer, table, 15n, 1, [read(2n, 15n)])
        yield* writer.write({ _tag: "SnapshotEnd", table, position: 10n, chunks: 2, settled: 15n })
      }))
      assert.deepStrictEqual(
        yield* local.query("SELECT ID FROM RAW.SHOP.RESUMED WHERE _ETL_VALID_TO IS NULL ORDER BY ID"),
        [{ ID: "1" }, { ID: "2" }]
      )
    }), 60_000)
})
