/**
 * MERGE.
 *
 * DuckDB's MERGE takes any one of several source rows that match the same target row. Snowflake refuses that (unless all of them delete), so the join is looked
 * at first. A source that is a query is computed once, into a temporary table that both steps read.
 */
import * as Effect from "effect/Effect"
import type { Column, Table } from "../Catalog.ts"
import * as SnowflakeError from "../SnowflakeError.ts"
import { Cursor, isGroup, isWord } from "../sql/Cursor.ts"
import * as Expression from "../sql/Expression.ts"
import * as FromClause from "../sql/FromClause.ts"
import * as Identifier from "../sql/Identifier.ts"
import * as Query from "../sql/Query.ts"
import type { Scope } from "../sql/Scope.ts"
import type { Token } from "../sql/Token.ts"
import { commas } from "../sql/Token.ts"
import * as Dml from "./DmlStatement.ts"
import * as Privileges from "./Privileges.ts"
import type { Outcome, Run, StatementContext } from "./StatementContext.ts"
import * as Statement from "./StatementContext.ts"
import * as Writing from "./Writing.ts"

type Branch =
  | { readonly action: "UPDATE"; readonly condition: string | undefined; readonly settings: ReadonlyArray<Dml.Setting> }
  | { readonly action: "DELETE"; readonly condition: string | undefined }
  | { readonly action: "INSERT"; readonly condition: string | undefined; readonly settings: ReadonlyArray<Dml.Setting> }

interface Plan {
  readonly table: Table
  readonly alias: string
  /** What stands behind USING, with its alias. */
  readonly source: string
  /** The source's query and alias, when it is one. */
  readonly query: { readonly sql: string; readonly alias: string } | undefined
  readonly on: string
  readonly branches: ReadonlyArray<Branch>
}

const branch = (cursor: Cursor, table: Table, scope: Scope): Branch => {
  cursor.expect("WHEN")
  const matched = !cursor.accept("NOT")
  cursor.expect("MATCHED")
  let condition: string | undefined
  if (cursor.accept("AND")) condition = Expression.write(untilThen(cursor), scope).sql
  cursor.expect("THEN")
  if (matched) {
    if (cursor.accept("DELETE")) return { action: "DELETE", condition }
    cursor.expect("UPDATE")
    cursor.expect("SET")
    return { action: "UPDATE", condition, settings: Dml.settings(untilWhen(cursor), table, scope) }
  }
  cursor.expect("INSERT")
  const columns: ReadonlyArray<Column> = isWord(cursor.peek(), "VALUES") ? table.columns : Dml.columnList(table, cursor)
  cursor.expect("VALUES")
  const values = commas(cursor.group().items).map((item) => Expression.write(item, scope).sql)
  if (values.length !== columns.length) throw SnowflakeError.valueCount(columns.length, values.length)
  return {
    action: "INSERT",
    condition,
    settings: columns.map((column, index) => ({ column, value: values[index] ?? "NULL" }))
  }
}

/** Up to THEN, past those of CASE. */
const untilThen = (cursor: Cursor): ReadonlyArray<Token> => skipCases(cursor, "THEN")
const untilWhen = (cursor: Cursor): ReadonlyArray<Token> => skipCases(cursor, "WHEN")

const skipCases = (cursor: Cursor, stop: string): ReadonlyArray<Token> => {
  const start = cursor.at
  let depth = 0
  while (!cursor.done) {
    const token = cursor.peek()
    if (isWord(token, "CASE")) depth++
    else if (isWord(token, "END") && depth > 0) depth--
    else if (depth === 0 && isWord(token, stop)) break
    cursor.at++
  }
  return cursor.tokens.slice(start, cursor.at)
}

const parse = (context: StatementContext): Plan => {
  const cursor = Statement.cursorOf(context)
  cursor.expect("MERGE", "INTO")
  const { alias, table } = Dml.target(context, cursor, "USING")
  cursor.expect("USING")
  const environment = Statement.environment(context)
  const scope = Query.scopeOf(environment)
  const sourceTokens = new Cursor(context.source, cursor.until("ON"))
  const first = sourceTokens.peek()
  let query: Plan["query"]
  let source: string
  if (isGroup(first)) {
    sourceTokens.next()
    sourceTokens.accept("AS")
    const name = Identifier.column(sourceTokens.identifier())
    sourceTokens.end()
    query = { sql: Query.write(first.items, environment), alias: name }
    source = `(${query.sql}) AS ${name}`
  } else {
    source = FromClause.tableReference(sourceTokens, environment, scope, new Set())
    sourceTokens.end()
  }
  cursor.expect("ON")
  const on = Expression.write(untilWhen(cursor), scope).sql
  const branches: Array<Branch> = []
  while (!cursor.done) branches.push(branch(cursor, table, scope))
  if (branches.length === 0) throw cursor.unexpected()
  Privileges.requireDml(context, table, "SELECT", ...branches.map(({ action }) => action))
  return { table, alias, source, query, on, branches }
}

