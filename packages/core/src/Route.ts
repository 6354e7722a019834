/**
 * The ways of a run's tables: what transforms make of each table, its writer at the sink, and what it has seen.
 *
 * A route belongs to a table of the source. It is opened at the start of a run, or when the table first appears in the stream; a
 * table that a transform leaves out has a route without a worker. Two tables can't have the same target.
 */
import * as Clock from "effect/Clock"
import type * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import type { Acknowledgement } from "./Acknowledgement.ts"
import type { Conditions } from "./Condition.ts"
import { ConnectorError } from "./ConnectorError.ts"
import type { DurableSpans } from "./DurableSpans.ts"
import type { TableLeft } from "./Element.ts"
import type { Progress, TableCounters } from "./Progress.ts"
import * as Quarantine from "./Quarantine.ts"
import * as Sequence from "./Sequence.ts"
import type { Sink, TablePosition, TableWriter } from "./Sink.ts"
import type { TableId, TableSchema } from "./TableSchema.ts"
import { tableId } from "./TableSchema.ts"
import type { TableWorker } from "./TableWorker.ts"
import * as Telemetry from "./Telemetry.ts"
import type { Transform } from "./Transform.ts"

/** A chunk under way: rows that the source gave, and rows that transforms left of them. */
export interface Chunk {
  received: number
  passed: number
}

/** A copy under way. */
export interface Copy {
  readonly position: bigint
  /** It ended a quarantine: something of an earlier copy may still be on its way. */
  readonly lifts: boolean
  readonly chunks: Map<number, Chunk>
}

/** What transforms make of a table; undefined leaves it out. */
interface Transformed {
  readonly target: TableSchema | undefined
  /** Why one of them could do nothing with it. */
  readonly unfit: ConnectorError | undefined
}

/** One opening of a table: its worker's and its writer's scopes. */
export interface Opening {
  readonly work: Scope.Closeable
  readonly sink: Scope.Closeable
  closed: boolean
}

export interface Route {
  readonly table: TableId
  /** The source's schema that was seen last. */
  schema: TableSchema
  /** What transforms make of it; undefined: the table is left out. */
  target: TableSchema | undefined
  /** Why transforms can't do anything with the table as it is: it stays in quarantine, whatever is asked for; undefined: they can. */
  unfit: ConnectorError | undefined
  /** Undefined as long as the table is left out. */
  worker: TableWorker | undefined
  /** Changes up to here are at the sink or on their way: not to be written again. */
  upTo: Sequence.Sequence | undefined
  copy: Copy | undefined
  /** Its history is read again up to this watermark: before a higher one comes, nobody knows up to where the table is complete. */
  rereads: bigint
  opening: Opening | undefined
  /** That the table has left the pipeline, until the sink has taken it. */
  leaving: TableLeft | undefined
  /** Why the table can't go on, from the moment of its error on; undefined when it can. */
  quarantine: Quarantine.Quarantine | undefined
  /** Completes when the quarantine is durable; undefined when it is. */
  isolating: Deferred.Deferred<void> | undefined
  readonly counters: TableCounters
  readonly metrics: Telemetry.TableMetrics
  /** Undefined without a tracer. */
  readonly durableSpans: DurableSpans | undefined
}

export interface Routes {
  /** Tells the sink which tables the run begins with. Comes before the first `resolve`. */
  readonly begin: (schemas: ReadonlyArray<TableSchema>) => Effect.Effect<void, ConnectorError>
  /** The route for a table as it is now; asks transforms about a new schema version, opens a new table at the sink. */
  readonly resolve: (schema: TableSchema) => Effect.Effect<Route, ConnectorError>
  /** Makes a table's quarantine durable and opens it as such; its old worker and writer are closed. */
  readonly isolate: (
    route: Route,
    target: TableSchema,
    why: Quarantine.Quarantine
  ) => Effect.Effect<void, ConnectorError>
  /** All routes so far. */
  readonly all: () => Iterable<Route>
  /** The route of a table; undefined as long as the run doesn't know the table. */
  readonly find: (table: TableId) => Route | undefined
  /** What the sink held of each table when it was opened. */
  readonly positions: ReadonlyMap<TableId, TablePosition>
  /** Tables that transforms leave out. */
  readonly unwanted: ReadonlySet<TableId>
}

export interface Options {
  readonly pipeline: string
  readonly sink: Sink
  readonly transforms: ReadonlyArray<Transform>
  readonly progress: Progress
  readonly acknowledgement: Acknowledgement
  readonly conditions: Conditions
  /** Where tables are opened: closed after everything that writes. */
  readonly scope: Scope.Scope
  /** Where their workers run. */
  readonly workScope: Scope.Scope
  readonly worker: (route: Route, writer: TableWriter) => Effect.Effect<TableWorker, never, Scope.Scope>
  /** Whether an error is to set its table aside. */
  readonly isolates: (error: ConnectorError) => boolean
  /** Called with an error of a table's background work. */
  readonly failed: (route: Route, error: ConnectorError) => Effect.Effect<void>
  /** Called after a table's durable position moved. */
  readonly durable: () => void
  /** Traces when a table's writes become durable; undefined without a tracer. */
  readonly durableSpans: (table: TableId) => DurableSpans | undefined
}

