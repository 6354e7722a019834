/**
 * Creates what is missing in Snowflake (schemas, stage, state table, journals, targets), and alters what is there.
 *
 * What becomes of columns is decided by `SchemaEvolution`. An existing table that isn't ours is an error. A target whose key isn't the
 * source's any more gets the new one when its next copy begins. Only statements that need no warehouse are used to look.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import * as Effect from "effect/Effect"
import * as ChannelTable from "./ChannelTable.ts"
import * as ChunkTable from "./ChunkTable.ts"
import * as Collation from "./Collation.ts"
import * as ColumnChange from "./ColumnChange.ts"
import { failure } from "./ErrorPolicy.ts"
import type { ExistingTable } from "./ExistingTable.ts"
import { describe } from "./ExistingTable.ts"
import { qualified, quote } from "./Identifier.ts"
import * as JournalStatement from "./JournalStatement.ts"
import type { KnownColumns } from "./KnownColumns.ts"
import * as SchemaEvolution from "./SchemaEvolution.ts"
import type { SchemaPolicies } from "./SchemaPolicies.ts"
import type { SqlClient } from "./SqlClient.ts"
import * as StateTable from "./StateTable.ts"
import type { ColumnType, ObjectName, TableLayout } from "./TableLayout.ts"
import * as Layout from "./TableLayout.ts"

type Failed = ConnectorError.ConnectorError

/** The stage that copies and large rows go through. */
export const stageName = "LOADS"

/** The identity of a target, and what its columns lack until it can have another one. */
export interface OtherKey {
  readonly primaryKey: ReadonlyArray<string>
  readonly keyless: boolean
  readonly alterations: ReadonlyArray<string>
}

/** What there is of a table in Snowflake (created where it was missing), and what has to be done about it. */
export interface Examined {
  /** Whether the target had to be created. */
  readonly target: boolean
  readonly journal: boolean
  /** What was decided about the columns; also `void` when the table, or what its journal held, had to be made anew. */
  readonly decision: SchemaEvolution.Decision
  /**
   * The target's identity when it isn't the layout's: its rows and those of the journal are told apart by something else than new changes
   * would be, so that nothing but a new copy can follow. The target is left as it is until `rekey`.
   */
  readonly otherKey: OtherKey | undefined
  readonly journalAlterations: ReadonlyArray<string>
  /** Names that the journal's lists of unsent columns still have, by the columns' names from now on. */
  readonly unsentNames: ReadonlyMap<string, string>
  /** Whether the target holds softly deleted rows, which its layout has no place for any more. */
  readonly hardened: boolean
}

/** Creates the journal schema with the tables of state and chunks, and the stage. */
export const ensureHome = Effect.fn("TableDdl.ensureHome")(function*(sql: SqlClient, database: string, schema: string) {
  const statements = [
    `CREATE SCHEMA IF NOT EXISTS ${qualified(database, schema)}`,
    StateTable.create(database, schema),
    ChunkTable.create(database, schema),
    ChannelTable.create(database, schema),
    `CREATE STAGE IF NOT EXISTS ${qualified(database, schema, stageName)}`
  ]
  for (const statement of statements) {
    yield* sql.execute({ what: `Preparing the schema ${database}.${schema}`, sql: statement })
  }
  for (
    const [name, added] of [["TABLES", StateTable.addedColumns], ["CHUNKS", ChunkTable.addedColumns]] as const
  ) {
    const existing = yield* describe(sql, { database, schema, name }, name)
    if (existing !== undefined) {
      yield* Collation.refuse({ database, schema, name }, existing, ["PIPELINE", "SOURCE_TABLE"], undefined)
    }
    for (const column of added) {
      if (existing?.columns.has(column) !== false) continue
      yield* sql.execute({
        what: `Adding a column to the table ${name} in ${database}.${schema}`,
        sql: `ALTER TABLE ${qualified(database, schema, name)} ADD COLUMN ${quote(column)} VARCHAR`
      })
    }
  }
})

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
    sql: `CREATE TABLE ${sqlName} (${[...wanted.map(definition), ...key].join(", ")}) ${Collation.none}`,
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

