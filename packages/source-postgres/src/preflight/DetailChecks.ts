/**
 * Doctor's checks of details of tables and of what the publication publishes of them.
 */
import type { Check } from "@etl-stream/core/Check"
import { critical, info, warning } from "@etl-stream/core/Finding"
import type { LogicalType } from "@etl-stream/core/LogicalType"
import { tableId } from "@etl-stream/core/TableSchema"
import type * as Catalog from "../Catalog.ts"
import * as Sql from "../Sql.ts"
import type { Inspection } from "./Inspection.ts"
import * as Units from "./Units.ts"

/** Tables with their names and details. */
function* detailed({ catalog, tables }: Inspection) {
  for (const table of catalog.tables) {
    const detail = tables.get(table.oid)
    if (detail !== undefined) yield { table, detail, id: tableId(table.schema.table) }
  }
}

const publishesChanges = ({ publication }: Inspection): boolean =>
  publication === undefined || publication.updates || publication.deletes

const wideColumns = 30

const fullIdentity: Check<Inspection> = {
  name: "full-identity",
  looksAt: "no wide table has REPLICA IDENTITY FULL where its primary key would do",
  severities: ["warning"],
  *find(inspection) {
    for (const { detail: { primaryKey, toasted }, id, table } of detailed(inspection)) {
      const { columns, oid, replicaIdentity, schema } = table
      if (replicaIdentity !== "f" || primaryKey.length === 0 || (!toasted && columns.length < wideColumns)) continue
      const filtered = inspection.members.find((member) => member.table === oid)?.filtered ?? []
      if (filtered.some((column) => !primaryKey.includes(column))) continue
      yield warning(
        `table ${id} has REPLICA IDENTITY FULL: each update and delete writes the whole old row to the log, large values included`,
        "Its primary key is enough:",
        { sql: [`ALTER TABLE ${Sql.table(schema.table)} REPLICA IDENTITY DEFAULT;`], table: id }
      )
    }
  }
}

const inheritance: Check<Inspection> = {
  name: "inheritance",
  looksAt: "no table has children by inheritance",
  severities: ["info", "warning"],
  *find(inspection) {
    const known = new Set(inspection.catalog.tables.map(({ oid }) => oid))
    for (const { detail: { children }, id } of detailed(inspection)) {
      if (children.length === 0) continue
      const left = children.filter(({ oid }) => !known.has(oid))
      yield left.length === 0
        ? info(
          `table ${id} has children by inheritance, whose rows come as tables of their own: ${
            children.map(tableId).join(", ")
          }`,
          "",
          { table: id }
        )
        : warning(
          `table ${id} has children by inheritance, whose rows are not among its own here: ${
            left.map(tableId).join(", ")
          }`,
          "Name the children in tables, too: each is a table of its own at the destination.",
          { table: id }
        )
    }
  }
}

const isText = (type: LogicalType): boolean => type._tag === "Other" || (type._tag === "Array" && isText(type.element))

const textTypes: Check<Inspection> = {
  name: "text-types",
  looksAt: "every column's type has a type of its own at the destination",
  severities: ["info"],
  *find({ catalog }) {
    for (const { schema: { columns, table } } of catalog.tables) {
      const names = columns.filter(({ type }) => isText(type)).map(({ name, sourceType }) => `${name} (${sourceType})`)
      if (names.length === 0) continue
      const id = tableId(table)
      yield info(`columns of table ${id} are carried as the text that PostgreSQL writes: ${names.join(", ")}`, "", {
        table: id
      })
    }
  }
}

const sequences: Check<Inspection> = {
  name: "sequences",
  looksAt: "no table has a sequence",
  severities: ["info"],
  *find(inspection) {
    const names = [...detailed(inspection)].flatMap(({ detail }) => detail.sequences)
    if (names.length === 0) return
    yield info(
      `the server doesn't publish sequences; the values that columns got from them are in the rows: ${names.join(", ")}`
    )
  }
}

const largeObjects: Check<Inspection> = {
  name: "large-objects",
  looksAt: "no table refers to large objects",
  severities: ["warning"],
  *find(inspection) {
    if (!inspection.largeObjects) return
    for (const { detail: { largeObjectColumns }, id } of detailed(inspection)) {
      if (largeObjectColumns.length === 0) continue
      yield warning(
        `table ${id} may refer to large objects (${
          largeObjectColumns.join(", ")
        }): their numbers are replicated, their contents are not`,
        "Keep such contents in columns of type bytea when the destination needs them.",
        { table: id }
      )
    }
  }
}

const virtualColumns: Check<Inspection> = {
  name: "virtual-columns",
  looksAt: "no generated column is virtual",
  severities: ["warning"],
  *find(inspection) {
    for (const { detail: { virtualColumns }, id } of detailed(inspection)) {
      if (virtualColumns.length === 0) continue
      yield warning(
        `virtual generated columns of table ${id} can't be published, whatever the publication's settings: ${
          virtualColumns.join(", ")
        }`,
        "Compute them at the destination, or make them STORED.",
        { table: id }
      )
    }
  }
}

/** The members' details with their tables; those of partitions and of tables outside of the pipeline are left out. */
function* published(inspection: Inspection) {
  for (const { detail, id, table } of detailed(inspection)) {
    const member = inspection.members.find((candidate) => candidate.table === table.oid)
    if (member !== undefined) yield { detail, id, member, table }
  }
}

