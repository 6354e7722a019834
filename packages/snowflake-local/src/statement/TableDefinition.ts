/**
 * CREATE TABLE, with columns, LIKE or AS SELECT; and what a column's definition says.
 */
import * as Effect from "effect/Effect"
import type { Column, Table } from "../Catalog.ts"
import * as CatalogRecords from "../Catalog.ts"
import * as SnowflakeError from "../SnowflakeError.ts"
import * as Cast from "../sql/Cast.ts"
import * as Collation from "../sql/Collation.ts"
import { Cursor, isGroup, isWord } from "../sql/Cursor.ts"
import * as Expression from "../sql/Expression.ts"
import * as Identifier from "../sql/Identifier.ts"
import { failure } from "../sql/Macros.ts"
import * as Query from "../sql/Query.ts"
import type { SnowflakeType } from "../sql/SnowflakeType.ts"
import * as Types from "../sql/SnowflakeType.ts"
import type { Token } from "../sql/Token.ts"
import { commas } from "../sql/Token.ts"
import * as Storage from "../Storage.ts"
import * as Assignment from "./Assignment.ts"
import * as Container from "./ContainerStatement.ts"
import * as Definition from "./DefinitionChange.ts"
import * as Privileges from "./Privileges.ts"
import * as Select from "./SelectStatement.ts"
import type { Outcome, Run, StatementContext } from "./StatementContext.ts"
import * as Statement from "./StatementContext.ts"

/** The collation of a table's columns that are defined without one. */
export const defaultCollation = (
  context: StatementContext,
  { database, options, schema }: Pick<Table, "database" | "schema" | "options">
): string | undefined => {
  const own = options["DEFAULT_DDL_COLLATION"]
  return own === undefined ? Container.defaultCollation(context, database, schema) : Collation.parse(own)
}

/** One column of CREATE TABLE or ADD COLUMN. `collation`: that of text columns without one of their own. */
export const columnDefinition = (
  context: StatementContext,
  cursor: Cursor,
  collation: string | undefined
): { readonly column: Column; readonly key: boolean } => {
  const name = cursor.identifier()
  const type = cursor.type()
  let nullable = true
  let key = false
  let standard: Column["default"]
  let comment: string | undefined
  let collated = type.kind === "TEXT" ? collation : undefined
  while (!cursor.done) {
    if (cursor.accept("NOT", "NULL")) nullable = false
    else if (cursor.accept("NULL")) nullable = true
    else if (cursor.accept("PRIMARY", "KEY")) {
      nullable = false
      key = true
    } else if (
      cursor.accept("UNIQUE") || cursor.accept("ENFORCED") || cursor.accept("NOT", "ENFORCED") ||
      cursor.accept("RELY") || cursor.accept("NORELY")
    ) {
      continue
    } else if (cursor.accept("CONSTRAINT")) cursor.identifier()
    else if (cursor.accept("COMMENT")) comment = cursor.string()
    else if (cursor.accept("COLLATE")) {
      collated = Collation.parse(cursor.string())
      if (type.kind !== "TEXT") {
        throw SnowflakeError.invalidOption("Cannot specify a collation for a non-string column.")
      }
    } else if (cursor.accept("DEFAULT")) {
      const start = cursor.at
      while (
        !cursor.done && !isWord(cursor.peek(), "NOT", "PRIMARY", "UNIQUE", "COMMENT", "CONSTRAINT", "COLLATE") &&
        !(isWord(cursor.peek(), "NULL") && cursor.at > start)
      ) cursor.at++
      const tokens = cursor.tokens.slice(start, cursor.at)
      standard = {
        text: context.source.slice(tokens[0]?.at ?? 0, tokens[tokens.length - 1]?.end ?? 0),
        sql: defaultCast(defaultSql(context, tokens), type)
      }
    } else if (isWord(cursor.peek(), "AUTOINCREMENT", "IDENTITY")) {
      throw SnowflakeError.unsupported("AUTOINCREMENT and IDENTITY")
    } else if (isWord(cursor.peek(), "MASKING", "TAG", "WITH", "REFERENCES", "FOREIGN", "AS")) {
      throw SnowflakeError.unsupported(`${cursor.identifier()} of a column`)
    } else throw cursor.unexpected()
  }
  return {
    column: CatalogRecords.column(name, type, { nullable, default: standard, comment, collation: collated }),
    key
  }
}

