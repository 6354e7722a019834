/**
 * Encoders and layouts: every value is written exactly, hostile ones included, and refused by name where it can't be.
 */
import { assert, describe, it } from "@effect/vitest"
import * as ByteCopy from "@etl-stream/core/ByteCopy"
import * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import * as LogicalType from "@etl-stream/core/LogicalType"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Arrow from "apache-arrow"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as fc from "fast-check"
import * as ArrayLiteral from "../src/ArrayLiteral.ts"
import { ByteBuffer } from "../src/ByteBuffer.ts"
import { Config } from "../src/Config.ts"
import { NdjsonEncoder } from "../src/NdjsonEncoder.ts"
import * as ParquetEncoder from "../src/ParquetEncoder.ts"
import * as ParquetFile from "../src/ParquetFile.ts"
import * as TableLayout from "../src/TableLayout.ts"
import { Unwritable } from "../src/ValueWriter.ts"
import * as Batches from "./Batches.ts"
import { batchOf, keyed, values } from "./EncodedRows.ts"

const config = (more: object = {}): Config =>
  Schema.decodeUnknownSync(Config)({
    account: "MYORG-ACCT",
    user: "LOADER",
    auth: { password: "secret" },
    warehouse: "WH",
    database: "RAW",
    schema: "SHOP",
    ...more
  })

const layoutOf = (table: Parameters<typeof TableLayout.make>[2], more: object = {}) =>
  Effect.runSync(TableLayout.make(config(more), "shop", table))

const sequence = Sequence.make(0x1a2b3c8n, 5n)

const types = {
  id: { _tag: "Int64" },
  small: { _tag: "Int16" },
  medium: { _tag: "Int32" },
  flag: { _tag: "Boolean" },
  real: { _tag: "Float32" },
  double: { _tag: "Float64" },
  amount: { _tag: "Decimal", precision: 12, scale: 2 },
  big: { _tag: "Decimal", precision: undefined, scale: undefined },
  name: { _tag: "Text", maxLength: undefined },
  data: { _tag: "Binary" },
  day: { _tag: "Date" },
  at: { _tag: "Time" },
  local: { _tag: "Timestamp", utc: false },
  instant: { _tag: "Timestamp", utc: true },
  doc: { _tag: "Json" },
  list: { _tag: "Array", element: { _tag: "Int32" } },
  "Odd \"name\"": { _tag: "Text", maxLength: undefined }
} as const satisfies Record<string, LogicalType.LogicalType>
const wide = Batches.table("wide", types, { _tag: "Key", columns: [0] })

const decode = (bytes: Uint8Array): ReadonlyArray<Record<string, unknown>> =>
  Buffer.from(bytes).toString().trimEnd().split("\n").map((line) => JSON.parse(line))

const encodeRow = (
  values: ReadonlyArray<Batches.Value>,
  more: object = {},
  op: ChangeBatch.Operation = ChangeBatch.Operation.Insert
) => {
  const layout = layoutOf(wide, more)
  const batch = Batches.batch(wide, [{ op, sequence, values }])
  const [row] = decode(new NdjsonEncoder(layout, config(more).outOfRange).encode(batch, 0, 1_000_000).bytes)
  return row ?? {}
}

const textOf = (value: string, write: (out: ByteBuffer, bytes: Uint8Array) => void): string => {
  const out = new ByteBuffer(1)
  write(out, Buffer.from(value))
  return Buffer.from(out.view()).toString()
}

