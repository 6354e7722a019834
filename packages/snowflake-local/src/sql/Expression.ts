/**
 * Snowflake expressions as DuckDB expressions.
 *
 * Works on the tokens of one bracket level. Operands (names, literals, calls, brackets, CASE) become one unit each, so that what Snowflake writes behind an
 * operand (`::type`, `:path`, `[index]`) can wrap it; operators and keywords pass through when they are on the list of those that both know.
 */
import * as SnowflakeError from "../SnowflakeError.ts"
import { cast } from "./Cast.ts"
import { Cursor, isGroup, isOp, isWord } from "./Cursor.ts"
import * as FunctionCall from "./FunctionCall.ts"
import * as Functions from "./Functions.ts"
import * as Identifier from "./Identifier.ts"
import * as Literal from "./Literal.ts"
import type { Scope } from "./Scope.ts"
import type { SnowflakeType } from "./SnowflakeType.ts"
import * as Types from "./SnowflakeType.ts"
import type { Token } from "./Token.ts"
import { commas, unexpectedToken } from "./Token.ts"

export interface Expression {
  readonly sql: string
  /** When the expression is nothing but a column: its name. */
  readonly column?: string | undefined
  /** When the expression ends in a cast: its type. */
  readonly type?: SnowflakeType | undefined
}

interface Unit {
  sql: string
  operand: boolean
  column?: string | undefined
  type?: SnowflakeType | undefined
  /** A column of a staged file, not yet cast. */
  staged?: { readonly place: number; readonly path: ReadonlyArray<string> | undefined } | undefined
}

const passing = new Set([
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
  "FROM",
  "EXISTS",
  "ANY",
  "ALL",
  "ASC",
  "DESC",
  "NULLS",
  "FIRST",
  "LAST",
  "ROWS",
  "RANGE",
  "UNBOUNDED",
  "PRECEDING",
  "FOLLOWING",
  "CURRENT",
  "ROW",
  "PARTITION",
  "ORDER",
  "BY"
])
const constants = new Set(["NULL", "TRUE", "FALSE"])
/** Words that can't be a column's name without quotes, so that a mistake becomes a syntax error and not a column. */
const reserved = new Set([
  "SELECT",
  "WHERE",
  "GROUP",
  "HAVING",
  "QUALIFY",
  "UNION",
  "INTERSECT",
  "MINUS",
  "EXCEPT",
  "INTO",
  "JOIN",
  "ON",
  "USING",
  "WITH",
  "WHEN",
  "THEN",
  "ELSE",
  "AS",
  "SET",
  "VALUES",
  "INSERT",
  "UPDATE",
  "DELETE",
  "CREATE",
  "DROP",
  "ALTER",
  "TABLE",
  "RLIKE",
  "REGEXP",
  "SOME",
  "FILTER",
  "RETURNING",
  "TO"
])
const binaryOperators = new Set(["=", "!=", "<>", "<", ">", "<=", ">=", "+", "-", "*", "/", "%", "||"])

const isQuery = (token: Token): boolean => {
  if (!isGroup(token)) return false
  let first = token.items[0]
  while (isGroup(first)) first = first.items[0]
  return isWord(first, "SELECT", "WITH", "VALUES")
}

