/**
 * What a source's stream is made of. Elements are batches or marks between batches, never single rows.
 *
 * Order matters per table: `Schema`, `Truncate`, `SnapshotBegin` and `SnapshotEnd` are barriers for their table. A
 * `Watermark` says that every element before it belongs to transactions up to its position, and none after it does.
 */
import type { ChangeBatch } from "./ChangeBatch.ts"
import type { Sequence } from "./Sequence.ts"
import type { TableName, TableSchema } from "./TableSchema.ts"

/** Changes of one table from the log, in order. */
export interface Rows {
  readonly _tag: "Rows"
  readonly batch: ChangeBatch
}

/**
 * A table's copy begins, read in a snapshot at `position`: whatever a sink holds of an earlier, unfinished copy is void.
 * Changes with a commit position below `position` are part of the copy and are not streamed for this table.
 */
export interface SnapshotBegin {
  readonly _tag: "SnapshotBegin"
  readonly table: TableSchema
  readonly position: bigint
  /** Planner's estimates, for progress only; undefined when never analysed. */
  readonly estimatedRows: number | undefined
  readonly estimatedBytes: number | undefined
}

/** Rows of a copy (operation `Read`), in any order. `part` numbers them from 0 within their table's copy. */
export interface SnapshotRows {
  readonly _tag: "SnapshotRows"
  readonly batch: ChangeBatch
  readonly position: bigint
  readonly part: number
}

/** The table's copy is complete: `rows` rows in all parts. */
export interface SnapshotEnd {
  readonly _tag: "SnapshotEnd"
  readonly table: TableSchema
  readonly position: bigint
  readonly rows: number
}

/** The table's shape changes here: batches before have the old schema, batches after it this one. */
export interface Schema {
  readonly _tag: "Schema"
  readonly table: TableSchema
  readonly sequence: Sequence
}

/** All rows of the table are removed here. */
export interface Truncate {
  readonly _tag: "Truncate"
  readonly table: TableSchema
  readonly sequence: Sequence
  /** Commit time, microseconds since 1970-01-01 UTC. */
  readonly commitTime: bigint
}

/** Everything up to `position` has been emitted; only ever the end of a transaction (or an idle position after one). */
export interface Watermark {
  readonly _tag: "Watermark"
  readonly position: bigint
  /** Commit time of the last transaction before it, microseconds since 1970-01-01 UTC; undefined when there was none. */
  readonly commitTime: bigint | undefined
}

/** A message that an application wrote into the log. */
export interface Message {
  readonly _tag: "Message"
  readonly sequence: Sequence
  readonly prefix: string
  readonly content: Uint8Array
}

export type Element = Rows | SnapshotBegin | SnapshotRows | SnapshotEnd | Schema | Truncate | Watermark | Message

/** The table that an element belongs to, or undefined for `Watermark` and `Message`. */
export const tableOf = (element: Element): TableName | undefined => {
  switch (element._tag) {
    case "Rows":
    case "SnapshotRows":
      return element.batch.table.table
    case "SnapshotBegin":
    case "SnapshotEnd":
    case "Schema":
    case "Truncate":
      return element.table.table
    case "Watermark":
    case "Message":
      return undefined
  }
}
