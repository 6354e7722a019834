/**
 * The contract of a transform: from a table's schema to the schema it makes of it, and from batches to batches.
 *
 * `schema` is asked once per table and schema version, before any batch; undefined leaves the table out. `apply` must keep
 * the rows' sequences and their order; it may drop rows.
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
