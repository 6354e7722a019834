/**
 * Builds a table's `ChangeBatch`es: metadata columns and one `ColumnBuilder` per column of the table.
 *
 * A decoder calls `begin` for each row, then appends exactly one value (or null, or `notSent`) to every column, in any order.
 * A reader of a copy appends the values alone, and calls `copied` for all rows at once. `finish` makes the Arrow record batch and starts an empty one.
 */
import type * as Arrow from "apache-arrow"
import { makeData } from "apache-arrow/data"
import { RecordBatch } from "apache-arrow/recordbatch"
import { Binary, Struct, TimestampMicrosecond, Uint64, Uint8 } from "apache-arrow/type"
import * as ByteCopy from "./ByteCopy.ts"
import * as ChangeBatch from "./ChangeBatch.ts"
import * as ColumnBuilder from "./ColumnBuilder.ts"
import { arrowType } from "./LogicalType.ts"
import type { TableSchema } from "./TableSchema.ts"

export class ChangeBatchBuilder {
  readonly table: TableSchema
  /** One builder per column of the table, in schema order. */
  readonly columns: ReadonlyArray<ColumnBuilder.ColumnBuilder>
  private readonly schema: Arrow.Schema
  private readonly op = new ColumnBuilder.NumberColumn(new Uint8(), (rows) => new Uint8Array(rows))
  private readonly commit = new ColumnBuilder.Int64Column(new Uint64())
  private readonly ordinal = new ColumnBuilder.Int64Column(new Uint64())
  private readonly commitTime = new ColumnBuilder.Int64Column(new TimestampMicrosecond("UTC"))
  private readonly unsent = new ColumnBuilder.BytesColumn(new Binary())
  private readonly mask: Uint8Array
  private readonly maskView: DataView
  private masked = false
  private open = false
  /** What the rows of one transaction have in common, and how many of them lack it so far. */
  private commitHigh = 0
  private commitLow = 0
  private timeHigh = 0
  private timeLow = 0
  private uncommitted = 0
  /** Rows since the last one that had a value which wasn't sent. */
  private complete = 0

  constructor(table: TableSchema) {
    this.table = table
    this.schema = ChangeBatch.arrowSchema(table)
    this.columns = table.columns.map((column) => ColumnBuilder.make(arrowType(column.type)))
    this.mask = new Uint8Array((table.columns.length + 7) >> 3)
    this.maskView = ByteCopy.viewOf(this.mask)
  }

  get rows(): number {
    return this.op.length
  }

  /** Approximate size of the buffers filled so far. */
  get bytes(): number {
    let bytes = this.rows * 29 + this.unsent.bytes
    for (const column of this.columns) bytes += column.bytes
    return bytes
  }

  /** Bytes of the buffers that the table's columns have, filled or not. */
  get held(): number {
    let bytes = 0
    for (const column of this.columns) bytes += column.held
    return bytes
  }

  /** Begins a row. Commit position and commit time come as 32-bit halves, so that no BigInt is made. */
  begin(
    op: ChangeBatch.Operation,
    commitHigh: number,
    commitLow: number,
    ordinal: number,
    timeHigh: number,
    timeLow: number
  ): void {
    this.endRow()
    this.open = true
    this.op.append(op)
    this.ordinal.appendNumber(ordinal)
    if (
      commitLow !== this.commitLow || commitHigh !== this.commitHigh || timeLow !== this.timeLow ||
      timeHigh !== this.timeHigh
    ) {
      this.endTransaction()
      this.commitHigh = commitHigh
      this.commitLow = commitLow
      this.timeHigh = timeHigh
      this.timeLow = timeLow
    }
    this.uncommitted++
  }

  /** The metadata of so many rows of a copy, whose values are appended without `begin`. */
  copied(rows: number, commitHigh: number, commitLow: number, timeHigh: number, timeLow: number): void {
    this.endRow()
    this.endTransaction()
    this.op.appendRun(ChangeBatch.Operation.Read, rows)
    this.ordinal.appendRun(0, 0, rows)
    this.commit.appendRun(commitHigh, commitLow, rows)
    this.commitTime.appendRun(timeHigh, timeLow, rows)
    this.complete += rows
  }

  private endTransaction(): void {
    const rows = this.uncommitted
    if (rows === 0) return
    this.uncommitted = 0
    this.commit.appendRun(this.commitHigh, this.commitLow, rows)
    this.commitTime.appendRun(this.timeHigh, this.timeLow, rows)
  }

  /** The current row's value of column `index` was not sent: null there, and its bit set in `_unsent`. */
  notSent(index: number): void {
    this.columns[index]?.appendNull()
    this.mask[index >> 3] = (this.mask[index >> 3] as number) | (1 << (index & 7)) // in range
    this.masked = true
  }

  private endRow(): void {
    if (!this.open) return
    this.open = false
    if (!this.masked) {
      this.complete++
      return
    }
    this.endComplete()
    this.unsent.copy(this.maskView, 0, this.mask.length)
    this.mask.fill(0)
    this.masked = false
  }

  private endComplete(): void {
    if (this.complete === 0) return
    this.unsent.appendNulls(this.complete)
    this.complete = 0
  }

  /** The rows so far as a batch; there must be at least one, and every column must have a value for each. */
  finish(): ChangeBatch.ChangeBatch {
    this.endRow()
    this.endTransaction()
    this.endComplete()
    const length = this.rows
    this.columns.forEach((column, index) => {
      // Arrow would fill up a short column with nulls.
      if (column.length !== length) {
        const name = this.table.columns[index]?.name
        throw new RangeError(`The column ${name} has ${column.length} values for ${length} rows`)
      }
    })
    const bytes = this.bytes
    const children = [this.op, this.commit, this.ordinal, this.commitTime, this.unsent, ...this.columns].map((column) =>
      column.finish()
    )
    const data = makeData({ type: new Struct(this.schema.fields), length, nullCount: 0, children })
    return ChangeBatch.make(this.table, new RecordBatch(this.schema, data), bytes)
  }
}
