/**
 * What the server's catalog says about the tables to replicate: columns, types, identity, sizes, privileges.
 *
 * Ordinary and partitioned tables are taken; a partition is left out when a table that it belongs to is taken, because
 * its rows are published as that table's. The physical tables that hold a table's rows (itself, or its leaf partitions)
 * are its `heaps`: the copy reads those.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import { type Identity, tableId, type TableName, type TableSchema } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Connections } from "./Connections.ts"
import * as EnumLabels from "./EnumLabels.ts"
import * as Lsn from "./Lsn.ts"
import * as Partition from "./Partition.ts"
import * as PostgresError from "./PostgresError.ts"
import * as PostgresType from "./PostgresType.ts"
import type { PublicationState } from "./Publication.ts"
import * as Publication from "./Publication.ts"
import * as TableOrigin from "./TableOrigin.ts"
import type { TablePattern } from "./TablePattern.ts"

/** A column that is published, in the order of the table's schema. */
export interface CatalogColumn {
  /** `attnum`. */
  readonly number: number
  readonly name: string
  readonly typeOid: number
  readonly typmod: number
  readonly readable: boolean
}

/** A physical table with rows of its own. */
export interface Heap {
  readonly oid: number
  readonly table: TableName
  /** Size in pages when the catalog was read. */
  readonly pages: number
  /** All its columns may be read directly (rather than by way of the partitioned table). */
  readonly readable: boolean
  /** `relreplident`: `d` primary key, `i` index, `f` full, `n` nothing. */
  readonly replicaIdentity: string
  readonly foreign: boolean
  readonly unlogged: boolean
  /** Condition of the publication for its rows, where partitions are published under their own names. */
  readonly rowFilter: string | undefined
}

export interface CatalogTable {
  readonly oid: number
  readonly schema: TableSchema
  readonly origin: TableOrigin.Origin
  readonly columns: ReadonlyArray<CatalogColumn>
  readonly partitioned: boolean
  /** The tables that it is a partition of, the nearest first. */
  readonly ancestors: ReadonlyArray<TableName>
  readonly replicaIdentity: string
  /** Every published column may be read. */
  readonly readable: boolean
  /** Row-level security hides rows from the role. */
  readonly rowsHidden: boolean
  /** The role may alter the table, which adding it to a publication needs. */
  readonly owned: boolean
  /** Generated columns, which the server doesn't publish. */
  readonly omittedColumns: ReadonlyArray<string>
  readonly heaps: ReadonlyArray<Heap>
  /** Condition of the publication for this table's rows, an SQL expression; none where partitions are published (`Heap.rowFilter`). */
  readonly rowFilter: string | undefined
  /** The publication publishes its partitions under their own names. */
  readonly byPartition: boolean
  /** Partitions whose published columns are not those of the others. */
  readonly unlikePartitions: ReadonlyArray<TableName>
  /** Tables whose changes are this one's: itself and its partitions, also former ones that the sink's copy has rows of. */
  readonly parts: ReadonlySet<number>
  /** Of the table's key only some columns are published: what identifies a row isn't known. */
  readonly partialKey: boolean
  /** Planner's estimates; undefined when never analysed. */
  readonly estimatedRows: number | undefined
  readonly estimatedBytes: number
}

export interface Catalog {
  /** End of the log just before the catalog was read: what committed before it is in the catalog. */
  readonly position: Lsn.Lsn
  readonly tables: ReadonlyArray<CatalogTable>
  readonly types: PostgresType.TypeCatalog
  /** Patterns that no table matches. */
  readonly unmatched: ReadonlyArray<TablePattern>
  /** Things with a matching name that can't be replicated, and why: `public.v (a view)`. */
  readonly excluded: ReadonlyArray<string>
  /** OIDs of all tables that there are. */
  readonly relations: ReadonlySet<number>
}

const Relation = Schema.Struct({
  oid: Schema.Number,
  schema: Schema.String,
  name: Schema.String,
  kind: Schema.String,
  persistence: Schema.String,
  ancestors: Schema.Array(Schema.Number)
})
type Relation = typeof Relation.Type

