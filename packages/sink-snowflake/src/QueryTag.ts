/**
 * What Snowflake's query history shows beside each statement: a JSON document that says which pipeline ran it, for which table, to what end. Costs can so be
 * told apart by table (`TRY_PARSE_JSON(QUERY_TAG):table`). The tag travels with the statement and needs no round trip of its own.
 */
import type { TableId } from "@etl-stream/core/TableSchema"

/** `setup`: schemas, tables and columns, and everything else that isn't regular work. */
export type Purpose = "setup" | "state" | "copy" | "merge" | "prune"

/** Snowflake refuses longer tags. */
const longest = 2000

export const make = (pipeline: string, table: TableId | undefined, purpose: Purpose): string => {
  const tag = (of: string, on: string | undefined): string =>
    JSON.stringify({ app: "etl-stream", pipeline: of, ...(on === undefined ? {} : { table: on }), purpose })
  const whole = tag(pipeline, table)
  // An escaped character takes up to six, so this is short enough whatever the names hold.
  return whole.length <= longest ? whole : tag(pipeline.slice(0, 100), table?.slice(0, 200))
}
