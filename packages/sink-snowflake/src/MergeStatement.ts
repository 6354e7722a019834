/**
 * The SQL that brings a window of the journal into the mirrored target: pure functions from a plan to statements.
 *
 * For each key the last change of the window decides whether its row is there. A column's value is the last one that was
 * *sent*; when none was sent in the window, the target's own old value stays. A change that sends all columns (insert, read)
 * makes older ones irrelevant by itself, being the later one.
 *
 * Only a change of key that leaves columns unsent needs more: the new key takes the values of the row that had the old key,
 * through chains of such changes. Then the window is cut into *lives* (from birth to death of a key), a life that begins by
 * such a change is linked to the one that it continues, and a *row* is a chain of lives. Links are resolved in a session's temporary table by
 * doubling (each round makes every link reach twice as far); the values are then taken per row instead of per key.
 *
 * Chunks of a copy may have been read in different snapshots, so that a window can hold changes that some rows of the target have in them already.
 * A row of the target supersedes the changes of its key below its own sequence: they are *past*. Past changes neither touch the row nor lend
 * it values, and lives are cut where they end. The row of another key may still take its values from them, through a change of key.
 *
 * Tables without a key are multisets: per row key the copies to add or to remove are inserts minus deletes.
 */
import { literal, quote } from "./Identifier.ts"
import type { Contents, Window } from "./JournalWindow.ts"
import { bound } from "./JournalWindow.ts"
import type { ColumnLayout, ObjectName, TableLayout } from "./TableLayout.ts"
import { Metadata, sqlName } from "./TableLayout.ts"

const op = quote(Metadata.op)
const sequence = quote(Metadata.sequence)
const unsentColumn = quote(Metadata.unsent)
const rowKey = quote(Metadata.rowKey)
const copy = quote(Metadata.copy)
const syncedAt = quote(Metadata.syncedAt)
const now = "CURRENT_TIMESTAMP()"
// Names beginning with _ETL_ are ours alone (see TableLayout), so these meet no column of the table.
const lifeColumn = quote("_ETL_LIFE")
/** The row that a change belongs to, once `withRows` has found it. */
export const rowOf = quote("_ETL_ROW")
const past = quote("_ETL_PAST")
const net = quote("_ETL_NET")
const rank = quote("_ETL_RANK")
const value = (index: number): string => quote(`_ETL_VALUE_${index}`)
const wasSent = (index: number): string => quote(`_ETL_SENT_${index}`)
const originPast = quote("_ETL_ORIGIN_PAST")
const origin = (index: number): string => quote(`_ETL_ORIGIN_${index}`)
/** Operations that begin a row's life, and those that end it. */
export const births = "('insert', 'read', 'key_new')"
export const deaths = "('delete', 'key_old')"

export const within = (window: Window): string =>
  `${sequence} > ${bound(window.after)} AND ${sequence} <= ${bound(window.upTo)}`

/** One row that says what the window holds (columns as in `Contents`). */
export const inspect = (layout: TableLayout, window: Window): string =>
  `SELECT COUNT(*) AS "rows", ` +
  `MAX(${sequence}) AS "last", ` +
  `MAX(IFF(${op} <> 'key_old', ${sequence}, NULL)) AS "upTo", ` +
  `MAX(IFF(${op} = 'truncate', ${sequence}, NULL)) AS "truncated", ` +
  `COUNT(${unsentColumn}) AS "partial", ` +
  // Not COUNT_IF, which is NULL when it counts nothing.
  `COUNT(IFF(${op} = 'key_new' AND ${unsentColumn} IS NOT NULL, 1, NULL)) AS "moved", ` +
  `COUNT(IFF(${op} IN ${deaths}, 1, NULL)) AS "removes" ` +
  `FROM ${sqlName(layout.journal)} WHERE ${within(window)}`

/** The different sets of unsent columns in the window. */
export const unsent = (layout: TableLayout, window: Window): string =>
  `SELECT DISTINCT ${unsentColumn} AS "unsent" FROM ${sqlName(layout.journal)} WHERE ${
    within(window)
  } AND ${unsentColumn} IS NOT NULL`

