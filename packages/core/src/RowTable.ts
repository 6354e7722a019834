/**
 * A table as code declares it: its name, columns and key.
 *
 * ```ts
 * const orders = RowTable.make({
 *   name: "shop.orders",
 *   columns: { id: Column.int64(), total: Column.decimal(12, 2), note: Column.text().nullable },
 *   key: ["id"]
 * })
 * ```
 */
import type { Columns, PartialRow, Row } from "./Column.ts"
import type { TableName, TableSchema } from "./TableSchema.ts"
import { parseTableId } from "./TableSchema.ts"

/** A table with typed columns. `Key`: the names of its key columns, none of a table whose rows are only ever inserted. */
export interface RowTable<out C extends Columns = Columns, out Key extends string = string> {
  readonly schema: TableSchema
  readonly columns: C
  readonly key: ReadonlyArray<Key>
}

/** A whole row of a table. */
export type RowOf<T extends RowTable> = Row<T["columns"]>

/** What identifies a row of a table. */
export type KeyOf<T extends RowTable> = Pick<RowOf<T>, T["key"][number] & keyof RowOf<T>>

/** A row of a table of which anything but the key may not have been sent. */
export type UpdateOf<T extends RowTable> = KeyOf<T> & PartialRow<Omit<T["columns"], T["key"][number]>>

/** The columns of `C` in which a row can't have NULL, which a key consists of. */
export type KeyColumn<C extends Columns> = {
  readonly [Name in keyof C & string]: null extends C[Name]["Value"] ? never : Name
}[keyof C & string]

/**
 * Declares a table.
 *
 * @param definition.name `schema.table`, a part with a dot in double quotes; or both parts
 * @param definition.key columns that identify a row, none of them nullable; without it, rows are only ever inserted
 * @param definition.origin text that changes when the table's rows are no longer those that were copied once (another file, another
 *   account): then the table is copied again
 */
export const make = <const C extends Columns, const Key extends KeyColumn<C> = never>(definition: {
  readonly name: string | TableName
  readonly columns: C
  readonly key?: ReadonlyArray<Key>
  readonly origin?: string
}): RowTable<C, Key> => {
  const { columns, key = [], name, origin } = definition
  const table = typeof name === "string" ? parseTableId(name) : name
  if (table === undefined) throw new TypeError(`${JSON.stringify(name)} isn't the name of a table, as schema.table is`)
  const names = Object.keys(columns)
  return {
    columns,
    key,
    schema: {
      table,
      version: 1,
      columns: Object.entries(columns).map(([column, { isNullable, sourceType, type }]) => ({
        name: column,
        type,
        sourceType,
        nullable: isNullable
      })),
      identity: key.length === 0
        ? { _tag: "None" }
        : { _tag: "Key", columns: key.map((column) => names.indexOf(column)) },
      ...(origin === undefined ? {} : { origin })
    }
  }
}
