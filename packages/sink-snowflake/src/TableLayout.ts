/**
 * What a source table becomes in Snowflake: names, columns and their types, for the target table and its journal.
 *
 * In the modes mirror and history changes go to the journal, and the target has the table's columns and metadata. In mode changelog the target
 * itself takes the changes: there the two are one.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import type { LogicalType } from "@etl-stream/core/LogicalType"
import type { TableId, TableSchema } from "@etl-stream/core/TableSchema"
import { tableId } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import { createHash } from "node:crypto"
import type { Config } from "./Config.ts"
import { failure } from "./ErrorPolicy.ts"
import * as Identifier from "./Identifier.ts"
import * as TableOptions from "./TableOptions.ts"
import type { TypeMapping } from "./TypeMapping.ts"
import * as Type from "./TypeMapping.ts"
import * as TypeOverride from "./TypeOverride.ts"
import { Metadata } from "./ValueLayout.ts"

export { Metadata }

/** Metadata columns of targets whose names can be chosen. */
export type NamedColumn = keyof Config["metadata"]
export type MetadataNames = Readonly<Record<NamedColumn, string>>

const ownNames: MetadataNames = {
  deleted: Metadata.deleted,
  syncedAt: Metadata.syncedAt,
  validFrom: Metadata.validFrom,
  validTo: Metadata.validTo
}

export interface ColumnLayout extends TypeMapping {
  /** Index in the table's schema. */
  readonly index: number
  readonly name: string
  /** Its name at the source. */
  readonly source: string
  readonly type: LogicalType
  readonly isKey: boolean
}

export interface ColumnType {
  readonly name: string
  readonly type: string
}

/** A table's name in Snowflake. */
export interface ObjectName {
  readonly database: string
  readonly schema: string
  readonly name: string
}

export interface TableLayout {
  readonly table: TableSchema
  readonly id: TableId
  readonly mode: Config["mode"]
  readonly target: ObjectName
  /** Where the channel writes: the journal, or in mode changelog the target. */
  readonly journal: ObjectName
  readonly columns: ReadonlyArray<ColumnLayout>
  readonly keys: ReadonlyArray<ColumnLayout>
  /** What the target's columns of `Metadata` whose names can be chosen are called. */
  readonly names: MetadataNames
  /** Whether rows that are deleted at the source stay in a mirror, marked in the column `deleted`. */
  readonly softDelete: boolean
  /** Whether rows are told apart by `_ETL_ROW_KEY` and `_ETL_COPY`. A mirror with neither these nor a key is only appended to. */
  readonly keyless: boolean
  readonly channel: string
}

/** The name as SQL. */
export const sqlName = (name: ObjectName): string => Identifier.qualified(name.database, name.schema, name.name)

/** The chosen names as SQL. */
export const quotedNames = ({ names }: Pick<TableLayout, "names">): MetadataNames => ({
  deleted: Identifier.quote(names.deleted),
  syncedAt: Identifier.quote(names.syncedAt),
  validFrom: Identifier.quote(names.validFrom),
  validTo: Identifier.quote(names.validTo)
})

/** Those of them that the target has. */
export const namedColumns = (
  { mode, softDelete }: Pick<TableLayout, "mode" | "softDelete">
): ReadonlyArray<NamedColumn> =>
  mode === "changelog"
    ? []
    : mode === "history"
    ? ["validFrom", "validTo"]
    : ["syncedAt", ...(softDelete ? ["deleted" as const] : [])]

const shortHash = (text: string): string => createHash("sha256").update(text).digest("hex").slice(0, 8).toUpperCase()

/** `text` made of plain characters, with a hash when that changed it: unique, and needs no quotes anywhere. */
export const plainName = (text: string): string => {
  const plain = text.toUpperCase().replaceAll(/[^A-Z0-9_]/g, "_")
  return plain === text && plain.length <= 180 && /^[A-Z_]/.test(plain)
    ? plain
    : `${plain.slice(0, 180)}_${shortHash(text)}`
}

/** Schema and table with two underscores between; with a hash where those could also stand for another schema and table. */
const journalName = (target: ObjectName): string => {
  const schema = plainName(target.schema)
  const name = plainName(target.name)
  const journal = `${schema}__${name}__JOURNAL`
  return `${schema}_`.includes("__") || `_${name}`.includes("__")
    ? `${journal}_${shortHash(JSON.stringify([target.schema, target.name]))}`
    : journal
}

