/**
 * What elements make of the file: types, changes of key, values that were not sent, copies with changes beside them, and crashes.
 */
import { Operation } from "@etl-stream/core/ChangeBatch"
import * as LogicalType from "@etl-stream/core/LogicalType"
import type * as Sequence from "@etl-stream/core/Sequence"
import type { TableElement } from "@etl-stream/core/Sink"
import type { TableSchema } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import { deepStrictEqual, match, ok, strictEqual } from "node:assert/strict"
import { describe, it } from "vitest"
import * as DuckdbSink from "../src/DuckdbSink.ts"
import * as Elements from "./Elements.ts"
import {
  begin,
  changes,
  chunk,
  conditions,
  configOf,
  copied,
  end,
  folder,
  int64,
  open,
  openTable,
  orders,
  ordersNow,
  ready,
  refusal,
  rows,
  scope,
  text,
  write
} from "./Place.ts"

const { Delete, Insert, KeyChangeNew, KeyChangeOld, Update } = Operation

describe("the DuckDB sink", () => {
  it("holds values of every type exactly", async () => {
    const types: Readonly<Record<string, LogicalType.LogicalType>> = {
      id: int64,
      flag: { _tag: "Boolean" },
      small: { _tag: "Int16" },
      whole: { _tag: "Int32" },
      real: { _tag: "Float32" },
      double: { _tag: "Float64" },
      amount: { _tag: "Decimal", precision: 12, scale: 2 },
      number: { _tag: "Decimal", precision: undefined, scale: undefined },
      bytes: { _tag: "Binary" },
      uuid: { _tag: "Uuid" },
      date: { _tag: "Date" },
      time: { _tag: "Time" },
      local: { _tag: "Timestamp", utc: false },
      moment: { _tag: "Timestamp", utc: true },
      json: { _tag: "Json" },
      list: { _tag: "Array", element: { _tag: "Int32" } },
      range: { _tag: "Other" },
      empty: text
    }
    const table = Elements.table("types", types)
    const writer = await ready(table)
    const uuid = "0b0e0c1e-7b1d-4c9b-9c58-0d1f1a1b1c1d"
    const micros = 1_700_000_000_123_456n
    await write(
      writer,
      changes(
        table,
        [
          Insert,
          2,
          1,
          9007199254740993n,
          true,
          -32768,
          2147483647,
          1.5,
          0.1,
          "1234567890.10",
          "NaN",
          "ä\u0000",
          uuid,
          20000,
          86_400_000_000n,
          micros,
          micros,
          "{\"a\": 1.10, \"a\": 1e400}",
          "{1,NULL}",
          "[1,2)",
          ""
        ],
        [
          Insert,
          2,
          2,
          2n,
          false,
          0,
          0,
          NaN,
          -Infinity,
          "-0.01",
          "1e-7",
          "",
          null,
          LogicalType.dateInfinity,
          0n,
          LogicalType.timestampInfinity,
          LogicalType.timestampNegativeInfinity,
          null,
          null,
          null,
          "x".repeat(5000)
        ],
        [
          Insert,
          2,
          3,
          3n,
          null,
          null,
          null,
          null,
          null,
          null,
          null,
          null,
          null,
          LogicalType.dateNegativeInfinity,
          null,
          LogicalType.timestampNegativeInfinity,
          LogicalType.timestampInfinity,
          null,
          null,
          null,
          null
        ]
      )
    )
    const found = await rows(
      `SELECT id, flag, small, whole, "real", "double", amount::VARCHAR, number, hex(bytes), uuid::VARCHAR, date::VARCHAR, time::VARCHAR, local::VARCHAR, moment::VARCHAR,
         json::VARCHAR, list, "range", length(empty) FROM public.types ORDER BY id`
    )
    const none = null
    deepStrictEqual(found[2], [
      9007199254740993n,
      true,
      -32768,
      2147483647,
      1.5,
      0.1,
      "1234567890.10",
      "NaN",
      "C3A400",
      uuid,
      "2024-10-04",
      "24:00:00",
      "2023-11-14 22:13:20.123456",
      "2023-11-14 22:13:20.123456+00",
      "{\"a\": 1.10, \"a\": 1e400}",
      "{1,NULL}",
      "[1,2)",
      0n
    ])
    deepStrictEqual(found[0], [
      2n,
      false,
      0,
      0,
      NaN,
      -Infinity,
      "-0.01",
      "1e-7",
      "",
      none,
      "infinity",
      "00:00:00",
      "infinity",
      "-infinity",
      none,
      none,
      none,
      5000n
    ])
    deepStrictEqual(found[1], [
      3n,
      none,
      none,
      none,
      none,
      none,
      none,
      none,
      none,
      none,
      "-infinity",
      none,
      "-infinity",
      "infinity",
      none,
      none,
      none,
      none
    ])
  })

  it("refuses a value that DuckDB would round, naming its column alone", async () => {
    const table = Elements.table("amounts", { id: int64, amount: { _tag: "Decimal", precision: 5, scale: 2 } })
    const writer = await ready(table)
    for (const value of ["1.239", "12345.6", "NaN", "secret"]) {
      const error = await refusal(writer, changes(table, [Insert, 2, 1, 1, value]))
      strictEqual(error.reason, "Rejected")
      match(error.message, /column amount of public.amounts/)
      ok(!JSON.stringify(error).includes(value), JSON.stringify(error))
    }
    const asText = await ready(table, { text: ["public.amounts.amount"] })
    await write(asText, changes(table, [Insert, 2, 1, 1, "NaN"], [Insert, 2, 2, 2, "1.239"]))
    deepStrictEqual(await rows("SELECT amount FROM public.amounts ORDER BY id"), [["NaN"], ["1.239"]])
  })

  it("leaves alone what was not sent, and takes NULL for the value that it is", async () => {
    const writer = await ready(orders)
    await write(
      writer,
      changes(orders, [Insert, 2, 1, 1, "a", "L"], [Insert, 2, 2, 2, "b", "M"]),
      changes(orders, [Update, 3, 1, 1, "c", undefined], [Update, 3, 2, 2, undefined, null])
    )
    deepStrictEqual(await ordersNow(), [[1n, "c", "L"], [2n, "b", null]])
    await write(
      writer,
      changes(
        orders,
        // The last value that was sent counts, column by column.
        [Update, 4, 1, 1, "d", "N"],
        [Update, 4, 2, 1, "e", undefined],
        [Update, 4, 3, 1, undefined, undefined],
        // What was there before a row was deleted doesn't.
        [Delete, 5, 1, 2, null, null],
        [Insert, 5, 2, 2, "f", null],
        [Update, 5, 3, 2, undefined, undefined]
      )
    )
    deepStrictEqual(await ordersNow(), [[1n, "e", "N"], [2n, "f", null]])
  })

  it("moves rows to new keys with values that were not sent, through chains and exchanges", async () => {
    const writer = await ready(orders)
    await write(
      writer,
      changes(orders, [Insert, 2, 1, 1, "a", "A"], [Insert, 2, 2, 2, "b", "B"], [Insert, 2, 3, 3, "c", "C"])
    )
    await write(
      writer,
      changes(
        orders,
        [Update, 3, 1, 1, "a1", undefined],
        // 1 becomes 10, then 100; 2 and 3 exchange their keys by way of 4.
        [KeyChangeOld, 3, 2, 1, null, null],
        [KeyChangeNew, 3, 3, 10, "a2", undefined],
        [KeyChangeOld, 3, 4, 10, null, null],
        [KeyChangeNew, 3, 5, 100, undefined, undefined],
        [KeyChangeOld, 3, 6, 2, null, null],
        [KeyChangeNew, 3, 7, 4, undefined, undefined],
        [KeyChangeOld, 3, 8, 3, null, null],
        [KeyChangeNew, 3, 9, 2, undefined, undefined],
        [KeyChangeOld, 3, 10, 4, null, null],
        [KeyChangeNew, 3, 11, 3, undefined, undefined]
      )
    )
    deepStrictEqual(await ordersNow(), [[2n, "c", "C"], [3n, "b", "B"], [100n, "a2", "A"]])
    const error = await refusal(writer, changes(orders, [Update, 4, 1, 77, "x", undefined]))
    match(error.message, /changed in part, and there is none/)
    deepStrictEqual((await ordersNow()).length, 3)
  })

  it("counts rows without a key as they are, equal ones too", async () => {
    const bag = Elements.table("bag", { a: int64, b: text }, { _tag: "Full" })
    const writer = await ready(bag)
    await write(
      writer,
      changes(bag, [Insert, 2, 1, 1, null], [Insert, 2, 2, 1, null], [Insert, 2, 3, 1, null], [Insert, 2, 4, 2, "x"])
    )
    await write(
      writer,
      changes(bag, [Delete, 3, 1, 1, null], [KeyChangeOld, 3, 2, 2, "x"], [KeyChangeNew, 3, 3, 3, undefined], [
        Insert,
        3,
        4,
        9,
        "y"
      ], [Delete, 3, 5, 9, "y"])
    )
    deepStrictEqual(await rows("SELECT a, b FROM public.bag ORDER BY a"), [[1n, null], [1n, null], [3n, "x"]])
    match((await refusal(writer, changes(bag, [Delete, 4, 1, 8, "z"]))).message, /removed, and there is none like it/)
  })

  it("keeps changes that come beside a copy until it is complete, over a crash", async () => {
    const durable: Array<Sequence.Sequence> = []
    const sink = await open()
    const writer = await openTable(sink, orders, (sequence) => durable.push(sequence))
    await write(
      writer,
      begin(orders, 10n),
      copied(orders, 0, 20, [1, "copy", "C1"], [2, "copy", "C2"]),
      chunk(orders, 0, 20n, 2),
      // Of a chunk that doesn't end.
      copied(orders, 1, 20, [3, "torn", "T"]),
      // Older than the copied row, then newer; a row that the copy hasn't got yet.
      changes(orders, [Update, 15, 1, 1, "old", "old"], [Update, 25, 1, 2, "new", undefined], [
        Delete,
        26,
        1,
        4,
        null,
        null
      ])
    )
    deepStrictEqual(durable, [{ commit: 26n, ordinal: 1n }])
    deepStrictEqual(await rows("SELECT count(*) FROM information_schema.tables WHERE table_name = 'orders'"), [[0n]])

    const next = await open()
    const again = await openTable(next, orders)
    deepStrictEqual(again.position.committed, { commit: 26n, ordinal: 1n })
    strictEqual(again.position.copied, undefined)
    deepStrictEqual(again.position.copying, {
      position: 10n,
      plan: "plan",
      origin: undefined,
      chunks: new Map([[0, 20n]]),
      rows: 2
    })
    await write(
      again,
      { ...begin(orders, 10n), resumed: true } as TableElement, // a SnapshotBegin with another flag
      copied(orders, 1, 24, [3, "whole", "W"], [4, "gone", "G"]),
      chunk(orders, 1, 24n, 2),
      end(orders, 2, 30n, 10n)
    )
    deepStrictEqual(await ordersNow(), [[1n, "copy", "C1"], [2n, "new", "C2"], [3n, "whole", "W"]])
    deepStrictEqual(await rows("SELECT count(*) FROM information_schema.tables WHERE table_schema = 'etl_stream'"), [[
      2n
    ]])

    const last = await openTable(await open(), orders)
    deepStrictEqual([last.position.copied, last.position.settled, last.position.copying], [10n, 30n, undefined])
  })

  it("shows the old rows until a new copy is complete, and takes a truncate that came meanwhile", async () => {
    const writer = await ready(orders)
    await write(writer, changes(orders, [Insert, 2, 1, 1, "before", null]))
    await write(writer, begin(orders, 10n), copied(orders, 0, 12, [1, "a", null]), chunk(orders, 0, 12n, 1))
    deepStrictEqual(await ordersNow(), [[1n, "before", null]])
    await write(
      writer,
      changes(orders, [Insert, 13, 1, 2, "b", null]),
      { _tag: "Truncate", table: orders, sequence: { commit: 14n, ordinal: 1n }, commitTime: 0n },
      changes(orders, [Insert, 15, 1, 3, "c", null]),
      end(orders, 1, 12n, 10n)
    )
    deepStrictEqual(await ordersNow(), [[3n, "c", null]])
    await write(writer, { _tag: "Truncate", table: orders, sequence: { commit: 16n, ordinal: 1n }, commitTime: 0n })
    deepStrictEqual(await ordersNow(), [])
  })

  it("follows columns that are added, renamed, widened and dropped, and stops at other types", async () => {
    const writer = await ready(Elements.table("shapes", { id: { _tag: "Int32" }, a: text, b: text }))
    const shapes = (columns: Readonly<Record<string, LogicalType.LogicalType>>, version: number): TableSchema =>
      Elements.table("shapes", columns, undefined, version)
    const schema = (table: TableSchema): TableElement => ({
      _tag: "Schema",
      table,
      sequence: { commit: 2n, ordinal: 1n }
    })
    const first = shapes({ id: { _tag: "Int32" }, a: text, b: text }, 1)
    const second = shapes({ id: int64, a: text, c: text }, 2)
    await write(writer, changes(first, [Insert, 2, 1, 1, "a", "b"]))
    await write(writer, schema(second), changes(second, [Insert, 3, 1, 2n ** 40n, "a", "c"]))
    deepStrictEqual(await rows("SELECT id, a, b, c FROM public.shapes ORDER BY id"), [[1n, "a", "b", null], [
      2n ** 40n,
      "a",
      null,
      "c"
    ]])
    // Rows of the shape before, read again: what they haven't got stays.
    await write(writer, changes(first, [Update, 4, 1, 1, "again", "b"]))
    deepStrictEqual(await rows("SELECT a, b, c FROM public.shapes WHERE id = 1"), [["again", "b", null]])
    const error = await refusal(writer, schema(shapes({ id: int64, a: { _tag: "Date" }, c: text }, 3)))
    deepStrictEqual([error.reason, error.table], ["Unsupported", "public.shapes"])
  })

  it("remembers a quarantine and what left, and gives the table up to a newer writer", async () => {
    const sink = await open()
    const old = await openTable(sink, orders)
    await write(old, begin(orders), end(orders, 0), changes(orders, [Insert, 2, 1, 1, "kept", null]))
    const young = await openTable(sink, orders)
    strictEqual((await refusal(old, changes(orders, [Insert, 3, 1, 2, "late", null]))).reason, "Fenced")
    await write(young, changes(orders, [Insert, 3, 1, 2, "mine", null]))

    ok(sink.quarantine)
    const why = { reason: "Rejected", message: "it was refused", hint: "Mend it.", since: 5 } as const
    await Effect.runPromise(sink.quarantine(orders, why))
    const reopened = await openTable(await open(), orders)
    deepStrictEqual(reopened.position.quarantined, why)
    strictEqual(reopened.position.copied, undefined)
    deepStrictEqual(await ordersNow(), [[1n, "kept", null], [2n, "mine", null]])
    await write(reopened, begin(orders, 5n), end(orders, 0, 5n, 5n))
    strictEqual((await openTable(await open(), orders)).position.quarantined, undefined)

    const next = await open()
    await Effect.runPromise(next.begin([], conditions))
    strictEqual((await openTable(next, orders)).position.copied, undefined)
  })

  it("touches no table that somebody else made, and no other pipeline's", async () => {
    const sink = await open()
    await rows("CREATE SCHEMA public")
    await rows("CREATE TABLE public.Mine (a INTEGER)")
    const mine = Elements.table("mine", { id: int64 })
    const error = await Effect.runPromise(
      Effect.flip(Scope.provide(sink.open(mine, () => Effect.void, () => Effect.void, () => undefined), scope))
    )
    deepStrictEqual([error.reason, error.table], ["Rejected", "public.mine"])
    await openTable(sink, orders)
    const other = await Effect.runPromise(
      Scope.provide(DuckdbSink.make(configOf(), { pipeline: "other", directory: folder }), scope)
    )
    const taken = await Effect.runPromise(
      Effect.flip(Scope.provide(other.open(orders, () => Effect.void, () => Effect.void, () => undefined), scope))
    )
    match(taken.message, /belongs to another table of a pipeline/)
  })
})
