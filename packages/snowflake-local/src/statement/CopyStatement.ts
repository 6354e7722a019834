/**
 * COPY INTO a table from staged Parquet files.
 *
 * Each file is read and inserted on its own, all in one transaction. A file that was loaded before (same name and content) is skipped, by the load history that is
 * written in the same transaction; ON_ERROR is ABORT_STATEMENT, the only value that loses nothing.
 */
import * as Effect from "effect/Effect"
import { rm } from "node:fs/promises"
import type { Column, Table } from "../Catalog.ts"
import * as ResultRows from "../ResultRows.ts"
import * as SnowflakeError from "../SnowflakeError.ts"
import { Cursor, isGroup } from "../sql/Cursor.ts"
import * as Identifier from "../sql/Identifier.ts"
import * as Literal from "../sql/Literal.ts"
import * as Query from "../sql/Query.ts"
import * as Types from "../sql/SnowflakeType.ts"
import type { Token } from "../sql/Token.ts"
import * as Dml from "./DmlStatement.ts"
import * as Privileges from "./Privileges.ts"
import * as Stage from "./StageStatement.ts"
import type { Outcome, Run, StatementContext } from "./StatementContext.ts"
import * as Statement from "./StatementContext.ts"
import * as Writing from "./Writing.ts"

interface FileFormat {
  readonly useLogicalType: boolean
  readonly binaryAsText: boolean
}

interface Plan {
  readonly table: Table
  readonly columns: ReadonlyArray<Column>
  readonly location: Stage.Location
  readonly select: ReadonlyArray<Token> | undefined
  readonly files: ReadonlyArray<string> | undefined
  readonly pattern: RegExp | undefined
  readonly matchByColumnName: "NONE" | "CASE_SENSITIVE" | "CASE_INSENSITIVE"
  readonly force: boolean
  readonly purge: boolean
  readonly format: FileFormat
}

/** NAME = value pairs of COPY, and inside FILE_FORMAT. */
const settingsOf = (cursor: Cursor): Map<string, Token> => {
  const out = new Map<string, Token>()
  while (!cursor.done) {
    cursor.acceptOp(",")
    const name = cursor.identifier()
    cursor.expectOp("=")
    out.set(name, cursor.next())
  }
  return out
}

const known = new Set([
  "FILES",
  "PATTERN",
  "FILE_FORMAT",
  "ON_ERROR",
  "FORCE",
  "PURGE",
  "MATCH_BY_COLUMN_NAME",
  "SIZE_LIMIT",
  "LOAD_UNCERTAIN_FILES",
  "TRUNCATECOLUMNS",
  "ENFORCE_LENGTH",
  "RETURN_FAILED_ONLY"
])
const formatKnown = new Set([
  "TYPE",
  "COMPRESSION",
  "BINARY_AS_TEXT",
  "USE_LOGICAL_TYPE",
  "USE_VECTORIZED_SCANNER",
  "TRIM_SPACE",
  "NULL_IF",
  "REPLACE_INVALID_CHARACTERS"
])

const text = (token: Token | undefined): string | undefined =>
  token === undefined || token.kind === "group" ? undefined : token.text.toUpperCase()

const strings = (token: Token | undefined): ReadonlyArray<string> | undefined =>
  isGroup(token) ? token.items.flatMap((item) => item.kind === "string" ? [item.text] : []) : undefined

const flag = (token: Token | undefined, otherwise: boolean): boolean =>
  token === undefined ? otherwise : text(token) === "TRUE"

