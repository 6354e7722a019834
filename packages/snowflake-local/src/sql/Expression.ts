/**
 * Snowflake expressions as DuckDB expressions.
 *
 * Works on the tokens of one bracket level. Operands (names, literals, calls, brackets, CASE) become one unit each, so that what Snowflake writes behind an
 * operand (`::type`, `:path`, `[index]`) can wrap it; operators and keywords pass through when they are on the list of those that both know.
 */
import * as SnowflakeError from "../SnowflakeError.ts"
import { Cursor, isGroup, isOp, isWord } from "./Cursor.ts"
import * as Functions from "./Functions.ts"
import * as Identifier from "./Identifier.ts"
import * as Literal from "./Literal.ts"
import type { SnowflakeType } from "./SnowflakeType.ts"
import * as Types from "./SnowflakeType.ts"
import type { Token } from "./Token.ts"
import { commas, unexpectedToken } from "./Token.ts"

/** What an expression needs from around it. */
export interface Scope {
  /** The statement's text. */
  readonly source: string
  /** A query between brackets. */
  readonly subquery: (tokens: ReadonlyArray<Token>) => string
  /** The literal bound to a place or name; throws when nothing is. */
  readonly bind: (name: string) => string
  /** The literal of a session variable. */
  readonly variable: (name: string) => string
  /** CURRENT_DATABASE() and its like, as literals. */
  readonly context: (name: string) => string | undefined
  /** The schema that a name of `parts` (schema, or database and schema) means in DuckDB. */
  readonly schemaName: (parts: ReadonlyArray<string>) => string
  /** `$n:name` of a staged file, when the query reads one: native is typed as in the file. */
  readonly staged?:
    | ((place: number, path: ReadonlyArray<string> | undefined) => { readonly native: string } | undefined)
    | undefined
  /** Set inside VALUES, where Snowflake takes fewer functions. */
  readonly values?: boolean | undefined
}

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

/** A CAST to a Snowflake type, as Snowflake does it. */
export const cast = (sql: string, type: SnowflakeType, attempt = false): string => {
  const castTo = (duckdb: string) => attempt ? `TRY_CAST(${sql} AS ${duckdb})` : `CAST(sf_plain(${sql}) AS ${duckdb})`
  switch (type.kind) {
    case "TEXT":
      return type.length >= Types.defaultTextLength
        ? `sf_to_varchar(${sql})`
        : `sf_check_text(sf_to_varchar(${sql}), ${type.length})`
    case "FIXED":
    case "REAL":
    case "BOOLEAN":
      return castTo(Types.duckdbType(type))
    case "DATE":
      return attempt ? `sf_check_date(TRY_CAST(sf_try_instant_text(${sql}) AS DATE))` : `sf_to_date(${sql})`
    case "TIME":
      return attempt ? `sf_check_time(${castTo("TIME")})` : `sf_to_time(${sql})`
    case "TIMESTAMP_NTZ":
      return attempt
        ? `sf_check_ntz(TRY_CAST(sf_try_instant_text(${sql}) AS TIMESTAMP))`
        : cut(`sf_to_ntz(${sql})`, "ntz", type.scale)
    case "TIMESTAMP_LTZ":
    case "TIMESTAMP_TZ":
      return attempt
        ? `sf_check_tz(TRY_CAST(sf_try_instant_text(${sql}) AS TIMESTAMPTZ))`
        : cut(`sf_to_tz(${sql})`, "tz", type.scale)
    case "BINARY":
      return attempt
        ? `sf_try_to_binary(${sql}, 'HEX')`
        : `sf_check_binary(sf_to_binary(${sql}, 'HEX'), ${type.length})`
    case "VARIANT":
      return `sf_to_variant(${sql})`
    case "ARRAY":
      return `sf_check_array(sf_to_variant(${sql}))`
    case "OBJECT":
      return `sf_check_object(sf_to_variant(${sql}))`
  }
}

