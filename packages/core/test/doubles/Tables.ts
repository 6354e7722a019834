/**
 * Small tables and batches for tests: a table with one column of every Arrow carrier, rows from plain objects, and back.
 */
import * as Arrow from "apache-arrow"
import * as ChangeBatch from "../../src/ChangeBatch.ts"
import { ChangeBatchBuilder } from "../../src/ChangeBatchBuilder.ts"
import * as ColumnBuilder from "../../src/ColumnBuilder.ts"
import type { LogicalType } from "../../src/LogicalType.ts"
import type { TableSchema } from "../../src/TableSchema.ts"

const column = (name: string, type: LogicalType) => ({ name, type, sourceType: name, nullable: true })

/** One column per kind of Arrow buffer. */
export const types = (version = 1, name = "types"): TableSchema => ({
  table: { schema: "public", name },
  version,
  columns: [
    column("flag", { _tag: "Boolean" }),
    column("small", { _tag: "Int16" }),
    column("number", { _tag: "Int32" }),
    column("big", { _tag: "Int64" }),
    column("real", { _tag: "Float32" }),
    column("double", { _tag: "Float64" }),
    column("text", { _tag: "Text", maxLength: undefined }),
    column("bytes", { _tag: "Binary" }),
    column("day", { _tag: "Date" }),
    column("at", { _tag: "Timestamp", utc: true })
  ],
  identity: { _tag: "Key", columns: [2] }
})

/** A table of an id and a text. */
export const plain = (name: string, version = 1): TableSchema => ({
  table: { schema: "public", name },
  version,
  columns: [column("id", { _tag: "Int32" }), column("note", { _tag: "Text", maxLength: undefined })],
  identity: { _tag: "Key", columns: [0] }
})

/** A value as a test writes it: `notSent` is neither null nor a value. */
export const notSent = Symbol("not sent")
export type Value = boolean | number | bigint | string | Uint8Array | null | typeof notSent

export interface Row {
  readonly op?: ChangeBatch.Operation
  readonly commit: bigint
  readonly ordinal: bigint
  readonly values: ReadonlyArray<Value>
}

const encoder = new TextEncoder()

const appendValue = (builder: ColumnBuilder.ColumnBuilder, value: Exclude<Value, null | typeof notSent>): void => {
  if (builder instanceof ColumnBuilder.BoolColumn) return builder.append(value === true)
  if (builder instanceof ColumnBuilder.Int64Column) {
    const bits = BigInt(value as bigint | number) // tests give integers to integer columns
    return builder.append(Number(BigInt.asIntN(32, bits >> 32n)), Number(BigInt.asIntN(32, bits)))
  }
  if (builder instanceof ColumnBuilder.BytesColumn) {
    const bytes = value instanceof Uint8Array ? value : encoder.encode(String(value))
    return builder.append(bytes, 0, bytes.length)
  }
  builder.append(Number(value))
}

export const appendRow = (builder: ChangeBatchBuilder, row: Row): void => {
  const { commit, ordinal } = row
  const op = row.op ?? ChangeBatch.Operation.Insert
  builder.begin(op, Number(commit >> 32n), Number(commit & 0xffffffffn), Number(ordinal), 0, 1_000_000)
  builder.columns.forEach((column, index) => {
    const value = row.values[index] ?? null
    if (value === notSent) builder.notSent(index)
    else if (value === null) column.appendNull()
    else appendValue(column, value)
  })
}

/** A batch of the given rows. */
export const batch = (table: TableSchema, rows: ReadonlyArray<Row>): ChangeBatch.ChangeBatch => {
  const builder = new ChangeBatchBuilder(table)
  for (const row of rows) appendRow(builder, row)
  return builder.finish()
}

/** Every cell of a batch as comparable text, row by row, metadata columns included; read by Arrow's own accessors. */
export const cells = (batch: ChangeBatch.ChangeBatch): ReadonlyArray<ReadonlyArray<string>> => {
  const vectors = batch.records.schema.fields.map((_, index) => batch.records.getChildAt(index))
  return Array.from({ length: batch.rows }, (_, row) =>
    vectors.map((vector) => {
      const value: unknown = vector?.get(row)
      return value === null
        ? "null"
        : value instanceof Uint8Array
        ? `bytes ${value.join(",")}`
        : `${typeof value} ${value}`
    }))
}

/** The same by raw buffers at offset 0, as a consumer on the hot path reads them. */
export const rawCells = (batch: ChangeBatch.ChangeBatch): ReadonlyArray<ReadonlyArray<string>> => {
  const read = (data: Arrow.Data, row: number): string => {
    if (data.nullCount > 0 && (((data.nullBitmap[row >> 3] ?? 0) >> (row & 7)) & 1) === 0) return "null"
    if (Arrow.DataType.isBool(data.type)) return `${((data.values[row >> 3] ?? 0) >> (row & 7)) & 1}`
    if (Arrow.DataType.isUtf8(data.type) || Arrow.DataType.isBinary(data.type)) {
      const bytes: Uint8Array = data.values
      return [...bytes.subarray(data.valueOffsets[row], data.valueOffsets[row + 1])].join(",")
    }
    return `${data.values[row]}`
  }
  return Array.from({ length: batch.rows }, (_, row) => batch.records.data.children.map((data) => read(data, row)))
}

/** The sequences of a batch as `commit.ordinal`. */
export const sequences = (batch: ChangeBatch.ChangeBatch): ReadonlyArray<string> =>
  Array.from({ length: batch.rows }, (_, row) => {
    const { commit, ordinal } = ChangeBatch.sequenceAt(batch.records, row)
    return `${commit}.${ordinal}`
  })
