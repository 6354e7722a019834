/**
 * One stretch of a run with the sink: tables are opened, elements taken and written, and what becomes durable is acknowledged, until the source ends, a stop
 * is asked for, or something fails.
 *
 * A run has one of these. Only where a spool has all that the sink may have lost can another one follow when the sink is unreachable
 * for a while, with the source's stream going on beside it (`Pipeline`).
 */
import type * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Metric from "effect/Metric"
import * as Pull from "effect/Pull"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import { Acknowledgement } from "./Acknowledgement.ts"
import { barrierFootprint } from "./ArrowBatcher.ts"
import * as Checkpoint from "./Checkpoint.ts"
import type { Conditions } from "./Condition.ts"
import { ConnectorError } from "./ConnectorError.ts"
import { DurableSpans } from "./DurableSpans.ts"
import type { Element } from "./Element.ts"
import * as Intake from "./Intake.ts"
import { MemoryBudget } from "./MemoryBudget.ts"
import type { Options as PipelineOptions } from "./Pipeline.ts"
import type { PipelineControl } from "./PipelineControl.ts"
import type { TablePhase } from "./Progress.ts"
import * as Resync from "./Resync.ts"
import * as Route from "./Route.ts"
import * as Sequence from "./Sequence.ts"
import type { TableElement } from "./Sink.ts"
import * as TableFailure from "./TableFailure.ts"
import type { TableId, TableSchema } from "./TableSchema.ts"
import * as TableWorker from "./TableWorker.ts"
import * as Telemetry from "./Telemetry.ts"
import { isTracing, sampledSpan } from "./Tracing.ts"

export interface Options {
  readonly pipeline: PipelineOptions
  readonly conditions: Conditions
  /** Completes when a graceful stop is asked for. */
  readonly stopped: Deferred.Deferred<void>
  /** Completes when the source has come to its end. */
  readonly ended: Deferred.Deferred<void>
  /** Called after the acknowledged position may have moved. */
  readonly moved: () => void
  /** The position that the source's feedback read last, of all that were acknowledged in the run; undefined when it has never read one. */
  readonly confirmed: () => bigint | undefined
  /** Up to where everything is durable, over the whole run. */
  readonly acknowledged: () => bigint
  /** Tells of an error where it came up. */
  readonly failedAt: (stage: string) => (cause: Cause.Cause<ConnectorError>) => Effect.Effect<void>
  /** Waits until everything that came from the source has been given to `handoff`. */
  readonly drained: Effect.Effect<void>
}

export interface Delivery {
  readonly acknowledgement: Acknowledgement
  readonly routes: Route.Routes
  readonly failures: TableFailure.TableFailures
  /** Takes the source's elements in order: an offer completes when the element was taken. */
  readonly handoff: Queue.Queue<Element, Cause.Done>
  /** Opened whenever something happened that a drain waits for. */
  readonly changed: Latch.Latch
  /** Opens the tables at the sink. */
  readonly prepare: (tables: ReadonlyArray<TableSchema>) => Effect.Effect<void, ConnectorError>
  /** Waits until no table is being set aside. */
  readonly isolated: Effect.Effect<void>
  /** Writes what comes until the source ends or a stop is asked for, and what has gathered by then. */
  readonly work: Effect.Effect<void, ConnectorError>
  /** Fails with what ends it from the background. */
  readonly failure: Deferred.Deferred<never, ConnectorError>
  readonly quarantine: PipelineControl["quarantine"]
}

/** Tables are opened at the sink this many at a time. */
const openConcurrency = 4
const checkpointEvery = Duration.seconds(5)
const gaugesEvery = Duration.seconds(1)
/** How long a stop waits for the source's feedback to read the last acknowledged position. */
const confirmWait = Duration.seconds(2)

/** A scope that closes with the surrounding one; of several, the one made last closes first. */
export const childScope = Effect.acquireRelease(Scope.make(), (scope, exit) => Scope.close(scope, exit))

