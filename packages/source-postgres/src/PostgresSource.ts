/**
 * The source: preflight, then the copy of the tables that the sink doesn't hold yet, then the replication stream.
 *
 * The first copy is read in the snapshot of the pipeline's own slot, so the stream begins exactly where the copy ends. Tables
 * that still need a copy later (after a crash in mid-copy, or added to the pipeline) are read in the snapshot of a temporary
 * slot; the stream then leaves out what their copies already hold. What was confirmed to the server lives in the slot
 * itself, and in the records that the heartbeat writes into the server's log.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { Element } from "@etl-stream/core/Element"
import * as Sequence from "@etl-stream/core/Sequence"
import type { Source, SourceContext } from "@etl-stream/core/Source"
import { type TableId, tableId } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Catalog from "./Catalog.ts"
import type { Settings } from "./Config.ts"
import * as Config from "./Config.ts"
import * as Connections from "./Connections.ts"
import * as Endpoint from "./Endpoint.ts"
import * as Heartbeat from "./Heartbeat.ts"
import * as HeartbeatRecord from "./HeartbeatRecord.ts"
import * as Lsn from "./Lsn.ts"
import * as PgOutputDecoder from "./PgOutputDecoder.ts"
import * as PostgresError from "./PostgresError.ts"
import * as Preflight from "./Preflight.ts"
import * as Publication from "./Publication.ts"
import * as PublicationWatch from "./PublicationWatch.ts"
import { RelationResolver } from "./RelationResolver.ts"
import * as ReplicationConnection from "./ReplicationConnection.ts"
import * as Slot from "./Slot.ts"
import * as SlotContinuity from "./SlotContinuity.ts"
import * as Snapshot from "./Snapshot.ts"
import * as Sql from "./Sql.ts"
import * as StreamedTransactions from "./StreamedTransactions.ts"
import * as SynchronousGuard from "./SynchronousGuard.ts"
import * as TableOrigin from "./TableOrigin.ts"

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

/** Types that a stream needed but that are gone from their database, by endpoint and OID: they are carried as text. */
const vanishedTypes = new Set<string>()

const Present = Schema.Struct({ present: Schema.Boolean })

/** Notes whether the type that stopped the stream still exists, for the next run. */
const noteUnknownType = Effect.fnUntraced(function*(connections: Connections.Connections, oid: number) {
  const [row] = yield* connections.query(
    "looking up a type",
    Present,
    "SELECT EXISTS (SELECT FROM pg_type WHERE oid = $1::oid) AS present",
    [oid]
  )
  if (row?.present === false) vanishedTypes.add(`${Endpoint.describe(connections.settings.endpoint)} ${oid}`)
})

/** The replication stream from what the slot has confirmed. */
const replicate = (
  connections: Connections.Connections,
  server: Preflight.Server,
  catalog: Catalog.Catalog,
  copied: ReadonlyMap<TableId, bigint>,
  context: SourceContext
): Stream.Stream<Element, ConnectorError, Scope.Scope> =>
  Stream.unwrap(Effect.gen(function*() {
    const { settings } = connections
    const place = Endpoint.describe(settings.endpoint)
    const connection = yield* connections.open("replication", ReplicationConnection.connect)
    const heartbeat = yield* Heartbeat.make({
      connections,
      serverVersion: server.version,
      conditions: context.conditions,
      acknowledged: context.acknowledged
    })
    const wal = yield* connection.start({
      slot: settings.slot.name,
      publications: [settings.publication.name],
      messages: true,
      ...(settings.origin === "any" ? {} : { origin: settings.origin }),
      acknowledged: heartbeat.confirmable,
      streaming: settings.streaming !== undefined
    })
    yield* Effect.forkScoped(heartbeat.run(wal))
    yield* Effect.addFinalizer(() => heartbeat.finish(wal))
    yield* Effect.logInfo("streaming changes", { slot: settings.slot.name })
    const takesMessage = Config.takesMessage(settings.messages)
    const resolver = new RelationResolver(
      catalog,
      (oid) => vanishedTypes.has(`${place} ${oid}`),
      settings.removedPartitions === "keep"
    )
    const decoder = PgOutputDecoder.make({
      tables: catalog.tables.map((table) => table.schema),
      resolveRelation: resolver.resolve,
      truncates: resolver.truncates,
      takesMessage: (prefix) => prefix === HeartbeatRecord.prefix || takesMessage(prefix),
      types: catalog.types,
      copied
    })
    const frames = settings.streaming === undefined
      ? wal.pull
      : (yield* StreamedTransactions.make(wal.pull, settings.streaming)).pull
    const pull = Effect.mapError(frames, (error) => heartbeat.failure() ?? error)
    const guard = settings.synchronousGuard
      ? yield* SynchronousGuard.make(connections, context.conditions)
      : SynchronousGuard.none
    const decoded = Effect.flatMap(pull, decoder.decode).pipe(
      Effect.map(heartbeat.observe),
      Effect.flatMap(guard.hold),
      Effect.tapError(() =>
        resolver.unknownType === undefined
          ? Effect.void
          : Effect.ignore(noteUnknownType(connections, resolver.unknownType))
      )
    )
    const watching = PublicationWatch.watch(
      connections,
      catalog,
      server.version,
      context.conditions,
      () => resolver.repeated
    )
    return Stream.fromEffectRepeat(decoded).pipe(Stream.flattenIterable, Stream.interruptWhen(watching))
  })).pipe(Stream.mapError((error) => SlotContinuity.runAgain(connections, error)))

