/**
 * Batches in shared memory: what is unpacked is what was packed, value by value, whatever part of larger buffers the batch is.
 */
import { assert, describe, it } from "@effect/vitest"
import * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import * as Arrow from "apache-arrow"
import * as fc from "fast-check"
import * as PackedBatch from "../src/PackedBatch.ts"
import { SharedBuffers } from "../src/SharedBuffers.ts"
import * as Batches from "./Batches.ts"
import { batchOf, keyed, values } from "./EncodedRows.ts"

/** All values of all columns as Arrow reads them, without anything of ours; times as they are stored, because Arrow makes numbers of them. */
const read = ({ records }: ChangeBatch.ChangeBatch) =>
  records.schema.fields.map(({ name, type }, index) => {
    const data = ChangeBatch.child(records, index)
    const stored = Arrow.DataType.isTime(type) || Arrow.DataType.isTimestamp(type)
    const vector = new Arrow.Vector([data])
    return {
      name,
      type: String(type),
      values: Array.from(
        { length: data.length },
        (_, row) => !data.getValid(row) ? null : stored ? data.values[row] : vector.get(row)
      )
    }
  })

/** Memory that holds something else already, in a buffer that is used again. */
const dirty = (byte: number) => (bytes: number): SharedArrayBuffer => {
  const memory = new SharedArrayBuffer(bytes + 64)
  new Uint8Array(memory).fill(byte)
  return memory
}

/** The batch with another column in the place of column `index`. */
const replaced = (batch: ChangeBatch.ChangeBatch, index: number, column: Arrow.Data): ChangeBatch.ChangeBatch => {
  const { schema } = batch.records
  const children = batch.records.data.children.map((data, place) => place === index ? column : data)
  const data = Arrow.makeData({ type: new Arrow.Struct(schema.fields), length: batch.rows, nullCount: 0, children })
  return { ...batch, records: new Arrow.RecordBatch(schema, data) }
}

const place = (name: string): number =>
  ChangeBatch.metadataColumns + keyed.columns.findIndex((column) => column.name === name)

describe("PackedBatch", () => {
  it("gives back every value of a batch, of slices, and of slices of slices, in memory that was used before", () => {
    fc.assert(
      fc.property(
        fc.array(values, { minLength: 1, maxLength: 70 }),
        fc.array(fc.tuple(fc.nat(69), fc.nat(69)), { maxLength: 3 }),
        fc.nat(255),
        (rows, cuts, byte) => {
          let batch = batchOf(keyed, rows)
          for (const [a, b] of cuts) {
            const from = a % batch.rows
            const to = from + 1 + b % (batch.rows - from)
            batch = ChangeBatch.make(keyed, batch.records.slice(from, to))
          }
          const packed = structuredClone(PackedBatch.pack(batch, dirty(byte)))
          const unpacked = PackedBatch.unpack(packed)
          assert.deepStrictEqual(read(unpacked), read(batch))
          assert.strictEqual(unpacked.rows, batch.rows)
          assert.deepStrictEqual([unpacked.first, unpacked.last], [batch.first, batch.last])
          assert.deepStrictEqual(
            unpacked.records.data.children.map(({ nullCount }) => nullCount),
            batch.records.data.children.map(({ nullCount }) => nullCount)
          )
        }
      ),
      { numRuns: 300 }
    )
  })

  it("takes a column of nearly 2 GiB for as large as it is", () => {
    const table = Batches.table("wide", { data: { _tag: "Binary" } }, { _tag: "Full" })
    const batch = batchOf(table, [[new Uint8Array(1)]])
    const bytes = 0x7fffffff
    const column = Arrow.makeData({
      type: new Arrow.Binary(),
      length: 1,
      nullCount: 0,
      valueOffsets: Int32Array.of(0, bytes),
      // Memory that nobody writes to.
      data: new Uint8Array(bytes)
    })
    let asked = 0
    assert.throws(() =>
      PackedBatch.pack(replaced(batch, ChangeBatch.metadataColumns, column), (bytes) => {
        asked = bytes
        throw new Error("that is much")
      }), "that is much")
    assert.isAtLeast(asked, bytes)
    assert.isAtMost(asked, bytes + 100)
  })

  it("refuses a column of another type than its table's, which would be read as something else", () => {
    const batch = batchOf(keyed, [[1n, true, 0.5, 0.5, 7]])
    const other = Arrow.makeData({ type: new Arrow.Int32(), length: 1, nullCount: 0, data: Int32Array.of(7) })
    assert.throws(
      () => PackedBatch.pack(replaced(batch, place("small"), other), dirty(0)),
      "The column small of public.keyed came as Int32, not as Int16"
    )
  })
})

describe("SharedBuffers", () => {
  it("gives no buffer to two, none that is too small, and keeps no more than it may", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.boolean(), fc.nat(6 << 20)), { maxLength: 60 }),
        (steps) => {
          const buffers = new SharedBuffers(8 << 20)
          const used: Array<SharedArrayBuffer> = []
          const free = new Set<SharedArrayBuffer>()
          for (const [takes, bytes] of steps) {
            if (takes || used.length === 0) {
              const buffer = buffers.take(bytes)
              assert.isAtLeast(buffer.byteLength, bytes)
              assert.notInclude(used, buffer)
              free.delete(buffer)
              used.push(buffer)
            } else {
              const [buffer] = used.splice(bytes % used.length, 1)
              if (buffer === undefined) return
              buffers.give(buffer)
              free.add(buffer)
            }
          }
          // What comes back now was kept.
          let kept = 0
          for (let found = buffers.take(0); free.has(found); found = buffers.take(0)) kept += found.byteLength
          assert.isAtMost(kept, 8 << 20)
        }
      ),
      { numRuns: 100 }
    )
  })
})
