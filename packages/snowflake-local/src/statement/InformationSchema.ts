/**
 * INFORMATION_SCHEMA: a database's TABLES, COLUMNS, SCHEMATA, DATABASES, VIEWS, STAGES, PIPES and LOAD_HISTORY, from the catalog's records.
 */
import type { CatalogObject, Column, Table, View } from "../Catalog.ts"
import * as SnowflakeError from "../SnowflakeError.ts"
import type { Relation } from "../sql/Environment.ts"
import * as Identifier from "../sql/Identifier.ts"
import * as Literal from "../sql/Literal.ts"
import type { SnowflakeType } from "../sql/SnowflakeType.ts"
import * as Types from "../sql/SnowflakeType.ts"
import type { StatementContext } from "./StatementContext.ts"

type Value = string | number | boolean | null | { readonly sql: string }

interface Shape {
  readonly name: string
  readonly type: SnowflakeType
}

const text = (name: string): Shape => ({ name, type: Types.text })
const numeric = (name: string): Shape => ({ name, type: Types.number38 })
const instant = (name: string): Shape => ({ name, type: { kind: "TIMESTAMP_LTZ", scale: 9 } })

const literal = (value: Value, type: SnowflakeType): string => {
  if (value === null) return `CAST(NULL AS ${Types.duckdbType(type)})`
  if (typeof value === "object") return value.sql
  if (typeof value === "string") return Literal.string(value)
  return `CAST(${value} AS ${Types.duckdbType(type)})`
}

const relationOf = (name: string, shape: ReadonlyArray<Shape>, rows: ReadonlyArray<ReadonlyArray<Value>>): Relation => {
  const columns = shape.map((column) => Identifier.column(column.name)).join(", ")
  const body = rows.length === 0
    ? `SELECT ${shape.map((column) => literal(null, column.type)).join(", ")} WHERE FALSE`
    : `VALUES ${
      rows.map((row) => `(${shape.map((column, index) => literal(row[index] ?? null, column.type)).join(", ")})`).join(
        ", "
      )
    }`
  return { sql: `(SELECT * FROM (${body}) AS "rows"(${columns}))`, alias: Identifier.column(name), columns: shape }
}

const at = (millis: number): Value => ({ sql: `TIMESTAMPTZ '${new Date(millis).toISOString()}'` })

/** What COLUMNS tells of a type. */
const typeFacts = (type: SnowflakeType): ReadonlyArray<Value> => {
  const name = type.kind === "FIXED" ? "NUMBER" : type.kind === "REAL" ? "FLOAT" : type.kind
  const length = type.kind === "TEXT" || type.kind === "BINARY" ? type.length : null
  const octets = type.kind === "TEXT" ? Math.min(type.length * 4, 134_217_728) : length
  const precision = type.kind === "FIXED" ? type.precision : null
  const scale = type.kind === "FIXED" ? type.scale : null
  const fraction = type.kind === "TIME" || type.kind.startsWith("TIMESTAMP") ? ("scale" in type ? type.scale : 9) : null
  return [name, length, octets, precision, precision === null ? null : 10, scale, fraction]
}

const isRelation = (object: CatalogObject): object is Table | View => object.kind === "TABLE" || object.kind === "VIEW"

