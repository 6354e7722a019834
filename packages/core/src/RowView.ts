/**
 * Rows of a `ChangeBatch`, one after the other, without an object for each: a view that is moved from row to row.
 *
 * ```ts
 * for (const row of RowView.rows(batch)) {
 *   if (row.operation === Operation.Delete) remove(row.get("id"))
 *   else if (row.isSent("note")) write(row.get("id"), row.get("note"))
 * }
 * ```
 *
 * The view, its `values` and every `Uint8Array` that came from it are valid until the next row; `toObject` makes a copy to keep. Values are read
 * when they are asked for, and are of the types that `Column` lists. A value that was **not sent** is `Column.notSent`, which is neither NULL (`null`)
 * nor a value: an update without it leaves the target's own. Of a row that left (`Delete`, `KeyChangeOld`) in a table with a key only the key
 * is certain: anything else may be null for want of a value.
 */
import * as ChangeBatch from "./ChangeBatch.ts"
import type { Operation } from "./ChangeBatch.ts"
import { type Columns, type NotSent, notSent, type PartialRow, type Value } from "./Column.ts"
import * as RowValue from "./RowValue.ts"
import type { Sequence } from "./Sequence.ts"
import { tableId, type TableSchema } from "./TableSchema.ts"

export interface RowView<out C extends Columns = Columns> {
  readonly table: TableSchema
  /** Number of the row in its batch, from 0. */
  readonly index: number
  readonly operation: Operation
  /** The change's identity. Makes an object. */
  readonly sequence: Sequence
  /** Microseconds since 1970-01-01 UTC; of a row of a copy, when it was read. */
  readonly commitTime: bigint
  /** The value of a column. Throws a `RangeError` when the table has no such column. */
  readonly get: <Name extends keyof C & string>(column: Name) => C[Name]["Value"] | NotSent
  /** Whether the column's value was sent; NULL is a value that was sent. Throws a `RangeError` when the table has no such column. */
  readonly isSent: (column: keyof C & string) => boolean
  /** The row as an object whose properties read its columns: the same one for all rows. */
  readonly values: PartialRow<C>
  /** The row as an object of its own. */
  readonly toObject: () => PartialRow<C>
}

/** The view behind `rows`, for those who move it themselves (`index`). */
export class BatchRows implements RowView {
  readonly table: TableSchema
  index = 0
  private readonly batch: ChangeBatch.ChangeBatch
  private readonly positions = new Map<string, number>()
  private readonly readers: Array<RowValue.Reader | undefined> = []
  private readonly operations: Uint8Array
  private readonly times: BigInt64Array
  private readonly unsent: ReturnType<typeof ChangeBatch.child>
  private made: PartialRow<Columns> | undefined

  constructor(batch: ChangeBatch.ChangeBatch) {
    const { MetadataColumns, child } = ChangeBatch
    this.batch = batch
    this.table = batch.table
    batch.table.columns.forEach(({ name }, index) => this.positions.set(name, index))
    this.operations = child(batch.records, MetadataColumns.op).values as Uint8Array // the column's type, as that of the next
    this.times = child(batch.records, MetadataColumns.commitTime).values as BigInt64Array
    this.unsent = child(batch.records, MetadataColumns.unsent)
  }

  get operation(): Operation {
    return this.operations[this.index] as Operation // of a row in range
  }

  get sequence(): Sequence {
    return ChangeBatch.sequenceAt(this.batch.records, this.index)
  }

  get commitTime(): bigint {
    return this.times[this.index] as bigint // of a row in range
  }

  private position(column: string): number {
    const position = this.positions.get(column)
    if (position !== undefined) return position
    throw new RangeError(`The table ${tableId(this.table.table)} has no column ${column}`)
  }

  /** Whether the value of the column at `position` was sent. */
  sentAt(position: number): boolean {
    const { index, unsent } = this
    if (!RowValue.isValid(unsent, index)) return true
    const at = (unsent.valueOffsets[index] as number) + (position >> 3) // a mask has a bit for each column
    return (((unsent.values as Uint8Array)[at] as number) >> (position & 7) & 1) === 0 // the same; Binary columns hold bytes
  }

  /** The value of the column at `position`, whether or not it was sent. */
  valueAt(position: number): Value | null {
    const column = this.table.columns[position]
    if (column === undefined) return null
    const reader = this.readers[position] ??= RowValue.reader(
      ChangeBatch.child(this.batch.records, ChangeBatch.metadataColumns + position),
      column.type
    )
    return reader(this.index)
  }

  // Functions that stay what they are when they are taken off the view.
  readonly get = (column: string): Value | null | NotSent => {
    const position = this.position(column)
    return this.sentAt(position) ? this.valueAt(position) : notSent
  }

  readonly isSent = (column: string): boolean => this.sentAt(this.position(column))

  get values(): PartialRow<Columns> {
    return this.made ??= reading(this, [...this.positions.keys()])
  }

  readonly toObject = (): PartialRow<Columns> =>
    Object.fromEntries(this.table.columns.map(({ name }) => {
      const value = this.get(name)
      return [name, value instanceof Uint8Array ? value.slice() : value]
    }))
}

/** An object whose properties are the values of a view's columns. */
export const reading = (view: RowView, columns: ReadonlyArray<string>): PartialRow<Columns> => {
  const values: Record<string, Value | null | NotSent> = {}
  for (const name of columns) Object.defineProperty(values, name, { enumerable: true, get: () => view.get(name) })
  return values
}

/** The rows of a batch, of whatever columns its table has: the same view for each. */
export const rows = (batch: ChangeBatch.ChangeBatch): Iterable<RowView> => ({
  *[Symbol.iterator]() {
    const view = new BatchRows(batch)
    for (let index = 0; index < batch.rows; index++) {
      view.index = index
      yield view
    }
  }
})
