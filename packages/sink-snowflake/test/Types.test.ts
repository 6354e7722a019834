/**
 * Every type, through snapshot and stream, read back from the target.
 */
import { assert, describe, it } from "@effect/vitest"
import { Operation } from "@etl-stream/core/ChangeBatch"
import * as LogicalType from "@etl-stream/core/LogicalType"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Effect from "effect/Effect"
import * as Batches from "./Batches.ts"
import * as Local from "./Local.ts"

const text: LogicalType.LogicalType = { _tag: "Text", maxLength: undefined }
const shape = {
  id: { _tag: "Int64" },
  flag: { _tag: "Boolean" },
  small: { _tag: "Int16" },
  medium: { _tag: "Int32" },
  real: { _tag: "Float32" },
  double: { _tag: "Float64" },
  amount: { _tag: "Decimal", precision: 38, scale: 10 },
  big: { _tag: "Decimal", precision: undefined, scale: undefined },
  note: text,
  bytes: { _tag: "Binary" },
  uid: { _tag: "Uuid" },
  day: { _tag: "Date" },
  at: { _tag: "Time" },
  local: { _tag: "Timestamp", utc: false },
  instant: { _tag: "Timestamp", utc: true },
  doc: { _tag: "Json" },
  list: { _tag: "Array", element: text },
  numbers: { _tag: "Array", element: { _tag: "Float64" } },
  span: { _tag: "Interval" },
  other: { _tag: "Other" }
} as const satisfies Record<string, LogicalType.LogicalType>
const table = Batches.table("types", shape, { _tag: "Key", columns: [0] })

/** What a row should read as, column by column after the key. */
const rows: ReadonlyArray<
  { readonly values: ReadonlyArray<Batches.Value>; readonly expected: ReadonlyArray<string | null> }
> = [
  {
    values: [
      true,
      -32_768,
      -2_147_483_648,
      0.1,
      -1.5e-300,
      "-1234567890123456789012345678.0123456789",
      "1" + "0".repeat(60) + ".5",
      "ü😀\u2028\u0001\"\\",
      Buffer.from([0, 255, 10]),
      "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
      -719_162,
      0n,
      -62_135_596_800_000_000n,
      253_402_300_799_999_999n,
      "null",
      "{\"a,b\",NULL,\"\"}",
      "{1.5,NaN,-1e-07}",
      "1 mon -02:03:04.5",
      "(1,2)"
    ],
    expected: [
      "true",
      "-32768",
      "-2147483648",
      "0.10000000149011612",
      "-1.5e-300",
      "-1234567890123456789012345678.0123456789",
      "1" + "0".repeat(60) + ".5",
      "ü😀\u2028\u0001\"\\",
      "00FF0A",
      "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
      "0001-01-01",
      "0",
      "0001-01-01 00:00:00.000000",
      "9999-12-31 23:59:59.999999",
      "null",
      "[\"a,b\",null,\"\"]",
      "[1.5,\"NaN\",-1e-07]",
      "1 mon -02:03:04.5",
      "(1,2)"
    ]
  },
  {
    values: [
      false,
      32_767,
      2_147_483_647,
      Infinity,
      NaN,
      "0.0000000001",
      "NaN",
      "",
      Buffer.alloc(0),
      "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
      2_932_896,
      86_399_999_999n,
      0n,
      -1n,
      "{\"k\":[1,\"x\",null]}",
      "{}",
      "{}",
      "",
      ""
    ],
    expected: [
      "false",
      "32767",
      "2147483647",
      "inf",
      "NaN",
      "0.0000000001",
      "NaN",
      "",
      "",
      "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
      "9999-12-31",
      "86399999999",
      "1970-01-01 00:00:00.000000",
      "1969-12-31 23:59:59.999999",
      "{\"k\":[1,\"x\",null]}",
      "[]",
      "[]",
      "",
      ""
    ]
  },
  { values: Array.from({ length: 19 }, () => null), expected: Array.from({ length: 19 }, () => null) },
  // JSON that Snowflake's parser refuses is kept as text.
  {
    values: [...Array.from({ length: 14 }, () => null), "{\"a\":1,", null, null, null, null],
    expected: [...Array.from({ length: 14 }, () => null), "\"{\\\"a\\\":1,\"", null, null, null, null]
  },
  // So is JSON with a number that a VARIANT would round.
  ...[`{"a":1${"0".repeat(38)}}`, "[1e400]", "{\"a\": 0.1234567890123456e1}", "\"\\ud800\""].map((document) => ({
    values: [...Array.from({ length: 14 }, () => null), document, null, null, null, null],
    expected: [...Array.from({ length: 14 }, () => null), JSON.stringify(document), null, null, null, null]
  }))
]

