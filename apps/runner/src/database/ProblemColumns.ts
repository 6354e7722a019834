/**
 * Writes into the rows of the configuration database what is wrong with them, and takes it back once it is mended.
 *
 * A row that somebody has in hand, or that has changed since it was read, is left for the next time: nobody waits for anybody.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import type { Problem } from "../Problem.ts"
import type { Redaction } from "../Redaction.ts"
import { fromSql } from "./DatabaseError.ts"
import type { Problems } from "./Evaluation.ts"
import { keyOf, type Row, type Snapshot } from "./Rows.ts"
import { schema } from "./Tables.ts"

/** What a column may hold of it. */
const longest = 4000

const line = ({ message, path, remedy }: Problem): string => `${path === "" ? "" : `${path}: `}${message} ${remedy}`

/** The text for the column. */
const textOf = (problems: ReadonlyArray<Problem>, redact: Redaction): string => {
  const text = redact(problems.map(line).join("\n"))
  const short = text.length <= longest ? text : `${text.slice(0, longest)}…`
  // PostgreSQL's text has neither NUL nor half a character.
  return short.replaceAll("\0", "\ufffd").toWellFormed()
}

const update = Effect.fnUntraced(function*(row: Row, problem: string | null) {
  const sql = yield* SqlClient.SqlClient
  const table = sql(`${schema}.${row.table}`)
  yield* sql`UPDATE ${table} SET problem = ${problem}::text, problem_at = CASE WHEN ${problem}::text IS NOT NULL THEN now() END
    WHERE name = (SELECT name FROM ${table} WHERE name = ${row.name} AND xmin::text = ${row.xmin} FOR UPDATE SKIP LOCKED)`
})

/** Makes the columns of `snapshot`'s rows say what `problems` says, where they don't. */
export const write = Effect.fn("ProblemColumns.write")(function*(
  snapshot: Snapshot,
  problems: Problems,
  redact: Redaction
): Effect.fn.Return<void, ConnectorError, SqlClient.SqlClient> {
  for (const row of snapshot.rows) {
    const found = problems.get(keyOf(row))
    const wanted = found === undefined ? undefined : textOf(found, redact)
    if (wanted !== row.problem) yield* Effect.mapError(update(row, wanted ?? null), fromSql)
  }
})
