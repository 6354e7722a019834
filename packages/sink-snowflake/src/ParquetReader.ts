/**
 * Reads Parquet files that hold text in every column of every row, as those of dead letters do: whole, and only what this sink has ever written, which is
 * plain pages of the first version, compressed with zstd. Whatever else a file holds, or what is damaged in it, is `Malformed`.
 */
import * as Zlib from "node:zlib"
import type { Struct } from "./ThriftReader.ts"
import { bytes, list, Malformed, number, structOf, ThriftReader } from "./ThriftReader.ts"

/** A byte order mark is as good a character as others. */
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

const magic = "PAR1"
/** Behind the file's description: its length, and the same as in the beginning. */
const endBytes = 8

const expect = (condition: boolean, what: string): void => {
  if (!condition) throw new Malformed(what)
}

/** Passes over which rows have a value: all must. */
const skipPresence = (body: Buffer, rows: number): number => {
  expect(body.length >= 4, "a page is too short")
  const end = 4 + body.readUInt32LE(0)
  expect(end <= body.length, "a page is too short")
  const reader = new ThriftReader(body, 4, end)
  for (let row = 0; row < rows;) {
    const head = reader.varint()
    expect(head > 1, "a run has no rows")
    if (head % 2 === 0) {
      expect(reader.byte() === 1, "a row has no value")
      row += head / 2
    } else {
      for (let group = 0; group < (head - 1) / 2 && row < rows; group++, row += 8) {
        const all = rows - row >= 8 ? 0xff : (1 << (rows - row)) - 1
        expect((reader.byte() & all) === all, "a row has no value")
      }
    }
  }
  return end
}

const readTexts = (body: Buffer, start: number, rows: number, into: Array<string>): void => {
  let at = start
  for (let row = 0; row < rows; row++) {
    expect(body.length - at >= 4, "a page is too short")
    const end = at + 4 + body.readUInt32LE(at)
    expect(end <= body.length, "a page is too short")
    into.push(decoder.decode(body.subarray(at + 4, end)))
    at = end
  }
}

const readColumn = (content: Buffer, chunk: Struct, name: string, rows: number, optional: boolean): Array<string> => {
  const metadata = structOf(chunk.get(3))
  expect(list(metadata, 3).map((part) => decoder.decode(bytes(part))).join(".") === name, "a column is out of place")
  expect(number(metadata, 4) === 6 && !metadata.has(11), "a column is written in another way")
  const values: Array<string> = []
  let at = number(metadata, 9)
  expect(at >= magic.length && at <= content.length, "a column is beyond the end")
  while (values.length < rows) {
    const reader = new ThriftReader(content, at, content.length)
    const head = reader.struct()
    const data = structOf(head.get(5))
    const count = number(data, 1)
    expect(number(head, 1) === 0 && number(data, 2) === 0, "a page is written in another way")
    expect(count > 0 && count <= rows - values.length, "a page has another number of rows")
    at = reader.at + number(head, 3)
    expect(at >= reader.at && at <= content.length, "a page is beyond the end")
    const length = number(head, 2)
    expect(length >= 4 * count, "a page is too short")
    const body = Zlib.zstdDecompressSync(content.subarray(reader.at, at), { maxOutputLength: length })
    readTexts(body, optional ? skipPresence(body, count) : 0, count, values)
  }
  return values
}

/** The rows of a file, as objects of its columns. */
export const read = (content: Buffer): ReadonlyArray<Readonly<Record<string, string>>> => {
  const end = content.length - endBytes
  expect(end >= magic.length && content.toString("latin1", 0, 4) === magic, "it doesn't begin as such files do")
  expect(content.toString("latin1", end + 4) === magic, "it doesn't end as such files do")
  const length = content.readUInt32LE(end)
  expect(length <= end - magic.length, "its end is too short")
  const file = new ThriftReader(content, end - length, end).struct()
  const [root, ...columns] = list(file, 2).map(structOf)
  expect(number(structOf(root), 5) === columns.length && columns.length > 0, "its columns are nested or missing")
  const names = columns.map((column) => decoder.decode(bytes(column.get(4))))
  const rows: Array<Readonly<Record<string, string>>> = []
  for (const group of list(file, 4).map(structOf)) {
    const count = number(group, 3)
    const chunks = list(group, 1).map(structOf)
    expect(chunks.length === columns.length, "a column is missing")
    const texts = columns.map((column, index) => {
      expect(number(column, 1) === 6 && !column.has(5), "a column holds no text")
      return readColumn(content, structOf(chunks[index]), names[index] ?? "", count, number(column, 3) === 1)
    })
    for (let row = 0; row < count; row++) {
      rows.push(Object.fromEntries(names.map((name, index) => [name, texts[index]?.[row] ?? ""])))
    }
  }
  expect(rows.length === number(file, 3), "it has another number of rows")
  return rows
}
