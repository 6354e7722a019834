/**
 * Errors of the built-in transforms. All name their table, so that it is set aside and the others go on.
 */
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import { tableId, type TableName } from "@etl-stream/core/TableSchema"

/** What a table can't go on by: options that don't fit its columns, or rows that can't be transformed without loss. */
export const failure = (
  plugin: string,
  table: TableName,
  message: string,
  hint: string
): ConnectorError => new ConnectorError({ reason: "Unsupported", plugin, message, hint, table: tableId(table) })
