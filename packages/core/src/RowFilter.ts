/**
 * The work of `RowTransform.filter`: which rows of a batch stay, and which of them become a delete or an insert because the row changes sides.
 */
import type * as Arrow from "apache-arrow"
import { makeData } from "apache-arrow/data"
import { RecordBatch } from "apache-arrow/recordbatch"
import { Struct, Uint8 } from "apache-arrow/type"
import * as BatchConcat from "./BatchConcat.ts"
import * as ChangeBatch from "./ChangeBatch.ts"
import { Operation } from "./ChangeBatch.ts"
import type { Columns } from "./Column.ts"
import * as RowReads from "./RowReads.ts"
import * as RowValue from "./RowValue.ts"
import type { RowView } from "./RowView.ts"
import { tableId, type TableSchema } from "./TableSchema.ts"

export interface Filtering {
  readonly plugin: string
  readonly reads: Columns
  // Called with rows of `reads`.
  readonly keep: (row: never, view: RowView) => boolean
  readonly constant?: boolean
}

interface Plan {
  readonly table: TableSchema
  readonly reads: ReadonlyArray<number>
  /** Whether `keep` reads columns of the key alone: then only a change of key lets a row change sides. */
  readonly keyOnly: boolean
}

/** What becomes of a row: left out, kept as it is (`kept`), or kept as another operation. */
const leftOut = -1
const kept = -2
type Fate = typeof leftOut | typeof kept | Operation

class Judging {
  private readonly filtering: Filtering
  private readonly plan: Plan
  private readonly reads: RowReads.Reads
  private readonly columns: ReadonlyArray<number>
  private readonly operations: Uint8Array
  readonly fates: Array<Fate> = []
  private readonly batch: ChangeBatch.ChangeBatch

  constructor(filtering: Filtering, plan: Plan, batch: ChangeBatch.ChangeBatch) {
    this.filtering = filtering
    this.plan = plan
    this.batch = batch
    this.reads = new RowReads.Reads(batch, filtering.reads, plan.reads)
    this.columns = batch.table.columns.map((_, index) => index)
    this.operations = ChangeBatch.child(batch.records, ChangeBatch.MetadataColumns.op).values as Uint8Array // the column's type
  }

  private fail(message: string, hint: string) {
    return RowReads.tableError(this.filtering.plugin, this.plan.table, message, hint)
  }

  private passes(row: number): boolean {
    const { filtering, plan, reads } = this
    reads.view.index = row
    if (!reads.complete()) {
      throw this.fail(
        `An update of the table ${tableId(plan.table.table)} lacks values that the filter reads: ${
          reads.names(reads.unsent())
        }`,
        "Have the source send them (in PostgreSQL: ALTER TABLE … REPLICA IDENTITY FULL), or filter by other columns."
      )
    }
    return RowReads.guarded(
      filtering.plugin,
      plan.table,
      "keep",
      () => filtering.keep(reads.values as never, reads.view) // all were sent, so this is a row of `reads`
    )
  }

  private isWhole(row: number): boolean {
    this.reads.view.index = row
    return this.columns.every((index) => this.reads.view.sentAt(index))
  }

  /** Fails when a row that may be new to the target lacks values. */
  private whole(row: number): void {
    if (this.isWhole(row)) return
    throw this.fail(
      `An update of the table ${
        tableId(this.plan.table.table)
      } lacks values, and the row may be one that the filter kept out before`,
      "Have the source send whole rows (in PostgreSQL: ALTER TABLE … REPLICA IDENTITY FULL), or filter by columns that never change, and say so " +
        "(constant)."
    )
  }

  private isConstant(): boolean {
    return this.filtering.constant === true || this.plan.keyOnly
  }

  private update(row: number): Fate {
    if (!this.passes(row)) return this.isConstant() ? leftOut : Operation.Delete
    if (!this.isConstant()) this.whole(row)
    return kept
  }

  /** Whether a row that left had passed; undefined where that can't be known. */
  private passed(row: number): boolean | undefined {
    return this.plan.keyOnly || this.plan.table.identity._tag !== "Key" ? this.passes(row) : undefined
  }

  /** A change of key whose old row is at `row - 1`, or in a batch before (`undefined`). */
  private rekeyed(row: number, old: number | undefined): void {
    const { fates } = this
    const passes = this.passes(row)
    const passed = this.filtering.constant === true ? passes : old === undefined ? undefined : this.passed(old)
    if (!passes) {
      fates[row] = leftOut
      if (old !== undefined) fates[old] = passed === false ? leftOut : Operation.Delete
      return
    }
    if (passed !== true) this.whole(row)
    if (passed === false) {
      fates[row] = Operation.Insert
      if (old !== undefined) fates[old] = leftOut
    } else {
      fates[row] = kept
      if (old !== undefined) fates[old] = kept
    }
  }

