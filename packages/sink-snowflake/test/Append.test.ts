/**
 * Mirrors of tables without a key that are only appended to (`keyless: append`).
 */
import { assert, layer } from "@effect/vitest"
import { Operation } from "@etl-stream/core/ChangeBatch"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Merger } from "../src/Merger.ts"
import * as MirrorWindow from "../src/MirrorWindow.ts"
import * as StateTable from "../src/StateTable.ts"
import { sqlName } from "../src/TableLayout.ts"
import * as Batches from "./Batches.ts"
import { targetRows } from "./ChunkedCopyModel.ts"
import * as Local from "./Local.ts"
import type { Step } from "./MirrorModel.ts"
import * as Model from "./MirrorModel.ts"
import { begin, replay, server } from "./MirrorReplay.ts"

class Server extends Context.Service<Server, Local.Local>()("test/Server") {
  static readonly layer = Layer.effect(Server, server)
}

/** Inserts of few different rows, and truncates. */
const history = (seed: number, length: number): ReadonlyArray<Step> => {
  const next = Model.random(seed)
  const steps: Array<Step> = []
  let rows: Array<string> = []
  const gone: Array<string> = []
  for (let index = 0; index < length; index++) {
    const sequence = Sequence.make(200n + BigInt(index >> 2), BigInt(2 * (index & 3) + 1))
    const values = [`n${next(2)}`, next(2) === 0 ? null : next(2), next(2) === 0 ? "null" : "{\"a\":1}"]
    const truncates = next(15) === 0
    if (truncates) gone.push(...rows)
    rows = truncates ? [] : [...rows, Model.print(values)]
    steps.push({
      changes: [truncates ? { truncate: sequence } : { op: Operation.Insert, sequence, values }],
      sequence,
      rows: rows.toSorted(),
      gone: gone.toSorted()
    })
  }
  return steps
}

const log = (name: string) => Batches.table(name, { line: { _tag: "Text", maxLength: undefined } }, { _tag: "Full" })
const at = (ordinal: number, commit = 20n) => Sequence.make(commit, BigInt(ordinal))
const row = (op: Operation, ordinal: number, line: string, commit = 20n): Batches.Row => ({
  op,
  sequence: at(ordinal, commit),
  values: [line]
})
const read = (line: string, position = 10n): Batches.Row => row(Operation.Read, 0, line, position)

const lines = (local: Local.Local, name: string) =>
  Effect.map(
    local.query(`SELECT "LINE" FROM RAW.SHOP.${name} ORDER BY "LINE"`),
    (rows) => rows.map((found) => found["LINE"])
  )

const append = { keyless: "append" }

