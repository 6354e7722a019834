/**
 * Batches written as rows, and read as rows: how suites and tests say what they give and what they expect.
 */
import type { ChangeBatch } from "@etl-stream/core/ChangeBatch"
import type { TableSchema } from "@etl-stream/core/TableSchema"

/** What happened to a row, as `ChangeBatch.Operation` names it. */
export type RowOperation = "Read" | "Insert" | "Update" | "Delete" | "KeyChangeOld" | "KeyChangeNew"

/**
 * A value by its column's type. Boolean: `boolean`; Int16, Int32, Float32, Float64 and Date (days since 1970): `number`; Int64, Time and Timestamp
 * (microseconds): `bigint`; Binary: `Uint8Array`; every other type: `string`.
 */
export type Value = boolean | number | bigint | string | Uint8Array | null

export interface Row {
  /** Default: `Insert`. */
  readonly op?: RowOperation
  /** Position of its commit. Default: 1; of rows after the first that of the row before. */
  readonly commit?: bigint
  /** Number within its transaction. Default: one more than that of the row before, 0 for the first and in a new transaction and for `Read`. */
  readonly ordinal?: bigint
  /** Microseconds since 1970-01-01 UTC. Default: 0. */
  readonly commitTime?: bigint
  /** By column name. A column that is missing was not sent. */
  readonly values: Readonly<Record<string, Value>>
}

/** A batch of `rows` (at least one). Throws when a value doesn't fit its column or a name is none of the table's. */
export declare const make: (table: TableSchema, rows: ReadonlyArray<Row>) => ChangeBatch

/** The rows of a batch, each with everything that `Row` says of it. */
export declare const rows: (batch: ChangeBatch) => ReadonlyArray<Required<Row>>
