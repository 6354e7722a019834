/**
 * A window of a table's journal, and the way in which a mode brings it into the target.
 *
 * The merger finds windows, opens the transaction and moves the table's position in it; what happens to the target is the mode's.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import type * as Effect from "effect/Effect"
import { literal } from "./Identifier.ts"
import type { KeyRange } from "./KeyRange.ts"
import type { Session } from "./SqlClient.ts"
import type { TableLayout } from "./TableLayout.ts"

/** Changes with `after < _ETL_SEQ <= upTo`. */
export interface Window {
  readonly after: string
  readonly upTo: string
  /** Between its beginning and its latest snapshot: the table's copy, while the target may hold rows of snapshots after the window's beginning. */
  readonly amidCopy: { readonly after: string; readonly upTo: string } | undefined
}

/** A window's bound as SQL. In the body of a task it is a variable, `:merged`, which no sequence looks like. */
export const bound = (sequence: string): string => sequence.startsWith(":") ? sequence : literal(sequence)

/** What a window holds. */
export interface Contents {
  readonly rows: number
  /** The last change; before the window's end when Snowflake doesn't show all of it yet. */
  readonly last: string | undefined
  /** The window's end: the last change, but never the first half of a change of key. Undefined when there is nothing. */
  readonly upTo: string | undefined
  /** Sequence of the last truncate. */
  readonly truncated: string | undefined
  /** Whether any change left columns unsent. */
  readonly partial: boolean
  /** Whether a change of key did. */
  readonly moved: boolean
  /** Changes that remove a row. */
  readonly removes: number
  /** Sequence of the first change that is neither a new row nor a truncate. */
  readonly altered: string | undefined
  /** Between which values its keys lie. */
  readonly keys: ReadonlyArray<KeyRange>
}

/**
 * Prepares a window, in the session but before the transaction (reads, temporary tables), and returns what is to be done in the
 * transaction: everything that changes the target.
 */
export type WindowApplier = (
  session: Session,
  layout: TableLayout,
  window: Window,
  contents: Contents
) => Effect.Effect<Effect.Effect<void, ConnectorError.ConnectorError>, ConnectorError.ConnectorError>
