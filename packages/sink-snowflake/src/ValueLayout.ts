/**
 * What encoders need to know of a table's layout: plain data, so that it can go to another thread.
 *
 * Every `TableLayout` is one; `of` leaves out what isn't data.
 */
import type { ColumnLayout, TableLayout } from "./TableLayout.ts"

export type ColumnValues = Omit<ColumnLayout, "fromJournal" | "fromFile">

export interface TableValues extends Pick<TableLayout, "mode" | "keyless"> {
  readonly columns: ReadonlyArray<ColumnValues>
}

export const of = ({ columns, keyless, mode }: TableValues): TableValues => ({
  mode,
  keyless,
  columns: columns.map((
    { element, form, index, isKey, journal, maxLength, name, narrowing, source, target, type }
  ) => ({ element, form, index, isKey, journal, maxLength, name, narrowing, source, target, type }))
})
