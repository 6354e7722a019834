/**
 * Tables of a few columns and batches of their changes, as the sink's tests write them, by the kit's `BatchOf`.
 */
import type * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import type { LogicalType } from "@etl-stream/core/LogicalType"
import type * as Sequence from "@etl-stream/core/Sequence"
import type { Identity, TableSchema } from "@etl-stream/core/TableSchema"
import * as BatchOf from "@etl-stream/testkit/BatchOf"

export { unsent, type Value } from "@etl-stream/testkit/BatchOf"

export interface Row {
  readonly op: ChangeBatch.Operation
  readonly sequence: Sequence.Sequence
  readonly values: ReadonlyArray<BatchOf.Value>
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

export const { commitTime } = BatchOf

/** `timeOf` says when a row's transaction was committed. */
export const batch = (
  schema: TableSchema,
  rows: ReadonlyArray<Row>,
  timeOf: bigint | ((row: Row) => bigint) = commitTime
): ChangeBatch.ChangeBatch =>
  BatchOf.make(
    schema,
    rows.map((row) => ({
      operation: row.op,
      sequence: row.sequence,
      values: row.values,
      commitTime: typeof timeOf === "bigint" ? timeOf : timeOf(row)
    }))
  )
