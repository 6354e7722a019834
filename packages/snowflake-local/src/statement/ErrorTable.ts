/**
 * Error tables: the rows that Snowpipe Streaming skipped, of a table that has ERROR_LOGGING.
 */
import type { Table } from "../Catalog.ts"
import * as SnowflakeError from "../SnowflakeError.ts"
import type { Relation } from "../sql/Environment.ts"
import * as Identifier from "../sql/Identifier.ts"
import * as Literal from "../sql/Literal.ts"
import type { SnowflakeType } from "../sql/SnowflakeType.ts"
import * as Types from "../sql/SnowflakeType.ts"
import * as Privileges from "./Privileges.ts"
import type { StatementContext } from "./StatementContext.ts"

const instant: SnowflakeType = { kind: "TIMESTAMP_LTZ", scale: 9 }
const errorColumns = [
  { name: "TIMESTAMP", type: instant },
  { name: "QUERY_ID", type: Types.text },
  { name: "ERROR_CODE", type: Types.number38 },
  { name: "ERROR_METADATA", type: { kind: "OBJECT" } },
  { name: "ERROR_DATA", type: { kind: "OBJECT" } }
] as const

/** Throws when the table has no error table, or the role may not see into it. */
const requireErrors = (context: StatementContext, table: Table, ...privileges: ReadonlyArray<string>): void => {
  Privileges.require(context, table, "OWNERSHIP", ...privileges)
  if (table.options["ERROR_LOGGING"]?.toUpperCase() !== "TRUE") {
    throw SnowflakeError.objectNotFound("Error table", Identifier.print(table.name))
  }
}

/** ERROR_TABLE(table) in FROM. */
export const relation = (context: StatementContext, table: Table): Relation => {
  requireErrors(context, table, "SELECT")
  const details =
    "json_object('pipe_name', c.pipe, 'channel_name', c.channel, 'offset_token_upper_bound', e.offset_upper_bound, " +
    "'error_data_content_type', CASE WHEN json_valid(e.error_data) THEN 'json' ELSE 'json-invalid' END)"
  const data = "CASE WHEN json_valid(e.error_data) THEN CAST(e.error_data AS JSON) ELSE to_json(e.error_data) END"
  const columns = [
    "make_timestamptz(e.occurred_on_ms * 1000)",
    "CAST(NULL AS VARCHAR)",
    "CAST(NULL AS DECIMAL(38, 0))",
    `json_object('service', 'snowpipe_streaming', 'error_message', e.message, 'error_source', e.source, 'details', ${details})`,
    `json_object('$1', ${data})`
  ].map((sql, index) => `${sql} AS ${Identifier.quote(errorColumns[index]?.name ?? "")}`)
  return {
    sql: `(SELECT ${columns.join(", ")} FROM "_local".streaming_errors e LEFT JOIN "_local".streaming_channels c ` +
      `ON c.id = e.channel_id WHERE e.logged AND e.table_id = ${Literal.string(table.id)})`,
    alias: Identifier.quote("ERROR_TABLE"),
    columns: errorColumns
  }
}

/** TRUNCATE ERROR_TABLE(table), as DuckDB SQL. */
export const deletion = (context: StatementContext, table: Table): string => {
  requireErrors(context, table)
  return `DELETE FROM "_local".streaming_errors WHERE logged AND table_id = ${Literal.string(table.id)}`
}
