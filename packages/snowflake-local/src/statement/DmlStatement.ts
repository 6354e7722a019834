/**
 * INSERT, UPDATE, DELETE and TRUNCATE.
 */
import * as Effect from "effect/Effect"
import type { Column, Table } from "../Catalog.ts"
import * as ResultRows from "../ResultRows.ts"
import * as SnowflakeError from "../SnowflakeError.ts"
import { Cursor, isGroup, isOp, isWord } from "../sql/Cursor.ts"
import * as Expression from "../sql/Expression.ts"
import * as FromClause from "../sql/FromClause.ts"
import * as Identifier from "../sql/Identifier.ts"
import * as Literal from "../sql/Literal.ts"
import * as Query from "../sql/Query.ts"
import type { Scope } from "../sql/Scope.ts"
import * as Types from "../sql/SnowflakeType.ts"
import type { Token } from "../sql/Token.ts"
import { commas, unexpectedToken } from "../sql/Token.ts"
import { assign } from "./Assignment.ts"
import * as ErrorTable from "./ErrorTable.ts"
import * as Privileges from "./Privileges.ts"
import type { Outcome, Run, StatementContext } from "./StatementContext.ts"
import * as Statement from "./StatementContext.ts"
import * as Writing from "./Writing.ts"

/** The counts that DML returns as its one row. */
export const counts = (kind: string, typeId: number, named: ReadonlyArray<readonly [string, number]>): Outcome => ({
  kind,
  typeId,
  result: ResultRows.ofRows(
    named.map(([name]) => ResultRows.column(name, Types.number38, false)),
    [named.map(([, count]) => String(count))]
  ),
  changed: named.reduce((sum, [, count]) => sum + count, 0)
})

/** The column of a name, or Snowflake's error. */
export const columnOf = (table: Table, name: string): Column => {
  const found = table.columns.find((column) => column.name === name)
  if (found === undefined) throw SnowflakeError.invalidIdentifier(Identifier.print(name))
  return found
}

/** A bracketed list of columns; all of them when there is none. */
export const columnList = (table: Table, cursor: Cursor): ReadonlyArray<Column> => {
  const token = cursor.peek()
  if (!isGroup(token) || isWord(token.items[0], "SELECT", "WITH", "VALUES") || isGroup(token.items[0])) {
    return table.columns
  }
  cursor.next()
  const columns = commas(token.items).map((item) => {
    const [name] = item
    if ((name?.kind !== "word" && name?.kind !== "quoted") || item.length !== 1) {
      throw unexpectedToken(cursor.source, name)
    }
    return columnOf(table, name.text)
  })
  const names = new Set(columns.map((column) => column.name))
  if (names.size !== columns.length) {
    throw SnowflakeError.duplicateColumn(columns.find((column, at) => columns.indexOf(column) !== at)?.name ?? "")
  }
  return columns
}

/** INSERT INTO … with the rows of translated SQL, each value made fit for its column. */
export const insertSelect = (
  context: StatementContext,
  table: Table,
  columns: ReadonlyArray<Column>,
  source: string
): Run<string> =>
  Effect.gen(function*() {
    const types = yield* Statement.typesOf(context, source)
    if (types.length !== columns.length) return yield* SnowflakeError.valueCount(columns.length, types.length)
    const names = columns.map((_, index) => `"c${index}"`)
    const values = yield* Statement.parse(() =>
      columns.map((column, index) => {
        const type = types[index]
        if (type === undefined) throw SnowflakeError.valueCount(columns.length, types.length)
        return assign(column, names[index] ?? "", type)
      })
    )
    return `INSERT INTO ${table.duckdb} (${columns.map((column) => Identifier.quote(column.duckdbName)).join(", ")}) ` +
      `SELECT ${values.join(", ")} FROM (${source}) AS "source"(${names.join(", ")})`
  })

/** The rows of VALUES for every row of array binds. */
const boundValues = (context: StatementContext, tokens: ReadonlyArray<Token>): string =>
  context.binds.map((_, row) => {
    const written = Query.write(tokens, Statement.environment(context, row))
    return row === 0 ? written : written.replace(/^VALUES /, "")
  }).join(", ")

