import { assert, describe, it } from "@effect/vitest"
import type * as Schema from "effect/Schema"
import * as fc from "fast-check"
import * as ColumnBuilder from "../src/ColumnBuilder.ts"
import * as JsonValue from "../src/JsonValue.ts"
import { arrowType, type LogicalType } from "../src/LogicalType.ts"
import * as LogicalTypeText from "../src/LogicalTypeText.ts"
import * as RowValue from "../src/RowValue.ts"

const typeOf = (text: string): LogicalType => {
  const type = LogicalTypeText.parse(text)
  if (type === undefined) throw new Error(`${text} is no type`)
  return type
}

/** What becomes of values that are written and read again; `refused` for one that doesn't fit. */
const through = (text: string, values: ReadonlyArray<Schema.Json>): ReadonlyArray<Schema.Json | "refused"> => {
  const type = typeOf(text)
  const builder = ColumnBuilder.make(arrowType(type))
  const write = RowValue.writer(builder, { name: "value", type, sourceType: text, nullable: true })
  const taken = values.map((json) => {
    const value = json === null ? null : JsonValue.toValue(type, json)
    return value !== undefined && write(value) === undefined
  })
  const read = RowValue.reader(builder.finish(), type)
  let row = 0
  return taken.map((taken) => {
    if (!taken) return "refused"
    const value = read(row++)
    return value === null ? null : JsonValue.fromValue(type, value)
  })
}

const cases: ReadonlyArray<readonly [type: string, values: fc.Arbitrary<Schema.Json>]> = [
  ["boolean", fc.boolean()],
  ["int16", fc.integer({ min: -32768, max: 32767 })],
  ["int32", fc.integer()],
  ["int64", fc.oneof(fc.maxSafeInteger(), fc.bigInt({ min: 2n ** 53n, max: 2n ** 63n - 1n }).map(String))],
  [
    "float64",
    fc.oneof(fc.double({ noDefaultInfinity: true, noNaN: true }), fc.constantFrom("NaN", "Infinity", "-Infinity"))
  ],
  ["decimal", fc.constantFrom("0.10", "-12345678901234567890.123456789", "NaN", "Infinity")],
  ["text", fc.string({ unit: "binary" }).filter((text) => text.isWellFormed())],
  ["binary", fc.uint8Array().map((bytes) => `\\x${Buffer.from(bytes).toString("hex")}`)],
  ["uuid", fc.uuid()],
  ["date", fc.date({ noInvalidDate: true }).map((date) => date.toISOString().replace(/T.*/, ""))],
  [
    "timestamptz",
    fc.date({ noInvalidDate: true }).map((date) =>
      date.toISOString().replace(/\.(\d*?)0*Z$/, (_, digits) => digits === "" ? "Z" : `.${digits}Z`)
    )
  ],
  ["json", fc.oneof(fc.dictionary(fc.string(), fc.integer()), fc.array(fc.boolean()), fc.integer())]
]

describe("JsonValue", () => {
  for (const [type, values] of cases) {
    it(`gives a value of ${type} back as it was written, nulls too`, () => {
      fc.assert(fc.property(fc.array(fc.option(values)), (values) => {
        const expected = values.map((value) => Object.is(value, -0) ? 0 : value)
        assert.deepStrictEqual(through(type, values).map((value) => Object.is(value, -0) ? 0 : value), expected)
      }))
    })
  }

  it("knows times to the microsecond, offsets, infinities, and years before Christ", () => {
    const times = ["00:00:00", "12:34:56.000001", "24:00:00"]
    assert.deepStrictEqual(through("time", [...times, "12:34"]), [...times, "12:34:00"])
    assert.deepStrictEqual(through("timestamptz", ["2024-01-31T12:00:00.5+02:30", "infinity", "-infinity"]), [
      "2024-01-31T09:30:00.5Z",
      "infinity",
      "-infinity"
    ])
    const old = ["-000044-03-15T01:02:03.000004", "1969-12-31T23:59:59.999999"]
    assert.deepStrictEqual(through("timestamp", old), old)
    assert.deepStrictEqual(through("date", ["infinity", "-infinity", "-004712-01-01"]), [
      "infinity",
      "-infinity",
      "-004712-01-01"
    ])
  })

  it("refuses what is no value of the type, and appends nothing for it", () => {
    const wrong: Readonly<Record<string, ReadonlyArray<Schema.Json>>> = {
      boolean: ["true", 1],
      int16: [32768, 1.5, "x", "NaN"],
      int32: [2 ** 31, {}],
      int64: ["9223372036854775808", 1e300, "", "1.0"],
      float64: ["1", true],
      decimal: ["", "1,5", "0x10", true],
      binary: ["00", "\\x0", "\\xzz"],
      uuid: ["6ba7b810-9dad-11d1-80b4-00c04fd430c", "not a uuid"],
      date: ["2024-02-30", "2024-1-1", 5],
      time: ["24:00:01", "12:60", "noon"],
      timestamp: ["2024-01-31T12:00:00Z", "2024-01-31", 0],
      timestamptz: ["2024-01-31T12:00:00", "2024-01-31T25:00:00Z"],
      text: [1, {}]
    }
    for (const [type, values] of Object.entries(wrong)) {
      assert.deepStrictEqual(through(type, values), values.map(() => "refused"), type)
    }
  })
})
