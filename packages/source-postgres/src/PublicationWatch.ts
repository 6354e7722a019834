/**
 * Looks, while changes are streamed, whether the publication still publishes the same rows of the same tables.
 *
 * A row filter that changes, a partition that is attached or goes, a table that leaves the publication: none of it is in the log. The server
 * announces a relation again when something about it or the publication may have changed, so then, and now and then in any case, the
 * catalog is read and compared with what the run began with, and with what was seen since (`VoidCopies`). What makes a copy void ends the run as `Fenced`: the next one
 * copies that table again. A table that is no longer published raises a condition, because its changes are missing from there on.
 */
import type { Conditions } from "@etl-stream/core/Condition"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import { type TableId, tableId } from "@etl-stream/core/TableSchema"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Catalog from "./Catalog.ts"
import type { Connections } from "./Connections.ts"
import type * as Lsn from "./Lsn.ts"
import * as Partition from "./Partition.ts"
import * as PostgresError from "./PostgresError.ts"
import * as Publication from "./Publication.ts"
import * as TableOrigin from "./TableOrigin.ts"
import * as VoidCopies from "./VoidCopies.ts"

/** How often it is seen to whether a look is due: every half second, more often only for looks that are. */
const glanceOf = (every: number): number => Math.min(500, Math.max(50, every))

export const missingCondition = "publication-table-missing"
export const partitionCondition = "partition-rows-kept"

/**
 * The origin `now`, where a partition that `stored` doesn't know counts as new only when it holds no rows from before: see `Partition.ts`.
 */
export const examined = Effect.fnUntraced(function*(
  connections: Connections,
  stored: TableOrigin.Origin,
  now: TableOrigin.Origin,
  heaps: ReadonlyArray<Catalog.Heap>
) {
  const names = new Map(heaps.map((heap) => [heap.oid, heap]))
  const foreign = new Set<number>()
  for (const { born, oid } of TableOrigin.newPartitions(stored, now)) {
    const heap = names.get(oid)
    // One that may not be read may hold anything.
    if (
      born && (heap === undefined || !heap.readable || (yield* Partition.hasEarlierRows(connections, oid, heap.table)))
    ) {
      foreign.add(oid)
    }
  }
  if (foreign.size === 0) return now
  return {
    ...now,
    partitions: now.partitions?.map((partition) =>
      foreign.has(partition.oid) ? { ...partition, born: false } : partition
    )
  }
})

/** Why what was copied of the table, when it was `known`, is void by now; undefined when it isn't. With the origin that it has now. */
export const compared = Effect.fnUntraced(function*(
  connections: Connections,
  known: Catalog.CatalogTable,
  current: Catalog.CatalogTable
) {
  const origin = yield* examined(connections, known.origin, current.origin, current.heaps)
  const keepRows = connections.settings.removedPartitions === "keep"
  return { origin, why: TableOrigin.conflict(TableOrigin.format(known.origin), origin, keepRows) }
})

/** That the publication lacks a table of the pipeline. */
export const unpublished = (publication: string, table: Catalog.CatalogTable) => ({
  message: `publication ${publication} no longer publishes table ${
    tableId(table.schema.table)
  }: its changes are missing from now on`,
  hint: `Run as the table's owner: ${Publication.addStatement(publication, [table])}; the table is then copied again.`
})

/** Tells that rows of a partition stay at the sink, which the table no longer has. */
export const noteKeptRows = (conditions: Conditions, table: Catalog.CatalogTable, why: string): Effect.Effect<void> => {
  const id = tableId(table.schema.table)
  return conditions.raise({
    name: partitionCondition,
    severity: "warning",
    table: id,
    message: `rows that table ${id} no longer has stay at the sink: ${why}`,
    hint: "This is what removedPartitions: keep asks for. Have the table copied again to be rid of them."
  })
}

