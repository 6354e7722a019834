/**
 * Parquet files: two readers of different origin find in them what was written, whatever it is and however it came.
 */
import { DuckDBInstance } from "@duckdb/node-api"
import { assert, describe, it } from "@effect/vitest"
import * as Arrow from "apache-arrow"
import * as fc from "fast-check"
import { mkdtempSync, rmSync } from "node:fs"
import { writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Wasm from "parquet-wasm"
import { afterAll } from "vitest"
import { ByteBuffer } from "../src/ByteBuffer.ts"
import { of, ParquetFile } from "../src/ParquetFile.ts"
import * as ParquetReader from "../src/ParquetReader.ts"
import * as ParquetValues from "../src/ParquetValues.ts"
import { Malformed } from "../src/ThriftReader.ts"
import { ThriftStruct } from "../src/ThriftStruct.ts"

type Row = Readonly<Record<string, unknown>>

const folder = mkdtempSync(join(tmpdir(), "parquet-"))
afterAll(() => rmSync(folder, { recursive: true }))
const duckdb = DuckDBInstance.create().then((instance) => instance.connect())
let files = 0

const query = async (content: Uint8Array, sql: (file: string) => string): Promise<ReadonlyArray<Row>> => {
  const path = join(folder, `${files++}.parquet`)
  await writeFile(path, content)
  const reader = await (await duckdb).runAndReadAll(sql(`'${path}'`))
  rmSync(path)
  return reader.getRowObjects()
}

const readers: Readonly<Record<string, (content: Uint8Array) => Promise<ReadonlyArray<unknown>>>> = {
  "parquet-wasm": (content) =>
    Promise.resolve(
      Arrow.tableFromIPC(Wasm.readParquet(content).intoIPCStream()).toArray().map((row: Arrow.StructRow) =>
        row.toJSON()
      )
    ),
  DuckDB: (content) => query(content, (file) => `SELECT * FROM read_parquet(${file})`)
}

const types = {
  text: new Arrow.Utf8(),
  small: new Arrow.Int16(),
  int: new Arrow.Int32(),
  long: new Arrow.Int64(),
  double: new Arrow.Float64()
} satisfies Readonly<Record<string, Arrow.DataType>>

const optional = <A>(value: fc.Arbitrary<A>) =>
  fc.oneof({ weight: 3, arbitrary: value }, { weight: 1, arbitrary: fc.constant(null) })
/** Lengths about those where texts begin to be copied otherwise. */
const longText = fc.tuple(fc.integer({ min: 110, max: 140 }), fc.constantFrom("x", "ü", "𝄞"))
  .map(([length, character]) => character.repeat(length))
const row = fc.record({
  text: optional(fc.oneof(fc.string({ unit: "binary" }), longText)),
  small: optional(fc.oneof(fc.constantFrom(-32768, 32767), fc.integer({ min: -32768, max: 32767 }))),
  int: optional(fc.oneof(fc.constantFrom(-(2 ** 31), 2 ** 31 - 1), fc.integer())),
  long: optional(
    fc.oneof(fc.constantFrom(-(2n ** 63n), 2n ** 63n - 1n), fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }))
  ),
  double: optional(fc.double())
})
type Written = typeof row extends fc.Arbitrary<infer A> ? A : never

const table = (rows: ReadonlyArray<Written>): Arrow.Table => {
  const column = <Name extends keyof Written>(name: Name) => rows.map((one) => one[name])
  return new Arrow.Table({
    text: Arrow.vectorFromArray(column("text"), types.text),
    small: Arrow.vectorFromArray(column("small"), types.small),
    int: Arrow.vectorFromArray(column("int"), types.int),
    long: Arrow.vectorFromArray(column("long"), types.long),
    double: Arrow.vectorFromArray(column("double"), types.double)
  })
}

