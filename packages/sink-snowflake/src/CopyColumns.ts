/**
 * The columns of a Parquet file as COPY reads them: `ParquetEncoder` says how they are written.
 */
import type { Purpose } from "./ParquetEncoder.ts"
import type { ColumnType, TableLayout } from "./TableLayout.ts"
import * as Layout from "./TableLayout.ts"

/** Columns that a file of `purpose` fills and the expressions that read them in `COPY … SELECT … FROM @stage`. */
export const of = (
  layout: TableLayout,
  purpose: Purpose
): ReadonlyArray<{ readonly name: string; readonly expression: string }> => {
  const metadata: ReadonlyArray<ColumnType & { readonly field: string }> = purpose === "journal"
    ? Layout.journalMetadata(layout).map((column, index) => ({ ...column, field: `m${index}` }))
    : layout.keyless
    ? [{ name: Layout.Metadata.rowKey, type: "VARCHAR", field: "m4" }, {
      name: Layout.Metadata.copy,
      type: "NUMBER(38,0)",
      field: "m5"
    }]
    : []
  const raw = purpose === "journal" && layout.mode !== "changelog"
  return [
    ...metadata.map(({ field, name, type }) => ({ name, expression: `$1:${field}::${type}` })),
    ...layout.columns.map((column, position) => ({
      name: column.name,
      expression: column.fromFile(`$1:c${position}`, raw)
    }))
  ]
}
