/**
 * Change batches for tests, from plain values: the same builders that sources use.
 */
import type * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import * as Builder from "@etl-stream/core/ChangeBatchBuilder"
import * as ColumnBuilder from "@etl-stream/core/ColumnBuilder"
import type { LogicalType } from "@etl-stream/core/LogicalType"
import type * as Sequence from "@etl-stream/core/Sequence"
import type { Identity, TableSchema } from "@etl-stream/core/TableSchema"

/** Marks a value as not sent. */
export const unsent = Symbol("unsent")
export type Value = null | boolean | number | bigint | string | Uint8Array | typeof unsent

export interface Row {
  readonly op: ChangeBatch.Operation
  readonly sequence: Sequence.Sequence
  readonly values: ReadonlyArray<Value>
}

export const table = (
  name: string,
  columns: Readonly<Record<string, LogicalType>>,
  identity: Identity,
  schema = "public",
  version = 1
): TableSchema => ({
  table: { schema, name },
  version,
  columns: Object.entries(columns).map(([column, type]) => ({
    name: column,
    type,
    sourceType: type._tag.toLowerCase(),
    nullable: true
  })),
  identity
})

/** 2026-01-02T03:04:05.678901Z in microseconds. */
export const commitTime = 1_767_323_045_678_901n

const high = (value: bigint): number => Number(BigInt.asIntN(32, value >> 32n))
const low = (value: bigint): number => Number(BigInt.asIntN(32, value))

const append = (column: ColumnBuilder.ColumnBuilder, value: Exclude<Value, null | typeof unsent>): void => {
  if (column instanceof ColumnBuilder.BytesColumn) {
    const bytes = value instanceof Uint8Array ? value : Buffer.from(String(value))
    column.append(bytes, 0, bytes.length)
  } else if (column instanceof ColumnBuilder.BoolColumn) column.append(value === true)
  else if (column instanceof ColumnBuilder.Int64Column) {
    column.append(high(BigInt(value as bigint)), low(BigInt(value as bigint)))
  } else column.append(Number(value))
}

/** `timeOf` says when a row's transaction was committed. */
export const batch = (
  schema: TableSchema,
  rows: ReadonlyArray<Row>,
  timeOf: bigint | ((row: Row) => bigint) = commitTime
): ChangeBatch.ChangeBatch => {
  const builder = new Builder.ChangeBatchBuilder(schema)
  for (const row of rows) {
    const { op, sequence, values } = row
    const time = typeof timeOf === "bigint" ? timeOf : timeOf(row)
    builder.begin(op, high(sequence.commit), low(sequence.commit), Number(sequence.ordinal), high(time), low(time))
    builder.columns.forEach((column, index) => {
      const value = values[index] ?? null
      if (value === unsent) builder.notSent(index)
      else if (value === null) column.appendNull()
      else append(column, value)
    })
  }
  return builder.finish()
}
