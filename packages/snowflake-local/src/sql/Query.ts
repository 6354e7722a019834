/**
 * Snowflake queries as DuckDB queries.
 *
 * A query is cut at its clauses' keywords; each clause is written by Expression, and FROM by this module, which finds every table's DuckDB name. What it
 * learns on the way (the tables it read, the types of casts in the select list) goes to `Findings`, from which the result's types and the need of a
 * warehouse are told.
 */
import * as SnowflakeError from "../SnowflakeError.ts"
import { Cursor, isGroup, isOp, isWord } from "./Cursor.ts"
import type { Environment } from "./Environment.ts"
import * as Expression from "./Expression.ts"
import * as FromClause from "./FromClause.ts"
import * as Identifier from "./Identifier.ts"
import type { Scope } from "./Scope.ts"
import type { Token } from "./Token.ts"
import { commas, unexpectedToken } from "./Token.ts"

const clauseWords = [
  "WITH",
  "SELECT",
  "FROM",
  "WHERE",
  "GROUP",
  "HAVING",
  "QUALIFY",
  "ORDER",
  "LIMIT",
  "OFFSET",
  "FETCH",
  "UNION",
  "INTERSECT",
  "EXCEPT",
  "MINUS",
  "VALUES"
]

/** The scope of expressions in a query that sees these common table expressions. */
export const scopeOf = (environment: Environment, names: ReadonlySet<string> = new Set()): Scope => {
  const scope: Scope = {
    source: environment.source,
    expression: (tokens) => Expression.write(tokens, scope).sql,
    subquery: (tokens) => write(tokens, environment, names),
    bind: environment.bind,
    variable: environment.variable,
    context: environment.context,
    streamHasData: environment.streamHasData,
    schemaName: environment.schemaName,
    staged: environment.staged
  }
  return scope
}

/** Writes a query; `names` are the common table expressions that it sees. */
export const write = (
  tokens: ReadonlyArray<Token>,
  environment: Environment,
  names: ReadonlySet<string> = new Set(),
  outermost = false
): string => {
  const cursor = new Cursor(environment.source, tokens)
  const visible = new Set(names)
  const out: Array<string> = []
  if (isWord(cursor.peek(), "WITH")) out.push(withClause(cursor, environment, visible))
  const scope = scopeOf(environment, visible)
  let first = true
  let expectQuery = true
  while (!cursor.done) {
    const token = cursor.peek()
    if (isGroup(token)) {
      if (!expectQuery) throw cursor.unexpected()
      cursor.next()
      out.push(`(${write(token.items, environment, visible)})`)
      expectQuery = false
      first = false
      continue
    }
    if (token?.kind !== "word" || !clauseWords.includes(token.text)) throw cursor.unexpected()
    cursor.next()
    const word = token.text
    if ((word === "SELECT" || word === "VALUES") !== expectQuery) throw unexpectedToken(environment.source, token)
    switch (word) {
      case "SELECT":
        out.push(select(cursor, scope, environment, outermost && first))
        expectQuery = false
        first = false
        break
      case "VALUES":
        out.push(`VALUES ${values(clause(cursor), { ...scope, values: true })}`)
        expectQuery = false
        break
      case "FROM":
        out.push(`FROM ${FromClause.from(clause(cursor), environment, scope, visible)}`)
        break
      case "WHERE":
      case "HAVING":
      case "QUALIFY":
        out.push(`${word} ${Expression.write(clause(cursor), scope).sql}`)
        break
      case "GROUP":
      case "ORDER":
        cursor.expect("BY")
        out.push(`${word} BY ${orderOrGroup(clause(cursor), scope)}`)
        break
      case "LIMIT":
      case "OFFSET": {
        const count = clause(cursor)
        if (isWord(count[0], "NULL")) break
        out.push(`${word} ${Expression.write(count.filter((item) => !isWord(item, "ROW", "ROWS")), scope).sql}`)
        break
      }
      case "FETCH": {
        const count = clause(cursor).filter((item) => item.kind === "number" || item.kind === "bind")
        out.push(`LIMIT ${Expression.write(count, scope).sql}`)
        break
      }
      case "UNION":
      case "INTERSECT":
      case "EXCEPT":
      case "MINUS": {
        const all = cursor.accept("ALL") ? " ALL" : ""
        cursor.accept("DISTINCT")
        out.push(`${word === "MINUS" ? "EXCEPT" : word}${all}`)
        expectQuery = true
        break
      }
      default:
        throw unexpectedToken(environment.source, token)
    }
  }
  if (expectQuery) throw cursor.unexpected()
  return out.join(" ")
}

/** The tokens of the clause that has begun: up to the next clause's keyword. */
const clause = (cursor: Cursor): ReadonlyArray<Token> => {
  const from = cursor.at
  while (!cursor.done) {
    const token = cursor.peek()
    const before = cursor.tokens[cursor.at - 1]
    const startsClause = token?.kind === "word" && clauseWords.includes(token.text) &&
      !(token.text === "FROM" && isWord(before, "DISTINCT") && cursor.at > from) &&
      !(token.text === "GROUP" && isWord(before, "WITHIN")) &&
      !(token.text === "VALUES" && cursor.at === from) &&
      !(token.text === "VALUES" && (isOp(before, ",") || isWord(before, "JOIN", "LATERAL"))) &&
      !(isOp(before, ".") || isWord(before, "AS"))
    if (startsClause) break
    cursor.at++
  }
  return cursor.tokens.slice(from, cursor.at)
}

const orderOrGroup = (tokens: ReadonlyArray<Token>, scope: Scope): string =>
  tokens.length === 1 && isWord(tokens[0], "ALL") ? "ALL" : Expression.list(tokens, scope)

