/**
 * The view of the current state beside a changelog: one SELECT over all of its changes.
 *
 * Of each key the last change decides whether its row is there, and a column's value is the last one that was sent. Changes before the last truncate, and those before
 * the last finished copy (which the state table knows), don't count. A change of key that left columns unsent continues the row of the old key, whose values it takes, through
 * chains of such changes: a key's changes are cut into lives (from birth to death), and a recursion finds the first life of each row.
 *
 * The view carries a hash of its text in its comment. It is replaced when the text differs, so that grants and what depends on it stay otherwise; they stay
 * then, too. A view that isn't ours is left alone.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import { isRetryable } from "@etl-stream/core/ConnectorError"
import * as Effect from "effect/Effect"
import { createHash } from "node:crypto"
import * as ColumnList from "./ColumnList.ts"
import { keyList } from "./ColumnList.ts"
import type { Config } from "./Config.ts"
import { failure } from "./ErrorPolicy.ts"
import * as Identifier from "./Identifier.ts"
import { literal, qualified, quote } from "./Identifier.ts"
import * as JournalStatement from "./JournalStatement.ts"
import type { SqlClient } from "./SqlClient.ts"
import type { ObjectName, TableLayout } from "./TableLayout.ts"
import { Metadata, sqlName } from "./TableLayout.ts"

type Failed = ConnectorError.ConnectorError

const op = quote(Metadata.op)
const sequence = quote(Metadata.sequence)
const commitTime = quote(Metadata.commitTime)
const unsent = quote(Metadata.unsent)
// Names that begin with _ETL_ are no column's.
const changes = quote("_ETL_CHANGES")
const lives = quote("_ETL_LIVES")
const links = quote("_ETL_LINKS")
const rows = quote("_ETL_ROWS")
const owned = quote("_ETL_OWNED")
const life = quote("_ETL_LIFE")
const parent = quote("_ETL_PARENT")
const before = quote("_ETL_BEFORE")
const root = quote("_ETL_ROOT")
const parentKey = (index: number): string => quote(`_ETL_PARENT_${index}`)
const rootKey = (index: number): string => quote(`_ETL_ROOT_${index}`)

/** Orders changes of one sequence: a row that has a change's own was read just before it. */
const readFirst = (alias: string): string => `IFF(${alias}.${op} = 'read', 0, 1)`

/** The view's name; undefined when the table has none, or no key to tell rows apart by. */
export const nameOf = (layout: TableLayout, suffix: string): ObjectName | undefined =>
  layout.mode === "changelog" && layout.keys.length > 0 && suffix !== ""
    ? { ...layout.target, name: `${layout.target.name}${suffix}` }
    : undefined