  row(row: number): void {
    const { fates } = this
    switch (this.operations[row]) {
      case Operation.Read:
      case Operation.Insert:
        fates[row] = this.passes(row) ? kept : leftOut
        return
      case Operation.Update:
        fates[row] = this.update(row)
        return
      case Operation.KeyChangeOld:
        // Judged with the new row, which comes next; without one in this batch it leaves like any other.
        if (row + 1 < this.batch.rows && this.operations[row + 1] === Operation.KeyChangeNew) return
        fates[row] = this.passed(row) === false ? leftOut : kept
        return
      case Operation.KeyChangeNew: {
        const follows = row > 0 && this.operations[row - 1] === Operation.KeyChangeOld
        this.rekeyed(row, follows ? row - 1 : undefined)
        return
      }
      default:
        fates[row] = this.passed(row) === false ? leftOut : kept
    }
  }
}

/** A column in which the given rows are null. */
const without = (data: Arrow.Data, rows: ReadonlyArray<number>): Arrow.Data => {
  const nullBitmap = new Uint8Array((data.length + 7) >> 3)
  if (data.nullCount === 0) nullBitmap.fill(0xff)
  else nullBitmap.set(data.nullBitmap.subarray(0, nullBitmap.length))
  let { nullCount } = data
  for (const row of rows) {
    if (RowValue.isValid(data, row)) nullCount++
    nullBitmap[row >> 3] = (nullBitmap[row >> 3] as number) & ~(1 << (row & 7)) // in range
  }
  return data.clone(data.type, data.offset, data.length, nullCount, [
    data.valueOffsets,
    data.values,
    nullBitmap,
    data.typeIds
  ])
}

/**
 * The batch with other operations in some of its rows. Of a row that becomes a delete nothing but the key is left: its values are those of a row that is
 * not to be seen.
 */
const reoperated = (batch: ChangeBatch.ChangeBatch, fates: ReadonlyArray<Fate>): ChangeBatch.ChangeBatch => {
  const { MetadataColumns, child, metadataColumns } = ChangeBatch
  const operations = (child(batch.records, MetadataColumns.op).values as Uint8Array).slice() // the column's type
  const deleted: Array<number> = []
  fates.forEach((fate, row) => {
    if (fate < 0) return
    operations[row] = fate
    if (fate === Operation.Delete) deleted.push(row)
  })
  const key = RowReads.keyOf(batch.table)
  const children = batch.records.data.children.map((data, index) => {
    if (index === MetadataColumns.op) {
      return makeData({ type: new Uint8(), data: operations, length: batch.rows, nullCount: 0 })
    }
    const isKey = key.length === 0 || key.includes(index - metadataColumns)
    const isMetadata = index < metadataColumns && index !== MetadataColumns.unsent
    return deleted.length === 0 || isMetadata || (isKey && index !== MetadataColumns.unsent)
      ? data
      : without(data, deleted)
  })
  const { schema } = batch.records
  const data = makeData({ type: new Struct(schema.fields), length: batch.rows, nullCount: 0, children })
  return ChangeBatch.make(batch.table, new RecordBatch(schema, data))
}

const chosen = (batch: ChangeBatch.ChangeBatch, fates: ReadonlyArray<Fate>): ChangeBatch.ChangeBatch | undefined => {
  const changed = fates.some((fate) => fate >= 0) ? reoperated(batch, fates) : batch
  const ranges: Array<{ readonly from: number; readonly to: number }> = []
  let from: number | undefined
  for (let row = 0; row <= fates.length; row++) {
    const stays = row < fates.length && fates[row] !== leftOut
    if (stays) from ??= row
    else if (from !== undefined) {
      ranges.push({ from, to: row })
      from = undefined
    }
  }
  const [first] = ranges
  if (first === undefined) return undefined
  return ranges.length === 1 && first.from === 0 && first.to === batch.rows
    ? changed
    : BatchConcat.select(changed, ranges)
}

/** What `RowTransform.filter` does; throws `ConnectorError`s. */
export const filtering = (filter: Filtering) => {
  const plan = RowReads.perTable((table): Plan => {
    const reads = RowReads.locate(filter.plugin, table, filter.reads)
    const key = RowReads.keyOf(table)
    return { table, reads, keyOnly: key.length > 0 && reads.every((index) => key.includes(index)) }
  })
  return {
    schema: (table: TableSchema): TableSchema => plan(table).table,
    apply: (batch: ChangeBatch.ChangeBatch): ChangeBatch.ChangeBatch | undefined => {
      const judging = new Judging(filter, plan(batch.table), batch)
      for (let row = 0; row < batch.rows; row++) judging.row(row)
      return chosen(batch, judging.fates)
    }
  }
}
