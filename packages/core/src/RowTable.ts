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
import type { Columns, NotSent, Row } from "./Column.ts"
import type { Mistake } from "./Mistake.ts"
import type { TableName, TableSchema } from "./TableSchema.ts"
import { parseTableId, tableId } from "./TableSchema.ts"

/** A table with typed columns. `Key`: the names of its key columns, none of a table whose rows are only ever inserted. */
export interface RowTable<out C extends Columns = Columns, out Key extends string = string> {
  readonly schema: TableSchema
  readonly columns: C
  readonly key: ReadonlyArray<Key>
}

/** A whole row of a table. */
export type RowOf<T extends RowTable> = Row<T["columns"]>

/** What rows of a table without a key take: nothing finds them again. */
type Keyed<T extends RowTable, A> = [T["key"][number]] extends [never]
  ? Mistake<"the table has no key, so its rows can only be inserted">
  : A

/** What identifies a row of a table. */
export type KeyOf<T extends RowTable> = Keyed<T, Pick<RowOf<T>, T["key"][number] & keyof RowOf<T>>>

/** A row of a table of which anything but the key may not have been sent. */
export type UpdateOf<T extends RowTable> = Keyed<
  T,
  {
    readonly [Name in keyof T["columns"]]: Name extends T["key"][number] ? RowOf<T>[Name] : RowOf<T>[Name] | NotSent
  }
>

/** `Name` when it is that of a column which a key can consist of. */
export type KeyColumn<C extends Columns, Name extends string> = Name extends keyof C
  ? null extends C[Name]["Value"] ? Mistake<`the key column ${Name} is nullable`> : Name
  : Mistake<`the key names ${Name}, which isn't among the columns`>

/**
 * Declares a table.
 *
 * @param definition.name `schema.table`, a part with a dot in double quotes; or both parts
 * @param definition.key columns that identify a row, none of them nullable; without it, rows are only ever inserted
 * @param definition.origin text that changes when the table's rows are no longer those that were copied once (another file, another
 *   account): then the table is copied again
 */
export const make = <const C extends Columns, const Key extends string = never>(definition: {
  readonly name: string | TableName
  readonly columns: C
  readonly key?: ReadonlyArray<KeyColumn<C, Key>>
  readonly origin?: string
}): RowTable<C, Key> => {
  const { columns, name, origin } = definition
  const key = (definition.key ?? []) as ReadonlyArray<Key> // what isn't a column's name doesn't compile
  const table = typeof name === "string" ? parseTableId(name) : name
  if (table === undefined) throw new TypeError(`${JSON.stringify(name)} isn't the name of a table, as schema.table is`)
  const names = Object.keys(columns)
  const missing = key.find((column) => columns[column]?.isNullable !== false)
  if (missing !== undefined) {
    throw new TypeError(`The key column ${missing} of ${tableId(table)} is none, or is nullable`)
  }
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
