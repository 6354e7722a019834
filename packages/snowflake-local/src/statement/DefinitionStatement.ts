/**
 * CREATE of databases, schemas, tables, views, stages, pipes, streams and tasks.
 *
 * Definitions commit what the session's transaction has done before, and are committed themselves: DuckDB's tables and the catalog's records in one DuckDB
 * transaction. Constraints other than NOT NULL are read and kept for show: Snowflake doesn't enforce them either.
 */
import * as Effect from "effect/Effect"
import type { Changes, Pipe } from "../Catalog.ts"
import * as CatalogRecords from "../Catalog.ts"
import * as SnowflakeError from "../SnowflakeError.ts"
import * as Collation from "../sql/Collation.ts"
import { Cursor, isGroup, isWord } from "../sql/Cursor.ts"
import * as Identifier from "../sql/Identifier.ts"
import * as Query from "../sql/Query.ts"
import type { Token } from "../sql/Token.ts"
import { unexpectedToken } from "../sql/Token.ts"
import * as Storage from "../Storage.ts"
import * as Container from "./ContainerStatement.ts"
import * as Definition from "./DefinitionChange.ts"
import * as GrantStatement from "./GrantStatement.ts"
import * as Privileges from "./Privileges.ts"
import * as Select from "./SelectStatement.ts"
import type { Outcome, Run, StatementContext } from "./StatementContext.ts"
import * as Statement from "./StatementContext.ts"
import * as StreamStatement from "./StreamStatement.ts"
import * as TableDefinition from "./TableDefinition.ts"
import * as TaskStatement from "./TaskStatement.ts"

const createView = (context: StatementContext, cursor: Cursor, { replace }: Definition.Head): Run<Outcome> =>
  Effect.gen(function*() {
    const plan = yield* Statement.parse(() => {
      const ifNotExists = cursor.accept("IF", "NOT", "EXISTS")
      const [database, schema, name] = Statement.fullPath(context.session, cursor.path())
      Statement.requireSchema(context, database, schema)
      Privileges.requireCreate(context, "VIEW", database, schema)
      const names = isGroup(cursor.peek())
        ? cursor.group().items.flatMap((token) => token.kind === "word" || token.kind === "quoted" ? [token.text] : [])
        : undefined
      const head = new Cursor(context.source, cursor.until("AS"))
      // Without privileges there are none to copy.
      head.accept("COPY", "GRANTS")
      const settings = Definition.options(head, new Set(["COMMENT"]))
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
    const created = yield* Definition.change(context, (changes) =>
      Effect.gen(function*() {
        const existing = context.services.catalog.relation(database, schema, name)
        if (existing !== undefined) {
          if (plan.ifNotExists) return false
          if (!replace || existing.kind !== "VIEW") {
            return yield* SnowflakeError.alreadyExists(Statement.printPath([database, schema, name]))
          }
          yield* Statement.parse(() => Privileges.requireOwnership(context, existing))
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
          owner: context.session.role,
          columns,
          duckdb,
          text: plan.text,
          comment: plan.settings["COMMENT"]
        })
        return true
      }))
    return Definition.done(
      "CREATE_VIEW",
      created
        ? `View ${Identifier.print(name)} successfully created.`
        : `${Identifier.print(name)} already exists, statement succeeded.`
    )
  })

const refuseDots = (name: string): void => {
  if (name.includes(".")) throw SnowflakeError.unsupported("a dot in the name of a database or schema")
}

const createDatabase = (context: StatementContext, cursor: Cursor, { replace }: Definition.Head): Run<Outcome> =>
  Effect.gen(function*() {
    const plan = yield* Statement.parse(() => {
      const ifNotExists = cursor.accept("IF", "NOT", "EXISTS")
      const name = cursor.identifier()
      refuseDots(name)
      const { DEFAULT_DDL_COLLATION: collation } = Definition.options(cursor, Container.options)
      Collation.parse(collation ?? "")
      Privileges.requireOnAccount(context, "CREATE DATABASE")
      return { ifNotExists, name, collation }
    })
    const { catalog } = context.services
    const created = yield* Definition.change(context, (changes) =>
      Effect.gen(function*() {
        if (catalog.hasDatabase(plan.name)) {
          if (plan.ifNotExists) return false
          if (!replace) return yield* SnowflakeError.alreadyExists(Identifier.print(plan.name))
          yield* Statement.parse(() => Privileges.requireOnDatabase(context, "OWNERSHIP", plan.name))
          yield* removeDatabase(context, changes, plan.name)
        }
        yield* changes.putDatabase(plan.name, context.session.role)
        yield* changes.setCollation(plan.name, undefined, plan.collation)
        yield* changes.putSchema(plan.name, "PUBLIC", context.session.role)
        return true
      }))
    if (!created) {
      return Definition.done("CREATE_DATABASE", `${Identifier.print(plan.name)} already exists, statement succeeded.`)
    }
    context.session.database = plan.name
    context.session.schema = "PUBLIC"
    return Definition.done("CREATE_DATABASE", `Database ${Identifier.print(plan.name)} successfully created.`)
  })

/** Removes a database with all that is in it. */
export const removeDatabase = (context: StatementContext, changes: Changes, name: string) =>
  Effect.gen(function*() {
    for (const schema of context.services.catalog.schemas(name)) yield* changes.removeSchema(name, schema.name)
    yield* changes.removeDatabase(name)
  })

const createSchema = (context: StatementContext, cursor: Cursor, { replace }: Definition.Head): Run<Outcome> =>
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
      if (!context.services.catalog.hasSchema(database, name)) {
        Privileges.requireOnDatabase(context, "CREATE SCHEMA", database)
      }
      cursor.accept("WITH", "MANAGED", "ACCESS")
      const { DEFAULT_DDL_COLLATION: collation } = Definition.options(cursor, Container.options)
      Collation.parse(collation ?? "")
      return { ifNotExists, database, name, collation }
    })
    const { database, name } = plan
    const created = yield* Definition.change(context, (changes) =>
      Effect.gen(function*() {
        if (context.services.catalog.hasSchema(database, name)) {
          if (plan.ifNotExists) return false
          if (!replace) return yield* SnowflakeError.alreadyExists(Identifier.print(name))
          yield* Statement.parse(() => Privileges.requireOnSchema(context, "OWNERSHIP", database, name))
          yield* changes.removeSchema(database, name)
        }
        yield* changes.putSchema(database, name, context.session.role)
        yield* changes.setCollation(database, name, plan.collation)
        return true
      }))
    if (!created) {
      return Definition.done("CREATE_SCHEMA", `${Identifier.print(name)} already exists, statement succeeded.`)
    }
    context.session.database = database
    context.session.schema = name
    return Definition.done("CREATE_SCHEMA", `Schema ${Identifier.print(name)} successfully created.`)
  })

