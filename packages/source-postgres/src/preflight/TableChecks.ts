/**
 * Checks of the tables that every run makes: which there are, privileges, replica identities.
 */
import type { Check } from "@etl-stream/core/Check"
import { critical, type Found, warning } from "@etl-stream/core/Finding"
import { tableId } from "@etl-stream/core/TableSchema"
import type * as Catalog from "../Catalog.ts"
import * as Sql from "../Sql.ts"
import type { Facts } from "./Facts.ts"

export const tablePatterns: Check<Pick<Facts, "catalog">> = {
  name: "table-patterns",
  looksAt: "every pattern of tables matches a table",
  severities: ["critical"],
  *find({ catalog }) {
    for (const pattern of catalog.unmatched) {
      const instead = catalog.excluded.length === 0
        ? ""
        : ` There is ${catalog.excluded.join(", ")}, which can't be replicated.`
      yield critical(
        "Missing",
        `no table matches ${pattern.text}.${instead}`,
        "Correct tables in the source's options: names are taken exactly as they are stored, upper and lower case included."
      )
    }
  }
}

const excludedTables: Check<Facts> = {
  name: "excluded-tables",
  looksAt: "everything that the patterns match can be replicated",
  severities: ["warning"],
  *find({ catalog }) {
    if (catalog.excluded.length === 0) return
    yield warning(
      `left out, because it can't be replicated: ${catalog.excluded.join(", ")}`,
      "Narrow tables in the source's options to be free of this warning."
    )
  }
}

const partitions: Check<Facts> = {
  name: "partitions",
  looksAt: "no table is partitioned",
  severities: ["warning"],
  *find({ catalog, settings }) {
    const partitioned = catalog.tables.filter((table) => table.partitioned).map((table) => tableId(table.schema.table))
    if (partitioned.length === 0) return
    yield warning(
      `the server publishes neither that a single partition is truncated, detached or dropped, nor the rows of one that is ` +
        `attached: ${partitioned.join(", ")}`,
      settings.removedPartitions === "copy"
        ? "Such a table is copied again. Set removedPartitions to keep where rows of partitions that go may stay at the destination, and attach " +
          "large partitions empty, inserting their rows afterwards."
        : "Rows of partitions that go stay at the destination (removedPartitions: keep); a table that a partition with rows is attached to is " +
          "copied again."
    )
  }
}

const grant = (table: { readonly schema: string; readonly name: string }, role: string): ReadonlyArray<string> => [
  `GRANT USAGE ON SCHEMA ${Sql.identifier(table.schema)} TO ${Sql.identifier(role)};`,
  `GRANT SELECT ON ${Sql.table(table)} TO ${Sql.identifier(role)};`
]

const tablePrivileges: Check<Facts> = {
  name: "table-privileges",
  looksAt: "the role may read every table",
  severities: ["critical"],
  *find({ catalog, server: { role } }) {
    for (const { heaps, partitioned, readable, schema } of catalog.tables) {
      const table = tableId(schema.table)
      if (!readable) {
        yield critical("Forbidden", `role ${role} may not read table ${table}`, "Grant the role what it lacks.", {
          sql: grant(schema.table, role),
          table
        })
      }
      // A table with foreign partitions, or row filters of partitions, is copied partition by partition, see Snapshot.
      const why = !partitioned
        ? undefined
        : heaps.some(({ foreign }) => foreign)
        ? `because table ${table} has foreign partitions, too`
        : heaps.some(({ rowFilter }) => rowFilter !== undefined)
        ? `because the publication has row filters for partitions of table ${table}`
        : undefined
      for (const heap of why === undefined ? [] : heaps) {
        if (heap.foreign || heap.readable) continue
        yield critical(
          "Forbidden",
          `role ${role} may not read partition ${tableId(heap.table)}, which has to be copied by itself ${why}`,
          "Grant the role what it lacks.",
          { sql: grant(heap.table, role), table }
        )
      }
    }
  }
}

const partitionColumns: Check<Facts> = {
  name: "partition-columns",
  looksAt: "the publication publishes the same columns of all partitions of a table",
  severities: ["critical"],
  *find({ catalog }) {
    for (const { schema, unlikePartitions } of catalog.tables) {
      const table = tableId(schema.table)
      for (const partition of unlikePartitions) {
        yield critical(
          "Misconfigured",
          `the publication publishes other columns of partition ${
            tableId(partition)
          } than of other partitions of table ${table}`,
          "Give all partitions the same column list, or list the partitions in tables, each as a table of its own.",
          { table }
        )
      }
    }
  }
}

const partitionLogging: Check<Facts> = {
  name: "partition-logging",
  looksAt: "the changes of every partition are in the log",
  severities: ["critical"],
  *find({ catalog }) {
    for (const { heaps, partitioned, schema } of catalog.tables) {
      for (const heap of partitioned ? heaps : []) {
        if (!heap.unlogged) continue
        yield critical(
          "Misconfigured",
          `partition ${tableId(heap.table)} is an unlogged table: its changes are not in the log`,
          "Let its changes be logged.",
          { sql: [`ALTER TABLE ${Sql.table(heap.table)} SET LOGGED;`], table: tableId(schema.table) }
        )
      }
    }
  }
}

const rowLevelSecurity: Check<Facts> = {
  name: "row-level-security",
  looksAt: "row-level security hides no row from the role",
  severities: ["critical"],
  *find({ catalog, server: { role } }) {
    for (const { rowsHidden, schema } of catalog.tables) {
      if (!rowsHidden) continue
      const table = tableId(schema.table)
      yield critical(
        "Forbidden",
        `row-level security hides rows of table ${table} from role ${role}`,
        "Let the role see every row.",
        { sql: [`ALTER ROLE ${Sql.identifier(role)} BYPASSRLS;`], table }
      )
    }
  }
}

