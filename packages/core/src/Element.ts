/**
 * What a source's stream is made of. Elements are batches or marks between batches, never single rows.
 *
 * Order matters per table: all but rows are barriers for their table. A
 * `Watermark` says that everything that commits below its position has come.
 */
import type { ChangeBatch } from "./ChangeBatch.ts"
import type { ConnectorError } from "./ConnectorError.ts"
import type { Mistake } from "./Mistake.ts"
import type { Sequence } from "./Sequence.ts"
import type { TableName, TableSchema } from "./TableSchema.ts"

/** Changes of one table from the log, in order. */
export interface Rows {
  readonly _tag: "Rows"
  readonly batch: ChangeBatch
}

/**
 * A table's copy begins, or goes on where an earlier run left it (`resumed`).
 *
 * Every change with a commit position at or above `position` is streamed, whether or not the copy holds it, and none below; the
 * chunks of the copy are read in snapshots at or above it. So a copy and its changes may come side by side, a row of the copy
 * supersedes the changes below its own snapshot's position, and a table is right once its copy is complete and its changes
 * are applied. Unless it is resumed, whatever a sink holds of the table is void.
 */
export interface SnapshotBegin {
  readonly _tag: "SnapshotBegin"
  readonly table: TableSchema
  readonly position: bigint
  /**
   * How the source has cut the table into chunks: opaque text that a sink keeps with the unfinished copy and gives back, so that
   * a later run copies the missing chunks only. Undefined: this copy can't be resumed.
   */
  readonly plan: string | undefined
  /** Whether the unfinished copy that the sink gave back (`TablePosition.copying`) goes on. */
  readonly resumed: boolean
  /** Estimates of the whole copy, for progress and for what is prepared for it; undefined when they aren't known. */
  readonly estimatedRows: number | undefined
  readonly estimatedBytes: number | undefined
}

/** Rows of one chunk of a copy (operation `Read`), in any order; rows of other chunks may come in between. */
export interface SnapshotRows {
  readonly _tag: "SnapshotRows"
  readonly batch: ChangeBatch
  /** Position of the snapshot that the chunk is read in, also in the rows' sequence. */
  readonly position: bigint
  /** Number of the chunk in the copy's plan, from 0. */
  readonly chunk: number
}

/** All rows of a chunk have come. */
export interface SnapshotChunk {
  readonly _tag: "SnapshotChunk"
  readonly table: TableSchema
  readonly position: bigint
  readonly chunk: number
  /** Number of its rows. */
  readonly rows: number
}

/** The table's copy is complete: all chunks have come, those of earlier runs included. */
export interface SnapshotEnd {
  readonly _tag: "SnapshotEnd"
  readonly table: TableSchema
  /** Position of its `SnapshotBegin`. */
  readonly position: bigint
  /** Number of chunks of the plan. */
  readonly chunks: number
  /**
   * From this position on a change may be taken for what it is. Between `position` and here the source may have to complete
   * changes from the table itself. A sink keeps it and gives it back (`TablePosition.settled`). All chunks of a table without a key
   * are read in one snapshot, at this position, and changes below it are part of the copy.
   */
  readonly settled: bigint
}

/** The table is no longer read: from here on what a sink holds of it doesn't count as a complete copy. It is not deleted. */
export interface TableLeft {
  readonly _tag: "TableLeft"
  readonly table: TableSchema
}

/**
 * The table can't go on: something of it can't be read, which only concerns the table. No change of it that comes later in the log is
 * emitted before its next `SnapshotBegin`. It is put in quarantine, or ends the run.
 */
export interface TableFailed {
  readonly _tag: "TableFailed"
  readonly table: TableSchema
  readonly error: ConnectorError
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

/**
 * Every change with a commit position below `position` has been emitted, and no later element has one; only ever after a transaction's end (or at an idle position). This is
 * what is acknowledged once everything before it is durable: a source that is read from it on begins with what commits at it or later. Watermarks that don't grow are ignored.
 */
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

export type Element =
  | Rows
  | SnapshotBegin
  | SnapshotRows
  | SnapshotChunk
  | SnapshotEnd
  | TableLeft
  | TableFailed
  | Schema
  | Truncate
  | Watermark
  | Message

/** The table that an element belongs to, or undefined for `Watermark` and `Message`. */
export const tableOf = (element: Element): TableName | undefined => {
  switch (element._tag) {
    case "Rows":
    case "SnapshotRows":
      return element.batch.table.table
    case "SnapshotBegin":
    case "SnapshotChunk":
    case "SnapshotEnd":
    case "TableLeft":
    case "TableFailed":
    case "Schema":
    case "Truncate":
      return element.table.table
    case "Watermark":
    case "Message":
      return undefined
  }
}

/** Says which kinds of elements have no function. */
export type Complete<H, All> = [Exclude<keyof All, keyof H>] extends [never] ? unknown
  : Mistake<`nothing is said of ${Exclude<keyof All, keyof H> & string} elements`>

/** What the functions give. */
export type Answer<H> = { readonly [Tag in keyof H]: H[Tag] extends (element: never) => infer A ? A : never }[keyof H]

/** Gives an element to the function for its kind. Throws where there is none: plugins in plain JavaScript have no compiler to tell them. */
export const give = (element: Element, handlers: object): unknown => {
  const handler: unknown = Reflect.get(handlers, element._tag)
  if (typeof handler !== "function") throw new TypeError(`Nothing is said of ${element._tag} elements`)
  return handler.call(handlers, element)
}

/** A function for each kind of element. */
export type Handlers = { readonly [E in Element as E["_tag"]]: (element: E) => unknown }

/**
 * Gives an element to the function for its kind. Leaving one out doesn't compile.
 *
 * ```ts
 * const rows = Element.match(element, { Rows: ({ batch }) => batch.rows, SnapshotRows: ({ batch }) => batch.rows, Watermark: () => 0, … })
 * ```
 */
export const match = <H extends Partial<Handlers>>(
  element: Element,
  handlers: H & Complete<H, Handlers>
): Answer<H> => give(element, handlers) as Answer<H> // what the function for its kind gives
