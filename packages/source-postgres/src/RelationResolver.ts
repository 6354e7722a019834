/**
 * Which table, in which shape, a Relation message of the replication stream is about.
 *
 * A message tells columns, types and the columns of the replica identity as they were at its place in the log; the catalog,
 * read at the start, tells the rest. Before the position at which the catalog was read, the log may hold shapes that are history:
 * the start has judged by the tables' origins whether the copies at the sink are still good, so their rows are read as rows of the table as it is now
 * (`ColumnHistory`): columns under the names that they have now, those that are gone left out, those that came later null. From that position on, a
 * shape other than the catalog's is news and ends the run; the next one reads the catalog, and judges, again.
 *
 * A publication may publish a table's partitions under their own names: their changes are the table's, with its columns in its order.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import { type Identity, type TableId, tableId, type TableName, type TableSchema } from "@etl-stream/core/TableSchema"
import type { Catalog, CatalogTable } from "./Catalog.ts"
import * as ColumnHistory from "./ColumnHistory.ts"
import { sameShape } from "./internal/relation.ts"
import type * as Lsn from "./Lsn.ts"
import type { Relation, RelationColumn } from "./PgOutputDecoder.ts"
import * as PostgresError from "./PostgresError.ts"
import * as PostgresType from "./PostgresType.ts"

/** OIDs from here on are given to what was created in the database (`FirstNormalObjectId`). */
const firstUserOid = 16384

export class RelationResolver {
  /** The type that made `resolve` fail because the catalog was read before it was created. */
  unknownType: number | undefined
  /** The table that made `resolve` fail because nobody can tell which of its columns a relation of the past is about: it has to be copied again. */
  unreadable: number | undefined
  /** How often a relation was announced again: the server does so when it, or the publication, may have changed. */
  repeated = 0
  private readonly announced = new Set<number>()
  private readonly relations: Set<number>
  private byPartition: CatalogTable | undefined
  private readonly keepRows: boolean
  private types: PostgresType.TypeCatalog
  private readonly position: Lsn.Lsn
  /** Where the catalog was read for tables that joined later. */
  private readonly joined = new Map<CatalogTable, Lsn.Lsn>()
  private readonly vanished: (oid: number) => boolean
  private readonly byOid: Map<number, CatalogTable>
  private readonly byName: Map<TableId, CatalogTable>
  private readonly latest = new Map<TableId, TableSchema>()
  private readonly names = new WeakMap<Relation, ReadonlyArray<string | undefined>>()
  private readonly from: (table: TableId) => Lsn.Lsn

  /**
   * `vanished` says of a type that isn't in the catalog that it isn't in the database any more either; `keepRows` whether rows of a partition that
   * is truncated may stay; `from` from which commit on a table's changes are wanted.
   */
  constructor(
    { position, relations, tables, types }: Catalog,
    vanished: (oid: number) => boolean,
    keepRows = false,
    from: (table: TableId) => Lsn.Lsn = () => 0n
  ) {
    this.from = from
    this.types = types
    this.position = position
    this.relations = new Set(relations)
    this.vanished = vanished
    this.keepRows = keepRows
    this.byPartition = tables.find((table) => table.byPartition)
    this.byOid = new Map(tables.flatMap((table) => [...table.parts].map((oid) => [oid, table] as const)))
    this.byName = new Map(tables.map((table) => [tableId(table.schema.table), table]))
    for (const { schema } of tables) this.latest.set(tableId(schema.table), schema)
  }

  /** Takes in tables of a catalog that was read later, or has known ones begin anew with it. */
  join({ position, relations, types }: Catalog, tables: ReadonlyArray<CatalogTable>): void {
    this.types = types
    for (const oid of relations) this.relations.add(oid)
    for (const table of tables) {
      const id = tableId(table.schema.table)
      this.joined.set(table, position)
      for (const oid of table.parts) this.byOid.set(oid, table)
      this.byName.set(id, table)
      this.latest.set(id, table.schema)
      if (table.byPartition) this.byPartition ??= table
    }
  }

