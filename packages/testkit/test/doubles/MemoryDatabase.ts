/** A database in memory with a log of transactions, whose connections can be cut. */
import { Operation } from "@etl-stream/core/ChangeBatch"
import { tableId, type TableName, type TableSchema } from "@etl-stream/core/TableSchema"
import type { Change, Row } from "@etl-stream/testkit/SourceConformance"

export type Entry =
  | {
    readonly kind: "row"
    readonly operation: Operation
    readonly id: number
    readonly note: string | null
    readonly unsent: boolean
    /** Values of the columns that were added, by the columns' ids. */
    readonly more: ReadonlyMap<string, string | null>
  }
  | { readonly kind: "truncate" }
  | { readonly kind: "shape"; readonly table: TableSchema }

export interface Transaction {
  readonly commit: bigint
  readonly end: bigint
  readonly table: string
  readonly entries: ReadonlyArray<Entry>
}

interface Table {
  schema: TableSchema
  readonly rows: Map<number, string | null>
  /** Values of the columns that were added, by the columns' ids and the rows'. */
  readonly more: Map<string, Map<number, string>>
}

let columns = 0

const column = (name: string, type: "Int64" | "Text") => ({
  name,
  id: `column ${columns++}`,
  type: type === "Text" ? { _tag: type, maxLength: undefined } as const : { _tag: type } as const,
  sourceType: type,
  nullable: true
})

export class Database {
  readonly tables = new Map<string, Table>()
  readonly log: Array<Transaction> = []
  confirmed = 0n
  position = 100n
  /** Grows with every cut; readings of before fail. */
  cuts = 0
  /** Pieces until a cut; undefined: none is to come. */
  pieces: number | undefined

  add(name: string): TableName {
    const table = { schema: "memory", name }
    const schema: TableSchema = {
      table,
      version: 1,
      columns: [column("id", "Int64"), column("note", "Text")],
      identity: { _tag: "Key", columns: [0] }
    }
    this.tables.set(tableId(table), { schema, rows: new Map(), more: new Map() })
    return table
  }

  change(name: TableName, changes: ReadonlyArray<Change>): void {
    const table = this.tables.get(tableId(name))
    if (table === undefined) throw new Error(`There is no table ${name.name}`)
    const { rows } = table
    const entries: Array<Entry> = []
    const row = (operation: Operation, id: number, note: string | null, unsent = false): void => {
      entries.push({ kind: "row", operation, id, note, unsent, more: this.more(name, id) })
    }
    const reshape = (columns: TableSchema["columns"]): void => {
      table.schema = { ...table.schema, columns, version: table.schema.version + 1 }
      entries.push({ kind: "shape", table: table.schema })
    }
    const idOf = (name: string): string => table.schema.columns.find((column) => column.name === name)?.id ?? ""
    for (const change of changes) {
      switch (change._tag) {
        case "Insert":
          for (const { id, note } of change.rows) {
            rows.set(id, note)
            row(Operation.Insert, id, note)
          }
          break
        case "Update":
          for (const { id, note } of change.rows) {
            rows.set(id, note)
            row(Operation.Update, id, note)
          }
          break
        case "Touch":
          for (const id of change.ids) row(Operation.Update, id, rows.get(id) ?? null, true)
          break
        case "Rekey": {
          const note = rows.get(change.from) ?? null
          rows.delete(change.from)
          rows.set(change.to, note)
          for (const values of table.more.values()) {
            const value = values.get(change.from)
            values.delete(change.from)
            if (value !== undefined) values.set(change.to, value)
          }
          row(Operation.KeyChangeOld, change.from, null)
          row(Operation.KeyChangeNew, change.to, note, true)
          break
        }
        case "Delete":
          for (const id of change.ids) {
            rows.delete(id)
            for (const values of table.more.values()) values.delete(id)
            row(Operation.Delete, id, null)
          }
          break
        case "Truncate":
          rows.clear()
          for (const values of table.more.values()) values.clear()
          entries.push({ kind: "truncate" })
          break
        case "AddColumn":
          reshape([...table.schema.columns, column(change.name, "Text")])
          table.more.set(idOf(change.name), new Map())
          break
        case "SetColumn":
          for (const { id, value } of change.rows) {
            table.more.get(idOf(change.name))?.set(id, value)
            row(Operation.Update, id, rows.get(id) ?? null, true)
          }
          break
        case "RenameColumn":
          reshape(table.schema.columns.map((old) => old.name === change.from ? { ...old, name: change.to } : old))
          break
        case "DropColumn":
          reshape(table.schema.columns.filter((old) => old.name !== change.name))
          break
      }
    }
    const commit = this.position + 5n
    this.position += 10n
    this.log.push({ commit, end: commit + 2n, table: tableId(name), entries })
  }

  /** Values that a row has now in the columns that were added, by the columns' ids. */
  more(name: TableName, row: number): ReadonlyMap<string, string | null> {
    const columns = this.tables.get(tableId(name))?.more ?? []
    return new Map([...columns].map(([id, values]) => [id, values.get(row) ?? null]))
  }

  rows(name: TableName): ReadonlyArray<Row> {
    return [...this.tables.get(tableId(name))?.rows ?? []].map(([id, note]) => ({ id, note }))
  }

  cut(pieces: number): void {
    if (pieces === 0) this.cuts++
    else this.pieces = pieces
  }
}