describe("ByteBuffer", () => {
  it("writes every 64-bit integer as BigInt does", () => {
    fc.assert(
      fc.property(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), (value) => {
        const out = new ByteBuffer(1)
        out.int64(Number(value >> 32n), Number(BigInt.asIntN(32, value)))
        assert.strictEqual(Buffer.from(out.view()).toString(), String(value))
      }),
      {
        numRuns: 2000,
        examples: [[-(2n ** 63n)], [2n ** 63n - 1n], [-1n], [0n], [2n ** 53n], [-(2n ** 53n)], [-(2n ** 32n)], [
          999_999n
        ]]
      }
    )
  })

  it("writes every timestamp of the years 1 to 9999 as Date does", () => {
    const min = BigInt(Date.UTC(2000, 0, 1)) - 63_082_281_600_000n
    fc.assert(
      fc.property(fc.bigInt({ min: min * 1000n, max: 253_402_300_799_999_999n }), (micros) => {
        const out = new ByteBuffer(1)
        out.timestamp(Number(micros >> 32n), Number(BigInt.asIntN(32, micros)))
        const millis = (micros - (((micros % 1000n) + 1000n) % 1000n)) / 1000n
        const expected = new Date(Number(millis)).toISOString().slice(0, 23) +
          String(((micros % 1000n) + 1000n) % 1000n).padStart(3, "0")
        assert.strictEqual(Buffer.from(out.view()).toString(), expected)
      }),
      {
        numRuns: 3000,
        examples: [[-62_135_596_800_000_000n], [253_402_300_799_999_999n], [-1n], [0n], [951_782_400_000_000n]]
      }
    )
  })

  it("writes base64 as Buffer does", () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 50 }), (bytes) => {
      const out = new ByteBuffer(1)
      out.base64(bytes, 0, bytes.length)
      assert.strictEqual(Buffer.from(out.view()).toString(), Buffer.from(bytes).toString("base64"))
    }))
  })

  it("escapes any text so that JSON.parse gives it back", () => {
    const hostile = [
      "",
      "\u0000\u0001\u001f\u007f",
      "\"\\/\b\f\n\r\t",
      "\u2028\u2029",
      "😀🏳️‍🌈",
      "\\u0041",
      "a".repeat(100) + "\"" + "b".repeat(100),
      // Next to what has to be escaped, at every place of a word.
      ...["\u001f", " ", "!", "\"", "#", "[", "\\", "]", "\u007f", "\u0080", "ä", "\u00a2"].flatMap((one) =>
        ["", "a", "ab", "abc", "abcd"].map((before) => `${before}${one}${before}`)
      ),
      // Longer than what is escaped at a time, with a character of several bytes across the end of a piece.
      "\"" + "ü\n".repeat(5000),
      "\u0001".repeat(4096)
    ]
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit: "binary" }), fc.string({ unit: "grapheme" })), (value) => {
        const written = textOf(value, (out, bytes) => out.jsonText(ByteCopy.viewOf(bytes), 0, bytes.length))
        assert.strictEqual(JSON.parse(`"${written}"`), Buffer.from(value).toString())
      }),
      { numRuns: 1000, examples: hostile.map((value) => [value] as [string]) }
    )
  })

  it("puts JSON on one line and leaves its values as they are", () => {
    fc.assert(fc.property(fc.json({ stringUnit: "binary" }), fc.nat(4), (json, indent) => {
      const value: unknown = JSON.parse(json)
      const written = textOf(
        JSON.stringify(value, undefined, indent).replaceAll("\n", "\r\n"),
        (out, bytes) => out.jsonLine(ByteCopy.viewOf(bytes), 0, bytes.length)
      )
      assert.notMatch(written, /[\r\n]/)
      assert.deepStrictEqual(JSON.parse(written), value)
    }))
  })

  it("repeats what was written, also when it has to grow for that", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 1, maxLength: 700 }),
        fc.nat(),
        fc.integer({ min: 1, max: 4 }),
        (bytes, at, times) => {
          const start = at % bytes.length
          const out = new ByteBuffer(1)
          out.raw(bytes)
          for (let time = 0; time < times; time++) out.repeat(start, bytes.length - start)
          const repeated = Buffer.from(bytes.subarray(start))
          assert.deepStrictEqual(
            Buffer.from(out.view()),
            Buffer.concat([bytes, ...Array.from({ length: times }, () => repeated)])
          )
        }
      )
    )
  })
})

