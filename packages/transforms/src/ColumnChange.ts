/**
 * Plans that change columns one by one, each from its own values alone: what a column doesn't send stays not sent, NULL stays NULL, and keys are changed alike in
 * every row that carries them, so deletes and changes of key find their rows.
 */
import type { ColumnSchema, TableSchema } from "@etl-stream/core/TableSchema"
import type * as Arrow from "apache-arrow"
import * as Cells from "./Cells.ts"
import { failure } from "./Failure.ts"
import { isKey, type Plan } from "./TablePlan.ts"

/** What becomes of one column. */
export interface ColumnChange {
  readonly column: ColumnSchema
  /** The column's new data; `rows` values, NULL wherever the old one is. */
  readonly convert: (data: Arrow.Data, rows: number) => Arrow.Data
}

/** The plan that changes the columns at the given indexes and keeps the others. */
export const plan = (table: TableSchema, changes: ReadonlyMap<number, ColumnChange>): Plan | undefined => {
  if (changes.size === 0) return undefined
  const target: TableSchema = {
    ...table,
    columns: table.columns.map((column, index) => changes.get(index)?.column ?? column)
  }
  return {
    target,
    apply: (batch) =>
      Cells.withColumns(
        batch,
        target,
        table.columns.map((_, index) => {
          const data = Cells.column(batch, index)
          return { data: changes.get(index)?.convert(data, batch.rows) ?? data, follows: index }
        })
      )
  }
}

/** Fails for a column of the key, whose different values would become the same: rows of the target would stand for several of the source. */
export const refuseKey = (plugin: string, table: TableSchema, index: number, verb: string, remedy: string): void => {
  if (!isKey(table, index)) return
  const name = table.columns[index]?.name ?? ""
  throw failure(
    plugin,
    table.table,
    `The column ${name} is part of the key, and ${verb} it could give different rows the same key`,
    remedy
  )
}
