/**
 * What the sink holds of the tables, as far as it can be gone on from: judged by the origins that it gives back.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { UnfinishedCopy } from "@etl-stream/core/Sink"
import type { SourceContext } from "@etl-stream/core/Source"
import { type TableId, tableId } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import type * as Catalog from "./Catalog.ts"
import type { Connections } from "./Connections.ts"
import type * as Lsn from "./Lsn.ts"
import * as PublicationWatch from "./PublicationWatch.ts"
import * as TableOrigin from "./TableOrigin.ts"
import * as VoidCopies from "./VoidCopies.ts"

/** Version of a table's schema that is the first one with the origin that the sink is to keep from now on. */
export const followedVersion = 2

export interface Inventory {
  /** Tables to replicate, those with a new origin in a new version. */
  readonly catalog: Catalog.Catalog
  /** Position of each complete copy that is still good. */
  readonly copied: ReadonlyMap<TableId, Lsn.Lsn>
  /** Copies that can go on. */
  readonly unfinished: ReadonlyMap<TableId, UnfinishedCopy>
  /** Tables whose copies are void, and why. */
  readonly voided: ReadonlyMap<TableId, string>
}

/** Compares the origins that the sink gave back with the catalog. */
export const take = Effect.fn("PostgresSource.inventory")(function*(
  connections: Connections,
  catalog: Catalog.Catalog,
  { conditions, positions, unwanted }: SourceContext
): Effect.fn.Return<Inventory, ConnectorError> {
  const keepRows = connections.settings.removedPartitions === "keep"
  const voided = new Map<TableId, string>()
  const copied = new Map<TableId, Lsn.Lsn>()
  const unfinished = new Map<TableId, UnfinishedCopy>()
  const tables: Array<Catalog.CatalogTable> = []
  for (const table of catalog.tables) {
    const id = tableId(table.schema.table)
    if (unwanted.has(id)) continue
    const held = positions.get(id)
    const began = held?.copied ?? held?.copying?.position
    VoidCopies.keepOnly(connections.settings, table.oid, began)
    if (began !== undefined) VoidCopies.see(connections.settings, table.oid, began, table.origin)
    const overtaken = began === undefined ? undefined : VoidCopies.seen(connections.settings, table.oid, began)
    if (held?.copied === undefined) {
      // Chunks of a table that has another shape by now don't fit together with the rest.
      const copying = held?.copying
      if (copying !== undefined && overtaken !== undefined) voided.set(id, overtaken)
      else if (copying !== undefined && TableOrigin.isSame(copying.origin, table.origin)) unfinished.set(id, copying)
      tables.push(table)
      continue
    }
    const stored = held.origin === undefined ? undefined : TableOrigin.parse(held.origin)
    const now = stored === undefined
      ? table.origin
      : yield* PublicationWatch.examined(connections, stored, table.origin, table.heaps)
    const why = VoidCopies.take(connections.settings, table.oid) ?? TableOrigin.conflict(held.origin, now, keepRows) ??
      overtaken
    if (why !== undefined) {
      voided.set(id, why)
      yield* conditions.clear(PublicationWatch.partitionCondition, id)
      tables.push(table)
      continue
    }
    copied.set(id, held.copied)
    const kept = stored === undefined ? undefined : TableOrigin.lostRows(stored, now)
    if (kept !== undefined) yield* PublicationWatch.noteKeptRows(conditions, table, kept)
    const followed = TableOrigin.follow(held.origin, table.origin)
    const origin = TableOrigin.format(followed)
    // The log may still have changes of partitions that are gone.
    const parts = new Set([...table.parts, ...(stored?.files ?? []).map(([oid]) => oid)])
    tables.push(
      origin === held.origin
        ? { ...table, parts, origin: followed }
        : { ...table, parts, origin: followed, schema: { ...table.schema, version: followedVersion, origin } }
    )
  }
  return { catalog: { ...catalog, tables }, copied, unfinished, voided }
})