/** Whether rows of one schema can't be read by the other: what is compared when they aren't one object. */
const hasOtherColumns = (one: TableSchema, other: TableSchema): boolean =>
  one !== other && (
    one.columns.length !== other.columns.length ||
    one.columns.some(({ name, type }, index) => {
      const column = other.columns[index]
      return column?.name !== name || (column.type !== type && JSON.stringify(column.type) !== JSON.stringify(type))
    })
  )

/** The sink would read rows by the columns that it knows, and leave out what is new. */
const reshaped = (table: TableId): ConnectorError =>
  new ConnectorError({
    reason: "Fenced",
    plugin: "@etl-stream/core",
    message: `The source gave ${table} other columns, but no new version of its schema`,
    hint:
      "The pipeline starts again by itself, with the columns as they are. If it happens again, it is a defect of the source plugin: please report it.",
    table
  })

export const make = (options: Options): Routes => {
  const { acknowledgement, conditions, pipeline, progress, sink, transforms } = options
  const routes = new Map<TableId, Route>()
  const positions = new Map<TableId, TablePosition>()
  const unwanted = new Set<TableId>()
  /** Target table to the source table that owns it. */
  const targets = new Map<TableId, TableId>()
  /** What transforms make of the tables that the run begins with: they are asked only once. */
  const planned = new Map<TableSchema, Transformed>()

  /**
   * A transform that can't do anything with a table, which it says by an error that names one, leaves it as it is, for the name that the table has at the sink;
   * then it is for quarantine.
   */
  const transformed = Effect.fnUntraced(function*(schema: TableSchema): Effect.fn.Return<Transformed, ConnectorError> {
    let target: TableSchema | undefined = schema
    let unfit: ConnectorError | undefined
    for (const transform of transforms) {
      const before: TableSchema = target
      target = yield* transform.schema(before).pipe(
        Effect.catchIf(options.isolates, (error) => {
          unfit ??= error
          return Effect.succeed(before)
        })
      )
      if (target === undefined) return { target, unfit: undefined }
    }
    return { target, unfit }
  })

  const begin = Effect.fnUntraced(function*(schemas: ReadonlyArray<TableSchema>) {
    for (const schema of schemas) planned.set(schema, yield* transformed(schema))
    // Conditions outlive runs, and nobody else clears that of a table which isn't there any more.
    const present = new Set(schemas.map(({ table }) => tableId(table)))
    for (const { name, table } of progress.conditions.values()) {
      if (name === Quarantine.condition && table !== undefined && !present.has(table)) {
        yield* conditions.clear(name, table)
      }
    }
    yield* sink.begin([...planned.values()].flatMap(({ target }) => target ?? []), conditions)
  })

  const durable = (route: Route, opening: Opening) => (sequence: Sequence.Sequence): Effect.Effect<void> =>
    Effect.sync(() => {
      // A commit that was on its way when the table was set aside: it is void.
      if (opening.closed) return
      acknowledgement.durable(route.table, sequence)
      route.counters.durableSequence = acknowledgement.table(route.table).durable
      route.durableSpans?.durable(sequence)
      options.durable()
    })

  /** A watermark that was received says that everything before it was offered to the worker. */
  const given = (route: Route, opening: Opening) => (): Sequence.Sequence | undefined => {
    const position = acknowledgement.receivedWatermark()
    if (opening.closed || position <= route.rereads || route.worker?.given() !== true) return undefined
    return Sequence.before(position)
  }

  const failed = (route: Route, opening: Opening) => (error: ConnectorError): Effect.Effect<void> =>
    Effect.suspend(() => opening.closed ? Effect.void : options.failed(route, error))

  const close = Effect.fnUntraced(function*(route: Route) {
    const { opening } = route
    if (opening === undefined) return
    opening.closed = true
    route.opening = undefined
    route.worker = undefined
    route.durableSpans?.clear()
    yield* Scope.close(opening.work, Exit.void)
    yield* Scope.close(opening.sink, Exit.void)
  })

  /** Shows whether the table is in quarantine. */
  const show = Effect.fnUntraced(function*(route: Route, quarantined: Quarantine.Quarantine | undefined) {
    const { counters, table } = route
    counters.quarantine = quarantined
    if (quarantined === undefined) return yield* conditions.clear(Quarantine.condition, table)
    yield* conditions.raise({
      name: Quarantine.condition,
      severity: "critical",
      table,
      message: `The table ${table} is in quarantine, its changes are dropped: ${quarantined.message}`,
      hint: Quarantine.remedy(quarantined, table)
    })
  })

  /** Makes sure that no two tables are written to one. */
  const claim = Effect.fnUntraced(function*(route: Route, target: TableSchema) {
    const id = tableId(target.table)
    const owner = targets.get(id)
    if (owner !== undefined && owner !== route.table) {
      return yield* new ConnectorError({
        reason: "Unsupported",
        plugin: "@etl-stream/core",
        message: `The tables ${owner} and ${route.table} would both be written to ${id}`,
        // Without a table: setting the target aside would hit the table that owns it.
        hint: "Change the transforms so that every table keeps a name of its own, or leave one of the tables out"
      })
    }
    targets.set(id, route.table)
  })

  const open = Effect.fnUntraced(function*(route: Route, target: TableSchema) {
    const opening: Opening = {
      work: yield* Scope.fork(options.workScope),
      sink: yield* Scope.fork(options.scope),
      closed: false
    }
    route.opening = opening
    const writer = yield* sink.open(
      target,
      durable(route, opening),
      failed(route, opening),
      given(route, opening)
    ).pipe(
      Scope.provide(opening.sink),
      Telemetry.withTableSpan(Telemetry.Spans.open, pipeline, route.table)
    )
    const { committed, copied, quarantined } = writer.position
    positions.set(route.table, writer.position)
    // Changes below a copy are part of it. A source leaves them out, but an earlier run may have kept some.
    route.upTo = copied === undefined
      ? committed
      : Sequence.max(committed ?? Sequence.zero, Sequence.before(copied))
    route.quarantine = quarantined === undefined ? undefined : route.quarantine ?? quarantined
    route.counters.durableSequence = committed
    route.counters.phase = quarantined !== undefined ? "quarantined" : copied === undefined ? "waiting" : "streaming"
    route.worker = yield* Scope.provide(options.worker(route, writer), opening.work)
    yield* show(route, quarantined)
  })

  const isolate = Effect.fnUntraced(function*(route: Route, target: TableSchema, why: Quarantine.Quarantine) {
    route.quarantine = why
    yield* close(route)
    if (sink.quarantine === undefined) return
    yield* Telemetry.withTableSpan(Telemetry.Spans.quarantine, pipeline, route.table)(sink.quarantine(target, why))
    yield* route.metrics.quarantined(why.reason)
    yield* open(route, target)
    if (positions.get(route.table)?.quarantined !== undefined) return
    return yield* new ConnectorError({
      reason: "Protocol",
      plugin: "@etl-stream/core",
      message: `The sink doesn't give the table ${route.table} back as quarantined`,
      hint: "This is a defect of the sink plugin: please report it. Nothing was acknowledged that isn't durable"
    })
  })

  /** Opens a table; one that can't be opened is set aside. */
  const openOrIsolate = Effect.fnUntraced(function*(route: Route, target: TableSchema) {
    yield* claim(route, target)
    yield* open(route, target).pipe(
      Effect.catchIf(
        options.isolates,
        (error) => Effect.flatMap(Clock.currentTimeMillis, (now) => isolate(route, target, Quarantine.of(error, now)))
      )
    )
  })

  /** A table that transforms can't do anything with is never opened otherwise than as quarantined: its shape isn't the one that is wanted at the sink. */
  const isolateUnfit = Effect.fnUntraced(function*(route: Route, target: TableSchema, unfit: ConnectorError) {
    yield* claim(route, target)
    yield* isolate(route, target, Quarantine.of(unfit, yield* Clock.currentTimeMillis))
  })

  const resolve = Effect.fnUntraced(function*(schema: TableSchema): Effect.fn.Return<Route, ConnectorError> {
    const table = tableId(schema.table)
    const known = routes.get(table)
    if (known !== undefined && (known.schema === schema || known.schema.version === schema.version)) {
      if (hasOtherColumns(known.schema, schema)) return yield* reshaped(table)
      return known
    }
    const { target, unfit } = planned.get(schema) ?? (yield* transformed(schema))
    // A table that is open is set aside under the shape that its sink knows.
    if (unfit !== undefined && known?.opening !== undefined && known.unfit === undefined) return yield* unfit
    const route: Route = known ?? {
      table,
      schema,
      target,
      unfit,
      worker: undefined,
      upTo: undefined,
      copy: undefined,
      rereads: 0n,
      opening: undefined,
      leaving: undefined,
      quarantine: undefined,
      isolating: undefined,
      counters: progress.table(table),
      metrics: Telemetry.forTable(pipeline, table),
      durableSpans: options.durableSpans(table)
    }
    route.schema = schema
    route.target = target
    route.unfit = unfit
    if (target === undefined) unwanted.add(table)
    else if (known?.opening === undefined && known?.isolating === undefined) {
      yield* unfit === undefined ? openOrIsolate(route, target) : isolateUnfit(route, target, unfit)
    }
    routes.set(table, route)
    return route
  })

  return {
    begin,
    resolve,
    isolate,
    all: () => routes.values(),
    find: (table) => routes.get(table),
    positions,
    unwanted
  }
}
