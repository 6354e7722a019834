/**
 * The SQL that brings a window of the journal into the mirrored target of a table with a key: pure functions from a plan to statements.
 *
 * For each key the last change of the window decides whether its row is there. A column's value is the last one that was
 * *sent*; when none was sent in the window, the target's own old value stays. A change that sends all columns (insert, read)
 * makes older ones irrelevant by itself, being the later one. Only changes of key that leave columns unsent need more (`KeyChange`): then values are taken per
 * row instead of per key.
 */
import * as ColumnList from "./ColumnList.ts"
import { keyList, sameKey } from "./ColumnList.ts"
import { quote } from "./Identifier.ts"
import { deaths, effective, sent } from "./JournalStatement.ts"
import type { Contents, Window } from "./JournalWindow.ts"
import { bound } from "./JournalWindow.ts"
import { keyedChanges, past, rowOf, withRows } from "./KeyChange.ts"
import * as KeyRange from "./KeyRange.ts"
import type { TableLayout } from "./TableLayout.ts"
import { Metadata, quotedNames, sqlName } from "./TableLayout.ts"

const op = quote(Metadata.op)
const sequence = quote(Metadata.sequence)
const unsentColumn = quote(Metadata.unsent)
const now = "CURRENT_TIMESTAMP()"
// Names beginning with _ETL_ are ours alone (see TableLayout), so these meet no column of the table.
const value = (index: number): string => quote(`_ETL_VALUE_${index}`)
/** The change that sent the value that a column has after a change; NULL when none in the window did. */
const sentAt = (index: number): string => quote(`_ETL_SENT_${index}`)
const originPast = quote("_ETL_ORIGIN_PAST")
const origin = (index: number): string => quote(`_ETL_ORIGIN_${index}`)

/**
 * The MERGE for tables with a key. `unsentColumns` are the names of columns that some change of the window left unsent. With `contents.moved`
 * the links must be resolved before.
 *
 * It has one row per key, the key's last change: a row of the target can't match two. A column that changes left unsent has the value that it had after that change:
 * a row that is deleted softly keeps its last values, although the row may live on under another key.
 */
