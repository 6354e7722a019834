/**
 * The source: preflight, then the replication stream, and beside it the copy of the tables that the sink doesn't hold yet.
 *
 * The first copy is read in the snapshot of the pipeline's own slot. Tables that still need a copy later (added to the pipeline), or the
 * rest of one (after a crash in mid-copy), are read in the snapshot of a temporary slot; the stream leaves out what commits before
 * a copy began. What was confirmed to the server lives in the slot itself, and in the records that the heartbeat writes into the
 * server's log.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { Element } from "@etl-stream/core/Element"
import * as Sequence from "@etl-stream/core/Sequence"
import type { Source, SourceContext } from "@etl-stream/core/Source"
import { type TableId, tableId } from "@etl-stream/core/TableSchema"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as Catalog from "./Catalog.ts"
import type { Settings } from "./Config.ts"
import * as Connections from "./Connections.ts"
import * as Inventory from "./Inventory.ts"
import * as Lsn from "./Lsn.ts"
import * as PostgresError from "./PostgresError.ts"
import * as Preflight from "./Preflight.ts"
import * as Publication from "./Publication.ts"
import * as Replication from "./Replication.ts"
import { Settling } from "./Settling.ts"
import type * as Slot from "./Slot.ts"
import * as SlotContinuity from "./SlotContinuity.ts"
import type * as Snapshot from "./Snapshot.ts"
import * as Sql from "./Sql.ts"
import * as TableMembership from "./TableMembership.ts"
import * as UnfitTables from "./UnfitTables.ts"

/** Where the snapshot for missing copies comes from, `none` when there is nothing to copy. */
type SnapshotOrigin = "new slot" | "temporary slot" | "none"

/** Decides how a run begins, the slot being in order. */
const begin = Effect.fnUntraced(function*(
  connections: Connections.Connections,
  slot: Slot.SlotState | undefined,
  publicationCreated: boolean,
  copied: number,
  uncopied: number
): Effect.fn.Return<SnapshotOrigin, ConnectorError> {
  if (slot === undefined) return "new slot"
  if (uncopied === 0) return "none"
  if (!publicationCreated || copied > 0) return "temporary slot"
  // The slot's log reaches back to a time without the publication, where the server can't decode a change for it. It may
  // be somebody else's: dropping it is not ours to decide.
  return yield* PostgresError.make(
    "Misconfigured",
    `replication slot ${slot.name} is older than publication ${connections.settings.publication.name}, so it can't be used with it`,
    `Give this pipeline a slot of its own (slot.name), or drop this one when nothing else needs it: ` +
      `SELECT pg_drop_replication_slot(${Sql.literal(slot.name)}).`
  )
})

/** The highest position that the sink holds of any table; 0 when it holds nothing. */
const highest = (positions: SourceContext["positions"]): Lsn.Lsn =>
  [...positions.values()].flatMap(({ committed, copied, copying }) => [
    copied ?? 0n,
    committed?.commit ?? 0n,
    ...copying === undefined ? [] : [copying.position, ...copying.chunks.values()]
  ])
    .reduce((most, position) => position > most ? position : most, 0n)

/** The element by which the sink gets to know the origin of a table whose copy stays good. */
const followed = ({ schema }: Catalog.CatalogTable): ReadonlyArray<Element> =>
  schema.version === Inventory.followedVersion ? [{ _tag: "Schema", table: schema, sequence: Sequence.zero }] : []

/**
 * Which tables have settled. Of a copy whose chunks or completed changes are of several positions nothing but the end of the
 * log, as it is now, is known to be above all of them.
 */
const settlingOf = (
  catalog: Catalog.Catalog,
  copied: ReadonlyMap<TableId, Lsn.Lsn>,
  positions: SourceContext["positions"],
  isSetAside: (table: TableId) => boolean,
  end: Lsn.Lsn
): ReadonlyMap<TableId, Settling> =>
  new Map(catalog.tables.map(({ schema }) => {
    const id = tableId(schema.table)
    const position = copied.get(id)
    const settled = positions.get(id)?.settled ?? 0n
    const copying = position === undefined && !isSetAside(id)
    return [id, new Settling(copying, position !== undefined && settled > position ? end : 0n)]
  }))

/** Why a table isn't copied again now. */
const notStreaming = (table?: TableId): ConnectorError =>
  PostgresError.make(
    "Unreachable",
    `${table === undefined ? "a table" : `table ${table}`} can't be copied again now: no changes are streamed`,
    "Ask again when the pipeline streams changes.",
    table
  )

/** What can be asked of a stream while it runs. */
interface Running {
  readonly resync: (table: TableId) => Effect.Effect<void, ConnectorError>
}