const stageOptions = new Set(["COMMENT", "FILE_FORMAT", "COPY_OPTIONS", "DIRECTORY", "ENCRYPTION"])

const createStage = (context: StatementContext, cursor: Cursor, { replace }: Definition.Head): Run<Outcome> =>
  Effect.gen(function*() {
    const plan = yield* Statement.parse(() => {
      const ifNotExists = cursor.accept("IF", "NOT", "EXISTS")
      const [database, schema, name] = Statement.fullPath(context.session, cursor.path())
      Statement.requireSchema(context, database, schema)
      Privileges.requireCreate(context, "STAGE", database, schema)
      const settings = Definition.options(cursor, stageOptions)
      if (settings["FILE_FORMAT"] !== undefined || settings["COPY_OPTIONS"] !== undefined) {
        throw SnowflakeError.unsupported("FILE_FORMAT and COPY_OPTIONS of a stage: give them to COPY INTO")
      }
      return { ifNotExists, database, schema, name, comment: settings["COMMENT"] }
    })
    const { comment, database, name, schema } = plan
    const created = yield* Definition.change(context, (changes) =>
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
          owner: context.session.role,
          comment
        })
        return true
      }))
    return Definition.done(
      "CREATE_STAGE",
      created
        ? `Stage area ${Identifier.print(name)} successfully created.`
        : `${Identifier.print(name)} already exists, statement succeeded.`
    )
  })

const createPipe = (context: StatementContext, cursor: Cursor, { replace }: Definition.Head): Run<Outcome> =>
  Effect.gen(function*() {
    const plan = yield* Statement.parse(() => {
      const ifNotExists = cursor.accept("IF", "NOT", "EXISTS")
      const [database, schema, name] = Statement.fullPath(context.session, cursor.path())
      Statement.requireSchema(context, database, schema)
      Privileges.requireCreate(context, "PIPE", database, schema)
      const settings = Definition.options(
        new Cursor(context.source, cursor.until("AS")),
        new Set(["COMMENT", "CLUSTER_AT_INGEST_TIME"])
      )
      cursor.expect("AS")
      const body = cursor.rest()
      const copy = context.source.slice(body[0]?.at ?? 0)
      return { ifNotExists, name, database, schema, comment: settings["COMMENT"], copy, ...pipeCopy(context, body) }
    })
    const { ifNotExists, ...rest } = plan
    const pipe: Pipe = {
      kind: "PIPE",
      id: CatalogRecords.newId(),
      createdOn: context.now,
      owner: context.session.role,
      ...rest
    }
    const created = yield* Definition.change(context, (changes) =>
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
    return Definition.done(
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
  Privileges.requireDml(context, table, "INSERT")
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
  const settings = Definition.options(cursor, new Set(["MATCH_BY_COLUMN_NAME"]))
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
    const start = yield* Statement.parse(() => ({ head: Definition.head(cursor), kind: cursor.identifier() }))
    switch (start.kind) {
      case "TABLE":
        return yield* TableDefinition.create(context, cursor, start.head)
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
      case "ROLE":
        return yield* GrantStatement.createRole(context, cursor, start.head)
      case "STREAM":
        return yield* StreamStatement.create(context, cursor, start.head)
      case "TASK":
        return yield* TaskStatement.create(context, cursor, start.head)
      default:
        return yield* SnowflakeError.unsupported(`CREATE ${start.kind}`)
    }
  })
