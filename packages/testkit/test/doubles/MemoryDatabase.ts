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
}

const column = (name: string, type: "Int64" | "Text") => ({
  name,
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
    this.tables.set(tableId(table), { schema, rows: new Map() })
    return table
  }

  change(name: TableName, changes: ReadonlyArray<Change>): void {
    const table = this.tables.get(tableId(name))
    if (table === undefined) throw new Error(`There is no table ${name.name}`)
    const { rows } = table
    const entries: Array<Entry> = []
    const row = (operation: Operation, id: number, note: string | null, unsent = false): void => {
      entries.push({ kind: "row", operation, id, note, unsent })
    }
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
          row(Operation.KeyChangeOld, change.from, null)
          row(Operation.KeyChangeNew, change.to, note, true)
          break
        }
        case "Delete":
          for (const id of change.ids) {
            rows.delete(id)
            row(Operation.Delete, id, null)
          }
          break
        case "Truncate":
          rows.clear()
          entries.push({ kind: "truncate" })
          break
        case "AddColumn": {
          const { schema } = table
          const columns = [...schema.columns, column(change.name, "Text")]
          table.schema = { ...schema, columns, version: schema.version + 1 }
          entries.push({ kind: "shape", table: table.schema })
          break
        }
      }
    }
    const commit = this.position + 5n
    this.position += 10n
    this.log.push({ commit, end: commit + 2n, table: tableId(name), entries })
  }

  rows(name: TableName): ReadonlyArray<Row> {
    return [...this.tables.get(tableId(name))?.rows ?? []].map(([id, note]) => ({ id, note }))
  }

  cut(pieces: number): void {
    if (pieces === 0) this.cuts++
    else this.pieces = pieces
  }
}
