/**
 * The SQL of merging by a Snowflake task: a stream that says whether the journal has new rows, and a task whose body does what a merge of the runner does.
 *
 * The body looks how far the table is merged, applies what the journal has beyond, cut at truncates, and moves `MERGED` on the condition that it is where it was and that the task is
 * still the one in charge (`TASK` holds its token): all in one transaction. The stream is read in that transaction for nothing but moving it, before the journal is looked at, so that rows that come
 * later let the task run again.
 */
import * as Duration from "effect/Duration"
import { createHash } from "node:crypto"
import type { Config } from "./Config.ts"
import * as HistoryStatement from "./HistoryStatement.ts"
import * as Identifier from "./Identifier.ts"
import { literal, quote } from "./Identifier.ts"
import { pieceRows, slackMillis } from "./JournalPruner.ts"
import * as JournalStatement from "./JournalStatement.ts"
import type { Contents, Window } from "./JournalWindow.ts"
import * as KeyChange from "./KeyChange.ts"
import * as MergeStatement from "./MergeStatement.ts"
import * as QueryTag from "./QueryTag.ts"
import type { StateRow } from "./StateTable.ts"
import type { ObjectName, TableLayout } from "./TableLayout.ts"
import { Metadata, sqlName } from "./TableLayout.ts"
import * as TableOptions from "./TableOptions.ts"

const op = quote(Metadata.op)
const sequence = quote(Metadata.sequence)
const commitTime = quote(Metadata.commitTime)
const unsent = quote(Metadata.unsent)

/** Tables whose merge is one statement that can't fail for what the rows hold. */
export const serves = (layout: TableLayout): boolean => layout.mode !== "changelog" && layout.keys.length > 0

type Journal = Pick<TableLayout, "journal">

export const task = ({ journal }: Journal): ObjectName => ({ ...journal, name: `${journal.name}_MERGE` })
export const stream = ({ journal }: Journal): ObjectName => ({ ...journal, name: `${journal.name}_STREAM` })

/** A stream on the journal as it is now. */
export const createStream = (layout: TableLayout): string =>
  `CREATE OR REPLACE STREAM ${sqlName(stream(layout))} ON TABLE ${sqlName(layout.journal)} APPEND_ONLY = TRUE`

/** The last change that the journal shows (column "last"). */
export const last = ({ journal }: TableLayout): string => `SELECT MAX(${sequence}) AS "last" FROM ${sqlName(journal)}`

/** One truncate at most, at its end. */
const window: Window = { after: ":merged", upTo: ":up_to", amidCopy: undefined }

const merge = (layout: TableLayout, partial: boolean, moved: boolean): string => {
  const unsentColumns = new Set(
    partial ? layout.columns.filter(({ isKey }) => !isKey).map(({ name }) => name) : []
  )
  const contents: Contents = {
    rows: 1,
    last: undefined,
    upTo: undefined,
    truncated: undefined,
    partial,
    moved,
    removes: 1,
    altered: undefined,
    keys: []
  }
  return layout.mode === "history"
    ? HistoryStatement.merge(layout, window, unsentColumns, moved)
    : MergeStatement.merge(layout, window, contents, unsentColumns)
}

const truncate = (layout: TableLayout): ReadonlyArray<string> =>
  layout.mode === "history"
    ? HistoryStatement.truncate(layout, window, ":truncated_at")
    : [MergeStatement.empty(layout, window, ":truncated_at")]

const noContents: Contents = {
  rows: 0,
  last: undefined,
  upTo: undefined,
  truncated: undefined,
  partial: true,
  moved: true,
  removes: 0,
  altered: undefined,
  keys: []
}

/** As `JournalPruner` does: rows that may go wait until some are overdue, and go in pieces. */
const prune = (layout: TableLayout, retention: number): ReadonlyArray<string> => {
  const ago = (seconds: number): string => `DATEADD(second, -${seconds}, CURRENT_TIMESTAMP())`
  const overdue = ago(retention + Math.min(retention, slackMillis / 1000))
  return [
    `changed_rows := ${pieceRows};`,
    `WHILE (changed_rows >= ${pieceRows}) DO`,
    `SELECT COUNT(*), COUNT(IFF(p.${commitTime} < ${overdue}, 1, NULL)), MAX(p.${sequence}) INTO :changed_rows, :unsent_rows, :up_to ` +
    `${JournalStatement.prunablePiece(layout, ":last_seq", ago(retention), pieceRows)};`,
    `IF (unsent_rows > 0) THEN ${
      JournalStatement.prune(layout, ":up_to", ago(retention))
    }; ELSE changed_rows := 0; END IF;`,
    "END WHILE;"
  ]
}

