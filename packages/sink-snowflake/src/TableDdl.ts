/**
 * Creates what is missing in Snowflake (schemas, stage, state table, journals, targets, columns) and compares what is there.
 *
 * An existing column of another type, or an existing table that isn't ours, is an error: nothing of a source is dropped, retyped or
 * overwritten. A target whose key isn't the source's any more gets the new one when its next copy begins. Only statements that need no
 * warehouse are used to look.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as ChunkTable from "./ChunkTable.ts"
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

const Described = Schema.Struct({ name: Schema.String, type: Schema.String, "primary key": Schema.String })

/** A table as it is in Snowflake. */
interface Existing {
  /** Types by column. */
  readonly columns: ReadonlyMap<string, string>
  readonly primaryKey: ReadonlyArray<string>
}

/** What was found or done. */
export interface Ensured {
  /** Whether the target had to be created. */
  readonly target: boolean
  readonly journal: boolean
  /**
   * The target's identity when it isn't the layout's: its rows and those of the journal are told apart by something else than new changes
   * would be, so that nothing but a new copy can follow. The target is left as it is until `rekey`.
   */
  readonly otherKey: OtherKey | undefined
}

export interface OtherKey {
  readonly primaryKey: ReadonlyArray<string>
  readonly keyless: boolean
}

/** Creates the journal schema with the tables of state and chunks, and the stage. */
export const ensureHome = Effect.fn("TableDdl.ensureHome")(function*(sql: SqlClient, database: string, schema: string) {
  const statements = [
    `CREATE SCHEMA IF NOT EXISTS ${qualified(database, schema)}`,
    StateTable.create(database, schema),
    ChunkTable.create(database, schema),
    `CREATE STAGE IF NOT EXISTS ${qualified(database, schema, stageName)}`
  ]
  for (const statement of statements) {
    yield* sql.execute({ what: `Preparing the schema ${database}.${schema}`, sql: statement })
  }
  const state = yield* describe(sql, { database, schema, name: "TABLES" }, "TABLES")
  for (const column of StateTable.addedColumns) {
    if (state?.columns.has(column) !== false) continue
    yield* sql.execute({
      what: `Adding a column to the state table in ${database}.${schema}`,
      sql: StateTable.addColumn(database, schema, column)
    })
  }
})