const publishesGenerated = (server: Facts["server"]): boolean => server.version >= 180000

/** `virtualOf` gives columns that no setting can make the server publish, which are told elsewhere. */
export const generatedColumns = <F extends Facts>(
  virtualOf: (facts: F, oid: number) => ReadonlyArray<string>
): Check<F> => ({
  name: "generated-columns",
  looksAt: "no generated column is left out by the server",
  severities: ["warning"],
  *find(facts) {
    const { catalog, publication, server, settings } = facts
    for (const { oid, omittedColumns, schema } of catalog.tables) {
      const virtual = virtualOf(facts, oid)
      const columns = omittedColumns.filter((column) => !virtual.includes(column))
      if (columns.length === 0) continue
      const table = tableId(schema.table)
      const message = `generated columns of table ${table} are not replicated by the server: ${columns.join(", ")}`
      yield publishesGenerated(server) && publication !== undefined
        ? warning(
          message,
          "Let the publication publish stored ones; compute virtual ones at the destination when they are needed there.",
          {
            sql: [
              `ALTER PUBLICATION ${Sql.identifier(settings.publication.name)} SET (publish_generated_columns = stored);`
            ],
            table
          }
        )
        : warning(message, "Compute them at the destination when they are needed there.", { table })
    }
  }
})

/** Whether updates and deletes are published: only they need an identity. */
const publishesChanges = ({ publication }: Facts): boolean =>
  publication === undefined || publication.updates || publication.deletes

/** See "REPLICA IDENTITY" of ALTER TABLE. */
const missingIdentity = ({ replicaIdentity, schema }: Catalog.CatalogTable): Found => {
  const table = tableId(schema.table)
  const alter = (identity: string) => `ALTER TABLE ${Sql.table(schema.table)} REPLICA IDENTITY ${identity};`
  switch (replicaIdentity) {
    case "n":
      return critical(
        "Misconfigured",
        `table ${table} has REPLICA IDENTITY NOTHING, so updates and deletes can't be replicated`,
        "Give it a primary key and REPLICA IDENTITY DEFAULT, or let the log hold whole old rows:",
        { sql: [alter("FULL")], table }
      )
    case "i":
      return critical(
        "Misconfigured",
        `table ${table} has REPLICA IDENTITY USING INDEX with an index that is gone, invalid or not wholly published: PostgreSQL ` +
          "refuses updates and deletes of its rows once it is published",
        "Make the index anew and name it as REPLICA IDENTITY, or go back to the primary key when there is one:",
        { sql: [alter("DEFAULT")], table }
      )
    default:
      return warning(
        `table ${table} has no primary key (or the publication leaves a column of it out): once it is published, PostgreSQL ` +
          "refuses updates and deletes of its rows",
        "Give it a primary key (one that isn't deferrable), or let the log hold whole old rows:",
        { sql: [alter("FULL")], table }
      )
  }
}

/** `identified` tells of a table whether an index identifies its rows, which only the publication's column list leaves out: that is told elsewhere. */
export const replicaIdentity = <F extends Facts>(identified: (facts: F, oid: number) => boolean): Check<F> => ({
  name: "replica-identity",
  looksAt: "every table has a replica identity for its updates and deletes",
  severities: ["critical", "warning"],
  *find(facts) {
    if (!publishesChanges(facts)) return
    for (const table of facts.catalog.tables) {
      if (table.schema.identity._tag === "None" && !identified(facts, table.oid)) yield missingIdentity(table)
    }
  }
})

/** A complete old row (`f`) serves any identity; otherwise partition and table must agree. */
const fitting = (table: Catalog.CatalogTable, heap: Catalog.Heap): boolean => {
  if (heap.replicaIdentity === "f") return true
  if (table.schema.identity._tag === "Full") return false
  return heap.replicaIdentity === (table.replicaIdentity === "i" ? "i" : "d")
}

const partitionIdentity: Check<Facts> = {
  name: "partition-identity",
  looksAt: "every partition has its table's replica identity",
  severities: ["critical", "warning"],
  *find(facts) {
    const changes = publishesChanges(facts)
    for (const table of facts.catalog.tables.filter(({ partitioned }) => partitioned)) {
      const id = tableId(table.schema.table)
      for (const heap of table.heaps) {
        const name = tableId(heap.table)
        if (heap.foreign) {
          yield warning(
            `partition ${name} is a foreign table: its rows are not replicated`,
            "Replicate them from the server that holds them when they are needed.",
            { table: id }
          )
        } else if (changes && table.schema.identity._tag !== "None" && !fitting(table, heap)) {
          const wanted = table.schema.identity._tag === "Full" ? "FULL" : "DEFAULT"
          yield critical(
            "Misconfigured",
            `partition ${name} has another replica identity than its table ${id}`,
            `Give it the same setting as ${id}${
              table.replicaIdentity === "i" ? ": its own index of the same columns" : ""
            }.`,
            table.replicaIdentity === "i"
              ? { table: id }
              : { sql: [`ALTER TABLE ${Sql.table(heap.table)} REPLICA IDENTITY ${wanted};`], table: id }
          )
        }
      }
    }
  }
}

/** In the order in which they are told. */
export const checks: ReadonlyArray<Check<Facts>> = [
  tablePatterns,
  partitions,
  excludedTables,
  tablePrivileges,
  rowLevelSecurity,
  generatedColumns(() => []),
  replicaIdentity(() => false),
  partitionIdentity,
  partitionColumns,
  partitionLogging
]
