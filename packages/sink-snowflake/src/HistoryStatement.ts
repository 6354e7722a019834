/**
 * The SQL that brings a window of the journal into a history: a row per version of each row of the source, from the commit that it began with to the one that ended it.
 *
 * Of each key the last change of a transaction counts: what a transaction made and undid itself was never seen by anybody. Such a change ends the version
 * that is open and, unless it removes the row, opens another. A version's values are the last ones sent up to its change; where none were, the version's that was open when the
 * window began. Changes of key that left columns unsent are followed as in the mirror (see `KeyChange`).
 *
 * The changes beside a copy up to its latest snapshot stand for one transaction, too: its rows were read in different snapshots, and only from there on is everything known. What
 * that transaction leaves began when the row was born in it, or else with the version that it replaces or with its first change; what it found ended with its first change.
 * Versions of rows whose own snapshot came later than a change supersede it.
 *
 * Windows hold no truncates here: they are cut there, and `truncate` closes what is open.
 */
import * as ColumnList from "./ColumnList.ts"
import { keyList, sameKey } from "./ColumnList.ts"
import { literal, quote } from "./Identifier.ts"
import * as JournalStatement from "./JournalStatement.ts"
import type { Window } from "./JournalWindow.ts"
import { bound } from "./JournalWindow.ts"
import * as KeyChange from "./KeyChange.ts"
import type { ColumnLayout, TableLayout } from "./TableLayout.ts"
import { Metadata, quotedNames, sqlName } from "./TableLayout.ts"

const op = quote(Metadata.op)
const sequence = quote(Metadata.sequence)
const commitTime = quote(Metadata.commitTime)
const unsentColumn = quote(Metadata.unsent)
const past = quote("_ETL_PAST")
const at = quote("_ETL_AT")
const until = quote("_ETL_UNTIL")
const ends = quote("_ETL_ENDS")
const first = quote("_ETL_FIRST")
const born = quote("_ETL_BORN")
const rank = quote("_ETL_RANK")
const closes = quote("_ETL_CLOSES")
const held = quote("_ETL_HELD")
const originPast = quote("_ETL_ORIGIN_PAST")
const value = (index: number): string => quote(`_ETL_VALUE_${index}`)
const sentAt = (index: number): string => quote(`_ETL_SENT_${index}`)
const origin = (index: number): string => quote(`_ETL_ORIGIN_${index}`)
const upToHere = "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"
/** How sequences of copied rows end. */
const copiedEnd = `/${"0".repeat(16)}`

const open = (layout: TableLayout): string =>
  `(SELECT * FROM ${sqlName(layout.target)} WHERE ${quotedNames(layout).validTo} IS NULL)`

/** Each row once as what closes a version and once as what opens one. */
const both = `(SELECT TRUE AS ${closes} UNION ALL SELECT FALSE AS ${closes})`

/** The transaction that a sequence belongs to; the same for all of a copy. */
const transaction = (expression: string, { amidCopy }: Window): string =>
  amidCopy === undefined
    ? `LEFT(${expression}, 16)`
    : `IFF(${expression} < ${literal(amidCopy.upTo)}, '', LEFT(${expression}, 16))`

/** Whether the version in `version` began in the transaction of the change `change`: then it was never seen. */
const unseen = (version: string, change: string, { amidCopy }: Window): string => {
  const began = `(LEFT(${version}, 17) = LEFT(${change}, 17) AND RIGHT(${version}, 17) <> ${literal(copiedEnd)})`
  return amidCopy === undefined
    ? began
    : `(${began} OR (${change} < ${literal(amidCopy.upTo)} AND ${version} > ${literal(amidCopy.after)}))`
}

/** When the transaction of a change changed the key first, and when it bore its row last (NULL: it didn't). */
const times = (layout: TableLayout, window: Window): ReadonlyArray<string> => {
  const part = `PARTITION BY ${keyList(layout, "c")}, c.${past}, ${transaction(`c.${sequence}`, window)}`
  const birth = (expression: string): string => `IFF(c.${op} IN ${JournalStatement.births}, ${expression}, NULL)`
  return [
    `FIRST_VALUE(c.${commitTime}) OVER (${part} ORDER BY c.${sequence}) AS ${first}`,
    `FIRST_VALUE(${birth(`c.${commitTime}`)}) OVER (${part} ORDER BY ${
      birth(`c.${sequence}`)
    } DESC NULLS LAST) AS ${born}`
  ]
}

const inserted = (layout: TableLayout): string => {
  const names = ColumnList.names(layout.columns)
  const { validFrom, validTo } = quotedNames(layout)
  return `(${[...names, validFrom, validTo, sequence].join(", ")}) ` +
    `VALUES (${[...ColumnList.names(layout.columns, "s"), `s.${at}`, `s.${until}`, `s.${sequence}`].join(", ")})`
}

/**
 * The MERGE of a window without truncates. `unsentColumns` are the names of columns that some change of it left unsent; with `moved` the links of
 * `KeyChange` must be resolved before.
 */
