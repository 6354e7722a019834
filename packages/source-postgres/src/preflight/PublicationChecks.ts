/**
 * Checks of the publication that every run makes.
 */
import type { Check } from "@etl-stream/core/Check"
import { critical, warning } from "@etl-stream/core/Finding"
import { tableId } from "@etl-stream/core/TableSchema"
import * as Publication from "../Publication.ts"
import * as Sql from "../Sql.ts"
import type { Facts } from "./Facts.ts"

const publicationTables: Check<Facts> = {
  name: "publication-tables",
  looksAt: "the publication has every table, or may be made to",
  severities: ["critical"],
  *find({ catalog, publication, server, settings }) {
    const { manage, name } = settings.publication
    const absent = Publication.missing(publication, catalog.tables)
    if (absent.length === 0) return
    const names = absent.map((table) => tableId(table.schema.table)).join(", ")
    const sql = [
      `${
        publication === undefined
          ? Publication.createStatement(name, absent, server.version)
          : Publication.addStatement(name, absent)
      };`
    ]
    if (!manage) {
      yield critical(
        publication === undefined ? "Missing" : "Misconfigured",
        publication === undefined ? `there is no publication ${name}` : `publication ${name} does not publish ${names}`,
        "Change it as the tables' owner; or set publication.manage to true, or narrow tables.",
        { sql }
      )
    } else if (
      absent.some((table) => !table.owned) ||
      (publication === undefined ? !server.mayCreate : !publication.owned)
    ) {
      yield critical(
        "Forbidden",
        publication === undefined
          ? `role ${server.role} may not create publication ${name} for ${names}`
          : `role ${server.role} may not add ${names} to publication ${name}`,
        "Change it as the tables' owner, and set publication.manage to false.",
        { sql }
      )
    }
  }
}

const publicationPartitions: Check<Facts> = {
  name: "publication-partitions",
  looksAt: "the publication publishes changes of partitions that are listed in tables as their own",
  severities: ["critical"],
  *find({ catalog, publication, settings }) {
    if (publication?.viaRoot !== true) return
    const hidden = catalog.tables.filter(({ ancestors }) =>
      ancestors.some((ancestor) => publication.tables.has(tableId(ancestor)))
    )
    if (hidden.length === 0) return
    const { name } = settings.publication
    yield critical(
      "Misconfigured",
      `publication ${name} publishes changes of ${
        hidden.map(({ schema }) => tableId(schema.table)).join(", ")
      } as those of the ` +
        "tables that they are partitions of",
      "List those tables instead of their partitions, or let the publication publish partitions under their own names.",
      { sql: [`ALTER PUBLICATION ${Sql.identifier(name)} SET (publish_via_partition_root = false);`] }
    )
  }
}

const partitionLayout: Check<Facts> = {
  name: "partition-layout",
  looksAt:
    "rows of partitions can be sent as rows of their table (before PostgreSQL 15: only if both have the same layout)",
  severities: ["critical"],
  *find({ catalog, publication, server, settings }) {
    if (publication?.viaRoot !== true || Publication.convertsRows(server.version)) return
    for (const { heaps, partitioned, schema } of catalog.tables) {
      const other = heaps.find(({ foreign, tableLayout }) => partitioned && !foreign && !tableLayout)
      if (other === undefined) continue
      const table = tableId(schema.table)
      yield critical(
        "Misconfigured",
        `partition ${
          tableId(other.table)
        } has its columns (or dropped ones) in another order than table ${table}, as whose rows publication ` +
          `${settings.publication.name} publishes its own: PostgreSQL ${server.versionText} may mix up their columns when DDL runs meanwhile`,
        "Let the publication publish partitions under their own names (they still arrive as one table), or use PostgreSQL 15 or later.",
        {
          sql: [
            `ALTER PUBLICATION ${Sql.identifier(settings.publication.name)} SET (publish_via_partition_root = false);`
          ],
          table
        }
      )
    }
  }
}

const publicationOperations: Check<Facts> = {
  name: "publication-operations",
  looksAt: "the publication publishes inserts, updates, deletes and truncates",
  severities: ["warning"],
  *find({ publication, settings }) {
    if (publication === undefined) return
    const left = (["inserts", "updates", "deletes", "truncates"] as const).filter((kind) => !publication[kind])
    if (left.length === 0) return
    const { name } = settings.publication
    yield warning(
      `publication ${name} leaves out ${left.join(", ")}: the copies will differ from their tables`,
      "Let it publish every operation, unless the destination is meant to differ.",
      { sql: [`ALTER PUBLICATION ${Sql.identifier(name)} SET (publish = 'insert, update, delete, truncate');`] }
    )
  }
}

/** In the order in which they are told. */
export const checks: ReadonlyArray<Check<Facts>> = [
  publicationTables,
  publicationPartitions,
  partitionLayout,
  publicationOperations
]