const formatOf = (source: string, token: Token | undefined): FileFormat => {
  if (!isGroup(token)) throw SnowflakeError.unsupported("COPY INTO without FILE_FORMAT = (TYPE = PARQUET …)")
  const settings = settingsOf(new Cursor(source, token.items))
  for (const name of settings.keys()) {
    if (!formatKnown.has(name)) throw SnowflakeError.invalidOption(`invalid parameter '${name}'`)
  }
  if (text(settings.get("TYPE")) !== "PARQUET") {
    throw SnowflakeError.unsupported("a FILE_FORMAT other than TYPE = PARQUET")
  }
  const vectorized = flag(settings.get("USE_VECTORIZED_SCANNER"), false)
  const binaryAsText = flag(settings.get("BINARY_AS_TEXT"), !vectorized)
  return { useLogicalType: vectorized || flag(settings.get("USE_LOGICAL_TYPE"), false), binaryAsText }
}

const parse = (context: StatementContext): Plan => {
  const cursor = Statement.cursorOf(context)
  cursor.expect("COPY", "INTO")
  if (cursor.peek()?.kind === "stage") throw SnowflakeError.unsupported("COPY INTO a stage")
  const table = Statement.requireTable(context, cursor.path())
  Privileges.requireDml(context, table, "INSERT")
  const columns = Dml.columnList(table, cursor)
  cursor.expect("FROM")
  const from = cursor.next()
  let stage: string
  let select: ReadonlyArray<Token> | undefined
  if (isGroup(from)) {
    select = from.items
    const at = from.items.find((token) => token.kind === "stage")
    if (at?.kind !== "stage") {
      throw SnowflakeError.syntax("syntax error: COPY INTO … FROM (SELECT … FROM @stage) is expected.")
    }
    stage = at.text
  } else if (from.kind === "stage" || from.kind === "string") stage = from.text.replace(/^@/, "")
  else throw SnowflakeError.syntax("syntax error: a stage is expected.")
  const location = Stage.locate(context, stage)
  Stage.requireAccess(context, location, "READ")
  const settings = settingsOf(cursor)
  for (const name of settings.keys()) {
    if (!known.has(name)) throw SnowflakeError.syntax(`syntax error: unexpected '${name}'.`)
  }
  const onError = text(settings.get("ON_ERROR")) ?? "ABORT_STATEMENT"
  if (onError !== "ABORT_STATEMENT") throw SnowflakeError.unsupported(`ON_ERROR = ${onError}`)
  if (flag(settings.get("TRUNCATECOLUMNS"), false)) throw SnowflakeError.unsupported("TRUNCATECOLUMNS = TRUE")
  const match = text(settings.get("MATCH_BY_COLUMN_NAME")) ?? "NONE"
  if (match !== "NONE" && match !== "CASE_SENSITIVE" && match !== "CASE_INSENSITIVE") {
    throw SnowflakeError.invalidOption(`invalid value [${match}] for parameter 'MATCH_BY_COLUMN_NAME'`)
  }
  if (match !== "NONE" && select !== undefined) {
    throw SnowflakeError.invalidOption("MATCH_BY_COLUMN_NAME cannot be used with a SELECT statement in COPY INTO.")
  }
  if (match === "NONE" && select === undefined && columns.length !== 1) {
    throw SnowflakeError.invalidOption(
      "PARQUET file format can produce one and only one column of type variant, object, or array."
    )
  }
  const pattern = settings.get("PATTERN")
  return {
    table,
    columns,
    location,
    select,
    files: strings(settings.get("FILES")),
    pattern: pattern?.kind === "string" ? new RegExp(`^(?:${pattern.text})$`) : undefined,
    matchByColumnName: match,
    force: flag(settings.get("FORCE"), false),
    purge: flag(settings.get("PURGE"), false),
    format: formatOf(context.source, settings.get("FILE_FORMAT"))
  }
}

/** A column of a Parquet file, as DuckDB reads it. */
interface ParquetColumn {
  readonly name: string
  readonly sql: string
}