/** Fails when a target row would be changed by more than one source row. */
const refuseDuplicates = (context: StatementContext, plan: Plan, source: string): Run<void> =>
  Effect.gen(function*() {
    const matched = plan.branches.filter((branch) => branch.action !== "INSERT")
    if (matched.length === 0) return
    const cases = matched.map((branch) =>
      `WHEN ${branch.condition ?? "TRUE"} THEN ${branch.action === "DELETE" ? 0 : 1}`
    ).join(" ")
    const found = yield* Statement.rows(
      context,
      `SELECT 1 FROM (SELECT ${plan.alias}.rowid AS "row", CASE ${cases} END AS "action" FROM ${plan.table.duckdb} AS ${plan.alias} ` +
        `JOIN ${source} ON ${plan.on}) WHERE "action" IS NOT NULL GROUP BY "row" HAVING count(*) > 1 AND max("action") = 1 LIMIT 1`
    )
    if (found.length > 0) return yield* SnowflakeError.nondeterministicMerge()
  })

const branchSql = (context: StatementContext, plan: Plan, source: string, branch: Branch): Run<string> =>
  Effect.gen(function*() {
    const condition = branch.condition === undefined ? "" : ` AND (${branch.condition})`
    if (branch.action === "DELETE") return `WHEN MATCHED${condition} THEN DELETE`
    const from = branch.action === "INSERT" ? source : `${plan.table.duckdb} AS ${plan.alias}, ${source}`
    const values = yield* Dml.assigned(context, branch.settings, from)
    const columns = branch.settings.map(({ column }) => Identifier.quote(column.duckdbName))
    return branch.action === "UPDATE"
      ? `WHEN MATCHED${condition} THEN UPDATE SET ${
        columns.map((column, index) => `${column} = ${values[index]}`).join(", ")
      }`
      : `WHEN NOT MATCHED${condition} THEN INSERT (${columns.join(", ")}) VALUES (${values.join(", ")})`
  })

export const execute = (context: StatementContext): Run<Outcome> =>
  Effect.gen(function*() {
    const plan = yield* Statement.parse(() => parse(context))
    yield* Statement.requireWarehouse(context)
    const counted = yield* Writing.writing(
      context,
      plan.table.id,
      Effect.tap(
        merge(context, plan),
        (counted) => Writing.inserted(context, plan.table, counted.get("INSERT") ?? 0)
      )
    )
    const actions = new Set(plan.branches.map((branch) => branch.action))
    const named: Array<readonly [string, number]> = []
    if (actions.has("INSERT")) named.push(["number of rows inserted", counted.get("INSERT") ?? 0])
    if (actions.has("UPDATE")) named.push(["number of rows updated", counted.get("UPDATE") ?? 0])
    if (actions.has("DELETE")) named.push(["number of rows deleted", counted.get("DELETE") ?? 0])
    return Dml.counts("MERGE", Statement.typeIds.merge, named)
  })

const merge = (context: StatementContext, plan: Plan): Run<ReadonlyMap<string, number>> =>
  Effect.gen(function*() {
    const computed = `"temp"."sf_merge_${context.queryId}"`
    if (plan.query === undefined) return yield* mergeFrom(context, plan, plan.source)
    yield* Statement.run(context, `CREATE OR REPLACE TEMP TABLE ${computed} AS ${plan.query.sql}`)
    return yield* mergeFrom(context, plan, `${computed} AS ${plan.query.alias}`).pipe(
      // Where DuckDB has aborted the transaction this fails, and its rollback takes the table away.
      Effect.ensuring(Effect.ignore(Statement.run(context, `DROP TABLE IF EXISTS ${computed}`)))
    )
  })

const mergeFrom = (context: StatementContext, plan: Plan, source: string): Run<ReadonlyMap<string, number>> =>
  Effect.gen(function*() {
    yield* refuseDuplicates(context, plan, source)
    const branches: Array<string> = []
    for (const branch of plan.branches) branches.push(yield* branchSql(context, plan, source, branch))
    const sql = `MERGE INTO ${plan.table.duckdb} AS ${plan.alias} USING ${source} ON (${plan.on}) ${
      branches.join(" ")
    } RETURNING merge_action`
    return yield* Statement.changedStreaming(context, sql, async (result) => {
      const counts = new Map<string, number>()
      for (;;) {
        const chunk = await result.fetchChunk()
        if (chunk === null || chunk.rowCount === 0) return counts
        for (const action of chunk.getColumnValues(0)) counts.set(String(action), (counts.get(String(action)) ?? 0) + 1)
      }
    })
  })