/** The relation that `[database.]INFORMATION_SCHEMA.name` means; undefined when the path means something else. */
export const relation = (context: StatementContext, path: ReadonlyArray<string>): Relation | undefined => {
  const [schema, name] = path.slice(-2)
  if (schema !== "INFORMATION_SCHEMA" || name === undefined) return undefined
  const database = path.length === 3 ? path[0] : context.session.database
  if (database === undefined) throw SnowflakeError.noCurrentDatabase()
  const { catalog } = context.services
  if (!catalog.hasDatabase(database)) throw SnowflakeError.containerNotFound("Database", Identifier.print(database))
  const relations = catalog.objects().filter((object) => object.database === database).filter(isRelation)
  switch (name) {
    case "DATABASES":
      return relationOf(
        name,
        [text("DATABASE_NAME"), text("DATABASE_OWNER"), instant("CREATED")],
        catalog.databases().map((record) => [record.name, record.owner, at(record.createdOn)])
      )
    case "SCHEMATA":
      return relationOf(
        name,
        [text("CATALOG_NAME"), text("SCHEMA_NAME"), text("SCHEMA_OWNER"), instant("CREATED")],
        catalog.schemas(database).map((record) => [database, record.name, record.owner, at(record.createdOn)])
      )
    case "TABLES":
      return relationOf(
        name,
        [
          text("TABLE_CATALOG"),
          text("TABLE_SCHEMA"),
          text("TABLE_NAME"),
          text("TABLE_OWNER"),
          text("TABLE_TYPE"),
          text("IS_TRANSIENT"),
          numeric("ROW_COUNT"),
          instant("CREATED"),
          text("COMMENT")
        ],
        relations.map((object) => [
          database,
          object.schema,
          object.name,
          object.owner ?? "SYSADMIN",
          object.kind === "VIEW" ? "VIEW" : "BASE TABLE",
          object.kind === "TABLE" && object.lifetime === "TRANSIENT" ? "YES" : "NO",
          object.kind === "VIEW" ? null : rowCount(object),
          at(object.createdOn),
          object.comment ?? null
        ])
      )
    case "VIEWS":
      return relationOf(
        name,
        [text("TABLE_CATALOG"), text("TABLE_SCHEMA"), text("TABLE_NAME"), text("VIEW_DEFINITION")],
        relations.flatMap((object) =>
          object.kind === "VIEW" ? [[database, object.schema, object.name, object.text]] : []
        )
      )
    case "COLUMNS":
      return relationOf(name, [
        text("TABLE_CATALOG"),
        text("TABLE_SCHEMA"),
        text("TABLE_NAME"),
        text("COLUMN_NAME"),
        numeric("ORDINAL_POSITION"),
        text("COLUMN_DEFAULT"),
        text("IS_NULLABLE"),
        text("DATA_TYPE"),
        numeric("CHARACTER_MAXIMUM_LENGTH"),
        numeric("CHARACTER_OCTET_LENGTH"),
        numeric("NUMERIC_PRECISION"),
        numeric("NUMERIC_PRECISION_RADIX"),
        numeric("NUMERIC_SCALE"),
        numeric("DATETIME_PRECISION"),
        text("COLLATION_NAME"),
        text("COMMENT")
      ], relations.flatMap((object) => object.columns.map((column, index) => columnFacts(object, column, index))))
    case "STAGES":
      return relationOf(
        name,
        [text("STAGE_CATALOG"), text("STAGE_SCHEMA"), text("STAGE_NAME")],
        catalog.objects().filter((object) => object.database === database && object.kind === "STAGE")
          .map((object) => [database, object.schema, object.name])
      )
    case "PIPES":
      return relationOf(
        name,
        [
          text("PIPE_CATALOG"),
          text("PIPE_SCHEMA"),
          text("PIPE_NAME"),
          text("PIPE_OWNER"),
          text("DEFINITION"),
          instant("CREATED")
        ],
        catalog.objects().flatMap((object) =>
          object.kind === "PIPE" && object.database === database
            ? [[database, object.schema, object.name, object.owner ?? "SYSADMIN", object.copy, at(object.createdOn)]]
            : []
        )
      )
    case "LOAD_HISTORY":
      return loadHistory(name, relations)
    default:
      throw SnowflakeError.objectNotFound(
        "Object",
        `${Identifier.print(database)}.INFORMATION_SCHEMA.${Identifier.print(name)}`
      )
  }
}