/** Names for the temporary table of links: `LIFE` is continued from the life `ROOT`. */
export const links = (layout: TableLayout): ObjectName => ({ ...layout.journal, name: `${layout.journal.name}_LINKS` })

/** The journal's rows of the window that count, with the columns named. */
const changes = (layout: TableLayout, window: Window, columns: ReadonlyArray<string>): string =>
  `SELECT ${columns.join(", ")} FROM ${sqlName(layout.journal)} WHERE ${within(window)} AND ${op} <> 'truncate'`

/** The window after its last truncate: what is before has no effect. */
const effective = (window: Window, contents: Contents): Window =>
  contents.truncated === undefined ? window : { ...window, after: contents.truncated }

/** The rows that the target has of the table as it is now. */
const held = ({ mode, target }: TableLayout): string =>
  mode === "history"
    ? `(SELECT * FROM ${sqlName(target)} WHERE ${quote(Metadata.validTo)} IS NULL)`
    : sqlName(target)

/** Changes of a table with a key, each with whether a row of the target supersedes it. */
export const keyedChanges = (layout: TableLayout, window: Window, columns: ReadonlyArray<string>): string => {
  const all = changes(layout, window, columns)
  if (!window.amidCopy) return `SELECT w.*, FALSE AS ${past} FROM (${all}) AS w`
  const same = layout.keys.map((key) => `h.${quote(key.name)} = ${key.fromJournal(`w.${quote(key.name)}`)}`)
  // A row with the change's own sequence was read just before it.
  return `SELECT w.*, COALESCE(w.${sequence} < h.${sequence}, FALSE) AS ${past} FROM (${all}) AS w ` +
    `LEFT JOIN ${held(layout)} AS h ON ${same.join(" AND ")}`
}

