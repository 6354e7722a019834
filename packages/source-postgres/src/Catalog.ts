/**
 * What the server's catalog says about the tables to replicate: columns, types, identity, sizes, privileges.
 *
 * Ordinary and partitioned tables are taken; a partition is left out when a table that it belongs to is taken, because
 * its rows are published as that table's. The physical tables that hold a table's rows (itself, or its leaf partitions)
 * are its `heaps`: the copy reads those.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { TablePattern } from "@etl-stream/core/TablePattern"
import { type Identity, tableId, type TableName, type TableSchema } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Connections } from "./Connections.ts"
import * as EnumLabels from "./EnumLabels.ts"
import * as CatalogRows from "./internal/catalogRows.ts"
import * as Lsn from "./Lsn.ts"
import * as Partition from "./Partition.ts"
import * as PostgresError from "./PostgresError.ts"
import * as PostgresType from "./PostgresType.ts"
import type { PublicationState } from "./Publication.ts"
import * as Publication from "./Publication.ts"
import * as TableOrigin from "./TableOrigin.ts"

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
  /** Size in pages when the catalog was read, and in bytes with what is stored out of line. */
  readonly pages: number
  readonly bytes: number
  /** All its columns may be read directly (rather than by way of the partitioned table). */
  readonly readable: boolean
  /** `relreplident`: `d` primary key, `i` index, `f` full, `n` nothing. */
  readonly replicaIdentity: string
  readonly foreign: boolean
  readonly unlogged: boolean
  /** Its rows are laid out as the table's: the same columns, dropped ones included, at the same numbers. */
  readonly tableLayout: boolean
  /** Condition of the publication for its rows, where partitions are published under their own names. */
  readonly rowFilter: string | undefined
}

