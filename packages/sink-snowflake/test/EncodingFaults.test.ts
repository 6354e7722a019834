/**
 * A worker thread that dies while rows are encoded: the run ends, and the next one neither loses nor doubles them.
 */
import { assert, layer } from "@effect/vitest"
import { Operation } from "@etl-stream/core/ChangeBatch"
import { ConnectorError, isRetryable } from "@etl-stream/core/ConnectorError"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { availableParallelism } from "node:os"
import type { Worker } from "node:worker_threads"
import * as Batches from "./Batches.ts"
import * as Local from "./Local.ts"

class Server extends Context.Service<Server, Local.Local>()("test/Server") {
  static readonly layer = Layer.effect(Server, Local.start())
}

const table = Batches.table("encoded", { id: { _tag: "Int64" }, note: { _tag: "Text", maxLength: undefined } }, {
  _tag: "Key",
  columns: [0]
})
const at = (ordinal: number) => Sequence.make(20n, BigInt(ordinal))
const inserts = (from: number, to: number) =>
  Batches.batch(
    table,
    Array.from({ length: to - from }, (_, index) => ({
      op: Operation.Insert,
      sequence: at(from + index),
      values: [BigInt(from + index), `row ${from + index} `.padEnd(200, "of some length ")]
    }))
  )
const rows = 20_000

layer(Server.layer, { timeout: 120_000, excludeTestServices: true })("Encoding", (it) => {
  it.effect("that a thread didn't live to end is done again by the next run, exactly once", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const workers: Array<Worker> = []
      let areKilled = false
      const began = (worker: Worker) => {
        workers.push(worker)
        if (areKilled) void worker.terminate()
      }
      yield* Effect.scoped(Effect.gen(function*() {
        yield* Effect.acquireRelease(
          Effect.sync(() => process.on("worker", began)),
          () => Effect.sync(() => process.off("worker", began))
        )
        const opened = yield* (yield* Local.run(local, {}, "encoded")).open(table)
        yield* Local.copy(opened, table, 10n, [])
        yield* opened.rows(inserts(0, 100))
        yield* opened.durable(at(99))
        // The one that began with the copy, and whoever begins in its place.
        areKilled = true
        yield* Effect.promise(() => Promise.all(workers.map((worker) => worker.terminate())))
        // With one processor there is nobody to die.
        if (availableParallelism() === 1) return
        const error = yield* Effect.flip(opened.rows(inserts(100, rows)))
        assert.isTrue(error instanceof ConnectorError && isRetryable(error))
        assert.include(String(error), "A thread that encodes rows has ended")
      }))
      const running = yield* Local.run(local, {}, "encoded")
      const opened = yield* running.open(table)
      const held = Number(opened.writer.position.committed?.ordinal) + 1
      assert.strictEqual(held, 100)
      yield* opened.rows(inserts(held, rows))
      yield* opened.durable(at(rows - 1))
      yield* running.sink.settle
      const [journal] = yield* local.query(
        `SELECT COUNT(*) AS "n", COUNT(DISTINCT "_ETL_SEQ") AS "d" FROM RAW.ETL_STREAM.SHOP__ENCODED__JOURNAL`
      )
      assert.deepStrictEqual(journal, { n: String(rows), d: String(rows) })
      const [target] = yield* local.query(`SELECT COUNT(*) AS "n", SUM(LENGTH("NOTE")) AS "l" FROM RAW.SHOP.ENCODED`)
      assert.deepStrictEqual(target, { n: String(rows), l: String(rows * 200) })
    }))
})