export const insert = (context: StatementContext): Run<Outcome> =>
  Effect.gen(function*() {
    const cursor = Statement.cursorOf(context)
    const head = yield* Statement.parse(() => {
      cursor.expect("INSERT")
      const overwrite = cursor.accept("OVERWRITE")
      cursor.expect("INTO")
      const table = Statement.requireTable(context, cursor.path())
      Privileges.requireDml(context, table, "INSERT", ...(overwrite ? ["DELETE"] : []))
      const columns = columnList(table, cursor)
      const rest = cursor.rest()
      const source = context.binds.length > 1 && isWord(rest[0], "VALUES")
        ? boundValues(context, rest)
        : Query.write(rest, Statement.environment(context))
      return { overwrite, table, columns, source }
    })
    yield* Statement.requireWarehouse(context)
    const { columns, overwrite, source, table } = head
    const inserted = yield* Writing.writing(
      context,
      overwrite ? table.id : undefined,
      Effect.gen(function*() {
        if (overwrite) yield* Statement.changed(context, `DELETE FROM ${table.duckdb}`)
        const count = yield* Statement.changed(context, yield* insertSelect(context, table, columns, source))
        yield* Writing.inserted(context, table, count)
        return count
      })
    )
    return counts("INSERT", Statement.typeIds.insert, [["number of rows inserted", inserted]])
  })

/** A DML target with its alias, as DuckDB knows it. */
export const target = (context: StatementContext, cursor: Cursor, ...stops: ReadonlyArray<string>): {
  readonly table: Table
  readonly alias: string
  readonly names: ReadonlyArray<string>
} => {
  const table = Statement.requireTable(context, cursor.path())
  const next = cursor.peek()
  const alias = cursor.accept("AS")
    ? cursor.identifier()
    : next?.kind === "quoted" || (next?.kind === "word" && !stops.includes(next.text))
    ? cursor.identifier()
    : table.name
  return { table, alias: Identifier.column(alias), names: [alias] }
}

/** One `column = expression` of SET. */
export interface Setting {
  readonly column: Column
  readonly value: string
}

export const settings = (
  tokens: ReadonlyArray<Token>,
  table: Table,
  scope: Scope
): ReadonlyArray<Setting> => {
  const seen = new Set<string>()
  return commas(tokens).map((item) => {
    const cursor = new Cursor(scope.source, item)
    const path = cursor.path()
    cursor.expectOp("=")
    const column = columnOf(table, path[path.length - 1] ?? "")
    if (seen.has(column.name)) throw SnowflakeError.duplicateColumn(column.name)
    seen.add(column.name)
    return { column, value: Expression.write(cursor.rest(), scope).sql }
  })
}

/** `"C" = value` for every setting, each fit for its column. `from` is what the values are computed from. */
export const assigned = (
  context: StatementContext,
  given: ReadonlyArray<Setting>,
  from: string
): Run<ReadonlyArray<string>> =>
  Effect.gen(function*() {
    const types = yield* Statement.typesOf(
      context,
      `SELECT ${given.map((setting) => setting.value).join(", ")} FROM ${from}`
    )
    return yield* Statement.parse(() =>
      given.map(({ column, value }, index) => {
        const type = types[index]
        return type === undefined ? value : assign(column, value, type)
      })
    )
  })

export const update = (context: StatementContext): Run<Outcome> =>
  Effect.gen(function*() {
    const cursor = Statement.cursorOf(context)
    const plan = yield* Statement.parse(() => {
      cursor.expect("UPDATE")
      const { alias, table } = target(context, cursor, "SET")
      Privileges.requireDml(context, table, "UPDATE")
      cursor.expect("SET")
      const environment = Statement.environment(context)
      const scope = Query.scopeOf(environment)
      const set = settings(clauseUntil(cursor, "FROM", "WHERE"), table, scope)
      if (set.length === 0) throw cursor.unexpected()
      const from = cursor.accept("FROM")
        ? FromClause.from(clauseUntil(cursor, "WHERE"), environment, scope, new Set())
        : ""
      const where = cursor.accept("WHERE") ? ` WHERE ${Expression.write(cursor.rest(), scope).sql}` : ""
      cursor.end()
      return { table, alias, set, from, where }
    })
    yield* Statement.requireWarehouse(context)
    const { alias, from, set, table, where } = plan
    const values = yield* assigned(context, set, `${table.duckdb} AS ${alias}${from === "" ? "" : `, ${from}`}`)
    const sets = set.map(({ column }, index) => `${Identifier.quote(column.duckdbName)} = ${values[index]}`).join(", ")
    const sql = `UPDATE ${table.duckdb} AS ${alias} SET ${sets}${from === "" ? "" : ` FROM ${from}`}${where}`
    const updated = yield* Writing.writing(context, table.id, Statement.changed(context, sql))
    return counts("UPDATE", Statement.typeIds.update, [["number of rows updated", updated], [
      "number of multi-joined rows updated",
      0
    ]])
  })