const tables = fc.array(fc.array(row, { minLength: 1, maxLength: 30 }), { minLength: 1, maxLength: 5 })
const sizes = fc.record({ groupBytes: fc.constantFrom(1, 300, 1 << 20), pageBytes: fc.constantFrom(1, 60, 1 << 20) })

const fileOf = (
  given: ReadonlyArray<Arrow.Table>,
  of: { readonly groupBytes?: number; readonly pageBytes?: number }
) => {
  const file = new ParquetFile(of)
  for (const one of given) file.append(one)
  return { bytes: file.bytes, rows: file.rows, content: file.close() }
}

describe("ParquetFile", () => {
  for (const [name, read] of Object.entries(readers)) {
    it(`is read by ${name} as it was written: any values, pages, row groups and tables`, () =>
      fc.assert(
        fc.asyncProperty(tables, sizes, async (given, sizes) => {
          const { bytes, content, rows } = fileOf(given.map(table), sizes)
          const all = given.flat()
          assert.deepStrictEqual(await read(content), all)
          assert.strictEqual(rows, all.length)
          assert.isBelow(bytes, content.length)
        }),
        { numRuns: 60 }
      ))

    it(`is read by ${name} as it was written: slices that begin and end anywhere`, () =>
      fc.assert(
        fc.asyncProperty(
          fc.array(row, { minLength: 20, maxLength: 60 }),
          fc.nat(9),
          fc.nat(9),
          fc.constantFrom(1, 60, 1 << 20),
          async (rows, from, left, pageBytes) => {
            const to = rows.length - left
            const slice = table(rows).slice(from, to)
            const { content } = fileOf([slice, slice], { pageBytes })
            assert.deepStrictEqual(await read(content), [...rows.slice(from, to), ...rows.slice(from, to)])
          }
        ),
        { numRuns: 40 }
      ))

    it(`is read by ${name} as it was written: more rows and larger values than a page has`, async () => {
      const rows = Array.from({ length: 50_000 }, (_, index): Written => ({
        text: index % 7 === 0
          ? null
          : index % 10_000 === 1
          ? "long".repeat(200_000)
          : `text ${index}`.repeat(index % 5),
        small: index % 30_000,
        int: index % 11 === 0 ? null : index,
        long: BigInt(index) << 33n,
        double: index / 3
      }))
      const { content } = fileOf([table(rows), table(rows.slice(0, 1000))], {})
      assert.deepStrictEqual(await read(content), [...rows, ...rows.slice(0, 1000)])
    })
  }

  it("says what its columns are", async () => {
    const content = of(table([{ text: "a", small: 1, int: 1, long: 1n, double: 1 }]))
    const [, ...columns] = await query(
      content,
      (file) => `SELECT name, type, converted_type, logical_type, repetition_type FROM parquet_schema(${file})`
    )
    assert.deepStrictEqual(columns.map((column) => Object.values(column)), [
      ["text", "BYTE_ARRAY", "UTF8", "StringType()", "OPTIONAL"],
      ["small", "INT32", "INT_16", "IntType(bitWidth=\u0010, isSigned=1)", "OPTIONAL"],
      ["int", "INT32", null, null, "OPTIONAL"],
      ["long", "INT64", null, null, "OPTIONAL"],
      ["double", "DOUBLE", null, null, "OPTIONAL"]
    ])
    assert.deepStrictEqual(
      Arrow.tableFromIPC(Wasm.readParquet(content).intoIPCStream()).schema.fields.map(({ name, type }) => [name, type]),
      Object.entries(types)
    )
  })

  it("has row groups of the size that it is told, and says truly where they are", async () => {
    const rows = Array.from({ length: 200 }, (_, index): Written => ({
      text: Math.sqrt(index).toString(36),
      small: 1,
      int: null,
      long: 1n,
      double: Math.sqrt(index)
    }))
    const parts = Array.from({ length: 10 }, (_, part) => table(rows.slice(part * 20, part * 20 + 20)))
    const { content } = fileOf(parts, { groupBytes: 1000 })
    const chunks = await query(content, (file) => `SELECT * FROM parquet_metadata(${file})`)
    const groups = Map.groupBy(chunks, (chunk) => chunk["row_group_id"])
    assert.isAtLeast(groups.size, 3)
    let at = 4
    for (const columns of groups.values()) {
      let bytes = 0
      for (const column of columns) {
        assert.strictEqual(column["data_page_offset"], BigInt(at))
        at += Number(column["total_compressed_size"])
        bytes += Number(column["total_compressed_size"])
      }
      if (columns !== [...groups.values()].at(-1)) assert.isAtLeast(bytes, 1000)
      assert.isBelow(bytes, 2000)
    }
    assert.strictEqual(
      [...groups.values()].reduce((sum, [first]) => sum + Number(first?.["row_group_num_rows"]), 0),
      200
    )
  })

  it("has columns as the first table has them, of types that it knows", () => {
    const file = new ParquetFile()
    assert.throws(() => file.close(), /without columns/)
    file.append(new Arrow.Table({ a: Arrow.vectorFromArray([1], new Arrow.Int32()) }))
    assert.throws(() => file.append(new Arrow.Table({ a: Arrow.vectorFromArray([1], new Arrow.Int16()) })), /column a/)
    for (const type of [new Arrow.Float32(), new Arrow.Uint32(), new Arrow.Int8(), new Arrow.DateDay()]) {
      assert.throws(() => ParquetValues.typeOf(type), /Arrow type/)
    }
  })
})

