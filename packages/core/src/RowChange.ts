/**
 * One change of one row, as a row-wise source tells it.
 *
 * ```ts
 * RowChange.insert(orders, { id: 1n, total: "12.50", note: null })
 * RowChange.update(orders, { id: 1n, total: "13.00", note: Column.notSent }) // the target keeps its note
 * RowChange.remove(orders, { id: 1n })
 * ```
 *
 * An update of a row that the target doesn't have inserts it. So a source that can't tell new rows from changed ones calls both updates, as long as it sends whole
 * rows; an insert says that there was no row of this key before, which filters rely on.
 */
import type { NotSent, Value } from "./Column.ts"
import type { ConnectorError } from "./ConnectorError.ts"
import type { KeyOf, RowOf, RowTable, UpdateOf } from "./RowTable.ts"

/** Values by the names of columns. */
export type Values = Readonly<Record<string, Value | null | NotSent>>

/** A change of a table; made by the functions of this module, which check it against the table's type. */
export type RowChange =
  | { readonly _tag: "Insert"; readonly table: RowTable; readonly row: Values }
  | { readonly _tag: "Update"; readonly table: RowTable; readonly row: Values }
  | { readonly _tag: "Rekey"; readonly table: RowTable; readonly key: Values; readonly row: Values }
  | { readonly _tag: "Remove"; readonly table: RowTable; readonly key: Values }
  | { readonly _tag: "Truncate"; readonly table: RowTable }
  | { readonly _tag: "Fail"; readonly table: RowTable; readonly error: ConnectorError }

/** A new row, whole. */
export const insert = <T extends RowTable>(table: T, row: RowOf<T>): RowChange => ({ _tag: "Insert", table, row })

/** The row with this key has these values now. What was not sent (`Column.notSent`) stays as it is at the target. */
export const update = <T extends RowTable>(table: T, row: UpdateOf<T>): RowChange => ({
  _tag: "Update",
  table,
  row: row as Values // a `Mistake` has no values
})

/** The row that had `key` has the key of `row` now, and its values. What was not sent stays as it is at the target. */
export const rekey = <T extends RowTable>(table: T, key: KeyOf<T>, row: UpdateOf<T>): RowChange => ({
  _tag: "Rekey",
  table,
  key: key as Values, // as above
  row: row as Values
})

/** There is no row with this key any more. */
export const remove = <T extends RowTable>(table: T, key: KeyOf<T>): RowChange => ({
  _tag: "Remove",
  table,
  key: key as Values // as above
})

/** There is no row in the table any more. */
export const truncate = (table: RowTable): RowChange => ({ _tag: "Truncate", table })

/**
 * Something came of the table that can't be read. Nothing of it counts from here on: it is set aside with the error, so that the others go on, until somebody has it copied again; where the
 * pipeline's policy is to stop, the run ends.
 */
export const fail = (table: RowTable, error: ConnectorError): RowChange => ({ _tag: "Fail", table, error })