describe("ArrayLiteral", () => {
  const json = (literal: string, form: ArrayLiteral.ElementForm = "text") =>
    JSON.parse(
      textOf(literal, (out, bytes) => ArrayLiteral.toJson(bytes, ByteCopy.viewOf(bytes), 0, bytes.length, form, out))
    )

  it("keeps numbers, booleans, nulls, nesting and quoted text apart", () => {
    assert.deepStrictEqual(json("{1,-2,NULL}", "integer"), [1, -2, null])
    assert.deepStrictEqual(json("{1.5,1e+20,1e-07,NaN,Infinity,-Infinity}", "float"), [
      1.5,
      1e20,
      1e-7,
      "NaN",
      "Infinity",
      "-Infinity"
    ])
    assert.deepStrictEqual(json("{t,f,NULL}", "boolean"), [true, false, null])
    assert.deepStrictEqual(json("{{1,2},{3,4}}", "integer"), [[1, 2], [3, 4]])
    assert.deepStrictEqual(json("{}"), [])
    assert.deepStrictEqual(json(`{"NULL",NULL,null,"a \\"b\\" \\\\ {c}, d",""}`), [
      "NULL",
      null,
      "null",
      "a \"b\" \\ {c}, d",
      ""
    ])
    assert.strictEqual(json("[0:1]={1,2}", "integer"), "[0:1]={1,2}")
  })

  it("keeps any text in any nesting", () => {
    const quoted = (text: string) => `"${text.replaceAll("\\", "\\\\").replaceAll("\"", "\\\"")}"`
    fc.assert(
      fc.property(fc.array(fc.array(fc.string({ unit: "binary" }), { minLength: 1 }), { minLength: 1 }), (rows) => {
        const literal = `{${rows.map((row) => `{${row.map(quoted).join(",")}}`).join(",")}}`
        assert.deepStrictEqual(json(literal), rows.map((row) => row.map((text) => Buffer.from(text).toString())))
      })
    )
  })

  it("refuses what isn't an array literal, always", () => {
    for (
      const literal of [
        "",
        "1",
        "{",
        "}",
        "{1",
        "{1}}",
        "{,1}",
        "{1,}",
        "{1 2",
        `{"a`,
        `{"a"b}`,
        "{1}{2}",
        "{{1}{2}}",
        "{1{2}}"
      ]
    ) {
      assert.throws(() => json(literal), ArrayLiteral.MalformedArray, undefined, literal)
    }
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom("{", "}", ",", "\"", "\\", "a", "1", "[") }), (literal) => {
        try {
          json(literal)
        } catch (error) {
          assert.instanceOf(error, ArrayLiteral.MalformedArray)
        }
      }),
      { numRuns: 2000 }
    )
  })
})

