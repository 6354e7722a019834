/**
 * What happens to each element that a source emits: memory is reserved, rows that the sink holds already are cut off, transforms are
 * applied, a ticket is registered, and the element goes to its table's worker.
 *
 * Per table, sequences only grow: whatever comes again (after a reconnection of the source, or because the sink is further than
 * what was acknowledged) is skipped. Everything here is per batch; only waiting for memory suspends.
 */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import type { Acknowledgement } from "./Acknowledgement.ts"
import { barrierFootprint } from "./ArrowBatcher.ts"
import * as BatchConcat from "./BatchConcat.ts"
import * as BatchSlice from "./BatchSlice.ts"
import * as ChangeBatches from "./ChangeBatch.ts"
import type { ChangeBatch } from "./ChangeBatch.ts"
import { ConnectorError } from "./ConnectorError.ts"
import type * as Element from "./Element.ts"
import { tableOf } from "./Element.ts"
import type { Account } from "./MemoryBudget.ts"
import type { Progress } from "./Progress.ts"
import type { Chunk, Route, Routes } from "./Route.ts"
import * as Sequence from "./Sequence.ts"
import type { TableElement } from "./Sink.ts"
import { type TableId, tableId } from "./TableSchema.ts"
import * as Telemetry from "./Telemetry.ts"
import { isTracing, sampledSpan } from "./Tracing.ts"
import type { Transform } from "./Transform.ts"

export interface Options {
  readonly pipeline: string
  readonly routes: Routes
  readonly transforms: ReadonlyArray<Transform>
  readonly acknowledgement: Acknowledgement
  readonly account: Account
  readonly progress: Progress
  /** Called after a watermark was registered. */
  readonly watermarked: () => void
  /** Whether an error is to set its table aside. */
  readonly isolates: (error: ConnectorError) => boolean
  /** Called with what a table fails by. */
  readonly failed: (route: Route, error: ConnectorError) => Effect.Effect<void>
  /** Whether a new copy of the table was asked for: the only thing that ends a quarantine. */
  readonly resyncs: (table: TableId) => boolean
  /** Waits for something until the run is asked to stop: false then. */
  readonly unlessStopped: (wait: Effect.Effect<void>) => Effect.Effect<boolean>
}

const protocol = (table: TableId, message: string): ConnectorError =>
  new ConnectorError({
    reason: "Protocol",
    plugin: "@etl-stream/core",
    message,
    hint: "This is a defect of the source plugin: please report it. Nothing was acknowledged that isn't durable",
    table
  })

/** Fails when a transform made columns of other types than its table has. */
const fitting = (batch: ChangeBatch): Effect.Effect<void, ConnectorError> => {
  const misfit = ChangeBatches.misfit(batch)
  return misfit === undefined ? Effect.void : Effect.fail(
    new ConnectorError({
      reason: "Protocol",
      plugin: "@etl-stream/core",
      message: `${misfit}, after a transform`,
      hint: "The transform's schema and its batches don't agree: this is a defect of its plugin, please report it. " +
        "Nothing was acknowledged that isn't durable",
      table: tableId(batch.table.table)
    })
  )
}

/**
 * Handles one element and returns whether it was taken; false when the run was asked to stop while the element waited for
 * memory (it will be read again).
 */
