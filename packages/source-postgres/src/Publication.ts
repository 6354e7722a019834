/**
 * The publication: what the server sends to this pipeline.
 *
 * A managed publication is created when missing, and gets the tables that it lacks. One that this pipeline created bears its
 * mark, a comment, and is kept to exactly the pipeline's tables: a table that leaves the pipeline leaves it, too, so that
 * its return is noticed, for what happened in between was never read. Nothing is ever removed from any other publication,
 * which may have other readers. Partitioned tables are published as themselves (`publish_via_partition_root`).
 */
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import { type TableId, tableId, type TableName } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { CatalogTable } from "./Catalog.ts"
import type { Connections } from "./Connections.ts"
import * as PostgresError from "./PostgresError.ts"
import * as Sql from "./Sql.ts"

/** How a publication publishes one table. */
export interface PublishedTable {
  /** Columns that are sent; undefined when the server (PostgreSQL 14) has no column lists. */
  readonly columns: ReadonlyArray<string> | undefined
  readonly rowFilter: string | undefined
}

export interface PublicationState {
  readonly name: string
  readonly allTables: boolean
  readonly viaRoot: boolean
  readonly inserts: boolean
  readonly updates: boolean
  readonly deletes: boolean
  readonly truncates: boolean
  /** The role may add tables to it. */
  readonly owned: boolean
  /** The pipeline that created it, by its mark; undefined when somebody else did. */
  readonly pipeline: string | undefined
  readonly tables: ReadonlyMap<TableId, PublishedTable>
  /** Tables that were added by name (rather than by schema or as all tables). */
  readonly members: ReadonlyArray<TableName>
}

const Row = Schema.Struct({
  name: Schema.String,
  allTables: Schema.Boolean,
  viaRoot: Schema.Boolean,
  inserts: Schema.Boolean,
  updates: Schema.Boolean,
  deletes: Schema.Boolean,
  truncates: Schema.Boolean,
  owned: Schema.Boolean,
  comment: Schema.NullOr(Schema.String)
})

const TableRow = Schema.Struct({
  schema: Schema.String,
  name: Schema.String,
  columns: Schema.NullOr(Schema.Array(Schema.String)),
  rowFilter: Schema.NullOr(Schema.String)
})

const publicationQuery =
  `SELECT pubname AS name, puballtables AS "allTables", pubviaroot AS "viaRoot", pubinsert AS inserts,
  pubupdate AS updates, pubdelete AS deletes, pubtruncate AS truncates, pg_has_role(pubowner, 'USAGE') AS owned,
  obj_description(oid, 'pg_publication') AS comment
FROM pg_publication WHERE pubname = $1`

/** Column lists and row filters came with PostgreSQL 15. */
const tableQuery = (version: number): string =>
  `SELECT schemaname AS schema, tablename AS name,
  ${version >= 150000 ? "attnames" : "NULL"}::text[] AS columns, ${
    version >= 150000 ? "rowfilter" : "NULL::text"
  } AS "rowFilter"
FROM pg_publication_tables WHERE pubname = $1`

const MemberRow = Schema.Struct({ schema: Schema.String, name: Schema.String })

const memberQuery = `SELECT n.nspname AS schema, c.relname AS name
FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid JOIN pg_class c ON c.oid = r.prrelid
JOIN pg_namespace n ON n.oid = c.relnamespace WHERE p.pubname = $1`

/** What the comment on a publication begins with; the name of the pipeline that created it follows. */
const mark = "etl-stream pipeline "

/** The publication as it is, or undefined when there is none of that name. */
export const read = Effect.fn("PostgresSource.publication")(function*(
  connections: Connections,
  name: string,
  serverVersion: number
) {
  const doing = `reading publication ${name}`
  const [row] = yield* connections.query(doing, Row, publicationQuery, [name])
  if (row === undefined) return undefined
  const tables = yield* connections.query(doing, TableRow, tableQuery(serverVersion), [name])
  const { comment, ...state } = row
  return {
    ...state,
    pipeline: comment?.startsWith(mark) === true ? comment.slice(mark.length) : undefined,
    members: yield* connections.query(doing, MemberRow, memberQuery, [name]),
    tables: new Map(
      tables.map((table) => [tableId(table), {
        columns: table.columns ?? undefined,
        rowFilter: table.rowFilter ?? undefined
      }])
    )
  } satisfies PublicationState
})

