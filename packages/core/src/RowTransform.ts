/**
 * Transforms that are written row by row: columns computed from others (`make`), columns left out, rows left out (`filter`).
 *
 * ```ts
 * const totals = RowTransform.make({
 *   plugin: "@example/totals",
 *   reads: { price: Column.decimal(), quantity: Column.int32() },
 *   writes: { total: Column.decimal() },
 *   map: (row) => ({ total: multiply(row.price, row.quantity) })
 * })
 * ```
 *
 * A transform says which columns it reads and which it writes; all others pass as they are, without being looked at. A written column takes the
 * place of the one of its name, or comes last. A table that lacks a column that is read, or has it with another type, is an error that names both; which
 * tables a transform is for says the configuration (`tables:`), or `Transform.only`. Sequences, order and commit times are never touched.
 *
 * **What must be so:** `map` and `keep` go by the values that they read and by nothing else (no clock, no counter, nothing remembered): rows come again after a
 * restart, and one row comes again with each of its changes. They run for every row; don't let them wait for anything.
 *
 * **Values that were not sent.** An update may lack values (`Column.notSent`: PostgreSQL leaves out large ones that didn't change).
 *
 * - All that `map` reads was sent: it is called.
 * - Nothing of it was (the key aside, which no update changes): nothing of it has changed, so what was written of the row is still right. `map` isn't called, and the
 *   written columns are not sent either: the target keeps what it has.
 * - Some was and some wasn't: what is to be written can't be known. `whenUnsent` is called, if there is one, and may say `Column.notSent` for a column that
 *   it knows to be as it was; otherwise it is an error that names the table and the columns, and sets the table aside. (In PostgreSQL `REPLICA IDENTITY FULL` has all values sent.)
 *
 * **Keys.** Key columns can't be left out. One can be written (hashed, say) if everything read is of the key, so that deletes, which carry nothing else,
 * come to the same. Of rows that left (`Delete`, `KeyChangeOld`) only the key is mapped; written columns that aren't of the key are null there. In a table
 * without a key those rows are whole, and are mapped as any other.
 *
 * **Filters and rows that change sides.** What a source sends of an update is the new row alone, so it can't be seen whether the row passed the filter before:
 *
 * - An update that passes stays what it is: the target inserts the row if it doesn't have it. That takes a whole row: an update with
 *   values that weren't sent may be of a row that the target has never seen, which would be left without them. So it is an error, unless what
 *   `keep` reads can't change (`constant`, or only columns of the key).
 * - An update that doesn't pass becomes a `Delete`: the target may have the row. (Nothing happens there if it hasn't, but a changelog has an
 *   entry more.) With `constant` it is left out.
 * - Deletes pass, whatever they were.
 * - A change of key is both: the old identity leaves, the new row passes or doesn't. Lacking values, it needs a row that passed before, which is
 *   known if `keep` reads nothing but the key.
 * - In a table without a key old rows come whole, so all of that is exact: an old row that didn't pass is left out, a new one too.
 * - Rows of a copy and inserts are simply kept or left out; a truncate passes.
 * - Something that `keep` reads wasn't sent: whether the row passes can't be known, which is an error.
 */
import * as Effect from "effect/Effect"
import type { ChangeBatch } from "./ChangeBatch.ts"
import type { Columns, PartialRow, Row } from "./Column.ts"
import { ConnectorError } from "./ConnectorError.ts"
import type { Checked } from "./internal/writtenRow.ts"
import { computing } from "./RowComputation.ts"
import { filtering } from "./RowFilter.ts"
import type { RowView } from "./RowView.ts"
import type { Transform } from "./Transform.ts"

/** What a transform by `make` consists of. */
export interface Definition<R extends Columns, W extends Columns, M = Row<W>> {
  /** The plugin's name, for errors. */
  readonly plugin: string
  /** The columns that `map` reads. A column that isn't `nullable` here must not be so in the table. */
  readonly reads: R
  /** The columns that `map` gives. */
  readonly writes: W
  /** Columns of the table that are left out; those that it hasn't got are no error. */
  readonly drops?: ReadonlyArray<string>
  /** The written columns of a row. `row` is valid until `map` returns. */
  readonly map: (row: Row<R>, view: RowView) => Checked<"map", M, Row<W>>
  /** The same for a row of which only some of the values were sent. */
  readonly whenUnsent?: (row: PartialRow<R>, view: RowView) => PartialRow<W>
}

/** What a transform by `filter` consists of. */
export interface Filter<R extends Columns> {
  /** The plugin's name, for errors. */
  readonly plugin: string
  /** The columns that `keep` reads. A column that isn't `nullable` here must not be so in the table. */
  readonly reads: R
  /** Whether a row stays. `row` is valid until `keep` returns. */
  readonly keep: (row: Row<R>, view: RowView) => boolean
  /** Promises that what `keep` reads of a row never changes, such as the customer that it belongs to: no row ever changes sides. False by default. */
  readonly constant?: boolean
}

/** Runs what throws `ConnectorError`s. */
const attempt = <A>(evaluate: () => A): Effect.Effect<A, ConnectorError> =>
  Effect.suspend(() => {
    try {
      return Effect.succeed(evaluate())
    } catch (error) {
      return error instanceof ConnectorError ? Effect.fail(error) : Effect.die(error)
    }
  })

/**
 * A transform that computes columns. Type errors say what is wrong with what `map` gives: a column of `writes` that it leaves out, one that `writes` doesn't
 * declare, a value of the wrong type, NULL where the column isn't nullable.
 *
 * At run time, a value that doesn't fit its column is a `Rejected` error that names table and column, never the value.
 */
export const make = <const R extends Columns, const W extends Columns, M>(
  definition: Definition<R, W, M>
): Transform => {
  const { apply, schema } = computing(definition)
  return {
    schema: (table) => attempt(() => schema(table)),
    apply: (batch) => attempt((): ChangeBatch | undefined => apply(batch))
  }
}

/** A transform that leaves rows out. */
export const filter = <const R extends Columns>(definition: Filter<R>): Transform => {
  const { apply, schema } = filtering(definition)
  return {
    schema: (table) => attempt(() => schema(table)),
    apply: (batch) => attempt(() => apply(batch))
  }
}