/** What a look saw. */
export interface Sight {
  readonly catalog: Catalog.Catalog
  readonly publication: Publication.PublicationState | undefined
}

/** One look at the tables that are replicated. `copyOf`: where a table's latest copy began. Fails with `Fenced` when a copy is void; undefined when the server can't be asked now. */
export const look = Effect.fn("PostgresSource.watchPublication")(function*(
  connections: Connections,
  tables: ReadonlyArray<Catalog.CatalogTable>,
  copyOf: (table: TableId) => Lsn.Lsn | undefined,
  serverVersion: number,
  conditions: Conditions
): Effect.fn.Return<Sight | undefined, ConnectorError> {
  const { publication: { name }, removedPartitions, tables: patterns } = connections.settings
  const reading = Effect.gen(function*() {
    const publication = yield* Publication.read(connections, name, serverVersion)
    return { publication, catalog: yield* Catalog.read(connections, patterns, publication, serverVersion) }
  })
  // Before the catalog is read: what is seen may be older than a copy that begins meanwhile, not the other way round.
  const copies = new Map(tables.map(({ oid, schema }) => [oid, copyOf(tableId(schema.table))]))
  // A server that can't be asked now, or whose tables are just being altered, is asked again; the stream tells when it is gone.
  const read = yield* Effect.option(reading)
  if (read._tag === "None") return undefined
  const { catalog: now, publication } = read.value
  const fresh = new Map(now.tables.map((table) => [table.oid, table]))
  let failure: ConnectorError | undefined
  for (const table of tables) {
    const id = tableId(table.schema.table)
    const current = fresh.get(table.oid)
    if (current === undefined || Publication.missing(publication, [current]).length > 0) {
      yield* conditions.raise({
        name: missingCondition,
        severity: "critical",
        table: id,
        ...current === undefined
          ? {
            message: `table ${id} is no longer there: it was dropped, or has another name`,
            hint: "Start the pipeline again when its tables are as they should be."
          }
          : unpublished(name, current)
      })
      continue
    }
    yield* conditions.clear(missingCondition, id)
    const copy = copies.get(table.oid)
    const overtaken = copy === undefined
      ? undefined
      : VoidCopies.see(connections.settings, table.oid, copy, current.origin)
    const comparison = yield* compared(connections, table, current).pipe(
      // A partition went, or is locked, while it was looked into: the next look sees what became of it.
      Effect.catchIf((error) => error.reason === "Missing" || error.reason === "Throttled", () => Effect.undefined)
    )
    if (comparison === undefined && overtaken === undefined) continue
    const origin = comparison?.origin ?? current.origin
    const why = comparison?.why ?? overtaken
    if (why !== undefined) {
      // All tables are looked at: what is seen of the others, nobody may see again.
      failure ??= PostgresError.make(
        "Fenced",
        `table ${id} changed in a way that the log doesn't show: ${why}`,
        "The pipeline starts again by itself and copies the table again.",
        id
      )
      continue
    }
    const kept = removedPartitions === "keep" ? TableOrigin.lostRows(table.origin, origin) : undefined
    if (kept !== undefined) yield* noteKeptRows(conditions, current, kept)
  }
  return failure === undefined ? read.value : yield* failure
})

/** Looks now and then, and soon after a relation was announced again, which `repeated` counts. Fails as `look` does. */
export const watch = (
  connections: Connections,
  look: Effect.Effect<void, ConnectorError>,
  repeated: () => number
): Effect.Effect<never, ConnectorError> =>
  Effect.suspend(() => {
    const every = Duration.toMillis(connections.settings.publication.check)
    const glance = glanceOf(every)
    let seen = 0
    let rest = every
    return Effect.suspend(() => {
      rest -= glance
      const count = repeated()
      if (count === seen && rest > 0) return Effect.void
      seen = count
      rest = every
      return look
    }).pipe(Effect.repeat(Schedule.spaced(glance)), Effect.andThen(Effect.never))
  })