export const merge = (
  layout: TableLayout,
  window: Window,
  contents: Contents,
  unsentColumns: ReadonlySet<string>
): string => {
  const { columns, keys, softDelete } = layout
  const { deleted, syncedAt } = quotedNames(layout)
  // A delete sends no values, and those of a row that stays are wanted.
  const kept = softDelete && contents.removes > 0
  const partial = columns.filter((column) => !column.isKey && (kept || unsentColumns.has(column.name)))
  const position = new Map(partial.map((column, index) => [column, index]))
  const raw = keyedChanges(layout, effective(window, contents), [
    op,
    sequence,
    unsentColumn,
    ...ColumnList.names(columns)
  ])
  const moved = contents.moved && partial.length > 0
  // What values belong to: the key, or the row, which is the root of a chain of lives.
  const source = moved
    ? withRows(layout, raw)
    : raw
  const owner = (alias: string): string => moved ? `${alias}.${rowOf}` : `${keyList(layout, alias)}, ${alias}.${past}`
  const marked = partial.length === 0 ?
    source :
    `SELECT m.*, ${
      partial.map((column, index) =>
        `MAX(IFF(${sent("m", column)}, m.${sequence}, NULL)) OVER (PARTITION BY ${owner("m")} ORDER BY m.${sequence} ` +
        `ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS ${sentAt(index)}`
      ).join(", ")
    } FROM (${source}) AS m`
  const selected = [
    `c.${op}`,
    `c.${sequence}`,
    ...ColumnList.names(columns.filter((column) => !position.has(column)), "c"),
    ...partial.flatMap((column, index) => [
      // The first row of those with one mark is the one that sent the value.
      `FIRST_VALUE(c.${quote(column.name)}) OVER (PARTITION BY ${owner("c")}, c.${sentAt(index)} ` +
      `ORDER BY c.${sequence}) AS ${value(index)}`,
      `c.${sentAt(index)}`
    ]),
    // The key that a row had when the window began: where the target holds its old values.
    ...(moved
      ? [
        ...keys.map((column, index) =>
          `FIRST_VALUE(c.${quote(column.name)}) OVER (PARTITION BY ${owner("c")} ORDER BY c.${sequence}) AS ${
            origin(index)
          }`
        ),
        `FIRST_VALUE(c.${past}) OVER (PARTITION BY ${owner("c")} ORDER BY c.${sequence}) AS ${originPast}`
      ]
      : [])
  ]
  const last = `SELECT ${selected.join(", ")} FROM (${marked}) AS c ` +
    `QUALIFY ROW_NUMBER() OVER (PARTITION BY ${keyList(layout, "c")} ORDER BY c.${sequence} DESC) = 1 AND NOT c.${past}`

  const resolved = columns.map((column) => {
    const index = position.get(column)
    const converted = column.fromJournal(index === undefined ? `n.${quote(column.name)}` : `n.${value(index)}`)
    const name = quote(column.name)
    return index === undefined || !moved
      ? `${converted} AS ${name}`
      : `IFF(n.${sentAt(index)} IS NOT NULL, ${converted}, b.${name}) AS ${name}`
  })
  const marks = moved ? [] : partial.map((_, index) => `n.${sentAt(index)}`)
  const base = moved
    ? ` LEFT JOIN ${sqlName(layout.target)} AS b ON ${
      [
        ...keys.map(({ name }, index) => `b.${quote(name)} = n.${origin(index)}`),
        ...KeyRange.within("b", contents.keys),
        // The row that the target has of this key came later.
        `NOT n.${originPast}`
      ].join(" AND ")
    }`
    : ""
  // Whatever somebody else put into the target, one row per key it stays.
  const single = moved
    ? ` QUALIFY ROW_NUMBER() OVER (PARTITION BY ${keyList(layout, "n")} ORDER BY b.${sequence} DESC) = 1`
    : ""
  const using = `SELECT n.${op}, n.${sequence}, ${
    [...resolved, ...marks].join(", ")
  } FROM (${last}) AS n${base}${single}`

  const set = columns.filter(({ isKey }) => !isKey).map((column) => {
    const index = position.get(column)
    const name = quote(column.name)
    return `${name} = ${
      index === undefined || moved ? `s.${name}` : `IFF(s.${sentAt(index)} IS NOT NULL, s.${name}, t.${name})`
    }`
  })
  const names = ColumnList.names(columns)
  const gone = `s.${op} IN ${deaths}`
  const flag = softDelete ? [deleted] : []
  const updated = [
    ...set,
    ...flag.map((name) => `${name} = ${gone}`),
    `${sequence} = s.${sequence}`,
    `${syncedAt} = ${now}`
  ]
  const inserted = [...ColumnList.names(columns, "s"), ...flag.map(() => gone), `s.${sequence}`, now]
  return [
    `MERGE INTO ${sqlName(layout.target)} AS t USING (${using}) AS s`,
    `ON ${[sameKey(layout, "t", "s"), ...KeyRange.within("t", contents.keys)].join(" AND ")}`,
    ...(softDelete ? [] : [`WHEN MATCHED AND ${gone} THEN DELETE`]),
    `WHEN MATCHED THEN UPDATE SET ${updated.join(", ")}`,
    // A row that came and went within the window is there afterwards as it would be if the window had been two.
    `WHEN NOT MATCHED${softDelete ? "" : ` AND s.${op} NOT IN ${deaths}`} THEN ` +
    `INSERT (${[...names, ...flag, sequence, syncedAt].join(", ")}) VALUES (${inserted.join(", ")})`
  ].join(" ")
}

/** Of a target with soft deletes: its rows that are there at the source. */
export const live = (layout: TableLayout, alias: string): string =>
  `NOT COALESCE(${alias}${quotedNames(layout).deleted}, FALSE)`

/** Empties the target of what was there at `truncated`; DELETE, because TRUNCATE would end the transaction. */
export const empty = (layout: TableLayout, window: Window, truncated: string): string => {
  const target = sqlName(layout.target)
  const { deleted, syncedAt } = quotedNames(layout)
  const older = window.amidCopy ? [`${sequence} <= ${bound(truncated)}`] : []
  return layout.softDelete
    ? `UPDATE ${target} SET ${deleted} = TRUE, ${sequence} = ${bound(truncated)}, ${syncedAt} = ${now} ` +
      `WHERE ${[live(layout, ""), ...older].join(" AND ")}`
    : [`DELETE FROM ${target}`, ...older].join(" WHERE ")
}
