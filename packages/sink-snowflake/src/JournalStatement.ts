/**
 * The SQL that reads and prunes a table's journal: what a window holds, the changes of it that count, and what is to go.
 */
import { literal, quote } from "./Identifier.ts"
import type { Contents, Window } from "./JournalWindow.ts"
import { bound } from "./JournalWindow.ts"
import * as KeyRange from "./KeyRange.ts"
import type { ColumnLayout, TableLayout } from "./TableLayout.ts"
import { Metadata, sqlName } from "./TableLayout.ts"

const op = quote(Metadata.op)
const sequence = quote(Metadata.sequence)
const unsentColumn = quote(Metadata.unsent)
const commitTime = quote(Metadata.commitTime)
/** Operations that begin a row's life, and those that end it. */
export const births = "('insert', 'read', 'key_new')"
export const deaths = "('delete', 'key_old')"

export const within = (window: Window): string =>
  `${sequence} > ${bound(window.after)} AND ${sequence} <= ${bound(window.upTo)}`

/** One row that says what the window holds (columns as in `Contents`), and as `shown` how many of the `rows`, which may lie after it, the journal has. */
export const inspect = (
  layout: TableLayout,
  window: Window,
  keyRanges: boolean,
  rows: ReadonlyArray<string>
): string =>
  `SELECT ${["COUNT(*) AS \"rows\"", ...(keyRanges ? KeyRange.selected(layout) : [])].join(", ")}, ` +
  `MAX(${sequence}) AS "last", ` +
  `MAX(IFF(${op} <> 'key_old', ${sequence}, NULL)) AS "upTo", ` +
  `MAX(IFF(${op} = 'truncate', ${sequence}, NULL)) AS "truncated", ` +
  `COUNT(${unsentColumn}) AS "partial", ` +
  // Not COUNT_IF, which is NULL when it counts nothing.
  `COUNT(IFF(${op} = 'key_new' AND ${unsentColumn} IS NOT NULL, 1, NULL)) AS "moved", ` +
  `COUNT(IFF(${op} IN ${deaths}, 1, NULL)) AS "removes", ` +
  `MIN(IFF(${op} NOT IN ${births} AND ${op} <> 'truncate', ${sequence}, NULL)) AS "altered" ` +
  (rows.length === 0 ?
    "" :
    `, (SELECT COUNT(DISTINCT ${sequence}) FROM ${sqlName(layout.journal)} WHERE ${sequence} IN (${
      rows.map(literal).join(", ")
    })) AS "shown" `) +
  `FROM ${sqlName(layout.journal)} WHERE ${within(window)}`

/** The different sets of unsent columns in the window. */
export const unsent = (layout: TableLayout, window: Window): string =>
  `SELECT DISTINCT ${unsentColumn} AS "unsent" FROM ${sqlName(layout.journal)} WHERE ${
    within(window)
  } AND ${unsentColumn} IS NOT NULL`

/** The journal's rows of the window that count, with the columns named. */
export const changes = (layout: TableLayout, window: Window, columns: ReadonlyArray<string>): string =>
  `SELECT ${columns.join(", ")} FROM ${sqlName(layout.journal)} WHERE ${within(window)} AND ${op} <> 'truncate'`

/** The window after its last truncate: what is before has no effect. */
export const effective = (window: Window, contents: Contents): Window =>
  contents.truncated === undefined ? window : { ...window, after: contents.truncated }

/** Whether the change in `alias` sent `column`. Names stand in a JSON array, so each is preceded by a bracket or a comma. */
export const sent = (alias: string, column: ColumnLayout): string => {
  const name = JSON.stringify(column.name)
  return `(${alias}.${op} NOT IN ${deaths} AND (${alias}.${unsentColumn} IS NULL OR NOT ` +
    `(CONTAINS(${alias}.${unsentColumn}, ${literal(`[${name}`)}) OR CONTAINS(${alias}.${unsentColumn}, ${
      literal(`,${name}`)
    }))))`
}

/** Names a column that was `from` by its new name where changes left it unsent: unknown names count as sent. Repeated, it does nothing. */
export const renameUnsent = (layout: TableLayout, name: string, from: string): string => {
  const [before, now] = [JSON.stringify(from), JSON.stringify(name)]
  const renamed = ["[", ","].reduce(
    (list, mark) => `REPLACE(${list}, ${literal(mark + before)}, ${literal(mark + now)})`,
    unsentColumn
  )
  return `UPDATE ${sqlName(layout.journal)} SET ${unsentColumn} = ${renamed} ` +
    `WHERE CONTAINS(${unsentColumn}, ${literal(`[${before}`)}) OR CONTAINS(${unsentColumn}, ${literal(`,${before}`)})`
}

/** Journal rows that may go: merged, and committed before `before`, an SQL expression. */
const past = (merged: string, before: string): string => `${sequence} <= ${bound(merged)} AND ${commitTime} < ${before}`

/**
 * What the next piece of rows that may go holds, the oldest of them: how many there are ("rows"), how many of these were committed before `overdue` ("overdue"), and
 * the last one's sequence ("last"). A piece is no more than `most` rows.
 */
export const prunable = (layout: TableLayout, merged: string, before: string, overdue: string, most: number): string =>
  `SELECT COUNT(*) AS "rows", COUNT(IFF(p.${commitTime} < ${overdue}, 1, NULL)) AS "overdue", MAX(p.${sequence}) AS "last" ` +
  prunablePiece(layout, merged, before, most)

/** The piece, as what a SELECT reads from (`p`). */
export const prunablePiece = (layout: TableLayout, merged: string, before: string, most: number): string =>
  `FROM (SELECT ${sequence}, ${commitTime} FROM ${sqlName(layout.journal)} WHERE ${past(merged, before)} ` +
  `ORDER BY ${sequence} LIMIT ${most}) AS p`

/** Removes the rows up to `last` that may go. */
export const prune = (layout: TableLayout, last: string, before: string): string =>
  `DELETE FROM ${sqlName(layout.journal)} WHERE ${past(last, before)}`