const alter = Effect.fnUntraced(function*(
  sql: SqlClient,
  table: string,
  name: ObjectName,
  alterations: ReadonlyArray<string>
) {
  const sqlName = Layout.sqlName(name)
  // The table may be of a version that didn't say so when it was created.
  const first = alterations.some((alteration) => alteration.startsWith("ADD COLUMN")) ? [`SET ${Collation.none}`] : []
  for (const alteration of [...first, ...alterations]) {
    yield* sql.execute({
      what: `Altering ${sqlName}`,
      sql: `ALTER TABLE ${sqlName} ${alteration}`,
      table
    })
  }
})

/** What adds the columns of `wanted` that are missing. */
const missing = (existing: ExistingTable, wanted: ReadonlyArray<ColumnType>): ReadonlyArray<string> =>
  wanted.filter(({ name }) => !existing.columns.has(name)).map((column) => `ADD COLUMN ${definition(column)}`)

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

/** The mode that a target of ours was made for: rows of one mode mean nothing in another. */
export const modeOf = ({ columns, primaryKey }: ExistingTable): TableLayout["mode"] =>
  // Whatever its columns are called, a history's key is of versions.
  columns.has(Layout.Metadata.validFrom) || primaryKey.includes(Layout.Metadata.sequence)
    ? "history"
    : columns.has(Layout.Metadata.op)
    ? "changelog"
    : "mirror"

/** Looks at target and journal, creates what is missing, and decides what is to be altered. */
export const examine = Effect.fn("TableDdl.examine")(function*(
  sql: SqlClient,
  layout: TableLayout,
  known: KnownColumns | undefined,
  policies: SchemaPolicies
): Effect.fn.Return<Examined, Failed> {
  const table = layout.id
  yield* sql.execute({
    what: `Creating the schema of ${table}`,
    sql: `CREATE SCHEMA IF NOT EXISTS ${qualified(layout.target.database, layout.target.schema)}`,
    table
  })
  const keys = Layout.primaryKey(layout)
  const target = yield* find(sql, table, layout.target, Layout.targetColumns(layout), Layout.Metadata.sequence, keys)
  const is = target === undefined ? layout.mode : modeOf(target)
  if (is !== layout.mode) {
    return yield* failure(
      "Unsupported",
      `The table ${Layout.sqlName(layout.target)} is a ${is}, and the mode of ${table} is ${layout.mode}`,
      "Rename it in Snowflake (or drop it, when nobody needs what it holds): the table is then made and copied anew.",
      { table }
    )
  }
  const changes = target === undefined
    ? []
    : ColumnChange.compare(known, layout, target, policies.renameColumn === "alert")
  const decision = yield* SchemaEvolution.decide(
    target === undefined ? undefined : known,
    layout,
    target ?? nothing,
    changes,
    policies
  )
  const renamed = (column: string) => decision.renamed.get(column) ?? column
  if (target !== undefined) {
    yield* Collation.refuse(layout.target, target, Collation.comparedInTarget(decision.layout).map(renamed), table)
  }
  const metadata = target === undefined ? [] : missing(target, Layout.metadata(layout))
  const alterations = [...decision.alterations, ...metadata]
  const other = target === undefined ? undefined : otherKey(layout, target, decision, alterations)
  const examined = {
    target: target === undefined,
    journal: target === undefined,
    decision: { ...decision, alterations: other === undefined ? alterations : [] },
    otherKey: other,
    journalAlterations: [],
    unsentNames: target === undefined ? nothingRenamed : formerNames(decision, known),
    hardened: layout.mode === "mirror" && !layout.softDelete && target?.columns.has(Layout.Metadata.deleted) === true
  }
  if (layout.mode === "changelog") return examined
  const journal = yield* find(
    sql,
    table,
    layout.journal,
    Layout.journalColumns(decision.layout),
    Layout.Metadata.op,
    []
  )
  if (journal !== undefined) {
    const keys = decision.layout.keys.map(({ name }) => name)
    yield* Collation.refuse(layout.journal, journal, [...keys, ...keys.map(renamed)], table)
  }
  const followed = journal === undefined
    ? undefined
    : yield* SchemaEvolution.followJournal(known, decision, journal)
  return {
    ...examined,
    journal: journal === undefined,
    decision: { ...examined.decision, void: decision.void ?? followed?.void },
    journalAlterations: followed?.alterations ?? []
  }
})

