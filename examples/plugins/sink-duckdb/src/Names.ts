/**
 * Names of what the sink makes in the file, quoted for SQL.
 *
 * DuckDB compares names without regard to case, other than most sources: so `Orders` and `orders` are one table to it, and one of them has to be renamed by a transform.
 */
import type { TableName, TableSchema } from "@etl-stream/core/TableSchema"
import type { Config } from "./Config.ts"

/** An identifier in double quotes: any text is one. */
export const quote = (name: string): string => `"${name.replaceAll("\"", "\"\"")}"`

/** A text literal. */
export const literal = (text: string): string => `'${text.replaceAll("'", "''")}'`

/** Schema of the sink's own tables. */
export const home = "etl_stream"

/** What columns of the sink's own begin with, in tables that have the source's columns, too. */
export const reserved = "etl$"

/** Order of a change within its table, operation, commit position, names of the columns that were not sent. */
export const meta = {
  n: quote("etl$n"),
  op: quote("etl$op"),
  commit: quote("etl$commit"),
  unsent: quote("etl$unsent"),
  chunk: quote("etl$chunk"),
  count: quote("etl$count")
} as const

/** Where a table of the source goes to. */
export const targetOf = (config: Config, { table }: TableSchema): TableName => ({
  schema: config.schema ?? table.schema,
  name: table.name
})

/** Qualified, quoted. */
export const qualified = ({ name, schema }: TableName): string => `${quote(schema)}.${quote(name)}`

/** Rows of a copy that isn't complete. */
export const copyOf = ({ name, schema }: TableName): string => `${quote(home)}.${quote(`copy of ${schema}.${name}`)}`

/** Changes that came beside a copy. */
export const changesOf = ({ name, schema }: TableName): string =>
  `${quote(home)}.${quote(`changes of ${schema}.${name}`)}`