describe("NdjsonEncoder", () => {
  it("writes each type as Snowflake takes it, and leaves nulls out", () => {
    const row = encodeRow([
      9_007_199_254_740_993n,
      -7,
      123_456,
      true,
      0.5,
      1e300,
      "12.50",
      "NaN",
      "ü\u2028\"",
      Buffer.from([0, 255]),
      20_000,
      86_399_999_999n,
      -1n,
      1_767_323_045_678_901n,
      `{"a": 1}`,
      "{1,NULL}",
      "x"
    ])
    assert.deepStrictEqual(row, {
      _ETL_OP: "insert",
      _ETL_SEQ: "0000000001a2b3c8/0000000000000005",
      _ETL_COMMIT_TIME: "2026-01-02T03:04:05.678901Z",
      ID: "9007199254740993",
      SMALL: -7,
      MEDIUM: 123_456,
      FLAG: true,
      REAL: 0.5,
      DOUBLE: 1e300,
      AMOUNT: "12.50",
      BIG: "NaN",
      NAME: "ü\u2028\"",
      DATA: "AP8=",
      DAY: "2024-10-04",
      AT: "23:59:59.999999",
      LOCAL: "1969-12-31T23:59:59.999999",
      INSTANT: "2026-01-02T03:04:05.678901Z",
      DOC: `{"a": 1}`,
      LIST: "[1,null]",
      "Odd \"name\"": "x"
    })
    assert.deepStrictEqual(Object.keys(encodeRow([1n])), ["_ETL_OP", "_ETL_SEQ", "_ETL_COMMIT_TIME", "ID"])
  })

  it("spells floats as Snowflake takes them", () => {
    const double = (value: number) => encodeRow([1n, null, null, null, null, value])["DOUBLE"]
    assert.strictEqual(double(Number.NaN), "NaN")
    assert.strictEqual(double(Infinity), "inf")
    assert.strictEqual(double(-Infinity), "-inf")
    assert.isTrue(Object.is(double(-0), -0))
    fc.assert(fc.property(fc.double({ noDefaultInfinity: true, noNaN: true }), (value) => {
      assert.isTrue(Object.is(double(value), value))
    }))
  })

  it("names unsent columns in target names", () => {
    const values: Array<Batches.Value> = [1n]
    values[8] = Batches.unsent
    values[16] = Batches.unsent
    const row = encodeRow(values, {}, ChangeBatch.Operation.Update)
    assert.deepStrictEqual(JSON.parse(String(row["_ETL_UNSENT"])), ["NAME", "Odd \"name\""])
    assert.notProperty(row, "NAME")
  })

  it("writes VARIANTs as JSON in a changelog, on one line", () => {
    const values = [
      1n,
      null,
      null,
      null,
      null,
      null,
      null,
      null,
      null,
      null,
      null,
      null,
      null,
      null,
      "{\"a\":\r\n[1,null]}",
      "{1,2}"
    ]
    const row = encodeRow(values, { mode: "changelog" })
    assert.deepStrictEqual(row["DOC"], { a: [1, null] })
    assert.deepStrictEqual(row["LIST"], [1, 2])
  })

  it("tells JSON's null from no value in a changelog, and keeps JSON that isn't Unicode text as a string", () => {
    const doc = (text: string) =>
      encodeRow([1n, ...Array.from({ length: 13 }, () => null), text], { mode: "changelog" })["DOC"]
    for (
      const text of [
        "null",
        " null\n",
        `"\\ud800"`,
        `{"a":"\\uDFFF"}`,
        `"\\udc00\\ud800"`,
        `"\\ud83d\\ud83d\\ude00"`,
        `"\\ud83d x"`
      ]
    ) assert.strictEqual(doc(text), text)
    for (const text of [`"null"`, `[null]`, `"\\ud83d\\uDE00"`, `"\\\\ud800"`, `"\\u00d8"`, `"\\u0064800"`, "true"]) {
      assert.deepStrictEqual(doc(text), JSON.parse(text), text)
    }
  })

  it("measures arrays as they are written", () => {
    const list = `{${"\u0001".repeat(3_000_000)}}`
    const values = [1n, ...Array.from({ length: 14 }, () => null), list]
    for (const mode of ["mirror", "changelog"]) {
      assert.throws(() => encodeRow(values, { mode }), Unwritable)
      assert.notProperty(encodeRow(values, { mode, outOfRange: "null" }), "LIST")
    }
  })

  it("fails, nulls or clamps what Snowflake can't hold, and never names the value", () => {
    const cases = [
      { index: 6, value: "NaN", column: "AMOUNT", clamped: undefined },
      { index: 10, value: LogicalType.dateInfinity, column: "DAY", clamped: "9999-12-31" },
      { index: 10, value: LogicalType.dateNegativeInfinity, column: "DAY", clamped: "0001-01-01" },
      { index: 10, value: -719_163, column: "DAY", clamped: "0001-01-01" },
      { index: 11, value: 86_400_000_000n, column: "AT", clamped: "23:59:59.999999" },
      { index: 12, value: LogicalType.timestampInfinity, column: "LOCAL", clamped: "9999-12-31T23:59:59.999999" },
      {
        index: 13,
        value: LogicalType.timestampNegativeInfinity,
        column: "INSTANT",
        clamped: "0001-01-01T00:00:00.000000Z"
      },
      { index: 13, value: 253_402_300_800_000_000n, column: "INSTANT", clamped: "9999-12-31T23:59:59.999999Z" }
    ]
    for (const { clamped, column, index, value } of cases) {
      const values: Array<Batches.Value> = [1n]
      values[index] = value
      assert.throws(() => encodeRow(values), Unwritable)
      assert.notProperty(encodeRow(values, { outOfRange: "null" }), column)
      assert.strictEqual(encodeRow(values, { outOfRange: "clamp" })[column], clamped)
    }
  })

  it("fails for out-of-range keys whatever the policy", () => {
    const table = Batches.table("dated", { day: { _tag: "Date" } }, { _tag: "Key", columns: [0] })
    const batch = Batches.batch(table, [{
      op: ChangeBatch.Operation.Insert,
      sequence,
      values: [LogicalType.dateInfinity]
    }])
    for (const outOfRange of ["null", "clamp"] as const) {
      assert.throws(() => new NdjsonEncoder(layoutOf(table), outOfRange).encode(batch, 0, 1000), Unwritable)
    }
  })

  it("refuses a change whose key has no value or was not sent", () => {
    assert.throws(() => encodeRow([null]), Unwritable)
    assert.throws(() => encodeRow([Batches.unsent], {}, ChangeBatch.Operation.Update), Unwritable)
  })

  it("cuts chunks at rows, never beyond the limit unless a single row is, and loses none", () => {
    const table = Batches.table("t", { id: { _tag: "Int64" }, name: { _tag: "Text", maxLength: undefined } }, {
      _tag: "Key",
      columns: [0]
    })
    fc.assert(
      fc.property(
        fc.array(fc.nat(300), { minLength: 1, maxLength: 60 }),
        fc.integer({ min: 100, max: 2000 }),
        (lengths, limit) => {
          const batch = Batches.batch(
            table,
            lengths.map((length, index) => ({
              op: ChangeBatch.Operation.Insert,
              sequence: Sequence.make(1n, BigInt(index)),
              values: [BigInt(index), "x".repeat(length)]
            }))
          )
          const encoder = new NdjsonEncoder(layoutOf(table), "fail")
          const seen: Array<number> = []
          for (let from = 0; from < batch.rows;) {
            const chunk = encoder.encode(batch, from, limit)
            assert.isTrue(chunk.bytes.length <= limit || chunk.rows === 1)
            seen.push(...decode(chunk.bytes).map((row) => Number(row["ID"])))
            from = chunk.last + 1
          }
          assert.deepStrictEqual(seen, lengths.map((_, index) => index))
        }
      )
    )
  })

  it("reads sliced batches like whole ones", () => {
    const table = Batches.table("t", {
      id: { _tag: "Int64" },
      flag: { _tag: "Boolean" },
      name: { _tag: "Text", maxLength: undefined },
      n: { _tag: "Int32" }
    }, {
      _tag: "Full"
    })
    const rows = Array.from({ length: 40 }, (_, index): Batches.Row => ({
      op: ChangeBatch.Operation.Insert,
      sequence: Sequence.make(1n, BigInt(index)),
      values: [
        index % 3 === 0 ? null : BigInt(index),
        index % 2 === 0,
        index % 5 === 0 ? null : `n${index}`,
        index % 4 === 0 ? null : index
      ]
    }))
    const layout = layoutOf(table)
    const whole = Batches.batch(table, rows)
    const expected = decode(new NdjsonEncoder(layout, "fail").encode(whole, 0, 1e6).bytes)
    for (const [start, end] of [[0, 40], [7, 40], [13, 29]] as const) {
      const slice = ChangeBatch.make(table, whole.records.slice(start, end))
      assert.deepStrictEqual(
        decode(new NdjsonEncoder(layout, "fail").encode(slice, 0, 1e6).bytes),
        expected.slice(start, end)
      )
    }
  })
})

