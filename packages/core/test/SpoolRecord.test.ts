import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { crc32 } from "node:zlib"
import { ConnectorError } from "../src/ConnectorError.ts"
import type { Element } from "../src/Element.ts"
import type { LogicalType } from "../src/LogicalType.ts"
import * as Sequence from "../src/Sequence.ts"
import * as SpoolRecord from "../src/SpoolRecord.ts"
import type { TableSchema } from "../src/TableSchema.ts"
import { batch, notSent, plain, rawCells, type Row, types } from "./doubles/Tables.ts"

const bytesOf = ({ parts }: SpoolRecord.Encoded): Uint8Array => Uint8Array.from(Buffer.concat(parts))
const payloadOf = (record: SpoolRecord.Encoded): Uint8Array => bytesOf(record).slice(SpoolRecord.frameSize)

const there = (element: Element, tables: ReadonlyArray<TableSchema>, copy?: bigint) =>
  SpoolRecord.decode(payloadOf(SpoolRecord.element(element, 0, copy)), tables)

const position = fc.bigInt({ min: 0n, max: 0xffffffffffffffffn })
const sequence = fc.record({ commit: position, ordinal: position })
const text = fc.string({ unit: "binary", maxLength: 20 })
const type: fc.Arbitrary<LogicalType> = fc.letrec<{ type: LogicalType }>((tie) => ({
  type: fc.oneof(
    { maxDepth: 2 },
    fc.constantFrom(
      ...(["Boolean", "Int16", "Int32", "Int64", "Float32", "Float64", "Binary", "Uuid"] as const).map((_tag) => ({
        _tag
      })),
      ...(["Date", "Time", "Json", "Interval", "Other"] as const).map((_tag) => ({ _tag }))
    ),
    fc.record({
      _tag: fc.constant("Decimal" as const),
      precision: fc.option(fc.nat(1000), { nil: undefined }),
      scale: fc.option(fc.integer({ min: -1000, max: 1000 }), { nil: undefined })
    }),
    fc.record({ _tag: fc.constant("Text" as const), maxLength: fc.option(fc.nat(), { nil: undefined }) }),
    fc.record({ _tag: fc.constant("Timestamp" as const), utc: fc.boolean() }),
    fc.record({ _tag: fc.constant("Array" as const), element: tie("type") })
  )
})).type
const table: fc.Arbitrary<TableSchema> = fc.record({
  table: fc.record({ schema: text, name: text }),
  version: fc.nat(),
  columns: fc.array(
    fc.record({ name: text, type, sourceType: text, nullable: fc.boolean(), id: text }, {
      requiredKeys: ["name", "type", "sourceType", "nullable"]
    }),
    { maxLength: 5 }
  ),
  identity: fc.oneof(
    fc.record({ _tag: fc.constant("Key" as const), columns: fc.array(fc.nat(10), { maxLength: 3 }) }),
    fc.constantFrom({ _tag: "Full" as const }, { _tag: "None" as const })
  ),
  origin: text
}, { requiredKeys: ["table", "version", "columns", "identity"] })

const value = (index: number) => {
  const kinds: ReadonlyArray<fc.Arbitrary<Row["values"][number]>> = [
    fc.boolean(),
    fc.integer({ min: -32768, max: 32767 }),
    fc.integer(),
    fc.bigInt({ min: -0x8000000000000000n, max: 0x7fffffffffffffffn }),
    fc.float(),
    fc.double(),
    fc.string({ unit: "grapheme" }),
    fc.uint8Array({ maxLength: 40 }),
    fc.integer(),
    fc.bigInt({ min: -0x8000000000000000n, max: 0x7fffffffffffffffn })
  ]
  return fc.oneof(kinds[index] ?? fc.constant(null), fc.constantFrom(null, notSent))
}
const rows: fc.Arbitrary<ReadonlyArray<Row>> = fc.array(
  fc.record({
    op: fc.constantFrom(0 as const, 1 as const, 2 as const, 3 as const, 4 as const, 5 as const),
    commit: fc.bigInt({ min: 0n, max: 0x7fffffffffffffffn }),
    ordinal: fc.bigInt({ min: 0n, max: 0x1fffffffffffffn }),
    values: fc.tuple(...types().columns.map((_, index) => value(index)))
  }),
  { minLength: 1, maxLength: 20 }
)

