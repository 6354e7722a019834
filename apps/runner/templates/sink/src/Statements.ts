/**
 * The SQL of one table: how it is made, changed to another shape, and how its rows are written.
 *
 * A table `orders` of the schema `shop` is the table `shop.orders` here. Numbers, text and bytes are what they are; dates are days and times microseconds since 1970-01-01, as they
 * come; a decimal is text, so that it loses nothing.
 */
import type { LogicalType } from "@etl-stream/core/LogicalType"
import type { SinkRow } from "@etl-stream/core/RowSink"
import type { RowView } from "@etl-stream/core/RowView"
import { type ColumnSchema, tableId, type TableSchema } from "@etl-stream/core/TableSchema"
import type { DatabaseSync, SQLInputValue, StatementSync } from "node:sqlite"

const quoted = (name: string): string => `"${name.replaceAll("\"", "\"\"")}"`

/** The table's name in SQL. */
export const nameOf = (table: TableSchema): string => quoted(tableId(table.table))

/** How SQLite keeps values of a type. */
const storageOf = (type: LogicalType): "INTEGER" | "REAL" | "BLOB" | "TEXT" => {
  switch (type._tag) {
    case "Boolean":
    case "Int16":
    case "Int32":
    case "Int64":
    case "Date":
    case "Time":
    case "Timestamp":
      return "INTEGER"
    case "Float32":
    case "Float64":
      return "REAL"
    case "Binary":
      return "BLOB"
    default:
      return "TEXT"
  }
}

const declared = ({ name, type }: ColumnSchema): string => `${quoted(name)} ${storageOf(type)}`

/** Names of the key's columns; none of a table without a key. */
const keyOf = ({ columns, identity }: TableSchema): ReadonlyArray<string> =>
  identity._tag === "Key" ? identity.columns.flatMap((index) => columns[index]?.name ?? []) : []

/** Makes the table, empty. */
export const create = (table: TableSchema): string => {
  const key = keyOf(table).map(quoted)
  const parts = [...table.columns.map(declared), ...(key.length === 0 ? [] : [`PRIMARY KEY (${key.join(", ")})`])]
  return `CREATE TABLE ${nameOf(table)} (${parts.join(", ")})`
}

/** What a column stays recognisable by. */
const identityOf = ({ id, name }: ColumnSchema): string => id ?? name

/**
 * What brings a table from one shape to another; undefined when that can't be done with its rows in it. Columns that aren't sent any more stay as they are.
 */
export const reshape = (from: TableSchema, to: TableSchema): ReadonlyArray<string> | undefined => {
  const before = new Map(from.columns.map((column) => [identityOf(column), column]))
  const names = new Set(from.columns.map(({ name }) => name))
  const sql: Array<string> = []
  for (const column of to.columns) {
    const old = before.get(identityOf(column))
    if (old === undefined) {
      if (names.has(column.name)) return undefined
      sql.push(`ALTER TABLE ${nameOf(to)} ADD COLUMN ${declared(column)}`)
    } else {
      if (storageOf(old.type) !== storageOf(column.type)) return undefined
      if (old.name === column.name) continue
      if (names.has(column.name)) return undefined
      sql.push(`ALTER TABLE ${nameOf(to)} RENAME COLUMN ${quoted(old.name)} TO ${quoted(column.name)}`)
    }
  }
  const keyed = (table: TableSchema) =>
    JSON.stringify(table.columns.filter(({ name }) => keyOf(table).includes(name)).map(identityOf).toSorted())
  return keyed(from) === keyed(to) ? sql : undefined
}

/** A value as SQLite takes it. It knows no booleans, and takes NaN for NULL. */
const bound = (row: RowView, column: string): SQLInputValue => {
  const value = row.get(column)
  if (typeof value === "boolean") return value ? 1 : 0
  if (typeof value === "symbol") return null
  return typeof value === "number" && Number.isNaN(value) ? "NaN" : value
}

/** Writes rows of a table in its present shape, with a statement for each set of columns that were sent together. */
export const writer = (database: DatabaseSync, table: TableSchema): (row: SinkRow) => void => {
  const name = nameOf(table)
  const all = table.columns.map(({ name }) => name)
  const key = keyOf(table)
  const prepared = new Map<string, StatementSync>()
  const run = (sql: string, values: ReadonlyArray<SQLInputValue>): number => {
    const statement = prepared.get(sql) ?? database.prepare(sql)
    prepared.set(sql, statement)
    return Number(statement.run(...values).changes)
  }
  const values = (row: RowView, columns: ReadonlyArray<string>) => columns.map((column) => bound(row, column))
  const list = (columns: ReadonlyArray<string>, sql: (column: string) => string, between = ", "): string =>
    columns.map((column) => sql(quoted(column))).join(between)

  const put = (row: SinkRow): void => {
    const sent = all.filter((column) => row.isSent(column))
    const rest = sent.filter((column) => !key.includes(column))
    const conflict = key.length === 0
      ? ""
      : ` ON CONFLICT (${list(key, (column) => column)}) DO ${
        rest.length === 0 ? "NOTHING" : `UPDATE SET ${list(rest, (column) => `${column} = excluded.${column}`)}`
      }`
    run(
      `INSERT INTO ${name} (${list(sent, (column) => column)}) VALUES (${list(sent, () => "?")})${conflict}`,
      values(row, sent)
    )
  }

  /** The row's condition and its values: its key, or without one all of it. Of several equal rows, one. */
  const identity = key.length === 0 ? all : key
  const same = list(identity, (column) => `${column} IS ?`, " AND ")
  const where = key.length === 0 ? `_rowid_ = (SELECT _rowid_ FROM ${name} WHERE ${same} LIMIT 1)` : same

  return (row) => {
    if (row.change === "remove") {
      run(`DELETE FROM ${name} WHERE ${where}`, values(row, identity))
      return
    }
    if (row.old === undefined) return put(row)
    const sent = all.filter((column) => row.isSent(column))
    const changed = run(
      `UPDATE OR REPLACE ${name} SET ${list(sent, (column) => `${column} = ?`)} WHERE ${where}`,
      [...values(row, sent), ...values(row.old, identity)]
    )
    if (changed === 0) put(row)
  }
}
