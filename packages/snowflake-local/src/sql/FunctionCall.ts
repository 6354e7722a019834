/**
 * Function calls: their arguments, the few whose arguments are not a list of expressions, and what may stand behind them (WITHIN GROUP, IGNORE NULLS, OVER).
 */
import * as SnowflakeError from "../SnowflakeError.ts"
import { cast } from "./Cast.ts"
import { Cursor, isOp, isWord, splitPath } from "./Cursor.ts"
import * as DateFormat from "./DateFormat.ts"
import * as Functions from "./Functions.ts"
import * as Literal from "./Literal.ts"
import type { Scope } from "./Scope.ts"
import type { Token } from "./Token.ts"
import { commas } from "./Token.ts"

/** Expressions between commas. */
const listOf = (tokens: ReadonlyArray<Token>, scope: Scope): string =>
  commas(tokens).map((item) => scope.expression(item)).join(", ")

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
  return { distinct, nulls, args: commas(rest).map((item) => scope.expression(item)) }
}

/** A call without what may stand behind it. */
export const call = (functionName: string, items: ReadonlyArray<Token>, scope: Scope): string => {
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
      const inner = stagedOnly(value, scope) ?? scope.expression(value)
      return cast(inner, type, functionName === "TRY_CAST")
    }
    case "EXTRACT": {
      const part = cursor.next()
      cursor.expect("FROM")
      const named = part.kind === "string" || part.kind === "word" ? part.text : ""
      return `CAST(floor(date_part('${DateFormat.datePart(named)}', ${scope.expression(cursor.rest())})) AS BIGINT)`
    }
    case "POSITION": {
      const needle = cursor.until("IN")
      if (cursor.done) return undefined
      cursor.expect("IN")
      return `strpos(${scope.expression(cursor.rest())}, ${scope.expression(needle)})`
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
          args: [Literal.string(part.text), ...others.map((item) => scope.expression(item))]
        },
        "",
        scope
      )
    }
    case "SYSTEM$STREAM_HAS_DATA": {
      const path = splitPath(cursor.string())
      cursor.end()
      return scope.streamHasData(path)
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
export const callWithSuffix = (
  functionName: string,
  items: ReadonlyArray<Token>,
  cursor: Cursor,
  scope: Scope
): string => {
  const special = specialCall(functionName, items, scope)
  let order = ""
  let given = special === undefined ? argumentsOf(items, scope) : undefined
  if (cursor.accept("WITHIN", "GROUP")) {
    const inner = new Cursor(scope.source, cursor.group().items)
    inner.expect("ORDER", "BY")
    order = ` ORDER BY ${listOf(inner.rest(), scope)}`
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
  const partition = cursor.accept("PARTITION", "BY") ? listOf(cursor.until("ORDER", "ROWS", "RANGE"), scope) : ""
  const order = cursor.accept("ORDER", "BY") ? listOf(cursor.until("ROWS", "RANGE"), scope) : ""
  const frameTokens = cursor.rest()
  const frame = frameTokens.length > 0
    ? scope.expression(frameTokens)
    : Functions.readsWholePartition.has(functionName)
    ? "ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING"
    : ""
  const parts = [partition === "" ? "" : `PARTITION BY ${partition}`, order === "" ? "" : `ORDER BY ${order}`, frame]
  // Only the aggregate or window function itself may carry OVER; a macro around it would hide it.
  return `${text} OVER (${parts.filter((part) => part !== "").join(" ")})`
}