describe("RowKey", () => {
  it("is the same for snapshot and change, differs for rows that differ, and ignores columns that are null", () => {
    const columns = {
      a: { _tag: "Text", maxLength: undefined },
      b: { _tag: "Text", maxLength: undefined },
      f: { _tag: "Float64" }
    } as const
    const keys = (
      rows: ReadonlyArray<ReadonlyArray<Batches.Value>>,
      op: ChangeBatch.Operation,
      shape: Record<string, LogicalType.LogicalType> = columns
    ) => {
      const table = Batches.table("t", shape, { _tag: "Full" })
      const batch = Batches.batch(table, rows.map((values) => ({ op, sequence, values })))
      return decode(new NdjsonEncoder(layoutOf(table), "fail").encode(batch, 0, 1e6).bytes).map((row) =>
        row["_ETL_ROW_KEY"]
      )
    }
    const rows: ReadonlyArray<ReadonlyArray<Batches.Value>> = [
      ["ab", "c", 1],
      ["a", "bc", 1],
      [null, "abc", 1],
      ["abc", null, 1],
      ["", null, 1],
      [null, null, 1],
      ["ab", "c", -1],
      [null, null, NaN]
    ]
    const inserted = keys(rows, ChangeBatch.Operation.Insert)
    assert.strictEqual(new Set(inserted).size, rows.length)
    assert.deepStrictEqual(keys(rows, ChangeBatch.Operation.Read), inserted)
    assert.deepStrictEqual(
      keys(rows.map((row) => [...row, null]), ChangeBatch.Operation.Delete, { ...columns, added: { _tag: "Int32" } }),
      inserted
    )
  })
})

