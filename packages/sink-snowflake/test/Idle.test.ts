/**
 * What a pipeline asks of Snowflake while nothing changes: nothing, so that its warehouse can sleep.
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

const named = (name: string) => Batches.table(name, { id: { _tag: "Int32" } }, { _tag: "Key", columns: [0] })

layer(Server.layer, { timeout: 120_000, excludeTestServices: true })("A pipeline", (it) => {
  it.effect("runs no statement for a table without changes, and none at all while no table has any", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const [busy, idle] = [named("busy"), named("idle")]
      const running = yield* Local.run(
        local,
        { merge: { every: "20 millis" }, journal: { retention: "0 seconds" } },
        "sleeps"
      )
      const opened = yield* Effect.forEach([busy, idle], (table) => running.open(table))
      const insert = Effect.fnUntraced(function*(index: number, id: number) {
        const table = [busy, idle][index]
        const writer = opened[index]
        if (table === undefined || writer === undefined) return yield* Effect.die("no such table")
        const sequence = Sequence.make(20n, BigInt(2 * id + 1))
        yield* writer.rows(Batches.batch(table, [{ op: Operation.Insert, sequence, values: [id] }]))
        yield* writer.durable(sequence)
      })
      for (const [index, table] of [busy, idle].entries()) {
        const writer = opened[index]
        if (writer !== undefined) yield* Local.copy(writer, table, 10n, [])
        yield* insert(index, 1)
      }
      yield* running.sink.settle
      yield* local.clearStatements
      /** Statements of the pipeline, whichever it was for. */
      const ran = Effect.map(
        local.statements,
        (statements) => statements.filter(({ tag }) => tag.includes(`"pipeline":"sleeps"`))
      )
      for (let id = 2; id <= 4; id++) {
        yield* insert(0, id)
        // By the merges of the loop alone.
        yield* local.query(`SELECT COUNT(*) AS "n" FROM RAW.SHOP.BUSY`).pipe(
          Effect.repeat({ until: ([row]) => row?.["n"] === String(id) })
        )
      }
      assert.isTrue((yield* ran).some(({ kind, tag }) => kind === "MERGE" && tag.includes("public.busy")))
      assert.deepStrictEqual((yield* ran).filter(({ tag }) => tag.includes("public.idle")), [])
      // The last merge may still be pruning.
      yield* running.sink.settle
      yield* local.clearStatements
      // Fifty times `every`.
      yield* Effect.sleep("1 second")
      assert.deepStrictEqual(yield* ran, [])
    }))
})
