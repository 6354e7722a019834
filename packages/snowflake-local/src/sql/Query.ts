/**
 * Snowflake queries as DuckDB queries.
 *
 * A query is cut at its clauses' keywords; each clause is written by Expression, and FROM by this module, which finds every table's DuckDB name. What it
 * learns on the way (the tables it read, the types of casts in the select list) goes to `Findings`, from which the result's types and the need of a
 * warehouse are told.
 */
import * as SnowflakeError from "../SnowflakeError.ts"
import { Cursor, isGroup, isOp, isWord } from "./Cursor.ts"
import * as Expression from "./Expression.ts"
import * as Identifier from "./Identifier.ts"
import type { SnowflakeType } from "./SnowflakeType.ts"
import type { Token } from "./Token.ts"
import { commas, unexpectedToken } from "./Token.ts"

/** A table or view as a query reads it. */
export interface Relation {
  /** What stands for it in DuckDB's FROM. */
  readonly sql: string
  /** The alias it has when the query gives it none, as a DuckDB name. */
  readonly alias: string
  readonly columns: ReadonlyArray<{ readonly name: string; readonly type: SnowflakeType }>
}

export interface Findings {
  /** The query reads rows, so it needs a warehouse. */
  readsRows: boolean
  readonly relations: Array<Relation>
  /** Types of select items that end in a cast, by output name. */
  readonly casts: Map<string, SnowflakeType>
}

export interface Environment {
  readonly source: string
  readonly relation: (path: ReadonlyArray<string>) => Relation
  readonly bind: (name: string) => string
  readonly variable: (name: string) => string
  readonly context: (name: string) => string | undefined
  readonly schemaName: (parts: ReadonlyArray<string>) => string
  /** FROM @stage, in COPY. */
  readonly stagedFiles?: Relation | undefined
  readonly staged?: Expression.Scope["staged"]
  readonly findings: Findings
}

export const noFindings = (): Findings => ({ readsRows: false, relations: [], casts: new Map() })

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
export const scopeOf = (environment: Environment, names: ReadonlySet<string> = new Set()): Expression.Scope => ({
  source: environment.source,
  subquery: (tokens) => write(tokens, environment, names),
  bind: environment.bind,
  variable: environment.variable,
  context: environment.context,
  schemaName: environment.schemaName,
  staged: environment.staged
})

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
        out.push(`FROM ${from(clause(cursor), environment, scope, visible)}`)
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

const orderOrGroup = (tokens: ReadonlyArray<Token>, scope: Expression.Scope): string =>
  tokens.length === 1 && isWord(tokens[0], "ALL") ? "ALL" : Expression.list(tokens, scope)

const values = (tokens: ReadonlyArray<Token>, scope: Expression.Scope): string =>
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
    if (isGroup(cursor.peek())) columns = `(${columnNames(cursor.group().items, environment.source)})`
    cursor.expect("AS")
    const body = cursor.group().items
    if (recursive) visible.add(name)
    parts.push(`${Identifier.column(name)}${columns} AS (${write(body, environment, visible)})`)
    visible.add(name)
  } while (cursor.acceptOp(","))
  return `WITH ${recursive ? "RECURSIVE " : ""}${parts.join(", ")}`
}

/** A list of column names between brackets. */
export const columnNames = (tokens: ReadonlyArray<Token>, source: string): string =>
  commas(tokens).map((item) => {
    const [name] = item
    if ((name?.kind !== "word" && name?.kind !== "quoted") || item.length !== 1) throw unexpectedToken(source, name)
    return Identifier.column(name.text)
  }).join(", ")

