import { assert, describe, it } from "@effect/vitest"
import * as Arrow from "apache-arrow"
import * as fc from "fast-check"
import * as ColumnBuilder from "../src/ColumnBuilder.ts"
import { arrowType } from "../src/LogicalType.ts"

const encoder = new TextEncoder()

/** Values of finished data by Arrow's own reading. */
const read = (data: Arrow.Data): ReadonlyArray<unknown> => {
  const vector = new Arrow.Vector([data])
  return Array.from({ length: vector.length }, (_, row) => vector.get(row))
}

const halves = (value: bigint): readonly [number, number] => [
  Number(BigInt.asIntN(32, value >> 32n)),
  Number(BigInt.asIntN(32, value))
]

const int32 = () => new ColumnBuilder.NumberColumn(new Arrow.Int32(), (rows) => new Int32Array(rows))

describe("NumberColumn", () => {
  it("keeps values and nulls over any number of rows", () => {
    fc.assert(fc.property(fc.array(fc.option(fc.integer()), { maxLength: 700, size: "max" }), (values) => {
      const column = int32()
      for (const value of values) {
        if (value === null) column.appendNull()
        else column.append(value)
      }
      assert.strictEqual(column.length, values.length)
      assert.strictEqual(column.bytes, values.length * 4)
      const data = column.finish()
      assert.strictEqual(data.nullCount, values.filter((value) => value === null).length)
      assert.deepStrictEqual(read(data), values)
    }))
  })

  it("leaves the bitmap out when nothing is null", () => {
    const column = int32()
    column.append(1)
    const data = column.finish()
    assert.strictEqual(data.nullCount, 0)
    assert.strictEqual(data.nullBitmap?.length ?? 0, 0)
  })

  it("finishes an empty column", () => {
    assert.strictEqual(int32().finish().length, 0)
  })

  it("shares no memory between a finished column and what is appended afterwards", () => {
    const column = int32()
    for (let i = 0; i < 100; i++) {
      if (i % 3 === 0) column.appendNull()
      else column.append(i)
    }
    const first = column.finish()
    const before = read(first)
    for (let i = 0; i < 100; i++) column.append(-i)
    const second = column.finish()
    assert.deepStrictEqual(read(first), before)
    assert.strictEqual(second.nullCount, 0)
    assert.deepStrictEqual(read(second), Array.from({ length: 100 }, (_, i) => -i || 0))
    assert.notStrictEqual(first.values.buffer, second.values.buffer)
  })

  it("starts with nulls as zeros after a reuse", () => {
    const column = int32()
    column.append(7)
    column.finish()
    column.appendNull()
    const data = column.finish()
    assert.deepStrictEqual([...data.values], [0])
    assert.deepStrictEqual(read(data), [null])
  })

  it("carries dates and floats", () => {
    const day = ColumnBuilder.make(arrowType({ _tag: "Date" }))
    const real = ColumnBuilder.make(arrowType({ _tag: "Float32" }))
    assert.isTrue(day instanceof ColumnBuilder.NumberColumn && real instanceof ColumnBuilder.NumberColumn)
    if (!(day instanceof ColumnBuilder.NumberColumn) || !(real instanceof ColumnBuilder.NumberColumn)) return
    for (const value of [0, -719528, 0x7fffffff, -0x80000000]) day.append(value)
    for (const value of [1.5, NaN, Infinity, -0]) real.append(value)
    assert.deepStrictEqual([...day.finish().values], [0, -719528, 0x7fffffff, -0x80000000])
    assert.deepStrictEqual([...real.finish().values], [1.5, NaN, Infinity, -0])
  })
})