  /** Whether a change that commits at `commit` is newer than what the catalog says of a table. */
  private isNews(table: CatalogTable | undefined, commit: Lsn.Lsn): boolean {
    return commit >= (table === undefined ? this.position : this.joined.get(table) ?? this.position)
  }

  /**
   * The table's shape, undefined for a table that isn't replicated. Throws a `ConnectorError` with reason `Fenced` for a shape,
   * or a type, that is newer than the catalog: the next run knows it.
   */
  readonly resolve = (relation: Relation, commit: Lsn.Lsn): TableSchema | undefined => {
    if (this.announced.has(relation.oid)) this.repeated++
    else this.announced.add(relation.oid)
    const table = this.byOid.get(relation.oid)
    const named = this.byName.get(tableId(relation))
    if (this.isNews(table ?? named, commit)) {
      // Copies that begin later than here were made of the catalog's shape, so this is never about changes that they hold.
      const affected = table ?? named
      const own = table === undefined || table.oid === relation.oid
      if (affected !== undefined && ((own && table !== named) || !isShapeOf(affected, relation))) {
        throw changed(affected)
      }
      if (table === undefined && this.byPartition !== undefined && !this.relations.has(relation.oid)) {
        throw perhapsPartition(this.byPartition, relation)
      }
    }
    // Another table that had this one's name for a while: its changes were never this one's.
    if (table === undefined) return undefined
    const shape = this.isNews(table, commit) ? this.shapeNow(table, relation) : this.shapeThen(table, relation, commit)
    const { schema } = table
    if (this.isNews(table, commit) && table.oid === relation.oid && !sameIdentity(shape, schema)) throw changed(table)
    const id = tableId(schema.table)
    const before = this.latest.get(id) ?? schema
    if (sameShape(before, shape)) return before
    const next = { ...shape, version: before.version + 1 }
    this.latest.set(id, next)
    return next
  }

  /** See `PgOutputDecoder.Options.namesNow`. */
  readonly namesNow = (relation: Relation): ReadonlyArray<string | undefined> | undefined => this.names.get(relation)

  /** The shape that the catalog has, the relation's columns being known to be the same. */
  private shapeNow(table: CatalogTable, relation: Relation): TableSchema {
    this.names.delete(relation)
    return { ...table.schema, identity: identityOf(relation, relation.columns.map(({ name }) => name), table) }
  }

  /** The shape that a relation of the past is read in: the catalog's, with the identity that it had then. */
  private shapeThen(table: CatalogTable, relation: Relation, commit: Lsn.Lsn): TableSchema {
    const { schema } = table
    for (const { typeOid } of relation.columns) this.checkType(typeOid, schema.table)
    const names = ColumnHistory.namesNow(relation, table.origin, table.oid === relation.oid)
    const known = names !== undefined &&
      relation.columns.every(({ key }, index) => !key || relation.replicaIdentity === "f" || names[index] !== undefined)
    if (known) {
      this.names.set(relation, names)
      return { ...schema, identity: identityOf(relation, names, table) }
    }
    // Its changes are part of the copy, so that nothing has to be known of them.
    if (commit < this.from(tableId(schema.table))) return this.asInLog(table, relation)
    this.unreadable = table.oid
    throw unreadable(table)
  }

  /** The shape as the relation has it. */
  private asInLog(table: CatalogTable, relation: Relation): TableSchema {
    const { schema } = table
    const columns = table.oid === relation.oid ? relation.columns : inOrder(relation, schema)
    this.names.delete(relation)
    return {
      ...schema,
      columns: columns.map((column) => {
        const { sourceType, type } = PostgresType.resolve(this.types, column.typeOid, column.typmod)
        return { name: column.name, type, sourceType, nullable: true }
      }),
      identity: { _tag: "None" }
    }
  }

