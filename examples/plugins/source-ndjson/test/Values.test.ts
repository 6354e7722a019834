/**
 * What values of JSON become, and which are refused.
 */
import * as LogicalTypeText from "@etl-stream/core/LogicalTypeText"
import { deepStrictEqual } from "node:assert/strict"
import { describe, it } from "vitest"
import * as Values from "../src/Values.ts"

/** The value of a JSON text as a column of a type. */
const value = (json: string, type: string) =>
  Values.convert(Values.parse(json), LogicalTypeText.parse(type) ?? { _tag: "Other" })

const cases: Readonly<Record<string, ReadonlyArray<readonly [json: string, expected: unknown]>>> = {
  boolean: [["true", true], ["0", undefined]],
  int16: [["-32768", -32768], ["32768", undefined], ["1.0", undefined], ["\"1\"", undefined]],
  int64: [["9007199254740993", 9007199254740993n], ["9223372036854775808", undefined], ["1e3", undefined]],
  float64: [["0.1", 0.1], ["1e400", undefined], ["\"NaN\"", NaN], ["\"-Infinity\"", -Infinity]],
  decimal: [["12345678901234567890.12345678901234567890", "12345678901234567890.12345678901234567890"], [
    "\"NaN\"",
    "NaN"
  ], ["1e3", undefined]],
  "decimal(5,2)": [["123.45", "123.45"], ["\"123.450\"", "123.450"], ["1234.5", undefined], ["1.234", undefined], [
    "\"NaN\"",
    undefined
  ]],
  text: [["\"a\\u0000ä\"", "a\u0000ä"], ["1", undefined]],
  "text(2)": [["\"🌊🌊\"", "🌊🌊"], ["\"abc\"", undefined]],
  uuid: [["\"0B0E0C1E-7B1D-4C9B-9C58-0D1F1A1B1C1D\"", "0B0E0C1E-7B1D-4C9B-9C58-0D1F1A1B1C1D"], ["\"x\"", undefined]],
  date: [["\"1970-01-02\"", 1], ["\"2023-02-29\"", undefined], ["\"1969-12-31\"", -1]],
  time: [["\"23:59:59.000001\"", 86_399_000_001n], ["\"24:00:00\"", undefined]],
  timestamp: [["\"1970-01-01T00:00:01.5\"", 1_500_000n], ["\"1970-01-01T00:00:01Z\"", undefined]],
  timestamptz: [["\"1970-01-01T01:00:00.000001+01:00\"", 1n], ["\"1969-12-31T23:59:59Z\"", -1_000_000n], [
    "\"1970-01-01T00:00:00\"",
    undefined
  ]],
  json: [[
    "{\"n\": 12345678901234567890.10, \"l\": [1e400, null]}",
    "{\"n\":12345678901234567890.10,\"l\":[1e400,null]}"
  ]]
}

describe("a value of JSON", () => {
  for (const [type, values] of Object.entries(cases)) {
    it(`becomes ${type} without losing anything, or is refused`, () => {
      for (const [json, expected] of values) deepStrictEqual(value(json, type), expected, json)
    })
  }

  it("becomes bytes from Base64", () => {
    deepStrictEqual([...value("\"AP8=\"", "binary") as Uint8Array], [0, 255]) // a binary column's value
    deepStrictEqual(value("\"AP8\"", "binary"), undefined)
  })
})
