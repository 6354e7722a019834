/**
 * CREATE and DROP of databases, schemas, tables, views, stages and pipes.
 *
 * Definitions commit what the session's transaction has done before, and are committed themselves: DuckDB's tables and the catalog's records in one DuckDB
 * transaction. Constraints other than NOT NULL are read and kept for show: Snowflake doesn't enforce them either.
 */
import * as Effect from "effect/Effect"
import type { Changes, Column, Pipe, Table } from "../Catalog.ts"
import * as CatalogRecords from "../Catalog.ts"
import * as DuckdbError from "../DuckdbError.ts"
import * as ResultRows from "../ResultRows.ts"
import * as Session from "../Session.ts"
import * as SnowflakeError from "../SnowflakeError.ts"
import { Cursor, isGroup, isWord } from "../sql/Cursor.ts"
import * as Expression from "../sql/Expression.ts"
import * as Identifier from "../sql/Identifier.ts"
import * as Query from "../sql/Query.ts"
import { commas, unexpectedToken } from "../sql/Token.ts"
import type { Token } from "../sql/Token.ts"
import * as Storage from "../Storage.ts"
import * as Assignment from "./Assignment.ts"
import * as Select from "./SelectStatement.ts"
import type { Outcome, Run, StatementContext } from "./StatementContext.ts"
import * as Statement from "./StatementContext.ts"

export const done = (kind: string, message: string): Outcome => ({
  kind,
  typeId: Statement.typeIds.definition,
  result: ResultRows.status(message)
})

/** Changes the catalog and DuckDB, after committing the session's transaction. */
export const change = <A>(
  context: StatementContext,
  change: (changes: Changes) => Effect.Effect<A, SnowflakeError.SnowflakeError | Storage.StorageError>
): Run<A> =>
  Effect.gen(function*() {
    yield* Session.commit(context.session, context.services.locks)
    return yield* context.services.catalog.change(change).pipe(
      Effect.mapError((error) => error instanceof SnowflakeError.SnowflakeError ? error : DuckdbError.from(error))
    )
  })

interface Head {
  readonly replace: boolean
  readonly words: ReadonlySet<string>
}

const head = (cursor: Cursor): Head => {
  cursor.expect("CREATE")
  const replace = cursor.accept("OR", "REPLACE")
  const words = new Set<string>()
  while (
    isWord(cursor.peek(), "TRANSIENT", "TEMPORARY", "TEMP", "VOLATILE", "LOCAL", "GLOBAL", "SECURE", "RECURSIVE")
  ) {
    words.add(cursor.identifier())
  }
  return { replace, words }
}

/** Options behind a definition: NAME = value, COMMENT = '…', CLUSTER BY (…). Unknown ones are refused. */
export const options = (cursor: Cursor, allowed: ReadonlySet<string>): Record<string, string> => {
  const out: Record<string, string> = {}
  while (!cursor.done) {
    cursor.acceptOp(",")
    if (cursor.accept("CLUSTER", "BY")) {
      const group = cursor.group()
      out["CLUSTER_BY"] = cursor.source.slice(group.at, group.end)
      continue
    }
    const name = cursor.identifier()
    if (!allowed.has(name)) {
      cursor.at--
      throw cursor.unexpected()
    }
    cursor.expectOp("=")
    const token = cursor.next()
    out[name] = token.kind === "group" ? cursor.source.slice(token.at, token.end) : token.text
  }
  return out
}

const tableOptions = new Set([
  "DATA_RETENTION_TIME_IN_DAYS",
  "MAX_DATA_EXTENSION_TIME_IN_DAYS",
  "CHANGE_TRACKING",
  "ENABLE_SCHEMA_EVOLUTION",
  "DEFAULT_DDL_COLLATION",
  "COMMENT",
  "ERROR_LOGGING",
  "STAGE_FILE_FORMAT",
  "COPY_GRANTS"
])
export { tableOptions }

