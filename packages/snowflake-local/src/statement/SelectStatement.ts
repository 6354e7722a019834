/**
 * SELECT and every other query.
 */
import type { DuckDBPreparedStatement } from "@duckdb/node-api"
import * as Effect from "effect/Effect"
import * as ResultRows from "../ResultRows.ts"
import * as Session from "../Session.ts"
import type * as Environment from "../sql/Environment.ts"
import * as Identifier from "../sql/Identifier.ts"
import * as Query from "../sql/Query.ts"
import type { SnowflakeType } from "../sql/SnowflakeType.ts"
import type { Outcome, Run, StatementContext } from "./StatementContext.ts"
import * as Statement from "./StatementContext.ts"

/** The type that the query's own tables and casts give a column of this name; DuckDB's types alone can't tell LTZ from TZ, or ARRAY from VARIANT. */
const refined = (findings: Environment.Findings, name: string, type: SnowflakeType): SnowflakeType => {
  const cast = findings.casts.get(name)
  if (cast !== undefined) return ResultRows.fits(cast, type) ? cast : type
  const guesses = findings.relations.flatMap((relation) => relation.columns.filter((column) => column.name === name))
  const [first] = guesses
  const agreed = first !== undefined &&
    guesses.every((guess) => JSON.stringify(guess.type) === JSON.stringify(first.type))
  return agreed && ResultRows.fits(first.type, type) ? first.type : type
}

/** Prepares translated SQL for `use`. */
const prepared = <A>(
  context: StatementContext,
  sql: string,
  use: (statement: DuckDBPreparedStatement) => Run<A>
): Run<A> =>
  Effect.acquireUseRelease(
    Statement.duckdb(context, (connection) => connection.prepare(sql)),
    use,
    (statement) => Effect.sync(() => statement.destroySync())
  )

const columnsOf = (
  context: StatementContext,
  statement: DuckDBPreparedStatement
): Run<ReadonlyArray<ResultRows.ResultColumn>> =>
  Statement.parse(() =>
    Array.from({ length: statement.columnCount }, (_, index) => {
      const name = Identifier.decode(statement.columnName(index))
      return ResultRows.column(name, refined(context.findings, name, ResultRows.typeOf(statement.columnType(index))))
    })
  )

/** The result columns of translated SQL, without running it. */
export const describe = (context: StatementContext, sql: string): Run<ReadonlyArray<ResultRows.ResultColumn>> =>
  prepared(context, sql, (statement) => columnsOf(context, statement))

export const execute = (context: StatementContext, describeOnly: boolean): Run<Outcome> =>
  Effect.gen(function*() {
    const sql = yield* Statement.parse(() =>
      Query.write(context.tokens, Statement.environment(context), new Set(), true)
    )
    // What was prepared to see the columns is what runs: planning takes longer than most queries.
    return yield* prepared(context, sql, (statement) =>
      Effect.gen(function*() {
        const columns = yield* columnsOf(context, statement)
        if (describeOnly) {
          return { kind: "SELECT", typeId: Statement.typeIds.select, result: ResultRows.ofRows(columns, []) }
        }
        if (context.findings.readsRows) yield* Statement.requireWarehouse(context)
        const result = yield* Session.reading(
          context.session,
          Statement.duckdb(context, async () =>
            await ResultRows.read(await statement.stream(), columns, {
              folder: context.services.resultsFolder,
              name: context.queryId
            }))
        )
        return { kind: "SELECT", typeId: Statement.typeIds.select, result }
      }))
  })