/** The view's query. `home` is the schema of the state table. */
export const query = (layout: TableLayout, pipeline: string, home: string): string => {
  const { columns, keys } = layout
  const from = sqlName(layout.target)
  const keyNames = ColumnList.names(keys)
  const key = (alias: string): string => keyList(layout, alias)
  // The end of the last copy: what came before is in it, or was gone by then.
  const copied = `SELECT MAX("MERGED") FROM ${qualified(layout.target.database, home, "TABLES")} ` +
    `WHERE "PIPELINE" = ${literal(pipeline)} AND "SOURCE_TABLE" = ${literal(layout.id)}`
  const truncated = `SELECT MAX(${sequence}) FROM ${from} WHERE ${op} = 'truncate'`
  const perKey = `PARTITION BY ${key("c")}`
  const lifeOf = `COALESCE(MAX(IFF(c.${op} IN ${JournalStatement.births}, c.${sequence}, NULL)) OVER (${perKey} ` +
    `ORDER BY c.${sequence}, ${
      readFirst("c")
    } ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW), MIN(c.${sequence}) OVER (${perKey}))`
  // A change of key is two neighbours: the old key's last row, then the new key's first.
  const previous = (expression: string): string => `LAG(${expression}) OVER (ORDER BY l.${sequence})`
  const owner = [`o.${root}`, ...keys.map((_, index) => `o.${rootKey(index)}`)].join(", ")
  const last = columns.map((column) =>
    column.isKey
      ? `o.${quote(column.name)}`
      : `FIRST_VALUE(o.${quote(column.name)}) OVER (PARTITION BY ${owner} ` +
        `ORDER BY IFF(${JournalStatement.sent("o", column)}, o.${sequence}, NULL) DESC NULLS LAST) AS ${
          quote(column.name)
        }`
  )
  const rootKeys = keys.map((_, index) => rootKey(index))
  return `WITH RECURSIVE ${changes} AS (SELECT * FROM ${from} WHERE ${op} <> 'truncate' ` +
    `AND ${sequence} > COALESCE((${copied}), '') AND ${sequence} > COALESCE((${truncated}), '')), ` +
    `${lives} AS (SELECT c.*, ${lifeOf} AS ${life} FROM ${changes} AS c), ` +
    `${links} AS (SELECT n.${sequence} AS ${life}, n.${parent}, ${
      keys.map((_, index) => `n.${parentKey(index)}`).join(", ")
    } FROM (SELECT l.${sequence}, l.${op}, l.${unsent}, ${previous(`l.${op}`)} AS ${before}, ${
      previous(`l.${life}`)
    } AS ${parent}, ${keyNames.map((name, index) => `${previous(`l.${name}`)} AS ${parentKey(index)}`).join(", ")} ` +
    `FROM ${lives} AS l WHERE l.${op} IN ('key_old', 'key_new')) AS n ` +
    `WHERE n.${op} = 'key_new' AND n.${before} = 'key_old' AND n.${unsent} IS NOT NULL), ` +
    `${rows} (${[life, root, ...rootKeys].join(", ")}) AS (SELECT n.${life}, n.${parent}, ${
      keys.map((_, index) => `n.${parentKey(index)}`).join(", ")
    } FROM ${links} AS n WHERE n.${parent} NOT IN (SELECT ${life} FROM ${links}) ` +
    `UNION ALL SELECT n.${life}, ${[root, ...rootKeys].map((name) => `r.${name}`).join(", ")} ` +
    `FROM ${links} AS n JOIN ${rows} AS r ON n.${parent} = r.${life}), ` +
    `${owned} AS (SELECT l.*, COALESCE(r.${root}, l.${life}) AS ${root}, ${
      keyNames.map((name, index) => `IFF(r.${root} IS NULL, l.${name}, r.${rootKey(index)}) AS ${rootKey(index)}`)
        .join(", ")
    } FROM ${lives} AS l LEFT JOIN ${rows} AS r ON r.${life} = l.${life}) ` +
    `SELECT ${[...ColumnList.names(columns, "f"), `f.${sequence}`, `f.${commitTime}`].join(", ")} ` +
    `FROM (SELECT ${[`o.${op}`, `o.${sequence}`, `o.${commitTime}`, ...last].join(", ")} FROM ${owned} AS o ` +
    `QUALIFY ROW_NUMBER() OVER (PARTITION BY ${key("o")} ORDER BY o.${sequence} DESC, ${
      readFirst("o")
    } DESC) = 1) AS f ` +
    `WHERE f.${op} NOT IN ${JournalStatement.deaths}`
}

/** Where the comments of our views begin. */
const ours = "Current state, kept by etl-stream"

const ensureView = Effect.fnUntraced(function*(
  sql: SqlClient,
  layout: TableLayout,
  view: ObjectName,
  text: string
): Effect.fn.Return<void, Failed> {
  const comment = `${ours} (${createHash("sha256").update(text).digest("hex").slice(0, 16)})`
  const { rows } = yield* sql.execute({
    what: `Looking for the view ${sqlName(view)}`,
    sql: `SHOW VIEWS LIKE ${literal(view.name)} IN SCHEMA ${qualified(view.database, view.schema)}`,
    table: layout.id
  })
  const existing = rows.find(({ name }) => name === view.name)
  if (existing?.["comment"] === comment) return
  if (existing !== undefined && !String(existing["comment"]).startsWith(ours)) {
    return yield* failure(
      "Forbidden",
      `The view ${sqlName(view)} exists already and isn't one of etl-stream`,
      "Rename or drop it, or give the option `changelog.currentSuffix` another value.",
      { table: layout.id }
    )
  }
  yield* sql.execute({
    what: `Creating the view ${sqlName(view)}`,
    sql: `CREATE ${existing === undefined ? "VIEW" : "OR REPLACE VIEW"} ${sqlName(view)}${
      existing === undefined ? "" : " COPY GRANTS"
    } COMMENT = ${literal(comment)} AS ${text}`,
    table: layout.id
  })
})

/** Makes the view fit the layout. The changelog is what counts: a view that can't be made is told of and stops nothing. */
export const ensure = Effect.fn("CurrentView.ensure")(function*(
  sql: SqlClient,
  layout: TableLayout,
  config: Config,
  pipeline: string
): Effect.fn.Return<void, Failed> {
  const view = nameOf(layout, config.changelog.currentSuffix)
  if (view === undefined) return
  const text = query(layout, pipeline, Identifier.fromConfig(config.journalSchema))
  yield* ensureView(sql, layout, view, text).pipe(
    Effect.catch((error) =>
      isRetryable(error)
        ? Effect.fail(error)
        : Effect.logWarning(`there is no view of the current state: ${error.message}`).pipe(
          Effect.annotateLogs({ table: layout.id, hint: error.hint })
        )
    )
  )
})