describe("Int64Column", () => {
  const extremes = [
    0n,
    1n,
    -1n,
    0xffffffffn,
    0x100000000n,
    -0x100000000n,
    -0x100000001n,
    (1n << 63n) - 1n,
    -(1n << 63n)
  ]

  it("writes integers by their halves, with nulls between", () => {
    const values = fc.array(
      fc.option(fc.oneof(fc.bigInt({ min: -(1n << 63n), max: (1n << 63n) - 1n }), fc.constantFrom(...extremes))),
      {
        maxLength: 300,
        size: "max"
      }
    )
    fc.assert(fc.property(values, (values) => {
      const column = new ColumnBuilder.Int64Column(new Arrow.Int64())
      for (const value of values) {
        if (value === null) column.appendNull()
        else column.append(...halves(value))
      }
      assert.deepStrictEqual(read(column.finish()), values)
    }))
  })

  it("takes halves as unsigned numbers too, and reads unsigned columns above 2^63", () => {
    const column = new ColumnBuilder.Int64Column(new Arrow.Uint64())
    column.append(0xffffffff, 0xfffffffe)
    column.append(0, 0xffffffff)
    assert.deepStrictEqual(read(column.finish()), [0xfffffffffffffffen, 0xffffffffn])
  })

  it("writes integers that a double holds", () => {
    fc.assert(fc.property(fc.maxSafeInteger(), (value) => {
      const column = new ColumnBuilder.Int64Column(new Arrow.Int64())
      column.appendNumber(value)
      assert.deepStrictEqual(read(column.finish()), [BigInt(value)])
    }))
    const column = new ColumnBuilder.Int64Column(new Arrow.Int64())
    for (const value of [2 ** 53, -(2 ** 53), -1, 2 ** 32, -(2 ** 32) - 1]) column.appendNumber(value)
    assert.deepStrictEqual(read(column.finish()), [2n ** 53n, -(2n ** 53n), -1n, 2n ** 32n, -(2n ** 32n) - 1n])
  })

  it("carries times and timestamps as microseconds, and shares no memory after finish", () => {
    const column = ColumnBuilder.make(arrowType({ _tag: "Timestamp", utc: true }))
    assert.isTrue(column instanceof ColumnBuilder.Int64Column)
    if (!(column instanceof ColumnBuilder.Int64Column)) return
    column.append(...halves(-62135596800000000n))
    const first = column.finish()
    column.append(...halves(5n))
    column.finish()
    assert.deepStrictEqual([...first.values], [-62135596800000000n])
  })
})

describe("BoolColumn", () => {
  it("packs booleans and nulls into bits", () => {
    fc.assert(fc.property(fc.array(fc.option(fc.boolean()), { maxLength: 300, size: "max" }), (values) => {
      const column = new ColumnBuilder.BoolColumn()
      for (const value of values) {
        if (value === null) column.appendNull()
        else column.append(value)
      }
      assert.strictEqual(column.bytes, Math.ceil(values.length / 8))
      assert.deepStrictEqual(read(column.finish()), values)
    }))
  })

  it("starts with clear bits after finish", () => {
    const column = new ColumnBuilder.BoolColumn()
    for (let i = 0; i < 20; i++) column.append(true)
    const first = column.finish()
    for (let i = 0; i < 20; i++) column.append(false)
    assert.deepStrictEqual(read(column.finish()), Array.from({ length: 20 }, () => false))
    assert.deepStrictEqual(read(first), Array.from({ length: 20 }, () => true))
  })
})

