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
import type { ChangeBatch, Operation } from "./ChangeBatch.ts"
import type { Columns, NotSent, PartialRow } from "./Column.ts"
import type { Sequence } from "./Sequence.ts"
import type { TableSchema } from "./TableSchema.ts"

export interface RowView<out C extends Columns = Columns> {
  readonly table: TableSchema
  /** Number of the row in its batch, from 0. */
  readonly index: number
  readonly operation: Operation
  /** The change's identity. Makes an object. */
  readonly sequence: Sequence
  /** Microseconds since 1970-01-01 UTC; of a row of a copy, when it was read. */
  readonly commitTime: bigint
  /** The value of a column. Fails with a `RangeError` when the table has no such column. */
  readonly get: <Name extends keyof C & string>(column: Name) => C[Name]["Value"] | NotSent
  /** Whether the column's value was sent; NULL is a value that was sent. */
  readonly isSent: (column: keyof C & string) => boolean
  /** The row as an object whose properties read its columns: the same one for all rows. */
  readonly values: PartialRow<C>
  /** The row as an object of its own. */
  readonly toObject: () => PartialRow<C>
}

/** The rows of a batch, of whatever columns its table has: the same view for each. May be gone through several times, not at once. */
export declare const rows: (batch: ChangeBatch) => Iterable<RowView>
