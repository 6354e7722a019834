/**
 * How a Parquet file describes itself: the head of each page, and the end of the file. Fields have the numbers that they have in Parquet's `parquet.thrift`.
 */
import type { ByteBuffer } from "./ByteBuffer.ts"
import type { ParquetType } from "./ParquetValues.ts"
import { ThriftStruct } from "./ThriftStruct.ts"

const Encoding = { plain: 0, hybrid: 3 } as const
const Codec = { zstd: 6 } as const
const Repetition = { optional: 1 } as const
const PageType = { data: 0 } as const

export interface Column {
  readonly name: string
  readonly type: ParquetType
}

/** What a row group has of a column. */
export interface ColumnChunk {
  readonly column: Column
  /** Where its pages begin in the file. */
  readonly at: number
  /** Nulls among them. */
  readonly values: number
  /** With the heads of pages. */
  readonly bytes: number
  readonly uncompressedBytes: number
}

export interface RowGroup {
  readonly rows: number
  readonly chunks: ReadonlyArray<ColumnChunk>
}

/** The head of a data page of the first version; sizes are those of its body. */
export const writePageHead = (out: ByteBuffer, values: number, bytes: number, uncompressedBytes: number): void =>
  ThriftStruct.write(out, (page) =>
    page
      .i32(1, PageType.data)
      .i32(2, uncompressedBytes)
      .i32(3, bytes)
      .struct(5, (data) => data.i32(1, values).i32(2, Encoding.plain).i32(3, Encoding.hybrid).i32(4, Encoding.hybrid)))

const writeColumn = (element: ThriftStruct, { name, type }: Column): void => {
  element.i32(1, type.physical).i32(3, Repetition.optional).text(4, name)
  if (type.converted !== undefined) element.i32(6, type.converted)
  if (type.logical !== undefined) element.struct(10, type.logical)
}

const writeChunk = (struct: ThriftStruct, { at, bytes, column, uncompressedBytes, values }: ColumnChunk): void => {
  struct.i64(2, at).struct(3, (metadata) =>
    metadata
      .i32(1, column.type.physical)
      .i32s(2, [Encoding.plain, Encoding.hybrid])
      .texts(3, [column.name])
      .i32(4, Codec.zstd)
      .i64(5, values)
      .i64(6, uncompressedBytes)
      .i64(7, bytes)
      .i64(9, at))
}

const sum = (chunks: ReadonlyArray<ColumnChunk>, of: (chunk: ColumnChunk) => number): number =>
  chunks.reduce((total, chunk) => total + of(chunk), 0)

/** What comes before the file's last eight bytes. */
export const writeFileEnd = (
  out: ByteBuffer,
  columns: ReadonlyArray<Column>,
  groups: ReadonlyArray<RowGroup>
): void =>
  ThriftStruct.write(out, (file) =>
    file
      .i32(1, 1)
      .structs(2, [undefined, ...columns], (element, column) => {
        // The root comes first.
        if (column === undefined) element.text(4, "schema").i32(5, columns.length)
        else writeColumn(element, column)
      })
      .i64(3, groups.reduce((total, { rows }) => total + rows, 0))
      .structs(4, groups, (group, { chunks, rows }) =>
        group
          .structs(1, chunks, writeChunk)
          .i64(2, sum(chunks, ({ uncompressedBytes }) => uncompressedBytes))
          .i64(3, rows)
          .i64(5, chunks[0]?.at ?? 0)
          .i64(6, sum(chunks, ({ bytes }) => bytes)))
      .text(6, "etl-stream"))
