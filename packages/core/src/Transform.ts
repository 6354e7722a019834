/**
 * The contract of a transform: from a table's schema to the schema it makes of it, and from batches to batches.
 *
 * `schema` is asked once per table and schema version, before any batch; undefined leaves the table out. `apply` must keep
 * the rows' sequences and their order; it may drop rows.
 */
import type * as Effect from "effect/Effect"
import type { ChangeBatch } from "./ChangeBatch.ts"
import type { ConnectorError } from "./ConnectorError.ts"
import type { TableSchema } from "./TableSchema.ts"

export interface Transform {
  readonly schema: (table: TableSchema) => Effect.Effect<TableSchema | undefined, ConnectorError>
  /** The transformed batch, or undefined when none of its rows is left. */
  readonly apply: (batch: ChangeBatch) => Effect.Effect<ChangeBatch | undefined, ConnectorError>
}