/** One column of CREATE TABLE or ADD COLUMN. */
export const columnDefinition = (
  context: StatementContext,
  cursor: Cursor
): { readonly column: Column; readonly key: boolean } => {
  const name = cursor.identifier()
  const type = cursor.type()
  let nullable = true
  let key = false
  let standard: Column["default"]
  let comment: string | undefined
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
    else if (cursor.accept("DEFAULT")) {
      const start = cursor.at
      while (
        !cursor.done && !isWord(cursor.peek(), "NOT", "PRIMARY", "UNIQUE", "COMMENT", "CONSTRAINT") &&
        !(isWord(cursor.peek(), "NULL") && cursor.at > start)
      ) cursor.at++
      const tokens = cursor.tokens.slice(start, cursor.at)
      standard = {
        text: context.source.slice(tokens[0]?.at ?? 0, tokens[tokens.length - 1]?.end ?? 0),
        sql: Expression.cast(defaultSql(context, tokens), type)
      }
    } else if (isWord(cursor.peek(), "AUTOINCREMENT", "IDENTITY")) {
      throw SnowflakeError.unsupported("AUTOINCREMENT and IDENTITY")
    } else if (isWord(cursor.peek(), "COLLATE", "MASKING", "TAG", "WITH", "REFERENCES", "FOREIGN", "AS")) {
      throw SnowflakeError.unsupported(`${cursor.identifier()} of a column`)
    } else throw cursor.unexpected()
  }
  return { column: CatalogRecords.column(name, type, { nullable, default: standard, comment }), key }
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
  `${Identifier.quote(column.duckdbName)} ${column.duckdbType}${column.nullable ? "" : " NOT NULL"}${
    column.default === undefined ? "" : ` DEFAULT (${column.default.sql})`
  }`

export const refuseDuplicateNames = (columns: ReadonlyArray<Column>): void => {
  const names = new Set<string>()
  for (const { name } of columns) {
    if (names.has(name)) throw SnowflakeError.duplicateColumn(name)
    names.add(name)
  }
}

