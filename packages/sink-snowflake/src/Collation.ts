/**
 * Keeps comparisons of text exact, whatever collations there are.
 *
 * Account, databases and schemas may have a default collation for new columns (`DEFAULT_DDL_COLLATION`). Under `en-ci`, say, the keys `a` and `A` are the
 * same to a MERGE, and rows of the source would go into one. So every table is created with the empty default, which is none; and a table that
 * has one all the same, because somebody made it or an earlier version did, is refused where values of its columns are compared: a collation can't be
 * taken from a column that is there.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import * as Effect from "effect/Effect"
import { failure } from "./ErrorPolicy.ts"
import type { ExistingTable } from "./ExistingTable.ts"
import type { ObjectName, TableLayout } from "./TableLayout.ts"
import { sqlName } from "./TableLayout.ts"

type Failed = ConnectorError.ConnectorError

/** The option of CREATE TABLE, and of ALTER TABLE … SET, under which columns get no collation by default. */
export const none = `DEFAULT_DDL_COLLATION = ''`

const inexact = (collation: string | undefined): boolean => collation !== undefined && collation !== "utf8"

/** The columns of a target whose values are compared: a complete copy of a history is compared with it in all of its columns. */
export const comparedInTarget = ({ columns, keys, mode }: TableLayout): ReadonlyArray<string> =>
  (mode === "history" ? columns : keys).map(({ name }) => name)

/** Fails when one of `compared` has a collation under which different values may be equal. */
export const refuse = (
  name: ObjectName,
  { columns }: ExistingTable,
  compared: ReadonlyArray<string>,
  table: string | undefined
): Effect.Effect<void, Failed> => {
  const column = compared.find((column) => inexact(columns.get(column)?.collation))
  return column === undefined ? Effect.void : Effect.fail(failure(
    "Unsupported",
    `The column ${column} of ${sqlName(name)} has the collation ${columns.get(column)?.collation}, ` +
      "under which different values may count as the same",
    table === undefined
      ? "Let the sink have another journalSchema (or drop this one, when nobody needs what it holds): its tables are then made without collations, and all tables are copied anew."
      : "Rename the table in Snowflake (or drop it, when nobody needs what it holds): it is then made without collations, whatever the defaults are, and copied anew.",
    { table }
  ))
}
