/**
 * Which tables a running stream replicates, and their copies: what it began with, tables that come later, and tables that are to be copied
 * again.
 *
 * A table that matches the pipeline's patterns joins as soon as it is seen in the publication, or can be added to it: its changes are
 * taken first, then its rows are read in the snapshot of a temporary slot, while everything else goes on. A new copy of a table that was
 * replicated already (`resync`) is the same.
 */
import { evaluate } from "@etl-stream/core/Check"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type * as Element from "@etl-stream/core/Element"
import type { Quarantine } from "@etl-stream/core/Quarantine"
import type { SourceContext } from "@etl-stream/core/Source"
import { type TableId, tableId } from "@etl-stream/core/TableSchema"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import * as Catalog from "./Catalog.ts"
import type * as Connections from "./Connections.ts"
import * as CopyPlan from "./CopyPlan.ts"
import { sameShape } from "./internal/relation.ts"
import * as Lsn from "./Lsn.ts"
import * as PostgresError from "./PostgresError.ts"
import * as Preflight from "./Preflight.ts"
import * as TableChecks from "./preflight/TableChecks.ts"
import * as Publication from "./Publication.ts"
import * as PublicationWatch from "./PublicationWatch.ts"
import type { Joining, Replication } from "./Replication.ts"
import { Settling } from "./Settling.ts"
import * as Slot from "./Slot.ts"
import * as Snapshot from "./Snapshot.ts"

/** Raised for a table that matches the pipeline's patterns and can't be replicated as it is. */
export const unfitCondition = "table-not-replicated"

/** How often it is looked whether a copy that was given up has come to its end. */
const givenUpEvery = Duration.millis(50)

export interface TableMembership {
  /** The tables that are replicated now, and how far each has settled. */
  readonly tables: ReadonlyMap<TableId, Catalog.CatalogTable>
  readonly settling: ReadonlyMap<TableId, Settling>
  /** Opens the copies that a run begins with. Their `SnapshotBegin`s come first; the rest is in `elements`. */
  readonly open: (
    slot: "permanent" | "temporary",
    copies: ReadonlyArray<Snapshot.Copy>
  ) => Effect.Effect<ReadonlyArray<Element.SnapshotBegin>, ConnectorError>
  /** Elements of all copies, without their beginnings. Never ends. */
  readonly elements: Stream.Stream<Element.Element, ConnectorError>
  /** Looks after the tables while changes are streamed. */
  readonly watch: (replication: Replication) => Effect.Effect<never, ConnectorError>
  /** Whether a table is in quarantine, and no new copy of it has begun. */
  readonly isQuarantined: (table: TableId) => boolean
  /** Copies a table again; completes when that has begun. */
  readonly resync: (replication: Replication, table: TableId) => Effect.Effect<void, ConnectorError>
}

export interface Options {
  readonly connections: Connections.Connections
  readonly report: Preflight.Report
  readonly context: SourceContext
  readonly catalog: Catalog.Catalog
  readonly settling: ReadonlyMap<TableId, Settling>
}

const End = Schema.Struct({ end: Schema.String })

/** The end of the log: everything that committed before this was asked lies before it. */
const endOfLog = Effect.fnUntraced(function*(connections: Connections.Connections) {
  const [row] = yield* connections.query(
    "reading the end of the server's log",
    End,
    "SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END)::text AS end"
  )
  return Lsn.parse(row?.end ?? "") ?? 0n
})

/** Reads the catalog as the publication publishes it now, and the publication. */
const readSight = Effect.fnUntraced(function*({ connections, report: { server } }: Options) {
  const publication = yield* Publication.read(connections, connections.settings.publication.name, server.version)
  const catalog = yield* Catalog.read(connections, connections.settings.tables, publication, server.version)
  return { catalog, publication } satisfies PublicationWatch.Sight
})

const readCatalog = (options: Options) => Effect.map(readSight(options), ({ catalog }) => catalog)

const byId = (tables: ReadonlyArray<Catalog.CatalogTable>) =>
  tables.map((table) => [tableId(table.schema.table), table] as const)

