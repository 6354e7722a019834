/**
 * Which table, in which shape, a Relation message of the replication stream is about.
 *
 * A message tells columns, types and the columns of the replica identity as they were at its place in the log; the catalog,
 * read at the start, tells the rest. Before the position at which the catalog was read, the log may hold shapes that are history:
 * the start has judged by the tables' origins whether the copies at the sink are still good, so they are taken as they come. From that position on, a
 * shape other than the catalog's is news and ends the run; the next one reads the catalog, and judges, again.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import { type Identity, type TableId, tableId, type TableName, type TableSchema } from "@etl-stream/core/TableSchema"
import type { Catalog, CatalogTable } from "./Catalog.ts"
import { sameShape } from "./internal/relation.ts"
import type * as Lsn from "./Lsn.ts"
import type { Relation } from "./PgOutputDecoder.ts"
import * as PostgresError from "./PostgresError.ts"
import * as PostgresType from "./PostgresType.ts"

/** OIDs from here on are given to what was created in the database (`FirstNormalObjectId`). */
const firstUserOid = 16384

export class RelationResolver {
  /** The type that made `resolve` fail because the catalog was read before it was created. */
  unknownType: number | undefined
  private readonly types: PostgresType.TypeCatalog
  private readonly position: Lsn.Lsn
  private readonly vanished: (oid: number) => boolean
  private readonly byOid: ReadonlyMap<number, CatalogTable>
  private readonly byName: ReadonlyMap<TableId, CatalogTable>
  private readonly latest = new Map<TableId, TableSchema>()

  /** `vanished` says of a type that isn't in the catalog that it isn't in the database any more either. */
  constructor({ position, tables, types }: Catalog, vanished: (oid: number) => boolean) {
    this.types = types
    this.position = position
    this.vanished = vanished
    this.byOid = new Map(tables.map((table) => [table.oid, table]))
    this.byName = new Map(tables.map((table) => [tableId(table.schema.table), table]))
    for (const { schema } of tables) this.latest.set(tableId(schema.table), schema)
  }

  /**
   * The table's shape, undefined for a table that isn't replicated. Throws a `ConnectorError` with reason `Fenced` for a shape,
   * or a type, that is newer than the catalog: the next run knows it.
   */
  readonly resolve = (relation: Relation, commit: Lsn.Lsn): TableSchema | undefined => {
    const table = this.byOid.get(relation.oid)
    const named = this.byName.get(tableId(relation))
    if (commit >= this.position) {
      // Copies that begin later than here were made of the catalog's shape, so this is never about changes that they hold.
      const affected = table ?? named
      if (affected !== undefined && (table !== named || !isShapeOf(affected, relation))) throw changed(affected)
    }
    // Another table that had this one's name for a while: its changes were never this one's.
    if (table === undefined) return undefined
    const { schema } = table
    const id = tableId(schema.table)
    const before = this.latest.get(id) ?? schema
    const shape: TableSchema = {
      table: schema.table,
      version: before.version + 1,
      columns: relation.columns.map((column) => {
        this.checkType(column.typeOid, schema.table)
        const { sourceType, type } = PostgresType.resolve(this.types, column.typeOid, column.typmod)
        const known = schema.columns.find(({ name }) => name === column.name)
        return { name: column.name, type, sourceType, nullable: known?.nullable ?? true }
      }),
      identity: identityOf(relation, table),
      ...(schema.origin === undefined ? {} : { origin: schema.origin })
    }
    if (sameShape(before, shape)) return before
    this.latest.set(id, shape)
    return shape
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

/** Whether the relation has the columns that the catalog knows. */
const isShapeOf = (table: CatalogTable, relation: Relation): boolean =>
  table.columns.length === relation.columns.length &&
  table.columns.every((column, index) => {
    const other = relation.columns[index]
    return other?.name === column.name && other.typeOid === column.typeOid && other.typmod === column.typmod
  })

const changed = ({ schema }: CatalogTable): ConnectorError =>
  PostgresError.make(
    "Fenced",
    `the shape of table ${tableId(schema.table)} changed`,
    "The pipeline starts again by itself, reads the catalog anew, and copies the table again if that is needed.",
    tableId(schema.table)
  )

const identityOf = (relation: Relation, table: CatalogTable): Identity => {
  if (relation.replicaIdentity === "n") return { _tag: "None" }
  if (relation.replicaIdentity === "f") {
    // Every column is flagged then; a primary key is known from the catalog only.
    const { columns, identity } = table.schema
    const names = identity._tag === "Key" ? identity.columns.map((index) => columns[index]?.name) : []
    const indexes = names.map((name) => relation.columns.findIndex((column) => column.name === name))
    return indexes.length > 0 && !indexes.includes(-1) ? { _tag: "Key", columns: indexes } : { _tag: "Full" }
  }
  const flagged = relation.columns.flatMap((column, index) => column.key ? [index] : [])
  return flagged.length === 0 ? { _tag: "None" } : { _tag: "Key", columns: flagged }
}
