/**
 * FROM: tables, subqueries, VALUES, table functions, staged files and the joins between them.
 */
import * as SnowflakeError from "../SnowflakeError.ts"
import { Cursor, isGroup, isOp, isWord } from "./Cursor.ts"
import type { Environment } from "./Environment.ts"
import * as Identifier from "./Identifier.ts"
import type { Scope } from "./Scope.ts"
import type { Token } from "./Token.ts"
import { commas, unexpectedToken } from "./Token.ts"

/** A list of column names between brackets. */
export const columnNames = (tokens: ReadonlyArray<Token>, source: string): string =>
  commas(tokens).map((item) => {
    const [name] = item
    if ((name?.kind !== "word" && name?.kind !== "quoted") || item.length !== 1) throw unexpectedToken(source, name)
    return Identifier.column(name.text)
  }).join(", ")

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
  scope: Scope,
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
      out += ` ON ${scope.expression(condition)}`
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
  scope: Scope,
  names: ReadonlySet<string>
): string => {
  const lateral = cursor.accept("LATERAL")
  const token = cursor.peek()
  let sql: string
  let fallback = ""
  if (isGroup(token)) {
    cursor.next()
    const inner = token.items[0]
    if (isWord(inner, "SELECT", "WITH", "VALUES") || isGroup(inner)) sql = `(${scope.subquery(token.items)})`
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
    return valuesReference(items, `(${scope.subquery(items)})`, cursor)
  } else if (isWord(token, "TABLE") && isGroup(cursor.peek(1))) {
    cursor.next()
    const inner = new Cursor(environment.source, cursor.group().items)
    sql = tableFunction(inner, environment, scope)
    inner.end()
    fallback = Identifier.quote("TABLE_FUNCTION")
  } else if (lateral && isWord(token, "FLATTEN")) {
    sql = tableFunction(cursor, environment, scope)
    fallback = Identifier.quote("FLATTEN")
  } else if (token?.kind === "stage") {
    cursor.next()
    if (environment.stagedFiles === undefined) {
      throw SnowflakeError.unsupported("a query over staged files outside of COPY INTO")
    }
    if (isGroup(cursor.peek())) cursor.next()
    sql = environment.stagedFiles.sql
    fallback = environment.stagedFiles.alias
  } else if (isWord(token, "ERROR_TABLE") && isGroup(cursor.peek(1))) {
    cursor.next()
    const inner = new Cursor(environment.source, cursor.group().items)
    const relation = environment.errorTable(inner.path())
    inner.end()
    environment.findings.readsRows = true
    environment.findings.relations.push(relation)
    sql = relation.sql
    fallback = relation.alias
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

/** GENERATOR, FLATTEN, SPLIT_TO_TABLE and those of INFORMATION_SCHEMA; the arguments may be named. */
const tableFunction = (cursor: Cursor, environment: Environment, scope: Scope): string => {
  const path = cursor.path()
  const [name] = path
  const args = new Map<string, ReadonlyArray<Token>>()
  for (const [index, item] of commas(cursor.group().items).entries()) {
    const [key, arrow] = item
    if (key?.kind === "word" && isOp(arrow, "=>")) args.set(key.text, item.slice(2))
    else args.set(String(index), item)
  }
  const argument = (key: string, place: number) => {
    const tokens = args.get(key) ?? args.get(String(place))
    return tokens === undefined ? undefined : scope.expression(tokens)
  }
  if (path.length > 1) {
    environment.findings.readsRows = true
    const relation = environment.tableFunction(path, argument)
    environment.findings.relations.push(relation)
    return relation.sql
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
      throw SnowflakeError.unknownFunction(name ?? "")
  }
}
