/**
 * What an expression needs from around it: the statement's text, its binds and variables, what names mean, and the ways back to expressions and queries.
 */
import type { Token } from "./Token.ts"

/** What an expression needs from around it. */
export interface Scope {
  /** The statement's text. */
  readonly source: string
  /** An expression, as DuckDB SQL. */
  readonly expression: (tokens: ReadonlyArray<Token>) => string
  /** A query between brackets. */
  readonly subquery: (tokens: ReadonlyArray<Token>) => string
  /** The literal bound to a place or name; throws when nothing is. */
  readonly bind: (name: string) => string
  /** The literal of a session variable. */
  readonly variable: (name: string) => string
  /** CURRENT_DATABASE() and its like, as literals. */
  readonly context: (name: string) => string | undefined
  /** SYSTEM$STREAM_HAS_DATA of a stream's name. */
  readonly streamHasData: (path: ReadonlyArray<string>) => string
  /** The schema that a name of `parts` (schema, or database and schema) means in DuckDB. */
  readonly schemaName: (parts: ReadonlyArray<string>) => string
  /** `$n:name` of a staged file, when the query reads one: native is typed as in the file. */
  readonly staged?:
    | ((place: number, path: ReadonlyArray<string> | undefined) => { readonly native: string } | undefined)
    | undefined
  /** Set inside VALUES, where Snowflake takes fewer functions. */
  readonly values?: boolean | undefined
}
