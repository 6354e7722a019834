import { assert, describe, it } from "@effect/vitest"
import { Operation } from "@etl-stream/core/ChangeBatch"
import type { LogicalType } from "@etl-stream/core/LogicalType"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Effect from "effect/Effect"
import * as Batches from "./Batches.ts"
import * as Local from "./Local.ts"

const text: LogicalType = { _tag: "Text", maxLength: undefined }
const orders = Batches.table("orders", {
  id: { _tag: "Int64" },
  note: text,
  total: { _tag: "Decimal", precision: 12, scale: 2 }
}, {
  _tag: "Key",
  columns: [0]
})
const at = (commit: number, ordinal: number) => Sequence.make(BigInt(commit), BigInt(ordinal))
const row = (op: Operation, commit: number, ordinal: number, ...values: ReadonlyArray<Batches.Value>): Batches.Row => ({
  op,
  sequence: at(commit, ordinal),
  values
})

describe("SnowflakeSink", () => {
  it.live("mirrors a snapshot and the changes after it", () =>
    Effect.gen(function*() {
      const local = yield* Local.start()
      const running = yield* Local.run(local)
      const opened = yield* running.open(orders)
      assert.deepStrictEqual(opened.writer.position, { copied: undefined, committed: undefined })
      yield* Local.copy(opened, orders, 100n, [
        Batches.batch(orders, [
          row(Operation.Read, 100, 0, 1n, "one", "1.00"),
          row(Operation.Read, 100, 0, 2n, null, "2.50")
        ]),
        Batches.batch(orders, [row(Operation.Read, 100, 0, 3n, "three", null)])
      ])
      yield* opened.rows(Batches.batch(orders, [
        row(Operation.Insert, 200, 1, 4n, "four", "4.00"),
        row(Operation.Update, 200, 3, 1n, Batches.unsent, "1.11"),
        row(Operation.Delete, 200, 5, 3n),
        row(Operation.KeyChangeOld, 200, 6, 2n),
        row(Operation.KeyChangeNew, 200, 7, 20n, Batches.unsent, "2.51")
      ]))
      yield* opened.durable(at(200, 7))
      yield* running.sink.settle
      assert.deepStrictEqual(
        yield* local.query(
          `SELECT "ID", "NOTE", "TOTAL"::VARCHAR AS "TOTAL", "_ETL_SEQ" AS "SEQ" FROM RAW.SHOP.ORDERS ORDER BY "ID"`
        ),
        [
          { ID: "1", NOTE: "one", TOTAL: "1.11", SEQ: Sequence.format(at(200, 3)) },
          { ID: "4", NOTE: "four", TOTAL: "4.00", SEQ: Sequence.format(at(200, 1)) },
          { ID: "20", NOTE: null, TOTAL: "2.51", SEQ: Sequence.format(at(200, 7)) }
        ]
      )
    }).pipe(Effect.scoped))
})