export const write = (tokens: ReadonlyArray<Token>, scope: Scope): Expression => {
  const cursor = new Cursor(scope.source, tokens)
  if (cursor.done) throw cursor.unexpected()
  const units: Array<Unit> = []
  const push = (sql: string, operand: boolean, rest: Partial<Unit> = {}) => {
    const last = units[units.length - 1]
    if (operand && last?.operand === true) throw unexpectedToken(scope.source, tokens[cursor.at - 1])
    units.push({ sql, operand, ...rest })
  }
  const popOperand = (token: Token): Unit => {
    const last = units.pop()
    if (last === undefined || !last.operand) throw unexpectedToken(scope.source, token)
    return last
  }

  while (!cursor.done) {
    const token = cursor.next()
    switch (token.kind) {
      case "string":
        push(Literal.string(token.text), true)
        break
      case "number":
        push(token.text, true)
        break
      case "bind":
        push(scope.bind(token.text), true)
        break
      case "dollar": {
        const place = /^[0-9]+$/.test(token.text) ? Number(token.text) : undefined
        if (place === undefined) push(scope.variable(token.text), true)
        else push("", true, { staged: { place, path: undefined } })
        break
      }
      case "stage":
        throw unexpectedToken(scope.source, token)
      case "group":
        if (token.text === "[") {
          const last = units[units.length - 1]
          if (last?.operand === true) {
            units.pop()
            push(Functions.functions["GET"]?.build([plain(last, scope), write(token.items, scope).sql]) ?? "", true)
          } else push(FunctionCall.call("ARRAY_CONSTRUCT", token.items, scope), true)
        } else if (token.text === "{") push(objectLiteral(token.items, scope), true)
        else if (isQuery(token)) push(`(${scope.subquery(token.items)})`, true)
        else push(`(${list(token.items, scope)})`, true)
        break
      case "op":
        if (token.text === "::") {
          const last = popOperand(token)
          const type = cursor.type()
          push(cast(native(last, scope), type), true, { type })
        } else if (token.text === ":" && units[units.length - 1]?.operand !== true) {
          push(scope.bind(cursor.identifier()), true)
        } else if (token.text === ":") {
          const last = popOperand(token)
          const path = [pathStep(cursor)]
          for (;;) {
            if (cursor.acceptOp(".")) path.push(pathStep(cursor))
            else if (isGroup(cursor.peek(), "[")) path.push(indexStep(cursor, scope))
            else break
          }
          if (last.staged !== undefined && last.staged.path === undefined) {
            push("", true, { staged: { place: last.staged.place, path } })
          } else push(`sf_path(${last.sql}, ${Literal.string(jsonPath(path))})`, true)
        } else if (token.text === "," || binaryOperators.has(token.text)) {
          const star = token.text === "*" && (cursor.done || isOp(cursor.peek(), ","))
          push(token.text, star)
        } else throw unexpectedToken(scope.source, token)
        break
      case "quoted":
      case "word":
        name(token, cursor, scope, push)
        break
    }
  }
  return finish(units, scope, cursor)
}

/** Joins units; the right side of a division must not be zero. */
const finish = (units: ReadonlyArray<Unit>, scope: Scope, cursor: Cursor): Expression => {
  const last = units[units.length - 1]
  if (last === undefined) throw cursor.unexpected()
  let out = ""
  for (let at = 0; at < units.length; at++) {
    const unit = units[at]
    if (unit === undefined) continue
    const before = units[at - 1]
    const sql = plain(unit, scope)
    const divides = before !== undefined && !before.operand && (before.sql === "/" || before.sql === "%")
    out += (out === "" ? "" : " ") + (divides && unit.operand ? `sf_nonzero(${sql})` : sql)
  }
  return units.length === 1
    ? { sql: out, column: last.column, type: last.type }
    : { sql: out }
}

/** A unit's SQL; a staged column that isn't cast is a VARIANT. */
const plain = (unit: Unit, scope: Scope): string =>
  unit.staged === undefined ? unit.sql : `sf_to_variant(${native(unit, scope)})`

const native = (unit: Unit, scope: Scope): string => {
  if (unit.staged === undefined) return unit.sql
  const found = scope.staged?.(unit.staged.place, unit.staged.path)
  if (found === undefined) throw SnowflakeError.invalidIdentifier(`$${unit.staged.place}`)
  return found.native
}

const pathStep = (cursor: Cursor): string => {
  const token = cursor.next()
  if (token.kind === "quoted") return token.text
  // Keys keep their case, so the word is taken from the text and not folded.
  if (token.kind === "word") return cursor.source.slice(token.at, token.end)
  throw unexpectedToken(cursor.source, token)
}

const indexStep = (cursor: Cursor, scope: Scope): string => {
  const inner = cursor.next()
  const item = isGroup(inner, "[") ? inner.items[0] : undefined
  if (item?.kind === "number") return `[${item.text}]`
  if (item?.kind === "string") return item.text
  throw unexpectedToken(scope.source, inner)
}

