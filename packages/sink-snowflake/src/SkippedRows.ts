/**
 * Rows that Snowflake took and then skipped: which they were and why, as far as it tells.
 *
 * It counts them (`rows_error_count`) and says up to which offset the last one was. With ERROR_LOGGING the journal has an error table that names the column and the
 * error's number as well; of that only these two are read, for the rest holds values.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { failure } from "./ErrorPolicy.ts"
import { literal } from "./Identifier.ts"
import type { SqlClient } from "./SqlClient.ts"
import type { TableLayout } from "./TableLayout.ts"
import { journalColumns, sqlName } from "./TableLayout.ts"

type Failed = ConnectorError.ConnectorError

/** What to do about them. */
export const hint = (layout: TableLayout): string =>
  `See which and why: SELECT * FROM ERROR_TABLE(${sqlName(layout.journal)}), when journal.errorLogging is on. ` +
  "Mend that."

const Reason = Schema.Struct({
  code: Schema.NullOr(Schema.String),
  source: Schema.NullOr(Schema.String),
  rows: Schema.FiniteFromString
})

/** Has Snowflake keep the rows that it skips in the journal's error table. */
export const keep = (sql: SqlClient, layout: TableLayout): Effect.Effect<void, Failed> =>
  Effect.asVoid(sql.execute({
    what: `Turning on error logging for ${layout.journal.name}`,
    sql: `ALTER TABLE ${sqlName(layout.journal)} SET ERROR_LOGGING = TRUE`,
    table: layout.id
  }))

/** Columns and error numbers of a channel's skipped rows; nothing when there is no error table, or it can't be read. */
export const reasons = (
  sql: SqlClient,
  layout: TableLayout,
  channel: string
): Effect.Effect<ReadonlyArray<string>> =>
  sql.execute({
    what: `Looking for skipped rows of ${layout.id}`,
    sql:
      `SELECT "ERROR_CODE"::VARCHAR AS "code", "ERROR_METADATA":error_source::VARCHAR AS "source", COUNT(*) AS "rows" ` +
      `FROM ERROR_TABLE(${sqlName(layout.journal)}) WHERE "ERROR_METADATA":service::VARCHAR = 'snowpipe_streaming' ` +
      `AND "ERROR_METADATA":details.channel_name::VARCHAR = ${
        literal(channel)
      } GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 5`,
    table: layout.id
  }).pipe(
    Effect.map(({ rows }) => {
      const known = new Set(journalColumns(layout).map(({ name }) => name))
      return rows.flatMap((row) => {
        const reason = Option.getOrUndefined(Schema.decodeUnknownOption(Reason)(row))
        if (reason === undefined) return []
        const { code, source } = reason
        // Nothing but names of columns and numbers: whatever else is there might be a value.
        const column = source !== null && known.has(source) ? `the column ${source}` : "a column that isn't named"
        return [`${column}${code !== null && /^\d+$/.test(code) ? ` (error ${code})` : ""}: ${reason.rows} in all`]
      })
    }),
    Effect.orElseSucceed((): ReadonlyArray<string> => [])
  )

/** The error for skipped rows. `last`: the offset at or before which the last one was. */
export const error = (
  layout: TableLayout,
  rows: number,
  last: string | undefined,
  why: ReadonlyArray<string>
): Failed =>
  failure(
    "Rejected",
    `Snowflake skipped ${rows} ${
      rows === 1 ? "row" : "rows"
    } of ${layout.id} on their way into ${layout.journal.name}` +
      `${last !== undefined && /^[0-9a-f/]{33}$/.test(last) ? `, the last at or before the change ${last}` : ""}` +
      `${why.length === 0 ? "" : `, because of ${why.join("; ")}`}`,
    hint(layout),
    { table: layout.id }
  )
