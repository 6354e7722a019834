/**
 * What every kind of statement needs: the session, the server's services, names resolved by the session's database and schema, and the ways to run DuckDB
 * SQL with Snowflake's errors.
 */
import type { DuckDBConnection, DuckDBResult, DuckDBType } from "@duckdb/node-api"
import * as Effect from "effect/Effect"
import type { Accounts } from "../Accounts.ts"
import type { Catalog, Stage, Table, View } from "../Catalog.ts"
import * as ConnectionUse from "../ConnectionUse.ts"
import * as DuckdbError from "../DuckdbError.ts"
import type { Grants } from "../Grants.ts"
import type { ResultSet } from "../ResultRows.ts"
import type { Session, TableLocks } from "../Session.ts"
import * as SnowflakeError from "../SnowflakeError.ts"
import { Cursor } from "../sql/Cursor.ts"
import type * as Environment from "../sql/Environment.ts"
import * as Identifier from "../sql/Identifier.ts"
import * as Literal from "../sql/Literal.ts"
import type { Token } from "../sql/Token.ts"
import type { StatementLog } from "../StatementLog.ts"
import * as Storage from "../Storage.ts"
import type { ChannelRecord } from "../streaming/Channel.ts"
import type { TaskRuns } from "../TaskRuns.ts"
import type { Warehouses } from "../Warehouses.ts"
import * as ErrorTable from "./ErrorTable.ts"
import * as InformationSchema from "./InformationSchema.ts"
import * as Privileges from "./Privileges.ts"
import * as StreamRelation from "./StreamRelation.ts"

export interface Services {
  readonly storage: Storage.Storage["Service"]
  /** As the statement's role sees it. */
  readonly catalog: Catalog["Service"]
  readonly accounts: Accounts["Service"]
  readonly grants: Grants["Service"]
  readonly locks: TableLocks
  readonly log: StatementLog
  readonly taskRuns: TaskRuns["Service"]
  readonly warehouses: Warehouses
  /** The channels of Snowpipe Streaming. */
  readonly channels: () => ReadonlyArray<ChannelRecord>
  /** The bearer token for uploads to a stage. */
  readonly stageToken: string
  /** Folder of results' chunks. */
  readonly resultsFolder: string
}

export interface StatementContext {
  readonly session: Session
  readonly services: Services
  readonly source: string
  readonly tokens: ReadonlyArray<Token>
  readonly queryId: string
  /** The client's request, with the tag that it gave for it alone. */
  readonly request: { readonly id: string; readonly tag: string | undefined }
  readonly now: number
  /** By which the client reaches the server, e.g. `http://127.0.0.1:8080`: there it uploads staged files. */
  readonly origin: string
  /** Literals by bind name; for array binds one map per row. */
  readonly binds: ReadonlyArray<ReadonlyMap<string, string>>
  readonly findings: Environment.Findings
  /** What the statement has done so far. */
  readonly facts: Facts
}

export interface Facts {
  /** It used the warehouse. */
  needsWarehouse: boolean
  /** The warehouse was suspended, and isn't any more. */
  wokeWarehouse: boolean
  /** It inserted rows into a table that had these streams then. */
  inserted?: { readonly table: string; readonly streams: ReadonlyArray<string> }
}

/** A finished statement. */
export interface Outcome {
  readonly kind: string
  /** The driver's statementTypeId. */
  readonly typeId: number
  readonly result: ResultSet
  /** How many rows DML changed. */
  readonly changed?: number | undefined
  /** Fields of the response besides the rows, e.g. for PUT. */
  readonly extra?: Readonly<Record<string, unknown>> | undefined
}

export type Run<A> = Effect.Effect<A, SnowflakeError.SnowflakeError>

/** statementTypeIds that the driver tells apart. */
export const typeIds = {
  select: 0x1000,
  insert: 0x3100,
  update: 0x3200,
  delete: 0x3300,
  merge: 0x3400,
  copy: 0x3800,
  control: 0x4000,
  show: 0x4100,
  definition: 0x6000
} as const

/** Runs a parser or translator, which throw SnowflakeErrors. */
export const parse = <A>(body: () => A): Run<A> =>
  Effect.try({
    try: body,
    catch: (cause) =>
      cause instanceof SnowflakeError.SnowflakeError
        ? cause
        : SnowflakeError.internal(cause instanceof Error ? cause.message : String(cause))
  })

export const cursorOf = (context: StatementContext): Cursor => new Cursor(context.source, context.tokens)

