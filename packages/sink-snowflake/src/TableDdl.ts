/**
 * Creates what is missing in Snowflake (schemas, stage, state table, journals, targets, columns) and compares what is there.
 *
 * An existing column of another type, or an existing table that isn't ours, is an error: nothing is dropped, retyped or
 * overwritten. Only statements that need no warehouse are used to look.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { failure } from "./ErrorPolicy.ts"
import { qualified, quote } from "./Identifier.ts"
import type { SqlClient } from "./SqlClient.ts"
import * as StateTable from "./StateTable.ts"
import type { ColumnType, ObjectName, TableLayout } from "./TableLayout.ts"
import * as Layout from "./TableLayout.ts"
import * as TypeMapping from "./TypeMapping.ts"

type Failed = ConnectorError.ConnectorError

/** The stage that copies and large rows go through. */
export const stageName = "LOADS"

const Described = Schema.Struct({ name: Schema.String, type: Schema.String })

/** Creates the journal schema with state table and stage. */
export const ensureHome = Effect.fn("TableDdl.ensureHome")(function*(sql: SqlClient, database: string, schema: string) {
  const statements = [
    `CREATE SCHEMA IF NOT EXISTS ${qualified(database, schema)}`,
    StateTable.create(database, schema),
    `CREATE STAGE IF NOT EXISTS ${qualified(database, schema, stageName)}`
  ]
  for (const statement of statements) {
    yield* sql.execute({ what: `Preparing the schema ${database}.${schema}`, sql: statement })
  }
})

/** The columns of a table by name, or undefined when there is no such table. */
const describe = (
  sql: SqlClient,
  name: ObjectName,
  table: string
): Effect.Effect<ReadonlyMap<string, string> | undefined, Failed> =>
  sql.execute({ what: `Describing ${Layout.sqlName(name)}`, sql: `DESCRIBE TABLE ${Layout.sqlName(name)}`, table })
    .pipe(
      Effect.flatMap(({ rows }) => Effect.forEach(rows, (row) => Schema.decodeUnknownEffect(Described)(row))),
      Effect.map((columns) => new Map(columns.map(({ name, type }) => [name, type]))),
      Effect.catchTag(
        "SchemaError",
        () =>
          Effect.fail(
            failure(
              "Protocol",
              `DESCRIBE TABLE ${Layout.sqlName(name)} has another form than documented`,
              "Report it.",
              { table }
            )
          )
      ),
      Effect.catch((error) => error.reason === "Missing" ? Effect.succeed(undefined) : Effect.fail(error))
    )

const definition = ({ name, type }: ColumnType): string => `${quote(name)} ${type}`

/** Makes the table fit `wanted`; true when it had to be created. `own` is a column that only tables of ours have. */
const ensureTable = Effect.fnUntraced(function*(
  sql: SqlClient,
  layout: TableLayout,
  name: ObjectName,
  wanted: ReadonlyArray<ColumnType>,
  own: string,
  keys: ReadonlyArray<string>
): Effect.fn.Return<boolean, Failed> {
  const table = layout.id
  const sqlName = Layout.sqlName(name)
  const existing = yield* describe(sql, name, table)
  if (existing === undefined) {
    // Not enforced by Snowflake, but tools read it.
    const key = keys.length === 0 ? [] : [`PRIMARY KEY (${keys.map(quote).join(", ")})`]
    yield* sql.execute({
      what: `Creating ${sqlName}`,
      sql: `CREATE TABLE IF NOT EXISTS ${sqlName} (${[...wanted.map(definition), ...key].join(", ")})`,
      table
    })
    return true
  }
  if (!existing.has(own)) {
    return yield* failure(
      "Unsupported",
      `The table ${sqlName} exists already and isn't one of etl-stream (it has no column ${own})`,
      "Rename or drop it, or let the sink write to another schema.",
      { table }
    )
  }
  for (const column of wanted) {
    const type = existing.get(column.name)
    if (type === undefined) {
      yield* sql.execute({
        what: `Adding the column ${column.name} to ${sqlName}`,
        sql: `ALTER TABLE ${sqlName} ADD COLUMN ${definition(column)}`,
        table
      })
    } else if (!TypeMapping.accepts(type, column.type)) {
      return yield* failure(
        "Unsupported",
        `The column ${column.name} of ${sqlName} has the type ${type}, but ${table} needs ${column.type}`,
        "Drop the table (it is copied again) or change the column's type by hand.",
        { table }
      )
    }
  }
  return false
})

/** Makes target and journal fit the layout. Says what had to be created. */
export const ensure = Effect.fn("TableDdl.ensure")(function*(sql: SqlClient, layout: TableLayout) {
  yield* sql.execute({
    what: `Creating the schema of ${layout.id}`,
    sql: `CREATE SCHEMA IF NOT EXISTS ${qualified(layout.target.database, layout.target.schema)}`,
    table: layout.id
  })
  const own = layout.keyless ? Layout.Metadata.rowKey : Layout.Metadata.sequence
  const keys = layout.mode === "mirror" ? layout.keys.map(({ name }) => name) : []
  const target = yield* ensureTable(sql, layout, layout.target, Layout.targetColumns(layout), own, keys)
  const journal = layout.mode === "mirror"
    ? yield* ensureTable(sql, layout, layout.journal, Layout.journalColumns(layout), Layout.Metadata.op, [])
    : target
  return { target, journal }
})