/** Lays out `table`, or fails when two of its names meet or its identity can't be served. */
export const make = (
  config: Config,
  pipeline: string,
  table: TableSchema
): Effect.Effect<TableLayout, ConnectorError.ConnectorError> => {
  const id = tableId(table.table)
  const unknown = [...TableOptions.of(config, id).types.keys()].filter((name) =>
    !table.columns.some((column) => column.name === name)
  )
  const layout = of(config, pipeline, table)
  // A column may also be dropped at the source: that must not stop its table.
  return unknown.length === 0 ? layout : Effect.andThen(
    Effect.logWarning("The sink's options name columns that a table doesn't have").pipe(
      Effect.annotateLogs({ table: id, columns: unknown, option: TableOptions.path(id, "columns") })
    ),
    layout
  )
}

/** As `make`, of a table that need not have all of its columns. */
export const of = (
  config: Config,
  pipeline: string,
  table: TableSchema
): Effect.Effect<TableLayout, ConnectorError.ConnectorError> => {
  const id = tableId(table.table)
  const { deletes, keyless, mode, types } = TableOptions.of(config, id)
  const unsupported = (message: string, hint: string) =>
    Effect.fail(failure("Unsupported", message, hint, { table: id }))
  const keyIndexes = table.identity._tag === "Key" ? table.identity.columns : []
  const columns: Array<ColumnLayout> = []
  for (const [index, column] of table.columns.entries()) {
    const isKey = keyIndexes.includes(index)
    const override = types.get(column.name)
    const mapping = override === undefined ? Type.of(column, isKey) : TypeOverride.mapping(column.type, override, isKey)
    if (mapping === undefined) {
      return Effect.fail(failure(
        "Misconfigured",
        `The column ${JSON.stringify(column.name)} of ${id} is ${column.sourceType}${
          isKey ? " and part of the key" : ""
        }, which can't be kept as the type of ${TableOptions.path(id, "columns", column.name, "type")}`,
        "Give it one of the types that types.md names for it (VARCHAR takes everything), or take the option out.",
        { table: id }
      ))
    }
    columns.push({
      ...mapping,
      index,
      name: Identifier.fromSource(column.name),
      source: column.name,
      type: column.type,
      isKey
    })
  }
  const seen = new Map<string, string>()
  for (const { index, name } of columns) {
    const sourceName = table.columns[index]?.name ?? name
    // The streaming API's default pipe finds columns without regard to case.
    const other = seen.get(name.toUpperCase())
    if (other !== undefined) {
      return unsupported(
        `The columns ${JSON.stringify(other)} and ${
          JSON.stringify(sourceName)
        } of ${id} have the same name ${name.toUpperCase()} in Snowflake`,
        "Leave one of them out, or rename it by a transform."
      )
    }
    if (name.toUpperCase().startsWith("_ETL_")) {
      return unsupported(
        `The column ${JSON.stringify(sourceName)} of ${id} begins with _ETL_, as metadata columns do`,
        "Leave it out, or rename it by a transform."
      )
    }
    seen.set(name.toUpperCase(), sourceName)
  }
  const names: MetadataNames = {
    deleted: Identifier.fromConfig(config.metadata.deleted),
    syncedAt: Identifier.fromConfig(config.metadata.syncedAt),
    validFrom: Identifier.fromConfig(config.metadata.validFrom),
    validTo: Identifier.fromConfig(config.metadata.validTo)
  }
  const softDelete = mode === "mirror" && deletes === "soft"
  for (const named of namedColumns({ mode, softDelete })) {
    const other = seen.get(names[named].toUpperCase())
    if (other === undefined) continue
    return unsupported(
      `The column ${JSON.stringify(other)} of ${id} has the name ${
        names[named]
      } in Snowflake, which metadata.${named} gives to another column`,
      `Give metadata.${named} another name, leave the column out, or rename it by a transform.`
    )
  }
  if (mode === "history" && table.identity._tag !== "Key") {
    return unsupported(
      `${id} has no key, so that the versions of its rows can't be told apart`,
      "Give it a primary key or a replica identity with an index at the source, or set its `mode` to changelog or mirror."
    )
  }
  const database = Identifier.fromConfig(config.database)
  const target: ObjectName = {
    database,
    schema: config.schema === undefined
      ? Identifier.fromSource(table.table.schema)
      : Identifier.fromConfig(config.schema),
    name: Identifier.fromSource(table.table.name)
  }
  const layout: TableLayout = {
    table,
    id,
    mode,
    target,
    journal: mode === "changelog" ? target : {
      database,
      schema: Identifier.fromConfig(config.journalSchema),
      name: journalName(target)
    },
    columns,
    keys: keyIndexes.flatMap((index) => columns[index] ?? []),
    names,
    softDelete,
    keyless: mode === "mirror" && table.identity._tag === "Full" && keyless === "identity",
    channel: `ETL_STREAM_${plainName(pipeline)}`
  }
  return Effect.succeed(layout)
}