/** Fills in the current database and schema: [database, schema, name]. Throws when the session has none. */
export const fullPath = (
  session: Session,
  path: ReadonlyArray<string>
): readonly [database: string, schema: string, name: string] => {
  const [first = "", second = "", third = ""] = path
  if (path.length === 3) return [first, second, third]
  if (session.database === undefined) throw SnowflakeError.noCurrentDatabase()
  if (path.length === 2) return [session.database, first, second]
  if (session.schema === undefined) throw SnowflakeError.noCurrentSchema()
  return [session.database, session.schema, first]
}

export const printPath = (path: ReadonlyArray<string>): string => path.map(Identifier.print).join(".")

const temporaryKey = (database: string, schema: string, name: string): string =>
  JSON.stringify([database, schema, name])

export const temporaryTable = (session: Session, path: ReadonlyArray<string>): Table | undefined => {
  const [database, schema, name] = fullPath(session, path)
  return session.temporary.get(temporaryKey(database, schema, name))
}

export const putTemporary = (session: Session, table: Table): void => {
  session.temporary.set(temporaryKey(table.database, table.schema, table.name), table)
}

export const removeTemporary = (session: Session, table: Table): void => {
  session.temporary.delete(temporaryKey(table.database, table.schema, table.name))
}

/** Throws unless the schema exists. */
export const requireSchema = (context: StatementContext, database: string, schema: string): void => {
  const { catalog } = context.services
  if (!catalog.hasDatabase(database)) throw SnowflakeError.containerNotFound("Database", Identifier.print(database))
  if (!catalog.hasSchema(database, schema)) {
    throw SnowflakeError.containerNotFound("Schema", printPath([database, schema]))
  }
}

/** The table or view of a path, the session's own temporary table first. */
export const findRelation = (context: StatementContext, path: ReadonlyArray<string>): Table | View | undefined => {
  const [database, schema, name] = fullPath(context.session, path)
  return temporaryTable(context.session, path) ?? context.services.catalog.relation(database, schema, name)
}

export const requireRelation = (context: StatementContext, path: ReadonlyArray<string>): Table | View => {
  const found = findRelation(context, path)
  if (found === undefined) {
    const [database, schema, name] = fullPath(context.session, path)
    requireSchema(context, database, schema)
    throw SnowflakeError.objectNotFound("Object", printPath(path.length === 1 ? [name] : [database, schema, name]))
  }
  return found
}

export const requireTable = (context: StatementContext, path: ReadonlyArray<string>): Table => {
  const found = findRelation(context, path)
  if (found?.kind === "TABLE") return found
  const [database, schema, name] = fullPath(context.session, path)
  requireSchema(context, database, schema)
  throw SnowflakeError.objectNotFound("Table", printPath(path.length === 1 ? [name] : [database, schema, name]))
}

export const requireStage = (context: StatementContext, path: ReadonlyArray<string>): Stage => {
  const [database, schema, name] = fullPath(context.session, path)
  const found = context.services.catalog.stage(database, schema, name)
  if (found !== undefined) return found
  requireSchema(context, database, schema)
  throw SnowflakeError.objectNotFound("Stage", printPath([database, schema, name]))
}

const literalOrNull = (text: string | undefined): string =>
  text === undefined ? "CAST(NULL AS VARCHAR)" : Literal.string(text)

/** CURRENT_*() and the like. */
const contextFunction = (context: StatementContext, name: string): string | undefined => {
  const { session, services } = context
  const now = `TIMESTAMPTZ '${new Date(context.now).toISOString()}'`
  switch (name) {
    case "CURRENT_TIMESTAMP":
    case "GETDATE":
    case "LOCALTIMESTAMP":
    case "SYSTIMESTAMP":
      return now
    case "SYSDATE":
      return `TIMESTAMP '${new Date(context.now).toISOString().replace("Z", "")}'`
    case "CURRENT_DATE":
      return `CAST(${now} AS DATE)`
    case "CURRENT_TIME":
    case "LOCALTIME":
      return `CAST(${now} AS TIME)`
    case "CURRENT_DATABASE":
      return literalOrNull(session.database)
    case "CURRENT_SCHEMA":
      return literalOrNull(session.schema)
    case "CURRENT_WAREHOUSE":
      return literalOrNull(session.warehouse)
    case "CURRENT_ROLE":
      return Literal.string(session.role)
    case "CURRENT_USER":
      return Literal.string(session.user)
    case "CURRENT_SESSION":
      return Literal.string(session.id)
    case "CURRENT_ACCOUNT":
    case "CURRENT_ACCOUNT_NAME":
      return Literal.string(services.accounts.account)
    case "CURRENT_REGION":
      return "'LOCAL'"
    case "CURRENT_VERSION":
      return "'9.0.0-local'"
    case "CURRENT_TRANSACTION":
      return literalOrNull(session.transaction?.id)
    case "LAST_QUERY_ID":
      return literalOrNull(session.lastQueryId)
    default:
      return undefined
  }
}