describe("a record of a spool", () => {
  it("gives back every kind of value, null and what was not sent, of changes and of copies", () => {
    const schema = types()
    fc.assert(
      fc.property(rows, fc.boolean(), position, fc.nat(), (rows, copied, position, chunk) => {
        const given = batch(schema, rows)
        const element: Element = copied
          ? { _tag: "SnapshotRows", batch: given, position, chunk }
          : { _tag: "Rows", batch: given }
        const decoded = there(element, [schema])
        if (decoded._tag !== "Element" || !("batch" in decoded.element)) return assert.fail(decoded._tag)
        const { batch: back, ...rest } = decoded.element
        const { batch: _, ...expected } = element
        assert.deepStrictEqual(rest, expected)
        assert.deepStrictEqual(rawCells(back), rawCells(given))
        assert.deepStrictEqual([back.rows, back.first, back.last], [given.rows, given.first, given.last])
        assert.strictEqual(back.table, schema)
      }),
      { numRuns: 200 }
    )
  })

  it("gives back every table's schema", () => {
    fc.assert(fc.property(table, (schema) => {
      const decoded = SpoolRecord.decode(payloadOf(SpoolRecord.tableSchema(schema)), [])
      assert.deepStrictEqual(decoded, { _tag: "Table", schema })
    }))
  })

  it("gives back everything that isn't a batch", () => {
    const schema = plain("a")
    const optional = <A>(of: fc.Arbitrary<A>) => fc.option(of, { nil: undefined })
    const element: fc.Arbitrary<Element> = fc.oneof(
      fc.record({ _tag: fc.constant("Watermark" as const), position, commitTime: optional(fc.bigInt()) }),
      fc.record({ _tag: fc.constant("Schema" as const), table: fc.constant(schema), sequence }),
      fc.record({
        _tag: fc.constant("Truncate" as const),
        table: fc.constant(schema),
        sequence,
        commitTime: fc.bigInt()
      }),
      fc.record({ _tag: fc.constant("Message" as const), sequence, prefix: text, content: fc.uint8Array() }),
      fc.record({
        _tag: fc.constant("SnapshotBegin" as const),
        table: fc.constant(schema),
        position,
        plan: optional(text),
        resumed: fc.boolean(),
        estimatedRows: optional(fc.nat()),
        estimatedBytes: optional(fc.nat())
      }),
      fc.record({
        _tag: fc.constant("SnapshotChunk" as const),
        table: fc.constant(schema),
        position,
        chunk: fc.nat(),
        rows: fc.nat()
      }),
      fc.record({
        _tag: fc.constant("SnapshotEnd" as const),
        table: fc.constant(schema),
        position,
        chunks: fc.nat(),
        settled: position
      }),
      fc.constant({ _tag: "TableLeft" as const, table: schema })
    )
    fc.assert(fc.property(element, (element) => {
      const decoded = there(element, [schema])
      assert.strictEqual(decoded._tag, "Element")
      if (decoded._tag === "Element") assert.deepStrictEqual(decoded.element, element)
    }))
  })

  it("says which copies are void after it", () => {
    const schema = plain("a")
    const error = new ConnectorError({ reason: "Unsupported", plugin: "p", message: "m", hint: "h", table: "public.a" })
    const below = (element: Element, copy?: bigint) => {
      const decoded = there(element, [schema], copy)
      return decoded._tag === "Element" ? decoded.below : assert.fail(decoded._tag)
    }
    const begin = {
      _tag: "SnapshotBegin" as const,
      table: schema,
      position: 70n,
      plan: "plan",
      resumed: false,
      estimatedRows: undefined,
      estimatedBytes: undefined
    }
    assert.strictEqual(below(begin, 5n), 70n)
    assert.strictEqual(below({ ...begin, resumed: true }, 70n), undefined)
    assert.strictEqual(below({ _tag: "TableLeft", table: schema }, 70n), 71n)
    const failed = there({ _tag: "TableFailed", table: schema, error }, [schema], 70n)
    if (failed._tag !== "Element" || failed.element._tag !== "TableFailed") return assert.fail(failed._tag)
    assert.strictEqual(failed.below, 71n)
    assert.deepStrictEqual({ ...failed.element.error }, { ...error })
    assert.strictEqual(below({ _tag: "Watermark", position: 9n, commitTime: undefined }), undefined)
  })

  it("is refused, whatever bytes of it are others or missing", () => {
    const schema = types()
    const rowOf = (ordinal: bigint): Row => ({
      commit: 5n,
      ordinal,
      values: [true, 1, 2, 3n, 4.5, 5.5, "text", Uint8Array.of(1, 2), 6, 7n]
    })
    const elements: ReadonlyArray<SpoolRecord.Encoded> = [
      SpoolRecord.element({ _tag: "Rows", batch: batch(schema, [rowOf(1n), rowOf(2n)]) }, 0, undefined),
      SpoolRecord.element({ _tag: "Schema", table: schema, sequence: Sequence.zero }, 0, undefined),
      SpoolRecord.tableSchema(schema)
    ]
    let refused = 0
    fc.assert(
      fc.property(
        fc.constantFrom(...elements.map(payloadOf)),
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        fc.option(fc.nat()),
        (payload, changes, cut) => {
          const damaged = payload.slice(0, cut === null ? payload.length : cut % payload.length)
          for (const [at, byte] of changes) damaged[at % Math.max(1, damaged.length)] = byte
          try {
            // Whatever is read has the shape of its table, all the same.
            const decoded = SpoolRecord.decode(damaged, [schema])
            if (decoded._tag === "Element" && "batch" in decoded.element) rawCells(decoded.element.batch)
          } catch (error) {
            if (!(error instanceof SpoolRecord.Malformed)) throw error
            refused++
          }
        }
      ),
      { numRuns: 5000 }
    )
    assert.isAbove(refused, 2000)
    assert.throws(() => SpoolRecord.decode(new Uint8Array(0), []), SpoolRecord.Malformed)
    assert.throws(() => SpoolRecord.decode(Uint8Array.of(9), []), SpoolRecord.Malformed)
    assert.throws(
      () => SpoolRecord.decode(payloadOf(elements[0] ?? assert.fail("no record")), []),
      SpoolRecord.Malformed
    )
  })

  it("has the CRC of its payload before it", () => {
    const bytes = bytesOf(SpoolRecord.tableSchema(plain("a")))
    const view = new DataView(bytes.buffer)
    assert.strictEqual(view.getUint32(0, true), bytes.length - SpoolRecord.frameSize)
    assert.strictEqual(view.getUint32(4, true), crc32(bytes.subarray(SpoolRecord.frameSize)))
  })
})