const values = (tokens: ReadonlyArray<Token>, scope: Scope): string =>
  commas(tokens).map((row) => {
    const [group] = row
    if (!isGroup(group) || row.length !== 1) throw unexpectedToken(scope.source, row[0])
    return `(${Expression.list(group.items, scope)})`
  }).join(", ")

const withClause = (cursor: Cursor, environment: Environment, visible: Set<string>): string => {
  cursor.expect("WITH")
  const recursive = cursor.accept("RECURSIVE")
  const parts: Array<string> = []
  do {
    const name = cursor.identifier()
    let columns = ""
    if (isGroup(cursor.peek())) columns = `(${FromClause.columnNames(cursor.group().items, environment.source)})`
    cursor.expect("AS")
    const body = cursor.group().items
    if (recursive) visible.add(name)
    parts.push(`${Identifier.column(name)}${columns} AS (${write(body, environment, visible)})`)
    visible.add(name)
  } while (cursor.acceptOp(","))
  return `WITH ${recursive ? "RECURSIVE " : ""}${parts.join(", ")}`
}

const select = (cursor: Cursor, scope: Scope, environment: Environment, outermost: boolean): string => {
  let head = "SELECT"
  if (cursor.accept("DISTINCT")) {
    if (isWord(cursor.peek(), "ON")) throw cursor.unexpected()
    head += " DISTINCT"
  } else cursor.accept("ALL")
  let top: string | undefined
  if (isWord(cursor.peek(), "TOP") && cursor.peek(1)?.kind === "number") {
    cursor.next()
    top = cursor.next().kind === "number"
      ? cursor.source.slice(cursor.tokens[cursor.at - 1]?.at, cursor.tokens[cursor.at - 1]?.end)
      : undefined
  }
  if (top !== undefined) throw SnowflakeError.unsupported("SELECT TOP: write LIMIT")
  const items = clause(cursor)
  if (items.length === 0) throw cursor.unexpected()
  return `${head} ${commas(items).map((item) => selectItem(item, scope, environment, outermost)).join(", ")}`
}

const selectItem = (
  tokens: ReadonlyArray<Token>,
  scope: Scope,
  environment: Environment,
  outermost: boolean
): string => {
  if (tokens.length === 0) throw unexpectedToken(scope.source, undefined)
  const star = starItem(tokens, scope)
  if (star !== undefined) return star
  const { alias, body } = splitAlias(tokens)
  const expression = Expression.write(body, scope)
  const end = body[body.length - 1]?.end ?? 0
  const text = scope.source.slice(body[0]?.at ?? 0, end)
  const name = alias ?? expression.column ?? text.toUpperCase()
  if (outermost && expression.type !== undefined) environment.findings.casts.set(name, expression.type)
  if (expression.column !== undefined && alias === undefined) return expression.sql
  // NULL alone is text in Snowflake's results, and a number in DuckDB's.
  const sql = outermost && expression.sql === "NULL" ? "CAST(NULL AS VARCHAR)" : expression.sql
  return `${sql} AS ${Identifier.column(name)}`
}

/** `*`, `t.*`, and both with EXCLUDE or RENAME. */
const starItem = (tokens: ReadonlyArray<Token>, scope: Scope): string | undefined => {
  const at = tokens.findIndex((token) => isOp(token, "*"))
  if (at < 0 || (at > 0 && !isOp(tokens[at - 1], "."))) return undefined
  const star = Expression.write(tokens.slice(0, at + 1), scope).sql
  const cursor = new Cursor(scope.source, tokens.slice(at + 1))
  if (cursor.done) return star
  if (!cursor.accept("EXCLUDE")) throw SnowflakeError.unsupported("SELECT * with RENAME, REPLACE or ILIKE")
  const columns = isGroup(cursor.peek())
    ? FromClause.columnNames(cursor.group().items, scope.source)
    : Identifier.column(cursor.identifier())
  cursor.end()
  return `${star} EXCLUDE (${columns})`
}

const splitAlias = (
  tokens: ReadonlyArray<Token>
): { readonly alias: string | undefined; readonly body: ReadonlyArray<Token> } => {
  const last = tokens[tokens.length - 1]
  const before = tokens[tokens.length - 2]
  if (tokens.length >= 3 && isWord(before, "AS") && (last?.kind === "word" || last?.kind === "quoted")) {
    return { alias: last.text, body: tokens.slice(0, -2) }
  }
  const endsOperand = before !== undefined &&
    (before.kind === "quoted" || before.kind === "string" || before.kind === "number" || before.kind === "group" ||
      before.kind === "bind" ||
      before.kind === "dollar" ||
      (before.kind === "word" && (isWord(before, "END", "NULL", "TRUE", "FALSE") || !notAliased.has(before.text))))
  if (endsOperand && (last?.kind === "quoted" || (last?.kind === "word" && !notAnAlias.has(last.text)))) {
    return { alias: last.text, body: tokens.slice(0, -1) }
  }
  return { alias: undefined, body: tokens }
}

const notAnAlias = new Set(["END", "NULL", "TRUE", "FALSE", "OVER", "PRECISION", "NULLS"])
/** Words after which a name is an operand and not an alias. */
const notAliased = new Set([
  "AND",
  "OR",
  "NOT",
  "IS",
  "IN",
  "LIKE",
  "ILIKE",
  "BETWEEN",
  "ESCAPE",
  "DISTINCT",
  "CASE",
  "WHEN",
  "THEN",
  "ELSE",
  "FROM",
  "EXISTS",
  "DOUBLE",
  "WITHIN"
])