  /**
   * Whether the truncation of these relations, all of one table, empties it. Only of some partitions: then their rows stay, if they may, or else
   * the run ends, for they can't be told from others at the sink. In the past that has been judged by the table's origin.
   */
  readonly truncates = (relations: ReadonlyArray<number>, commit: Lsn.Lsn): boolean => {
    const table = this.byOid.get(relations[0] ?? 0)
    if (table === undefined || relations.includes(table.oid)) return true
    const emptied = new Set(relations)
    if (table.heaps.every(({ foreign, oid }) => foreign || emptied.has(oid))) return true
    if (!this.isNews(table, commit) || this.keepRows) return false
    throw PostgresError.make(
      "Fenced",
      `a partition of table ${tableId(table.schema.table)} was truncated`,
      "The pipeline starts again by itself and copies the table again.",
      tableId(table.schema.table)
    )
  }

  private checkType(oid: number, table: TableName): void {
    if (oid < firstUserOid || this.types.get(oid) !== undefined || this.vanished(oid)) return
    this.unknownType = oid
    throw PostgresError.make(
      "Fenced",
      `table ${tableId(table)} has a column of a type that was created after the pipeline started`,
      "The pipeline starts again by itself and reads the types of the database anew.",
      tableId(table)
    )
  }
}

/** Whether the relation has the columns that the catalog knows; those of a partition may stand in any order. */
const isShapeOf = (table: CatalogTable, relation: Relation): boolean =>
  table.columns.length === relation.columns.length &&
  table.columns.every((column, index) => {
    const other = table.oid === relation.oid
      ? relation.columns[index]
      : relation.columns.find(({ name }) => name === column.name)
    return other?.name === column.name && other.typeOid === column.typeOid && other.typmod === column.typmod
  })

/** A partition's columns in the order of its table. */
const inOrder = (relation: Relation, { columns }: TableSchema): ReadonlyArray<RelationColumn> => {
  const places = new Map(columns.map(({ name }, index) => [name, index]))
  const place = ({ name }: RelationColumn) => places.get(name) ?? columns.length
  return relation.columns.toSorted((a, b) => place(a) - place(b))
}

const sameIdentity = (a: TableSchema, b: TableSchema): boolean => {
  const text = ({ columns, identity }: TableSchema) =>
    identity._tag === "Key" ? JSON.stringify(identity.columns.map((index) => columns[index]?.name)) : identity._tag
  return text(a) === text(b)
}

const changed = ({ schema }: CatalogTable): ConnectorError =>
  PostgresError.make(
    "Fenced",
    `the shape of table ${tableId(schema.table)} changed`,
    "The pipeline starts again by itself, reads the catalog anew, and copies the table again if that is needed.",
    tableId(schema.table)
  )

const perhapsPartition = ({ schema }: CatalogTable, relation: Relation): ConnectorError =>
  PostgresError.make(
    "Fenced",
    `table ${tableId(relation)} is new, and may be a partition of ${tableId(schema.table)}`,
    "The pipeline starts again by itself and reads the catalog anew.",
    tableId(schema.table)
  )

/** The identity of rows of a relation whose columns have `names` in the table's schema. */
const identityOf = (
  relation: Relation,
  names: ReadonlyArray<string | undefined>,
  { partialKey, schema }: CatalogTable
): Identity => {
  if (relation.replicaIdentity === "n" || partialKey) return { _tag: "None" }
  if (relation.replicaIdentity === "f") {
    // Every column is flagged then; a primary key is known from the catalog only.
    const { identity } = schema
    return identity._tag === "Key" &&
        identity.columns.every((index) => names.includes(schema.columns[index]?.name))
      ? identity
      : { _tag: "Full" }
  }
  const flagged = new Set(names.filter((_, index) => relation.columns[index]?.key === true))
  const columns = schema.columns.flatMap(({ name }, index) => flagged.has(name) ? [index] : [])
  return columns.length === 0 ? { _tag: "None" } : { _tag: "Key", columns }
}

const unreadable = ({ schema }: CatalogTable): ConnectorError =>
  PostgresError.make(
    "Fenced",
    `the log has changes of table ${
      tableId(schema.table)
    } with columns of which it can't be told which ones they are now`,
    "The pipeline starts again by itself and copies the table again.",
    tableId(schema.table)
  )
