/**
 * A history's copy: loaded into a table of its own, and compared with the history when it is complete, so that a table that is copied again keeps what is known of it.
 *
 * The table is a mirror for the time of the copy. It is made when a copy begins and dropped when it ends; one that is left over costs storage only.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import * as Effect from "effect/Effect"
import * as Collation from "./Collation.ts"
import { describe } from "./ExistingTable.ts"
import * as HistoryStatement from "./HistoryStatement.ts"
import { quote } from "./Identifier.ts"
import type { Session, SqlClient } from "./SqlClient.ts"
import type { TableLayout } from "./TableLayout.ts"
import * as Layout from "./TableLayout.ts"

type Failed = ConnectorError.ConnectorError

/** Makes the table for a new copy of a history; does nothing for other modes. */
export const begin = (sql: SqlClient, layout: TableLayout): Effect.Effect<void, Failed> => {
  if (layout.mode !== "history") return Effect.void
  const { target, ...copy } = Layout.forCopy(layout)
  const columns = Layout.targetColumns({ ...copy, target }).map(({ name, type }) => `${quote(name)} ${type}`)
  return Effect.asVoid(sql.execute({
    what: `Creating ${Layout.sqlName(target)}`,
    sql: `CREATE OR REPLACE TABLE ${Layout.sqlName(target)} (${columns.join(", ")}) ${Collation.none}`,
    table: layout.id
  }))
}

/** Whether a copy that an earlier run left can go on: for a history, whether its table is there and has the columns. */
export const holds = (sql: SqlClient, layout: TableLayout): Effect.Effect<boolean, Failed> => {
  if (layout.mode !== "history") return Effect.succeed(true)
  const copy = Layout.forCopy(layout)
  return Effect.map(
    describe(sql, copy.target, layout.id),
    (existing) => existing !== undefined && Layout.targetColumns(copy).every(({ name }) => existing.columns.has(name))
  )
}

/** Brings a complete copy into the history, in the session's transaction. */
export const complete = (session: Session, layout: TableLayout): Effect.Effect<void, Failed> =>
  layout.mode !== "history" ? Effect.void : Effect.asVoid(session.execute({
    what: `Comparing the copy of ${layout.id} with its history`,
    sql: HistoryStatement.compare(layout, Layout.forCopy(layout)),
    table: layout.id
  }))

export const drop = (sql: SqlClient, layout: TableLayout): Effect.Effect<void> =>
  layout.mode !== "history" ? Effect.void : Effect.ignore(sql.execute({
    what: `Dropping the copy of ${layout.id}`,
    sql: `DROP TABLE IF EXISTS ${Layout.sqlName(Layout.forCopy(layout).target)}`,
    table: layout.id
  }))
