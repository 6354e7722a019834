/**
 * Elements for tests of the sink, as an engine would give them: rows written as objects.
 */
import type { ChangeBatch, Operation } from "@etl-stream/core/ChangeBatch"
import { ChangeBatchBuilder } from "@etl-stream/core/ChangeBatchBuilder"
import { BoolColumn, BytesColumn, Int64Column } from "@etl-stream/core/ColumnBuilder"
import type { LogicalType } from "@etl-stream/core/LogicalType"
import type { Identity, TableSchema } from "@etl-stream/core/TableSchema"

/** Text for columns that Arrow carries as text or bytes; numbers, BigInts and booleans for the others. `undefined`: not sent. */
export type Value = string | number | bigint | boolean | null | undefined

export const table = (
  name: string,
  columns: Readonly<Record<string, LogicalType>>,
  identity: Identity = { _tag: "Key", columns: [0] },
  version = 1
): TableSchema => ({
  table: { schema: "public", name },
  version,
  identity,
  columns: Object.entries(columns).map(([name, type]) => ({ name, type, sourceType: type._tag, nullable: true }))
})

const utf8 = new TextEncoder()

/** A batch of rows: operation, commit position, ordinal and the values in the table's order. */
export const batch = (
  table: TableSchema,
  rows: ReadonlyArray<readonly [Operation, number, number, ...Array<Value>]>
): ChangeBatch => {
  const builder = new ChangeBatchBuilder(table)
  for (const [operation, commit, ordinal, ...values] of rows) {
    builder.begin(operation, 0, commit, ordinal, 0, commit)
    builder.columns.forEach((column, index) => {
      const value = values[index]
      if (value === undefined) builder.notSent(index)
      else if (value === null) column.appendNull()
      else if (column instanceof BytesColumn) {
        const bytes = utf8.encode(String(value))
        column.append(bytes, 0, bytes.length)
      } else if (column instanceof Int64Column) {
        const number = BigInt(value)
        column.append(Number(BigInt.asIntN(32, number >> 32n)), Number(BigInt.asIntN(32, number)))
      } else if (column instanceof BoolColumn) column.append(value === true)
      else column.append(Number(value))
    })
  }
  return builder.finish()
}
