/**
 * The columns that a row-wise transform reads of a table: where they are, whether they fit what was declared, and a view that reads nothing else.
 */
import type { ChangeBatch } from "./ChangeBatch.ts"
import type { Columns, PartialRow } from "./Column.ts"
import { ConnectorError, type Reason } from "./ConnectorError.ts"
import type { LogicalType } from "./LogicalType.ts"
import { BatchRows, reading } from "./RowView.ts"
import { tableId, type TableSchema } from "./TableSchema.ts"

/** An error of one table. */
export const tableError = (
  plugin: string,
  table: TableSchema,
  message: string,
  hint: string,
  reason: Reason = "Unsupported"
): ConnectorError => new ConnectorError({ reason, plugin, message, hint, table: tableId(table.table) })

const described = (type: LogicalType): string => type._tag === "Timestamp" && type.utc ? "Timestamp (UTC)" : type._tag

/** Indexes of the table's key columns; empty without a key. */
export const keyOf = ({ identity }: TableSchema): ReadonlyArray<number> =>
  identity._tag === "Key" ? identity.columns : []

/** Where the declared columns are in the table. Throws a `ConnectorError` when one isn't there, or is another than was declared. */
export const locate = (plugin: string, table: TableSchema, reads: Columns): ReadonlyArray<number> =>
  Object.entries(reads).map(([name, { isNullable, type }]) => {
    const index = table.columns.findIndex((column) => column.name === name)
    const column = table.columns[index]
    const id = tableId(table.table)
    if (column === undefined) {
      throw tableError(
        plugin,
        table,
        `The table ${id} has no column ${name}, which the transform reads`,
        "Name the tables that the transform is for (tables), or use another transform."
      )
    }
    const [found, wanted] = [described(column.type), described(type)]
    if (found !== wanted) {
      throw tableError(
        plugin,
        table,
        `The column ${name} of the table ${id} is ${found}, but the transform reads it as ${wanted}`,
        "Cast the column before, or name the tables that the transform is for (tables)."
      )
    }
    if (column.nullable && !isNullable) {
      throw tableError(
        plugin,
        table,
        `The column ${name} of the table ${id} may be NULL, but the transform reads it as one that never is`,
        "Declare the column as nullable in the transform, or make it NOT NULL at the source."
      )
    }
    return index
  })

/** Rows of a batch with the values of declared columns. */
export class Reads {
  readonly view: BatchRows
  /** The declared columns' values of the row at hand. */
  readonly values: PartialRow<Columns>
  private readonly indexes: ReadonlyArray<number>

  constructor(batch: ChangeBatch, reads: Columns, indexes: ReadonlyArray<number>) {
    this.view = new BatchRows(batch)
    this.values = reading(this.view, Object.keys(reads))
    this.indexes = indexes
  }

  /** The declared columns whose values were not sent in the row at hand. */
  unsent(): ReadonlyArray<number> {
    return this.indexes.filter((index) => !this.view.sentAt(index))
  }

  /** Whether all were sent. */
  complete(): boolean {
    for (const index of this.indexes) if (!this.view.sentAt(index)) return false
    return true
  }

  names(indexes: ReadonlyArray<number>): string {
    return indexes.map((index) => this.view.table.columns[index]?.name).join(", ")
  }
}

/** Runs an author's function; whatever it throws may hold values, so nothing is said of it but its kind. */
export const guarded = <A>(plugin: string, table: TableSchema, what: string, evaluate: () => A): A => {
  try {
    return evaluate()
  } catch (error) {
    const kind = error instanceof Error ? error.name : typeof error
    throw tableError(
      plugin,
      table,
      `${what} of the transform threw (${kind}) for a row of the table ${tableId(table.table)}`,
      "Mend the transform so that it has an answer for every row. What was thrown may hold values of the row, so it isn't shown.",
      "Rejected"
    )
  }
}

/** Keeps what was made of each table's schema. */
export const perTable = <A>(make: (table: TableSchema) => A): (table: TableSchema) => A => {
  const made = new WeakMap<TableSchema, A>()
  return (table) => {
    const known = made.get(table)
    if (known !== undefined) return known
    const fresh = make(table)
    made.set(table, fresh)
    return fresh
  }
}