describe("BytesColumn", () => {
  it("keeps text of any length, empty strings and nulls apart", () => {
    const values = fc.array(fc.option(fc.string({ unit: "grapheme", maxLength: 200, size: "max" })), {
      maxLength: 200,
      size: "max"
    })
    fc.assert(
      fc.property(values, (values) => {
        const column = new ColumnBuilder.BytesColumn(new Arrow.Utf8())
        for (const value of values) {
          if (value === null) column.appendNull()
          else {
            // A decoder appends ranges of a larger buffer.
            const bytes = encoder.encode(`<${value}>`)
            column.append(bytes, 1, bytes.length - 1)
          }
        }
        assert.deepStrictEqual(read(column.finish()), values)
      }),
      { numRuns: 50 }
    )
  })

  it("copies values of every length out of arrays that begin anywhere in their buffers", () => {
    const buffer = Uint8Array.from({ length: 2000 }, (_, i) => (i * 7) & 0xff)
    const sources = [buffer, buffer.subarray(3), buffer.subarray(7, 1500)]
    const column = new ColumnBuilder.BytesColumn(new Arrow.Binary())
    const expected: Array<Uint8Array> = []
    for (let length = 0; length <= 300; length++) {
      for (const source of sources) {
        column.append(source, length, 2 * length)
        expected.push(source.slice(length, 2 * length))
      }
    }
    assert.deepStrictEqual(read(column.finish()), expected)
  })

  it("keeps binary values byte by byte", () => {
    const column = new ColumnBuilder.BytesColumn(new Arrow.Binary())
    const bytes = Uint8Array.from({ length: 256 }, (_, i) => i)
    column.append(bytes, 0, 256)
    column.append(bytes, 5, 5)
    column.appendNull()
    column.append(bytes, 250, 256)
    assert.deepStrictEqual(read(column.finish()), [bytes, new Uint8Array(), null, bytes.subarray(250)])
  })

  it("copies any part of a buffer, up to its last byte, of whatever length and from several buffers in turn", () => {
    const sources = [7, 40, 300].map((length, index) => Uint8Array.from({ length }, (_, at) => at * 7 + index))
    const part = fc.tuple(fc.nat(2), fc.nat(), fc.oneof(fc.nat(12), fc.integer({ min: 120, max: 140 }), fc.nat(300)))
      .map(([index, from, length]) => {
        const source = sources[index] ?? new Uint8Array(0)
        const start = from % (source.length + 1)
        return { source, start, end: Math.min(source.length, start + length) }
      })
    fc.assert(fc.property(fc.array(part, { maxLength: 60 }), fc.array(part, { maxLength: 60 }), (...batches) => {
      const column = new ColumnBuilder.BytesColumn(new Arrow.Binary())
      const datas = batches.map((parts) => {
        for (const { end, source, start } of parts) column.append(source, start, end)
        return column.finish()
      })
      for (const [index, parts] of batches.entries()) {
        assert.deepStrictEqual(
          read(datas[index] ?? assert.fail()),
          parts.map(({ end, source, start }) => source.slice(start, end))
        )
      }
    }))
  })

  it("takes values produced in place, shorter than what was reserved", () => {
    const column = new ColumnBuilder.BytesColumn(new Arrow.Utf8())
    for (let i = 0; i < 100; i++) {
      const text = encoder.encode(`value ${i}`)
      const at = column.reserve(1000)
      column.target.set(text, at)
      column.commit(at + text.length)
    }
    assert.deepStrictEqual(read(column.finish()), Array.from({ length: 100 }, (_, i) => `value ${i}`))
  })

  it("grows for one large value and doesn't stay large for ever", () => {
    const column = new ColumnBuilder.BytesColumn(new Arrow.Utf8())
    const large = new Uint8Array(5_000_000).fill(97)
    column.append(large, 0, large.length)
    assert.strictEqual(column.finish().values.length, 5_000_000)
    assert.isAtMost(column.target.length, 1 << 20)
    column.append(encoder.encode("x"), 0, 1)
    assert.deepStrictEqual(read(column.finish()), ["x"])
  })

  it("shares no memory after finish, offsets begin at 0 again", () => {
    const column = new ColumnBuilder.BytesColumn(new Arrow.Utf8())
    column.append(encoder.encode("first"), 0, 5)
    const first = column.finish()
    column.append(encoder.encode("other"), 0, 5)
    const second = column.finish()
    assert.deepStrictEqual([read(first), read(second)], [["first"], ["other"]])
    assert.strictEqual(second.valueOffsets[0], 0)
  })
})

describe("ColumnBuilder.make", () => {
  it("has a builder for every logical type, whose data is of its Arrow type", () => {
    const types = [
      { _tag: "Boolean" },
      { _tag: "Int16" },
      { _tag: "Int32" },
      { _tag: "Int64" },
      { _tag: "Float32" },
      { _tag: "Float64" },
      { _tag: "Decimal", precision: 38, scale: 2 },
      { _tag: "Text", maxLength: 3 },
      { _tag: "Binary" },
      { _tag: "Uuid" },
      { _tag: "Date" },
      { _tag: "Time" },
      { _tag: "Timestamp", utc: false },
      { _tag: "Timestamp", utc: true },
      { _tag: "Json" },
      { _tag: "Array", element: { _tag: "Int32" } },
      { _tag: "Interval" },
      { _tag: "Other" }
    ] as const
    for (const type of types) {
      const arrow = arrowType(type)
      const column = ColumnBuilder.make(arrow)
      column.appendNull()
      const data = column.finish()
      assert.strictEqual(String(data.type), String(arrow))
      assert.deepStrictEqual(read(data), [null])
    }
  })

  it("refuses a type it doesn't know", () => {
    assert.throws(() => ColumnBuilder.make(new Arrow.Null()), /No column builder/)
  })
})