layer(Server.layer, { timeout: 120_000, excludeTestServices: true })("A table that is appended to", (it) => {
  it.effect("gets each row once, whatever the windows, without any comparison of rows", () =>
    Effect.gen(function*() {
      const local = yield* Server
      yield* local.clearStatements
      for (const [seed, deletes] of [[801, "hard"], [802, "hard"], [803, "soft"], [804, "soft"]] as const) {
        const layout = yield* replay(local, Model.keyless, history(seed, 60), seed, deletes, append)
        const columns = yield* local.query(`SELECT * FROM ${sqlName(layout.target)} LIMIT 1`)
        assert.notProperty(columns[0], "_ETL_ROW_KEY")
      }
      const merges = (yield* local.statements).filter(({ sql }) => /^(INSERT INTO|DELETE|UPDATE).*"SHOP"/.test(sql))
      assert.deepStrictEqual(merges.filter(({ sql }) => /JOIN|_ETL_ROW_KEY|GROUP BY/.test(sql)), [])
    }), 120_000)

  it.effect("gets no row twice when a run repeats a merge that another one has made", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const steps = history(811, 20)
      const layout = yield* replay(local, Model.keyless, steps, 811, "hard", append)
      const state = StateTable.make(local.sql, "model811", "RAW", "ETL_STREAM")
      yield* state.claim
      const stale = new Merger(local.sql, state, local.config(append), layout, MirrorWindow.apply, begin)
      const error = yield* Effect.flip(stale.merge(Sequence.format(steps.at(-1)?.sequence ?? Sequence.zero), true))
      assert.strictEqual(error.reason, "Fenced")
      assert.deepStrictEqual(yield* targetRows(local, layout), steps.at(-1)?.rows)
    }), 60_000)

  it.effect(
    "stops when a row of it is updated or deleted, and tells what to do; copied again it goes on",
    () =>
      Effect.gen(function*() {
        const local = yield* Server
        const changes = {
          deleted: [row(Operation.Delete, 3, "a")],
          updated: [row(Operation.KeyChangeOld, 2, "a"), row(Operation.KeyChangeNew, 3, "b")]
        }
        for (const [name, change] of Object.entries(changes)) {
          const table = log(name)
          const options = { tables: { [`public.${name}`]: append } }
          const why = yield* Effect.scoped(Effect.gen(function*() {
            const running = yield* Local.run(local, options, name)
            const opened = yield* running.open(table)
            yield* Local.copy(opened, table, 10n, [Batches.batch(table, [read("copied")])])
            yield* opened.rows(Batches.batch(table, [row(Operation.Insert, 1, "a")]))
            yield* opened.durable(at(1))
            yield* running.sink.settle
            assert.deepStrictEqual(yield* lines(local, name.toUpperCase()), ["a", "copied"])
            yield* opened.rows(Batches.batch(table, [...change, row(Operation.Insert, 5, "after")]))
            yield* opened.durable(at(5))
            yield* running.sink.settle
            // What `failed` was told.
            const error = (yield* Effect.flip(Deferred.await(running.failure))) as ConnectorError // of a sink
            assert.deepStrictEqual([error.reason, error.table], ["Unsupported", `public.${name}`])
            assert.include(error.message, Sequence.format(at(change.length === 2 ? 2 : 3)))
            assert.include(error.hint, `tables."public.${name}".keyless`)
            assert.notInclude(error.message + error.hint, "after")
            const { hint, message, reason } = error
            yield* running.sink.quarantine?.(table, { hint, message, reason, since: 0 }) ?? assert.fail("it can't")
            return error
          }))
          assert.deepStrictEqual(yield* lines(local, name.toUpperCase()), ["a", "copied"], "as it was")
          yield* Effect.scoped(Effect.gen(function*() {
            const running = yield* Local.run(local, options, name)
            const opened = yield* running.open(table)
            assert.strictEqual(opened.writer.position.quarantined?.message, why.message)
            yield* Local.copy(opened, table, 30n, [Batches.batch(table, [read("after", 30n), read("b", 30n)])])
            yield* opened.rows(Batches.batch(table, [row(Operation.Insert, 1, "b", 40n)]))
            yield* opened.durable(at(1, 40n))
            yield* running.sink.settle
            assert.deepStrictEqual(
              yield* lines(local, name.toUpperCase()),
              ["after", "b", "b"],
              "the copy and what followed"
            )
          }))
        }
      }),
    60_000
  )

  it.effect(
    "takes from beside its copy what the copy's snapshot doesn't have, and nothing else",
    () =>
      Effect.gen(function*() {
        const local = yield* Server
        const table = log("beside")
        const running = yield* Local.run(local, append, "beside")
        const opened = yield* running.open(table)
        yield* Local.begin(opened.writer, table, 30n)
        // Committed before the snapshot: a deleted row isn't in it, an inserted one is.
        yield* opened.rows(Batches.batch(table, [
          row(Operation.Delete, 1, "gone"),
          row(Operation.Insert, 3, "in both")
        ]))
        yield* Local.chunk(opened.writer, table, 30n, 0, [
          Batches.batch(table, [read("in both", 30n), read("old", 30n)])
        ])
        yield* opened.rows(
          Batches.batch(table, [row(Operation.Insert, 1, "new", 30n), row(Operation.Insert, 3, "old", 30n)])
        )
        yield* opened.writer.write({ _tag: "SnapshotEnd", table, position: 30n, chunks: 1, settled: 30n })
        yield* opened.durable(at(3, 30n))
        yield* running.sink.settle
        assert.deepStrictEqual(yield* lines(local, "BESIDE"), ["in both", "new", "old", "old"])
        yield* opened.writer.write({ _tag: "Truncate", table, sequence: at(1, 40n), commitTime: Batches.commitTime })
        yield* opened.rows(Batches.batch(table, [row(Operation.Insert, 3, "last", 40n)]))
        yield* opened.durable(at(3, 40n))
        yield* running.sink.settle
        assert.deepStrictEqual(yield* lines(local, "BESIDE"), ["last"])
      }),
    60_000
  )

  it.effect("is copied again when the option changes, either way", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const table = log("switched")
      const run = (keyless: "identity" | "append", position: bigint) =>
        Effect.scoped(Effect.gen(function*() {
          const running = yield* Local.run(local, { keyless }, "switched")
          const opened = yield* running.open(table)
          const insert = Batches.batch(table, [row(Operation.Insert, 1, keyless, position + 1n)])
          if (position > 10n) {
            const refused = (yield* Effect.flip(opened.rows(insert))) as ConnectorError // of a sink
            assert.strictEqual(refused.reason, "Unsupported")
            assert.include(refused.hint, "keyless")
          }
          yield* Local.copy(opened, table, position, [
            Batches.batch(table, [read("copied", position), read("copied", position)])
          ])
          yield* opened.rows(insert)
          yield* opened.durable(at(1, position + 1n))
          if (keyless === "identity") {
            yield* opened.rows(Batches.batch(table, [row(Operation.Delete, 3, "copied", position + 1n)]))
            yield* opened.durable(at(3, position + 1n))
          }
          yield* running.sink.settle
          return yield* lines(local, "SWITCHED")
        }))
      assert.deepStrictEqual(yield* run("identity", 10n), ["copied", "identity"])
      assert.deepStrictEqual(yield* run("append", 30n), ["append", "copied", "copied"])
      assert.deepStrictEqual(yield* run("identity", 50n), ["copied", "identity"])
    }), 60_000)
})
