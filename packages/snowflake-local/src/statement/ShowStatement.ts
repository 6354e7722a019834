/**
 * SHOW and DESCRIBE.
 */
import * as Effect from "effect/Effect"
import type { Column, Table, View } from "../Catalog.ts"
import * as ResultRows from "../ResultRows.ts"
import * as SnowflakeError from "../SnowflakeError.ts"
import * as Collation from "../sql/Collation.ts"
import * as Types from "../sql/SnowflakeType.ts"
import * as Control from "./ControlStatement.ts"
import * as GrantStatement from "./GrantStatement.ts"
import * as ShowChannels from "./ShowChannels.ts"
import type { Filter, Row } from "./ShowFilter.ts"
import { at, created, filter, inScope, keep, named, outcome } from "./ShowFilter.ts"
import * as ShowTasks from "./ShowTasks.ts"
import type { Outcome, Run, StatementContext } from "./StatementContext.ts"
import * as Statement from "./StatementContext.ts"
import * as WarehouseStatement from "./WarehouseStatement.ts"

const rowCount = (context: StatementContext, table: Table): Run<string> =>
  Effect.map(Statement.rows(context, `SELECT count(*) FROM ${table.duckdb}`), ([row]) => String(row?.[0] ?? 0))

const showTables = (context: StatementContext, given: Filter): Run<Outcome> =>
  Effect.gen(function*() {
    const scope = yield* Statement.parse(() => inScope(context, given))
    const all = [...context.services.catalog.objects().filter(scope), ...context.session.temporary.values()]
    const tables = keep(given, all.filter((object): object is Table => object.kind === "TABLE"))
    const sizes = yield* Effect.forEach(tables, (table) => rowCount(context, table))
    const columns = [
      created,
      ...named("name", "database_name", "schema_name", "kind", "comment", "cluster_by"),
      ResultRows.column("rows", Types.number38),
      ResultRows.column("bytes", Types.number38),
      ...named("owner", "retention_time", "change_tracking", "enable_schema_evolution")
    ]
    return outcome(
      columns,
      tables.map((table, index) => [
        at(table.createdOn),
        table.name,
        table.database,
        table.schema,
        table.lifetime === "PERMANENT" ? "TABLE" : table.lifetime,
        table.comment ?? "",
        table.options["CLUSTER_BY"] ?? "",
        sizes[index] ?? "0",
        "0",
        table.owner ?? "SYSADMIN",
        table.options["DATA_RETENTION_TIME_IN_DAYS"] ?? "1",
        table.options["CHANGE_TRACKING"] ?? "OFF",
        table.options["ENABLE_SCHEMA_EVOLUTION"]?.toUpperCase() === "TRUE" ? "Y" : "N"
      ])
    )
  })

/** The data_type column of SHOW COLUMNS is JSON. */
const typeJson = ({ collation, nullable, type }: Column): string => {
  const facts = type.kind === "FIXED"
    ? { precision: type.precision, scale: type.scale }
    : type.kind === "TEXT"
    ? { length: type.length, byteLength: type.length, fixed: false, ...(collation === undefined ? {} : { collation }) }
    : "scale" in type
    ? { precision: 0, scale: type.scale }
    : "length" in type
    ? { length: type.length, byteLength: type.length, fixed: false }
    : {}
  return JSON.stringify({ type: type.kind, ...facts, nullable })
}

const showColumns = (context: StatementContext, given: Filter): Run<Outcome> =>
  Statement.parse(() => {
    const isOne = Array.isArray(given.scope) && (given.scopeKind === "TABLE" || given.scopeKind === "VIEW")
    const relations = isOne && Array.isArray(given.scope)
      ? [Statement.requireRelation(context, given.scope)]
      : context.services.catalog.objects().filter(inScope(context, given))
        .filter((object): object is Table | View => object.kind === "TABLE" || object.kind === "VIEW")
    const rows = relations.flatMap((relation) =>
      keep(given, relation.columns).map((column): Row => [
        relation.name,
        relation.schema,
        column.name,
        typeJson(column),
        column.nullable ? "true" : "false",
        column.default?.text ?? "",
        "COLUMN",
        "",
        column.comment ?? "",
        relation.database,
        ""
      ])
    )
    return outcome(
      named(
        "table_name",
        "schema_name",
        "column_name",
        "data_type",
        "null?",
        "default",
        "kind",
        "expression",
        "comment",
        "database_name",
        "autoincrement"
      ),
      rows
    )
  })

const simple = (context: StatementContext, kind: "VIEW" | "STAGE" | "PIPE", given: Filter): Run<Outcome> =>
  Statement.parse(() => {
    const objects = keep(
      given,
      context.services.catalog.objects().filter(inScope(context, given)).filter((object) => object.kind === kind)
    )
    return outcome(
      [created, ...named("name", "database_name", "schema_name", "owner", "comment", "definition")],
      objects.map((object) => [
        at(object.createdOn),
        object.name,
        object.database,
        object.schema,
        object.owner ?? "SYSADMIN",
        object.comment ?? "",
        object.kind === "PIPE" ? object.copy : object.kind === "VIEW" ? object.text : ""
      ])
    )
  })

