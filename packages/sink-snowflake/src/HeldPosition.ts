/**
 * What Snowflake holds of a table, in the engine's terms.
 */
import * as Sequence from "@etl-stream/core/Sequence"
import type { TablePosition } from "@etl-stream/core/Sink"
import type { CopySpan } from "./Merger.ts"
import { mergedByCopy } from "./StateTable.ts"
import type { Resumable, TableState } from "./TableState.ts"

/** The later of two sequence texts, whose order is bytewise. */
const later = (
  a: Sequence.SequenceText | undefined,
  b: Sequence.SequenceText | undefined
): Sequence.SequenceText | undefined => a === undefined ? b : b === undefined || a >= b ? a : b

/** Undefined for a copy of a version that didn't keep where it ended: all of its rows are of one snapshot. */
export const copySpan = (known: TableState | undefined): CopySpan | undefined =>
  known?.copied === undefined || known.copiedTo === undefined
    ? undefined
    : { position: known.copied, copiedTo: known.copiedTo }

/** What is held of a table, for the engine. Of an unfinished copy's changes the journal holds what its channel has committed. */
export const of = (
  known: TableState | undefined,
  unfinished: Resumable | undefined,
  committed: Sequence.SequenceText | undefined
): TablePosition => {
  const origin = known?.origin === undefined ? {} : { origin: known.origin }
  const upTo = (merged: Sequence.SequenceText | undefined): Sequence.Sequence | undefined => {
    const last = later(committed, merged)
    return last === undefined ? undefined : Sequence.parse(last)
  }
  if (known?.copied !== undefined) {
    const settled = known.settled === undefined ? {} : { settled: known.settled }
    return { copied: known.copied, committed: upTo(known.merged), ...settled, ...origin }
  }
  if (unfinished === undefined) return { copied: undefined, committed: undefined }
  const { chunks, plan, position } = unfinished
  return {
    copied: undefined,
    committed: upTo(mergedByCopy(position)),
    copying: {
      position,
      plan,
      origin: known?.origin,
      chunks: new Map([...chunks].map(([number, chunk]) => [number, chunk.position])),
      rows: [...chunks.values()].reduce((sum, { rows }) => sum + rows, 0)
    }
  }
}
