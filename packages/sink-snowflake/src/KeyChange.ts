/**
 * Changes of tables with a key, and the rows that they belong to: the SQL that follows rows from key to key.
 *
 * A change of key that leaves columns unsent gives the new key the values of the row that had the old one, through chains of such changes. For that the window is
 * cut into *lives* (from birth to death of a key), a life that begins by such a change is linked to the one that it continues, and a *row* is a chain of
 * lives. Links are resolved in a session's temporary table by doubling (each round makes every link reach twice as far).
 *
 * Chunks of a copy may have been read in different snapshots, so that a window can hold changes that some rows of the target have in them already.
 * A row of the target supersedes the changes of its key below its own sequence: they are *past*. Past changes neither touch the row nor lend
 * it values, and lives are cut where they end. The row of another key may still take its values from them, through a change of key.
 */
import { keyList, names } from "./ColumnList.ts"
import { quote } from "./Identifier.ts"
import * as JournalStatement from "./JournalStatement.ts"
import type { Contents, Window } from "./JournalWindow.ts"
import type { ObjectName, TableLayout } from "./TableLayout.ts"
import { Metadata, quotedNames, sqlName } from "./TableLayout.ts"

const { births } = JournalStatement
const op = quote(Metadata.op)
const sequence = quote(Metadata.sequence)
const unsentColumn = quote(Metadata.unsent)
// Names beginning with _ETL_ are ours alone (see TableLayout), so these meet no column of the table.
const lifeColumn = quote("_ETL_LIFE")
/** The row that a change belongs to, once `withRows` has found it. */
export const rowOf = quote("_ETL_ROW")
/** Whether a row of the target supersedes the change. */
export const past = quote("_ETL_PAST")

/** Names for the temporary table of links: `LIFE` is continued from the life `ROOT`. */
export const links = (layout: TableLayout): ObjectName => ({ ...layout.journal, name: `${layout.journal.name}_LINKS` })

/** The rows that the target has of the table as it is now. */
const held = (layout: TableLayout): string =>
  layout.mode === "history"
    ? `(SELECT * FROM ${sqlName(layout.target)} WHERE ${quotedNames(layout).validTo} IS NULL)`
    : sqlName(layout.target)

/** Changes of a table with a key, each with whether a row of the target supersedes it. */
export const keyedChanges = (layout: TableLayout, window: Window, columns: ReadonlyArray<string>): string => {
  const all = JournalStatement.changes(layout, window, columns)
  if (!window.amidCopy) return `SELECT w.*, FALSE AS ${past} FROM (${all}) AS w`
  const same = layout.keys.map((key) => `h.${quote(key.name)} = ${key.fromJournal(`w.${quote(key.name)}`)}`)
  // A row with the change's own sequence was read just before it.
  return `SELECT w.*, COALESCE(w.${sequence} < h.${sequence}, FALSE) AS ${past} FROM (${all}) AS w ` +
    `LEFT JOIN ${held(layout)} AS h ON ${same.join(" AND ")}`
}

/**
 * The life that a change belongs to, named by the sequence of its birth, or, when that was before the window, by that of the
 * key's first change in the window.
 */
const life = (layout: TableLayout): string => {
  const keys = `${keyList(layout, "j")}, j.${past}`
  return `COALESCE(MAX(IFF(j.${op} IN ${births}, j.${sequence}, NULL)) OVER (PARTITION BY ${keys} ORDER BY j.${sequence} ` +
    `ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW), MIN(j.${sequence}) OVER (PARTITION BY ${keys}))`
}

/** Statements that fill the table of links. The table must exist in the session; run `resolveLinks` until it changes nothing. */
export const fillLinks = (layout: TableLayout, window: Window, contents: Contents): ReadonlyArray<string> => {
  const table = sqlName(links(layout))
  const columns = [op, sequence, unsentColumn, ...names(layout.keys)]
  // A change of key is two neighbours: the old key's last row, then the new key's first.
  const previous = (expression: string): string => `LAG(${expression}) OVER (ORDER BY l.${sequence})`
  return [
    `DELETE FROM ${table}`,
    `INSERT INTO ${table} ("LIFE", "ROOT") SELECT p."SEQ", p."PARENT" FROM (` +
    `SELECT l.${sequence} AS "SEQ", l.${op} AS "OP", l.${unsentColumn} AS "UNSENT", ` +
    `${previous(`l.${lifeColumn}`)} AS "PARENT", ${previous(`l.${op}`)} AS "BEFORE" ` +
    `FROM (SELECT j.*, ${life(layout)} AS ${lifeColumn} FROM (${
      keyedChanges(layout, JournalStatement.effective(window, contents), columns)
    }) AS j) AS l ` +
    `WHERE l.${op} IN ('key_old', 'key_new')) AS p WHERE p."OP" = 'key_new' AND p."BEFORE" = 'key_old' AND p."UNSENT" IS NOT NULL`
  ]
}

/** Creates the session's table of links. Not for use inside a transaction. */
export const createLinks = (layout: TableLayout): string =>
  `CREATE TEMPORARY TABLE IF NOT EXISTS ${sqlName(links(layout))} ("LIFE" VARCHAR(33), "ROOT" VARCHAR(33))`

/** One round: a link to a life that is itself linked goes on to where that one points. */
export const resolveLinks = (layout: TableLayout): string => {
  const table = sqlName(links(layout))
  return `UPDATE ${table} SET "ROOT" = n."NEXT" FROM (SELECT "LIFE" AS "AT", "ROOT" AS "NEXT" FROM ${table}) AS n WHERE "ROOT" = n."AT"`
}

/** `changes` of keys, each with its row: the root of a chain of lives, of which the links are resolved. */
export const withRows = (layout: TableLayout, changes: string): string =>
  `SELECT l.*, COALESCE(r."ROOT", l.${lifeColumn}) AS ${rowOf} FROM (SELECT j.*, ${
    life(layout)
  } AS ${lifeColumn} FROM (${changes}) AS j) AS l ` +
  `LEFT JOIN ${sqlName(links(layout))} AS r ON r."LIFE" = l.${lifeColumn}`