/** The tokens up to one of these words, but not FROM of IS DISTINCT FROM. */
const clauseUntil = (cursor: Cursor, ...words: ReadonlyArray<string>): ReadonlyArray<Token> => {
  const start = cursor.at
  while (!cursor.done) {
    const before = cursor.tokens[cursor.at - 1]
    if (
      isWord(cursor.peek(), ...words) && !(isWord(before, "DISTINCT") && isWord(cursor.peek(), "FROM")) &&
      !isOp(before, ".")
    ) break
    cursor.at++
  }
  return cursor.tokens.slice(start, cursor.at)
}

export const remove = (context: StatementContext): Run<Outcome> =>
  Effect.gen(function*() {
    const cursor = Statement.cursorOf(context)
    const plan = yield* Statement.parse(() => {
      cursor.expect("DELETE", "FROM")
      const { alias, table } = target(context, cursor, "USING", "WHERE")
      Privileges.requireDml(context, table, "DELETE")
      const environment = Statement.environment(context)
      const scope = Query.scopeOf(environment)
      const using = cursor.accept("USING")
        ? ` USING ${FromClause.from(clauseUntil(cursor, "WHERE"), environment, scope, new Set())}`
        : ""
      const where = cursor.accept("WHERE") ? ` WHERE ${Expression.write(cursor.rest(), scope).sql}` : ""
      cursor.end()
      return { table, sql: `DELETE FROM ${table.duckdb} AS ${alias}${using}${where}` }
    })
    yield* Statement.requireWarehouse(context)
    const deleted = yield* Writing.writing(context, plan.table.id, Statement.changed(context, plan.sql))
    return counts("DELETE", Statement.typeIds.delete, [["number of rows deleted", deleted]])
  })

const truncated: Outcome = {
  kind: "TRUNCATE",
  typeId: Statement.typeIds.definition,
  result: ResultRows.status("Statement executed successfully.")
}

/** TRUNCATE also forgets which files were loaded. */
export const truncate = (context: StatementContext): Run<Outcome> =>
  Effect.gen(function*() {
    const cursor = Statement.cursorOf(context)
    const plan = yield* Statement.parse(() => {
      cursor.expect("TRUNCATE")
      cursor.accept("TABLE")
      if (isWord(cursor.peek(), "ERROR_TABLE") && isGroup(cursor.peek(1))) {
        cursor.next()
        const inner = new Cursor(context.source, cursor.group().items)
        const deletion = ErrorTable.deletion(context, Statement.requireTable(context, inner.path()))
        inner.end()
        cursor.end()
        return { deletion }
      }
      const ifExists = cursor.accept("IF", "EXISTS")
      const path = cursor.path()
      cursor.end()
      if (ifExists && Statement.findRelation(context, path) === undefined) return {}
      const table = Statement.requireTable(context, path)
      Privileges.require(context, table, "TRUNCATE", "OWNERSHIP")
      return { table }
    })
    if (plan.deletion !== undefined) {
      yield* Writing.writing(context, undefined, Statement.changed(context, plan.deletion))
    }
    const { table } = plan
    if (table !== undefined) {
      yield* Writing.writing(
        context,
        table.id,
        Effect.andThen(
          Statement.changed(context, `DELETE FROM ${table.duckdb}`),
          Statement.changed(context, `DELETE FROM "_local".load_history WHERE table_id = ${Literal.string(table.id)}`)
        )
      )
    }
    return truncated
  })