/** A constant or the time, as the column's type. DuckDB takes no lambda in a default, so this does without the macros that hold one. */
const defaultCast = (sql: string, type: SnowflakeType): string => {
  switch (type.kind) {
    case "BINARY":
      return Cast.cast(sql, type)
    case "TEXT":
      return `CASE WHEN length(CAST(${sql} AS VARCHAR)) > ${type.length} THEN ${
        failure(
          "100078",
          "22000",
          `String is too long and would be truncated: the column holds ${type.length} characters`
        )
      } ELSE CAST(${sql} AS VARCHAR) END`
    default:
      return `CAST(${sql} AS ${Types.duckdbType(type)})`
  }
}

/** CURRENT_TIMESTAMP in a default means the time of the insert, not of the definition. */
const defaultSql = (context: StatementContext, tokens: ReadonlyArray<Token>): string => {
  const environment = Statement.environment(context)
  return Expression.write(
    tokens,
    Query.scopeOf({
      ...environment,
      context: (name) => name === "CURRENT_TIMESTAMP" ? "get_current_timestamp()" : environment.context(name)
    })
  ).sql
}

export const columnSql = (column: Column): string =>
  `${Identifier.quote(column.duckdbName)} ${column.duckdbType}${Collation.duckdb(column.collation)}${
    column.nullable ? "" : " NOT NULL"
  }${column.default === undefined ? "" : ` DEFAULT (${column.default.sql})`}`

export const refuseDuplicateNames = (columns: ReadonlyArray<Column>): void => {
  const names = new Set<string>()
  for (const { name } of columns) {
    if (names.has(name)) throw SnowflakeError.duplicateColumn(name)
    names.add(name)
  }
}

const columnList = (context: StatementContext, tokens: ReadonlyArray<Token>, collation: string | undefined) => {
  const columns: Array<Column> = []
  const keys: Array<string> = []
  for (const item of commas(tokens)) {
    const cursor = new Cursor(context.source, item)
    if (cursor.accept("CONSTRAINT")) cursor.identifier()
    if (cursor.accept("PRIMARY", "KEY")) {
      for (const part of cursor.group().items) if (part.kind === "word" || part.kind === "quoted") keys.push(part.text)
      continue
    }
    if (cursor.accept("UNIQUE") || cursor.accept("FOREIGN", "KEY")) {
      cursor.rest()
      continue
    }
    const { column, key } = columnDefinition(context, cursor, collation)
    columns.push(column)
    if (key) keys.push(column.name)
  }
  refuseDuplicateNames(columns)
  for (const key of keys) {
    if (!columns.some((column) => column.name === key)) throw SnowflakeError.invalidIdentifier(Identifier.print(key))
  }
  // A primary key's columns are NOT NULL, and that is enforced.
  return {
    columns: columns.map((column) => keys.includes(column.name) ? { ...column, nullable: false } : column),
    keys
  }
}

