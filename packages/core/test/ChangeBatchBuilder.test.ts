import { assert, describe, it } from "@effect/vitest"
import * as Arrow from "apache-arrow"
import * as fc from "fast-check"
import * as ChangeBatch from "../src/ChangeBatch.ts"
import { ChangeBatchBuilder } from "../src/ChangeBatchBuilder.ts"
import type { TableSchema } from "../src/TableSchema.ts"
import type { Row, Value } from "./doubles/Tables.ts"
import { appendRow, batch, cells, notSent, plain, rawCells, types } from "./doubles/Tables.ts"

const unsent = (batch: ChangeBatch.ChangeBatch, row: number): Uint8Array | null | undefined =>
  batch.records.getChild("_unsent")?.get(row)

describe("ChangeBatchBuilder", () => {
  it("writes metadata and columns of each row", () => {
    const one = batch(plain("a"), [
      { op: ChangeBatch.Operation.Insert, commit: 0xffff_ffff_ffffn, ordinal: 1n, values: [1, "one"] },
      { op: ChangeBatch.Operation.Delete, commit: 0xffff_ffff_ffffn, ordinal: 3n, values: [2, null] }
    ])
    assert.strictEqual(one.rows, 2)
    assert.deepStrictEqual(one.first, { commit: 0xffff_ffff_ffffn, ordinal: 1n })
    assert.deepStrictEqual(one.last, { commit: 0xffff_ffff_ffffn, ordinal: 3n })
    assert.deepStrictEqual(
      cells(one).map((row) => row.filter((_, i) => i !== ChangeBatch.MetadataColumns.commitTime)),
      [
        ["number 1", "bigint 281474976710655", "bigint 1", "null", "number 1", "string one"],
        ["number 3", "bigint 281474976710655", "bigint 3", "null", "number 2", "null"]
      ]
    )
    const time = ChangeBatch.child(one.records, ChangeBatch.MetadataColumns.commitTime)
    assert.deepStrictEqual([...time.values], [1_000_000n, 1_000_000n])
  })

  it("gives the rows of a copy their metadata at once, the same as row by row", () => {
    const halves = [0x1234_5678, -2, 0x0006_0000, 7] as const
    const [commitHigh, commitLow, timeHigh, timeLow] = halves
    const batches = [true, false].map((atOnce) => {
      const builder = new ChangeBatchBuilder(plain("a"))
      return [3, 1, 100].map((rows) => {
        for (let row = 0; row < rows; row++) {
          if (!atOnce) builder.begin(ChangeBatch.Operation.Read, commitHigh, commitLow, 0, timeHigh, timeLow)
          builder.columns.forEach((column) => column.appendNull())
        }
        if (atOnce) builder.copied(rows, ...halves)
        return builder.finish()
      })
    })
    const [atOnce = [], oneByOne = []] = batches.map((made) => made.map(cells))
    assert.deepStrictEqual(atOnce.map((rows) => rows.length), [3, 1, 100])
    assert.deepStrictEqual(atOnce, oneByOne)
  })

  it("keeps not sent, null and a value apart, and clears the mask after each row", () => {
    const one = batch(plain("a"), [
      { commit: 1n, ordinal: 1n, values: [1, notSent] },
      { commit: 1n, ordinal: 3n, values: [2, null] },
      { commit: 1n, ordinal: 5n, values: [notSent, "x"] },
      { commit: 1n, ordinal: 7n, values: [notSent, notSent] }
    ])
    assert.deepStrictEqual([0, 1, 2, 3].map((row) => unsent(one, row)), [
      Uint8Array.of(2),
      null,
      Uint8Array.of(1),
      Uint8Array.of(3)
    ])
    assert.deepStrictEqual([0, 1, 2, 3].map((row) => one.records.getChild("note")?.get(row)), [null, null, "x", null])
  })

  it("gives each row its own transaction and mask, in batches of any size", () => {
    const row = fc.record({ commit: fc.bigInt(1n, 3n), unsent: fc.boolean(), ends: fc.integer({ min: 0, max: 20 }) })
    fc.assert(fc.property(fc.array(row, { minLength: 1, maxLength: 200, size: "max" }), (rows) => {
      const builder = new ChangeBatchBuilder(plain("a"))
      const batches: Array<ChangeBatch.ChangeBatch> = []
      rows.forEach(({ commit, ends, unsent }, index) => {
        appendRow(builder, { commit, ordinal: BigInt(index), values: [index, unsent ? notSent : "x"] })
        if (ends === 0 || index === rows.length - 1) batches.push(builder.finish())
      })
      const found = batches.flatMap((one) =>
        Array.from(
          { length: one.rows },
          (_, at) => [one.records.getChild("_commit")?.get(at), unsent(one, at)?.toString()]
        )
      )
      assert.deepStrictEqual(found, rows.map(({ commit, unsent }) => [commit, unsent ? "2" : undefined]))
    }))
  })

  it("has a mask as wide as the table, also beyond eight columns", () => {
    const table = types()
    const values = table.columns.map((_, i) => i === 9 || i === 0 ? notSent : null)
    assert.deepStrictEqual(unsent(batch(table, [{ commit: 1n, ordinal: 1n, values }]), 0), Uint8Array.of(1, 2))
  })

  it("grows over many rows and starts empty after finish, sharing no memory", () => {
    const builder = new ChangeBatchBuilder(plain("a"))
    const fill = (from: number) => {
      for (let i = 0; i < 1000; i++) {
        appendRow(builder, {
          commit: BigInt(from + i),
          ordinal: 1n,
          values: i % 7 === 0 ? [i, notSent] : [from + i, `n${from + i}`]
        })
      }
    }
    fill(1)
    assert.strictEqual(builder.rows, 1000)
    assert.isAbove(builder.bytes, 1000 * 30)
    const first = builder.finish()
    const before = cells(first)
    assert.strictEqual(builder.rows, 0)
    fill(5001)
    const second = builder.finish()
    assert.deepStrictEqual(cells(first), before)
    assert.strictEqual(first.rows, 1000)
    assert.strictEqual(second.first.commit, 5001n)
    assert.strictEqual(second.records.getChild("note")?.get(999), "n6000")
    assert.strictEqual(second.records.getChild("note")?.get(0), null)
    const buffers = (batch: ChangeBatch.ChangeBatch) => batch.records.data.children.map((child) => child.values.buffer)
    for (const buffer of buffers(second)) assert.isFalse(buffers(first).includes(buffer))
  })

  it("keeps batches of any sizes apart, however many come of one builder and however full its buffers were", () => {
    const table = types()
    const size = fc.oneof(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 30, max: 140 }), fc.constant(700))
    fc.assert(
      fc.property(fc.array(fc.tuple(size, fc.nat(6), fc.nat(40)), { minLength: 1, maxLength: 14 }), (sizes) => {
        const builder = new ChangeBatchBuilder(table)
        const made = sizes.map(([size, kind, length], number) => {
          const rows = Array.from({ length: size }, (_, row): Row => {
            const seed = number * 1000 + row
            // All of its values, none of them, or some.
            const values = [
              seed % 3 === 0,
              seed % 30_000,
              -seed,
              BigInt(seed) << 33n,
              seed / 4,
              -seed / 3,
              `${seed}`.repeat(length),
              Uint8Array.of(seed & 255, row & 255).slice(0, seed % 3),
              seed,
              BigInt(seed) << 40n
            ].map((value, column): Value => {
              const left = kind === 0 ? 0 : kind === 1 ? 1 : (seed * 7 + column * 5) % kind
              return left === 1 ? null : left === 2 ? notSent : value
            })
            return { commit: BigInt(number + 1), ordinal: BigInt(row), values }
          })
          for (const row of rows) appendRow(builder, row)
          return { batch: builder.finish(), expected: batch(table, rows) }
        })
        for (const { batch, expected } of made) {
          assert.deepStrictEqual(cells(batch), cells(expected))
          assert.deepStrictEqual(rawCells(batch), rawCells(expected))
          assert.strictEqual(batch.bytes, expected.bytes)
        }
      }),
      { numRuns: 25 }
    )
  })

  it("makes batches in the layout of the table's Arrow schema, which Arrow's IPC carries unchanged", () => {
    const table = types()
    const one = batch(table, [
      {
        commit: 1n,
        ordinal: 1n,
        values: [true, -5, 7, -(1n << 63n), 0.5, 1e300, "grün ✓", Uint8Array.of(0, 255), -1, 5n]
      },
      { commit: 2n, ordinal: 1n, values: [null, null, 8, null, null, null, "", new Uint8Array(), null, null] }
    ])
    assert.deepStrictEqual(one.records.schema.fields.map(({ name }) => name).slice(0, 5), [
      "_op",
      "_commit",
      "_ordinal",
      "_commit_time",
      "_unsent"
    ])
    const [back] = Arrow.tableFromIPC(Arrow.tableToIPC(new Arrow.Table([one.records]))).batches
    assert.isDefined(back)
    assert.deepStrictEqual(cells(ChangeBatch.make(table, back)), cells(one))
  })

  it("refuses to finish a batch whose columns haven't one value per row", () => {
    const missing = new ChangeBatchBuilder(plain("a"))
    missing.begin(ChangeBatch.Operation.Insert, 0, 1, 1, 0, 0)
    missing.columns[0]?.appendNull()
    assert.throws(() => missing.finish(), /note/)
    const twice = new ChangeBatchBuilder(plain("a"))
    twice.begin(ChangeBatch.Operation.Insert, 0, 1, 1, 0, 0)
    twice.columns[0]?.appendNull()
    twice.columns[0]?.appendNull()
    twice.columns[1]?.appendNull()
    assert.throws(() => twice.finish(), /id/)
  })

  it("gives all its batches one schema, which can still be added to", () => {
    const builder = new ChangeBatchBuilder(plain("a"))
    const [first, second] = [1n, 2n].map((commit) => {
      appendRow(builder, { commit, ordinal: 1n, values: [1, "one"] })
      return builder.finish().records
    })
    assert.isDefined(first)
    assert.isDefined(second)
    assert.strictEqual(first.schema, second.schema)
    const more = first.schema.assign([...first.schema.fields, new Arrow.Field("more", new Arrow.Int32(), true)])
    assert.deepStrictEqual(more.names, [...first.schema.names, "more"])
    assert.strictEqual(first.schema.fields.length, 7)
    // For Arrow it is the same as any other of these fields.
    const plainly = new Arrow.RecordBatch(new Arrow.Schema(first.schema.fields), first.data)
    assert.strictEqual(new Arrow.Table([first, plainly]).numRows, 2)
    assert.strictEqual(new Arrow.Table([plainly, first]).numRows, 2)
  })

  it("builds batches of a table without columns", () => {
    const empty: TableSchema = { ...plain("a"), columns: [], identity: { _tag: "None" } }
    assert.strictEqual(batch(empty, [{ commit: 1n, ordinal: 1n, values: [] }]).rows, 1)
  })
})
