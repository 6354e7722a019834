/**
 * What every SHOW shares: its filters, the scope that IN names, and how its rows are answered.
 */
import type { CatalogObject } from "../Catalog.ts"
import * as ResultRows from "../ResultRows.ts"
import * as SnowflakeError from "../SnowflakeError.ts"
import type { Cursor } from "../sql/Cursor.ts"
import type { SnowflakeType } from "../sql/SnowflakeType.ts"
import type { Outcome, StatementContext } from "./StatementContext.ts"
import * as Statement from "./StatementContext.ts"

export type Row = ReadonlyArray<string | null>

const timestamp: SnowflakeType = { kind: "TIMESTAMP_LTZ", scale: 3 }
export const created = ResultRows.column("created_on", timestamp)
export const named = (...names: ReadonlyArray<string>) => names.map((name) => ResultRows.column(name))
export const at = (millis: number): string =>
  `${Math.floor(millis / 1000)}.${String(millis % 1000).padStart(3, "0")}000000`

export const outcome = (columns: ReadonlyArray<ResultRows.ResultColumn>, rows: ReadonlyArray<Row>): Outcome => ({
  kind: "SHOW",
  typeId: Statement.typeIds.show,
  result: ResultRows.ofRows(columns, rows)
})

/** LIKE of SHOW ignores case. */
const likePattern = (like: string): RegExp => {
  const body = like.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&").replaceAll("%", ".*").replaceAll("_", ".")
  return new RegExp(`^${body}$`, "is")
}

export interface Filter {
  readonly like: RegExp | undefined
  readonly startsWith: string | undefined
  readonly limit: number
  readonly scope: ReadonlyArray<string> | "ACCOUNT" | undefined
  readonly scopeKind: string | undefined
}

/** [LIKE '…'] [IN [ACCOUNT | DATABASE | SCHEMA | TABLE] name] [STARTS WITH '…'] [LIMIT n] */
export const filter = (cursor: Cursor): Filter => {
  let like: RegExp | undefined
  let startsWith: string | undefined
  let limit = Number.POSITIVE_INFINITY
  let scope: Filter["scope"]
  let scopeKind: string | undefined
  cursor.accept("HISTORY")
  if (cursor.accept("LIKE")) like = likePattern(cursor.string())
  if (cursor.accept("IN")) {
    if (cursor.accept("ACCOUNT")) scope = "ACCOUNT"
    else {
      for (const kind of ["DATABASE", "SCHEMA", "TABLE", "VIEW"]) if (cursor.accept(kind)) scopeKind = kind
      scope = cursor.done ? undefined : cursor.path()
    }
  }
  if (cursor.accept("STARTS", "WITH")) startsWith = cursor.string()
  if (cursor.accept("LIMIT")) {
    limit = Number(
      cursor.next().kind === "number"
        ? cursor.source.slice(cursor.tokens[cursor.at - 1]?.at, cursor.tokens[cursor.at - 1]?.end)
        : 0
    )
    if (cursor.accept("FROM")) throw SnowflakeError.unsupported("SHOW … LIMIT … FROM")
  }
  cursor.end()
  return { like, startsWith, limit, scope, scopeKind }
}

export const keep = <A extends { readonly name: string }>(given: Filter, items: ReadonlyArray<A>): ReadonlyArray<A> =>
  items.filter((item) =>
    (given.like?.test(item.name) ?? true) && (given.startsWith === undefined || item.name.startsWith(given.startsWith))
  )
    .slice(0, given.limit)

/** Whether an object lies where IN says, or in the current schema or database. */
export const inScope = (context: StatementContext, given: Filter): (object: CatalogObject) => boolean => {
  const { session } = context
  const { catalog } = context.services
  if (given.scope === "ACCOUNT") return () => true
  const path = given.scope
  if (path === undefined) {
    const { database, schema } = session
    if (database === undefined) return () => true
    return (object) => object.database === database && (schema === undefined || object.schema === schema)
  }
  const [first = "", second] = path
  if (
    given.scopeKind === "DATABASE" ||
    (given.scopeKind === undefined && second === undefined && catalog.hasDatabase(first))
  ) {
    if (!catalog.hasDatabase(first)) throw SnowflakeError.useNotFound()
    return (object) => object.database === first
  }
  const database = second === undefined ? session.database : first
  const schema = second ?? first
  if (database === undefined) throw SnowflakeError.noCurrentDatabase()
  if (!catalog.hasSchema(database, schema)) throw SnowflakeError.useNotFound()
  return (object) => object.database === database && object.schema === schema
}