const relationQuery = `SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
  c.relpersistence::text AS persistence,
  CASE WHEN c.relispartition
    THEN ARRAY(SELECT a.relid::oid FROM pg_partition_ancestors(c.oid) a WHERE a.relid <> c.oid) ELSE '{}'::oid[] END AS ancestors
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
ORDER BY n.nspname, c.relname`

/** Only what is flushed: that is visible a moment later, sooner than the next query comes. */
const positionQuery =
  `SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END::text AS position`

const Position = Schema.Struct({ position: Schema.NullOr(Schema.String) })

const Detail = Schema.Struct({
  oid: Schema.Number,
  lastNumber: Schema.Number,
  replicaIdentity: Schema.String,
  owned: Schema.Boolean,
  usable: Schema.Boolean,
  rowsHidden: Schema.Boolean
})

const detailQuery = `SELECT c.oid, c.relnatts::int4 AS "lastNumber", c.relreplident::text AS "replicaIdentity",
  pg_has_role(c.relowner, 'USAGE') AS owned,
  has_schema_privilege(c.relnamespace, 'USAGE') AS usable,
  c.relrowsecurity AND row_security_active(c.oid) AS "rowsHidden"
FROM pg_class c WHERE c.oid = ANY($1::oid[])`

const Column = Schema.Struct({
  table: Schema.Number,
  number: Schema.Number,
  name: Schema.String,
  typeOid: Schema.Number,
  typmod: Schema.Number,
  notNull: Schema.Boolean,
  generated: Schema.String,
  altered: Schema.String,
  readable: Schema.Boolean
})
type Column = typeof Column.Type

const columnQuery = `SELECT a.attrelid AS table, a.attnum AS number, a.attname AS name, a.atttypid AS "typeOid",
  a.atttypmod AS typmod, a.attnotnull AS "notNull", a.attgenerated::text AS generated,
  a.xmin::text AS altered, has_column_privilege(a.attrelid, a.attnum, 'SELECT') AS readable
FROM pg_attribute a WHERE a.attrelid = ANY($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum`

const History = Schema.Struct({
  table: Schema.Number,
  missing: Schema.Array(Schema.String),
  files: Schema.Array(Schema.String)
})

/**
 * Columns whose value in older rows is the default that they were added with, in the table or in any of its partitions; and
 * the files of its heaps, once more.
 */
const historyQuery = `SELECT r.root AS table,
  coalesce(array_agg(DISTINCT a.attname::text) FILTER (WHERE a.atthasmissing), '{}') AS missing,
  coalesce(array_agg(DISTINCT c.oid || ' ' || c.relfilenode) FILTER (WHERE c.relkind = 'r'), '{}') AS files
FROM unnest($1::oid[]) AS r(root)
CROSS JOIN LATERAL (SELECT t.relid::oid FROM pg_partition_tree(r.root) t UNION SELECT r.root) l
JOIN pg_class c ON c.oid = l.relid LEFT JOIN pg_attribute a ON a.attrelid = l.relid AND a.atthasmissing
GROUP BY r.root`

const Key = Schema.Struct({
  table: Schema.Number,
  primary: Schema.Boolean,
  replica: Schema.Boolean,
  columns: Schema.Array(Schema.Number)
})
type Key = typeof Key.Type

/** A deferrable key may be violated within a transaction, so PostgreSQL doesn't identify rows by it and neither do we. */
const keyQuery = `SELECT i.indrelid AS table, i.indisprimary AS primary, i.indisreplident AS replica,
  ARRAY(SELECT i.indkey[n] FROM generate_series(0, i.indnkeyatts - 1) n ORDER BY n) AS columns
FROM pg_index i
WHERE i.indrelid = ANY($1::oid[]) AND (i.indisprimary OR i.indisreplident) AND i.indimmediate AND i.indisvalid`

const HeapRow = Schema.Struct({
  root: Schema.Number,
  oid: Schema.Number,
  schema: Schema.String,
  name: Schema.String,
  kind: Schema.String,
  persistence: Schema.String,
  replicaIdentity: Schema.String,
  file: Schema.Number,
  pages: Schema.Number,
  bytes: Schema.Number,
  rows: Schema.Number,
  readable: Schema.Boolean
})
type HeapRow = typeof HeapRow.Type