/** Copies run in the scope. */
export const make = Effect.fnUntraced(function*(
  options: Options
): Effect.fn.Return<TableMembership, never, Scope.Scope> {
  const { connections, context: { conditions, copiesGoOn, unwanted }, report } = options
  const scope = yield* Effect.scope
  const tables = new Map(byId(options.catalog.tables))
  const settling = new Map(options.settling)
  /** Where each table's latest copy began. */
  const begun = new Map<TableId, Lsn.Lsn>()
  for (const [id, { copied, copying }] of options.context.positions) {
    const began = copied ?? copying?.position
    if (began !== undefined) begun.set(id, began)
  }
  const queue = yield* Queue.bounded<Element.Element, ConnectorError>(1)
  yield* Effect.addFinalizer(() => Queue.shutdown(queue))
  /** The quarantine that a table's new copy ends: the engine may see the beginning a little later than it is on its way. */
  const ended = new Map<TableId, Quarantine | undefined>()
  const isQuarantined = (id: TableId): boolean => {
    const now = options.context.quarantined(id)
    return now !== undefined && now !== ended.get(id)
  }
  /** Tables join one group after another. */
  const joining = Semaphore.makeUnsafe(1)

  const settle = (table: TableId, latest: Lsn.Lsn): Lsn.Lsn => settling.get(table)?.end(latest) ?? latest

  /**
   * Opens a snapshot and lets its copies run. Their connections close when they are done; the session that exported it (and with it a
   * temporary slot) isn't needed any more once it is imported.
   */
  const open = Effect.fnUntraced(function*(
    slot: "permanent" | "temporary",
    copies: ReadonlyArray<Snapshot.Copy>,
    types: Catalog.Catalog["types"]
  ) {
    const copyScope = yield* Scope.fork(scope)
    const { primary } = connections
    // Rows are never copied from a standby: a snapshot there may lack some that the primary has removed meanwhile.
    const elsewhere = primary !== connections
    const snapshot = yield* Effect.gen(function*() {
      if (elsewhere && slot === "permanent") yield* Slot.create(connections, "permanent")
      const exported = yield* Slot.create(primary, elsewhere ? "temporary" : slot)
      return yield* Scope.provide(
        Snapshot.open(primary, exported, copies, readCatalog(options), types, settle, isQuarantined, copiesGoOn),
        copyScope
      )
    }).pipe(Effect.scoped)
    yield* snapshot.elements.pipe(
      // Nobody takes it any more once the run has failed: the copy is over without having ended.
      Stream.runForEach((element) =>
        Effect.flatMap(Queue.offer(queue, element), (taken) => taken ? Effect.void : Effect.interrupt)
      ),
      Effect.andThen(
        Effect.logInfo("copied tables", { tables: copies.length, position: Lsn.format(snapshot.position) })
      ),
      Effect.ensuring(Scope.close(copyScope, Exit.void)),
      Effect.catchCause((cause) => Queue.failCause(queue, cause)),
      Effect.forkIn(scope)
    )
    for (const { position, table } of snapshot.begins) begun.set(tableId(table.table), position)
    return snapshot.begins
  })

  const join = Effect.fn("PostgresSource.joinTables")(function*(
    replication: Replication,
    catalog: Catalog.Catalog,
    joined: ReadonlyArray<Catalog.CatalogTable>
  ) {
    const client = yield* connections.primary.client("copy")
    const plans = yield* Effect.forEach(joined, (table) =>
      Effect.map(
        CopyPlan.make(client, table, connections.settings.snapshot),
        (plan): Joining => ({ table, plan })
      ))
    const floor = yield* endOfLog(connections)
    // Nothing may fail between here and the request: a table that counts as being copied gets no other copy.
    for (const [id, table] of byId(joined)) {
      tables.set(id, table)
      ended.set(id, options.context.quarantined(id))
      const known = settling.get(id)
      if (known === undefined) settling.set(id, new Settling(true, 0n))
      else known.begin()
    }
    const positions = yield* replication.join(catalog, plans, floor)
    for (const [id, position] of positions) begun.set(id, position)
    // Creating a slot waits for every transaction that writes now, so that what such a one did before its table was published is in the snapshot.
    yield* open(
      "temporary",
      plans.map(({ plan, table }) => ({
        table,
        unfinished: undefined,
        announced: { plan, position: positions.get(tableId(table.schema.table)) ?? 0n }
      })),
      catalog.types
    ).pipe(
      Effect.catchCause((cause) => Queue.failCause(queue, cause)),
      Effect.forkIn(scope)
    )
  }, Effect.scoped)

  const unfit = new Set<TableId>()
  const isUnfit = (id: TableId, message: string, hint: string): Effect.Effect<void> => {
    unfit.add(id)
    return conditions.raise({ name: unfitCondition, severity: "warning", table: id, message, hint })
  }
  const becomesFit = (id: TableId): Effect.Effect<void> => {
    unfit.delete(id)
    return conditions.clear(unfitCondition, id)
  }

  /** Why a table can't be replicated as it is; undefined when it can. */
  const problemOf = (
    catalog: Catalog.Catalog,
    publication: Publication.PublicationState | undefined,
    table: Catalog.CatalogTable
  ): ConnectorError | undefined =>
    Preflight.errorOf(evaluate(TableChecks.checks, {
      ...report,
      publication,
      catalog: { ...catalog, tables: [table], unmatched: [], excluded: [] }
    }))

  /** Tables that came and can be replicated; says why of those that can't. */
  const newcomers = Effect.fnUntraced(function*({ catalog, publication }: PublicationWatch.Sight) {
    const { manage, name } = connections.settings.publication
    const known = new Set([...tables.values()].map(({ oid }) => oid))
    const present = new Set(catalog.tables.map(({ schema }) => tableId(schema.table)))
    for (const id of unfit) if (!present.has(id)) yield* becomesFit(id)
    const fit: Array<Catalog.CatalogTable> = []
    for (const [id, table] of byId(catalog.tables)) {
      if (known.has(table.oid) || unwanted.has(id)) continue
      if (tables.has(id)) {
        return yield* PostgresError.make(
          "Fenced",
          `table ${id} was replaced by another table of its name`,
          "The pipeline starts again by itself and copies the new table.",
          id
        )
      }
      const problem = problemOf(catalog, publication, table)
      const published = Publication.missing(publication, [table]).length === 0
      if (problem === undefined && (published || manage)) {
        fit.push(table)
        continue
      }
      yield* isUnfit(
        id,
        problem?.message ?? `table ${id} matches the pipeline's tables, but publication ${name} does not publish it`,
        problem?.hint ??
          `Run as the table's owner: ${
            Publication.addStatement(name, [table])
          }; or narrow tables in the source's options.`
      )
    }
    return fit
  })

  const watch = (replication: Replication) =>
    PublicationWatch.watch(
      connections,
      Effect.gen(function*() {
        const sight = yield* PublicationWatch.look(
          connections,
          [...tables.values()],
          (id) => begun.get(id),
          report.server.version,
          conditions
        )
        if (sight?.publication === undefined) return
        yield* joining.withPermits(1)(Effect.gen(function*() {
          const fit = yield* newcomers(sight)
          if (fit.length === 0) return
          const added = Publication.missing(sight.publication, fit)
          // Only what is new: known tables that are missing are a condition already, and stay one.
          const failure = added.length === 0
            ? undefined
            : yield* Effect.match(Publication.add(connections, sight.publication, added, report.server.version), {
              onFailure: (error) => error,
              onSuccess: () => undefined
            })
          for (const [id] of byId(fit)) {
            yield* failure === undefined ? becomesFit(id) : isUnfit(id, failure.message, failure.hint)
          }
          if (failure !== undefined) return
          yield* Effect.logInfo("tables join the stream", { tables: byId(fit).map(([id]) => id) })
          // With its column list and row filter as they are now.
          const catalog = yield* readCatalog(options)
          const oids = new Set(fit.map(({ oid }) => oid))
          yield* join(replication, catalog, catalog.tables.filter(({ oid }) => oids.has(oid)))
        }))
      }),
      replication.repeated
    )

  const resync = Effect.fn("PostgresSource.resync")(function*(replication: Replication, id: TableId) {
    // What is left of a copy that was given up must not come after the beginning of the new one.
    while (isQuarantined(id) && settling.get(id)?.isCopying === true) yield* Effect.sleep(givenUpEvery)
    yield* joining.withPermits(1)(Effect.gen(function*() {
      const known = tables.get(id)
      const { catalog, publication } = yield* readSight(options)
      const table = catalog.tables.find(({ oid }) => oid === known?.oid)
      const name = table === undefined ? undefined : tableId(table.schema.table)
      if (name !== undefined && name !== id) {
        return yield* PostgresError.make(
          "Missing",
          `table ${id} has another name now: ${name}`,
          `The pipeline copies ${name} by itself when it belongs to its tables; ask for that one if need be.`,
          id
        )
      }
      if (known === undefined || table === undefined) {
        return yield* PostgresError.make(
          "Missing",
          `table ${id} is not one that the pipeline replicates`,
          `Its tables are: ${[...tables.keys()].slice(0, 20).join(", ")}${tables.size > 20 ? ", …" : ""}.`,
          id
        )
      }
      if (Publication.missing(publication, [table]).length > 0) {
        // When it is back, nobody could tell that it was away.
        const { hint, message } = PublicationWatch.unpublished(connections.settings.publication.name, table)
        return yield* PostgresError.make("Misconfigured", message, hint, id)
      }
      const { why } = yield* PublicationWatch.compared(connections, known, table)
      if (why !== undefined || !sameShape(known.schema, table.schema)) {
        // The sink knows the table as the run began with it, and keeps that with the copy: only another run gives it what the table is now.
        const altered = PostgresError.make(
          "Fenced",
          `table ${id} was altered since the run began, and is to be copied again${
            why === undefined ? "" : `: ${why}`
          }`,
          "The pipeline starts again by itself, reads the catalog anew, and makes the copy then.",
          id
        )
        yield* Queue.fail(queue, altered)
        return yield* altered
      }
      // The engine asks only when it knows of no copy: the beginning of one that somebody else asked for is on its way.
      if (settling.get(id)?.isCopying === true) return
      // Once the copy has begun, what was held is void.
      const problem = problemOf(catalog, publication, table)
      if (problem !== undefined) return yield* problem
      yield* Effect.logInfo("a table is copied again because somebody asked for it", { table: id })
      // Whoever asks may stop waiting; a table whose beginning is out must get its copy.
      yield* Effect.flatMap(Effect.forkIn(join(replication, catalog, [table]), scope), Fiber.join)
    }))
  })

  return {
    tables,
    settling,
    open: (slot, copies) => open(slot, copies, options.catalog.types),
    elements: Stream.fromQueue(queue),
    watch,
    isQuarantined,
    resync
  }
})