const jsonPath = (steps: ReadonlyArray<string>): string =>
  "$" + steps.map((step) => /^\[[0-9]+\]$/.test(step) ? step : `."${step.replaceAll("\"", "\\\"")}"`).join("")

/** Expressions between commas. */
export const list = (tokens: ReadonlyArray<Token>, scope: Scope): string =>
  commas(tokens).map((item) => write(item, scope).sql).join(", ")

const objectLiteral = (tokens: ReadonlyArray<Token>, scope: Scope): string => {
  const args: Array<string> = []
  for (const pair of commas(tokens)) {
    const [key, colon, ...value] = pair
    if (key?.kind !== "string" || !isOp(colon, ":")) throw unexpectedToken(scope.source, key)
    args.push(Literal.string(key.text), write(value, scope).sql)
  }
  return Functions.functions["OBJECT_CONSTRUCT_KEEP_NULL"]?.build(args) ?? ""
}

type Push = (sql: string, operand: boolean, rest?: Partial<Unit>) => void

/** A word or quoted name: a keyword, a constant, a call or a column. */
const name = (token: Extract<Token, { kind: "word" | "quoted" }>, cursor: Cursor, scope: Scope, push: Push): void => {
  const next = cursor.peek()
  if (token.kind === "word" && !isOp(next, ".")) {
    const word = token.text
    if (word === "CASE") {
      push(caseOf(cursor, scope), true)
      return
    }
    if ((word === "DATE" || word === "TIME" || word === "TIMESTAMP") && next?.kind === "string") {
      cursor.next()
      push(cast(Literal.string(next.text), Types.fromName(word, []) ?? Types.text), true)
      return
    }
    if (word === "INTERVAL" && next?.kind === "string") {
      cursor.next()
      push(`INTERVAL ${Literal.string(next.text.replaceAll(",", " "))}`, true)
      return
    }
    if (constants.has(word)) {
      push(word, true)
      return
    }
    if (isGroup(next) && !passing.has(word)) {
      cursor.next()
      push(FunctionCall.callWithSuffix(word, next.items, cursor, scope), true)
      return
    }
    if (passing.has(word)) {
      push(word, false)
      return
    }
    if (reserved.has(word)) throw unexpectedToken(scope.source, token)
    const context = scope.context(word)
    if (context !== undefined && /^(CURRENT|LOCAL)/.test(word)) {
      push(context, true)
      return
    }
  }
  const parts = [token.text]
  while (isOp(cursor.peek(), ".")) {
    cursor.next()
    const part = cursor.next()
    if (isOp(part, "*")) {
      push(`${qualifier(parts, scope)}.*`, true)
      return
    }
    if (part.kind === "dollar") {
      const place = Number(part.text)
      push("", true, { staged: { place, path: undefined } })
      return
    }
    if (part.kind !== "word" && part.kind !== "quoted") throw unexpectedToken(scope.source, part)
    parts.push(part.text)
  }
  if (isGroup(cursor.peek())) throw SnowflakeError.unknownFunction(parts.map(Identifier.print).join("."))
  const column = parts[parts.length - 1] ?? ""
  if (parts.length === 1) push(Identifier.column(column), true, { column })
  else push(`${qualifier(parts.slice(0, -1), scope)}.${Identifier.column(column)}`, true, { column })
}

const qualifier = (parts: ReadonlyArray<string>, scope: Scope): string => {
  const table = Identifier.column(parts[parts.length - 1] ?? "")
  return parts.length === 1 ? table : `${Identifier.quote(scope.schemaName(parts.slice(0, -1)))}.${table}`
}

/** CASE up to its END; the word CASE has been read. */
const caseOf = (cursor: Cursor, scope: Scope): string => {
  let out = "CASE"
  let part: Array<Token> = []
  let depth = 0
  const flush = () => {
    if (part.length > 0) out += ` ${write(part, scope).sql}`
    part = []
  }
  for (;;) {
    const token = cursor.next()
    if (isWord(token, "CASE")) depth++
    if (depth === 0 && isWord(token, "WHEN", "THEN", "ELSE", "END")) {
      flush()
      out += ` ${token.text}`
      if (isWord(token, "END")) return out
      continue
    }
    if (isWord(token, "END")) depth--
    part.push(token)
  }
}
