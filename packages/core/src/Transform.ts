/**
 * The contract of a transform: from a table's schema to the schema it makes of it, and from batches to batches.
 *
 * `RowTransform` makes transforms that are written row by row; write one by columns where it is simple or has to be fast.
 *
 * **Who calls what, and when.** `schema` is asked once per table and schema version in each run, before any batch of it; undefined leaves the table out, then and there for the whole
 * run. `etl-stream validate --connect` and `etl-stream test` ask, too. `apply` is called for one batch at a time, with all tables of a pipeline in turn. Transforms of a pipeline run one after another: each gets what the one before made of it,
 * schemas and names included. Copies and changes pass the same way; `Truncate` and `Schema` elements don't pass through `apply`.
 *
 * **What must be kept.** The rows' sequences, their order, their commit times, their operations and the two rows of a change of key; a row may be dropped. The batch's columns must be those of the schema that was given, in its
 * order and Arrow types (`ChangeBatch.misfit` is checked behind every transform). What was not sent stays not sent: a value computed from one that isn't there must not overwrite the target's. A key stays a key: rows
 * that were different must not become the same, and deletes, which carry nothing but the key, must find them. Batches are immutable; columns that don't change are passed on as they are.
 *
 * **The same each time.** Rows come again after a restart, and one row comes with each of its changes: the result goes by the row and the options alone. No clock, no counter, nothing remembered.
 *
 * **Errors.** An error that names its table (`table`) sets that table aside, if it is one of those that stay (`Quarantine.concernsTable`); anything else ends the run. A row that can't be transformed is an error, never silently left out.
 * `apply` holds up the whole pipeline while it waits for something, and is interrupted when the run ends.
 */
import * as Effect from "effect/Effect"
import type { ChangeBatch } from "./ChangeBatch.ts"
import type { ConnectorError } from "./ConnectorError.ts"
import type { TableName, TableSchema } from "./TableSchema.ts"

export interface Transform {
  readonly schema: (table: TableSchema) => Effect.Effect<TableSchema | undefined, ConnectorError>
  /** The transformed batch, or undefined when none of its rows is left. */
  readonly apply: (batch: ChangeBatch) => Effect.Effect<ChangeBatch | undefined, ConnectorError>
}

/** `transform` for the tables that `matches` accepts, by the names that they have when they come to it; all others pass unchanged. */
export const only = (matches: (table: TableName) => boolean, transform: Transform): Transform => ({
  schema: (table) => matches(table.table) ? transform.schema(table) : Effect.succeed(table),
  apply: (batch) => matches(batch.table.table) ? transform.apply(batch) : Effect.succeed(batch)
})