const block = (layout: TableLayout, state: StateRow, token: string, retention: number): string => {
  const journal = sqlName(layout.journal)
  const links = sqlName(KeyChange.links(layout))
  const truncates = `MIN(IFF(${op} = 'truncate', ${sequence}, NULL))`
  const inCharge = `${state.condition} AND "TASK" = ${literal(token)} AND "COPIED" IS NOT NULL`
  return [
    "DECLARE",
    "begun VARCHAR; merged VARCHAR; last_seq VARCHAR; up_to VARCHAR; truncated_at VARCHAR;",
    "unsent_rows NUMBER; moved_rows NUMBER; changed_rows NUMBER;",
    "BEGIN",
    `${KeyChange.createLinks(layout)};`,
    "BEGIN TRANSACTION;",
    `INSERT INTO ${links} ("LIFE") SELECT ${op} FROM ${sqlName(stream(layout))} WHERE FALSE;`,
    `SELECT MAX("MERGED") INTO :begun FROM ${state.table} WHERE ${inCharge};`,
    // Not the first half of a change of key alone.
    `SELECT MAX(IFF(${op} <> 'key_old', ${sequence}, NULL)) INTO :last_seq FROM ${journal} WHERE ${sequence} > :begun;`,
    "IF (begun IS NULL) THEN ROLLBACK; ELSEIF (last_seq IS NULL) THEN COMMIT; ELSE",
    "merged := begun;",
    "WHILE (merged < last_seq) DO",
    `SELECT COALESCE(${truncates}, :last_seq), ${truncates} INTO :up_to, :truncated_at FROM ${journal} ` +
    `WHERE ${sequence} > :merged AND ${sequence} <= :last_seq;`,
    `SELECT COUNT(${unsent}), COUNT(IFF(${op} = 'key_new' AND ${unsent} IS NOT NULL, 1, NULL)) INTO :unsent_rows, :moved_rows ` +
    `FROM ${journal} WHERE ${JournalStatement.within(window)};`,
    "IF (moved_rows > 0) THEN",
    ...KeyChange.fillLinks(layout, window, noContents).map((statement) => `${statement};`),
    "changed_rows := 1;",
    `WHILE (changed_rows > 0) DO ${KeyChange.resolveLinks(layout)}; changed_rows := SQLROWCOUNT; END WHILE;`,
    `${merge(layout, true, true)};`,
    `ELSEIF (unsent_rows > 0) THEN ${merge(layout, true, false)};`,
    `ELSE ${merge(layout, false, false)}; END IF;`,
    `IF (truncated_at IS NOT NULL) THEN ${truncate(layout).map((statement) => `${statement};`).join(" ")} END IF;`,
    "merged := up_to;",
    "END WHILE;",
    `UPDATE ${state.table} SET "MERGED" = :last_seq, "UPDATED_AT" = CURRENT_TIMESTAMP() WHERE ${inCharge} AND "MERGED" = :begun;`,
    "IF (SQLROWCOUNT = 1) THEN COMMIT;",
    ...(retention === Number.POSITIVE_INFINITY ? [] : prune(layout, retention)),
    "ELSE ROLLBACK; END IF;",
    "END IF;",
    "EXCEPTION WHEN OTHER THEN ROLLBACK; RAISE;",
    "END;"
  ].join("\n")
}

const seconds = (duration: Duration.Duration): number => Math.ceil(Duration.toSeconds(duration))

export interface Task {
  /** What the state table says while it is in charge: different for anything that it would do differently. */
  readonly token: string
  readonly create: string
}

/** A task's comment, which says which one it is. */
export const comment = (token: string): string => `Merges the journal; made and kept by etl-stream (${token})`

export const make = (layout: TableLayout, config: Config, pipeline: string, state: StateRow): Task => {
  const { taskWarehouse } = config.merge
  const { every } = TableOptions.of(config, layout.id).merge
  const options = [
    taskWarehouse === undefined
      ? "USER_TASK_MANAGED_INITIAL_WAREHOUSE_SIZE = 'XSMALL'"
      : `WAREHOUSE = ${quote(Identifier.fromConfig(taskWarehouse))}`,
    `SCHEDULE = '${seconds(every)} SECONDS'`,
    "ALLOW_OVERLAPPING_EXECUTION = FALSE",
    `QUERY_TAG = ${literal(QueryTag.make(pipeline, layout.id, "merge"))}`,
    "TIMEZONE = 'UTC'",
    "QUOTED_IDENTIFIERS_IGNORE_CASE = FALSE"
  ].join(" ")
  const when = `WHEN SYSTEM$STREAM_HAS_DATA(${literal(sqlName(stream(layout)))})`
  const retention = seconds(config.journal.retention)
  const token = createHash("sha256").update(options).update(block(layout, state, "", retention)).digest("hex").slice(
    0,
    32
  )
  return {
    token,
    create: `CREATE OR REPLACE TASK ${sqlName(task(layout))} ${options} COMMENT = ${literal(comment(token))} ${when} ` +
      `AS EXECUTE IMMEDIATE ${literal(block(layout, state, token, retention))}`
  }
}