/** Reads the catalog as the publication publishes it now. */
const readCatalog = Effect.fnUntraced(function*(connections: Connections.Connections, server: Preflight.Server) {
  const { publication, tables } = connections.settings
  return yield* Catalog.read(
    connections,
    tables,
    yield* Publication.read(connections, publication.name, server.version),
    server.version
  )
})

/** Copies what is missing, if anything is. */
const snapshot = (
  connections: Connections.Connections,
  report: Preflight.Report,
  origin: SnapshotOrigin,
  tables: ReadonlyArray<Catalog.CatalogTable>
): Effect.Effect<Snapshot.OpenSnapshot | undefined, ConnectorError, Scope.Scope> =>
  origin === "none" ? Effect.succeed(undefined) : Effect.gen(function*() {
    const scope = yield* Effect.scope
    // Once its snapshot is imported, the session that exported it (and with it a temporary slot) isn't needed any more.
    return yield* Effect.scoped(Effect.gen(function*() {
      const { primary } = connections
      // Rows are never copied from a standby: a snapshot there may lack some that the primary has removed meanwhile.
      if (primary !== connections && origin === "new slot") yield* Slot.create(connections, "permanent")
      const exported = yield* Slot.create(
        primary,
        primary === connections && origin === "new slot" ? "permanent" : "temporary"
      )
      return yield* Scope.provide(
        Snapshot.open(primary, exported, tables, readCatalog(connections, report.server), report.catalog.types),
        scope
      )
    }))
  })

/** The highest position that the sink holds of any table; 0 when it holds nothing. */
const highest = (positions: SourceContext["positions"]): Lsn.Lsn =>
  [...positions.values()].flatMap(({ committed, copied }) => [copied ?? 0n, committed?.commit ?? 0n])
    .reduce((most, position) => position > most ? position : most, 0n)

/** Version of a table's schema that is the first one with the origin that the sink is to keep from now on. */
const followedVersion = 2

/** The element by which the sink gets to know the origin of a table whose copy stays good. */
const followed = ({ schema }: Catalog.CatalogTable): ReadonlyArray<Element> =>
  schema.version === followedVersion ? [{ _tag: "Schema", table: schema, sequence: Sequence.zero }] : []

/**
 * Compares the origins that the sink gave back with the catalog: which copies are void, and why, and the tables to replicate,
 * those with a new origin in a new version.
 */
