/**
 * Names in the paths of the streaming endpoints, and the pipes they mean.
 *
 * Every table has a default pipe `<TABLE>-STREAMING` that needs no CREATE and matches keys with columns by name. A pipe that was created with
 * `MATCH_BY_COLUMN_NAME` over all columns does the same; pipes with a SELECT of their own are not supported here.
 */
import * as Effect from "effect/Effect"
import { Catalog } from "../Catalog.ts"
import type { PipeTarget } from "./Channel.ts"
import * as StreamingError from "./StreamingError.ts"

/** Snowflake names, exactly as stored. */
export interface PipeName {
  readonly database: string
  readonly schema: string
  readonly pipe: string
}

const suffix = "-STREAMING"

/** The names of (percent-decoded) path segments: folded to upper case unless in double quotes. */
export const parse = (database: string, schema: string, pipe: string): PipeName => ({
  database: identifier(database),
  schema: identifier(schema),
  pipe: identifier(pipe)
})

const identifier = (segment: string): string =>
  segment.length > 2 && segment.startsWith("\"") && segment.endsWith("\"")
    ? segment.slice(1, -1).replaceAll("\"\"", "\"")
    : segment.toUpperCase()

/** The pipe with the table it loads, or Snowflake's code for what is missing. */
export const resolve = Effect.fnUntraced(function*(name: PipeName) {
  const catalog = yield* Catalog
  if (!catalog.hasDatabase(name.database)) {
    return yield* StreamingError.noDatabase(`Database ${name.database} does not exist or is not authorized.`)
  }
  if (!catalog.hasSchema(name.database, name.schema)) {
    return yield* StreamingError.noSchema(`Schema ${name.database}.${name.schema} does not exist or is not authorized.`)
  }
  const created = catalog.pipe(name.database, name.schema, name.pipe)
  if (created === undefined && !name.pipe.endsWith(suffix)) {
    return yield* StreamingError.noPipe(`Pipe ${name.pipe} does not exist or is not authorized.`)
  }
  if (
    created !== undefined &&
    (created.select !== undefined || created.columns.length > 0 || created.matchByColumnName !== "CASE_INSENSITIVE")
  ) {
    return yield* StreamingError.pipeInvalid(
      `Pipe ${name.pipe} is not supported: use the default pipe, or MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE without a column list.`
    )
  }
  const target = created?.target ??
    { database: name.database, schema: name.schema, name: name.pipe.slice(0, -suffix.length) }
  const table = catalog.relation(target.database, target.schema, target.name)
  if (table === undefined || table.kind !== "TABLE") {
    return yield* StreamingError.noTable(`Table ${target.name} does not exist or is not authorized.`)
  }
  const found: PipeTarget = { ...name, table }
  return found
})
