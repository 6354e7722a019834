/**
 * A column of a Parquet file that grows: pages of its values, compressed as they are made.
 */
import type * as Arrow from "apache-arrow"
import * as Zlib from "node:zlib"
import { ByteBuffer } from "./ByteBuffer.ts"
import type { ColumnChunk } from "./ParquetMetadata.ts"
import { writePageHead } from "./ParquetMetadata.ts"
import type { ParquetType } from "./ParquetValues.ts"
import { pageEnd, writePresence } from "./ParquetValues.ts"

const compression: Zlib.ZstdOptions = {
  // What a page takes up is made in pieces of this size: more calls cost less than the collection of larger ones (measured).
  chunkSize: 32 << 10,
  params: { [Zlib.constants.ZSTD_c_compressionLevel]: 1 }
}

/** The page that is made, and its head: all columns use them, as what becomes of them is copied. */
const page = new ByteBuffer(64 << 10)
const head = new ByteBuffer(64)
/** Room for a huge value is not kept. */
const keptBytes = 1 << 20

export class ParquetColumn {
  readonly name: string
  readonly type: ParquetType
  private pages: Array<Buffer> = []
  private values = 0
  private uncompressedBytes = 0
  /** Bytes of the pages since the last row group. */
  bytes = 0

  constructor(name: string, type: ParquetType) {
    this.name = name
    this.type = type
  }

  /** Adds `rows` of `data` in pages of at most `pageBytes`, unless a single value has more. */
  append(data: Arrow.Data, rows: number, pageBytes: number): void {
    const { type } = this
    for (let from = 0; from < rows;) {
      const to = pageEnd(type, data, from, rows, pageBytes)
      page.length = 0
      writePresence(page, data, from, to)
      page.reserve(type.bytes(data, from, to))
      type.write(page, data, from, to)
      this.add(to - from)
      from = to
    }
    if (page.bytes.length > keptBytes) page.shrink()
  }

  private add(values: number): void {
    const body = Zlib.zstdCompressSync(page.view(), compression)
    head.length = 0
    writePageHead(head, values, body.length, page.length)
    this.pages.push(Buffer.concat([head.view(), body]))
    this.values += values
    this.bytes += head.length + body.length
    this.uncompressedBytes += head.length + page.length
  }

  /** Moves the pages to the end of `parts`, where they begin at `at` in the file. */
  end(parts: Array<Buffer>, at: number): ColumnChunk {
    const { bytes, uncompressedBytes, values } = this
    for (const page of this.pages.splice(0)) parts.push(page)
    this.values = 0
    this.bytes = 0
    this.uncompressedBytes = 0
    return { column: this, at, values, bytes, uncompressedBytes }
  }
}