/** What Query needs to translate a statement of this session; `row` chooses among array binds. */
export const environment = (context: StatementContext, row = 0): Environment.Environment => ({
  source: context.source,
  findings: context.findings,
  relation: (path) => {
    const inner = path.length === 1 ? undefined : InformationSchema.relation(context, path)
    if (inner !== undefined) return inner
    if (findRelation(context, path) === undefined) {
      const stream = StreamRelation.relation(context, fullPath(context.session, path))
      if (stream !== undefined) return stream
    }
    const found = requireRelation(context, path)
    Privileges.require(context, found, "SELECT")
    return { sql: found.duckdb, alias: Identifier.column(found.name), columns: found.columns }
  },
  errorTable: (path) => ErrorTable.relation(context, requireTable(context, path)),
  tableFunction: (path, argument) => InformationSchema.tableFunction(context, path, argument),
  bind: (name) => {
    const value = context.binds[row]?.get(name)
    if (value === undefined) throw SnowflakeError.unboundVariable(name)
    return value
  },
  variable: (name) => {
    const value = context.session.variables.get(name)
    if (value === undefined) throw SnowflakeError.unsetVariable(name)
    return value
  },
  context: (name) => contextFunction(context, name),
  streamHasData: (path) => StreamRelation.hasData(context, fullPath(context.session, path)),
  schemaName: (parts) => {
    const [database, schema] = parts.length >= 2 ? parts : [context.session.database, parts[0]]
    if (database === undefined || schema === undefined) throw SnowflakeError.noCurrentDatabase()
    return Identifier.schemaName(database, schema)
  }
})

/** Runs DuckDB SQL that changes no rows of a table, on the session's connection. */
export const run = (context: StatementContext, sql: string): Run<void> =>
  Storage.run(context.session.connection, sql).pipe(Effect.mapError(DuckdbError.from))

export const rows = (context: StatementContext, sql: string): Run<ReadonlyArray<ReadonlyArray<unknown>>> =>
  Storage.rows(context.session.connection, sql).pipe(Effect.mapError(DuckdbError.from))

/** The Snowflake error of something that DuckDB threw. */
export const duckdbFailure = (cause: unknown): SnowflakeError.SnowflakeError =>
  DuckdbError.from(Storage.StorageError.from(cause))

/** Uses the session's connection. */
export const duckdb = <A>(
  { session: { connection } }: Pick<StatementContext, "session">,
  body: (connection: DuckDBConnection) => Promise<A>
): Run<A> => ConnectionUse.use(connection, () => body(connection), duckdbFailure)

/** From here on a statement that fails has done a part. */
const noteChange = ({ session: { transaction } }: Pick<StatementContext, "session">): void => {
  if (transaction !== undefined) transaction.changed = true
}

/** Runs SQL that changes rows; how many. */
export const changed = (context: Pick<StatementContext, "session">, sql: string): Run<number> =>
  duckdb(context, async (connection) => {
    const { rowsChanged } = await connection.run(sql)
    noteChange(context)
    return rowsChanged
  })

/** Runs SQL that changes rows, and reads what it returns as it comes. */
export const changedStreaming = <A>(
  context: StatementContext,
  sql: string,
  read: (result: DuckDBResult) => Promise<A>
): Run<A> =>
  duckdb(context, async (connection) => {
    const result = await connection.stream(sql)
    noteChange(context)
    return await read(result)
  })

/** The types of a query's columns, without running it. */
export const typesOf = (context: StatementContext, sql: string): Run<ReadonlyArray<DuckDBType>> =>
  duckdb(context, async (connection) => {
    const statement = await connection.prepare(sql)
    try {
      return Array.from({ length: statement.columnCount }, (_, index) => statement.columnType(index))
    } finally {
      statement.destroySync()
    }
  })

/** Fails unless the session has a warehouse; called by statements that Snowflake runs in one. */
export const requireWarehouse = (context: StatementContext): Run<void> =>
  Effect.suspend(() => {
    const { facts, now, services, session } = context
    facts.needsWarehouse = true
    if (session.warehouse === undefined) return Effect.fail(SnowflakeError.noWarehouse())
    const state = services.warehouses.use(session.warehouse, now)
    if (state === "suspended") return Effect.fail(SnowflakeError.noWarehouse())
    facts.wokeWarehouse ||= state === "woken"
    return Effect.void
  })
