import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { Operation } from "../src/ChangeBatch.ts"
import * as Column from "../src/Column.ts"
import * as RowView from "../src/RowView.ts"
import { batch, notSent, type Row, types, type Value } from "./doubles/Tables.ts"

const table = types()

const text = fc.string({ unit: "binary", maxLength: 20 }).map((text) => text.toWellFormed())
const values: ReadonlyArray<fc.Arbitrary<Value>> = [
  fc.boolean(),
  fc.integer({ min: -0x8000, max: 0x7fff }),
  fc.integer(),
  fc.bigInt({ min: -(1n << 63n), max: (1n << 63n) - 1n }),
  fc.float(),
  fc.double(),
  fc.oneof(text, fc.constant("\ufeffmarked")),
  fc.uint8Array({ maxLength: 10 }),
  fc.integer(),
  fc.bigInt({ min: -(1n << 63n), max: (1n << 63n) - 1n })
]
const cell = (value: fc.Arbitrary<Value>) =>
  fc.oneof({ weight: 4, arbitrary: value }, { weight: 1, arbitrary: fc.constantFrom<Value>(null, notSent) })
const row: fc.Arbitrary<Row> = fc.record({
  op: fc.constantFrom(...Object.values(Operation)),
  commit: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
  ordinal: fc.nat().map(BigInt),
  values: fc.tuple(...values.map(cell))
})

/** What was written, as it is to be read. */
const read = (value: Value): Column.Value | null | Column.NotSent =>
  value === notSent ? Column.notSent : value as Column.Value | null // the other symbol is gone

describe("RowView", () => {
  it("reads what was built: values, NULL and what was not sent, of every type", () => {
    fc.assert(fc.property(fc.array(row, { minLength: 1, maxLength: 20 }), (rows) => {
      let index = 0
      for (const view of RowView.rows(batch(table, rows))) {
        const expected = rows[index]
        assert.strictEqual(view.index, index++)
        assert.strictEqual(view.operation, expected?.op)
        assert.deepStrictEqual(view.sequence, { commit: expected?.commit, ordinal: expected?.ordinal })
        assert.strictEqual(view.commitTime, 1_000_000n)
        const cells = expected?.values.map(read) ?? []
        const names = table.columns.map(({ name }) => name)
        assert.deepStrictEqual(names.map((name) => view.get(name)), cells)
        assert.deepStrictEqual(names.map((name) => view.isSent(name)), cells.map((value) => value !== Column.notSent))
        assert.deepStrictEqual(Object.values(view.values), cells)
        assert.deepStrictEqual(view.toObject(), Object.fromEntries(names.map((name, at) => [name, cells[at]])))
      }
      assert.strictEqual(index, rows.length)
    }))
  })

  it("is one view for all rows, and gives objects to keep", () => {
    const made = batch(
      table,
      [1, 2, 3].map((id) => ({
        commit: BigInt(id),
        ordinal: 1n,
        values: [true, id, id, BigInt(id), id, id, `text ${id}`, new Uint8Array([id]), id, 0n]
      }))
    )
    const rows = RowView.rows(made)
    assert.strictEqual(new Set(rows).size, 1)
    const objects = [...rows].map(({ values }) => values)
    assert.strictEqual(new Set(objects).size, 1)
    const kept = Array.from(rows, (row) => row.toObject())
    assert.deepStrictEqual(kept.map((row) => row["text"]), ["text 1", "text 2", "text 3"])
    assert.deepStrictEqual(kept.map((row) => row["bytes"]), [1, 2, 3].map((id) => new Uint8Array([id])))
  })

  it("refuses a column that the table hasn't got", () => {
    const [view] = RowView.rows(batch(table, [{ commit: 1n, ordinal: 1n, values: [] }]))
    assert.throws(() => view?.get("nothing"), /public\.types has no column nothing/)
  })
})
