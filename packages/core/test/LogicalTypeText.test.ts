import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import type { LogicalType } from "../src/LogicalType.ts"
import * as LogicalTypeText from "../src/LogicalTypeText.ts"

const simple = fc.constantFrom<LogicalType>(
  { _tag: "Boolean" },
  { _tag: "Int16" },
  { _tag: "Int32" },
  { _tag: "Int64" },
  { _tag: "Float32" },
  { _tag: "Float64" },
  { _tag: "Decimal", precision: undefined, scale: undefined },
  { _tag: "Text", maxLength: undefined },
  { _tag: "Binary" },
  { _tag: "Uuid" },
  { _tag: "Date" },
  { _tag: "Time" },
  { _tag: "Timestamp", utc: true },
  { _tag: "Timestamp", utc: false },
  { _tag: "Json" },
  { _tag: "Interval" },
  { _tag: "Other" }
)
const limited = fc.oneof(
  fc.integer({ min: 1, max: 999 }).map((maxLength): LogicalType => ({ _tag: "Text", maxLength })),
  fc.tuple(fc.integer({ min: 1, max: 99 }), fc.nat(99)).map(([precision, scale]): LogicalType => ({
    _tag: "Decimal",
    precision,
    scale: Math.min(precision, scale)
  }))
)
const scalar = fc.oneof(simple, limited)
const type = fc.oneof(scalar, scalar.map((element): LogicalType => ({ _tag: "Array", element })))

describe("LogicalTypeText", () => {
  it("reads every type as it writes it", () => {
    fc.assert(fc.property(type, (type) => {
      assert.deepStrictEqual(LogicalTypeText.parse(LogicalTypeText.format(type)), type)
    }))
  })

  it("takes a decimal's scale for 0 when it isn't given, and spaces inside parentheses", () => {
    assert.deepStrictEqual(LogicalTypeText.parse("decimal( 12 )"), { _tag: "Decimal", precision: 12, scale: 0 })
    assert.deepStrictEqual(LogicalTypeText.parse("decimal(12, 2)"), { _tag: "Decimal", precision: 12, scale: 2 })
  })

  it("refuses what is no type", () => {
    const wrong = [
      "",
      "Int64",
      "integer",
      "text()",
      "text(0)",
      "text(1,2)",
      "decimal(0)",
      "decimal(2,3)",
      "int64(3)",
      "[]"
    ]
    for (const text of [...wrong, "constructor", "int64 []", "x".repeat(100_000)]) {
      assert.isUndefined(LogicalTypeText.parse(text), text.slice(0, 20))
    }
  })

  it("names every type that takes no argument", () => {
    for (const name of LogicalTypeText.names) {
      assert.strictEqual(LogicalTypeText.format(LogicalTypeText.parse(name) ?? { _tag: "Boolean" }), name)
    }
  })
})
