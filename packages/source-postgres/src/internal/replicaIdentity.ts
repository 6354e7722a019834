/**
 * Whether a change says which row is meant.
 */
import { tableId } from "@etl-stream/core/TableSchema"
import * as PostgresError from "../PostgresError.ts"
import { malformedMessage } from "./malformedMessage.ts"
import type { Plan } from "./relation.ts"
import * as Tuple from "./tuple.ts"

export const unidentified = (plan: Plan, what: string) => {
  const table = tableId(plan.schema.table)
  return PostgresError.make(
    "Unsupported",
    `Table ${table} sends ${what} that don't say which row is meant`,
    "Give the table a primary key, or ALTER TABLE … REPLICA IDENTITY FULL.",
    table
  )
}

/**
 * An old tuple must say which row is meant, or a change would be applied to none, or to all. `complete`: it is the whole old row, not
 * only its key.
 */
export const checkOld = (plan: Plan, old: Tuple.Located, complete: boolean, what: string): void => {
  const { identity } = plan.schema
  const identified = identity._tag === "Key" ? Tuple.hasKey(plan, old) : identity._tag === "Full" && complete
  if (!identified) throw unidentified(plan, what)
  if (old.kinds.includes(Tuple.Unchanged)) malformedMessage("an old row with a value that was not sent")
}