const columnList = (context: StatementContext, tokens: ReadonlyArray<Token>) => {
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
    const { column, key } = columnDefinition(context, cursor)
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

const createTable = (context: StatementContext, cursor: Cursor, { replace, words }: Head): Run<Outcome> =>
  Effect.gen(function*() {
    const plan = yield* Statement.parse(() => {
      const ifNotExists = cursor.accept("IF", "NOT", "EXISTS")
      const [database, schema, name] = Statement.fullPath(context.session, cursor.path())
      Statement.requireSchema(context, database, schema)
      const given = isGroup(cursor.peek()) ? columnList(context, cursor.group().items) : undefined
      let like: Table | undefined
      if (given === undefined && cursor.accept("LIKE")) like = Statement.requireTable(context, cursor.path())
      if (isWord(cursor.peek(), "CLONE")) throw SnowflakeError.unsupported("CREATE TABLE … CLONE")
      const optionTokens = new Cursor(context.source, cursor.until("AS"))
      const settings = options(optionTokens, tableOptions)
      const query = cursor.accept("AS") ? Query.write(cursor.rest(), Statement.environment(context)) : undefined
      cursor.end()
      if (given === undefined && like === undefined && query === undefined) throw cursor.unexpected()
      return { ifNotExists, database, schema, name, given, like, settings, query }
    })
    const { database, given, ifNotExists, like, name, query, schema, settings } = plan
    const path = [database, schema, name]
    const temporary = words.has("TEMPORARY") || words.has("TEMP") || words.has("VOLATILE")
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
    const created = yield* change(context, (changes) =>
      Effect.gen(function*() {
        const existing = temporary
          ? Statement.temporaryTable(context.session, path)
          : context.services.catalog.relation(database, schema, name)
        if (existing !== undefined) {
          if (ifNotExists) return false
          if (!replace) return yield* SnowflakeError.alreadyExists(Statement.printPath(path))
          if (existing.kind !== "TABLE") return yield* SnowflakeError.alreadyExists(Statement.printPath(path))
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
        if (!temporary) yield* changes.put(table)
        return true
      }))
    if (!created) return done("CREATE_TABLE", `${Identifier.print(name)} already exists, statement succeeded.`)
    if (temporary) Statement.putTemporary(context.session, table)
    return done("CREATE_TABLE", `Table ${Identifier.print(name)} successfully created.`)
  })

const createView = (context: StatementContext, cursor: Cursor, { replace }: Head): Run<Outcome> =>
  Effect.gen(function*() {
    const plan = yield* Statement.parse(() => {
      const ifNotExists = cursor.accept("IF", "NOT", "EXISTS")
      const [database, schema, name] = Statement.fullPath(context.session, cursor.path())
      Statement.requireSchema(context, database, schema)
      const names = isGroup(cursor.peek())
        ? cursor.group().items.flatMap((token) => token.kind === "word" || token.kind === "quoted" ? [token.text] : [])
        : undefined
      const settings = options(new Cursor(context.source, cursor.until("AS")), new Set(["COMMENT"]))
      cursor.expect("AS")
      const body = cursor.rest()
      const query = Query.write(body, Statement.environment(context), new Set(), true)
      return {
        ifNotExists,
        database,
        schema,
        name,
        names,
        settings,
        query,
        text: context.source.slice(body[0]?.at ?? 0)
      }
    })
    const { database, name, schema } = plan
    const selected = yield* Select.describe(context, plan.query)
    const columns = selected.map((column, index) =>
      CatalogRecords.column(plan.names?.[index] ?? column.name, column.type)
    )
    const duckdb = Identifier.qualified(database, schema, name)
    const created = yield* change(context, (changes) =>
      Effect.gen(function*() {
        const existing = context.services.catalog.relation(database, schema, name)
        if (existing !== undefined) {
          if (plan.ifNotExists) return false
          if (!replace || existing.kind !== "VIEW") {
            return yield* SnowflakeError.alreadyExists(Statement.printPath([database, schema, name]))
          }
          yield* Storage.run(changes.connection, `DROP VIEW ${duckdb}`)
        }
        const names = columns.map((column) => Identifier.quote(column.duckdbName)).join(", ")
        yield* Storage.run(changes.connection, `CREATE VIEW ${duckdb}(${names}) AS ${plan.query}`)
        yield* changes.put({
          kind: "VIEW",
          database,
          schema,
          name,
          id: CatalogRecords.newId(),
          createdOn: context.now,
          columns,
          duckdb,
          text: plan.text,
          comment: plan.settings["COMMENT"]
        })
        return true
      }))
    return done(
      "CREATE_VIEW",
      created
        ? `View ${Identifier.print(name)} successfully created.`
        : `${Identifier.print(name)} already exists, statement succeeded.`
    )
  })

const containerOptions = new Set(["COMMENT", "DATA_RETENTION_TIME_IN_DAYS", "MAX_DATA_EXTENSION_TIME_IN_DAYS"])

const refuseDots = (name: string): void => {
  if (name.includes(".")) throw SnowflakeError.unsupported("a dot in the name of a database or schema")
}

const createDatabase = (context: StatementContext, cursor: Cursor, { replace }: Head): Run<Outcome> =>
  Effect.gen(function*() {
    const plan = yield* Statement.parse(() => {
      const ifNotExists = cursor.accept("IF", "NOT", "EXISTS")
      const name = cursor.identifier()
      refuseDots(name)
      options(cursor, containerOptions)
      return { ifNotExists, name }
    })
    const { catalog } = context.services
    const created = yield* change(context, (changes) =>
      Effect.gen(function*() {
        if (catalog.hasDatabase(plan.name)) {
          if (plan.ifNotExists) return false
          if (!replace) return yield* SnowflakeError.alreadyExists(Identifier.print(plan.name))
          yield* removeDatabase(context, changes, plan.name)
        }
        yield* changes.putDatabase(plan.name)
        yield* changes.putSchema(plan.name, "PUBLIC")
        return true
      }))
    if (!created) return done("CREATE_DATABASE", `${Identifier.print(plan.name)} already exists, statement succeeded.`)
    context.session.database = plan.name
    context.session.schema = "PUBLIC"
    return done("CREATE_DATABASE", `Database ${Identifier.print(plan.name)} successfully created.`)
  })

const removeDatabase = (context: StatementContext, changes: Changes, name: string) =>
  Effect.gen(function*() {
    for (const schema of context.services.catalog.schemas(name)) yield* changes.removeSchema(name, schema.name)
    yield* changes.removeDatabase(name)
  })

const createSchema = (context: StatementContext, cursor: Cursor, { replace }: Head): Run<Outcome> =>
  Effect.gen(function*() {
    const plan = yield* Statement.parse(() => {
      const ifNotExists = cursor.accept("IF", "NOT", "EXISTS")
      const path = cursor.path()
      const [first = "", second] = path
      const database = second === undefined ? context.session.database : first
      const name = second ?? first
      if (database === undefined) throw SnowflakeError.noCurrentDatabase()
      if (!context.services.catalog.hasDatabase(database)) {
        throw SnowflakeError.containerNotFound("Database", Identifier.print(database))
      }
      refuseDots(name)
      cursor.accept("WITH", "MANAGED", "ACCESS")
      options(cursor, containerOptions)
      return { ifNotExists, database, name }
    })
    const { database, name } = plan
    const created = yield* change(context, (changes) =>
      Effect.gen(function*() {
        if (context.services.catalog.hasSchema(database, name)) {
          if (plan.ifNotExists) return false
          if (!replace) return yield* SnowflakeError.alreadyExists(Identifier.print(name))
          yield* changes.removeSchema(database, name)
        }
        yield* changes.putSchema(database, name)
        return true
      }))
    if (!created) return done("CREATE_SCHEMA", `${Identifier.print(name)} already exists, statement succeeded.`)
    context.session.database = database
    context.session.schema = name
    return done("CREATE_SCHEMA", `Schema ${Identifier.print(name)} successfully created.`)
  })

const stageOptions = new Set(["COMMENT", "FILE_FORMAT", "COPY_OPTIONS", "DIRECTORY", "ENCRYPTION"])

const createStage = (context: StatementContext, cursor: Cursor, { replace }: Head): Run<Outcome> =>
  Effect.gen(function*() {
    const plan = yield* Statement.parse(() => {
      const ifNotExists = cursor.accept("IF", "NOT", "EXISTS")
      const [database, schema, name] = Statement.fullPath(context.session, cursor.path())
      Statement.requireSchema(context, database, schema)
      const settings = options(cursor, stageOptions)
      if (settings["FILE_FORMAT"] !== undefined || settings["COPY_OPTIONS"] !== undefined) {
        throw SnowflakeError.unsupported("FILE_FORMAT and COPY_OPTIONS of a stage: give them to COPY INTO")
      }
      return { ifNotExists, database, schema, name, comment: settings["COMMENT"] }
    })
    const { comment, database, name, schema } = plan
    const created = yield* change(context, (changes) =>
      Effect.gen(function*() {
        if (context.services.catalog.stage(database, schema, name) !== undefined) {
          if (plan.ifNotExists) return false
          if (!replace) return yield* SnowflakeError.alreadyExists(Statement.printPath([database, schema, name]))
        }
        yield* changes.put({
          kind: "STAGE",
          database,
          schema,
          name,
          id: CatalogRecords.newId(),
          createdOn: context.now,
          comment
        })
        return true
      }))
    return done(
      "CREATE_STAGE",
      created
        ? `Stage area ${Identifier.print(name)} successfully created.`
        : `${Identifier.print(name)} already exists, statement succeeded.`
    )
  })

const createPipe = (context: StatementContext, cursor: Cursor, { replace }: Head): Run<Outcome> =>
  Effect.gen(function*() {
    const plan = yield* Statement.parse(() => {
      const ifNotExists = cursor.accept("IF", "NOT", "EXISTS")
      const [database, schema, name] = Statement.fullPath(context.session, cursor.path())
      Statement.requireSchema(context, database, schema)
      const settings = options(
        new Cursor(context.source, cursor.until("AS")),
        new Set(["COMMENT", "CLUSTER_AT_INGEST_TIME"])
      )
      cursor.expect("AS")
      const body = cursor.rest()
      const copy = context.source.slice(body[0]?.at ?? 0)
      return { ifNotExists, name, database, schema, comment: settings["COMMENT"], copy, ...pipeCopy(context, body) }
    })
    const { ifNotExists, ...rest } = plan
    const pipe: Pipe = { kind: "PIPE", id: CatalogRecords.newId(), createdOn: context.now, ...rest }
    const created = yield* change(context, (changes) =>
      Effect.gen(function*() {
        if (context.services.catalog.pipe(pipe.database, pipe.schema, pipe.name) !== undefined) {
          if (ifNotExists) return false
          if (!replace) {
            return yield* SnowflakeError.alreadyExists(Statement.printPath([pipe.database, pipe.schema, pipe.name]))
          }
        }
        yield* changes.put(pipe)
        return true
      }))
    return done(
      "CREATE_PIPE",
      created
        ? `Pipe ${Identifier.print(pipe.name)} successfully created.`
        : `${Identifier.print(pipe.name)} already exists, statement succeeded.`
    )
  })

/** COPY INTO t [(columns)] FROM (SELECT … FROM TABLE(DATA_SOURCE(TYPE => 'STREAMING'))) or FROM TABLE(DATA_SOURCE(…)) MATCH_BY_COLUMN_NAME = … */
const pipeCopy = (
  context: StatementContext,
  body: ReadonlyArray<Token>
): Pick<Pipe, "target" | "columns" | "select" | "matchByColumnName"> => {
  const cursor = new Cursor(context.source, body)
  cursor.expect("COPY", "INTO")
  const table = Statement.requireTable(context, cursor.path())
  const columns = isGroup(cursor.peek())
    ? cursor.group().items.flatMap((token) => token.kind === "word" || token.kind === "quoted" ? [token.text] : [])
    : []
  cursor.expect("FROM")
  const from = cursor.next()
  let select: string | undefined
  if (isGroup(from)) {
    select = context.source.slice(from.at + 1, from.end - 1)
    if (!JSON.stringify(from.items).includes("DATA_SOURCE")) {
      throw SnowflakeError.unsupported("a pipe that doesn't read TABLE(DATA_SOURCE(TYPE => 'STREAMING'))")
    }
  } else if (isWord(from, "TABLE")) {
    if (!isWord(cursor.group().items[0], "DATA_SOURCE")) throw cursor.unexpected()
  } else if (from.kind === "stage") throw SnowflakeError.unsupported("a pipe that reads a stage")
  else throw unexpectedToken(context.source, from)
  const settings = options(cursor, new Set(["MATCH_BY_COLUMN_NAME"]))
  return {
    target: { database: table.database, schema: table.schema, name: table.name },
    columns,
    select,
    matchByColumnName: settings["MATCH_BY_COLUMN_NAME"]?.toUpperCase() ?? "NONE"
  }
}

export const create = (context: StatementContext): Run<Outcome> =>
  Effect.gen(function*() {
    const cursor = Statement.cursorOf(context)
    const start = yield* Statement.parse(() => ({ head: head(cursor), kind: cursor.identifier() }))
    switch (start.kind) {
      case "TABLE":
        return yield* createTable(context, cursor, start.head)
      case "VIEW":
        return yield* createView(context, cursor, start.head)
      case "DATABASE":
        return yield* createDatabase(context, cursor, start.head)
      case "SCHEMA":
        return yield* createSchema(context, cursor, start.head)
      case "STAGE":
        return yield* createStage(context, cursor, start.head)
      case "PIPE":
        return yield* createPipe(context, cursor, start.head)
      default:
        return yield* SnowflakeError.unsupported(`CREATE ${start.kind}`)
    }
  })

export const drop = (context: StatementContext): Run<Outcome> =>
  Effect.gen(function*() {
    const cursor = Statement.cursorOf(context)
    const plan = yield* Statement.parse(() => {
      cursor.expect("DROP")
      const kind = cursor.identifier()
      const ifExists = cursor.accept("IF", "EXISTS")
      const path = cursor.path()
      if (!cursor.accept("CASCADE")) cursor.accept("RESTRICT")
      cursor.end()
      return { kind, ifExists, path }
    })
    const { ifExists, kind, path } = plan
    const { catalog } = context.services
    const printed = Identifier.print(path[path.length - 1] ?? "")
    const absent = (error: SnowflakeError.SnowflakeError): Run<Outcome> =>
      ifExists
        ? Effect.succeed(done(`DROP_${kind}`, `Drop statement executed successfully (${printed} already dropped).`))
        : Effect.fail(error)
    const dropped = done(`DROP_${kind}`, `${printed} successfully dropped.`)
    switch (kind) {
      case "DATABASE": {
        const name = path[0] ?? ""
        if (!catalog.hasDatabase(name)) return yield* absent(SnowflakeError.containerNotFound("Database", printed))
        yield* change(context, (changes) => removeDatabase(context, changes, name))
        if (context.session.database === name) context.session.database = context.session.schema = undefined
        return dropped
      }
      case "SCHEMA": {
        const database = path.length === 1 ? context.session.database : path[0]
        const name = path[path.length - 1] ?? ""
        if (database === undefined) return yield* SnowflakeError.noCurrentDatabase()
        if (!catalog.hasSchema(database, name)) {
          return yield* absent(SnowflakeError.containerNotFound("Schema", printed))
        }
        yield* change(context, (changes) => changes.removeSchema(database, name))
        if (context.session.database === database && context.session.schema === name) context.session.schema = undefined
        return dropped
      }
      case "TABLE":
      case "VIEW": {
        const found = yield* Statement.parse(() => Statement.findRelation(context, path))
        if (found?.kind !== kind) {
          if (found === undefined && !ifExists) yield* Statement.parse(() => Statement.requireRelation(context, path))
          return yield* absent(SnowflakeError.objectNotFound(kind === "TABLE" ? "Table" : "View", printed))
        }
        const temporary = found.kind === "TABLE" && found.lifetime === "TEMPORARY"
        yield* change(context, (changes) =>
          Effect.gen(function*() {
            yield* Storage.run(changes.connection, `DROP ${kind} ${found.duckdb}`)
            yield* Storage.run(changes.connection, `DELETE FROM "_local".load_history WHERE table_id = $1`, [found.id])
            if (!temporary) yield* changes.remove(found)
          }))
        if (temporary && found.kind === "TABLE") Statement.removeTemporary(context.session, found)
        return dropped
      }
      case "STAGE":
      case "PIPE": {
        const [database, schema, name] = yield* Statement.parse(() => Statement.fullPath(context.session, path))
        const found = kind === "STAGE" ? catalog.stage(database, schema, name) : catalog.pipe(database, schema, name)
        if (found === undefined) {
          return yield* absent(
            SnowflakeError.objectNotFound(
              kind === "STAGE" ? "Stage" : "Pipe",
              Statement.printPath([database, schema, name])
            )
          )
        }
        yield* change(context, (changes) => changes.remove(found))
        return dropped
      }
      default:
        return yield* SnowflakeError.unsupported(`DROP ${kind}`)
    }
  })