const select =
  `SELECT "ID", "FLAG", "SMALL", "MEDIUM", "REAL", "DOUBLE", "AMOUNT"::VARCHAR AS "AMOUNT", "BIG", "NOTE", HEX_ENCODE("BYTES") AS "BYTES", "UID",
  TO_VARCHAR("DAY", 'YYYY-MM-DD') AS "DAY", DATEDIFF('MICROSECOND', '00:00:00'::TIME, "AT") AS "AT", TO_VARCHAR("LOCAL", 'YYYY-MM-DD HH24:MI:SS.FF6') AS "LOCAL",
  TO_VARCHAR("INSTANT", 'YYYY-MM-DD HH24:MI:SS.FF6') AS "INSTANT", TO_JSON("DOC") AS "DOC", TO_JSON("LIST") AS "LIST", TO_JSON("NUMBERS") AS "NUMBERS", "SPAN", "OTHER"
  FROM RAW.SHOP.TYPES ORDER BY "ID"`

describe("Types", () => {
  it.live("come out the same from the snapshot and from the stream", () =>
    Effect.gen(function*() {
      const local = yield* Local.start()
      const running = yield* Local.run(local)
      const opened = yield* running.open(table)
      const batch = (op: Operation, commit: bigint, first: number) =>
        Batches.batch(
          table,
          rows.map(({ values }, index) => ({
            op,
            sequence: Sequence.make(commit, op === Operation.Read ? 0n : BigInt(index)),
            values: [BigInt(first + index), ...values]
          }))
        )
      yield* Local.copy(opened, table, 10n, [batch(Operation.Read, 10n, 0)])
      yield* opened.rows(batch(Operation.Insert, 20n, 100))
      yield* opened.durable(Sequence.make(20n, BigInt(rows.length - 1)))
      yield* running.sink.settle
      const found = yield* local.query(select)
      const names = Object.keys(shape).slice(1).map((name) => name.toUpperCase())
      // The driver prints floats, and NULLs among numbers, in its own ways.
      const print = (value: unknown): string | null => value === null || value === "NULL" ? null : String(value)
      const printed = found.map((row) => names.map((name) => print(row[name])))
      const normal = (values: ReadonlyArray<string | null>) =>
        values.map((value, index) =>
          (index === 3 || index === 4) && value !== null
            ? String(Number(value.replace(/^(-?)inf$/i, "$1Infinity")))
            : value
        )
      const expected = rows.map((row) => normal(row.expected))
      assert.deepStrictEqual(printed.slice(0, rows.length).map(normal), expected)
      assert.deepStrictEqual(printed.slice(rows.length).map(normal), expected)
    }).pipe(Effect.scoped))

  it.live("that are out of range fail by column, or become NULL or the nearest value, on both ways", () =>
    Effect.gen(function*() {
      const local = yield* Local.start()
      const dated = Batches.table("dated", { id: { _tag: "Int64" }, day: { _tag: "Date" }, at: { _tag: "Time" } }, {
        _tag: "Key",
        columns: [0]
      })
      const values: ReadonlyArray<Batches.Value> = [1n, LogicalType.dateInfinity, 86_400_000_000n]
      const batch = (op: Operation, commit: bigint) =>
        Batches.batch(dated, [{ op, sequence: Sequence.make(commit, 0n), values }])
      const running = yield* Local.run(local, {}, "failing")
      const opened = yield* running.open(dated)
      const copying = yield* Effect.flip(Local.copy(opened, dated, 10n, [batch(Operation.Read, 10n)]))
      const streaming = yield* Effect.flip(opened.rows(batch(Operation.Insert, 20n)))
      for (const error of [copying, streaming]) {
        assert.include(JSON.stringify(error), "Rejected")
        assert.include(String(error), "DAY")
      }
      for (const [outOfRange, day, at] of [["null", null, null], ["clamp", "9999-12-31", "86399999999"]] as const) {
        const schema = outOfRange.toUpperCase()
        const other = yield* Local.run(local, { outOfRange, schema }, outOfRange)
        const table = yield* other.open(dated)
        yield* Local.copy(table, dated, 10n, [batch(Operation.Read, 10n)])
        const found = yield* local.query(
          `SELECT "DAY"::VARCHAR AS "DAY", DATEDIFF('MICROSECOND', '00:00:00'::TIME, "AT")::VARCHAR AS "AT" FROM RAW."${schema}".DATED`
        )
        assert.deepStrictEqual(found, [{ DAY: day, AT: at }])
      }
    }).pipe(Effect.scoped))
})
