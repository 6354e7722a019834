import { assert, describe, it } from "@effect/vitest"
import * as Arrow from "apache-arrow"
import * as fc from "fast-check"
import { ArrowBatcher, barrierFootprint } from "../src/ArrowBatcher.ts"
import * as BatchConcat from "../src/BatchConcat.ts"
import * as BatchSlice from "../src/BatchSlice.ts"
import * as ChangeBatch from "../src/ChangeBatch.ts"
import type { Rows, SnapshotRows, Truncate } from "../src/Element.ts"
import * as Sequence from "../src/Sequence.ts"
import { batch, cells, notSent, plain, rawCells, type Row, sequences, types, type Value } from "./doubles/Tables.ts"

const optional = (value: fc.Arbitrary<Value>): fc.Arbitrary<Value> =>
  fc.oneof({ weight: 6, arbitrary: value }, { weight: 1, arbitrary: fc.constant(null) }, {
    weight: 1,
    arbitrary: fc.constant<Value>(notSent)
  })
const filled = fc.tuple(
  fc.boolean(),
  fc.integer({ min: -32768, max: 32767 }),
  fc.integer({ min: -0x80000000, max: 0x7fffffff }),
  fc.bigInt({ min: -(1n << 63n), max: (1n << 63n) - 1n }),
  fc.float({ noNaN: true }),
  fc.double({ noNaN: true }),
  fc.string({ unit: "grapheme", maxLength: 40 }),
  fc.uint8Array({ maxLength: 40 }),
  fc.integer({ min: -700000, max: 3000000 }),
  fc.bigInt({ min: -62135596800000000n, max: 253402300799000000n })
)
const values: fc.Arbitrary<ReadonlyArray<Value>> = fc.oneof(
  // Batches without any null have no bitmap.
  filled as fc.Arbitrary<ReadonlyArray<Value>>, // a tuple is an array
  fc.tuple(
    optional(fc.boolean()),
    optional(fc.integer({ min: -32768, max: 32767 })),
    optional(fc.integer({ min: -0x80000000, max: 0x7fffffff })),
    optional(fc.bigInt({ min: -(1n << 63n), max: (1n << 63n) - 1n })),
    optional(fc.float({ noNaN: true })),
    optional(fc.double({ noNaN: true })),
    optional(fc.string({ unit: "grapheme", maxLength: 40 })),
    optional(fc.uint8Array({ maxLength: 40 })),
    optional(fc.integer({ min: -700000, max: 3000000 })),
    optional(fc.bigInt({ min: -62135596800000000n, max: 253402300799000000n }))
  )
)
const groups = fc.array(fc.array(values, { minLength: 1, maxLength: 40 }), { minLength: 1, maxLength: 6 })

/** Rows numbered by their place over all groups: two per commit. */
const numbered = (groups: ReadonlyArray<ReadonlyArray<ReadonlyArray<Value>>>): ReadonlyArray<ReadonlyArray<Row>> => {
  let n = 0
  return groups.map((group) =>
    group.map((values) => {
      const row = { commit: BigInt(Math.floor(n / 2) + 1), ordinal: BigInt(n % 2), values }
      n++
      return row
    })
  )
}

const rows = (name: string, from: number, n: number, note = "x"): Rows => ({
  _tag: "Rows",
  batch: batch(
    plain(name),
    Array.from({ length: n }, (_, i) => ({ commit: BigInt(from + i), ordinal: 1n, values: [i, note] }))
  )
})
const truncate = (commit: bigint): Truncate => ({
  _tag: "Truncate",
  table: plain("a"),
  sequence: Sequence.make(commit, 1n),
  commitTime: 0n
})
const limits = { rows: 1000, bytes: 1 << 20, every: 1000 }
const taken = (batcher: ArrowBatcher) => {
  const element = batcher.take()?.element
  return element === undefined ? undefined : "batch" in element ? sequences(element.batch).length : element._tag
}