const judge = Effect.fnUntraced(function*(
  connections: Connections.Connections,
  catalog: Catalog.Catalog,
  { conditions, positions, unwanted }: SourceContext
) {
  const keepRows = connections.settings.removedPartitions === "keep"
  const voided = new Map<TableId, string>()
  const tables: Array<Catalog.CatalogTable> = []
  for (const table of catalog.tables) {
    const id = tableId(table.schema.table)
    if (unwanted.has(id)) continue
    const held = positions.get(id)
    const stored = held?.origin === undefined ? undefined : TableOrigin.parse(held.origin)
    if (held?.copied === undefined) {
      tables.push(table)
      continue
    }
    const now = stored === undefined
      ? table.origin
      : yield* PublicationWatch.examined(connections, stored, table.origin, table.heaps)
    const why = TableOrigin.conflict(held.origin, now, keepRows)
    if (why !== undefined) {
      voided.set(id, why)
      yield* conditions.clear(PublicationWatch.partitionCondition, id)
      tables.push(table)
      continue
    }
    const kept = stored === undefined ? undefined : TableOrigin.lostRows(stored, now)
    if (kept !== undefined) yield* PublicationWatch.noteKeptRows(conditions, table, kept)
    const origin = TableOrigin.format(TableOrigin.follow(held.origin, table.origin))
    // The log may still have changes of partitions that are gone.
    const parts = new Set([...table.parts, ...(stored?.files ?? []).map(([oid]) => oid)])
    tables.push(
      origin === held.origin
        ? { ...table, parts }
        : { ...table, parts, schema: { ...table.schema, version: followedVersion, origin } }
    )
  }
  return { catalog: { ...catalog, tables }, void: voided }
})

/** Elements from the sink's positions on. */
const stream = (
  connections: Connections.Connections,
  report: Preflight.Report,
  context: SourceContext
): Stream.Stream<Element, ConnectorError, Scope.Scope> =>
  Stream.unwrap(Effect.gen(function*() {
    const { server } = report
    const { catalog, void: voided } = yield* judge(connections, report.catalog, context)
    if (catalog.tables.length === 0) {
      return yield* PostgresError.make(
        "Misconfigured",
        `transforms leave out every table of the source (${report.catalog.tables.length}): there is nothing to replicate`,
        "Correct the pipeline's transforms, or tables in the source's options."
      )
    }
    const counted = new Set(catalog.tables.map((table) => tableId(table.schema.table)))
    yield* Preflight.checkLog(connections, highest(context.positions))
    const { lost, slot } = yield* SlotContinuity.settle(
      connections,
      server.version,
      SlotContinuity.held(context.positions, (id) => counted.has(id) && !voided.has(id))
    )
    for (const [table, why] of lost) voided.set(table, why)
    for (const [table, why] of voided) {
      yield* Effect.logWarning(`table ${table} is copied again: ${why}`, { table })
    }
    const positions = new Map(
      [...context.positions].flatMap(([id, { copied }]) =>
        copied === undefined || voided.has(id) ? [] : [[id, copied] as const]
      )
    )
    const copied = catalog.tables.map((table) => tableId(table.schema.table)).filter((id) => positions.has(id))
    const uncopied = catalog.tables.filter((table) => !positions.has(tableId(table.schema.table)))
    const publication = yield* Publication.read(connections, connections.settings.publication.name, server.version)
    const created = yield* Publication.ensure(connections, publication, catalog.tables, (id) => positions.has(id))
    const origin = yield* begin(connections, slot, created, copied.length, uncopied.length)
    // The copy's connections close with this scope, before the stream of changes begins.
    const copy = Stream.scoped(Stream.unwrap(Effect.gen(function*() {
      const open = yield* snapshot(connections, report, origin, uncopied)
      if (open === undefined) return Stream.empty
      for (const table of uncopied) positions.set(tableId(table.schema.table), open.position)
      return open.elements.pipe(
        Stream.concat(Stream.unwrap(Effect.as(
          Effect.logInfo("copied tables", { tables: uncopied.length, position: Lsn.format(open.position) }),
          Stream.empty
        )))
      )
    })))
    return Stream.fromIterable(catalog.tables.flatMap(followed)).pipe(
      Stream.concat(copy),
      Stream.concat(Stream.suspend(() => replicate(connections, server, catalog, positions, context)))
    )
  }))

/** The source for `settings`. Connects when it is used; connections close with the scope. */
export const make = (settings: Settings): Effect.Effect<Source, never, Scope.Scope> =>
  Effect.gen(function*() {
    const connections = yield* Connections.make(settings)
    let latest: Preflight.Report | undefined
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
      const error = Preflight.errorOf(report.findings)
      if (error !== undefined) return yield* error
      latest = report
      return report
    })
    return {
      tables: Effect.map(checked, ({ catalog }) => catalog.tables.map((table) => table.schema)),
      // The sink was opened with the tables of the latest check; the stream must describe the same.
      stream: (context) =>
        Stream.unwrap(Effect.map(
          Effect.suspend(() => latest === undefined ? checked : Effect.succeed(latest)),
          (report) => stream(connections, report, context)
        ))
    }
  })
