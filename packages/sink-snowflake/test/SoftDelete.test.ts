/**
 * Deleted rows that stay, through the whole sink; what windows make of them is in `Merge.test.ts`.
 */
import { assert, layer } from "@effect/vitest"
import { Operation } from "@etl-stream/core/ChangeBatch"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Batches from "./Batches.ts"
import * as Local from "./Local.ts"

class Server extends Context.Service<Server, Local.Local>()("test/Server") {
  static readonly layer = Layer.effect(Server, Local.start())
}

const at = (ordinal: number) => Sequence.make(20n, BigInt(ordinal))
const named = (name: string) =>
  Batches.table(name, { id: { _tag: "Int32" }, body: { _tag: "Text", maxLength: undefined } }, {
    _tag: "Key",
    columns: [0]
  })
const rows = (local: Local.Local, name: string) =>
  Effect.map(
    local.query(`SELECT * FROM RAW.SHOP.${name} ORDER BY "ID"`),
    (found) => found.map((row) => [row["ID"], row["BODY"], row["_ETL_DELETED"]])
  )

layer(Server.layer, { timeout: 120_000, excludeTestServices: true })("Soft deletes", (it) => {
  it.effect("keep what copies, deletes, inserts and truncates leave", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const table = named("kept")
      const running = yield* Local.run(local, { tables: { "public.kept": { deletes: "soft" } } }, "kept")
      const opened = yield* running.open(table)
      yield* Local.copy(opened, table, 10n, [
        Batches.batch(
          table,
          [1, 2, 3].map((id) => ({
            op: Operation.Read,
            sequence: Sequence.make(10n, 0n),
            values: [id, `copied ${id}`]
          }))
        )
      ])
      const merged = Effect.fnUntraced(function*(ordinal: number) {
        yield* opened.durable(at(ordinal))
        yield* running.sink.settle
        return yield* rows(local, "KEPT")
      })
      yield* opened.rows(Batches.batch(table, [
        { op: Operation.Update, sequence: at(1), values: [1, "updated 1"] },
        { op: Operation.Delete, sequence: at(3), values: [1, null] },
        { op: Operation.Delete, sequence: at(5), values: [2, null] },
        { op: Operation.Insert, sequence: at(7), values: [4, "came and went"] },
        { op: Operation.Delete, sequence: at(9), values: [4, null] }
      ]))
      assert.deepStrictEqual(yield* merged(9), [
        ["1", "updated 1", true],
        ["2", "copied 2", true],
        ["3", "copied 3", false],
        ["4", "came and went", true]
      ])
      yield* opened.rows(Batches.batch(table, [{ op: Operation.Insert, sequence: at(11), values: [2, null] }]))
      assert.deepInclude(yield* merged(11), ["2", null, false])
      yield* opened.writer.write({
        _tag: "Truncate",
        table,
        sequence: at(13),
        commitTime: Batches.commitTime
      })
      yield* opened.rows(Batches.batch(table, [{ op: Operation.Insert, sequence: at(15), values: [3, "after"] }]))
      assert.deepStrictEqual(yield* merged(15), [
        ["1", "updated 1", true],
        ["2", null, true],
        ["3", "after", false],
        ["4", "came and went", true]
      ])
    }))

  it.effect("can be switched on and off: what is there isn't copied again, and rows that were kept go", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const table = named("switched")
      const run = (deletes: "hard" | "soft", id: number, ordinal: number) =>
        Effect.scoped(Effect.gen(function*() {
          const running = yield* Local.run(local, { deletes }, "switched")
          const opened = yield* running.open(table)
          if (opened.writer.position.copied === undefined) {
            yield* Local.copy(opened, table, 10n, [
              Batches.batch(
                table,
                [1, 2, 3, 4].map((key) => ({
                  op: Operation.Read,
                  sequence: Sequence.make(10n, 0n),
                  values: [key, `row ${key}`]
                }))
              )
            ])
          }
          yield* opened.rows(
            Batches.batch(table, [{ op: Operation.Delete, sequence: at(ordinal), values: [id, null] }])
          )
          yield* opened.durable(at(ordinal))
          yield* running.sink.settle
          return yield* rows(local, "SWITCHED")
        }))
      const hard = (keys: ReadonlyArray<number>) => keys.map((key) => [String(key), `row ${key}`, undefined])
      assert.deepStrictEqual(yield* run("hard", 1, 1), hard([2, 3, 4]))
      assert.deepStrictEqual(yield* run("soft", 2, 3), [
        ["2", "row 2", true],
        ["3", "row 3", false],
        ["4", "row 4", false]
      ])
      assert.deepStrictEqual(yield* run("hard", 3, 5), hard([4]))
    }))
})