describe("BatchConcat", () => {
  it("joins batches to what one batch of all rows is, cell by cell, by accessors and by raw buffers", () => {
    fc.assert(
      fc.property(groups, (groups) => {
        const table = types()
        const parts = numbered(groups)
        const joined = BatchConcat.concat(parts.map((part) => batch(table, part)))
        const whole = batch(table, parts.flat())
        assert.deepStrictEqual(cells(joined), cells(whole))
        assert.deepStrictEqual(rawCells(joined), rawCells(whole))
        assert.deepStrictEqual([joined.first, joined.last, joined.rows], [whole.first, whole.last, whole.rows])
      }),
      { numRuns: 60 }
    )
  })

  it("joins batches that are Arrow slices with an offset", () => {
    fc.assert(
      fc.property(groups, fc.nat(30), (groups, cut) => {
        const table = types()
        const parts = numbered(groups)
        const sliced = parts.map((part) => {
          const from = Math.min(cut, part.length - 1)
          return { from, batch: ChangeBatch.make(table, batch(table, part).records.slice(from)) }
        })
        const joined = BatchConcat.concat([...sliced.map(({ batch }) => batch), batch(table, parts[0] ?? [])])
        const whole = batch(table, [...parts.flatMap((part, i) => part.slice(sliced[i]?.from)), ...(parts[0] ?? [])])
        assert.deepStrictEqual(cells(joined), cells(whole))
        assert.deepStrictEqual(rawCells(joined), rawCells(whole))
      }),
      { numRuns: 40 }
    )
  })

  it("returns a single batch untouched", () => {
    const { batch } = rows("a", 1, 3)
    assert.strictEqual(BatchConcat.concat([batch]), batch)
  })

  it("refuses columns of a type that the contract doesn't have", () => {
    const list = Arrow.vectorFromArray([[1], [2]], new Arrow.List(new Arrow.Field("item", new Arrow.Int32())))
    const strange = batch(plain("a"), [{ commit: 1n, ordinal: 0n, values: [1, "x"] }])
    const schema = new Arrow.Schema([...strange.records.schema.fields, new Arrow.Field("list", list.type)])
    const data = Arrow.makeData({
      type: new Arrow.Struct(schema.fields),
      length: 1,
      nullCount: 0,
      children: [...strange.records.data.children, list.data[0] as Arrow.Data] // made above
    })
    const odd = ChangeBatch.make(strange.table, new Arrow.RecordBatch(schema, data))
    assert.throws(() => BatchConcat.concat([odd, odd]), /can't be joined/)
  })

  it("counts the buffers that a small batch really keeps", () => {
    const { batch } = rows("a", 1, 1)
    assert.isAbove(BatchConcat.footprint(batch), 20 * batch.bytes)
    const joined = BatchConcat.concat([batch, rows("a", 2, 1).batch])
    assert.isBelow(BatchConcat.footprint(joined), 1.5 * BatchConcat.footprint(batch))
  })
})

describe("BatchSlice", () => {
  it("keeps exactly the rows after a sequence, compact and with their unsent masks", () => {
    fc.assert(
      fc.property(
        groups,
        fc.bigInt({ min: 0n, max: 60n }),
        fc.bigInt({ min: 0n, max: 2n }),
        (groups, commit, ordinal) => {
          const table = types()
          const all = numbered(groups).flat()
          const to = Sequence.make(commit, ordinal)
          const left = all.filter((row) => Sequence.compare(Sequence.make(row.commit, row.ordinal), to) > 0)
          const slice = BatchSlice.after(batch(table, all), to)
          if (left.length === 0) return assert.isUndefined(slice)
          assert.isDefined(slice)
          assert.deepStrictEqual(cells(slice), cells(batch(table, left)))
          assert.deepStrictEqual(rawCells(slice), rawCells(batch(table, left)))
          assert.isTrue(slice.records.data.children.every((child) => child.offset === 0))
        }
      ),
      { numRuns: 60 }
    )
  })

  it("returns the batch itself when nothing of it is held already", () => {
    const { batch } = rows("a", 5, 3)
    assert.strictEqual(BatchSlice.after(batch, undefined), batch)
    assert.strictEqual(BatchSlice.after(batch, Sequence.make(4n, 99n)), batch)
    assert.isUndefined(BatchSlice.after(batch, Sequence.make(7n, 1n)))
  })

  it("compares positions above 2^63 as unsigned", () => {
    const high = 0xfffffffffffffff0n
    const { batch: one } = {
      batch: batch(plain("a"), [
        { commit: 5n, ordinal: 1n, values: [1, "x"] },
        { commit: high, ordinal: 1n, values: [2, "y"] }
      ])
    }
    assert.strictEqual(BatchSlice.rowsUpTo(one, Sequence.make(high - 1n, 0n)), 1)
    assert.strictEqual(one.last.commit, high)
  })
})

describe("ArrowBatcher", () => {
  it("joins what comes within the time and gives it out when it is due", () => {
    const batcher = new ArrowBatcher(limits)
    assert.isUndefined(batcher.dueAt())
    batcher.append(rows("a", 1, 2), 10, 5000)
    batcher.append(rows("a", 3, 3), 10, 5500)
    assert.strictEqual(batcher.dueAt(), 6000)
    const element = batcher.take()?.element
    assert.isTrue(element?._tag === "Rows")
    assert.deepStrictEqual(element?._tag === "Rows" && sequences(element.batch), ["1.1", "2.1", "3.1", "4.1", "5.1"])
    assert.isUndefined(batcher.take())
  })

  it("is ready as soon as the rows or bytes of a batch are reached, and cuts before they are passed", () => {
    const batcher = new ArrowBatcher({ ...limits, rows: 5 })
    batcher.append(rows("a", 1, 3), 0, 0)
    batcher.append(rows("a", 4, 2), 0, 0)
    assert.strictEqual(batcher.dueAt(), 0)
    batcher.append(rows("a", 6, 4), 0, 0)
    batcher.append(rows("a", 10, 4), 0, 0)
    assert.deepStrictEqual([taken(batcher), taken(batcher), taken(batcher)], [5, 4, 4])

    const small = new ArrowBatcher({ ...limits, bytes: 1000 })
    small.append(rows("a", 1, 1, "y".repeat(600)), 0, 0)
    assert.strictEqual(small.dueAt(), 1000)
    small.append(rows("a", 2, 1, "y".repeat(600)), 0, 0)
    assert.strictEqual(small.dueAt(), 0)
    assert.deepStrictEqual([taken(small), taken(small)], [1, 1])
  })

  it("passes a batch larger than the limits untouched", () => {
    const batcher = new ArrowBatcher({ ...limits, rows: 2 })
    const large = rows("a", 1, 9)
    batcher.append(large, 77, 0)
    assert.strictEqual(batcher.dueAt(), 0)
    assert.deepStrictEqual(batcher.take(), { element: large, held: 77, received: undefined })
  })

  it("lets barriers flush and keeps the order", () => {
    const batcher = new ArrowBatcher(limits)
    batcher.append(rows("a", 1, 2), 0, 0)
    batcher.append(truncate(3n), barrierFootprint, 0)
    batcher.append(rows("a", 4, 1), 0, 0)
    assert.strictEqual(batcher.dueAt(), 0)
    assert.deepStrictEqual([taken(batcher), taken(batcher)], [2, "Truncate"])
    assert.strictEqual(batcher.dueAt(), 1000)
    batcher.flush()
    assert.strictEqual(batcher.dueAt(), 0)
  })

  it("joins neither schema versions nor chunks of a copy nor snapshot rows and changes", () => {
    const batcher = new ArrowBatcher(limits)
    const snapshot = (chunk: number): SnapshotRows => ({
      ...rows("a", 1, 1),
      _tag: "SnapshotRows",
      position: 1n,
      chunk
    })
    const newer = batch(plain("a", 2), [{ commit: 9n, ordinal: 1n, values: [1, "z"] }])
    batcher.append(snapshot(3), 0, 0)
    batcher.append(snapshot(3), 0, 0)
    batcher.append(snapshot(4), 0, 0)
    batcher.append(rows("a", 2, 1), 0, 0)
    batcher.append({ _tag: "Rows", batch: newer }, 0, 0)
    const first = batcher.take()?.element
    assert.isTrue(first?._tag === "SnapshotRows" && first.chunk === 3 && first.batch.rows === 2)
    assert.deepStrictEqual([taken(batcher), taken(batcher), taken(batcher), taken(batcher)], [1, 1, 1, undefined])
  })

  it("joins many tiny batches early, so that what they hold stays small, and accounts for it", () => {
    let change = 0
    const batcher = new ArrowBatcher({ ...limits, rows: 100_000 }, (bytes) => {
      change += bytes
    })
    let held = 0
    for (let i = 0; i < 2000; i++) {
      const element = rows("a", i, 1)
      const footprint = BatchConcat.footprint(element.batch)
      held += footprint
      batcher.append(element, footprint, 0)
    }
    assert.isBelow(held + change, held / 10)
    const all = batcher.take()
    assert.strictEqual(all?.held, held + change)
    assert.strictEqual(all?.element._tag === "Rows" ? all.element.batch.rows : 0, 2000)
    assert.deepStrictEqual(
      all?.element._tag === "Rows" ? sequences(all.element.batch) : [],
      Array.from({ length: 2000 }, (_, i) => `${i}.1`)
    )
  })
})
