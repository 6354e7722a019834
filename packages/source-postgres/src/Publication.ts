/**
 * The publication: what the server sends to this pipeline.
 *
 * A managed publication is created when missing, and gets the tables that it lacks. One that this pipeline created bears its
 * mark, a comment, and is kept to exactly the pipeline's tables: a table that leaves the pipeline leaves it, too, so that
 * its return is noticed, for what happened in between was never read. Nothing is ever removed from any other publication,
 * which may have other readers. Partitioned tables are published as themselves by a publication that is created here
 * (`publish_via_partition_root`); another one may publish their partitions, each with rows and columns of its own choice.
 */
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import { type TableId, tableId, type TableName } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { CatalogTable } from "./Catalog.ts"
import type { Connections } from "./Connections.ts"
import * as PostgresError from "./PostgresError.ts"
import * as Sql from "./Sql.ts"
import * as StandbyDecoding from "./StandbyDecoding.ts"

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
  /** Schemas all of whose tables it publishes. */
  readonly schemas: ReadonlyArray<string>
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

const SchemaRow = Schema.Struct({ name: Schema.String })

/** Whole schemas came with PostgreSQL 15. */
const schemaQuery = `SELECT n.nspname AS name FROM pg_publication_namespace s JOIN pg_publication p ON p.oid = s.pnpubid
JOIN pg_namespace n ON n.oid = s.pnnspid WHERE p.pubname = $1`

const EntryRow = Schema.Struct({ oid: Schema.Number, entries: Schema.Array(Schema.Number) })

const entryQuery = (version: number): string =>
  `SELECT u.oid, coalesce(array_agg(DISTINCT e.entry ORDER BY e.entry) FILTER (WHERE e.entry IS NOT NULL), '{}') AS entries
FROM unnest($2::oid[]) AS u(oid) JOIN pg_publication p ON p.pubname = $1
CROSS JOIN LATERAL (SELECT a.relid::oid FROM pg_partition_ancestors(u.oid) a UNION SELECT u.oid) l
LEFT JOIN LATERAL (
  SELECT p.oid WHERE p.puballtables
  UNION ALL SELECT r.oid FROM pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = l.relid
  ${
    version >= 150000
      ? `UNION ALL SELECT s.oid FROM pg_publication_namespace s JOIN pg_class c ON c.relnamespace = s.pnnspid
  WHERE s.pnpubid = p.oid AND c.oid = l.relid`
      : ""
  }
) e(entry) ON true GROUP BY u.oid`

/**
 * OIDs of what makes the publication publish each table: its entry for the table or one above it, or for their schemas; its own when it is for all
 * tables. An entry that is removed and made anew has another OID.
 */
export const entries = (connections: Connections, name: string, serverVersion: number, oids: ReadonlyArray<number>) =>
  Effect.map(
    connections.query(`reading publication ${name}`, EntryRow, entryQuery(serverVersion), [name, oids]),
    (rows) => new Map(rows.map((row) => [row.oid, row.entries]))
  )

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
    schemas: serverVersion < 150000
      ? []
      : (yield* connections.query(doing, SchemaRow, schemaQuery, [name])).map((schema) => schema.name),
    tables: new Map(
      tables.map((table) => [tableId(table), {
        columns: table.columns ?? undefined,
        rowFilter: table.rowFilter ?? undefined
      }])
    )
  } satisfies PublicationState
})

const publishes = (publication: PublicationState, { heaps, partitioned, schema: { table } }: CatalogTable): boolean => {
  if (!partitioned || publication.viaRoot) return publication.tables.has(tableId(table))
  const local = heaps.filter(({ foreign }) => !foreign)
  if (local.length > 0) return local.every((heap) => publication.tables.has(tableId(heap.table)))
  // Without partitions it isn't listed, but its first one will be published.
  return publication.allTables || publication.schemas.includes(table.schema) ||
    publication.members.some((one) => tableId(one) === tableId(table))
}

/** Tables that `publication` doesn't publish, or, of a partitioned one, not every partition. */
export const missing = (
  publication: PublicationState | undefined,
  tables: ReadonlyArray<CatalogTable>
): ReadonlyArray<CatalogTable> => tables.filter((table) => publication === undefined || !publishes(publication, table))

/** ONLY leaves out children by inheritance, whose rows are not the parent's here; a partitioned table always means all of it. */
const member = (table: CatalogTable): string =>
  table.partitioned ? Sql.table(table.schema.table) : `ONLY ${Sql.table(table.schema.table)}`

/**
 * Whether the server sends rows of partitions as rows of their table without fail. Before version 15 an invalidation that arrives while pgoutput
 * handles a row makes it forget how to convert rows of a partition that is laid out otherwise: they come with their columns mixed up (seen
 * on 14.23, one row in 25 under concurrent ALTER TABLE; source: `rel_sync_cache_relation_cb`, which frees the map at once).
 */
export const convertsRows = (serverVersion: number): boolean => serverVersion >= 150_000

/** The statement that creates the publication, also for hints. */
export const createStatement = (name: string, tables: ReadonlyArray<CatalogTable>, serverVersion: number): string =>
  `CREATE PUBLICATION ${Sql.identifier(name)} FOR TABLE ${tables.map(member).join(", ")}` +
  ` WITH (publish_via_partition_root = ${convertsRows(serverVersion)})`

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
  yield* connections.primary.execute(
    `removing tables from publication ${name}`,
    `ALTER PUBLICATION ${Sql.identifier(name)} DROP TABLE ${gone.map((table) => `ONLY ${Sql.table(table)}`).join(", ")}`
  )
  yield* Effect.logInfo("removed tables from publication", { publication: name, tables: gone.map(tableId) })
})

/** Creates the publication with tables, or adds them to it. */
export const add = Effect.fn("PostgresSource.addToPublication")(function*(
  connections: Connections,
  publication: PublicationState | undefined,
  absent: ReadonlyArray<CatalogTable>,
  serverVersion: number
) {
  const { pipeline, publication: { name } } = connections.settings
  const statement = publication === undefined
    ? createStatement(name, absent, serverVersion)
    : addStatement(name, absent)
  // Both statements are one transaction: a publication of ours never goes without its mark.
  const marking = publication === undefined
    ? `; COMMENT ON PUBLICATION ${Sql.identifier(name)} IS ${Sql.literal(mark + pipeline)}`
    : ""
  yield* connections.primary.execute(`changing publication ${name}`, statement + marking).pipe(
    Effect.mapError((error) =>
      error.reason === "Forbidden"
        ? new ConnectorError({
          ...error,
          hint: `Run as the tables' owner: ${statement}; then set publication.manage to false.`
        })
        : error
    )
  )
  yield* StandbyDecoding.caughtUp(connections)
  yield* Effect.logInfo(
    publication === undefined ? "created publication" : "added tables to publication",
    { publication: name, tables: absent.map((table) => tableId(table.schema.table)) }
  )
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
  serverVersion: number,
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
        publication === undefined ? createStatement(name, absent, serverVersion) : addStatement(name, absent)
      }; or set publication.manage to true, or narrow tables.`
    )
  }
  yield* add(connections, publication, absent, serverVersion)
  return publication === undefined
})
