/**
 * An ideal sink, in memory: what is at the end of a pipeline when everybody keeps to the contract.
 *
 * It applies a source's elements as a mirror has to, skips what it holds already, and notes what the contract forbids: copies that don't fit together, changes of rows that aren't
 * there, rows that come twice. The suite of sources compares it with the source's place; the suite of sinks compares a sink's place with it.
 */
import * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import type { Element } from "@etl-stream/core/Element"
import * as Sequence from "@etl-stream/core/Sequence"
import type { TablePosition } from "@etl-stream/core/Sink"
import { type TableId, tableId, type TableName, type TableSchema } from "@etl-stream/core/TableSchema"
import * as CanonicalCell from "./CanonicalCell.ts"
import { type Cell, type Cells, MirroredTable } from "./MirroredTable.ts"

/** Stands in a row for a value that was never sent: equal to nothing that a place can hold. */
export const lost = "(a value that was never sent)"

const { KeyChangeNew, KeyChangeOld, ...operations } = ChangeBatch.Operation

export class ElementMirror {
  private readonly tables = new Map<TableId, MirroredTable>()
  /** What the elements broke of the contract, each with its table. */
  readonly problems: Array<string> = []
  /** The highest watermark that was applied in this run. */
  watermark = 0n

  /** What a sink tells about each table when it is opened. */
  get positions(): ReadonlyMap<TableId, TablePosition> {
    return new Map([...this.tables].map(([id, { position }]) => [id, position]))
  }

  /** Whether some table's copy is under way. */
  get copying(): boolean {
    return [...this.tables.values()].some(({ copying }) => copying)
  }

  /** Whether the table's copy is complete. */
  isCopied(table: TableName): boolean {
    return this.tables.get(tableId(table))?.copied !== undefined
  }

  /** The shape of a table that came last. */
  shape(table: TableName): TableSchema | undefined {
    return this.tables.get(tableId(table))?.schema
  }

  /** Rows of a table by the names of their columns. */
  rows(table: TableName): ReadonlyArray<Readonly<Record<string, Cell>>> {
    return this.tables.get(tableId(table))?.records ?? []
  }

  /** A run begins with these tables, in the shapes that they are opened in; copies of others don't count any more. */
  begin(schemas: ReadonlyArray<TableSchema>): void {
    this.watermark = 0n
    const ids = new Set(schemas.map(({ table }) => tableId(table)))
    for (const schema of schemas) this.tables.get(tableId(schema.table))?.reshape(schema)
    for (const [id, table] of this.tables) {
      table.restart()
      if (!ids.has(id)) table.leave()
    }
  }

  apply(element: Element): void {
    switch (element._tag) {
      case "SnapshotBegin":
        return this.table(element.table).begin(element)
      case "SnapshotRows": {
        const { batch, chunk, position } = element
        const table = this.table(batch.table)
        return table.read(chunk, position, Array.from({ length: batch.rows }, (_, row) => cellsOf(table, batch, row)))
      }
      case "SnapshotChunk":
        return this.table(element.table).endChunk(element.chunk, element.position, element.rows)
      case "SnapshotEnd": {
        const { chunks, position, settled, table } = element
        return this.table(table).endCopy(position, chunks, settled, table)
      }
      case "TableLeft":
        return this.table(element.table).leave()
      case "TableFailed":
        this.problems.push(`${tableId(element.table.table)} failed: ${element.error.message}`)
        return
      case "Rows":
        return this.changes(this.table(element.batch.table), element.batch)
      case "Truncate": {
        const table = this.table(element.table)
        const { commit } = element.sequence
        if (table.takes(element.sequence, Sequence.compare)) table.later(commit, () => table.truncate(commit))
        return
      }
      case "Schema": {
        const table = this.table(element.table)
        table.origin = element.table.origin ?? table.origin
        return table.reshape(element.table)
      }
      case "Watermark":
        if (element.position > this.watermark) this.watermark = element.position
        return
      case "Message":
        return
    }
  }

  private table(schema: TableSchema): MirroredTable {
    const id = tableId(schema.table)
    let table = this.tables.get(id)
    if (table === undefined) {
      table = new MirroredTable(schema, (text) => this.problems.push(`${id}: ${text}`))
      this.tables.set(id, table)
    }
    return table
  }

  private changes(table: MirroredTable, batch: ChangeBatch.ChangeBatch): void {
    const ops = ChangeBatch.child(batch.records, ChangeBatch.MetadataColumns.op)
    const mask = ChangeBatch.child(batch.records, ChangeBatch.MetadataColumns.unsent)
    const columns = new Map(batch.table.columns.map(({ name }, index) => [name, index]))
    let old: { row?: Cells | undefined } | undefined
    for (let row = 0; row < batch.rows; row++) {
      const sequence = ChangeBatch.sequenceAt(batch.records, row)
      const operation = Number(CanonicalCell.numberAt(ops, row))
      if (!table.takes(sequence, Sequence.compare)) continue
      const { commit } = sequence
      const cells = cellsOf(table, batch, row)
      // A shape that changes in between must not change what is applied later.
      const names = [...table.names]
      const complete = (from: Cells | undefined): Cells =>
        names.map((name, place) => {
          const index = columns.get(name)
          if (index === undefined) return from?.[place] ?? null
          if (!CanonicalCell.isUnsent(mask, row, index)) return cells[place] ?? null
          return from === undefined ? lost : from[place] ?? null
        })
      switch (operation) {
        case operations.Insert:
          table.later(commit, () => table.insert(cells, commit))
          break
        case operations.Update:
          table.later(commit, () => {
            if (table.supersedes(cells, commit)) return
            table.insert(complete(table.remove(cells, commit)), commit)
          })
          break
        case operations.Delete:
          table.later(commit, () => void table.remove(cells, commit))
          break
        case KeyChangeOld: {
          const gone: { row?: Cells | undefined } = {}
          old = gone
          table.later(commit, () => {
            gone.row = table.remove(cells, commit)
          })
          break
        }
        case KeyChangeNew: {
          const before = old
          old = undefined
          if (before === undefined) this.problems.push(`${tableId(table.schema.table)}: a new key without its old one`)
          table.later(commit, () => {
            if (!table.supersedes(cells, commit)) table.insert(complete(before?.row), commit)
          })
          break
        }
        default:
          this.problems.push(`${tableId(table.schema.table)}: a change of the unknown kind ${operation}`)
      }
    }
  }
}

/** A row's cells by the columns of the table as the mirror has it. */
const cellsOf = (table: MirroredTable, batch: ChangeBatch.ChangeBatch, row: number): Cells => {
  const cells: Array<Cell> = table.names.map(() => null)
  batch.table.columns.forEach(({ name, type }, index) => {
    const data = ChangeBatch.child(batch.records, ChangeBatch.metadataColumns + index)
    cells[table.names.indexOf(name)] = CanonicalCell.ofColumn(type, data, row)
  })
  return cells
}
