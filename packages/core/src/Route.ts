/**
 * The ways of a run's tables: what transforms make of each table, its writer at the sink, and what it has seen.
 *
 * A route belongs to a table of the source. It is opened at the start of a run, or when the table first appears in the stream; a
 * table that a transform leaves out has a route without a worker. Two tables can't have the same target.
 */
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import type { Acknowledgement } from "./Acknowledgement.ts"
import { ConnectorError } from "./ConnectorError.ts"
import type { Progress, TableCounters } from "./Progress.ts"
import type * as Sequence from "./Sequence.ts"
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
  readonly chunks: Map<number, Chunk>
}

export interface Route {
  readonly table: TableId
  /** The source's schema that was seen last. */
  schema: TableSchema
  /** What transforms make of it; undefined: the table is left out. */
  target: TableSchema | undefined
  /** Undefined as long as the table is left out. */
  worker: TableWorker | undefined
  /** Changes up to here are at the sink or on their way: not to be written again. */
  upTo: Sequence.Sequence | undefined
  copy: Copy | undefined
  readonly counters: TableCounters
  readonly metrics: Telemetry.TableMetrics
}

export interface Routes {
  /** Tells the sink which tables the run begins with. Comes before the first `resolve`. */
  readonly begin: (schemas: ReadonlyArray<TableSchema>) => Effect.Effect<void, ConnectorError>
  /** The route for a table as it is now; asks transforms about a new schema version, opens a new table at the sink. */
  readonly resolve: (schema: TableSchema) => Effect.Effect<Route, ConnectorError>
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
  /** Where tables are opened: closed after everything that writes. */
  readonly scope: Scope.Scope
  readonly worker: (route: Route, writer: TableWriter) => Effect.Effect<TableWorker>
  /** Called after a table's durable position moved. */
  readonly durable: () => void
}

export const make = (options: Options): Routes => {
  const { acknowledgement, pipeline, progress, sink, transforms } = options
  const routes = new Map<TableId, Route>()
  const positions = new Map<TableId, TablePosition>()
  const unwanted = new Set<TableId>()
  /** Target table to the source table that owns it. */
  const targets = new Map<TableId, TableId>()
  /** What transforms make of the tables that the run begins with: they are asked only once. */
  const planned = new Map<TableSchema, TableSchema | undefined>()

  const transformed = Effect.fnUntraced(function*(schema: TableSchema) {
    let target: TableSchema | undefined = schema
    for (const transform of transforms) {
      target = yield* transform.schema(target)
      if (target === undefined) return undefined
    }
    return target
  })

  const begin = Effect.fnUntraced(function*(schemas: ReadonlyArray<TableSchema>) {
    for (const schema of schemas) planned.set(schema, yield* transformed(schema))
    yield* sink.begin([...planned.values()].filter((target) => target !== undefined))
  })

  const durable = (route: Route) => (sequence: Sequence.Sequence): Effect.Effect<void> =>
    Effect.sync(() => {
      acknowledgement.durable(route.table, sequence)
      route.counters.durableSequence = acknowledgement.table(route.table).durable
      options.durable()
    })

  const open = Effect.fnUntraced(function*(route: Route, target: TableSchema) {
    const id = tableId(target.table)
    const owner = targets.get(id)
    if (owner !== undefined && owner !== route.table) {
      return yield* new ConnectorError({
        reason: "Unsupported",
        plugin: "@etl-stream/core",
        message: `The tables ${owner} and ${route.table} would both be written to ${id}`,
        hint: "Change the transforms so that every table keeps a name of its own, or leave one of the tables out",
        table: route.table
      })
    }
    targets.set(id, route.table)
    const writer = yield* sink.open(target, durable(route)).pipe(
      Scope.provide(options.scope),
      Telemetry.withTableSpan(Telemetry.Spans.open, pipeline, route.table)
    )
    positions.set(route.table, writer.position)
    route.upTo = writer.position.committed
    route.counters.durableSequence = writer.position.committed
    route.counters.phase = writer.position.copied === undefined ? "waiting" : "streaming"
    route.worker = yield* options.worker(route, writer)
  })

  const resolve = Effect.fnUntraced(function*(schema: TableSchema): Effect.fn.Return<Route, ConnectorError> {
    const table = tableId(schema.table)
    const known = routes.get(table)
    if (known !== undefined && (known.schema === schema || known.schema.version === schema.version)) return known
    const target = planned.has(schema) ? planned.get(schema) : yield* transformed(schema)
    const route: Route = known ?? {
      table,
      schema,
      target,
      worker: undefined,
      upTo: undefined,
      copy: undefined,
      counters: progress.table(table),
      metrics: Telemetry.forTable(pipeline, table)
    }
    route.schema = schema
    route.target = target
    if (target === undefined) unwanted.add(table)
    else if (route.worker === undefined) yield* open(route, target)
    routes.set(table, route)
    return route
  })

  return { begin, resolve, all: () => routes.values(), find: (table) => routes.get(table), positions, unwanted }
}