const rowKeyType = "VARCHAR(64)"
export const sequenceType = "VARCHAR(33)"
const timeType = "TIMESTAMP_TZ(6)"

/** Metadata columns of the journal (in mode changelog: of the target), before the table's own. */
export const journalMetadata = (layout: TableLayout): ReadonlyArray<ColumnType> => [
  { name: Metadata.op, type: "VARCHAR" },
  { name: Metadata.sequence, type: sequenceType },
  { name: Metadata.commitTime, type: timeType },
  { name: Metadata.unsent, type: "VARCHAR" },
  ...(layout.keyless ? [{ name: Metadata.rowKey, type: rowKeyType }] : [])
]

/** Metadata columns of a mirrored target. */
const mirrorMetadata = (layout: TableLayout): ReadonlyArray<ColumnType> => [
  { name: Metadata.sequence, type: sequenceType },
  { name: layout.names.syncedAt, type: timeType },
  // With a default: rows that are copied, or were there before, are none that were deleted.
  ...(layout.softDelete ? [{ name: layout.names.deleted, type: "BOOLEAN DEFAULT FALSE" }] : []),
  ...(layout.keyless
    ? [{ name: Metadata.rowKey, type: rowKeyType }, { name: Metadata.copy, type: "NUMBER(38,0)" }]
    : [])
]

/** Metadata columns of the target, after the table's own except in a changelog. */
export const metadata = (layout: TableLayout): ReadonlyArray<ColumnType> => {
  switch (layout.mode) {
    case "mirror":
      return mirrorMetadata(layout)
    case "changelog":
      return journalMetadata(layout)
    case "history":
      return [
        { name: layout.names.validFrom, type: timeType },
        { name: layout.names.validTo, type: timeType },
        { name: Metadata.sequence, type: sequenceType }
      ]
  }
}

/** The columns that tell the target's rows apart; a history has several rows of a key. */
export const primaryKey = ({ keys, mode }: TableLayout): ReadonlyArray<string> => {
  const names = keys.map(({ name }) => name)
  return mode === "changelog" ? [] : mode === "history" ? [...names, Metadata.sequence] : names
}

/** Where a copy is loaded: a history's into a table of its own, a mirror for the time of the copy, to be compared with what is known of the rows. */
export const forCopy = (layout: TableLayout): TableLayout =>
  layout.mode === "history"
    ? { ...layout, mode: "mirror", names: ownNames, target: { ...layout.journal, name: `${layout.journal.name}_COPY` } }
    : layout

/** Type of a column where the channel writes. */
export const journalType = (layout: TableLayout, column: ColumnLayout): string =>
  layout.mode === "changelog" ? column.target : column.journal

/** All columns of the journal, in order. */
export const journalColumns = (layout: TableLayout): ReadonlyArray<ColumnType> => [
  ...journalMetadata(layout),
  ...layout.columns.map((column) => ({ name: column.name, type: journalType(layout, column) }))
]

/** All columns of the target, in order. */
export const targetColumns = (layout: TableLayout): ReadonlyArray<ColumnType> =>
  layout.mode === "changelog" ? journalColumns(layout) : [
    ...layout.columns.map((column) => ({ name: column.name, type: column.target })),
    ...metadata(layout)
  ]
