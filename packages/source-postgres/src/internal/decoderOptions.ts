/**
 * What the pgoutput decoder has to be told.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { TableId, TableSchema } from "@etl-stream/core/TableSchema"
import type { TypeCatalog } from "../PostgresType.ts"
import type { Relation } from "./relation.ts"

export interface DecoderOptions {
  /** The tables in the shapes that the sink knows. */
  readonly tables: ReadonlyArray<TableSchema>
  /** The shape of a relation's table, undefined for one that isn't replicated. Called for every Relation message. */
  readonly resolveRelation: (relation: Relation, commit: bigint) => TableSchema | undefined
  /** Names that the columns of a relation of the past have now, see `Relation.compile`. Called after `resolveRelation`. */
  readonly namesNow: (relation: Relation) => ReadonlyArray<string | undefined> | undefined
  /** Whether the truncation of these relations, which are one table's, empties it. */
  readonly truncates: (relations: ReadonlyArray<number>, commit: bigint) => boolean
  /** Whether messages with this prefix become elements. */
  readonly takesMessage: (prefix: string) => boolean
  /** Types by OID, for values in binary format. */
  readonly types: TypeCatalog
  /** Snapshot positions: a table's changes whose commit LSN is below its own are in the copy and are left out. */
  readonly copied: ReadonlyMap<TableId, bigint>
  /** Whether a change of key that commits at this position has to come with all of its row's values. */
  readonly mustBeComplete: (table: TableId, commit: bigint) => boolean
  /** The error of a table that nothing more can come of, when what was thrown at a change concerns that table alone. */
  readonly tableError: (cause: unknown) => ConnectorError | undefined
  /** Rows and bytes after which a table's batch is cut. */
  readonly maxRows: number
  readonly maxBytes: number
}
