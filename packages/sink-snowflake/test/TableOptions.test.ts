/**
 * Options of single tables.
 */
import { assert, describe, it } from "@effect/vitest"
import { Operation } from "@etl-stream/core/ChangeBatch"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import { Config } from "../src/Config.ts"
import * as Batches from "./Batches.ts"
import * as Local from "./Local.ts"

const table = (name: string) => Batches.table(name, { id: { _tag: "Int64" } }, { _tag: "Key", columns: [0] }, "public")

describe("TableOptions", () => {
  it.live("let one table be a changelog beside mirrors", () =>
    Effect.gen(function*() {
      const local = yield* Local.start()
      const running = yield* Local.run(local, { tables: { "public.events": { mode: "changelog" } } })
      const last = Sequence.make(20n, 1n)
      for (const name of ["orders", "events"]) {
        const opened = yield* running.open(table(name))
        yield* Local.copy(opened, table(name), 10n, [])
        yield* opened.rows(Batches.batch(table(name), [
          { op: Operation.Insert, sequence: Sequence.make(20n, 0n), values: [1n] },
          { op: Operation.Delete, sequence: last, values: [1n] }
        ]))
        yield* opened.durable(last)
      }
      yield* running.sink.settle
      const [orders] = yield* local.query("SELECT COUNT(*) AS \"rows\" FROM RAW.SHOP.ORDERS")
      assert.strictEqual(orders?.["rows"], "0")
      const events = yield* local.query("SELECT \"_ETL_OP\" AS \"op\" FROM RAW.SHOP.EVENTS ORDER BY \"_ETL_SEQ\"")
      assert.deepStrictEqual(events.map(({ op }) => op), ["insert", "delete"])
    }))

  it.live("stop a table whose mode changed between mirror and changelog, and lose nothing of it", () =>
    Effect.gen(function*() {
      const local = yield* Local.start()
      const run = (mode: "mirror" | "changelog", name: string, commit: bigint) =>
        Effect.scoped(Effect.gen(function*() {
          const running = yield* Local.run(local, { mode }, `switched_${name}`)
          const opened = yield* running.open(table(name))
          if (opened.writer.position.copied === undefined) yield* Local.copy(opened, table(name), 10n, [])
          const sequence = Sequence.make(commit, 0n)
          yield* opened.rows(Batches.batch(table(name), [{ op: Operation.Insert, sequence, values: [commit] }]))
          yield* opened.durable(sequence)
          yield* running.sink.settle
          return yield* local.query(`SELECT ID FROM RAW.SHOP.${name.toUpperCase()} ORDER BY ID`)
        }))
      for (const [name, before, after] of [["one", "mirror", "changelog"], ["two", "changelog", "mirror"]] as const) {
        assert.deepStrictEqual(yield* run(before, name, 20n), [{ ID: "20" }])
        const failure = yield* Effect.flip(Effect.mapError(run(after, name, 30n), String))
        assert.include(failure, `is a ${before}, and the mode of public.${name} is ${after}`)
        assert.deepStrictEqual(yield* run(before, name, 40n), [{ ID: "20" }, { ID: "40" }])
      }
    }))

  it.live("copy a table again that goes back to a schema where it was before", () =>
    Effect.gen(function*() {
      const local = yield* Local.start()
      const run = (schema: string, id: bigint) =>
        Effect.scoped(Effect.gen(function*() {
          const running = yield* Local.run(local, { schema }, "moved")
          const opened = yield* running.open(table("moved"))
          const { copied } = opened.writer.position
          if (copied === undefined) yield* Local.copy(opened, table("moved"), 10n * id, [])
          const sequence = Sequence.make(10n * id, 1n)
          yield* opened.rows(Batches.batch(table("moved"), [{ op: Operation.Insert, sequence, values: [id] }]))
          yield* opened.durable(sequence)
          yield* running.sink.settle
          return copied
        }))
      assert.deepStrictEqual(
        [
          yield* run("ONE", 1n),
          yield* run("ONE", 2n),
          yield* run("TWO", 3n),
          yield* run("ONE", 4n),
          yield* run("ONE", 5n)
        ],
        [undefined, 10n, undefined, undefined, 40n]
      )
      assert.deepStrictEqual(yield* local.query("SELECT ID FROM RAW.ONE.MOVED ORDER BY ID"), [{ ID: "4" }, { ID: "5" }])
    }))

  it.effect("are refused for names that no table has by that spelling", () =>
    Effect.gen(function*() {
      const config = {
        account: "A",
        user: "U",
        auth: { password: "p" },
        warehouse: "W",
        database: "D"
      }
      const decode = (name: string) =>
        Effect.exit(
          Schema.decodeUnknownEffect(Config)({ ...config, tables: { [name]: {} } }, { onExcessProperty: "error" })
        )
      for (const name of ["orders", "\"public\".orders", "a.b.c"]) {
        assert.isTrue(Exit.isFailure(yield* decode(name)), name)
      }
      for (const name of ["public.orders", "\"a.b\".c"]) {
        assert.isTrue(Exit.isSuccess(yield* decode(name)), name)
      }
    }))
})