/** The file's columns: Snowflake sees logical types only when it is told to. */
const parquetColumns = (
  context: StatementContext,
  file: string,
  format: FileFormat
): Run<ReadonlyArray<ParquetColumn>> =>
  Effect.gen(function*() {
    const found = yield* Statement.rows(
      context,
      `SELECT name, type, converted_type, logical_type, num_children FROM parquet_schema(${Literal.string(file)})`
    )
    const described = yield* Statement.rows(
      context,
      `SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM read_parquet(${Literal.string(file)}))`
    )
    const facts = new Map(found.slice(1).map((row) => [String(row[0]), row]))
    const out: Array<ParquetColumn> = []
    for (const [name, type] of described) {
      const column = Identifier.quote(String(name))
      const [, physical, converted, logical] = facts.get(String(name)) ?? []
      const annotated = `${converted ?? ""} ${logical ?? ""}`
      if (type === "BLOB" && physical === "BYTE_ARRAY" && format.binaryAsText) {
        out.push({ name: String(name), sql: `decode(${column})` })
      } else if (!format.useLogicalType && /TIMESTAMP|TIME_|TimeType|DATE|DateType/i.test(annotated)) {
        return yield* SnowflakeError.unsupported(
          `Parquet column ${
            String(name)
          } with a logical type: without USE_LOGICAL_TYPE = TRUE its values are plain numbers in Snowflake`
        )
      } else out.push({ name: String(name), sql: column })
    }
    return out
  })

/** SQL of the rows of one file, fit for INSERT. */
const fileRows = (
  context: StatementContext,
  plan: Plan,
  file: Stage.StagedFile
): Run<{ readonly sql: string; readonly columns: ReadonlyArray<Column> }> =>
  Effect.gen(function*() {
    const parquet = yield* parquetColumns(context, file.file, plan.format)
    const from =
      `(SELECT *, file_row_number + 1 AS "METADATA$FILE_ROW_NUMBER", ${
        Literal.string(file.name)
      } AS "METADATA$FILENAME" ` +
      `FROM read_parquet(${Literal.string(file.file)}, file_row_number = true))`
    const whole = `json_object(${
      parquet.map((column) => `${Literal.string(column.name)}, sf_to_variant("file".${column.sql})`).join(", ")
    })`
    const native = (name: string): string => {
      const found = parquet.find((column) => column.name === name)
      // A name that the file doesn't have is NULL, as in Snowflake.
      return found === undefined ? "NULL" : found.sql
    }
    if (plan.select !== undefined) {
      const select = plan.select
      const sql = yield* Statement.parse(() =>
        Query.write(select, {
          ...Statement.environment(context),
          stagedFiles: { sql: from, alias: `"file"`, columns: [] },
          staged: (place, path) => {
            if (place !== 1) return undefined
            if (path === undefined) return { native: whole }
            const [name, ...rest] = path
            const column = native(name ?? "")
            return {
              native: rest.length === 0
                ? column
                : `sf_path(sf_to_variant(${column}), ${Literal.string(`$.${rest.join(".")}`)})`
            }
          }
        })
      )
      return { sql, columns: plan.columns }
    }
    if (plan.matchByColumnName === "NONE") {
      return { sql: `SELECT ${whole} FROM ${from} AS "file"`, columns: plan.columns }
    }
    const same = plan.matchByColumnName === "CASE_SENSITIVE"
      ? (left: string, right: string) => left === right
      : (left: string, right: string) => left.toUpperCase() === right.toUpperCase()
    const matched = plan.columns.flatMap((column) => {
      const found = parquet.filter((candidate) => same(candidate.name, column.name))
      return found.length === 1 && found[0] !== undefined ? [{ column, sql: found[0].sql }] : []
    })
    if (matched.length === 0) {
      return yield* SnowflakeError.invalidOption("No column of the file matches a column of the table.")
    }
    return {
      sql: `SELECT ${matched.map((match) => match.sql).join(", ")} FROM ${from} AS "file"`,
      columns: matched.map((match) => match.column)
    }
  })

