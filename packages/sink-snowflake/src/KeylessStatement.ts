/**
 * The SQL that merges a window into the target of a table without a key.
 *
 * Such a table is a multiset: per row key (`RowKey`) the copies to add or to remove are inserts minus deletes. Which of several equal rows goes makes no
 * difference, so those numbered highest do. Where rows are deleted softly all copies that a window brings are added, and as many as it takes away are marked.
 * Tables whose rows are only ever inserted (and those that are told to be kept so) need no row keys.
 */
import * as ColumnList from "./ColumnList.ts"
import { quote } from "./Identifier.ts"
import { births, changes, effective, within } from "./JournalStatement.ts"
import type { Contents, Window } from "./JournalWindow.ts"
import { live } from "./MergeStatement.ts"
import type { TableLayout } from "./TableLayout.ts"
import { Metadata, quotedNames, sqlName } from "./TableLayout.ts"

const op = quote(Metadata.op)
const sequence = quote(Metadata.sequence)
const rowKey = quote(Metadata.rowKey)
const copy = quote(Metadata.copy)
const now = "CURRENT_TIMESTAMP()"
const net = quote("_ETL_NET")
const rank = quote("_ETL_RANK")

const sign = (alias: string): string => `IFF(${alias}.${op} IN ${births}, 1, -1)`

/** For tables without a key: how many copies of rows the window removes in all (column "copies"). */
export const countRemoved = (layout: TableLayout, window: Window, contents: Contents): string =>
  `SELECT COALESCE(SUM(n.${net}), 0) AS "copies" FROM (${removedCopies(layout, window, contents)}) AS n`

/**
 * The copies that the window takes away, by row key: those that it doesn't bring itself, as which of several equal rows goes makes no difference. Where rows are deleted
 * softly those that it brings are added before, and stay as well.
 */
const removedCopies = (layout: TableLayout, window: Window, contents: Contents): string => {
  const number = `SUM(IFF(j.${op} IN ${births}, ${layout.softDelete ? "0" : "-1"}, 1))`
  return `SELECT j.${rowKey} AS "KEY", MAX(j.${sequence}) AS "LAST", ${number} AS ${net} FROM (${
    changes(layout, effective(window, contents), [op, sequence, rowKey])
  }) AS j GROUP BY j.${rowKey} HAVING ${number} > 0`
}

/** For tables without a key: removes the copies that the window takes away, those numbered highest first. */
export const removeCopies = (layout: TableLayout, window: Window, contents: Contents): string => {
  const target = sqlName(layout.target)
  const { deleted, syncedAt } = quotedNames(layout)
  const goes = `(SELECT r."KEY", r."COPY", r."LAST" FROM (` +
    `SELECT h.${rowKey} AS "KEY", h.${copy} AS "COPY", n."LAST", n.${net}, ROW_NUMBER() OVER (PARTITION BY h.${rowKey} ORDER BY h.${copy} DESC) AS ${rank} ` +
    `FROM ${target} AS h JOIN (${removedCopies(layout, window, contents)}) AS n ON h.${rowKey} = n."KEY"${
      layout.softDelete ? ` WHERE ${live(layout, "h.")}` : ""
    }) AS r WHERE r.${rank} <= r.${net}) AS d WHERE ${rowKey} = d."KEY" AND ${copy} = d."COPY"`
  return layout.softDelete
    ? `UPDATE ${target} SET ${deleted} = TRUE, ${sequence} = d."LAST", ${syncedAt} = ${now} FROM ${goes}`
    : `DELETE FROM ${target} USING ${goes}`
}

/** For tables without a key: adds the copies that the window brings, numbered after those that are there. */
export const addCopies = (layout: TableLayout, window: Window, contents: Contents): string => {
  const target = sqlName(layout.target)
  const { columns } = layout
  const source = changes(layout, effective(window, contents), [
    op,
    sequence,
    rowKey,
    ...ColumnList.names(columns)
  ])
  const added = `SELECT j.*, SUM(${sign("j")}) OVER (PARTITION BY j.${rowKey}) AS ${net}, ` +
    `ROW_NUMBER() OVER (PARTITION BY j.${rowKey}, ${sign("j")} ORDER BY j.${sequence}) AS ${rank} FROM (${source}) AS j`
  return `INSERT INTO ${target} (${
    [...ColumnList.names(columns), sequence, quotedNames(layout).syncedAt, rowKey, copy].join(", ")
  }) SELECT ${
    [
      ...columns.map((column) => column.fromJournal(`a.${quote(column.name)}`)),
      `a.${sequence}`,
      now,
      `a.${rowKey}`,
      `COALESCE(h."COPY", 0) + a.${rank}`
    ].join(", ")
  } FROM (${added}) AS a LEFT JOIN (SELECT ${rowKey} AS "KEY", MAX(${copy}) AS "COPY" FROM ${target} GROUP BY ${rowKey}) AS h ON h."KEY" = a.${rowKey} ` +
    `WHERE a.${op} IN ${births}${layout.softDelete ? "" : ` AND a.${rank} <= a.${net}`}`
}

/** For tables whose rows are only ever inserted: each new row once. */
export const append = (layout: TableLayout, window: Window, contents: Contents): string =>
  `INSERT INTO ${sqlName(layout.target)} (${
    [...ColumnList.names(layout.columns), sequence, quotedNames(layout).syncedAt].join(", ")
  }) SELECT ${
    [...layout.columns.map((column) => column.fromJournal(`j.${quote(column.name)}`)), `j.${sequence}`, now].join(", ")
  } FROM ${sqlName(layout.journal)} AS j WHERE ${within(effective(window, contents))} AND j.${op} IN ${births}`