/** Whether columns that channels write to are altered in other ways than being added. */
export const altersJournal = (
  { decision: { alterations, layout }, journalAlterations, unsentNames }: Examined
): boolean =>
  unsentNames.size > 0 ||
  [...journalAlterations, ...(layout.mode === "changelog" ? alterations : [])].some((alteration) =>
    !alteration.startsWith("ADD COLUMN")
  )

const nothingRenamed: ReadonlyMap<string, string> = new Map()

/** What is known of columns tells it until everything is done: a run that dies after a RENAME leaves the rest to the next one. */
const formerNames = (
  { layout, void: why }: SchemaEvolution.Decision,
  known: KnownColumns | undefined
): ReadonlyMap<string, string> =>
  // Changes from before another copy don't count.
  why !== undefined ? nothingRenamed : new Map(layout.columns.flatMap(({ index, name }) => {
    const id = layout.table.columns[index]?.id
    const entry = id === undefined ? undefined : known?.find((column) => column.id === id && column.state === undefined)
    return entry === undefined || entry.name === name ? [] : [[name, entry.name] as const]
  }))

const nothing: ExistingTable = { columns: new Map(), primaryKey: [] }

/** The target's identity, when it isn't the one that the layout has after the decision. */
const otherKey = (
  layout: TableLayout,
  { columns, primaryKey }: ExistingTable,
  { layout: decided, remakesKey, renamed }: SchemaEvolution.Decision,
  alterations: ReadonlyArray<string>
): OtherKey | undefined => {
  if (layout.mode === "changelog") return undefined
  const keyless = columns.has(Layout.Metadata.rowKey)
  const before = new Map([...renamed].map(([name, from]) => [from, name]))
  const held = primaryKey.map((name) => before.get(name) ?? name).sort()
  const same = keyless === layout.keyless && held.join() === [...Layout.primaryKey(decided)].sort().join()
  return same && !remakesKey ? undefined : { primaryKey, keyless, alterations }
}

/** Alters target and journal as decided. Each step is seen by the next look, so that a run that dies in between is gone on from. */
export const evolve = Effect.fn("TableDdl.evolve")(function*(
  sql: SqlClient,
  { decision: { alterations, layout }, hardened, journalAlterations, unsentNames }: Examined
) {
  if (hardened) {
    const column = quote(Layout.Metadata.deleted)
    // The column goes last: until then it is known that there may be such rows.
    yield* sql.execute({
      what: `Removing softly deleted rows of ${Layout.sqlName(layout.target)}`,
      sql: `DELETE FROM ${Layout.sqlName(layout.target)} WHERE ${column}`,
      table: layout.id
    })
    yield* alter(sql, layout.id, layout.target, [`DROP COLUMN ${column}`])
  }
  yield* alter(sql, layout.id, layout.target, alterations)
  yield* alter(sql, layout.id, layout.journal, journalAlterations)
  for (const [name, from] of unsentNames) {
    yield* sql.execute({
      what: `Renaming an unsent column in the changes of ${layout.id}`,
      sql: JournalStatement.renameUnsent(layout, name, from),
      table: layout.id
    })
  }
})

/** Gives an emptied target the identity of the layout instead of `other`. */
export const rekey = Effect.fn("TableDdl.rekey")(function*(sql: SqlClient, layout: TableLayout, other: OtherKey) {
  const keys = Layout.primaryKey(layout)
  yield* alter(sql, layout.id, layout.target, [
    ...(other.primaryKey.length === 0 ? [] : ["DROP PRIMARY KEY"]),
    // A primary key made its columns NOT NULL.
    ...other.primaryKey.filter((key) => !keys.includes(key)).map((key) => `ALTER COLUMN ${quote(key)} DROP NOT NULL`),
    ...(other.keyless && !layout.keyless
      ? [Layout.Metadata.rowKey, Layout.Metadata.copy].map((column) => `DROP COLUMN ${quote(column)}`)
      : []),
    ...other.alterations,
    ...(keys.length === 0 ? [] : [`ADD PRIMARY KEY (${keys.map(quote).join(", ")})`])
  ])
})