/** The files that COPY has loaded into these tables. */
const loadHistory = (name: string, relations: ReadonlyArray<Table | View>): Relation => {
  const shape = [
    text("SCHEMA_NAME"),
    text("FILE_NAME"),
    text("TABLE_NAME"),
    instant("LAST_LOAD_TIME"),
    text("STATUS"),
    numeric("ROW_COUNT"),
    numeric("ROW_PARSED")
  ]
  const tables = relationOf(
    "tables",
    [text("ID"), text("SCHEMA"), text("NAME")],
    relations.map((table) => [
      table.id,
      table.schema,
      table.name
    ])
  )
  const values = [
    `t."SCHEMA"`,
    "h.file",
    `t."NAME"`,
    "timezone('UTC', h.loaded_on)",
    "'LOADED'",
    "CAST(h.row_count AS DECIMAL(38, 0))",
    "CAST(h.row_count AS DECIMAL(38, 0))"
  ].map((sql, index) => `${sql} AS ${Identifier.quote(shape[index]?.name ?? "")}`)
  return {
    sql: `(SELECT ${values.join(", ")} FROM "_local".load_history h JOIN ${tables.sql} t ON t."ID" = h.table_id)`,
    alias: Identifier.column(name),
    columns: shape
  }
}

/** A table function of INFORMATION_SCHEMA: TASK_HISTORY. */
export const tableFunction = (
  context: StatementContext,
  path: ReadonlyArray<string>,
  argument: (name: string, place: number) => string | undefined
): Relation => {
  const [schema, name] = path.slice(-2)
  if (schema !== "INFORMATION_SCHEMA" || name !== "TASK_HISTORY") {
    throw SnowflakeError.unknownFunction(path.map(Identifier.print).join("."))
  }
  for (const unknown of ["SCHEDULED_TIME_RANGE_START", "SCHEDULED_TIME_RANGE_END", "ROOT_TASK_ID"]) {
    if (argument(unknown, -1) !== undefined) throw SnowflakeError.unsupported(`TASK_HISTORY with ${unknown}`)
  }
  const task = argument("TASK_NAME", -1)
  const limit = Number(argument("RESULT_LIMIT", -1) ?? "100")
  const errorOnly = argument("ERROR_ONLY", -1)?.toUpperCase() === "TRUE"
  const database = path.length === 3 ? path[0] : context.session.database
  const runs = context.services.taskRuns.history().filter((run) =>
    run.database === database && (task === undefined || run.name === Literal.stringValue(task)) &&
    (!errorOnly || run.state === "FAILED")
  ).slice(0, limit)
  const millis = (time: number | null): Value => time === null ? null : at(time)
  return relationOf(
    name,
    [
      text("QUERY_ID"),
      text("NAME"),
      text("DATABASE_NAME"),
      text("SCHEMA_NAME"),
      text("QUERY_TEXT"),
      text("CONDITION_TEXT"),
      text("STATE"),
      text("ERROR_CODE"),
      text("ERROR_MESSAGE"),
      instant("SCHEDULED_TIME"),
      instant("QUERY_START_TIME"),
      instant("COMPLETED_TIME"),
      text("SCHEDULED_FROM")
    ],
    runs.map((run) => [
      run.queryId,
      run.name,
      run.database,
      run.schema,
      run.definition,
      run.condition,
      run.state,
      run.errorCode,
      run.errorMessage,
      millis(run.scheduledAt),
      millis(run.startedAt),
      millis(run.completedAt),
      run.scheduledFrom
    ])
  )
}

const columnFacts = (object: Table | View, column: Column, index: number): ReadonlyArray<Value> => [
  object.database,
  object.schema,
  object.name,
  column.name,
  index + 1,
  column.default?.text ?? null,
  column.nullable ? "YES" : "NO",
  ...typeFacts(column.type),
  column.collation ?? null,
  column.comment ?? null
]

const rowCount = (table: Table): Value => ({ sql: `CAST((SELECT count(*) FROM ${table.duckdb}) AS DECIMAL(38,0))` })