const heapQuery = `SELECT r.root, c.oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
  c.relpersistence::text AS persistence, c.relreplident::text AS "replicaIdentity", c.relfilenode AS file,
  coalesce(pg_relation_size(c.oid) / current_setting('block_size')::int8, 0)::float8 AS pages,
  coalesce(pg_table_size(c.oid), 0)::float8 AS bytes, c.reltuples::float8 AS rows,
  has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AS readable
FROM unnest($1::oid[]) AS r(root)
CROSS JOIN LATERAL (
  SELECT t.relid FROM pg_partition_tree(r.root) t WHERE t.isleaf
  UNION SELECT r.root WHERE (SELECT relkind FROM pg_class WHERE oid = r.root) = 'r'
) l
JOIN pg_class c ON c.oid = l.relid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'f')
ORDER BY n.nspname, c.relname`

const TypeRow = Schema.Struct({
  oid: Schema.NumberFromString,
  name: Schema.String,
  schema: Schema.String,
  kind: Schema.String,
  baseType: Schema.NumberFromString,
  baseTypmod: Schema.Number,
  element: Schema.NumberFromString
})

/** Reads all types of the database, for `PostgresType.resolve`. */
export const types = (connections: Connections): Effect.Effect<PostgresType.TypeCatalog, ConnectorError> =>
  Effect.map(
    connections.query("reading the types of the database", TypeRow, PostgresType.typeQuery),
    (rows) => new Map(rows.map((row) => [row.oid, row]))
  )

const whyNot = (relation: Relation): string | undefined => {
  switch (relation.kind) {
    case "v":
      return "a view"
    case "m":
      return "a materialized view"
    case "f":
      return "a foreign table"
  }
  return relation.persistence === "u"
    ? "an unlogged table"
    : relation.persistence === "t"
    ? "a temporary table"
    : undefined
}

const isPartial = (indexes: ReadonlyArray<number>): boolean => indexes.includes(-1)

const keyOf = (replicaIdentity: string, keys: ReadonlyArray<Key>): Key | undefined =>
  replicaIdentity === "i" ? keys.find((key) => key.replica) : keys.find((key) => key.primary)

const indexesOf = (key: Key, columns: ReadonlyArray<Column>): Array<number> =>
  key.columns.map((number) => columns.findIndex((column) => column.number === number))

const identityOf = (
  replicaIdentity: string,
  keys: ReadonlyArray<Key>,
  columns: ReadonlyArray<Column>
): Identity => {
  const wanted = keyOf(replicaIdentity, keys)
  if (wanted !== undefined && replicaIdentity !== "n") {
    const indexes = indexesOf(wanted, columns)
    // A column list of the publication can leave out a key column only when it publishes neither updates nor deletes.
    // In the table's order, not the index's: Relation messages know no other.
    return isPartial(indexes) ? { _tag: "None" } : { _tag: "Key", columns: indexes.sort((a, b) => a - b) }
  }
  return replicaIdentity === "f" ? { _tag: "Full" } : { _tag: "None" }
}

const group = <A>(rows: ReadonlyArray<A>, key: (row: A) => number): ReadonlyMap<number, ReadonlyArray<A>> =>
  Map.groupBy(rows, key)

/** Tables that match a pattern, and what else does. Partitions whose root matches are part of the root. */
const choose = (relations: ReadonlyArray<Relation>, patterns: ReadonlyArray<TablePattern>) => {
  const matching = relations.filter((relation) => patterns.some((pattern) => pattern.matches(relation)))
  const candidates = matching.filter((relation) => whyNot(relation) === undefined)
  const taken = new Set(candidates.map((relation) => relation.oid))
  const chosen = candidates.filter((relation) => !relation.ancestors.some((ancestor) => taken.has(ancestor)))
  return {
    chosen,
    unmatched: patterns.filter((pattern) => !candidates.some((relation) => pattern.matches(relation))),
    excluded: matching.filter((relation) => !relation.ancestors.some((ancestor) => taken.has(ancestor))).flatMap(
      (relation) => {
        const reason = whyNot(relation)
        return reason === undefined ? [] : [`${tableId(relation)} (${reason})`]
      }
    )
  }
}

/** Columns that the server sends: those of the publication's column list, and never generated ones before PostgreSQL 18. */
const published = (columns: ReadonlyArray<Column>, listed: ReadonlyArray<string> | undefined): ReadonlyArray<Column> =>
  listed === undefined
    ? columns.filter((column) => column.generated === "")
    : columns.filter((column) => listed.includes(column.name))