/** The table, or undefined when there is none. */
const describe = (
  sql: SqlClient,
  name: ObjectName,
  table: string
): Effect.Effect<Existing | undefined, Failed> =>
  sql.execute({ what: `Describing ${Layout.sqlName(name)}`, sql: `DESCRIBE TABLE ${Layout.sqlName(name)}`, table })
    .pipe(
      Effect.flatMap(({ rows }) => Effect.forEach(rows, (row) => Schema.decodeUnknownEffect(Described)(row))),
      Effect.map((columns) => ({
        columns: new Map(columns.map(({ name, type }) => [name, type])),
        primaryKey: columns.filter((column) => column["primary key"] === "Y").map(({ name }) => name)
      })),
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

/** Creates the table. Undefined when it turned out to be there already, made by somebody else since it was looked for. */
const create = Effect.fnUntraced(function*(
  sql: SqlClient,
  table: string,
  name: ObjectName,
  wanted: ReadonlyArray<ColumnType>,
  keys: ReadonlyArray<string>
) {
  const sqlName = Layout.sqlName(name)
  // Not enforced by Snowflake, but tools read it, and so does `otherKey`.
  const key = keys.length === 0 ? [] : [`PRIMARY KEY (${keys.map(quote).join(", ")})`]
  return yield* sql.execute({
    what: `Creating ${sqlName}`,
    // Without IF NOT EXISTS: "doesn't exist" may also mean that the role may not see it, and then it must not be taken for created.
    sql: `CREATE TABLE ${sqlName} (${[...wanted.map(definition), ...key].join(", ")})`,
    table
  }).pipe(
    Effect.as(undefined),
    Effect.catch((error) =>
      error.reason === "Forbidden"
        ? Effect.flatMap(
          describe(sql, name, table),
          (existing) => existing === undefined ? Effect.fail(error) : Effect.succeed(existing)
        )
        : Effect.fail(error)
    )
  )
})

/** Adds columns of `wanted` that are missing, and refuses others of another type. */
const addColumns = Effect.fnUntraced(function*(
  sql: SqlClient,
  table: string,
  name: ObjectName,
  existing: Existing,
  wanted: ReadonlyArray<ColumnType>
) {
  const sqlName = Layout.sqlName(name)
  for (const column of wanted) {
    const type = existing.columns.get(column.name)
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
})

/** The table as it was found, or undefined when it had to be created. `own` is a column that only tables of ours have. */
const find = Effect.fnUntraced(function*(
  sql: SqlClient,
  table: string,
  name: ObjectName,
  wanted: ReadonlyArray<ColumnType>,
  own: string,
  keys: ReadonlyArray<string>
) {
  const existing = (yield* describe(sql, name, table)) ?? (yield* create(sql, table, name, wanted, keys))
  if (existing === undefined || existing.columns.has(own)) return existing
  return yield* failure(
    "Unsupported",
    `The table ${Layout.sqlName(name)} exists already and isn't one of etl-stream (it has no column ${own})`,
    "Rename or drop it, or let the sink write to another schema.",
    { table }
  )
})

const keyNames = (layout: TableLayout): ReadonlyArray<string> =>
  layout.mode === "mirror" ? layout.keys.map(({ name }) => name) : []

/** Makes target and journal fit the layout. */
export const ensure = Effect.fn("TableDdl.ensure")(function*(
  sql: SqlClient,
  layout: TableLayout
): Effect.fn.Return<Ensured, Failed> {
  const table = layout.id
  yield* sql.execute({
    what: `Creating the schema of ${table}`,
    sql: `CREATE SCHEMA IF NOT EXISTS ${qualified(layout.target.database, layout.target.schema)}`,
    table
  })
  const keys = keyNames(layout)
  const wanted = Layout.targetColumns(layout)
  const target = yield* find(sql, table, layout.target, wanted, Layout.Metadata.sequence, keys)
  let otherKey: OtherKey | undefined
  if (target !== undefined) {
    const { columns, primaryKey } = target
    const keyless = columns.has(Layout.Metadata.rowKey)
    const same = layout.mode === "changelog" ||
      (keyless === layout.keyless && [...primaryKey].sort().join() === [...keys].sort().join())
    if (same) yield* addColumns(sql, table, layout.target, target, wanted)
    else otherKey = { primaryKey, keyless }
  }
  if (layout.mode === "changelog") return { target: target === undefined, journal: target === undefined, otherKey }
  const journalColumns = Layout.journalColumns(layout)
  const journal = yield* find(sql, table, layout.journal, journalColumns, Layout.Metadata.op, [])
  if (journal !== undefined) yield* addColumns(sql, table, layout.journal, journal, journalColumns)
  return { target: target === undefined, journal: journal === undefined, otherKey }
})

/** Gives an emptied target the identity of the layout instead of `other`. */
export const rekey = Effect.fn("TableDdl.rekey")(function*(sql: SqlClient, layout: TableLayout, other: OtherKey) {
  const name = Layout.sqlName(layout.target)
  const keys = keyNames(layout)
  const changes = [
    ...(other.primaryKey.length === 0 ? [] : ["DROP PRIMARY KEY"]),
    // A primary key made its columns NOT NULL.
    ...other.primaryKey.filter((key) => !keys.includes(key)).map((key) => `ALTER COLUMN ${quote(key)} DROP NOT NULL`),
    ...(keys.length === 0 ? [] : [`ADD PRIMARY KEY (${keys.map(quote).join(", ")})`]),
    ...(other.keyless && !layout.keyless
      ? [Layout.Metadata.rowKey, Layout.Metadata.copy].map((column) => `DROP COLUMN ${quote(column)}`)
      : [])
  ]
  for (const change of changes) {
    yield* sql.execute({
      what: `Changing the key of ${name}`,
      sql: `ALTER TABLE ${name} ${change}`,
      table: layout.id
    })
  }
  yield* addColumns(
    sql,
    layout.id,
    layout.target,
    (yield* describe(sql, layout.target, layout.id)) ?? { columns: new Map(), primaryKey: [] },
    Layout.targetColumns(layout)
  )
})
