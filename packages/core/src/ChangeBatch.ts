/**
 * Changes of one table at one schema version, as an Arrow `RecordBatch`.
 *
 * The batch's first columns are metadata (`MetadataColumns`), then come the table's own columns in schema order. Rows are
 * in ascending order of their sequence. "Not sent" (an unchanged TOASTed value that the source didn't transmit), NULL
 * and a value are three different things: a value that was not sent is null in its column and has its bit set in
 * `_unsent`.
 *
 * What transforms and sinks may assume of the raw buffers (the engine makes it so): every column's `offset` is 0 and its first
 * value offset is 0, so row `i` is bit `i` of the bitmaps and element `i` of the typed arrays. `values`, `valueOffsets` and
 * `nullBitmap` may be longer than the rows need and may be views into a larger buffer: read them as typed arrays, not
 * through `.buffer`. When `nullCount` is 0, `nullBitmap` may be absent or empty and must not be read. Batches are
 * immutable: columns may be shared between batches, never written.
 */
import type * as Arrow from "apache-arrow"
import { Field, Schema } from "apache-arrow/schema"
import { Binary, TimestampMicrosecond, Uint64, Uint8 } from "apache-arrow/type"
import { arrowType } from "./LogicalType.ts"
import * as Sequence from "./Sequence.ts"
import { tableId, type TableSchema } from "./TableSchema.ts"

/**
 * What happened to a row (column `_op`).
 *
 * A change of key comes as two rows with adjacent ordinals, first `KeyChangeOld` (the old identity; for tables without
 * a key the whole old row), then `KeyChangeNew` (the new row; values not sent are those of the old identity's row).
 * An update of a table without a key is always such a pair. `Read` rows come from a snapshot.
 */
export const Operation = { Read: 0, Insert: 1, Update: 2, Delete: 3, KeyChangeOld: 4, KeyChangeNew: 5 } as const
export type Operation = typeof Operation[keyof typeof Operation]

/** Number of metadata columns before the table's own. */
export const metadataColumns = 5

/**
 * `_op` uint8, `_commit` uint64 and `_ordinal` uint64 (together the sequence), `_commit_time` timestamp in microseconds
 * UTC, `_unsent` binary: a bitmask (bit `i % 8` of byte `i / 8` = column `i` was not sent), null when all columns were
 * sent.
 */
export const MetadataColumns = {
  op: 0,
  commit: 1,
  ordinal: 2,
  commitTime: 3,
  unsent: 4
} as const

/** Changes (or snapshot rows) of one table. `bytes` is the size of the Arrow buffers. */
export interface ChangeBatch {
  readonly table: TableSchema
  readonly records: Arrow.RecordBatch
  readonly rows: number
  readonly bytes: number
  readonly first: Sequence.Sequence
  readonly last: Sequence.Sequence
}

/**
 * A schema that needs no copy of itself. `RecordBatch` assigns each batch's schema the fields that it has already, for which Arrow compares all names with all names and copies
 * every field.
 */
class BatchSchema extends Schema {
  override assign<R extends Arrow.TypeMap>(
    ...args: ReadonlyArray<Arrow.Schema<R> | Arrow.Field | ReadonlyArray<Arrow.Field>>
  ): Arrow.Schema<R> {
    const [fields] = args
    const isSame = Array.isArray(fields) && fields.length === this.fields.length &&
      fields.every((field, index) => field === this.fields[index])
    return isSame ? this : super.assign(...(args as ReadonlyArray<Arrow.Field>)) // it takes all three
  }
}

// Arrow takes two schemas for different when the second isn't made by the constructor of the first.
Object.defineProperty(BatchSchema.prototype, "constructor", { value: Schema })

/** The Arrow schema of a table's batches: metadata columns, then the table's columns. */
export const arrowSchema = (table: TableSchema): Arrow.Schema =>
  new BatchSchema([
    new Field("_op", new Uint8(), false),
    new Field("_commit", new Uint64(), false),
    new Field("_ordinal", new Uint64(), false),
    new Field("_commit_time", new TimestampMicrosecond("UTC"), false),
    new Field("_unsent", new Binary(), true),
    ...table.columns.map((column) => new Field(column.name, arrowType(column.type), true))
  ])

/** What is wrong with the columns of a batch, whose buffers would be read as something else; undefined: they have the layout of its table. */
export const misfit = ({ records, table }: ChangeBatch): string | undefined => {
  const { fields } = arrowSchema(table)
  const { children } = records.data
  const name = tableId(table.table)
  for (const [index, field] of fields.entries()) {
    const data = children[index]
    if (data === undefined) return `The column ${field.name} of ${name} is missing`
    if (data.typeId !== field.typeId || data.ArrayType !== field.type.ArrayType) {
      return `The column ${field.name} of ${name} came as ${data.type}, not as ${field.type}`
    }
  }
  return children.length === fields.length ? undefined : `${name} has more columns than its schema`
}

/** The raw Arrow data of column `index` of `records` (metadata columns included). */
export const child = (records: Arrow.RecordBatch, index: number): Arrow.Data => {
  const data = records.data.children[index]
  if (data === undefined) throw new RangeError(`The batch has no column ${index}`)
  return data
}

/** Sequence of row `row`. Allocates: for the ends of a batch, not for its rows. */
export const sequenceAt = (records: Arrow.RecordBatch, row: number): Sequence.Sequence => {
  const commit = child(records, MetadataColumns.commit).values as BigUint64Array // Uint64 columns are built over BigUint64Array
  const ordinal = child(records, MetadataColumns.ordinal).values as BigUint64Array // the same
  return Sequence.make(commit[row] ?? 0n, ordinal[row] ?? 0n)
}

const byteLength = (data: Arrow.Data): number =>
  (data.values?.byteLength ?? 0) + (data.valueOffsets?.byteLength ?? 0) + (data.nullBitmap?.byteLength ?? 0) +
  data.children.reduce((sum, inner) => sum + byteLength(inner), 0)

/** A batch over finished Arrow buffers; `records` must have the layout of `arrowSchema(table)` and at least one row. */
export const make = (
  table: TableSchema,
  records: Arrow.RecordBatch,
  bytes = byteLength(records.data)
): ChangeBatch => ({
  table,
  records,
  rows: records.numRows,
  bytes,
  first: sequenceAt(records, 0),
  last: sequenceAt(records, records.numRows - 1)
})
