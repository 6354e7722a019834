/**
 * A Parquet file that grows: Arrow tables of one schema go in, compressed pages gather, and at the end it is one file.
 *
 * Snowflake loads files of 100 to 250 MB (compressed) best; what goes in at a time is much less, so each table becomes pages that are compressed at once, and only these are
 * kept. Pages are encoded plainly (see `ParquetValues`): statistics and dictionaries are of no use to COPY, and cost more than the writing.
 *
 * On orders of 250 bytes (numbers, text, JSON, UUID) a row takes 1.0 microseconds of processor and 62 bytes; on short rows with much repetition 0.1 and 2.5; with what is collected
 * beside it, and where others use the processors, too, up to a half more. Half of that is zstd at its first level (0.54 microseconds a row of orders); the second takes 0.9 and 65 bytes, the third 1.5 and 75, negative ones 0.36 and
 * 125. Of the first with smaller tables (a window of 128 KB, 4,096 hashes) orders take a tenth less time at the same size, but prose, code and logs become 5 to 11 percent larger: who uploads them pays for that. A context for
 * each page takes 12 microseconds of its 700. Compression on Node's thread pool takes two to three times the processor time of that in place. parquet-wasm took three times as long for files of the same size.
 */
import type * as Arrow from "apache-arrow"
import { ByteBuffer } from "./ByteBuffer.ts"
import { ParquetColumn } from "./ParquetColumn.ts"
import type { RowGroup } from "./ParquetMetadata.ts"
import { writeFileEnd } from "./ParquetMetadata.ts"
import * as ParquetValues from "./ParquetValues.ts"

/** A row group ends when it has so many bytes, compressed. */
const rowGroupBytes = 16 << 20
/** A page has at most so many bytes before it is compressed, unless a single value has more. */
const pageBytes = 512 << 10

const magic = Buffer.from("PAR1")

export class ParquetFile {
  private readonly groupBytes: number
  private readonly pageBytes: number
  private columns: ReadonlyArray<ParquetColumn> = []
  private readonly groups: Array<RowGroup> = []
  private readonly parts: Array<Buffer> = [magic]
  /** Bytes of `parts`. */
  private written = magic.length
  /** Rows that are in columns still. */
  private groupRows = 0
  /** Rows so far. */
  rows = 0

  /** An empty file. Row groups and pages of other sizes are for tests. */
  constructor(sizes: { readonly groupBytes?: number; readonly pageBytes?: number } = {}) {
    this.groupBytes = sizes.groupBytes ?? rowGroupBytes
    this.pageBytes = sizes.pageBytes ?? pageBytes
  }

  /** Bytes so far: the file's size but for its end. */
  get bytes(): number {
    return this.columns.reduce((sum, { bytes }) => sum + bytes, this.written)
  }

  /** Writes a table of the same schema as those before. */
  append(table: Arrow.Table): void {
    if (this.columns.length === 0) {
      this.columns = table.schema.fields.map(({ name, type }) => new ParquetColumn(name, ParquetValues.typeOf(type)))
    }
    for (const { data, numRows } of table.batches) {
      this.columns.forEach((column, index) => {
        const child = data.children[index]
        if (child === undefined || ParquetValues.typeOf(child.type) !== column.type) {
          throw new TypeError(`A table without the column ${column.name} of those before`)
        }
        column.append(child, numRows, this.pageBytes)
      })
      this.groupRows += numRows
      this.rows += numRows
      if (this.bytes - this.written >= this.groupBytes) this.endGroup()
    }
  }

  private endGroup(): void {
    const chunks = this.columns.map((column) => {
      const chunk = column.end(this.parts, this.written)
      this.written += chunk.bytes
      return chunk
    })
    this.groups.push({ rows: this.groupRows, chunks })
    this.groupRows = 0
  }

  /** Ends the file and returns it. It must have had a table. */
  close(): Buffer {
    if (this.columns.length === 0) throw new Error("A file without columns was ended")
    if (this.groupRows > 0) this.endGroup()
    const end = new ByteBuffer(1024)
    writeFileEnd(end, this.columns, this.groups)
    const length = Buffer.alloc(4)
    length.writeInt32LE(end.length)
    return Buffer.concat([...this.parts.splice(0), end.view(), length, magic])
  }
}

/** A file of one table. */
export const of = (table: Arrow.Table): Buffer => {
  const file = new ParquetFile()
  file.append(table)
  return file.close()
}
