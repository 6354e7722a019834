/**
 * Keys of every type: values that a careless comparison, literal or range would take for each other, through changes of key, swaps and windows.
 */
import { assert, layer } from "@effect/vitest"
import type { LogicalType } from "@etl-stream/core/LogicalType"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Batches from "./Batches.ts"
import type * as Local from "./Local.ts"
import type { Step } from "./MirrorModel.ts"
import * as Model from "./MirrorModel.ts"
import * as Replay from "./MirrorReplay.ts"

class Server extends Context.Service<Server, Local.Local>()("test/Server") {
  static readonly layer = Layer.effect(Server, Replay.server)
}

type Key = readonly [value: Batches.Value, text: string]

const texts = (...values: ReadonlyArray<string>): ReadonlyArray<Key> => values.map((value) => [value, value])
const long = "x".repeat(80)
const bytes = (hex: string): Key => [Buffer.from(hex, "hex"), hex.toUpperCase()]

/** Six keys each, with the texts that they have in Snowflake. */
const types: ReadonlyArray<readonly [LogicalType, ReadonlyArray<Key>]> = [
  [{ _tag: "Text", maxLength: undefined }, texts("a", "A", "a ", "", " ", "ä")],
  [{ _tag: "Text", maxLength: undefined }, texts(`${long}1`, `${long}2`, long, "'; --", "\\'", "\u{1F600}")],
  [
    { _tag: "Uuid" },
    [0, 1, 2, 3, 4, 5].map((n): Key => {
      const uuid = `${"fedcba"[n]}0000000-0000-4000-8000-00000000000${n}`
      return [uuid, uuid]
    })
  ],
  [{ _tag: "Int64" }, texts("-9223372036854775808", "-1", "0", "9", "10", "9223372036854775807")],
  [
    { _tag: "Decimal", precision: 38, scale: 2 },
    texts("-0.01", "0.00", "0.10", "9.99", "10.00", `${"9".repeat(36)}.99`)
  ],
  [{ _tag: "Decimal", precision: undefined, scale: undefined }, texts("1", "1.0", "NaN", "-1", "10", "9")],
  [{ _tag: "Boolean" }, [[false, "false"], [true, "true"]]],
  [{ _tag: "Date" }, [[-719_162, "0001-01-01"], [-1, "1969-12-31"], [0, "1970-01-01"], [1, "1970-01-02"], [
    2_932_896,
    "9999-12-31"
  ]]],
  [{ _tag: "Timestamp", utc: false }, [
    [-1n, "1969-12-31 23:59:59.999999"],
    [0n, "1970-01-01 00:00:00.000000"],
    [1n, "1970-01-01 00:00:00.000001"],
    [1_767_323_045_678_901n, "2026-01-02 03:04:05.678901"],
    [-62_135_596_800_000_000n, "0001-01-01 00:00:00.000000"]
  ]],
  [{ _tag: "Timestamp", utc: true }, [
    [-1n, "1969-12-31 23:59:59.999999"],
    [0n, "1970-01-01 00:00:00.000000"],
    [1n, "1970-01-01 00:00:00.000001"],
    [1_767_323_045_678_901n, "2026-01-02 03:04:05.678901"]
  ]],
  [{ _tag: "Binary" }, [bytes(""), bytes("00"), bytes("0000"), bytes("61"), bytes("41"), bytes("ff00")]],
  [{ _tag: "Float64" }, [[0, "0"], [-1.5, "-1.5"], [0.1, "0.1"], [1e300, "1e+300"], [2, "2"]]]
]

/** A history of the keyed table as one of a table whose key is a single column of the type. */
const withKeys = (keys: ReadonlyArray<Key>, steps: ReadonlyArray<Step>): ReadonlyArray<Step> => {
  const indexOf = (id: unknown, code: unknown): number => 2 * Number(id) + (code === "a" ? 0 : 1)
  const keyOf = (id: unknown, code: unknown): Key => keys[indexOf(id, code)] ?? [null, ""]
  const rewrite = (row: string): string => {
    const [body, id, code, count] = JSON.parse(row) as Array<unknown> // written by `print`
    return Model.print([keyOf(id, code)[1], body, count])
  }
  return steps.map((step) => ({
    sequence: step.sequence,
    changes: step.changes.map((change) => {
      if ("truncate" in change) return change
      const [body = null, id, code, count = null] = change.values
      return { ...change, values: [keyOf(id, code)[0], body, count] }
    }),
    rows: step.rows.map(rewrite).sort(),
    gone: (step.gone ?? []).map(rewrite).sort()
  }))
}

layer(Server.layer, { timeout: 120_000, excludeTestServices: true })("Keys of every type", (it) => {
  it.effect("keep their rows apart and together, whatever the values", () =>
    Effect.gen(function*() {
      const local = yield* Server
      for (const [index, [type, keys]] of types.entries()) {
        const table = Batches.table(`keys_${type._tag.toLowerCase()}`, {
          key: type,
          body: { _tag: "Text", maxLength: undefined },
          count: { _tag: "Int32" }
        }, { _tag: "Key", columns: [0] })
        const steps = withKeys(keys, Model.keyedHistory(2000 + index, 50, keys.length))
        yield* Replay.replay(local, table, steps, 2000 + index, index % 2 === 0 ? "soft" : "hard")
      }
      // Every type that Snowflake orders was ranged, on both sides.
      const merges = (yield* local.statements).filter(({ kind, sql }) => kind === "MERGE" && sql.includes("\"SHOP\"."))
      const ranged = (part: string) =>
        merges.some(({ sql }) => sql.includes(`"KEYS_${part}`) && /t\."KEY" >= .* AND t\."KEY" <= /.test(sql))
      for (const part of ["TEXT", "UUID", "INT64", "DECIMAL", "DATE", "TIMESTAMP"]) assert.isTrue(ranged(part), part)
      for (const part of ["BINARY", "BOOLEAN", "FLOAT"]) assert.isFalse(ranged(part), part)
    }), 300_000)
})
