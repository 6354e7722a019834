/**
 * The table of types in the documentation is what the sink does.
 */
import { assert, describe, it } from "@effect/vitest"
import * as LogicalType from "@etl-stream/core/LogicalType"
import { readFileSync } from "node:fs"
import * as TypeMapping from "../src/TypeMapping.ts"

const decimal = (precision: number | undefined, scale: number | undefined): LogicalType.LogicalType => ({
  _tag: "Decimal",
  precision,
  scale
})
const text: LogicalType.LogicalType = { _tag: "Text", maxLength: undefined }
const other: LogicalType.LogicalType = { _tag: "Other" }

/** What each row of the table is about, by its first word. */
const types: Readonly<Record<string, ReadonlyArray<LogicalType.LogicalType>>> = {
  boolean: [{ _tag: "Boolean" }],
  smallint: [{ _tag: "Int16" }, { _tag: "Int32" }, { _tag: "Int64" }],
  real: [{ _tag: "Float32" }, { _tag: "Float64" }],
  "numeric(p,s)": [decimal(1, 0), decimal(38, 37), decimal(38, 0), decimal(12, 2), decimal(5, undefined)],
  numeric: [decimal(undefined, undefined), decimal(39, 0), decimal(38, 38), decimal(3, 5), decimal(5, -2)],
  text: [text],
  "\"char\"": [text],
  uuid: [{ _tag: "Uuid" }],
  bytea: [{ _tag: "Binary" }],
  date: [{ _tag: "Date" }],
  time: [{ _tag: "Time" }],
  timestamp: [{ _tag: "Timestamp", utc: false }],
  timestamptz: [{ _tag: "Timestamp", utc: true }],
  json: [{ _tag: "Json" }],
  arrays: [{ _tag: "Array", element: text }, { _tag: "Array", element: { _tag: "Float64" } }],
  interval: [{ _tag: "Interval" }],
  timetz: [other],
  inet: [other],
  point: [other],
  ranges: [other],
  composite: [other],
  tsvector: [other],
  regclass: [other],
  citext: [other]
}

/** Names of Arrow types as the table has them. */
const carrier = (type: LogicalType.LogicalType): string =>
  String(LogicalType.arrowType(type)).replace("Date32<DAY>", "DateDay").replace(/^Time64<MICROSECOND>$/, "Time µs")
    .replace(/^Timestamp<MICROSECOND, UTC>$/, "Timestamp µs, UTC").replace(/^Timestamp<MICROSECOND.*>$/, "Timestamp µs")

describe("The table of types", () => {
  const documentation = readFileSync(new URL("../../../docs/types.md", import.meta.url), "utf8")
  const [table = ""] = documentation.split("\n\n").filter((part) => part.startsWith("| PostgreSQL | Arrow carrier |"))
  const rows = table.split("\n").slice(2).map((line) => line.split("|").slice(1, 4).map((cell) => cell.trim()))

  it("names every row's carriers and target as the module maps them", () => {
    const seen = new Set<string>()
    for (const [about = "", carriers = "", target = ""] of rows) {
      const word = /^(\S+?),?(?: |$)/.exec(about)?.[1] ?? ""
      // Domains are told by their base types.
      if (word === "domains") continue
      const described = types[word]
      assert.isDefined(described, `${about}: no such row is known to the test`)
      seen.add(word)
      for (const type of described ?? []) {
        const mapped = TypeMapping.standard(type)
        const expected = type._tag === "Decimal" && mapped.form === "number"
          ? `NUMBER(${type.precision},${type.scale ?? 0})`
          : target
        assert.strictEqual(mapped.target, expected, about)
        assert.include(carriers.split(", ").concat(carriers), carrier(type), about)
      }
    }
    assert.deepStrictEqual([...seen].sort(), Object.keys(types).sort())
  })

  it("covers every logical type", () => {
    const tags: ReadonlyArray<string> = Object.values(types).flat().map(({ _tag }) => _tag)
    const all: Readonly<Record<LogicalType.LogicalType["_tag"], true>> = {
      Boolean: true,
      Int16: true,
      Int32: true,
      Int64: true,
      Float32: true,
      Float64: true,
      Decimal: true,
      Text: true,
      Binary: true,
      Uuid: true,
      Date: true,
      Time: true,
      Timestamp: true,
      Json: true,
      Array: true,
      Interval: true,
      Other: true
    }
    for (const tag of Object.keys(all)) assert.include(tags, tag)
  })
})