describe("TableLayout", () => {
  const fails = (table: Parameters<typeof TableLayout.make>[2]) =>
    Effect.runSync(Effect.flip(TableLayout.make(config(), "shop", table)))
  const text = { _tag: "Text", maxLength: undefined } as const

  it("refuses columns whose names meet, naming both", () => {
    const error = fails(Batches.table("t", { name: text, NAME: text }, { _tag: "None" }))
    assert.strictEqual(error.reason, "Unsupported")
    assert.include(error.message, "\"name\"")
    assert.include(error.message, "\"NAME\"")
    assert.strictEqual(fails(Batches.table("t", { Name: text, name: text }, { _tag: "None" })).reason, "Unsupported")
  })

  it("refuses columns with names of metadata", () => {
    assert.strictEqual(fails(Batches.table("t", { _etl_seq: text }, { _tag: "None" })).reason, "Unsupported")
  })

  it("gives journals of odd names plain names that stay apart", () => {
    const name = (table: string) => layoutOf(Batches.table(table, { id: text }, { _tag: "None" })).journal.name
    assert.strictEqual(name("orders"), "SHOP__ORDERS__JOURNAL")
    assert.match(name("Orders"), /^SHOP__ORDERS_[0-9A-F]{8}__JOURNAL$/)
    assert.notStrictEqual(name("a b"), name("a-b"))
  })

  it("keeps keys joinable: a JSON key stays text", () => {
    const layout = layoutOf(
      Batches.table("t", { k: { _tag: "Json" }, v: { _tag: "Json" } }, { _tag: "Key", columns: [0] })
    )
    assert.deepStrictEqual(layout.columns.map(({ target }) => target), ["VARCHAR", "VARIANT"])
  })
})

