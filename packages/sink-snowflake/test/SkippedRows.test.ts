/**
 * Rows that Snowflake takes and then skips: an error that names their position and column, and no value.
 */
import { assert, layer } from "@effect/vitest"
import { Operation } from "@etl-stream/core/ChangeBatch"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Batches from "./Batches.ts"
import * as Local from "./Local.ts"

class Server extends Context.Service<Server, Local.Local>()("test/Server") {
  static readonly layer = Layer.effect(Server, Local.start())
}

const named = (name: string) =>
  Batches.table(name, { id: { _tag: "Int64" }, note: { _tag: "Text", maxLength: undefined } }, {
    _tag: "Key",
    columns: [0]
  })
const at = (ordinal: number) => Sequence.make(20n, BigInt(ordinal))
const options = (name: string, channels: number, errorLogging: boolean) => ({
  merge: { every: "1 hour" },
  journal: { errorLogging },
  tables: { [`public.${name}`]: { channels } }
})

/** Lets Snowflake refuse rows without a note, writes such a row among others, and returns how the run ends. */
const skip = Effect.fnUntraced(function*(local: Local.Local, name: string, channels: number, errorLogging: boolean) {
  const running = yield* Local.run(local, options(name, channels, errorLogging), name)
  const table = yield* running.open(named(name))
  yield* Local.copy(table, named(name), 10n, [])
  yield* local.query(`ALTER TABLE RAW.ETL_STREAM.SHOP__${name.toUpperCase()}__JOURNAL ALTER COLUMN "NOTE" SET NOT NULL`)
  yield* table.rows(Batches.batch(
    named(name),
    Array.from({ length: 20 }, (_, index): Batches.Row => ({
      op: Operation.Insert,
      sequence: at(index),
      values: [4711n + BigInt(index), index === 7 ? null : "a secret"]
    }))
  ))
  const error = (yield* Effect.flip(Deferred.await(running.failure))) as ConnectorError // the sink's only error type
  return { error, reported: table.reported }
})

layer(Server.layer, { timeout: 120_000, excludeTestServices: true })("Skipped rows", (it) => {
  for (const channels of [1, 3]) {
    it.effect(`are an error of their table that names position and column, in this run and every other (${channels} channels)`, () =>
      Effect.gen(function*() {
        const local = yield* Server
        const name = `logged${channels}`
        const { error, reported } = yield* Effect.scoped(skip(local, name, channels, true))
        const again = yield* Effect.scoped(Effect.gen(function*() {
          const running = yield* Local.run(local, options(name, channels, true), name)
          return (yield* Effect.flip(running.open(named(name)))) as ConnectorError // the sink's only error type
        }))
        for (const found of [error, again]) {
          assert.deepStrictEqual([found.reason, found.table], ["Rejected", `public.${name}`])
          assert.match(found.message, /^Snowflake skipped 1 row of /)
          assert.include(found.message, "the column NOTE: 1 in all")
          assert.match(found.message, /at or before the change 0000000000000014\/00000000000000[01][0-9a-f],/)
          assert.include(found.hint, "ERROR_TABLE(")
          assert.notInclude(JSON.stringify(found), "secret")
          assert.notInclude(JSON.stringify(found), "4718")
        }
        assert.deepStrictEqual(reported, [])
        // A new copy puts it right.
        yield* local.query(
          `ALTER TABLE RAW.ETL_STREAM.SHOP__${name.toUpperCase()}__JOURNAL ALTER COLUMN "NOTE" DROP NOT NULL`
        )
        yield* local.query(`DELETE FROM RAW.ETL_STREAM.TABLES WHERE "PIPELINE" = '${name}'`)
        const running = yield* Local.run(local, options(name, channels, true), name)
        const table = yield* running.open(named(name))
        yield* Local.copy(table, named(name), 30n, [])
        yield* table.rows(
          Batches.batch(named(name), [{ op: Operation.Insert, sequence: Sequence.make(40n, 0n), values: [1n, null] }])
        )
        yield* table.durable(Sequence.make(40n, 0n))
      }))
  }

  it.effect("are told without their column when there is no error table", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const { error } = yield* skip(local, "unlogged", 1, false)
      assert.strictEqual(error.reason, "Rejected")
      assert.match(
        error.message,
        /skipped 1 row of public\.unlogged .*, the last at or before the change [0-9a-f/]{33}$/
      )
      assert.include(error.hint, "journal.errorLogging")
    }))
})