const heapOf = (row: HeapRow, rowFilter: string | undefined): Heap => ({
  oid: row.oid,
  table: { schema: row.schema, name: row.name },
  pages: row.pages,
  readable: row.readable,
  replicaIdentity: row.replicaIdentity,
  foreign: row.kind === "f",
  unlogged: row.persistence === "u",
  rowFilter
})

const filesOf = (heaps: ReadonlyArray<HeapRow>): ReadonlyArray<readonly [oid: number, file: number]> =>
  heaps.filter(({ kind }) => kind === "r").map(({ file, oid }) => [oid, file] as const)

/** Reads the tables that match `patterns`, as `publication` (when it exists) publishes them. */
export const read = Effect.fn("PostgresSource.catalog")(function*(
  connections: Connections,
  patterns: ReadonlyArray<TablePattern>,
  publication: PublicationState | undefined,
  serverVersion: number
) {
  const doing = "reading the catalog"
  const [now] = yield* connections.query(doing, Position, positionQuery)
  const relations = yield* connections.query(doing, Relation, relationQuery)
  const { chosen, excluded, unmatched } = choose(relations, patterns)
  const nameOf = new Map(relations.map(({ name, oid, schema }) => [oid, { schema, name }]))
  const oids = chosen.map((relation) => relation.oid)
  // Sizes need a lock of each table for a moment, and so wait for DDL that is just about to commit.
  const heaps = group(yield* connections.query(doing, HeapRow, heapQuery, [oids]), (row) => row.root)
  const details = new Map((yield* connections.query(doing, Detail, detailQuery, [oids])).map((row) => [row.oid, row]))
  const columns = group(yield* connections.query(doing, Column, columnQuery, [oids]), (row) => row.table)
  const keys = group(yield* connections.query(doing, Key, keyQuery, [oids]), (row) => row.table)
  const roots = chosen.filter(({ kind }) => kind === "p").map(({ oid }) => oid)
  const links = group(yield* Partition.links(connections, roots), (row) => row.root)
  const entries = publication === undefined
    ? new Map<number, ReadonlyArray<number>>()
    : yield* Publication.entries(connections, publication.name, serverVersion, [
      ...oids,
      ...publication.viaRoot ? [] : [...links.values()].flatMap((rows) => rows.map((row) => row.oid))
    ])
  const histories = new Map(
    (yield* connections.query(doing, History, historyQuery, [oids])).map((row) => [row.table, row])
  )
  for (const relation of chosen) {
    const files = histories.get(relation.oid)?.files ?? []
    const before = filesOf(heaps.get(relation.oid) ?? []).map((pair) => pair.join(" "))
    if (details.has(relation.oid) && files.toSorted().join() !== before.toSorted().join()) {
      return yield* PostgresError.make(
        "Fenced",
        `table ${tableId(relation)} was altered, rewritten or truncated while the catalog was read`,
        "The pipeline starts again by itself with the tables as they are now.",
        tableId(relation)
      )
    }
  }
  const typeCatalog = yield* types(connections)
  const typesInUse = new Set([...columns.values()].flatMap((list) => list.map(({ typeOid }) => typeOid)))
  const enums = yield* EnumLabels.read(connections, typesInUse)

  const withoutColumns: Array<string> = []
  const tables = chosen.flatMap((relation): ReadonlyArray<CatalogTable> => {
    const detail = details.get(relation.oid)
    // Dropped between two queries.
    if (detail === undefined) return []
    const ownHeaps = heaps.get(relation.oid) ?? []
    const byPartition = relation.kind === "p" && publication?.viaRoot === false
    const parts = byPartition
      ? ownHeaps.flatMap((heap) => {
        const entry = publication.tables.get(tableId(heap))
        return entry === undefined ? [] : [{ ...entry, heap }]
      })
      : []
    const entry = byPartition ? parts[0] : publication?.tables.get(tableId(relation))
    const all = columns.get(relation.oid) ?? []
    const sent = published(all, entry?.columns)
    const listed = (names: ReadonlyArray<string> | undefined) => names?.toSorted().join("\0")
    const tableKeys = keys.get(relation.oid) ?? []
    const key = keyOf(detail.replicaIdentity, tableKeys)
    if (sent.length === 0) {
      withoutColumns.push(`${tableId(relation)} (no published columns)`)
      return []
    }
    const held = ownHeaps.filter((row) => row.kind === "r")
    const filterOf = new Map(parts.map(({ heap, rowFilter }) => [heap.oid, rowFilter]))
    const heapNames = new Map(held.map((heap) => [heap.oid, tableId(heap)]))
    const origin: TableOrigin.Origin = {
      oid: relation.oid,
      columns: sent.map(({ altered, name, number, typeOid, typmod }) => ({
        number,
        name,
        typeOid,
        typmod,
        hasMissing: histories.get(relation.oid)?.missing.includes(name) === true,
        altered,
        enums: enums.get(typeOid) ?? []
      })),
      lastNumber: detail.lastNumber,
      files: filesOf(held),
      gone: [],
      entries: byPartition ? [] : entries.get(relation.oid) ?? [],
      filter: byPartition ? undefined : entry?.rowFilter,
      key: detail.replicaIdentity === "n" ? [] : (key?.columns ?? []).toSorted((a, b) => a - b),
      partitions: relation.kind !== "p" ? undefined : (links.get(relation.oid) ?? []).map(({ born, link, oid }) => ({
        oid,
        name: heapNames.get(oid) ?? String(oid),
        link,
        born,
        entries: byPartition ? entries.get(oid) ?? [] : [],
        filter: filterOf.get(oid)
      })),
      byPartition
    }
    return [{
      oid: relation.oid,
      origin,
      schema: {
        table: { schema: relation.schema, name: relation.name },
        version: 1,
        columns: sent.map((column) => {
          const { sourceType, type } = PostgresType.resolve(typeCatalog, column.typeOid, column.typmod)
          return { name: column.name, type, sourceType, nullable: !column.notNull }
        }),
        identity: identityOf(detail.replicaIdentity, tableKeys, sent),
        origin: TableOrigin.format(origin)
      },
      columns: sent.map(({ name, number, readable, typeOid, typmod }) => ({ name, number, readable, typeOid, typmod })),
      partitioned: relation.kind === "p",
      ancestors: relation.ancestors.flatMap((oid) => nameOf.get(oid) ?? []),
      replicaIdentity: detail.replicaIdentity,
      readable: detail.usable && sent.every((column) => column.readable),
      rowsHidden: detail.rowsHidden,
      owned: detail.owned,
      omittedColumns: all.filter((column) => column.generated !== "" && !sent.includes(column)).map((column) =>
        column.name
      ),
      heaps: ownHeaps.map((heap) => heapOf(heap, filterOf.get(heap.oid))),
      rowFilter: byPartition ? undefined : entry?.rowFilter,
      byPartition,
      unlikePartitions: parts.filter(({ columns }) => listed(columns) !== listed(entry?.columns)).map(({ heap }) => ({
        schema: heap.schema,
        name: heap.name
      })),
      parts: new Set([relation.oid, ...ownHeaps.map(({ oid }) => oid)]),
      partialKey: key !== undefined && isPartial(indexesOf(key, sent)),
      estimatedRows: held.every((row) => row.rows >= 0) ? held.reduce((sum, row) => sum + row.rows, 0) : undefined,
      estimatedBytes: held.reduce((sum, row) => sum + row.bytes, 0)
    }]
  })
  return {
    position: Lsn.parse(now?.position ?? "") ?? 0n,
    tables,
    types: typeCatalog,
    unmatched,
    excluded: [...excluded, ...withoutColumns],
    relations: new Set(relations.map(({ oid }) => oid))
  } satisfies Catalog
})

/** Whether two readings of a table have the same columns, identity and row filter. Snapshots look after files themselves. */
export const sameShape = (a: CatalogTable, b: CatalogTable): boolean => {
  const shape = ({ byPartition, columns, heaps, partitioned, replicaIdentity, rowFilter, schema }: CatalogTable) =>
    JSON.stringify([
      { ...schema, origin: "" },
      columns,
      partitioned,
      replicaIdentity,
      rowFilter ?? null,
      byPartition,
      heaps.map((heap) => [heap.oid, heap.rowFilter ?? null])
    ])
  return shape(a) === shape(b)
}
