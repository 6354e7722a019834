/**
 * Tables whose key changes at the source.
 */
import { assert, layer } from "@effect/vitest"
import { Operation } from "@etl-stream/core/ChangeBatch"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Sequence from "@etl-stream/core/Sequence"
import type { Identity } from "@etl-stream/core/TableSchema"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Batches from "./Batches.ts"
import * as Local from "./Local.ts"

class Server extends Context.Service<Server, Local.Local>()("test/Server") {
  static readonly layer = Layer.effect(Server, Local.start())
}

const identities: ReadonlyArray<Identity> = [
  { _tag: "Key", columns: [0] },
  { _tag: "Key", columns: [1] },
  { _tag: "Full" },
  { _tag: "Key", columns: [0, 1] },
  { _tag: "None" },
  { _tag: "Full" }
]
const named = (name: string, identity: Identity) =>
  Batches.table(name, { id: { _tag: "Int32" }, code: { _tag: "Int32" } }, identity)
const at = (commit: number, ordinal: number) => Sequence.make(BigInt(commit), BigInt(ordinal))

layer(Server.layer, { timeout: 120_000, excludeTestServices: true })("A changed key", (it) => {
  it.effect("refuses changes until the table is copied again, and then takes them with the new key", () =>
    Effect.gen(function*() {
      const local = yield* Server
      for (const [index, identity] of identities.entries()) {
        const table = named("keyed", identity)
        const position = 100 * (index + 1)
        yield* Effect.scoped(Effect.gen(function*() {
          const running = yield* Local.run(local, {}, "keys")
          const opened = yield* running.open(table)
          const insert = Batches.batch(table, [
            { op: Operation.Insert, sequence: at(position + 1, 1), values: [7, 70] },
            ...(identity._tag === "None" ? [] : [{
              op: Operation.Delete,
              sequence: at(position + 1, 3),
              values: [1, 10]
            }])
          ])
          if (index > 0) {
            const error = (yield* Effect.flip(opened.rows(insert))) as ConnectorError // the sink's only error type
            assert.strictEqual(error.reason, "Unsupported", identity._tag)
            assert.include(error.message, "public.keyed")
            // Nothing was merged with the wrong key either.
            yield* running.sink.settle
          }
          yield* Local.copy(opened, table, BigInt(position), [
            Batches.batch(table, [{
              op: Operation.Read,
              sequence: at(position, 0),
              values: [1, 10]
            }])
          ])
          yield* opened.rows(insert)
          yield* opened.durable(at(position + 1, identity._tag === "None" ? 1 : 3))
          yield* running.sink.settle
          assert.deepStrictEqual(
            yield* local.query(`SELECT "ID", "CODE" FROM RAW.SHOP.KEYED ORDER BY "ID"`),
            identity._tag === "None"
              ? [{ ID: "1", CODE: "10" }, { ID: "7", CODE: "70" }]
              : [{ ID: "7", CODE: "70" }],
            `${index} ${identity._tag}`
          )
        }))
      }
    }))

  it.effect("merges what came before with the old key before it refuses", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const before = named("online", { _tag: "Key", columns: [0] })
      const opened = yield* (yield* Local.run(local, { merge: { every: "1 hour" } }, "online")).open(before)
      yield* Local.copy(opened, before, 10n, [])
      yield* opened.rows(Batches.batch(before, [{ op: Operation.Insert, sequence: at(20, 1), values: [7, 70] }]))
      const after = { ...named("online", { _tag: "Key", columns: [1] }), version: 2 }
      const error = (yield* Effect.flip(
        opened.writer.write({ _tag: "Schema", table: after, sequence: at(30, 0) })
      )) as ConnectorError // the sink's only error type
      assert.strictEqual(error.reason, "Unsupported")
      assert.deepStrictEqual(yield* local.query(`SELECT "ID" FROM RAW.SHOP.ONLINE`), [{ ID: "7" }])
    }))
})