const elementSize = (element: TableElement): Record<string, unknown> => ({
  [Telemetry.Attributes.element]: element._tag,
  ...("batch" in element
    ? { [Telemetry.Attributes.rows]: element.batch.rows, [Telemetry.Attributes.bytes]: element.batch.bytes }
    : {})
})

const missing = (pipeline: string, table: TableId): ConnectorError =>
  new ConnectorError({
    reason: "Missing",
    plugin: "@etl-stream/core",
    message: `The pipeline ${pipeline} has no table ${table}`,
    hint: "Look at the pipeline's tables; a table that a transform leaves out can't be set aside.",
    table
  })

const over = (pipeline: string, table: TableId): ConnectorError =>
  new ConnectorError({
    reason: "Unreachable",
    plugin: "@etl-stream/core",
    message: `The run of the pipeline ${pipeline} ended before the table ${table} was set aside`,
    hint: "Ask again when the pipeline runs.",
    table
  })

/** Everything is released with the scope. */
export const make = Effect.fnUntraced(
  function*(options: Options): Effect.fn.Return<Delivery, never, MemoryBudget | Scope.Scope> {
    const { conditions, failedAt, stopped } = options
    const { name, progress, sink, source, state, transforms } = options.pipeline
    const budget = yield* MemoryBudget
    const clock = yield* Clock.Clock
    const context = yield* Effect.context<never>()
    const tracer = yield* Effect.withFiber((fiber) => Effect.succeed(isTracing(fiber) ? fiber.cache.tracer : undefined))
    const every = Duration.toMillis(Duration.fromInputUnsafe(options.pipeline.batch.every))
    const metrics = Telemetry.forPipeline(name)
    const acknowledgement = new Acknowledgement()

    // Closed in the opposite order: first nothing is written any more, then the tables are closed.
    const account = yield* budget.account
    const sinkScope = yield* childScope
    const workScope = yield* childScope

    const failure = yield* Deferred.make<never, ConnectorError>()
    const gone = yield* Deferred.make<void>()
    yield* Effect.addFinalizer(() => Deferred.succeed(gone, undefined))

    const changed = Latch.makeUnsafe(false)
    const acknowledgementMoved = () => {
      progress.acknowledgedPosition = options.acknowledged()
      progress.durableCommitTime = acknowledgement.acknowledgedTime() ?? progress.durableCommitTime
      const oldest = acknowledgement.takeOldestTime()
      if (oldest !== undefined) {
        // The server's clock may be ahead of ours.
        const seconds = Math.max(0, clock.currentTimeMillisUnsafe() / 1000 - Number(oldest) / 1_000_000)
        metrics.freshness.updateUnsafe(seconds, context)
      }
      changed.openUnsafe()
      options.moved()
    }

    const accepted = (route: Route.Route) =>
      Effect.fnUntraced(function*(element: TableElement, seconds: number) {
        const { counters, metrics } = route
        progress.memory = account.held()
        if (element._tag === "Rows" || element._tag === "SnapshotRows") {
          const { bytes, rows } = element.batch
          if (element._tag === "Rows") {
            counters.changes += rows
            counters.bytes += bytes
          } else {
            counters.snapshotRows += rows
            counters.snapshotBytes += bytes
            yield* Metric.update(metrics.snapshotCopied, counters.snapshotRows)
          }
          yield* Metric.update(metrics.sinkRecords, rows)
          yield* Metric.update(metrics.batchRecords, rows)
          yield* Metric.update(metrics.writeDuration, seconds)
        } else if (element._tag === "SnapshotBegin") {
          // A copy that is lost later begins again in a new snapshot: no change before is needed for it.
          acknowledgement.durable(route.table, Sequence.before(element.position))
          acknowledgementMoved()
          yield* failures.lifted(route)
          if (!element.resumed) resync.begun(route.table)
        } else if (element._tag === "TableLeft") {
          if (route.leaving === element) route.leaving = undefined
          yield* failures.lifted(route)
        } else if (element._tag === "SnapshotEnd") {
          counters.phase = "streaming"
          progress.proceed()
          counters.copiedAt = clock.currentTimeMillisUnsafe()
          yield* Effect.logInfo("The copy of a table is complete").pipe(
            Effect.annotateLogs({ table: route.table, rows: counters.snapshotRows })
          )
        }
        changed.openUnsafe()
      })

    /** Ends the delivery. */
    const ends = (cause: Cause.Cause<ConnectorError>): Effect.Effect<void> =>
      Effect.andThen(failedAt("sink")(cause), Deferred.failCause(failure, cause))

    const failures: TableFailure.TableFailures = TableFailure.make({
      sink,
      policy: options.pipeline.onTableError ?? "quarantine",
      conditions,
      acknowledgement,
      scope: workScope,
      // Whoever met the error may log to somewhere else.
      isolate: (route, target, why) => Effect.provideContext(routes.isolate(route, target, why), context),
      isolated: (route) => {
        resync.quarantined()
        const { leaving } = route
        if (leaving !== undefined) {
          // It was set aside by what came before it left. What sets it aside once more does so for good.
          route.leaving = undefined
          route.quarantine = undefined
          route.copy = undefined
          route.counters.phase = "left"
          account.grow(barrierFootprint)
          route.worker?.offer(leaving, barrierFootprint, clock.currentTimeMillisUnsafe())
        }
        progress.proceed()
        acknowledgementMoved()
      },
      ends
    })

    /** Lets the span in which an element was written be linked to once it is durable. */
    const noted = (route: Route.Route, element: TableElement): Effect.Effect<void> =>
      Effect.withFiber((fiber) => {
        const span = sampledSpan(fiber)
        if (span !== undefined && element._tag === "Rows") route.durableSpans?.accepted(element.batch.last, span)
        return Effect.void
      })

    const routes: Route.Routes = Route.make({
      pipeline: name,
      sink,
      transforms,
      progress,
      acknowledgement,
      conditions,
      scope: sinkScope,
      workScope,
      durable: acknowledgementMoved,
      durableSpans: (table) => tracer === undefined ? undefined : new DurableSpans(tracer, clock, name, table),
      isolates: failures.isolates,
      failed: failures.failed,
      worker: (route, writer) =>
        TableWorker.make({
          table: route.table,
          writer,
          limits: { rows: options.pipeline.batch.rows, bytes: options.pipeline.batch.bytes, every },
          account,
          accepted: accepted(route),
          traced: (element, received, write) =>
            Telemetry.withTableSpan(
              Telemetry.Spans.write,
              name,
              route.table,
              () => ({ attributes: elementSize(element), links: received, kind: "producer" })
            )(tracer === undefined ? write : Effect.andThen(write, noted(route, element))),
          failed: (cause) => failures.broken(route, cause)
        })
    })

    const resync = Resync.make({
      pipeline: name,
      state,
      source,
      phase: (table): TablePhase | "unwanted" | undefined => {
        const route = routes.find(table)
        return route === undefined ? undefined : route.target === undefined ? "unwanted" : route.counters.phase
      },
      quarantine: (table) => routes.find(table)?.quarantine
    })

    // Nothing is buffered between the source and the intake: an element is pulled when the one before was taken.
    const handoff = yield* Queue.make<Element, Cause.Done>({ capacity: 0 })

    const intake = Intake.make({
      pipeline: name,
      routes,
      transforms,
      acknowledgement,
      account,
      progress,
      watermarked: acknowledgementMoved,
      isolates: failures.isolates,
      failed: failures.failed,
      resyncs: (table) => resync.isWanted(table),
      unlessStopped: (wait) => Effect.raceFirst(Effect.as(wait, true), Effect.as(Deferred.await(stopped), false))
    })
    /** Takes elements until the source ends or the run is asked to stop. */
    const taking = Effect.gen(function*() {
      // Fibers resume each other without a break here; feedback and timers must get their turn however fast elements come.
      while (yield* intake(yield* Queue.take(handoff))) yield* Effect.yieldNow
    }).pipe(Pull.catchDone(() => Effect.void))

    const until = (condition: () => boolean) =>
      Effect.gen(function*() {
        while (true) {
          changed.closeUnsafe()
          if (condition()) return
          yield* changed.await
        }
      })
    const idle = () => {
      if (failures.isIsolating()) return false
      const unsettled = new Set(acknowledgement.unsettledTables())
      for (const { table, worker } of routes.all()) {
        if (worker !== undefined && !worker.idle()) return false
        if (unsettled.has(table)) return false
      }
      return true
    }
    const flush = Effect.sync(() => {
      for (const { worker } of routes.all()) worker?.flush()
    })

    const checkpoint = Checkpoint.writer(name, state, acknowledgement, progress)
    const gauges = Effect.suspend(() => {
      const now = clock.currentTimeMillisUnsafe()
      const lag = progress.receivedPosition - progress.acknowledgedPosition
      return Metric.update(metrics.replicationLag, lag > 0n ? Number(lag) : 0).pipe(
        Effect.andThen(Metric.update(metrics.staleness, (progress.freshness(now) ?? 0) / 1000)),
        Effect.andThen(Metric.update(Telemetry.memoryUsed, budget.used()))
      )
    })

    const finish = Effect.gen(function*() {
      progress.phase = "draining"
      yield* flush
      yield* until(idle)
      yield* sink.settle.pipe(
        Effect.tapCause(failedAt("sink")),
        Effect.withSpan(Telemetry.Spans.settle, { root: true, attributes: { [Telemetry.Attributes.pipeline]: name } })
      )
      // A last merge may have failed for some table.
      yield* until(idle)
      // Feedback that was just started may not have read anything yet.
      yield* Effect.yieldNow
      if (options.confirmed() !== undefined) {
        yield* Effect.timeoutOption(until(() => options.confirmed() === options.acknowledged()), confirmWait)
        // The feedback has read the position; let it send what it read before its fiber ends.
        yield* Effect.yieldNow
      }
      yield* checkpoint
      yield* resync.report
    })

    const begin = Effect.scoped(sink.run).pipe(
      Effect.catchCause(ends),
      Effect.asVoid,
      Effect.forkIn(workScope)
    )

    return {
      acknowledgement,
      routes,
      failures,
      handoff,
      changed,
      failure,
      prepare: Effect.fnUntraced(function*(tables) {
        yield* begin
        yield* Effect.tapCause(routes.begin(tables), failedAt("sink"))
        yield* Effect.forEach(tables, (table) => Effect.tapCause(routes.resolve(table), failedAt("sink")), {
          concurrency: openConcurrency,
          discard: true
        })
      }),
      isolated: until(() => !failures.isIsolating()),
      work: Effect.gen(function*() {
        yield* Effect.repeat(checkpoint, Schedule.spaced(checkpointEvery)).pipe(Effect.forkIn(workScope))
        yield* Effect.repeat(gauges, Schedule.spaced(gaugesEvery)).pipe(Effect.forkIn(workScope))
        yield* Scope.provide(resync.run, workScope).pipe(Effect.forkIn(workScope))
        yield* Deferred.await(options.ended).pipe(
          Effect.andThen(options.drained),
          Effect.andThen(Queue.end(handoff)),
          Effect.forkIn(workScope)
        )
        yield* Deferred.await(stopped).pipe(Effect.andThen(Queue.end(handoff)), Effect.forkIn(workScope))
        yield* taking
        yield* finish
      }),
      quarantine: Effect.fnUntraced(function*(table, why) {
        const route = routes.find(table)
        if (route?.target === undefined) return yield* missing(name, table)
        const since = yield* Clock.currentTimeMillis
        yield* Effect.raceFirst(
          failures.setAside(route, { ...why, since }),
          Effect.andThen(Deferred.await(gone), Effect.fail(over(name, table)))
        )
      })
    }
  }
)