describe("ParquetValues", () => {
  it("ends pages where the next value would make them too large", () =>
    fc.assert(
      fc.property(fc.array(row, { minLength: 1, maxLength: 40 }), fc.integer({ min: 1, max: 400 }), (rows, most) => {
        for (const data of table(rows).batches[0]?.data.children ?? []) {
          const type = ParquetValues.typeOf(data.type)
          for (let from = 0; from < rows.length;) {
            const to = ParquetValues.pageEnd(type, data, from, rows.length, most)
            assert.isAbove(to, from)
            assert.isTrue(to === from + 1 || type.bytes(data, from, to) <= most)
            assert.isTrue(to === rows.length || type.bytes(data, from, to + 1) > most)
            from = to
          }
        }
      })
    ))
})

describe("ThriftStruct", () => {
  it("writes numbers of any size and lists of any length", () => {
    const out = new ByteBuffer(1)
    ThriftStruct.write(out, (struct) =>
      struct
        .i32(1, 63)
        .i64(3, 2 ** 40)
        .i32s(4, Array.from({ length: 15 }, () => 1))
        .text(6, "ü")
        .struct(7, () => {}))
    assert.strictEqual(
      Buffer.from(out.view()).toString("hex"),
      `15 7e 26 808080808040 19 f5 0f ${"02".repeat(15)} 28 02 c3bc 1c 00 00`.replaceAll(" ", "")
    )
  })
})

const texts = fc.array(
  fc.record({ a: fc.oneof(fc.string({ unit: "binary" }), fc.constant("\ufeffmarked")), "b c": longText }),
  { minLength: 1, maxLength: 30 }
)
const textTable = (rows: ReadonlyArray<{ readonly a: string; readonly "b c": string }>): Arrow.Table =>
  new Arrow.Table({
    a: Arrow.vectorFromArray(rows.map(({ a }) => a), types.text),
    "b c": Arrow.vectorFromArray(rows.map((row) => row["b c"]), types.text)
  })