/** Publishes a table with another column list, in one transaction: no change in between is left out. */
const relist = ({ settings }: Inspection, table: Catalog.CatalogTable, columns: ReadonlyArray<string>) => {
  const publication = `ALTER PUBLICATION ${Sql.identifier(settings.publication.name)}`
  const name = `${table.partitioned ? "" : "ONLY "}${Sql.table(table.schema.table)}`
  const filter = table.rowFilter === undefined ? "" : ` WHERE (${table.rowFilter})`
  return [
    "BEGIN;",
    `${publication} DROP TABLE ${name};`,
    `${publication} ADD TABLE ${name} (${columns.map(Sql.identifier).join(", ")})${filter};`,
    "COMMIT;"
  ]
}

const columnLists: Check<Inspection> = {
  name: "publication-column-lists",
  looksAt: "every column list of the publication has the columns that identify rows",
  severities: ["critical"],
  *find(inspection) {
    if (!publishesChanges(inspection)) return
    for (const { detail, id, member: { listed }, table } of published(inspection)) {
      if (listed === null) continue
      const full = table.replicaIdentity === "f"
      const left = detail.identity.filter((column) => !listed.includes(column))
      if (left.length === 0 && !full) continue
      yield critical(
        "Misconfigured",
        full
          ? `table ${id} has REPLICA IDENTITY FULL and a column list: PostgreSQL refuses updates and deletes of its rows`
          : `the publication's column list of table ${id} leaves out ${
            left.join(", ")
          }, which identify its rows: PostgreSQL ` +
            "refuses updates and deletes of them",
        full ? "Go back to the primary key, or drop the column list." : "Add them to the column list.",
        {
          sql: full
            ? [`ALTER TABLE ${Sql.table(table.schema.table)} REPLICA IDENTITY DEFAULT;`]
            : relist(inspection, table, [...listed, ...left]),
          table: id
        }
      )
    }
  }
}

const rowFilters: Check<Inspection> = {
  name: "publication-row-filters",
  looksAt: "row filters of the publication use only columns that identify rows",
  severities: ["critical"],
  *find(inspection) {
    if (!publishesChanges(inspection)) return
    for (const { detail, id, member: { filtered }, table } of published(inspection)) {
      if (table.replicaIdentity === "f") continue
      const outside = filtered.filter((column) => !detail.identity.includes(column))
      if (outside.length === 0) continue
      yield critical(
        "Misconfigured",
        `the publication's row filter of table ${id} uses ${
          outside.join(", ")
        }, which the replica identity doesn't have: ` +
          "PostgreSQL refuses updates and deletes of its rows",
        "Let the log hold whole old rows, or filter by columns of the key.",
        { sql: [`ALTER TABLE ${Sql.table(table.schema.table)} REPLICA IDENTITY FULL;`], table: id }
      )
    }
  }
}

const extraTables: Check<Inspection> = {
  name: "publication-extra-tables",
  looksAt: "the publication has only tables of the pipeline",
  severities: ["info", "warning"],
  *find({ catalog, publication, settings }) {
    if (publication === undefined) return
    const { name } = settings.publication
    const wanted = new Set(
      catalog.tables.flatMap(({ heaps, schema }) => [schema.table, ...heaps.map(({ table }) => table)].map(tableId))
    )
    const extra = [...publication.tables.keys()].filter((id) => !wanted.has(id))
    if (extra.length === 0) return
    const members = publication.members.filter((member) => !wanted.has(tableId(member)))
    const names = extra.slice(0, 10).join(", ") + (extra.length > 10 ? ` and ${extra.length - 10} more` : "")
    yield members.length === 0
      ? info(
        `publication ${name} has ${
          publication.allTables ? "all tables" : "whole schemas"
        }, also ones outside of the pipeline, whose changes are sent and thrown away: ${names}`,
        "PostgreSQL refuses updates and deletes of such tables, too, when they have no primary key. Use FOR TABLE to avoid both."
      )
      : warning(
        `publication ${name} has tables outside of the pipeline, whose changes are sent and thrown away: ${names}`,
        "Remove them unless another pipeline uses this publication.",
        {
          sql: [`ALTER PUBLICATION ${Sql.identifier(name)} DROP TABLE ${members.map(Sql.table).join(", ")};`]
        }
      )
  }
}

const tableSizes: Check<Inspection> = {
  name: "table-sizes",
  looksAt: "there is nothing to copy",
  severities: ["info"],
  *find({ catalog }) {
    if (catalog.tables.length === 0) return
    const bytes = catalog.tables.reduce((sum, { estimatedBytes }) => sum + estimatedBytes, 0)
    const rows = catalog.tables.reduce<number | undefined>(
      (sum, { estimatedRows }) => sum === undefined || estimatedRows === undefined ? undefined : sum + estimatedRows,
      0
    )
    const count = catalog.tables.length
    yield info(
      `${count} table${count === 1 ? "" : "s"} of ${Units.bytes(bytes)}${
        rows === undefined ? "" : `, about ${Math.round(rows)} rows`
      }, to be replicated`
    )
  }
}

/** In the order in which they are told. */
export const checks: ReadonlyArray<Check<Inspection>> = [
  tableSizes,
  fullIdentity,
  inheritance,
  virtualColumns,
  textTypes,
  sequences,
  largeObjects,
  columnLists,
  rowFilters,
  extraTables
]
