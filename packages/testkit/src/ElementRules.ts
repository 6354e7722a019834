/**
 * Judges one run of a source's stream, element by element, by what the contract says of their form and order.
 *
 * What the elements say of rows is `ElementMirror`'s business. A new judge belongs to each run.
 */
import * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import { type Element, tableOf } from "@etl-stream/core/Element"
import * as Sequence from "@etl-stream/core/Sequence"
import type { TablePosition } from "@etl-stream/core/Sink"
import { type TableId, tableId, type TableSchema } from "@etl-stream/core/TableSchema"
import * as CanonicalCell from "./CanonicalCell.ts"

interface Watched {
  shape: string
  version: number
  /** No change may commit before it; undefined: there is no copy, so no change may come. */
  from: bigint | undefined
  last: Sequence.Sequence | undefined
  copy: {
    readonly position: bigint
    readonly open: Map<number, { readonly position: bigint; rows: number }>
    readonly ended: Set<number>
  } | undefined
  oldKey: boolean
}

const shapeOf = ({ columns, identity }: TableSchema): string =>
  JSON.stringify([columns.map(({ name, type }) => [name, type]), identity])

const { KeyChangeNew, KeyChangeOld, Read } = ChangeBatch.Operation
const known: ReadonlySet<number> = new Set(Object.values(ChangeBatch.Operation))

export class ElementRules {
  readonly problems: Array<string> = []
  private readonly tables = new Map<TableId, Watched>()
  private readonly unwanted: ReadonlySet<TableId>
  private watermark: bigint | undefined
  /** The highest commit position of a change so far. */
  private commit = -1n

  /** `positions`: what the sink holds; `unwanted`: tables that must not come. */
  constructor(
    tables: ReadonlyArray<TableSchema>,
    positions: ReadonlyMap<TableId, TablePosition>,
    unwanted: ReadonlySet<TableId> = new Set()
  ) {
    this.unwanted = unwanted
    for (const schema of tables) {
      const id = tableId(schema.table)
      if (this.tables.has(id)) this.problems.push(`${id} is listed twice`)
      this.tables.set(id, watched(schema, positions.get(id)?.copied))
      if (schema.columns.length === 0) this.problems.push(`${id} has no columns`)
      if (new Set(schema.columns.map(({ name }) => name)).size < schema.columns.length) {
        this.problems.push(`${id} has two columns of one name`)
      }
      const { identity } = schema
      if (identity._tag === "Key" && identity.columns.some((index) => schema.columns[index] === undefined)) {
        this.problems.push(`${id} has a key of columns that it doesn't have`)
      }
    }
  }

  take(element: Element): void {
    const name = tableOf(element)
    if (name === undefined) {
      if (element._tag === "Watermark") this.mark(element.position)
      return
    }
    const id = tableId(name)
    const say = (text: string): void => void this.problems.push(`${id}: ${text}`)
    if (this.unwanted.has(id)) say(`${element._tag} of a table that transforms leave out`)
    if (element._tag === "SnapshotBegin") return this.begin(id, element.table, element.position, element.resumed)
    const table = this.tables.get(id)
    if (table === undefined) return say(`${element._tag} of a table that was never begun`)
    switch (element._tag) {
      case "SnapshotRows":
        return this.read(table, element.batch, element.position, element.chunk, say)
      case "SnapshotChunk": {
        const { chunk, position, rows } = element
        const open = table.copy?.open.get(chunk)
        if (table.copy === undefined) return say("SnapshotChunk outside of a copy")
        if (table.copy.ended.has(chunk)) say(`chunk ${chunk} ended twice`)
        if ((open?.rows ?? 0) !== rows) say(`SnapshotChunk says ${rows} rows, and ${open?.rows ?? 0} came`)
        if (open !== undefined && open.position !== position) say("a chunk was read in two snapshots")
        table.copy.open.delete(chunk)
        table.copy.ended.add(chunk)
        return
      }
      case "SnapshotEnd":
        if (table.copy?.position !== element.position) say("SnapshotEnd of a copy that didn't begin")
        if ((table.copy?.open.size ?? 0) > 0) say("SnapshotEnd before the end of its chunks")
        table.copy = undefined
        return
      case "Rows":
        return this.rows(table, element.batch, say)
      case "Truncate":
        this.change(table, element.sequence, say)
        table.last = element.sequence
        return
      case "Schema":
        if (table.from === undefined) say("Schema before there is a copy")
        if (element.table.version < table.version) say("a version of the schema that goes back")
        this.reshape(table, element.table)
        return
      case "TableLeft":
        table.from = undefined
        table.copy = undefined
        return
      case "TableFailed":
        table.from = undefined
        return say(`failed: ${element.error.reason}`)
    }
  }

  private reshape(table: Watched, schema: TableSchema): void {
    table.shape = shapeOf(schema)
    table.version = schema.version
  }

