/**
 * The conditions that say what was done about a slot, or that it could not be.
 */
import * as ByteSize from "@etl-stream/core/ByteSize"
import type { Condition } from "@etl-stream/core/Condition"
import type { TableId } from "@etl-stream/core/TableSchema"
import type { Action } from "./Config.ts"
import type { Outlook } from "./Outlook.ts"
import * as Trigger from "./Trigger.ts"

/** What an action comes to, as the end of a sentence. */
export const results: Readonly<Record<Action["do"], string>> = {
  alert: "it is time to look at it",
  "pause-copies": "copies of tables are held up",
  spool: "changes are kept on disk here until the sink takes them",
  quarantine: "a table that held it back is in quarantine"
}

const hints: Readonly<Record<Action["do"], string>> = {
  alert: "See why the slot's reader falls behind: the pipeline's freshness and errors, and the sink's.",
  "pause-copies": "Copies go on by themselves when the slot has recovered.",
  spool: "See why the sink takes changes slowly. Spooling ends by itself when the slot has recovered.",
  quarantine: "Mend what made the table slow, then have it copied again: etl-stream resync."
}

/** Which condition an action's is: its trigger tells it from another of the same kind. */
const subjectOf = (slot: string, action: Action): string => `${slot} at ${Trigger.describe(action.at)}`

const pieceOf = (outlook: Outlook): string =>
  `${ByteSize.format(outlook.used)} of WAL${
    outlook.share === undefined ? "" : `, ${Trigger.percent(outlook.share)} of its budget`
  }`

/** The condition of an action that was taken. */
export const done = (
  slot: string,
  action: Action,
  outlook: Outlook,
  tables: ReadonlyArray<TableId> = []
): Condition => ({
  name: `wal-action-${action.do}`,
  subject: subjectOf(slot, action),
  severity: action.do === "quarantine" ? "critical" : "warning",
  message: `The slot ${slot} came to keep ${pieceOf(outlook)}: ${results[action.do]}${
    tables.length === 0 ? "" : ` (${tables.join(", ")})`
  }`,
  hint: hints[action.do]
})

/** The condition of an action that could not be taken, or undone. */
export const failed = (slot: string, action: Action, why: string): Condition => ({
  name: `wal-action-failed`,
  subject: `${subjectOf(slot, action)}: ${action.do}`,
  severity: "warning",
  message: `The action ${action.do} about the slot ${slot} failed: ${why}`,
  hint:
    "It is tried again as long as it is asked for, and the actions after it are taken all the same. Mend it, or leave it out of `actions`."
})
