/**
 * Expressions in options: their syntax is checked when the options are decoded, without any connection; names and types of columns when a table's shape is known.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { TableSchema } from "@etl-stream/core/TableSchema"
import * as Schema from "effect/Schema"
import { failure } from "../Failure.ts"
import * as Dialect from "./Dialect.ts"
import { describe, type Problem, problem } from "./Problem.ts"

/** An expression, in options. */
export const ExpressionText = Schema.NonEmptyString.check(
  Schema.makeFilter((text: string) => {
    const parsed = Dialect.parse(text)
    return Dialect.isProblem(parsed) ? `${describe(text, parsed)}. ${parsed.hint}` : undefined
  })
)

/** A checked expression, parsed. */
export const parse = (text: string): Dialect.Parsed => {
  const parsed = Dialect.parse(text)
  if (!Dialect.isProblem(parsed)) return parsed
  throw new Error(describe(text, parsed))
}

/** What a table can't go on by: an expression that doesn't fit it. */
export const misfit = (plugin: string, table: TableSchema, text: string, found: Problem): ConnectorError =>
  failure(plugin, table.table, describe(text, found), found.hint)

export { problem }