  private begin(id: TableId, schema: TableSchema, position: bigint, resumed: boolean): void {
    const table = this.tables.get(id) ?? watched(schema, undefined)
    this.tables.set(id, table)
    this.reshape(table, schema)
    table.from = position
    table.copy = { position, open: new Map(), ended: new Set() }
    if (!resumed && table.last !== undefined && table.last.commit >= position) {
      // What came before is void, and comes again.
      table.last = undefined
    }
    if (!resumed && this.watermark !== undefined && position < this.watermark) {
      this.problems.push(`${id}: a copy from before the watermark, whose changes came already`)
    }
  }

  private read(
    table: Watched,
    batch: ChangeBatch.ChangeBatch,
    position: bigint,
    chunk: number,
    say: (text: string) => void
  ) {
    this.fits(table, batch, say)
    const { copy } = table
    if (copy === undefined) return say("SnapshotRows outside of a copy")
    if (copy.ended.has(chunk)) say(`rows of chunk ${chunk} after its end`)
    if (position < copy.position) say("a chunk of a snapshot from before the copy")
    const open = copy.open.get(chunk) ?? { position, rows: 0 }
    if (open.position !== position) say("a chunk was read in two snapshots")
    open.rows += batch.rows
    copy.open.set(chunk, open)
    const operations = ChangeBatch.child(batch.records, ChangeBatch.MetadataColumns.op)
    for (let row = 0; row < batch.rows; row++) {
      const { commit, ordinal } = ChangeBatch.sequenceAt(batch.records, row)
      if (CanonicalCell.numberAt(operations, row) !== Read) return say("a row of a copy whose operation isn't Read")
      if (commit !== position || ordinal !== 0n) return say("a row of a copy without its snapshot's sequence")
    }
  }

  /** Whether a batch has the columns of its table, in the shape that is known. */
  private fits(table: Watched, batch: ChangeBatch.ChangeBatch, say: (text: string) => void): void {
    const misfit = ChangeBatch.misfit(batch)
    if (misfit !== undefined) say(misfit)
    if (batch.rows !== batch.records.numRows) say("a batch that doesn't have the rows it says")
    if (batch.rows === 0) return say("a batch without rows")
    if (
      Sequence.compare(batch.first, ChangeBatch.sequenceAt(batch.records, 0)) !== 0 ||
      Sequence.compare(batch.last, ChangeBatch.sequenceAt(batch.records, batch.rows - 1)) !== 0
    ) say("a batch whose first or last sequence isn't that of its rows")
    if (shapeOf(batch.table) !== table.shape) say("a batch of another shape, without a Schema element before it")
  }

  private rows(table: Watched, batch: ChangeBatch.ChangeBatch, say: (text: string) => void): void {
    this.fits(table, batch, say)
    const operations = ChangeBatch.child(batch.records, ChangeBatch.MetadataColumns.op)
    const mask = ChangeBatch.child(batch.records, ChangeBatch.MetadataColumns.unsent)
    for (let row = 0; row < batch.rows; row++) {
      const sequence = ChangeBatch.sequenceAt(batch.records, row)
      const operation = Number(CanonicalCell.numberAt(operations, row))
      this.change(table, sequence, say)
      if (operation === Read || !known.has(operation)) say(`a change whose operation is ${operation}`)
      if (table.oldKey !== (operation === KeyChangeNew)) say("a change of key whose two rows aren't next to each other")
      table.oldKey = operation === KeyChangeOld
      table.last = sequence
      batch.table.columns.forEach(({ name, type }, index) => {
        if (!CanonicalCell.isUnsent(mask, row, index)) return
        const data = ChangeBatch.child(batch.records, ChangeBatch.metadataColumns + index)
        if (CanonicalCell.ofColumn(type, data, row) !== null) say(`${name} has a value that was not sent`)
      })
    }
    if (table.oldKey) say("a change of key whose two rows aren't in one batch")
    table.oldKey = false
  }

  private change(table: Watched, sequence: Sequence.Sequence, say: (text: string) => void): void {
    if (table.from === undefined) say("a change of a table that has no copy")
    else if (sequence.commit < table.from) say("a change from before the table's copy")
    if (table.last !== undefined && Sequence.compare(sequence, table.last) <= 0) {
      say("changes whose sequences don't ascend")
    }
    if (sequence.commit > this.commit) this.commit = sequence.commit
    if (this.watermark === undefined) return
    if (sequence.commit < this.watermark) say("a change from before the last watermark")
    else if (sequence.commit === this.watermark && sequence.commit === this.marked) {
      say("a watermark in the middle of a transaction")
    }
  }

  /** Commit position of the last change before the last watermark. */
  private marked: bigint | undefined

  private mark(position: bigint): void {
    if (this.watermark !== undefined && position < this.watermark) this.problems.push("a watermark that goes back")
    this.watermark = position
    if (this.commit >= 0n) this.marked = this.commit
  }
}

const watched = (schema: TableSchema, from: bigint | undefined): Watched => ({
  shape: shapeOf(schema),
  version: schema.version,
  from,
  last: undefined,
  copy: undefined,
  oldKey: false
})
