import { assert, describe, it } from "@effect/vitest"
import type { Element } from "../src/Element.ts"
import * as SpoolReplay from "../src/SpoolReplay.ts"
import type { ColumnSchema, TableSchema } from "../src/TableSchema.ts"
import { batch, cells, notSent, type Value } from "./doubles/Tables.ts"

const column = (name: string, id: string | undefined, type: ColumnSchema["type"]): ColumnSchema => ({
  name,
  type,
  sourceType: name,
  nullable: true,
  ...(id === undefined ? {} : { id })
})
const text: ColumnSchema["type"] = { _tag: "Text", maxLength: undefined }
const table = (columns: ReadonlyArray<ColumnSchema>, more: Partial<TableSchema> = {}): TableSchema => ({
  table: { schema: "public", name: "t" },
  version: 1,
  columns,
  identity: { _tag: "Key", columns: [0] },
  ...more
})
const id = column("id", "1", { _tag: "Int32" })
const rows = (schema: TableSchema, ...values: ReadonlyArray<ReadonlyArray<Value>>): Element => ({
  _tag: "Rows",
  batch: batch(schema, values.map((values, row) => ({ commit: 10n, ordinal: BigInt(row + 1), values })))
})
/** Values and masks of the only batch of `elements`. */
const read = (elements: ReadonlyArray<Element>) => {
  const [element] = elements
  return element?._tag === "Rows" && elements.length === 1
    ? cells(element.batch).map((row) => row.slice(4))
    : assert.fail(`${elements.map(({ _tag }) => _tag)}`)
}

describe("what an earlier run has kept", () => {
  it("is read under today's names and places: what came later is null, what is gone left out", () => {
    const then = table([id, column("gone", "2", text), column("old", "3", text), column("same", "4", text)])
    const now = table([
      id,
      column("same", "4", text),
      column("new", "3", text),
      column("later", "5", { _tag: "Int64" })
    ], {
      version: 2,
      origin: "later"
    })
    assert.isTrue(SpoolReplay.fits(then, now))
    const replay = SpoolReplay.make(() => now)
    const elements = replay.element(rows(then, [1, "g", "o", "s"], [2, null, notSent, "s"], [3, notSent, "o", notSent]))
    assert.deepStrictEqual(read(elements), [
      ["null", "number 1", "string s", "string o", "null"],
      ["bytes 4", "number 2", "string s", "null", "null"],
      ["bytes 2", "number 3", "null", "string o", "null"]
    ])
    assert.strictEqual(elements[0]?._tag === "Rows" ? elements[0].batch.table : undefined, now)
    assert.deepStrictEqual(replay.end(), [])
  })

  it("is told by names where columns have no ids", () => {
    const then = table([column("a", undefined, { _tag: "Int32" }), column("b", undefined, text)])
    const now = table([column("b", undefined, text), column("a", undefined, { _tag: "Int32" })], {
      identity: { _tag: "Key", columns: [1] }
    })
    const replay = SpoolReplay.make(() => now)
    assert.deepStrictEqual(read(replay.element(rows(then, [1, "x"]))), [["null", "string x", "number 1"]])
  })

  it("doesn't fit when a column is carried otherwise, or one of the key is gone", () => {
    const then = table([id, column("v", "2", { _tag: "Int32" })])
    assert.isFalse(SpoolReplay.fits(then, table([id, column("v", "2", { _tag: "Int64" })])))
    assert.isFalse(SpoolReplay.fits(then, table([column("v", "2", { _tag: "Int32" })])))
    assert.isTrue(SpoolReplay.fits(then, table([id, column("v", "9", { _tag: "Int64" })])))
    assert.deepStrictEqual(SpoolReplay.make(() => table([column("v", "2", text)])).element(rows(then, [1, 2])), [])
  })

  it("tells another identity of rows by a shape of its own, and goes back to the table's at the end", () => {
    const now = table([id, column("v", "2", text)])
    const then = table([id, column("v", "2", text)], { identity: { _tag: "Full" }, version: 3 })
    const replay = SpoolReplay.make(() => now)
    const first = replay.element(rows(then, [1, "x"]))
    assert.deepStrictEqual(first.map(({ _tag }) => _tag), ["Schema", "Rows"])
    const [shape] = first
    const schema = shape?._tag === "Schema" ? shape.table : assert.fail("no shape")
    assert.deepStrictEqual(schema.identity, { _tag: "Full" })
    assert.notStrictEqual(schema.version, now.version)
    assert.deepStrictEqual(replay.element(rows(then, [2, "x"])).map(({ _tag }) => _tag), ["Rows"])
    assert.deepStrictEqual(replay.element(rows(now, [3, "x"])).map(({ _tag }) => _tag), ["Schema", "Rows"])
    replay.element(rows(then, [4, "x"]))
    assert.deepStrictEqual(replay.end().map((element) => element._tag === "Schema" ? element.table : element._tag), [
      now
    ])
    assert.deepStrictEqual(replay.end(), [])
  })

  it("leaves out tables that the run doesn't know, and whatever is about copies", () => {
    const then = table([id])
    const nobody = SpoolReplay.make(() => undefined)
    assert.deepStrictEqual(nobody.element(rows(then, [1])), [])
    const replay = SpoolReplay.make(() => then)
    const mark: Element = { _tag: "Watermark", position: 9n, commitTime: undefined }
    assert.deepStrictEqual(replay.element(mark), [mark])
    for (
      const element of [
        { _tag: "SnapshotChunk", table: then, position: 1n, chunk: 0, rows: 0 },
        { _tag: "SnapshotEnd", table: then, position: 1n, chunks: 1, settled: 1n },
        { _tag: "TableLeft", table: then },
        { _tag: "Schema", table: then, sequence: { commit: 1n, ordinal: 0n } }
      ] satisfies ReadonlyArray<Element>
    ) assert.deepStrictEqual(replay.element(element), [])
  })
})
