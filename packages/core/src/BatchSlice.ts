/**
 * Cuts off the rows of a batch that a sink holds already.
 *
 * Rows are in ascending order of their sequence, so the cut is found by binary search. What remains is copied into compact
 * buffers (offset 0): a batch is cut only while a run catches up with what its sink holds, and consumers that read raw
 * buffers never have to know about offsets.
 */
import * as BatchConcat from "./BatchConcat.ts"
import * as ChangeBatch from "./ChangeBatch.ts"
import * as Sequence from "./Sequence.ts"

/** Number of rows of `batch` whose sequence is at or before `sequence`. */
export const rowsUpTo = (batch: ChangeBatch.ChangeBatch, sequence: Sequence.Sequence): number => {
  // Both are Uint64 columns, which are built over BigUint64Array.
  const commit = ChangeBatch.child(batch.records, ChangeBatch.MetadataColumns.commit).values as BigUint64Array
  const ordinal = ChangeBatch.child(batch.records, ChangeBatch.MetadataColumns.ordinal).values as BigUint64Array
  let low = 0
  let high = batch.rows
  while (low < high) {
    const middle = (low + high) >>> 1
    const at = commit[middle] ?? 0n
    const before = at === sequence.commit ? (ordinal[middle] ?? 0n) <= sequence.ordinal : at < sequence.commit
    if (before) low = middle + 1
    else high = middle
  }
  return low
}

/** The rows after `sequence`: the batch itself when that is all of them, undefined when there are none. */
export const after = (
  batch: ChangeBatch.ChangeBatch,
  sequence: Sequence.Sequence | undefined
): ChangeBatch.ChangeBatch | undefined => {
  if (sequence === undefined || Sequence.compare(batch.first, sequence) > 0) return batch
  if (Sequence.compare(batch.last, sequence) <= 0) return undefined
  return BatchConcat.copyRows(batch, rowsUpTo(batch, sequence), batch.rows)
}