export const show = (context: StatementContext): Run<Outcome> =>
  Effect.gen(function*() {
    const cursor = Statement.cursorOf(context)
    const { given, kind } = yield* Statement.parse(() => {
      cursor.expect("SHOW")
      if (cursor.accept("GRANTS")) return { kind: "GRANTS", given: undefined }
      if (!cursor.accept("TERSE")) cursor.accept("LOCAL")
      const kind = cursor.identifier()
      if (kind === "PRIMARY") {
        cursor.expect("KEYS")
        return { kind: "PRIMARY KEYS", given: filter(cursor) }
      }
      return { kind, given: filter(cursor) }
    })
    if (given === undefined) return yield* GrantStatement.show(context, cursor)
    const { catalog } = context.services
    switch (kind) {
      case "TABLES":
        return yield* showTables(context, given)
      case "COLUMNS":
        return yield* showColumns(context, given)
      case "VIEWS":
        return yield* simple(context, "VIEW", given)
      case "STAGES":
        return yield* simple(context, "STAGE", given)
      case "PIPES":
        return yield* simple(context, "PIPE", given)
      case "STREAMS":
        return yield* ShowTasks.streams(context, given)
      case "TASKS":
        return yield* ShowTasks.tasks(context, given)
      case "DATABASES":
        return outcome(
          [created, ...named("name", "is_default", "is_current", "owner", "comment")],
          keep(given, catalog.databases()).map((record) => [
            at(record.createdOn),
            record.name,
            "N",
            record.name === context.session.database ? "Y" : "N",
            record.owner,
            ""
          ])
        )
      case "SCHEMAS": {
        const database = Array.isArray(given.scope)
          ? String(given.scope[0])
          : given.scope === "ACCOUNT"
          ? undefined
          : context.session.database
        if (database !== undefined && !catalog.hasDatabase(database)) return yield* SnowflakeError.useNotFound()
        return outcome(
          [created, ...named("name", "is_default", "is_current", "database_name", "owner", "comment")],
          keep(given, catalog.schemas(database)).map((record) => [
            at(record.createdOn),
            record.name,
            "N",
            record.name === context.session.schema ? "Y" : "N",
            record.database,
            record.owner,
            ""
          ])
        )
      }
      case "WAREHOUSES":
        return yield* WarehouseStatement.show(context, given)
      case "CHANNELS":
        return yield* ShowChannels.channels(context, given)
      case "ROLES":
        return outcome(
          named("name", "is_current"),
          context.services.grants.rolesOf(context.session.user).map((
            name
          ) => [name, name === context.session.role ? "Y" : "N"])
        )
      case "PARAMETERS":
        return outcome(
          named("key", "value", "default", "level"),
          keep(given, [...Control.parameterDefaults].map(([name, standard]) => ({ name, standard }))).map((
            { name, standard }
          ) => [
            name,
            context.session.parameters.get(name) ?? standard,
            standard,
            context.session.parameters.has(name) ? "SESSION" : ""
          ])
        )
      case "PRIMARY KEYS": {
        const table = yield* Statement.parse(() =>
          Statement.requireTable(context, Array.isArray(given.scope) ? given.scope : [])
        )
        return outcome(
          [created, ...named("database_name", "schema_name", "table_name", "column_name", "key_sequence")],
          table.primaryKey.map((
            name,
            index
          ) => [at(table.createdOn), table.database, table.schema, table.name, name, String(index + 1)])
        )
      }
      default:
        return yield* SnowflakeError.unsupported(`SHOW ${kind}`)
    }
  })

/** DESC[RIBE] { TABLE | VIEW | STREAM | TASK } name. */
export const describe = (context: StatementContext): Run<Outcome> =>
  Statement.parse(() => {
    const cursor = Statement.cursorOf(context)
    if (!cursor.accept("DESCRIBE")) cursor.expect("DESC")
    if (cursor.accept("TASK")) return ShowTasks.describeTask(context, cursor)
    if (cursor.accept("STREAM")) return ShowTasks.describeStream(context, cursor)
    if (!cursor.accept("TABLE") && !cursor.accept("VIEW")) {
      throw SnowflakeError.unsupported(`DESCRIBE ${cursor.identifier()}`)
    }
    const relation = Statement.requireRelation(context, cursor.path())
    cursor.end()
    const keys = relation.kind === "TABLE" ? relation.primaryKey : []
    return {
      ...outcome(
        named(
          "name",
          "type",
          "kind",
          "null?",
          "default",
          "primary key",
          "unique key",
          "check",
          "expression",
          "comment",
          "policy name"
        ),
        relation.columns.map((column) => [
          column.name,
          Types.print(column.type) + Collation.print(column.collation),
          "COLUMN",
          column.nullable ? "Y" : "N",
          column.default?.text ?? null,
          keys.includes(column.name) ? "Y" : "N",
          "N",
          null,
          null,
          column.comment ?? null,
          null
        ])
      ),
      kind: "DESCRIBE"
    }
  })