/** Fractions of a second beyond a type's scale are cut off. */
export const cut = (sql: string, kind: "ntz" | "tz", scale: number): string =>
  scale >= 6 ? sql : `sf_cut_${kind}(${sql}, ${10 ** (6 - scale)})`

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
          } else push(call("ARRAY_CONSTRUCT", token.items, scope), true)
        } else if (token.text === "{") push(objectLiteral(token.items, scope), true)
        else if (isQuery(token)) push(`(${scope.subquery(token.items)})`, true)
        else push(`(${list(token.items, scope)})`, true)
        break
      case "op":
        if (token.text === "::") {
          const last = popOperand(token)
          const type = cursor.type()
          push(cast(native(last, scope), type), true, { type })
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
      push(callWithSuffix(word, next.items, cursor, scope), true)
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

/** A call's arguments: DISTINCT, the expressions, and IGNORE NULLS when it stands inside. */
interface Arguments {
  readonly distinct: boolean
  readonly args: ReadonlyArray<string>
  readonly nulls: string
}

const argumentsOf = (items: ReadonlyArray<Token>, scope: Scope): Arguments => {
  let rest = items
  let nulls = ""
  const distinct = isWord(rest[0], "DISTINCT")
  if (distinct) rest = rest.slice(1)
  const [beforeLast, last] = rest.slice(-2)
  if (isWord(beforeLast, "IGNORE", "RESPECT") && isWord(last, "NULLS")) {
    nulls = isWord(beforeLast, "IGNORE") ? " IGNORE NULLS" : ""
    rest = rest.slice(0, -2)
  }
  return { distinct, nulls, args: commas(rest).map((item) => write(item, scope).sql) }
}

/** A call without what may stand behind it. */
const call = (functionName: string, items: ReadonlyArray<Token>, scope: Scope): string => {
  const special = specialCall(functionName, items, scope)
  if (special !== undefined) return special
  return build(functionName, argumentsOf(items, scope), "", scope)
}

const build = (functionName: string, given: Arguments, order: string, scope: Scope): string => {
  const { args } = given
  if (scope.values === true && Functions.notInValues.has(functionName)) {
    throw SnowflakeError.invalidValuesExpression(`${functionName}(...)`)
  }
  const distinct = given.distinct ? "DISTINCT " : ""
  if (given.distinct && !Functions.aggregates.has(functionName)) {
    throw SnowflakeError.syntax("syntax error: unexpected 'DISTINCT'.")
  }
  switch (functionName) {
    case "ARRAY_AGG":
      arity(functionName, args, 1, 1)
      return `to_json(coalesce(list(${distinct}sf_to_variant(${args[0]})${order}) FILTER ((${
        args[0]
      }) IS NOT NULL), []))`
    case "LISTAGG":
      arity(functionName, args, 1, 2)
      return `coalesce(string_agg(${distinct}sf_to_varchar(${args[0]}), ${args[1] ?? "''"}${order}), '')`
    case "OBJECT_AGG":
      arity(functionName, args, 2, 2)
      return `json_group_object(${args[0]}, sf_to_variant(${args[1]}))`
  }
  const known = Functions.functions[functionName]
  const context = args.length <= 1 ? scope.context(functionName) : undefined
  if (context !== undefined) return context
  if (known === undefined) throw SnowflakeError.unknownFunction(functionName)
  arity(functionName, args, known.min, known.max)
  if (order !== "") throw SnowflakeError.unsupported(`${functionName} WITHIN GROUP`)
  return known.build(args.map((value, index) => index === 0 ? `${distinct}${value}` : value))
}

const arity = (functionName: string, args: ReadonlyArray<string>, min: number, max: number): void => {
  if (args.length < min) {
    throw SnowflakeError.argumentCount(
      `not enough arguments for function [${functionName}], expected ${min}, got ${args.length}`
    )
  }
  if (args.length > max) {
    throw SnowflakeError.argumentCount(
      `too many arguments for function [${functionName}] expected ${max}, got ${args.length}`
    )
  }
}

/** Calls whose arguments are not a list of expressions. */
const specialCall = (functionName: string, items: ReadonlyArray<Token>, scope: Scope): string | undefined => {
  const cursor = new Cursor(scope.source, items)
  switch (functionName) {
    case "CAST":
    case "TRY_CAST": {
      const value = cursor.until("AS")
      cursor.expect("AS")
      const type = cursor.type()
      cursor.end()
      const inner = stagedOnly(value, scope) ?? write(value, scope).sql
      return cast(inner, type, functionName === "TRY_CAST")
    }
    case "EXTRACT": {
      const part = cursor.next()
      cursor.expect("FROM")
      const named = part.kind === "string" || part.kind === "word" ? part.text : ""
      return `CAST(floor(date_part('${Functions.datePart(named)}', ${write(cursor.rest(), scope).sql})) AS BIGINT)`
    }
    case "POSITION": {
      const needle = cursor.until("IN")
      if (cursor.done) return undefined
      cursor.expect("IN")
      return `strpos(${write(cursor.rest(), scope).sql}, ${write(needle, scope).sql})`
    }
    case "DATEADD":
    case "TIMEADD":
    case "TIMESTAMPADD":
    case "DATEDIFF":
    case "TIMEDIFF":
    case "TIMESTAMPDIFF":
    case "DATE_TRUNC":
    case "DATE_PART": {
      // The first argument is a part's name, not a column.
      const [first, ...others] = commas(items)
      const part = first?.[0]
      if (part === undefined || (part.kind !== "word" && part.kind !== "string") || first?.length !== 1) {
        return undefined
      }
      return build(
        functionName,
        {
          distinct: false,
          nulls: "",
          args: [Literal.string(part.text), ...others.map((item) => write(item, scope).sql)]
        },
        "",
        scope
      )
    }
    case "COUNT":
      return isOp(items[0], "*") && items.length === 1 ? "count(*)" : undefined
    default:
      return undefined
  }
}

/** `$1:name` alone, typed as in the file. */
const stagedOnly = (tokens: ReadonlyArray<Token>, scope: Scope): string | undefined => {
  const [first, colon, key] = tokens
  if (first?.kind !== "dollar" || !/^[0-9]+$/.test(first.text)) return undefined
  if (tokens.length === 1) return scope.staged?.(Number(first.text), undefined)?.native
  if (tokens.length !== 3 || !isOp(colon, ":") || (key?.kind !== "word" && key?.kind !== "quoted")) return undefined
  const step = key.kind === "quoted" ? key.text : scope.source.slice(key.at, key.end)
  return scope.staged?.(Number(first.text), [step])?.native
}

/** A call with WITHIN GROUP, IGNORE NULLS and OVER behind it. */
const callWithSuffix = (functionName: string, items: ReadonlyArray<Token>, cursor: Cursor, scope: Scope): string => {
  const special = specialCall(functionName, items, scope)
  let order = ""
  let given = special === undefined ? argumentsOf(items, scope) : undefined
  if (cursor.accept("WITHIN", "GROUP")) {
    const inner = new Cursor(scope.source, cursor.group().items)
    inner.expect("ORDER", "BY")
    order = ` ORDER BY ${list(inner.rest(), scope)}`
  }
  if (given !== undefined && isWord(cursor.peek(), "IGNORE", "RESPECT")) {
    given = { ...given, nulls: isWord(cursor.next(), "IGNORE") ? " IGNORE NULLS" : "" }
    cursor.expect("NULLS")
  }
  const text = special ?? (given === undefined ? "" : build(functionName, given, order, scope))
  const withNulls = given === undefined || given.nulls === "" ? text : `${text.slice(0, -1)}${given.nulls})`
  if (!isWord(cursor.peek(), "OVER")) return withNulls
  cursor.next()
  return over(functionName, withNulls, cursor.group().items, scope)
}

const over = (functionName: string, text: string, items: ReadonlyArray<Token>, scope: Scope): string => {
  const cursor = new Cursor(scope.source, items)
  const partition = cursor.accept("PARTITION", "BY") ? list(cursor.until("ORDER", "ROWS", "RANGE"), scope) : ""
  const order = cursor.accept("ORDER", "BY") ? list(cursor.until("ROWS", "RANGE"), scope) : ""
  const frameTokens = cursor.rest()
  const frame = frameTokens.length > 0
    ? write(frameTokens, scope).sql
    : Functions.readsWholePartition.has(functionName)
    ? "ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING"
    : ""
  const parts = [partition === "" ? "" : `PARTITION BY ${partition}`, order === "" ? "" : `ORDER BY ${order}`, frame]
  // Only the aggregate or window function itself may carry OVER; a macro around it would hide it.
  return `${text} OVER (${parts.filter((part) => part !== "").join(" ")})`
}