export const make = (options: Options): (element: Element.Element) => Effect.Effect<boolean, ConnectorError> => {
  const { account, acknowledgement, pipeline, progress, routes, transforms } = options
  const metrics = Telemetry.forPipeline(pipeline)

  const reserve = (bytes: number): Effect.Effect<boolean> => {
    if (account.tryReserve(bytes)) return Effect.succeed(true)
    // What gathers in batchers would never be accepted if it had to wait for company that can't come in.
    for (const { worker } of routes.all()) worker?.flush()
    return options.unlessStopped(account.reserve(bytes))
  }

  /**
   * Gives an element for which `held` bytes are reserved to the table's worker, and registers what is to become durable by it. Nothing
   * comes between the two, nor between them and the look whether the table was set aside meanwhile.
   */
  const give = Effect.fnUntraced(function*(
    route: Route,
    element: TableElement,
    held: number,
    ticket?: Sequence.Sequence
  ) {
    const now = yield* Clock.currentTimeMillis
    yield* Effect.withFiber((fiber) => {
      if (route.quarantine !== undefined) {
        account.release(held)
        return Effect.void
      }
      if (ticket !== undefined) {
        const { emitted } = acknowledgement.table(route.table)
        if (emitted !== undefined && Sequence.compare(emitted, ticket) > 0) {
          account.release(held)
          return Effect.fail(protocol(route.table, `The source went back in the table ${route.table}`))
        }
        acknowledgement.emitted(route.table, ticket)
      }
      route.worker?.offer(element, held, now, sampledSpan(fiber))
      progress.memory = account.held()
      return Effect.void
    })
  })

  /** What all transforms leave of a batch. */
  const transformed = Effect.fnUntraced(function*(batch: ChangeBatch) {
    let left: ChangeBatch | undefined = batch
    for (const transform of transforms) {
      left = yield* Effect.tap(transform.apply(left), (made) => made === undefined ? Effect.void : fitting(made))
      if (left === undefined) break
    }
    return left
  })

  /** A span around what is done to a received batch: inside of the one that it was received in, if there is one. */
  const spanned = <A, E>(name: string, batch: ChangeBatch, effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.withFiber((fiber) => {
      if (!isTracing(fiber)) return effect
      const options = Telemetry.tableSpan(pipeline, tableId(batch.table.table), {
        attributes: { [Telemetry.Attributes.rows]: batch.rows, [Telemetry.Attributes.bytes]: batch.bytes }
      })
      return Effect.withSpan(effect, name, { ...options, root: fiber.cache.span === undefined })
    })

  /** Applies transforms to a batch for which `held` bytes are reserved; returns what is left and what is held for it. */
  const transform = Effect.fnUntraced(function*(route: Route, batch: ChangeBatch, held: number) {
    if (transforms.length === 0) return { batch, held }
    const left = yield* Effect.tapError(
      spanned(Telemetry.Spans.transform, batch, transformed(batch)),
      () => Effect.sync(() => account.release(held))
    )
    const dropped = batch.rows - (left?.rows ?? 0)
    if (dropped > 0) {
      route.counters.dropped += dropped
      yield* Metric.update(route.metrics.dropped, dropped)
    }
    const result = left === undefined ? undefined : BatchConcat.compact(left)
    const now = result === undefined ? 0 : result === batch ? held : BatchConcat.footprint(result)
    if (now > held) account.grow(now - held)
    else account.release(held - now)
    return { batch: result, held: now }
  })

  const count = (route: Route, batch: ChangeBatch): Effect.Effect<void> =>
    Effect.andThen(
      Metric.update(route.metrics.sourceRecords, batch.rows),
      Metric.update(route.metrics.sourceBytes, batch.bytes)
    )

  const skipped = (route: Route, rows: number): Effect.Effect<void> => {
    route.counters.skipped += rows
    return Metric.update(route.metrics.skipped, rows)
  }

  const leftOut = (route: Route, rows: number): Effect.Effect<boolean> => {
    route.counters.dropped += rows
    return Effect.as(Metric.update(route.metrics.dropped, rows), true)
  }

  const rows = Effect.fnUntraced(function*(element: Element.Rows) {
    const route = yield* routes.resolve(element.batch.table)
    yield* count(route, element.batch)
    if (route.target === undefined) return yield* leftOut(route, element.batch.rows)
    if (route.quarantine !== undefined) return true
    const uncut = BatchSlice.after(element.batch, route.upTo)
    if (uncut !== element.batch) yield* skipped(route, element.batch.rows - (uncut?.rows ?? 0))
    if (uncut === undefined) return true
    const fresh = BatchConcat.compact(uncut)
    const footprint = BatchConcat.footprint(fresh)
    if (!(yield* reserve(footprint))) return false
    route.upTo = fresh.last
    route.counters.lastSequence = fresh.last
    const { batch, held } = yield* transform(route, fresh, footprint)
    if (batch === undefined) return true
    yield* give(route, batch === element.batch ? element : { _tag: "Rows", batch }, held, batch.last)
    return true
  })

  const truncate = Effect.fnUntraced(function*(element: Element.Truncate) {
    const route = yield* routes.resolve(element.table)
    if (route.target === undefined || route.quarantine !== undefined) return true
    if (route.upTo !== undefined && Sequence.compare(element.sequence, route.upTo) <= 0) return true
    if (!(yield* reserve(barrierFootprint))) return false
    route.upTo = element.sequence
    route.counters.lastSequence = element.sequence
    yield* give(route, { ...element, table: route.target }, barrierFootprint, element.sequence)
    return true
  })

  const schema = Effect.fnUntraced(function*(element: Element.Schema) {
    const route = yield* routes.resolve(element.table)
    if (route.target === undefined || route.quarantine !== undefined) return true
    if (!(yield* reserve(barrierFootprint))) return false
    yield* give(route, { ...element, table: route.target }, barrierFootprint)
    return true
  })

  /** Waits until a table's quarantine is durable, then lets it begin anew; false when the run was asked to stop meanwhile. */
  const lift = Effect.fnUntraced(function*(route: Route) {
    const { isolating } = route
    if (isolating !== undefined && !(yield* options.unlessStopped(Deferred.await(isolating)))) return false
    route.quarantine = undefined
    route.upTo = undefined
    route.copy = undefined
    return true
  })

  const snapshotBegin = Effect.fnUntraced(function*(element: Element.SnapshotBegin) {
    const route = yield* routes.resolve(element.table)
    if (route.target === undefined) return true
    const lifts = route.quarantine !== undefined
    if (lifts) {
      if (!options.resyncs(route.table) && route.leaving === undefined) return true
      if (!(yield* lift(route))) return false
      // It fails again by what it failed by, before anything of it gets to the sink in a shape that isn't wanted there.
      if (route.unfit !== undefined) return yield* route.unfit
    }
    if (!(yield* reserve(barrierFootprint))) return false
    // Set aside while it waited for memory: its copy doesn't begin.
    if (route.quarantine !== undefined) {
      account.release(barrierFootprint)
      return true
    }
    route.leaving = undefined
    const { position } = element
    const { counters } = route
    route.copy = { position, lifts, chunks: new Map() }
    const received = acknowledgement.receivedWatermark()
    route.rereads = position < received ? received : 0n
    counters.phase = "copying"
    counters.startedAt = yield* Clock.currentTimeMillis
    counters.copiedAt = undefined
    counters.snapshotRows = element.resumed ? routes.positions.get(route.table)?.copying?.rows ?? 0 : 0
    counters.snapshotBytes = 0
    counters.estimatedRows = element.estimatedRows
    counters.estimatedBytes = element.estimatedBytes
    if (element.estimatedRows !== undefined) {
      yield* Metric.update(route.metrics.snapshotEstimated, element.estimatedRows)
    }
    progress.phase = "snapshot"
    const covered = Sequence.before(position)
    // Of a copy that goes on the sink may be further already; of a new one whatever it holds is void.
    if (!element.resumed || route.upTo === undefined || Sequence.compare(route.upTo, covered) < 0) {
      route.upTo = covered
      yield* give(route, { ...element, table: route.target }, barrierFootprint, covered)
    } else yield* give(route, { ...element, table: route.target }, barrierFootprint)
    return true
  })

  /** Whether something belongs to a copy that a quarantine has ended. Its sink would miss it, were it of the copy under way. */
  const isStale = ({ copy }: Route, position: bigint): boolean => copy?.lifts === true && position < copy.position

  /** The chunk of a copy that is under way. */
  const chunkOf = (route: Route, chunk: number): Effect.Effect<Chunk, ConnectorError> => {
    const { copy } = route
    if (copy === undefined) {
      return protocol(route.table, `Rows of a copy of ${route.table} came without its beginning`)
    }
    let counts = copy.chunks.get(chunk)
    if (counts === undefined) {
      counts = { received: 0, passed: 0 }
      copy.chunks.set(chunk, counts)
    }
    return Effect.succeed(counts)
  }

  const snapshotRows = Effect.fnUntraced(function*(element: Element.SnapshotRows) {
    const route = yield* routes.resolve(element.batch.table)
    yield* count(route, element.batch)
    if (route.target === undefined) return yield* leftOut(route, element.batch.rows)
    if (route.quarantine !== undefined || isStale(route, element.position)) return true
    const chunk = yield* chunkOf(route, element.chunk)
    const copied = BatchConcat.compact(element.batch)
    const footprint = BatchConcat.footprint(copied)
    if (!(yield* reserve(footprint))) return false
    const { batch, held } = yield* transform(route, copied, footprint)
    chunk.received += element.batch.rows
    chunk.passed += batch?.rows ?? 0
    if (batch !== undefined) yield* give(route, batch === element.batch ? element : { ...element, batch }, held)
    return true
  })

  const snapshotChunk = Effect.fnUntraced(function*(element: Element.SnapshotChunk) {
    const route = yield* routes.resolve(element.table)
    if (route.target === undefined || route.quarantine !== undefined) return true
    if (isStale(route, element.position)) return true
    const { passed, received } = yield* chunkOf(route, element.chunk)
    if (received !== element.rows) {
      const message =
        `Chunk ${element.chunk} of the copy of ${route.table} should have ${element.rows} rows, but ${received} came`
      return yield* protocol(route.table, message)
    }
    if (!(yield* reserve(barrierFootprint))) return false
    route.copy?.chunks.delete(element.chunk)
    yield* give(route, { ...element, table: route.target, rows: passed }, barrierFootprint)
    return true
  })

  const snapshotEnd = Effect.fnUntraced(function*(element: Element.SnapshotEnd) {
    const route = yield* routes.resolve(element.table)
    if (route.target === undefined || route.quarantine !== undefined) return true
    if (isStale(route, element.position)) return true
    const { copy } = route
    if (copy?.position !== element.position) {
      return yield* protocol(route.table, `A copy of ${route.table} ended that didn't begin`)
    }
    const [open] = copy.chunks.keys()
    if (open !== undefined) {
      return yield* protocol(route.table, `The copy of ${route.table} ended before its chunk ${open} did`)
    }
    if (!(yield* reserve(barrierFootprint))) return false
    route.copy = undefined
    yield* give(route, { ...element, table: route.target }, barrierFootprint)
    return true
  })

  const tableLeft = Effect.fnUntraced(function*(element: Element.TableLeft) {
    const route = yield* routes.resolve(element.table)
    if (route.target === undefined) return true
    if (route.unfit !== undefined) return true
    if (!(yield* reserve(barrierFootprint))) return false
    // Only now, since it may be set aside while it waits for memory.
    if (route.quarantine !== undefined && !(yield* lift(route))) {
      account.release(barrierFootprint)
      return false
    }
    route.copy = undefined
    route.counters.phase = "left"
    route.leaving = { ...element, table: route.target }
    yield* give(route, route.leaving, barrierFootprint)
    return true
  })

  const tableFailed = Effect.fnUntraced(function*({ error, table }: Element.TableFailed) {
    const route = yield* routes.resolve(table)
    if (route.target === undefined) return true
    // Nothing may be acknowledged past it.
    if (!options.isolates(error)) return yield* error
    yield* options.failed(route, error)
    return true
  })

  const watermark = (element: Element.Watermark): Effect.Effect<boolean> => {
    acknowledgement.watermark(element.position, element.commitTime)
    progress.receivedPosition = acknowledgement.receivedWatermark()
    if (element.commitTime !== undefined) progress.receivedCommitTime = element.commitTime
    progress.proceed()
    options.watermarked()
    return Effect.succeed(true)
  }

  const message = (): Effect.Effect<boolean> => {
    progress.messages++
    return Effect.as(Metric.update(metrics.messages, 1), true)
  }

  const handle = (element: Element.Element): Effect.Effect<boolean, ConnectorError> => {
    switch (element._tag) {
      case "Rows":
        return spanned(Telemetry.Spans.receive, element.batch, rows(element))
      case "SnapshotRows":
        return spanned(Telemetry.Spans.receive, element.batch, snapshotRows(element))
      case "Watermark":
        return watermark(element)
      case "Truncate":
        return truncate(element)
      case "Schema":
        return schema(element)
      case "SnapshotBegin":
        return snapshotBegin(element)
      case "SnapshotChunk":
        return snapshotChunk(element)
      case "SnapshotEnd":
        return snapshotEnd(element)
      case "TableLeft":
        return tableLeft(element)
      case "TableFailed":
        return tableFailed(element)
      case "Message":
        return message()
    }
  }

  /** What a table fails by here, such as a transform's error, sets it aside. */
  const isolated = (element: Element.Element, error: ConnectorError): Effect.Effect<boolean, ConnectorError> => {
    const name = tableOf(element)
    const route = name === undefined ? undefined : routes.find(tableId(name))
    return route?.target === undefined || !options.isolates(error)
      ? Effect.fail(error)
      : Effect.as(options.failed(route, error), true)
  }

  return (element) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => {
      progress.receivedAt = now
      return handle(element).pipe(Effect.catch((error) => isolated(element, error)))
    })
}