export interface CatalogTable {
  readonly oid: number
  readonly schema: TableSchema
  readonly origin: TableOrigin.Origin
  readonly columns: ReadonlyArray<CatalogColumn>
  /** Names of the columns of the key, when rows are identified by one, in the order of its index. */
  readonly keyColumns: ReadonlyArray<string>
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

const whyNot = (relation: CatalogRows.Relation): string | undefined => {
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

const keyOf = (replicaIdentity: string, keys: ReadonlyArray<CatalogRows.Key>): CatalogRows.Key | undefined =>
  replicaIdentity === "i" ? keys.find((key) => key.replica) : keys.find((key) => key.primary)

const indexesOf = (key: CatalogRows.Key, columns: ReadonlyArray<CatalogRows.Column>): Array<number> =>
  key.columns.map((number) => columns.findIndex((column) => column.number === number))

const identityOf = (
  replicaIdentity: string,
  keys: ReadonlyArray<CatalogRows.Key>,
  columns: ReadonlyArray<CatalogRows.Column>
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
const choose = (relations: ReadonlyArray<CatalogRows.Relation>, patterns: ReadonlyArray<TablePattern>) => {
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

/** The first version that may publish generated columns. Before it, its catalog may list them though it never sends them. */
const publishesGenerated = 180000

/** Columns that the server sends: those of the publication's column list, and generated ones only where the server can. */
const published = (
  columns: ReadonlyArray<CatalogRows.Column>,
  listed: ReadonlyArray<string> | undefined,
  serverVersion: number
): ReadonlyArray<CatalogRows.Column> =>
  columns.filter((column) =>
    (column.generated === "" || (listed !== undefined && serverVersion >= publishesGenerated)) &&
    (listed === undefined || listed.includes(column.name))
  )

const heapOf = (row: CatalogRows.HeapRow, rowFilter: string | undefined): Heap => ({
  oid: row.oid,
  table: { schema: row.schema, name: row.name },
  pages: row.pages,
  bytes: row.bytes,
  readable: row.readable,
  replicaIdentity: row.replicaIdentity,
  foreign: row.kind === "f",
  unlogged: row.persistence === "u",
  tableLayout: row.rootLayout,
  rowFilter
})

const filesOf = (heaps: ReadonlyArray<CatalogRows.HeapRow>): ReadonlyArray<readonly [oid: number, file: number]> =>
  heaps.filter(({ kind }) => kind === "r").map(({ file, oid }) => [oid, file] as const)

/** Reads the tables that match `patterns`, as `publication` (when it exists) publishes them. */
export const read = Effect.fn("PostgresSource.catalog")(function*(
  connections: Connections,
  patterns: ReadonlyArray<TablePattern>,
  publication: PublicationState | undefined,
  serverVersion: number
) {
  const doing = "reading the catalog"
  const [now] = yield* connections.query(doing, CatalogRows.Position, CatalogRows.positionQuery)
  const relations = yield* connections.query(doing, CatalogRows.Relation, CatalogRows.relationQuery)
  const { chosen, excluded, unmatched } = choose(relations, patterns)
  const nameOf = new Map(relations.map(({ name, oid, schema }) => [oid, { schema, name }]))
  const oids = chosen.map((relation) => relation.oid)
  // Sizes need a lock of each table for a moment, and so wait for DDL that is just about to commit.
  const heaps = group(
    yield* connections.query(doing, CatalogRows.HeapRow, CatalogRows.heapQuery, [oids]),
    (row) => row.root
  )
  const details = new Map(
    (yield* connections.query(doing, CatalogRows.Detail, CatalogRows.detailQuery, [oids])).map((row) => [row.oid, row])
  )
  const columns = group(
    yield* connections.query(doing, CatalogRows.Column, CatalogRows.columnQuery, [oids]),
    (row) => row.table
  )
  const keys = group(yield* connections.query(doing, CatalogRows.Key, CatalogRows.keyQuery, [oids]), (row) => row.table)
  const roots = chosen.filter(({ kind }) => kind === "p").map(({ oid }) => oid)
  const links = group(yield* Partition.links(connections, roots), (row) => row.root)
  const entries = publication === undefined
    ? new Map<number, ReadonlyArray<number>>()
    : yield* Publication.entries(connections, publication.name, serverVersion, [
      ...oids,
      ...publication.viaRoot ? [] : [...links.values()].flatMap((rows) => rows.map((row) => row.oid))
    ])
  const histories = new Map(
    (yield* connections.query(doing, CatalogRows.History, CatalogRows.historyQuery, [oids])).map((
      row
    ) => [row.table, row])
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

  // Without a publication: as one of ours will be.
  const viaRoot = publication?.viaRoot ?? Publication.convertsRows(serverVersion)
  const withoutColumns: Array<string> = []
  const tables = chosen.flatMap((relation): ReadonlyArray<CatalogTable> => {
    const detail = details.get(relation.oid)
    // Dropped between two queries.
    if (detail === undefined) return []
    const ownHeaps = heaps.get(relation.oid) ?? []
    const byPartition = relation.kind === "p" && !viaRoot
    const parts = byPartition
      ? ownHeaps.flatMap((heap) => {
        const entry = publication?.tables.get(tableId(heap))
        return entry === undefined ? [] : [{ ...entry, heap }]
      })
      : []
    const entry = byPartition ? parts[0] : publication?.tables.get(tableId(relation))
    const all = columns.get(relation.oid) ?? []
    const sent = published(all, entry?.columns, serverVersion)
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
    const identity = identityOf(detail.replicaIdentity, tableKeys, sent)
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
      byPartition,
      former: [],
      base: detail.lastNumber,
      touched: [],
      left: [],
      whole: identity._tag === "Full"
    }
    return [{
      oid: relation.oid,
      origin,
      schema: {
        table: { schema: relation.schema, name: relation.name },
        version: 1,
        columns: sent.map((column) => {
          const { sourceType, type } = PostgresType.resolve(typeCatalog, column.typeOid, column.typmod)
          return {
            name: column.name,
            type,
            sourceType,
            nullable: !column.notNull,
            id: `${relation.oid}.${column.number}`
          }
        }),
        identity,
        origin: TableOrigin.format(origin)
      },
      columns: sent.map(({ name, number, readable, typeOid, typmod }) => ({ name, number, readable, typeOid, typmod })),
      keyColumns: identity._tag !== "Key"
        ? []
        : (key?.columns ?? []).flatMap((number) =>
          sent.filter((column) => column.number === number).map(({ name }) => name)
        ),
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