export const merge = (
  layout: TableLayout,
  window: Window,
  unsentColumns: ReadonlySet<string>,
  changesOfKey: boolean
): string => {
  const { columns, keys } = layout
  const { validFrom, validTo } = quotedNames(layout)
  const partial = columns.filter((column) => !column.isKey && unsentColumns.has(column.name))
  const moved = changesOfKey && partial.length > 0
  const position = new Map(partial.map((column, index) => [column, index]))
  const raw = KeyChange.keyedChanges(layout, window, [
    op,
    sequence,
    commitTime,
    unsentColumn,
    ...ColumnList.names(columns)
  ])
  const source = moved ? KeyChange.withRows(layout, raw) : raw
  // What values belong to: the key, or the row, which is the root of a chain of lives.
  const owner = (alias: string): string =>
    moved ? `${alias}.${KeyChange.rowOf}` : `${keyList(layout, alias)}, ${alias}.${past}`
  const earliest = (expression: string): string =>
    `FIRST_VALUE(${expression}) OVER (PARTITION BY ${owner("c")} ORDER BY c.${sequence})`
  const traced = [
    "c.*",
    ...partial.map((column, index) =>
      `MAX(IFF(${JournalStatement.sent("c", column)}, c.${sequence}, NULL)) OVER (PARTITION BY ${owner("c")} ` +
      `ORDER BY c.${sequence} ${upToHere}) AS ${sentAt(index)}`
    ),
    // The key that a row had when the window began: where its open version is.
    ...(moved
      ? [
        ...keys.map(({ name }, index) => `${earliest(`c.${quote(name)}`)} AS ${origin(index)}`),
        `${earliest(`c.${past}`)} AS ${originPast}`
      ]
      : []),
    // The changes of any other transaction have one time.
    ...(window.amidCopy === undefined ? [] : times(layout, window))
  ]
  const filled = [
    "d.*",
    ...partial.map((column, index) =>
      `FIRST_VALUE(d.${quote(column.name)}) OVER (PARTITION BY ${owner("d")}, d.${sentAt(index)} ` +
      `ORDER BY d.${sequence}) AS ${value(index)}`
    )
  ]
  const last =
    `SELECT e.* FROM (SELECT ${filled.join(", ")} FROM (SELECT ${
      traced.join(", ")
    } FROM (${source}) AS c) AS d) AS e ` +
    `QUALIFY ROW_NUMBER() OVER (PARTITION BY ${keyList(layout, "e")}, ${transaction(`e.${sequence}`, window)} ` +
    `ORDER BY e.${sequence} DESC) = 1 AND NOT e.${past}`

  const key = (column: ColumnLayout): string => column.fromJournal(`f.${quote(column.name)}`)
  // Commits may have times in another order than their positions: nothing ends before it began.
  const ended = (time: string): string =>
    `MAX(GREATEST(${time}, COALESCE(o.${validFrom}, ${time}))) ` +
    `OVER (PARTITION BY ${keyList(layout, "f")} ORDER BY f.${sequence} ${upToHere})`
  const begins = window.amidCopy === undefined
    ? `g.${ends}`
    : `IFF(g.${born} IS NULL AND ${unseen(`g.${held}`, `g.${sequence}`, window)}, g.${validFrom}, ` +
      `GREATEST(COALESCE(g.${born}, g.${ends}), g.${ends}))`
  const resolved = columns.map((column) => {
    const index = position.get(column)
    const name = quote(column.name)
    if (index === undefined) return `${column.fromJournal(`f.${name}`)} AS ${name}`
    return `IFF(f.${sentAt(index)} IS NOT NULL, ${column.fromJournal(`f.${value(index)}`)}, ${
      moved ? "b" : "o"
    }.${name}) AS ${name}`
  })
  const base = moved
    ? ` LEFT JOIN ${open(layout)} AS b ON ${
      [...keys.map(({ name }, index) => `b.${quote(name)} = f.${origin(index)}`), `NOT f.${originPast}`].join(" AND ")
    }`
    : ""
  const timed = `SELECT f.${op}, f.${sequence}, ${resolved.join(", ")}, ` +
    (window.amidCopy === undefined
      ? `${ended(`f.${commitTime}`)} AS ${ends}, `
      : `${ended(`f.${first}`)} AS ${ends}, f.${born}, o.${validFrom}, COALESCE(o.${sequence}, '') AS ${held}, `) +
    `ROW_NUMBER() OVER (PARTITION BY ${keyList(layout, "f")} ORDER BY f.${sequence}) AS ${rank} FROM (${last}) AS f ` +
    `LEFT JOIN ${open(layout)} AS o ON ${
      keys.map((column) => `o.${quote(column.name)} = ${key(column)}`).join(" AND ")
    }${base}`
  const versions =
    `SELECT g.*, ${begins} AS ${at}, LEAD(g.${ends}) OVER (PARTITION BY ${
      keyList(layout, "g")
    } ORDER BY g.${sequence}) AS ${until} ` +
    `FROM (${timed}) AS g`
  const using = `SELECT v.*, k.${closes} FROM (${versions}) AS v JOIN ${both} AS k ` +
    `ON IFF(k.${closes}, v.${rank} = 1, v.${op} NOT IN ${JournalStatement.deaths})`
  return `MERGE INTO ${sqlName(layout.target)} AS t USING (${using}) AS s ` +
    `ON s.${closes} AND t.${validTo} IS NULL AND ${sameKey(layout, "t", "s")} ` +
    `WHEN MATCHED AND ${unseen(`t.${sequence}`, `s.${sequence}`, window)} THEN DELETE ` +
    `WHEN MATCHED THEN UPDATE SET ${validTo} = s.${ends} ` +
    `WHEN NOT MATCHED AND NOT s.${closes} THEN INSERT ${inserted(layout)}`
}

