/**
 * Change batches from plain values, by the builder that sources use: for tests, not for speed. `RowBatch` takes rows by the names of their columns, and is stricter.
 */
import type * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import { ChangeBatchBuilder } from "@etl-stream/core/ChangeBatchBuilder"
import * as ColumnBuilder from "@etl-stream/core/ColumnBuilder"
import type * as Sequence from "@etl-stream/core/Sequence"
import type { TableSchema } from "@etl-stream/core/TableSchema"

/** Stands for a value that was not sent. */
export const unsent: unique symbol = Symbol("not sent")

/** A value of a column, in the form that its Arrow carrier has: text for decimals and the like, days for dates, microseconds for times. */
export type Value = boolean | number | bigint | string | Uint8Array | null | typeof unsent

export interface Row {
  readonly operation: ChangeBatch.Operation
  readonly sequence: Sequence.Sequence
  /** Microseconds since 1970-01-01 UTC. Default: `commitTime`. */
  readonly commitTime?: bigint
  /** In the order of the table's columns. */
  readonly values: ReadonlyArray<Value>
}

/** 2026-01-02T03:04:05.678901Z in microseconds: when rows were committed that don't say when. */
export const commitTime = 1_767_323_045_678_901n

const high = (value: bigint): number => Number(BigInt.asIntN(32, value >> 32n))
const low = (value: bigint): number => Number(BigInt.asIntN(32, value))

const append = (column: ColumnBuilder.ColumnBuilder, value: Exclude<Value, null | typeof unsent>): void => {
  if (column instanceof ColumnBuilder.BytesColumn) {
    const bytes = value instanceof Uint8Array ? value : Buffer.from(String(value))
    column.append(bytes, 0, bytes.length)
  } else if (column instanceof ColumnBuilder.BoolColumn) column.append(value === true)
  else if (column instanceof ColumnBuilder.Int64Column) {
    const bits = BigInt(value as bigint | number) // columns of 64 bits take whole numbers
    column.append(high(bits), low(bits))
  } else column.append(Number(value))
}

/** A batch of the rows, which are in ascending order of their sequences. */
export const make = (table: TableSchema, rows: ReadonlyArray<Row>): ChangeBatch.ChangeBatch => {
  const builder = new ChangeBatchBuilder(table)
  for (const { commitTime: time = commitTime, operation, sequence, values } of rows) {
    const { commit, ordinal } = sequence
    builder.begin(operation, high(commit), low(commit), Number(ordinal), high(time), low(time))
    builder.columns.forEach((column, index) => {
      const value = values[index] ?? null
      if (value === unsent) builder.notSent(index)
      else if (value === null) column.appendNull()
      else append(column, value)
    })
  }
  return builder.finish()
}