const chosenFiles = (context: StatementContext, plan: Plan): Run<ReadonlyArray<Stage.StagedFile>> =>
  Effect.gen(function*() {
    const prefix = plan.location.path
    if (plan.files === undefined) {
      const all = yield* Stage.io(() =>
        Stage.listFiles(context.services.storage.dataDir, plan.location.stageId, prefix)
      )
      return plan.pattern === undefined ? all : all.filter((file) => plan.pattern?.test(file.name) === true)
    }
    const base = prefix === "" || prefix.endsWith("/") ? prefix : `${prefix}/`
    const chosen: Array<Stage.StagedFile> = []
    for (const name of plan.files) {
      const found = yield* Stage.io(() =>
        Stage.findFile(context.services.storage.dataDir, plan.location.stageId, `${base}${name}`)
      )
      if (found === undefined) return yield* SnowflakeError.fileNotFound(`${plan.location.shown}/${base}${name}`)
      chosen.push(found)
    }
    return chosen
  })

const resultColumns = [
  ResultRows.column("file"),
  ResultRows.column("status"),
  ResultRows.column("rows_parsed", Types.number38),
  ResultRows.column("rows_loaded", Types.number38),
  ResultRows.column("error_limit", Types.number38),
  ResultRows.column("errors_seen", Types.number38),
  ResultRows.column("first_error"),
  ResultRows.column("first_error_line", Types.number38),
  ResultRows.column("first_error_character", Types.number38),
  ResultRows.column("first_error_column_name")
]

export const execute = (context: StatementContext): Run<Outcome> =>
  Effect.gen(function*() {
    const plan = yield* Statement.parse(() => parse(context))
    yield* Statement.requireWarehouse(context)
    const files = yield* chosenFiles(context, plan)
    const etags = yield* Stage.io(() => Promise.all(files.map((file) => Stage.etagOf(file.file))))
    const loaded = yield* Writing.writing(
      context,
      undefined,
      load(context, plan, files, etags)
    )
    if (plan.purge) {
      yield* Stage.io(async () => {
        for (const row of loaded) await rm(row.file.file, { force: true })
      })
    }
    if (loaded.length === 0) {
      return {
        kind: "COPY",
        typeId: Statement.typeIds.copy,
        result: ResultRows.status("Copy executed with 0 files processed.")
      }
    }
    const rows = loaded.map(({ count, file }) => [
      `${plan.location.shown}/${file.name}`,
      "LOADED",
      String(count),
      String(count),
      "1",
      "0",
      null,
      null,
      null,
      null
    ])
    return { kind: "COPY", typeId: Statement.typeIds.copy, result: ResultRows.ofRows(resultColumns, rows) }
  })

interface Loaded {
  readonly file: Stage.StagedFile
  readonly count: number
}

const load = (
  context: StatementContext,
  plan: Plan,
  files: ReadonlyArray<Stage.StagedFile>,
  etags: ReadonlyArray<string>
): Run<ReadonlyArray<Loaded>> =>
  Effect.gen(function*() {
    const out: Array<Loaded> = []
    const table = Literal.string(plan.table.id)
    for (const [index, file] of files.entries()) {
      const key = Literal.string(`${plan.location.stageId}/${file.name}`)
      const etag = Literal.string(etags[index] ?? "")
      const history = yield* Statement.rows(
        context,
        `SELECT 1 FROM "_local".load_history WHERE table_id = ${table} AND file = ${key} AND etag = ${etag} LIMIT 1`
      )
      if (history.length > 0 && !plan.force) continue
      const { columns, sql } = yield* fileRows(context, plan, file)
      const count = yield* Statement.changed(context, yield* Dml.insertSelect(context, plan.table, columns, sql))
      yield* Statement.changed(
        context,
        `INSERT INTO "_local".load_history VALUES (${table}, ${key}, ${etag}, TIMESTAMP '${
          new Date(context.now).toISOString().replace("Z", "")
        }', ${count})`
      )
      out.push({ file, count })
    }
    yield* Writing.inserted(context, plan.table, out.reduce((sum, { count }) => sum + count, 0))
    return out
  })
