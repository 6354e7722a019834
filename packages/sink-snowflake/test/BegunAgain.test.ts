/**
 * A sink whose tables are opened once more in the same run, as a spool has it after an outage.
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

const table = Batches.table("again", { id: { _tag: "Int64" }, note: { _tag: "Text", maxLength: undefined } }, {
  _tag: "Key",
  columns: [0]
})
const rows = (op: Operation, commit: bigint, ids: ReadonlyArray<number>) =>
  Batches.batch(
    table,
    ids.map((id, index): Batches.Row => ({
      op,
      sequence: Sequence.make(commit, BigInt(op === Operation.Read ? 0 : index)),
      values: [BigInt(id), `note ${id}`]
    }))
  )

layer(Server.layer, { timeout: 120_000, excludeTestServices: true })("A sink that is begun again in a run", (it) => {
  for (const channels of [1, 2]) {
    it.effect(`knows the copy, the position and the channels (${channels}) as they are by then, and merges what comes`, () =>
      Effect.gen(function*() {
        const local = yield* Server
        const running = yield* Local.run(
          local,
          { schema: `SHOP_${channels}`, tables: { "public.again": { channels } } },
          `again_${channels}`
        )
        const inserted = (from: number, ids: ReadonlyArray<number>, commit: bigint) =>
          Effect.scoped(Effect.gen(function*() {
            yield* running.sink.begin([table], Local.conditions())
            let given: Sequence.Sequence | undefined
            const opened = yield* running.open(table, () => given)
            const { committed, copied } = opened.writer.position
            if (from === 0) {
              assert.isUndefined(copied)
              yield* Local.copy(opened, table, 10n, [rows(Operation.Read, 10n, [1])])
            } else {
              assert.strictEqual(copied, 10n)
              // Several channels can't tell by themselves that nothing is missing before the last change: it would be given again.
              if (channels === 1) assert.strictEqual(committed?.commit, BigInt(from))
            }
            yield* opened.rows(rows(Operation.Insert, commit, ids))
            given = Sequence.make(commit, BigInt(ids.length - 1))
            yield* opened.durable(Sequence.make(commit, BigInt(ids.length - 1)))
            if (from !== 30) return
            yield* running.sink.settle
          }))
        yield* inserted(0, [2, 3], 20n)
        yield* inserted(20, [4], 30n)
        yield* inserted(30, [5, 6], 40n)
        const found = yield* local.query(`SELECT "ID" FROM RAW.SHOP_${channels}.AGAIN ORDER BY "ID"`)
        assert.deepStrictEqual(found.map(({ ID }) => String(ID)), ["1", "2", "3", "4", "5", "6"])
      }))
  }
})