/** Sequences of the window's truncates, in order (column "truncated"). */
export const truncates = (layout: TableLayout, window: Window): string =>
  `SELECT ${sequence} AS "truncated" FROM ${sqlName(layout.journal)} WHERE ${JournalStatement.within(window)} ` +
  `AND ${op} = 'truncate' ORDER BY ${sequence}`

/** What a truncate does to the versions that are open: those of its own transaction go, the others end. */
export const truncate = (layout: TableLayout, window: Window, truncated: string): ReadonlyArray<string> => {
  const target = sqlName(layout.target)
  const of = bound(truncated)
  const { validFrom, validTo } = quotedNames(layout)
  const hit = `${validTo} IS NULL AND ${sequence} <= ${of}`
  const time = `(SELECT MAX(${commitTime}) FROM ${sqlName(layout.journal)} WHERE ${sequence} = ${of})`
  return [
    `DELETE FROM ${target} WHERE ${hit} AND ${unseen(sequence, of, window)}`,
    `UPDATE ${target} SET ${validTo} = GREATEST(${time}, ${validFrom}) WHERE ${hit}`
  ]
}

/**
 * Brings a copy into the history, when all of it is in the table `copy`: versions whose row is gone or differs end, and what is new or differs begins. When that
 * happened isn't known: it counts from when the copy's first rows were loaded, but from no later than the changes that came since it began.
 */
export const compare = (layout: TableLayout, copy: TableLayout): string => {
  const loaded = sqlName(copy.target)
  const names = ColumnList.names(layout.columns)
  const { validFrom, validTo } = quotedNames(layout)
  // VARIANT values are compared by their text.
  const form = (column: ColumnLayout, alias: string): string =>
    column.target === "VARIANT" ? `TO_JSON(${alias}.${quote(column.name)})` : `${alias}.${quote(column.name)}`
  const differs = layout.columns.filter(({ isKey }) => !isKey)
    .map((column) => `${form(column, "c")} IS DISTINCT FROM ${form(column, "o")}`)
  const now = "CURRENT_TIMESTAMP()::TIMESTAMP_TZ(6)"
  const time = `SELECT LEAST(COALESCE((SELECT MIN(${quotedNames(copy).syncedAt}) FROM ${loaded}), ${now}), ` +
    `COALESCE((SELECT MIN(${commitTime}) FROM ${sqlName(layout.journal)}), ${now})) AS ${at}`
  const selected = [
    `k.${closes}`,
    ...layout.columns.map(({ isKey, name }) =>
      isKey ? `COALESCE(c.${quote(name)}, o.${quote(name)}) AS ${quote(name)}` : `c.${quote(name)}`
    ),
    `GREATEST(x.${at}, COALESCE(o.${validFrom}, x.${at})) AS ${at}`,
    `CAST(NULL AS TIMESTAMP_TZ(6)) AS ${until}`,
    `c.${sequence}`
  ]
  const using = `SELECT ${selected.join(", ")} FROM (SELECT ${[...names, sequence].join(", ")} FROM ${loaded}) AS c ` +
    `FULL OUTER JOIN ${open(layout)} AS o ON ${sameKey(layout, "c", "o")} ` +
    `CROSS JOIN (${time}) AS x JOIN ${both} AS k ` +
    `ON IFF(k.${closes}, o.${sequence} IS NOT NULL, c.${sequence} IS NOT NULL) ` +
    `WHERE ${[`c.${sequence} IS NULL`, `o.${sequence} IS NULL`, ...differs].join(" OR ")}`
  return `MERGE INTO ${sqlName(layout.target)} AS t USING (${using}) AS s ` +
    `ON s.${closes} AND t.${validTo} IS NULL AND ${sameKey(layout, "t", "s")} ` +
    `WHEN MATCHED THEN UPDATE SET ${validTo} = s.${at} ` +
    `WHEN NOT MATCHED AND NOT s.${closes} THEN INSERT ${inserted(layout)}`
}
