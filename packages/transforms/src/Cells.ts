/**
 * Reading the raw buffers of a batch: validity, the mask of what was not sent, and copies of a batch with other columns or fewer rows.
 */
import * as BatchConcat from "@etl-stream/core/BatchConcat"
import * as ChangeBatches from "@etl-stream/core/ChangeBatch"
import type { ChangeBatch } from "@etl-stream/core/ChangeBatch"
import type { TableSchema } from "@etl-stream/core/TableSchema"
import type * as Arrow from "apache-arrow"
import { makeData } from "apache-arrow/data"
import { RecordBatch } from "apache-arrow/recordbatch"
import { Binary, Struct, Uint8 } from "apache-arrow/type"

const { MetadataColumns, metadataColumns } = ChangeBatches

/** The raw data of the table's column `index`. */
export const column = (batch: ChangeBatch, index: number): Arrow.Data =>
  ChangeBatches.child(batch.records, metadataColumns + index)

export const isNull = (data: Arrow.Data, row: number): boolean =>
  data.nullCount > 0 && ((data.nullBitmap[row >> 3] ?? 0) & (1 << (row & 7))) === 0

/** The operations of a batch's rows. */
export const operations = (batch: ChangeBatch): Uint8Array =>
  ChangeBatches.child(batch.records, MetadataColumns.op).values as Uint8Array // a Uint8 column

/** What was not sent in a batch. */
export class Unsent {
  /** Whether any row has values that were not sent. */
  readonly any: boolean
  readonly data: Arrow.Data
  private readonly bits: Uint8Array
  private readonly offsets: Int32Array

  constructor(batch: ChangeBatch) {
    this.data = ChangeBatches.child(batch.records, MetadataColumns.unsent)
    this.any = this.data.nullCount < batch.rows
    this.bits = this.data.values as Uint8Array // a Binary column
    this.offsets = this.data.valueOffsets
  }

  /** Whether row `row` has any. */
  inRow(row: number): boolean {
    return this.any && !isNull(this.data, row)
  }

  /** Whether the value of the table's column `index` was not sent in row `row`. */
  has(row: number, index: number): boolean {
    return this.inRow(row) &&
      ((this.bits[(this.offsets[row] ?? 0) + (index >> 3)] ?? 0) & (1 << (index & 7))) !== 0
  }
}

/** For each column of a new batch: index of the column whose not-sent values it shares, or undefined, when its own are given by bits per row (or it has none). */
export interface NewColumn {
  readonly data: Arrow.Data
  readonly follows: number | undefined
  /** Bit `row`: its value was not sent. Only without `follows`. */
  readonly unsent?: Uint8Array | undefined
}

/** The mask of what was not sent, after columns have come, gone or moved. */
const mask = (batch: ChangeBatch, unsent: Unsent, columns: ReadonlyArray<NewColumn>): Arrow.Data => {
  const own = columns.some((made) => made.unsent !== undefined)
  if (!own && !unsent.any) return unsent.data
  const same = columns.length === batch.table.columns.length && columns.every(({ follows }, index) => follows === index)
  if (same) return unsent.data
  const width = (columns.length + 7) >> 3
  const { rows } = batch
  const nullBitmap = new Uint8Array((rows + 7) >> 3)
  const valueOffsets = new Int32Array(rows + 1)
  const bits = new Uint8Array(rows * width)
  let used = 0
  let nullCount = 0
  for (let row = 0; row < rows; row++) {
    let any = false
    if (own || unsent.inRow(row)) {
      for (let index = 0; index < columns.length; index++) {
        const made = columns[index] as NewColumn // in range
        const missing = made.follows === undefined
          ? made.unsent !== undefined && ((made.unsent[row >> 3] ?? 0) & (1 << (row & 7))) !== 0
          : unsent.has(row, made.follows)
        if (!missing) continue
        any = true
        bits[used + (index >> 3)] = (bits[used + (index >> 3)] ?? 0) | (1 << (index & 7))
      }
    }
    if (any) {
      nullBitmap[row >> 3] = (nullBitmap[row >> 3] ?? 0) | (1 << (row & 7))
      used += width
    } else nullCount++
    valueOffsets[row + 1] = used
  }
  return makeData({
    type: new Binary(),
    length: rows,
    nullCount,
    nullBitmap,
    valueOffsets,
    data: bits.subarray(0, used)
  })
}

/** A batch of the same rows with other columns, those of `target`. */
export const withColumns = (
  batch: ChangeBatch,
  target: TableSchema,
  columns: ReadonlyArray<NewColumn>
): ChangeBatch => {
  const metadata = batch.records.data.children.slice(0, metadataColumns)
  metadata[MetadataColumns.unsent] = mask(batch, new Unsent(batch), columns)
  return assembled(target, batch.rows, [...metadata, ...columns.map(({ data }) => data)])
}

const assembled = (target: TableSchema, rows: number, children: Array<Arrow.Data>): ChangeBatch => {
  const schema = ChangeBatches.arrowSchema(target)
  const data = makeData({ type: new Struct(schema.fields), length: rows, nullCount: 0, children })
  return ChangeBatches.make(target, new RecordBatch(schema, data))
}

/** The same rows and columns under another table's name or with other column names. */
export const renamed = (batch: ChangeBatch, target: TableSchema): ChangeBatch =>
  assembled(target, batch.rows, [...batch.records.data.children])

/** The same batch with NULL in some rows of some columns, given by their place among all, metadata included. */
export const withNulls = (
  batch: ChangeBatch,
  columns: ReadonlyArray<number>,
  rows: ReadonlyArray<number>
): ChangeBatch => {
  const children = [...batch.records.data.children]
  for (const index of columns) {
    const data = ChangeBatches.child(batch.records, index)
    const nullBitmap = data.nullCount > 0
      ? data.nullBitmap.slice(0, (batch.rows + 7) >> 3)
      : new Uint8Array((batch.rows + 7) >> 3).fill(0xff)
    let { nullCount } = data
    for (const row of rows) {
      if (isNull(data, row)) continue
      nullBitmap[row >> 3] = (nullBitmap[row >> 3] ?? 0) & ~(1 << (row & 7))
      nullCount++
    }
    if (nullCount !== data.nullCount) {
      children[index] = data.clone(data.type, 0, batch.rows, nullCount, [
        data.valueOffsets,
        data.values,
        nullBitmap,
        data.typeIds
      ])
    }
  }
  return assembled(batch.table, batch.rows, children)
}

/**
 * The rows whose operation in `becomes` isn't `dropped`, with those operations; undefined when none is left.
 */
export const pickRows = (batch: ChangeBatch, becomes: Uint8Array): ChangeBatch | undefined => {
  const before = operations(batch)
  const ranges: Array<{ readonly from: number; readonly to: number }> = []
  let kept = 0
  let same = true
  for (let row = 0, from = -1; row <= batch.rows; row++) {
    const keeps = row < batch.rows && becomes[row] !== dropped
    if (keeps) {
      if (from < 0) from = row
      kept++
      same &&= becomes[row] === before[row]
    } else if (from >= 0) {
      ranges.push({ from, to: row })
      from = -1
    }
  }
  if (kept === 0) return undefined
  const picked = kept === batch.rows ? batch : BatchConcat.select(batch, ranges)
  if (same) return picked
  const children = [...picked.records.data.children]
  children[MetadataColumns.op] = makeData({
    type: new Uint8(),
    length: kept,
    nullCount: 0,
    data: kept === batch.rows ? becomes.slice(0, kept) : becomes.filter((op) => op !== dropped)
  })
  return assembled(picked.table, kept, children)
}

/** No operation: the row goes. */
export const dropped = 0xff