/** Elements from the sink's positions on. `running` is told what can be asked of the stream from when on, and when it ends. */
const stream = (
  connections: Connections.Connections,
  report: Preflight.Report,
  context: SourceContext,
  running: (stream: Running | undefined) => void
): Stream.Stream<Element, ConnectorError, Scope.Scope> =>
  Stream.unwrap(Effect.gen(function*() {
    const { server } = report
    const inventory = yield* Inventory.take(connections, report.catalog, context)
    if (inventory.catalog.tables.length === 0) {
      return yield* PostgresError.make(
        "Misconfigured",
        `transforms leave out every table of the source (${report.catalog.tables.length}): there is nothing to replicate`,
        "Correct the pipeline's transforms, or tables in the source's options."
      )
    }
    const end = yield* Preflight.checkLog(connections, highest(context.positions), context.spool)
    const { lost, slot } = yield* SlotContinuity.settle(
      connections,
      server.version,
      SlotContinuity.held(
        context.positions,
        (id) => inventory.copied.has(id) || inventory.unfinished.has(id),
        context.spool?.commits
      ),
      context.spool
    )
    for (const [table, why] of [...inventory.voided, ...lost]) {
      yield* Effect.logWarning(`table ${table} is copied again: ${why}`, { table })
    }
    // What is copied again begins with the table as it is, whatever the lost copy was.
    const catalog = {
      ...inventory.catalog,
      tables: inventory.catalog.tables.map((table) =>
        lost.has(tableId(table.schema.table))
          ? report.catalog.tables.find(({ oid }) => oid === table.oid) ?? table
          : table
      )
    }
    const copied = new Map([...inventory.copied].filter(([id]) => !lost.has(id)))
    const unfit = yield* UnfitTables.find(report.findings, catalog, context, (id) => copied.has(id))
    const isSetAside = (id: TableId): boolean => unfit.has(id) || context.quarantined(id) !== undefined
    const publication = yield* Publication.read(connections, connections.settings.publication.name, server.version)
    const created = yield* Publication.ensure(connections, publication, catalog.tables, server.version, (id) =>
      copied.has(id))
    const copies = catalog.tables.flatMap((table): ReadonlyArray<Snapshot.Copy> => {
      const id = tableId(table.schema.table)
      if (copied.has(id) || isSetAside(id)) {
        return []
      }
      // An unfinished copy needs every change since it began.
      const whole = slot !== undefined && !lost.has(id) && Publication.missing(publication, [table]).length === 0
      return [{ table, unfinished: whole ? inventory.unfinished.get(id) : undefined }]
    })
    const origin = yield* begin(connections, slot, created, copied.size, copies.length)
    const membership = yield* TableMembership.make({
      connections,
      report,
      context,
      catalog,
      settling: settlingOf(catalog, copied, context.positions, isSetAside, end)
    })
    const begins = origin === "none"
      ? []
      : yield* membership.open(origin === "new slot" ? "permanent" : "temporary", copies)
    const from = new Map(copied)
    for (const { position, table } of begins) {
      from.set(tableId(table.table), position)
    }
    // Nobody wants to know what is wrong with the changes of a table in quarantine.
    for (const { schema } of catalog.tables) {
      const id = tableId(schema.table)
      if (isSetAside(id)) {
        from.set(id, Lsn.highest)
      }
    }
    const { settling, tables } = membership
    const replicating = yield* Deferred.make<Replication.Replication, ConnectorError>()
    running({
      resync: (table) =>
        Effect.flatMap(Deferred.await(replicating), (replication) =>
          membership.resync(replication, table))
    })
    yield* Effect.addFinalizer(() => {
      running(undefined)
      return Deferred.fail(replicating, notStreaming())
    })
    const changes = Stream.unwrap(Effect.gen(function*() {
      const replication = yield* Replication.make({
        connections,
        server,
        catalog,
        from,
        tables,
        settling,
        isQuarantined: membership.isQuarantined,
        context
      })
      yield* Deferred.succeed(replicating, replication)
      return replication.elements.pipe(Stream.interruptWhen(membership.watch(replication)))
    }))
    const failed = catalog.tables.flatMap(({ schema }): ReadonlyArray<Element> => {
      const error = unfit.get(tableId(schema.table))
      return error === undefined ? [] : [{ _tag: "TableFailed", table: schema, error }]
    })
    return Stream.fromIterable<Element>([...catalog.tables.flatMap(followed), ...failed, ...begins]).pipe(
      // Rows are copied while the replication connects.
      Stream.concat(Stream.merge(changes, membership.elements, { haltStrategy: "left" }))
    )
  }))

/** The source for `settings`. Connects when it is used; connections close with the scope. */
export const make = (settings: Settings): Effect.Effect<Source, never, Scope.Scope> =>
  Effect.gen(function*() {
    const connections = yield* Connections.make(settings)
    let latest: Preflight.Report | undefined
    let running: Running | undefined
    const checked = Effect.gen(function*() {
      const report = yield* Preflight.check(connections)
      for (const finding of report.findings) {
        const { message, severity, table } = finding
        if (severity === "warning") {
          yield* Effect.logWarning(message, {
            hint: Preflight.hintOf(finding),
            ...(table === undefined ? {} : { table })
          })
        }
      }
      const error = UnfitTables.refusal(report.findings)
      if (error !== undefined) return yield* error
      latest = report
      return report
    })
    const { heartbeat } = settings
    return {
      heartbeat: heartbeat.enabled ? heartbeat.every : undefined,
      spoolable: heartbeat.enabled ? Effect.void : Effect.fail(PostgresError.make(
        "Misconfigured",
        "changes can't be kept in a spool while heartbeats are off: they say which spool stands behind what is confirmed",
        "Leave heartbeat.enabled at true, or remove the section spool from the pipeline."
      )),
      tables: Effect.map(checked, ({ catalog }) => catalog.tables.map((table) => table.schema)),
      // The sink was opened with the tables of the latest check; the stream must describe the same.
      stream: (context) =>
        Stream.unwrap(Effect.map(
          Effect.suspend(() => latest === undefined ? checked : Effect.succeed(latest)),
          (report) =>
            stream(connections, report, context, (now) => {
              running = now
            })
        )),
      resync: (table) =>
        Effect.suspend(() =>
          running === undefined
            ? Effect.fail(notStreaming(table))
            : running.resync(table)
        )
    }
  })