/** Tables that `publication` doesn't publish. */
export const missing = (
  publication: PublicationState | undefined,
  tables: ReadonlyArray<CatalogTable>
): ReadonlyArray<CatalogTable> =>
  tables.filter((table) => publication?.tables.has(tableId(table.schema.table)) !== true)

/** ONLY leaves out children by inheritance, whose rows are not the parent's here; a partitioned table always means all of it. */
const member = (table: CatalogTable): string =>
  table.partitioned ? Sql.table(table.schema.table) : `ONLY ${Sql.table(table.schema.table)}`

/** The statement that creates the publication, also for hints. */
export const createStatement = (name: string, tables: ReadonlyArray<CatalogTable>): string =>
  `CREATE PUBLICATION ${Sql.identifier(name)} FOR TABLE ${tables.map(member).join(", ")}` +
  ` WITH (publish_via_partition_root = true)`

/** The statement that adds tables to it, also for hints. */
export const addStatement = (name: string, tables: ReadonlyArray<CatalogTable>): string =>
  `ALTER PUBLICATION ${Sql.identifier(name)} ADD TABLE ${tables.map(member).join(", ")}`

/** Removes tables that left the pipeline from the publication that it created. */
const shrink = Effect.fn("PostgresSource.shrinkPublication")(function*(
  connections: Connections,
  publication: PublicationState,
  tables: ReadonlyArray<CatalogTable>
) {
  const wanted = new Set(tables.map((table) => tableId(table.schema.table)))
  const gone = publication.members.filter((member) => !wanted.has(tableId(member)))
  if (gone.length === 0) return
  const { name } = publication
  yield* connections.execute(
    `removing tables from publication ${name}`,
    `ALTER PUBLICATION ${Sql.identifier(name)} DROP TABLE ${gone.map((table) => `ONLY ${Sql.table(table)}`).join(", ")}`
  )
  yield* Effect.logInfo("removed tables from publication", { publication: name, tables: gone.map(tableId) })
})

/**
 * Creates a managed publication, or adds the tables that it lacks; from one that this pipeline created it removes those that
 * left the pipeline. A table in `copied` (those that the sink holds) may not be missing: its changes since it left the
 * publication are gone, and no later start could tell.
 *
 * @returns whether the publication was created.
 */
export const ensure = Effect.fn("PostgresSource.ensurePublication")(function*(
  connections: Connections,
  publication: PublicationState | undefined,
  tables: ReadonlyArray<CatalogTable>,
  copied: (table: TableId) => boolean
) {
  const { pipeline, publication: { manage, name } } = connections.settings
  const absent = missing(publication, tables)
  const lost = absent.filter((table) => copied(tableId(table.schema.table))).map((table) => tableId(table.schema.table))
  if (lost.length > 0) {
    return yield* PostgresError.make(
      "Lost",
      publication === undefined
        ? `publication ${name} is gone while the sink holds copies of ${lost.join(", ")}`
        : `publication ${name} no longer publishes ${lost.join(", ")}, which the sink holds copies of`,
      "Changes made in between are missing and can't be had any more. Remove these tables from the sink so that they are copied again."
    )
  }
  if (manage && publication?.pipeline === pipeline) yield* shrink(connections, publication, tables)
  if (absent.length === 0) return false
  if (!manage) {
    return yield* PostgresError.make(
      "Misconfigured",
      `publication ${name} does not publish ${absent.map((table) => tableId(table.schema.table)).join(", ")}`,
      `Run as the tables' owner: ${
        publication === undefined ? createStatement(name, absent) : addStatement(name, absent)
      }; or set publication.manage to true, or narrow tables.`
    )
  }
  const statement = publication === undefined ? createStatement(name, absent) : addStatement(name, absent)
  // Both statements are one transaction: a publication of ours never goes without its mark.
  const marking = publication === undefined
    ? `; COMMENT ON PUBLICATION ${Sql.identifier(name)} IS ${Sql.literal(mark + pipeline)}`
    : ""
  yield* connections.execute(`changing publication ${name}`, statement + marking).pipe(
    Effect.mapError((error) =>
      error.reason === "Forbidden"
        ? new ConnectorError({
          ...error,
          hint: `Run as the tables' owner: ${statement}; then set publication.manage to false.`
        })
        : error
    )
  )
  yield* Effect.logInfo(
    publication === undefined ? "created publication" : "added tables to publication",
    { publication: name, tables: absent.map((table) => tableId(table.schema.table)) }
  )
  return publication === undefined
})
