/**
 * From Arrow columns to DuckDB's data chunks: memory is copied column by column, nothing is made per value.
 *
 * Both formats lay out fixed-width values and validity the same way, so such a column is one copy per chunk. DuckDB takes texts one by one,
 * as bytes: a view of the Arrow buffer for each is the only thing that is made per value here, and no text is decoded.
 */
import {
  BIGINT,
  BLOB,
  BOOLEAN,
  DATE,
  DOUBLE,
  type DuckDBAppender,
  DuckDBDataChunk,
  type DuckDBType,
  DuckDBTypeId,
  FLOAT,
  INTEGER,
  SMALLINT,
  TIME,
  TIMESTAMP,
  TIMESTAMPTZ,
  UBIGINT,
  UTINYINT,
  VARCHAR
} from "@duckdb/node-api"
import duckdb from "@duckdb/node-bindings"
import type * as Arrow from "apache-arrow"

/** DuckDB's vectors hold so many rows, a multiple of 8: so a chunk's validity begins at a whole byte. */
const rowsPerChunk = 2048

const types: Partial<Readonly<Record<DuckDBTypeId, readonly [DuckDBType, width: number]>>> = {
  [DuckDBTypeId.UTINYINT]: [UTINYINT, 1],
  [DuckDBTypeId.SMALLINT]: [SMALLINT, 2],
  [DuckDBTypeId.INTEGER]: [INTEGER, 4],
  [DuckDBTypeId.BIGINT]: [BIGINT, 8],
  [DuckDBTypeId.UBIGINT]: [UBIGINT, 8],
  [DuckDBTypeId.FLOAT]: [FLOAT, 4],
  [DuckDBTypeId.DOUBLE]: [DOUBLE, 8],
  [DuckDBTypeId.DATE]: [DATE, 4],
  [DuckDBTypeId.TIME]: [TIME, 8],
  [DuckDBTypeId.TIMESTAMP]: [TIMESTAMP, 8],
  [DuckDBTypeId.TIMESTAMP_TZ]: [TIMESTAMPTZ, 8],
  [DuckDBTypeId.BOOLEAN]: [BOOLEAN, 1],
  [DuckDBTypeId.VARCHAR]: [VARCHAR, 0],
  [DuckDBTypeId.BLOB]: [BLOB, 0]
}

type Vector = ReturnType<typeof duckdb.data_chunk_get_vector>

/** Writes so many rows from `first` on into a vector. */
type Write = (vector: Vector, first: number, rows: number) => void

const copyBytes = (vector: Vector, source: ArrayBufferView, at: number, bytes: number): void => {
  // Arrow's buffers are ArrayBuffers; the binding doesn't take shared ones.
  duckdb.copy_data_to_vector(vector, 0, source.buffer as ArrayBuffer, source.byteOffset + at, bytes)
}

const validity = ({ nullBitmap, nullCount }: Arrow.Data): Write => {
  if (nullCount === 0) return () => {}
  return (vector, first, rows) => {
    duckdb.vector_ensure_validity_writable(vector)
    duckdb.copy_data_to_vector_validity(
      vector,
      0,
      nullBitmap.buffer as ArrayBuffer, // as in copyBytes
      nullBitmap.byteOffset + (first >> 3),
      (rows + 7) >> 3
    )
  }
}

const fixedWidth = (values: ArrayBufferView, width: number): Write => (vector, first, rows) =>
  copyBytes(vector, values, first * width, rows * width)

/**
 * Dates and timestamps: the sentinel of -infinity is the lowest integer in Arrow, and that plus one in DuckDB. It is looked for in halves of 32 bits, whose
 * sign comes last, so that no BigInt is made.
 */
const temporal = (values: ArrayBufferView, width: number): Write => {
  const words = width / 4
  const halves = new Int32Array(values.buffer, values.byteOffset, values.byteLength / 4)
  const scratch = new Int32Array(rowsPerChunk * words)
  return (vector, first, rows) => {
    scratch.set(halves.subarray(first * words, (first + rows) * words))
    for (let at = words - 1, end = rows * words; at < end; at += words) {
      if (scratch[at] === -0x80000000 && (words === 1 || scratch[at - 1] === 0)) {
        scratch[at - words + 1] = words === 1
          ? -0x7fffffff
          : 1
      }
    }
    copyBytes(vector, scratch, 0, rows * width)
  }
}

const booleans = (bits: Uint8Array): Write => {
  const bytes = new Uint8Array(rowsPerChunk)
  return (vector, first, rows) => {
    for (let row = 0, at = first; row < rows; row++, at++) bytes[row] = ((bits[at >> 3] ?? 0) >> (at & 7)) & 1
    copyBytes(vector, bytes, 0, rows)
  }
}

const texts = (data: Arrow.Data): Write => {
  const { nullBitmap, nullCount } = data
  const values = data.values as Uint8Array // Utf8 and Binary columns are bytes with offsets
  const offsets = data.valueOffsets as Int32Array // the same
  return (vector, first, rows) => {
    for (let row = 0, at = first; row < rows; row++, at++) {
      if (nullCount > 0 && ((nullBitmap[at >> 3] ?? 0) >> (at & 7) & 1) === 0) continue
      duckdb.vector_assign_string_element_len(vector, row, values.subarray(offsets[at], offsets[at + 1]))
    }
  }
}

/** One column on its way into DuckDB. */
export interface Column {
  readonly type: DuckDBType
  readonly write: Write
}

/** An Arrow column, for a DuckDB column of the type `carrier`. */
export const column = (data: Arrow.Data, carrier: DuckDBTypeId): Column => {
  const [type, width] = types[carrier] ?? [VARCHAR, 0]
  const values = data.values as ArrayBufferView // every type that is carried has values
  const write = carrier === DuckDBTypeId.BOOLEAN
    ? booleans(data.values as Uint8Array) // Bool columns are bits
    : width === 0
    ? texts(data)
    : carrier === DuckDBTypeId.DATE || carrier === DuckDBTypeId.TIMESTAMP || carrier === DuckDBTypeId.TIMESTAMP_TZ
    ? temporal(values, width)
    : fixedWidth(values, width)
  const valid = validity(data)
  return {
    type,
    write: (vector, first, rows) => {
      write(vector, first, rows)
      valid(vector, first, rows)
    }
  }
}

/** The numbers of the rows, from `start`. */
export const rowNumbers = (start: number): Column => {
  const halves = new Uint32Array(rowsPerChunk * 2)
  return {
    type: BIGINT,
    write: (vector, first, rows) => {
      for (let row = 0; row < rows; row++) {
        const number = start + first + row
        halves[row * 2] = number
        halves[row * 2 + 1] = Math.floor(number / 0x1_0000_0000)
      }
      copyBytes(vector, halves, 0, rows * 8)
    }
  }
}

/** Appends so many rows of columns to the table that the appender is for. */
export const append = (appender: DuckDBAppender, columns: ReadonlyArray<Column>, rows: number): void => {
  const chunk = DuckDBDataChunk.create(columns.map(({ type }) => type))
  for (let first = 0; first < rows; first += rowsPerChunk) {
    const count = Math.min(rowsPerChunk, rows - first)
    chunk.reset()
    columns.forEach(({ write }, index) => write(duckdb.data_chunk_get_vector(chunk.chunk, index), first, count))
    chunk.rowCount = count
    appender.appendDataChunk(chunk)
  }
  appender.flushSync()
}
