/**
 * Writing names and literals into SQL and replication commands, which take no parameters.
 */
import type { TableName } from "@etl-stream/core/TableSchema"

/** A name as a quoted identifier. */
export const identifier = (name: string): string => `"${name.replaceAll("\"", "\"\"")}"`

/** A table's name, qualified and quoted. */
export const table = (name: TableName): string => `${identifier(name.schema)}.${identifier(name.name)}`

/** Text as a string literal (`standard_conforming_strings` or not). */
export const literal = (text: string): string =>
  text.includes("\\") ? `E'${text.replaceAll("\\", "\\\\").replaceAll("'", "''")}'` : `'${text.replaceAll("'", "''")}'`

/** Text as a string literal of a replication command, whose grammar knows no escapes. */
export const replicationLiteral = (text: string): string => `'${text.replaceAll("'", "''")}'`
