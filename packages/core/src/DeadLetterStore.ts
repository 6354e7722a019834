/**
 * The contract of a dead-letter store, and of a sink that can write letters' values after all.
 *
 * A sink puts a letter before the change that it came from can be reported durable. Delivered again, the change puts the same letter again, which
 * changes nothing. Nothing is ever held in memory as a whole: lists are streams, and a store takes only so many letters of a table.
 *
 * **Who calls what, and when.** `put` is called by sinks while they write, concurrently for several tables and pipelines, also of several processes; `list`, `get` and `remove` by `etl-stream dlq` and the HTTP API, beside running pipelines. Whatever the order, a letter
 * that was put and not removed is there. A letter is the only copy of a row's value: it is kept from whoever may not read the tables.
 *
 * **Errors.** A `put` that fails means that nothing may be reported durable: an error that names the table sets the table aside, any other ends the run. A `put` that is interrupted may have kept some of its letters.
 */
import type * as Effect from "effect/Effect"
import type * as Stream from "effect/Stream"
import type { ConnectorError } from "./ConnectorError.ts"
import type { DeadLetter } from "./DeadLetter.ts"
import type { TableId } from "./TableSchema.ts"

/** Which letters: those of a pipeline, and of one of its tables or columns, as far as they are named. */
export interface Selection {
  readonly pipeline: string
  readonly table?: TableId | undefined
  /** The column's name at the source. */
  readonly column?: string | undefined
}

export interface DeadLetterStore {
  /**
   * Keeps letters, durably on return, and returns how many of them are new. Fails naming the table when the store holds as many letters of it as it
   * may: then something is wrong with more than single values.
   */
  readonly put: (letters: ReadonlyArray<DeadLetter>) => Effect.Effect<number, ConnectorError>
  /** Letters, in any order. */
  readonly list: (selection: Selection) => Stream.Stream<DeadLetter, ConnectorError>
  readonly get: (pipeline: string, id: string) => Effect.Effect<DeadLetter | undefined, ConnectorError>
  /** Forgets letters; those that aren't there are no error. */
  readonly remove: (letters: ReadonlyArray<DeadLetter>) => Effect.Effect<void, ConnectorError>
}

/**
 * What became of a letter. `Written`: its value is in its row now; `Superseded`: a later change of the row has sent the column, or the table was copied again,
 * so the value is of the past.
 * These two are done. `Waiting`: the row isn't in its table yet. `Refused`: the value doesn't fit still. `Unclear`: it can't be told
 * whether the value is missing where it belongs.
 */
export type Replayed = { readonly _tag: "Written" } | { readonly _tag: "Superseded" } | Left

/** A letter that isn't done. */
export interface Left {
  readonly _tag: "Waiting" | "Refused" | "Unclear"
  readonly why: string
  readonly hint: string
}

/** What a sink's plugin offers for its dead letters. */
export interface DeadLetters {
  readonly store: DeadLetterStore
  /** Writes a letter's value to its row if that still is what the row lacks. The letter stays in the store. */
  readonly replay: (letter: DeadLetter) => Effect.Effect<Replayed, ConnectorError>
}
