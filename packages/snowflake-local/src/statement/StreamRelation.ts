/**
 * Streams as queries see them.
 *
 * A stream has the columns of its table and three of its own. Statements that change rows move the streams that they read; reading a stream's rows themselves isn't supported
 * here, so a query fails when there are any and it asks for them. (`WHERE FALSE`, which moves a stream without taking its rows, asks for none.)
 */
import type { Stream, Table } from "../Catalog.ts"
import * as SnowflakeError from "../SnowflakeError.ts"
import type { Relation } from "../sql/Environment.ts"
import * as Identifier from "../sql/Identifier.ts"
import { failure } from "../sql/Macros.ts"
import * as Types from "../sql/SnowflakeType.ts"
import * as StreamLog from "../StreamLog.ts"
import * as Privileges from "./Privileges.ts"
import type { StatementContext } from "./StatementContext.ts"

const own = [
  { name: "METADATA$ACTION", type: Types.text, sql: "'INSERT'" },
  { name: "METADATA$ISUPDATE", type: { kind: "BOOLEAN" }, sql: "FALSE" },
  { name: "METADATA$ROW_ID", type: Types.text, sql: "''" }
] as const

/** The table of a stream; throws when it is another one, or gone. */
const tableOf = (context: StatementContext, stream: Stream): Table => {
  const { database, id, name, schema } = stream.table
  const table = context.services.catalog.relation(database, schema, name)
  if (table?.kind === "TABLE" && table.id === id) return table
  // The table may have been renamed.
  const renamed = context.services.catalog.objects().find((object) => object.kind === "TABLE" && object.id === id)
  if (renamed?.kind === "TABLE") return renamed
  throw SnowflakeError.streamWithoutTable(
    [database, schema, name].map(Identifier.print).join("."),
    Identifier.print(stream.name)
  )
}

/** A stream in FROM; undefined when there is none of this name. */
export const relation = (
  context: StatementContext,
  [database, schema, name]: readonly [string, string, string]
): Relation | undefined => {
  const stream = context.services.catalog.stream(database, schema, name)
  if (stream === undefined) return undefined
  const table = tableOf(context, stream)
  Privileges.require(context, stream, "SELECT")
  Privileges.require(context, table, "SELECT")
  const columns = [
    ...table.columns.map((column) => Identifier.quote(column.duckdbName)),
    ...own.map((column) => `${column.sql} AS ${Identifier.column(column.name)}`)
  ]
  const refused = failure("000002", "0A000", "Unsupported feature: rows of a stream (snowflake-local)")
  return {
    sql: `(SELECT ${columns.join(", ")} FROM ${table.duckdb} WHERE CASE WHEN ${
      StreamLog.hasData(stream.id)
    } THEN ${refused} IS NULL ELSE FALSE END)`,
    alias: Identifier.column(stream.name),
    columns: [...table.columns, ...own],
    stream: stream.id
  }
}

/** SYSTEM$STREAM_HAS_DATA. */
export const hasData = (
  context: StatementContext,
  path: readonly [string, string, string]
): string => {
  const stream = context.services.catalog.stream(...path)
  if (stream === undefined) throw SnowflakeError.objectNotFound("Stream", path.map(Identifier.print).join("."))
  tableOf(context, stream)
  Privileges.require(context, stream, "SELECT")
  return StreamLog.hasData(stream.id)
}
