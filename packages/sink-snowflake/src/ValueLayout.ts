/**
 * What encoders need to know of a table's layout: plain data, so that it can go to another thread, which needs little code for it.
 *
 * Every `TableLayout` is one; `of` leaves out what isn't data.
 */
import type { ColumnLayout, TableLayout } from "./TableLayout.ts"

/** Metadata columns. `rowKey` and `copy` exist for `keyless` layouts only, `syncedAt` in mirrored targets only, `deleted` in those with soft deletes. */
export const Metadata = {
  op: "_ETL_OP",
  sequence: "_ETL_SEQ",
  commitTime: "_ETL_COMMIT_TIME",
  unsent: "_ETL_UNSENT",
  syncedAt: "_ETL_SYNCED_AT",
  deleted: "_ETL_DELETED",
  validFrom: "_ETL_VALID_FROM",
  validTo: "_ETL_VALID_TO",
  rowKey: "_ETL_ROW_KEY",
  copy: "_ETL_COPY"
} as const

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
