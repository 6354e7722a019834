/**
 * The shape of one table at one schema version: its name, columns and how its rows are identified.
 */
import type { LogicalType } from "./LogicalType.ts"

/** A table's name at its source: schema (namespace) and name, exactly as stored there. */
export interface TableName {
  readonly schema: string
  readonly name: string
}

/**
 * Text that identifies a table within a pipeline, for maps, logs and metrics: `schema.name`, a part with a dot or a double quote
 * in double quotes, so that different tables never share one. Not an SQL identifier.
 */
export type TableId = string

const part = (name: string): string => /[."]/.test(name) ? `"${name.replaceAll("\"", "\"\"")}"` : name

export const tableId = (name: TableName): TableId => `${part(name.schema)}.${part(name.name)}`

const written = /^(?:"((?:[^"]|"")+)"|([^."]+))\.(?:"((?:[^"]|"")+)"|([^."]+))$/

/** The table that `text` (`schema.name`, either part in double quotes or not) names, letters taken as they are; undefined when it names none. */
export const parseTableId = (text: string): TableName | undefined => {
  const [, quotedSchema, schema, quotedName, name] = written.exec(text) ?? []
  const namespace = quotedSchema?.replaceAll("\"\"", "\"") ?? schema
  const table = quotedName?.replaceAll("\"\"", "\"") ?? name
  return namespace === undefined || table === undefined ? undefined : { schema: namespace, name: table }
}

export interface ColumnSchema {
  readonly name: string
  readonly type: LogicalType
  /** The type as the source calls it, for example `numeric(12,2)`: for messages and for type overrides. */
  readonly sourceType: string
  readonly nullable: boolean
  /**
   * What the column stays recognisable by when it is renamed: never used for another column, of another table neither. Absent when the source
   * knows none. A source that gives it doesn't have a table copied again for a column's new name: a sink finds the column by it, and
   * transforms leave it as it is.
   */
  readonly id?: string
}

/**
 * How a row is found again:
 * `key`: by the columns at these indexes (primary key or replica-identity index);
 * `full`: by the whole row, the table having no key (deletes and updates carry the complete old row; equal rows may exist more than once);
 * `none`: rows are only ever inserted.
 */
export type Identity =
  | { readonly _tag: "Key"; readonly columns: ReadonlyArray<number> }
  | { readonly _tag: "Full" }
  | { readonly _tag: "None" }

/** A table at one schema version. `version` grows with every change of shape within a run; columns keep the source's order. */
export interface TableSchema {
  readonly table: TableName
  readonly version: number
  readonly columns: ReadonlyArray<ColumnSchema>
  readonly identity: Identity
  /**
   * Opaque text by which the source recognises the table's history: whether what was copied once is still the beginning of
   * what the table holds. A sink keeps it with the copy and gives it back in its position, and never interprets it.
   */
  readonly origin?: string
}