const keyList = (layout: TableLayout, alias: string): string =>
  layout.keys.map(({ name }) => `${alias}.${quote(name)}`).join(", ")

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
  const columns = [op, sequence, unsentColumn, ...layout.keys.map(({ name }) => quote(name))]
  // A change of key is two neighbours: the old key's last row, then the new key's first.
  const previous = (expression: string): string => `LAG(${expression}) OVER (ORDER BY l.${sequence})`
  return [
    `DELETE FROM ${table}`,
    `INSERT INTO ${table} ("LIFE", "ROOT") SELECT p."SEQ", p."PARENT" FROM (` +
    `SELECT l.${sequence} AS "SEQ", l.${op} AS "OP", l.${unsentColumn} AS "UNSENT", ` +
    `${previous(`l.${lifeColumn}`)} AS "PARENT", ${previous(`l.${op}`)} AS "BEFORE" ` +
    `FROM (SELECT j.*, ${life(layout)} AS ${lifeColumn} FROM (${
      keyedChanges(layout, effective(window, contents), columns)
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

/** Whether the change in `alias` sent `column`. Names stand in a JSON array, so each is preceded by a bracket or a comma. */
export const sent = (alias: string, column: ColumnLayout): string => {
  const name = JSON.stringify(column.name)
  return `(${alias}.${op} NOT IN ${deaths} AND (${alias}.${unsentColumn} IS NULL OR NOT ` +
    `(CONTAINS(${alias}.${unsentColumn}, ${literal(`[${name}`)}) OR CONTAINS(${alias}.${unsentColumn}, ${
      literal(`,${name}`)
    }))))`
}

/**
 * The MERGE for tables with a key. `unsentColumns` are the names of columns that some change of the window left unsent. With `contents.moved`
 * the links must be resolved before.
 */
export const merge = (
  layout: TableLayout,
  window: Window,
  contents: Contents,
  unsentColumns: ReadonlySet<string>
): string => {
  const { columns, keys } = layout
  const partial = columns.filter((column) => !column.isKey && unsentColumns.has(column.name))
  const position = new Map(partial.map((column, index) => [column, index]))
  const raw = keyedChanges(layout, effective(window, contents), [
    op,
    sequence,
    unsentColumn,
    ...columns.map(({ name }) => quote(name))
  ])
  const moved = contents.moved && partial.length > 0
  // What values belong to: the key, or the row, which is the root of a chain of lives.
  const source = moved
    ? withRows(layout, raw)
    : raw
  const owner = moved ? `c.${rowOf}` : `${keyList(layout, "c")}, c.${past}`
  const selected = [
    `c.${op}`,
    `c.${sequence}`,
    ...columns.filter((column) => !position.has(column)).map(({ name }) => `c.${quote(name)}`),
    ...partial.flatMap((column, index) => [
      `FIRST_VALUE(c.${quote(column.name)}) OVER (PARTITION BY ${owner} ` +
      `ORDER BY IFF(${sent("c", column)}, c.${sequence}, NULL) DESC NULLS LAST) AS ${value(index)}`,
      `MAX(IFF(${sent("c", column)}, 1, 0)) OVER (PARTITION BY ${owner}) AS ${wasSent(index)}`
    ]),
    // The key that a row had when the window began: where the target holds its old values.
    ...(moved
      ? [
        ...keys.map((column, index) =>
          `FIRST_VALUE(c.${quote(column.name)}) OVER (PARTITION BY ${owner} ORDER BY c.${sequence}) AS ${origin(index)}`
        ),
        `FIRST_VALUE(c.${past}) OVER (PARTITION BY ${owner} ORDER BY c.${sequence}) AS ${originPast}`
      ]
      : [])
  ]
  const last = `SELECT ${selected.join(", ")} FROM (${source}) AS c ` +
    `QUALIFY ROW_NUMBER() OVER (PARTITION BY ${keyList(layout, "c")} ORDER BY c.${sequence} DESC) = 1 AND NOT c.${past}`

  const resolved = columns.map((column) => {
    const index = position.get(column)
    const converted = column.fromJournal(index === undefined ? `n.${quote(column.name)}` : `n.${value(index)}`)
    const name = quote(column.name)
    return index === undefined || !moved
      ? `${converted} AS ${name}`
      : `IFF(n.${wasSent(index)} = 1, ${converted}, b.${name}) AS ${name}`
  })
  const flags = moved ? [] : partial.map((_, index) => `n.${wasSent(index)}`)
  const base = moved
    ? ` LEFT JOIN ${sqlName(layout.target)} AS b ON ${
      [
        ...keys.map(({ name }, index) => `b.${quote(name)} = n.${origin(index)}`),
        // The row that the target has of this key came later.
        `NOT n.${originPast}`
      ].join(" AND ")
    }`
    : ""
  const using = `SELECT n.${op}, n.${sequence}, ${[...resolved, ...flags].join(", ")} FROM (${last}) AS n${base}`

  const set = columns.filter(({ isKey }) => !isKey).map((column) => {
    const index = position.get(column)
    const name = quote(column.name)
    return `${name} = ${
      index === undefined || moved ? `s.${name}` : `IFF(s.${wasSent(index)} = 1, s.${name}, t.${name})`
    }`
  })
  const names = columns.map(({ name }) => quote(name))
  return `MERGE INTO ${sqlName(layout.target)} AS t USING (${using}) AS s ` +
    `ON ${keys.map(({ name }) => `t.${quote(name)} = s.${quote(name)}`).join(" AND ")} ` +
    `WHEN MATCHED AND s.${op} IN ${deaths} THEN DELETE ` +
    `WHEN MATCHED THEN UPDATE SET ${[...set, `${sequence} = s.${sequence}`, `${syncedAt} = ${now}`].join(", ")} ` +
    `WHEN NOT MATCHED AND s.${op} NOT IN ${deaths} THEN INSERT (${[...names, sequence, syncedAt].join(", ")}) ` +
    `VALUES (${[...names.map((name) => `s.${name}`), `s.${sequence}`, now].join(", ")})`
}

/** Empties the target of what was there at `truncated`; DELETE, because TRUNCATE would end the transaction. */
export const empty = (layout: TableLayout, window: Window, truncated: string): string =>
  `DELETE FROM ${sqlName(layout.target)}${window.amidCopy ? ` WHERE ${sequence} <= ${bound(truncated)}` : ""}`

const sign = (alias: string): string => `IFF(${alias}.${op} IN ${births}, 1, -1)`

/** For tables without a key: how many copies of rows the window removes in all (column "copies"). */
export const countRemoved = (layout: TableLayout, window: Window, contents: Contents): string =>
  `SELECT COALESCE(SUM(IFF(n.${net} < 0, -n.${net}, 0)), 0) AS "copies" FROM (${
    netCopies(layout, window, contents)
  }) AS n`

const netCopies = (layout: TableLayout, window: Window, contents: Contents): string =>
  `SELECT j.${rowKey} AS "KEY", SUM(${sign("j")}) AS ${net} FROM (${
    changes(layout, effective(window, contents), [op, rowKey])
  }) AS j GROUP BY j.${rowKey}`

/** For tables without a key: removes the copies that the window takes away, those numbered highest first. */
export const removeCopies = (layout: TableLayout, window: Window, contents: Contents): string => {
  const target = sqlName(layout.target)
  return `DELETE FROM ${target} USING (SELECT r."KEY", r."COPY" FROM (` +
    `SELECT h.${rowKey} AS "KEY", h.${copy} AS "COPY", n.${net}, ROW_NUMBER() OVER (PARTITION BY h.${rowKey} ORDER BY h.${copy} DESC) AS ${rank} ` +
    `FROM ${target} AS h JOIN (${
      netCopies(layout, window, contents)
    }) AS n ON h.${rowKey} = n."KEY" WHERE n.${net} < 0) AS r ` +
    `WHERE r.${rank} <= -r.${net}) AS d WHERE ${rowKey} = d."KEY" AND ${copy} = d."COPY"`
}

/** For tables without a key: adds the copies that the window brings, numbered after those that are there. */
export const addCopies = (layout: TableLayout, window: Window, contents: Contents): string => {
  const target = sqlName(layout.target)
  const { columns } = layout
  const source = changes(layout, effective(window, contents), [
    op,
    sequence,
    rowKey,
    ...columns.map(({ name }) => quote(name))
  ])
  const added = `SELECT j.*, SUM(${sign("j")}) OVER (PARTITION BY j.${rowKey}) AS ${net}, ` +
    `ROW_NUMBER() OVER (PARTITION BY j.${rowKey}, ${sign("j")} ORDER BY j.${sequence}) AS ${rank} FROM (${source}) AS j`
  return `INSERT INTO ${target} (${
    [...columns.map(({ name }) => quote(name)), sequence, syncedAt, rowKey, copy].join(", ")
  }) SELECT ${
    [
      ...columns.map((column) => column.fromJournal(`a.${quote(column.name)}`)),
      `a.${sequence}`,
      now,
      `a.${rowKey}`,
      `COALESCE(h."COPY", 0) + a.${rank}`
    ].join(", ")
  } FROM (${added}) AS a LEFT JOIN (SELECT ${rowKey} AS "KEY", MAX(${copy}) AS "COPY" FROM ${target} GROUP BY ${rowKey}) AS h ON h."KEY" = a.${rowKey} ` +
    `WHERE a.${op} IN ${births} AND a.${rank} <= a.${net}`
}

/** For tables whose rows are only ever inserted. */
export const append = (layout: TableLayout, window: Window, contents: Contents): string =>
  `INSERT INTO ${sqlName(layout.target)} (${
    [...layout.columns.map(({ name }) => quote(name)), sequence, syncedAt].join(", ")
  }) SELECT ${
    [...layout.columns.map((column) => column.fromJournal(`j.${quote(column.name)}`)), `j.${sequence}`, now].join(", ")
  } FROM ${sqlName(layout.journal)} AS j WHERE ${within(effective(window, contents))} AND j.${op} IN ${births}`

/** Removes journal rows that are merged (at or before `merged`) and were committed before `before` (ISO 8601). */
export const prune = (layout: TableLayout, merged: string, before: string): string =>
  `DELETE FROM ${sqlName(layout.journal)} WHERE ${sequence} <= ${literal(merged)} AND ${quote(Metadata.commitTime)} < ${
    literal(before)
  }::TIMESTAMP_TZ`