describe("ParquetEncoder", () => {
  it("writes every value of a journal as it is streamed, whether its buffers go as they are or not", () => {
    const layout = layoutOf(keyed)
    const names = layout.columns.flatMap(({ form, name }, position) =>
      ["boolean", "float", "int16", "int64"].includes(form) ? [] : [[`c${position}`, name] as const]
    )
    const columns = [["m0", "_ETL_OP"], ["m1", "_ETL_SEQ"], ["m2", "_ETL_COMMIT_TIME"], ["m3", "_ETL_UNSENT"], ...names]
    fc.assert(
      fc.property(fc.array(values, { minLength: 1, maxLength: 20 }), (rows) => {
        const batch = batchOf(keyed, rows)
        const streamed = decode(new NdjsonEncoder(layout, "null").encode(batch, 0, 1 << 20, []).bytes)
        const table = ParquetEncoder.tableOf(layout, batch, "journal", "null", 0, [])
        for (const [column = "", name = ""] of columns) {
          assert.deepStrictEqual(
            rows.map((_, row) => table.getChild(column)?.get(row)),
            streamed.map((row) => row[name] ?? null)
          )
        }
      }),
      { numRuns: 200 }
    )
  })

  it("numbers the rows of a keyless copy beyond 32 bits", () => {
    const table = Batches.table("t", { name: { _tag: "Text", maxLength: undefined } }, { _tag: "Full" })
    const batch = Batches.batch(
      table,
      ["a", "b", "c"].map((name) => ({ op: ChangeBatch.Operation.Read, sequence, values: [name] }))
    )
    const written = ParquetEncoder.tableOf(layoutOf(table), batch, "target", "fail", 2 ** 32 - 1, undefined)
    assert.deepStrictEqual(
      Array.from(written.getChild("m5") ?? []),
      [4_294_967_295n, 4_294_967_296n, 4_294_967_297n]
    )
  })

  it.live("writes JSON of a changelog as it is streamed", () =>
    Effect.gen(function*() {
      const parquet = yield* Effect.promise(() => import("parquet-wasm"))
      const table = Batches.table("t", { doc: { _tag: "Json" } }, { _tag: "None" })
      const layout = layoutOf(table, { mode: "changelog" })
      const docs = ["null", `{"a":"\\ud800"}`, `{"a":null}`]
      const batch = Batches.batch(
        table,
        docs.map((doc) => ({ op: ChangeBatch.Operation.Read, sequence, values: [doc] }))
      )
      const bytes = ParquetFile.of(ParquetEncoder.tableOf(layout, batch, "journal", "fail", 0, undefined))
      const rows = Arrow.tableFromIPC(parquet.readParquet(bytes).intoIPCStream()).toArray()
      assert.deepStrictEqual(
        rows.map((row: { toJSON: () => Record<string, unknown> }) => row.toJSON()["c0"]),
        [`"null"`, JSON.stringify(docs[1]), docs[2]]
      )
    }))

  it.live("writes a file that gives every value back", () =>
    Effect.gen(function*() {
      const parquet = yield* Effect.promise(() => import("parquet-wasm"))
      const layout = layoutOf(wide)
      const batch = Batches.batch(wide, [
        {
          op: ChangeBatch.Operation.Read,
          sequence,
          values: [
            2n ** 62n,
            -7,
            null,
            true,
            0.1,
            -0.5,
            "12.50",
            "1e400",
            "ü\u0001",
            Buffer.from([0, 255]),
            0,
            0n,
            -1n,
            1n,
            "null",
            "{t}",
            null
          ]
        },
        { op: ChangeBatch.Operation.Read, sequence, values: [-1n, null, 2 ** 31 - 1, false, null, NaN] }
      ])
      const bytes = ParquetFile.of(ParquetEncoder.tableOf(layout, batch, "target", "fail", 0, undefined))
      const read = Arrow.tableFromIPC(parquet.readParquet(bytes).intoIPCStream())
      const rows = read.toArray().map((row: { toJSON: () => Record<string, unknown> }) => row.toJSON())
      assert.deepInclude(rows[0], {
        c0: 2n ** 62n,
        c1: -7,
        c2: null,
        c4: Math.fround(0.1),
        c5: -0.5,
        c6: "12.50",
        c7: "1e400",
        c8: "ü\u0001",
        c9: "AP8=",
        c10: "1970-01-01",
        c11: "00:00:00.000000",
        c12: "1969-12-31T23:59:59.999999",
        c13: "1970-01-01T00:00:00.000001Z",
        c14: "null",
        c15: "[\"t\"]",
        c16: null
      })
      assert.deepInclude(rows[1], { c0: -1n, c1: null, c2: 2 ** 31 - 1, c4: null, c5: NaN, c6: null })
    }))
})