export const create = (context: StatementContext, cursor: Cursor, { replace, words }: Definition.Head): Run<Outcome> =>
  Effect.gen(function*() {
    const temporary = words.has("TEMPORARY") || words.has("TEMP") || words.has("VOLATILE")
    const plan = yield* Statement.parse(() => {
      const ifNotExists = cursor.accept("IF", "NOT", "EXISTS")
      const [database, schema, name] = Statement.fullPath(context.session, cursor.path())
      Statement.requireSchema(context, database, schema)
      if (!temporary) Privileges.requireCreate(context, "TABLE", database, schema)
      const definitions = isGroup(cursor.peek()) ? cursor.group().items : undefined
      let like: Table | undefined
      if (definitions === undefined && cursor.accept("LIKE")) like = Statement.requireTable(context, cursor.path())
      if (isWord(cursor.peek(), "CLONE")) throw SnowflakeError.unsupported("CREATE TABLE … CLONE")
      const optionTokens = new Cursor(context.source, cursor.until("AS"))
      const settings = Definition.options(optionTokens, Definition.tableOptions)
      const given = definitions === undefined
        ? undefined
        : columnList(context, definitions, defaultCollation(context, { database, schema, options: settings }))
      const query = cursor.accept("AS") ? Query.write(cursor.rest(), Statement.environment(context)) : undefined
      cursor.end()
      if (given === undefined && like === undefined && query === undefined) throw cursor.unexpected()
      return { ifNotExists, database, schema, name, given, like, settings, query }
    })
    const { database, given, ifNotExists, like, name, query, schema, settings } = plan
    const path = [database, schema, name]
    if (query !== undefined) yield* Statement.requireWarehouse(context)
    const selected = query === undefined ? undefined : yield* Select.describe(context, query)
    const columns = given?.columns ?? like?.columns ?? selected?.map((column) =>
      CatalogRecords.column(column.name, column.type)
    ) ?? []
    yield* Statement.parse(() => refuseDuplicateNames(columns))
    const id = CatalogRecords.newId()
    const duckdb = temporary
      ? `"_temporary".${Identifier.quote(`${context.session.id}.${id}`)}`
      : Identifier.qualified(database, schema, name)
    const { COMMENT: comment, ...rest } = settings
    const table: Table = {
      kind: "TABLE",
      database,
      schema,
      name,
      id,
      createdOn: context.now,
      owner: context.session.role,
      columns,
      duckdb,
      lifetime: temporary ? "TEMPORARY" : words.has("TRANSIENT") ? "TRANSIENT" : "PERMANENT",
      primaryKey: given?.keys ?? like?.primaryKey ?? [],
      options: rest,
      comment
    }
    const values = query === undefined ? undefined : yield* Effect.gen(function*() {
      const types = yield* Statement.typesOf(context, query)
      return yield* Statement.parse(() => {
        if (types.length !== columns.length) throw SnowflakeError.valueCount(columns.length, types.length)
        return columns.map((column, index) => {
          const type = types[index]
          return type === undefined ? "NULL" : Assignment.assign(column, `"c${index}"`, type)
        })
      })
    })
    const created = yield* (replace ? Definition.changeExisting : Definition.change)(context, (changes) =>
      Effect.gen(function*() {
        const existing = temporary
          ? Statement.temporaryTable(context.session, path)
          : context.services.catalog.relation(database, schema, name)
        if (existing !== undefined) {
          if (ifNotExists) {
            return false
          }
          if (!replace) {
            return yield* SnowflakeError.alreadyExists(Statement.printPath(path))
          }
          if (existing.kind !== "TABLE") {
            return yield* SnowflakeError.alreadyExists(Statement.printPath(path))
          }
          yield* Statement.parse(() =>
            Privileges.requireOwnership(context, existing)
          )
          yield* Storage.run(changes.connection, `DROP TABLE ${existing.duckdb}`)
        }
        yield* Storage.run(changes.connection, `CREATE TABLE ${duckdb} (${columns.map(columnSql).join(", ")})`)
        if (query !== undefined && values !== undefined) {
          yield* Storage.run(
            changes.connection,
            `INSERT INTO ${duckdb} SELECT ${values.join(", ")} FROM (${query}) AS "source"(${
              columns.map((_, index) => `"c${index}"`).join(", ")
            })`
          )
        }
        if (!temporary) {
          yield* changes.put(table)
        }
        return true
      }))
    if (!created) {
      return Definition.done("CREATE_TABLE", `${Identifier.print(name)} already exists, statement succeeded.`)
    }
    if (temporary) {
      Statement.putTemporary(context.session, table)
    }
    return Definition.done("CREATE_TABLE", `Table ${Identifier.print(name)} successfully created.`)
  })