const select = (cursor: Cursor, scope: Expression.Scope, environment: Environment, outermost: boolean): string => {
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
  scope: Expression.Scope,
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
const starItem = (tokens: ReadonlyArray<Token>, scope: Expression.Scope): string | undefined => {
  const at = tokens.findIndex((token) => isOp(token, "*"))
  if (at < 0 || (at > 0 && !isOp(tokens[at - 1], "."))) return undefined
  const star = Expression.write(tokens.slice(0, at + 1), scope).sql
  const cursor = new Cursor(scope.source, tokens.slice(at + 1))
  if (cursor.done) return star
  if (!cursor.accept("EXCLUDE")) throw SnowflakeError.unsupported("SELECT * with RENAME, REPLACE or ILIKE")
  const columns = isGroup(cursor.peek())
    ? columnNames(cursor.group().items, scope.source)
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

// FROM --------------------------------------------------------------------------------------------------------------------------------------

const joinWords = ["JOIN", "INNER", "LEFT", "RIGHT", "FULL", "CROSS", "NATURAL", "ASOF"]
const notTableAlias = new Set([
  ...joinWords,
  "ON",
  "USING",
  "WHERE",
  "SET",
  "WHEN",
  "OUTER",
  "SAMPLE",
  "TABLESAMPLE",
  "AT",
  "BEFORE",
  "PIVOT",
  "UNPIVOT",
  "MATCH_RECOGNIZE",
  "CHANGES",
  "CONNECT",
  "START"
])

/** Writes what stands behind FROM (or USING). */
export const from = (
  tokens: ReadonlyArray<Token>,
  environment: Environment,
  scope: Expression.Scope,
  names: ReadonlySet<string>
): string => {
  const cursor = new Cursor(environment.source, tokens)
  let out = tableReference(cursor, environment, scope, names)
  while (!cursor.done) {
    if (cursor.acceptOp(",")) {
      out += `, ${tableReference(cursor, environment, scope, names)}`
      continue
    }
    const join: Array<string> = []
    while (isWord(cursor.peek(), "INNER", "LEFT", "RIGHT", "FULL", "CROSS", "NATURAL", "OUTER")) {
      join.push(cursor.identifier())
    }
    cursor.expect("JOIN")
    out += ` ${[...join, "JOIN"].join(" ")} ${tableReference(cursor, environment, scope, names)}`
    if (cursor.accept("ON")) {
      const condition = joinCondition(cursor)
      out += ` ON ${Expression.write(condition, scope).sql}`
    } else if (cursor.accept("USING")) out += ` USING (${columnNames(cursor.group().items, environment.source)})`
    // Snowflake takes a JOIN without a condition as a cross join.
    else if (!join.includes("CROSS") && !join.includes("NATURAL")) out += " ON TRUE"
  }
  return out
}

/** The tokens of ON: up to a comma or the next join; LEFT and RIGHT may also be functions. */
const joinCondition = (cursor: Cursor): ReadonlyArray<Token> => {
  const start = cursor.at
  while (!cursor.done && !isOp(cursor.peek(), ",")) {
    if (isWord(cursor.peek(), ...joinWords) && !isGroup(cursor.peek(1))) break
    cursor.at++
  }
  return cursor.tokens.slice(start, cursor.at)
}

const aliasOf = (cursor: Cursor): { readonly name: string | undefined; readonly sql: string } => {
  let name: string | undefined
  const next = cursor.peek()
  if (cursor.accept("AS")) name = cursor.identifier()
  else if (next?.kind === "quoted" || (next?.kind === "word" && !notTableAlias.has(next.text))) {
    name = cursor.identifier()
  }
  if (name === undefined) return { name, sql: "" }
  const columns = isGroup(cursor.peek()) ? `(${columnNames(cursor.group().items, cursor.source)})` : ""
  return { name, sql: `${Identifier.column(name)}${columns}` }
}

/** VALUES as a table: Snowflake names its columns COLUMN1, COLUMN2, ...; DuckDB col0, col1, ... */
const valuesReference = (items: ReadonlyArray<Token>, sql: string, cursor: Cursor): string => {
  const [row] = commas(items.slice(1))
  const width = isGroup(row?.[0]) ? commas(row[0].items).length : 0
  const alias = aliasOf(cursor)
  const columns = Array.from({ length: width }, (_, index) => Identifier.quote(`COLUMN${index + 1}`)).join(", ")
  return alias.sql.includes("(")
    ? `${sql} AS ${alias.sql}`
    : `${sql} AS ${alias.sql === "" ? Identifier.quote("VALUES") : alias.sql}(${columns})`
}

/** One table, subquery, table function or staged file, with its alias. */
export const tableReference = (
  cursor: Cursor,
  environment: Environment,
  scope: Expression.Scope,
  names: ReadonlySet<string>
): string => {
  const lateral = cursor.accept("LATERAL")
  const token = cursor.peek()
  let sql: string
  let fallback = ""
  if (isGroup(token)) {
    cursor.next()
    const inner = token.items[0]
    if (isWord(inner, "SELECT", "WITH", "VALUES") || isGroup(inner)) sql = `(${write(token.items, environment, names)})`
    else {
      sql = `(${from(token.items, environment, scope, names)})`
      if (cursor.done || isWord(cursor.peek(), ...joinWords) || isOp(cursor.peek(), ",")) return sql
    }
    if (isWord(inner, "VALUES")) return valuesReference(token.items, sql, cursor)
  } else if (isWord(token, "VALUES")) {
    const start = cursor.at++
    do cursor.group()
    while (isGroup(cursor.peek(1)) && cursor.acceptOp(","))
    const items = cursor.tokens.slice(start, cursor.at)
    return valuesReference(items, `(${write(items, environment, names)})`, cursor)
  } else if (isWord(token, "TABLE") && isGroup(cursor.peek(1))) {
    cursor.next()
    const inner = new Cursor(environment.source, cursor.group().items)
    sql = tableFunction(inner, scope)
    inner.end()
    fallback = Identifier.quote("TABLE_FUNCTION")
  } else if (lateral && isWord(token, "FLATTEN")) {
    sql = tableFunction(cursor, scope)
    fallback = Identifier.quote("FLATTEN")
  } else if (token?.kind === "stage") {
    cursor.next()
    if (environment.stagedFiles === undefined) {
      throw SnowflakeError.unsupported("a query over staged files outside of COPY INTO")
    }
    if (isGroup(cursor.peek())) cursor.next()
    sql = environment.stagedFiles.sql
    fallback = environment.stagedFiles.alias
  } else {
    const path = cursor.path()
    if (path.length === 1 && names.has(path[0] ?? "")) sql = Identifier.column(path[0] ?? "")
    else {
      const relation = environment.relation(path)
      environment.findings.readsRows = true
      environment.findings.relations.push(relation)
      sql = relation.sql
      fallback = relation.alias
    }
  }
  if (isWord(cursor.peek(), "AT", "BEFORE") && isGroup(cursor.peek(1))) throw SnowflakeError.unsupported("time travel")
  if (isWord(cursor.peek(), "SAMPLE", "TABLESAMPLE")) throw SnowflakeError.unsupported("SAMPLE")
  if (isWord(cursor.peek(), "PIVOT", "UNPIVOT", "MATCH_RECOGNIZE", "CHANGES")) {
    throw SnowflakeError.unsupported(cursor.identifier())
  }
  const alias = aliasOf(cursor)
  const prefix = lateral ? "LATERAL " : ""
  if (alias.sql !== "") return `${prefix}${sql} AS ${alias.sql}`
  return fallback === "" ? `${prefix}${sql}` : `${prefix}${sql} AS ${fallback}`
}

/** GENERATOR, FLATTEN and SPLIT_TO_TABLE; the arguments may be named. */
const tableFunction = (cursor: Cursor, scope: Expression.Scope): string => {
  const name = cursor.identifier()
  const args = new Map<string, ReadonlyArray<Token>>()
  for (const [index, item] of commas(cursor.group().items).entries()) {
    const [key, arrow] = item
    if (key?.kind === "word" && isOp(arrow, "=>")) args.set(key.text, item.slice(2))
    else args.set(String(index), item)
  }
  const argument = (key: string, place: number) => {
    const tokens = args.get(key) ?? args.get(String(place))
    return tokens === undefined ? undefined : Expression.write(tokens, scope).sql
  }
  switch (name) {
    case "GENERATOR": {
      const count = argument("ROWCOUNT", 0)
      if (count === undefined) throw SnowflakeError.unsupported("GENERATOR without ROWCOUNT")
      return `(SELECT 1 FROM range(CAST(${count} AS BIGINT)))`
    }
    case "FLATTEN": {
      const input = argument("INPUT", 0)
      if (input === undefined) throw SnowflakeError.invalidArguments("FLATTEN needs INPUT")
      for (const key of args.keys()) {
        if (key !== "INPUT" && key !== "0") throw SnowflakeError.unsupported(`FLATTEN with ${key}`)
      }
      return `(SELECT 1 AS "SEQ", CASE WHEN json_type(CAST(${input} AS VARCHAR)) = 'OBJECT' THEN key END AS "KEY", ` +
        `CASE WHEN json_type(CAST(${input} AS VARCHAR)) = 'ARRAY' THEN '[' || key || ']' ELSE key END AS "PATH", ` +
        `CASE WHEN json_type(CAST(${input} AS VARCHAR)) = 'ARRAY' THEN CAST(key AS BIGINT) END AS "INDEX", ` +
        `value AS "VALUE", ${input} AS "THIS" FROM json_each(CAST(${input} AS VARCHAR)))`
    }
    case "SPLIT_TO_TABLE": {
      const text = argument("", 0)
      const by = argument("", 1)
      return `(SELECT 1 AS "SEQ", "i" AS "INDEX", list_extract(string_split(${text}, ${by}), "i") AS "VALUE" ` +
        `FROM range(1, len(string_split(${text}, ${by})) + 1) AS "r"("i"))`
    }
    default:
      throw SnowflakeError.unknownFunction(name)
  }
}