describe("ParquetReader", () => {
  it("reads what was written, in one piece or many", () => {
    fc.assert(
      fc.property(fc.array(texts, { minLength: 1, maxLength: 4 }), sizes, (given, sizes) => {
        assert.deepStrictEqual(ParquetReader.read(fileOf(given.map(textTable), sizes).content), given.flat())
      })
    )
  })

  it("reads what parquet-wasm wrote, with which letters were written before", () => {
    fc.assert(
      fc.property(texts, fc.constantFrom(10, 1 << 20), (rows, pageBytes) => {
        const properties = new Wasm.WriterPropertiesBuilder().setCompression(Wasm.Compression.ZSTD)
          .setDictionaryEnabled(false).setStatisticsEnabled(Wasm.EnabledStatistics.None)
          .setDataPageSizeLimit(pageBytes).setWriteBatchSize(3).build()
        const stream = Arrow.tableToIPC(textTable(rows), "stream")
        const content = Wasm.writeParquet(Wasm.Table.fromIPCStream(stream), properties)
        assert.deepStrictEqual(ParquetReader.read(Buffer.from(content)), rows)
      })
    )
  })

  it("refuses what it wouldn't read whole: nulls, numbers, dictionaries, other compressions", () => {
    const numbers = table([{ text: "a", small: 1, int: 1, long: 1n, double: 1 }])
    assert.throws(() => ParquetReader.read(of(numbers)), Malformed, /text/)
    for (let nulls = 1; nulls < 20; nulls++) {
      const values = Array.from({ length: 20 }, (_, index) => index === nulls ? null : "x")
      const content = of(new Arrow.Table({ a: Arrow.vectorFromArray(values, types.text) }))
      assert.throws(() => ParquetReader.read(content), Malformed, /no value/)
    }
    const stream = Arrow.tableToIPC(textTable([{ a: "a", "b c": "b" }, { a: "a", "b c": "b" }]), "stream")
    for (
      const properties of [
        new Wasm.WriterPropertiesBuilder().setCompression(Wasm.Compression.ZSTD),
        new Wasm.WriterPropertiesBuilder().setCompression(Wasm.Compression.SNAPPY).setDictionaryEnabled(false)
      ]
    ) {
      const content = Wasm.writeParquet(Wasm.Table.fromIPCStream(stream), properties.build())
      assert.throws(() => ParquetReader.read(Buffer.from(content)), Malformed, /another way/)
    }
  })

  it("fails on a file that ends early, and comes to an end with whatever is damaged", () => {
    fc.assert(
      fc.property(
        texts,
        fc.array(fc.tuple(fc.nat(), fc.nat(255), fc.boolean()), { minLength: 1, maxLength: 5 }),
        fc.nat(),
        (rows, changes, length) => {
          const content = of(textTable(rows))
          assert.throws(() => ParquetReader.read(content.subarray(0, length % content.length)))
          const end = content.length - 8 - content.readUInt32LE(content.length - 8)
          for (const [at, value, description] of changes) {
            content[description ? end + at % (content.length - end) : at % content.length] = value
          }
          try {
            // The same rows, or others in which a character is another one: without their number nothing is read.
            assert.isArray(ParquetReader.read(content))
          } catch (cause) {
            assert.instanceOf(cause, Error)
          }
        }
      ),
      { numRuns: 1000 }
    )
  })

  it("doesn't follow descriptions that go deeper and deeper, or promise more than there is", () => {
    const described = (description: Uint8Array): Buffer => {
      const length = Buffer.alloc(4)
      length.writeUInt32LE(description.length)
      return Buffer.concat([Buffer.from("PAR1"), description, length, Buffer.from("PAR1")])
    }
    assert.throws(() => ParquetReader.read(described(new Uint8Array(1 << 20).fill(0x1c))), Malformed, /deeply/)
    assert.throws(() => ParquetReader.read(described(new Uint8Array(1 << 20).fill(0x19))), Malformed, /deeply/)
    // A list of 2^34 elements, a text of as many bytes, a number without end.
    for (const hex of ["19fcffffffff3f", "18ffffffff3f", "16ffffffffffffffffffffffffff01"]) {
      assert.throws(() => ParquetReader.read(described(Buffer.from(hex, "hex"))), Malformed)
    }
  })
})
