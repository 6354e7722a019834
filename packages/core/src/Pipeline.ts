/**
 * One run of a pipeline: source to transforms to sink, until it is asked to stop, the source ends, or something fails.
 *
 * `run` opens every table at the sink, pulls the source's elements one by one through `Intake`, and lets each table's
 * `TableWorker` write them. What sinks report durable goes through `Acknowledgement` back to the source. Any error ends the run and
 * releases everything; running again continues where the sink is. A graceful stop stops pulling, writes what has gathered,
 * waits until all of it is durable and the source had a chance to confirm it, and settles the sink, all within a deadline.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Metric from "effect/Metric"
import * as Pull from "effect/Pull"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { Acknowledgement } from "./Acknowledgement.ts"
import * as Checkpoint from "./Checkpoint.ts"
import * as Condition from "./Condition.ts"
import type { ConnectorError } from "./ConnectorError.ts"
import { DurableSpans } from "./DurableSpans.ts"
import type { Element } from "./Element.ts"
import * as Intake from "./Intake.ts"
import { MemoryBudget } from "./MemoryBudget.ts"
import type { Progress } from "./Progress.ts"
import type * as Quarantine from "./Quarantine.ts"
import * as Resync from "./Resync.ts"
import * as Route from "./Route.ts"
import * as Sequence from "./Sequence.ts"
import type { Sink, TableElement } from "./Sink.ts"
import type { Source } from "./Source.ts"
import type { StateStoreShape } from "./StateStore.ts"
import * as TableFailure from "./TableFailure.ts"
import * as TableWorker from "./TableWorker.ts"
import * as Telemetry from "./Telemetry.ts"
import { detached, isTracing, sampledSpan } from "./Tracing.ts"
import type { Transform } from "./Transform.ts"

/** How rows are gathered before a table's writer gets them. */
export interface BatchOptions {
  readonly rows: number
  /** Size of Arrow buffers. */
  readonly bytes: number
  /** How long rows wait for company at most. */
  readonly every: Duration.Input
}

export interface Options {
  readonly name: string
  readonly source: Source
  readonly transforms: ReadonlyArray<Transform>
  readonly sink: Sink
  readonly batch: BatchOptions
  readonly progress: Progress
  readonly state: StateStoreShape
  /** What is done about a table that can't go on; `quarantine` when not given, and where the sink can. */
  readonly onTableError?: Quarantine.Policy
  /** Completes when a graceful stop is asked for. */
  readonly stop: Effect.Effect<void>
  /** How long a graceful stop may take; then the run ends anyway, and what wasn't durable is read again next time. */
  readonly drain: Duration.Input
}

/** Tables are opened at the sink this many at a time. */
const openConcurrency = 4
const checkpointEvery = Duration.seconds(5)
const gaugesEvery = Duration.seconds(1)
/** How long a stop waits for the source's feedback to read the last acknowledged position. */
const confirmWait = Duration.seconds(2)

/** A scope that closes with the surrounding one; of several, the one made last closes first. */
const childScope = Effect.acquireRelease(Scope.make(), (scope, exit) => Scope.close(scope, exit))

const elementSize = (element: TableElement): Record<string, unknown> => ({
  [Telemetry.Attributes.element]: element._tag,
  ...("batch" in element
    ? { [Telemetry.Attributes.rows]: element.batch.rows, [Telemetry.Attributes.bytes]: element.batch.bytes }
    : {})
})

const start = Effect.fnUntraced(function*(options: Options) {
  const { name, progress, sink, source } = options
  const budget = yield* MemoryBudget
  const clock = yield* Clock.Clock
  const context = yield* Effect.context<never>()
  const tracer = yield* Effect.withFiber((fiber) => Effect.succeed(isTracing(fiber) ? fiber.cache.tracer : undefined))
  const every = Duration.toMillis(Duration.fromInputUnsafe(options.batch.every))
  const drain = Duration.fromInputUnsafe(options.drain)
  const metrics = Telemetry.forPipeline(name)
  const acknowledgement = new Acknowledgement()
  progress.begin(clock.currentTimeMillisUnsafe())

  // Closed in the opposite order: first nothing is read any more, then nothing is written, then the tables are closed.
  const account = yield* budget.account
  const sinkScope = yield* childScope
  const workScope = yield* childScope
  const sourceScope = yield* childScope

  const failure = yield* Deferred.make<never, ConnectorError>()
  const stopped = yield* Deferred.make<void>()
  yield* options.stop.pipe(Effect.andThen(Deferred.succeed(stopped, undefined)), Effect.forkIn(workScope))

  /** Opened whenever something happened that a drain waits for. */
  const changed = Latch.makeUnsafe(false)
  const acknowledgementMoved = () => {
    progress.acknowledgedPosition = acknowledgement.acknowledged()
    progress.durableCommitTime = acknowledgement.acknowledgedTime() ?? progress.durableCommitTime
    const oldest = acknowledgement.takeOldestTime()
    if (oldest !== undefined) {
      // The server's clock may be ahead of ours.
      const seconds = Math.max(0, clock.currentTimeMillisUnsafe() / 1000 - Number(oldest) / 1_000_000)
      metrics.freshness.updateUnsafe(seconds, context)
    }
    changed.openUnsafe()
  }

  const conditions = Condition.make(name, progress)

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

  /** Ends the run. */
  const ends = (cause: Cause.Cause<ConnectorError>, stage: string): Effect.Effect<void> =>
    Effect.andThen(failedAt(stage)(cause), Deferred.failCause(failure, cause))

  const failures: TableFailure.TableFailures = TableFailure.make({
    sink,
    policy: options.onTableError ?? "quarantine",
    conditions,
    acknowledgement,
    scope: workScope,
    // Whoever met the error may log to somewhere else.
    isolate: (route, target, why) => Effect.provideContext(routes.isolate(route, target, why), context),
    isolated: () => {
      resync.quarantined()
      progress.proceed()
      acknowledgementMoved()
    },
    ends: (cause) => ends(cause, "sink")
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
    transforms: options.transforms,
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
        limits: { rows: options.batch.rows, bytes: options.batch.bytes, every },
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
    state: options.state,
    source,
    phase: (table) => {
      const route = routes.find(table)
      return route === undefined ? undefined : route.target === undefined ? "unwanted" : route.counters.phase
    },
    quarantine: (table) => routes.find(table)?.quarantine
  })

  const failedAt = (stage: string) => (cause: Cause.Cause<ConnectorError>): Effect.Effect<void> => {
    const error = cause.reasons.find(Cause.isFailReason)?.error
    return error === undefined ? Effect.void : metrics.error(error.reason, stage)
  }

  /** Lets a fiber's end for any reason but interruption end the run. */
  const endsRun = <A, R>(effect: Effect.Effect<A, ConnectorError, R>, stage: string): Effect.Effect<void, never, R> =>
    effect.pipe(Effect.catchCause((cause) => ends(cause, stage)), Effect.asVoid)

  /** What the source's feedback read last; undefined when it has never read it. */
  let confirmed: bigint | undefined
  const acknowledged = () => {
    const position = acknowledgement.acknowledged()
    if (position !== confirmed) {
      confirmed = position
      changed.openUnsafe()
    }
    return position
  }

  const prepare = Effect.gen(function*() {
    const tables = yield* Effect.tapCause(source.tables, failedAt("source"))
    yield* Effect.tapCause(routes.begin(tables), failedAt("sink"))
    yield* Effect.forEach(tables, (table) => Effect.tapCause(routes.resolve(table), failedAt("sink")), {
      concurrency: openConcurrency,
      discard: true
    })
    yield* Effect.logInfo("The pipeline runs").pipe(Effect.annotateLogs({ tables: tables.length }))
  })

  // Nothing is buffered between the source and the intake: an element is pulled when the one before was taken. The source
  // stays open after its end and after a stop: its feedback still has to tell the server what becomes durable.
  const handoff = yield* Queue.make<Element, Cause.Done>({ capacity: 0 })
  const pulling = Effect.gen(function*() {
    const pull = yield* Stream.toPull(
      source.stream({
        positions: routes.positions,
        unwanted: routes.unwanted,
        quarantined: (table) => routes.find(table)?.quarantine,
        acknowledged,
        conditions
      })
    )
    while (true) {
      const elements = yield* pull
      for (const element of elements) {
        // After a stop nobody takes any more.
        if (!(yield* Queue.offer(handoff, element))) return yield* Effect.never
      }
    }
  }).pipe(
    Pull.catchDone(() => Effect.andThen(Queue.end(handoff), Effect.never)),
    Effect.scoped,
    Effect.catchCauseIf(
      (cause) => Deferred.isDoneUnsafe(stopped) && !Cause.hasInterruptsOnly(cause),
      (cause) => Effect.logWarning("The source failed while the pipeline stopped", cause)
    )
  )

  const intake = Intake.make({
    pipeline: name,
    routes,
    transforms: options.transforms,
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

  const checkpoint = Checkpoint.writer(name, options.state, acknowledgement, progress)
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
    if (confirmed !== undefined) {
      yield* Effect.timeoutOption(until(() => confirmed === acknowledgement.acknowledged()), confirmWait)
      // The feedback has read the position; let it send what it read before its fiber ends.
      yield* Effect.yieldNow
    }
    yield* checkpoint
    yield* resync.report
  })

  const work = Effect.gen(function*() {
    yield* endsRun(Effect.scoped(sink.run), "sink").pipe(Effect.forkIn(workScope))
    const prepared = yield* Effect.raceFirst(Effect.as(prepare, true), Effect.as(Deferred.await(stopped), false))
    if (!prepared) return
    yield* Effect.repeat(checkpoint, Schedule.spaced(checkpointEvery)).pipe(Effect.forkIn(workScope))
    yield* Effect.repeat(gauges, Schedule.spaced(gaugesEvery)).pipe(Effect.forkIn(workScope))
    yield* Scope.provide(resync.run, workScope).pipe(Effect.forkIn(workScope))
    yield* endsRun(pulling, "source").pipe(Effect.forkIn(sourceScope))
    yield* Deferred.await(stopped).pipe(Effect.andThen(Queue.end(handoff)), Effect.forkIn(workScope))
    yield* taking
    yield* finish
  })

  const deadline = Deferred.await(stopped).pipe(
    Effect.andThen(Effect.sleep(drain)),
    Effect.andThen(
      Effect.suspend(() =>
        Effect.logWarning("The deadline of the stop has come; what isn't durable will be read again").pipe(
          Effect.annotateLogs({ tables: acknowledgement.unsettledTables() })
        )
      )
    )
  )

  yield* Effect.raceAllFirst([work, deadline, Deferred.await(failure)])
})

/**
 * Runs a pipeline until it stops, ends or fails. Succeeds after a graceful stop (also one that ran into its deadline) and after the
 * end of a finite source; fails with the first error of source, transforms or sink. Everything is released on return.
 */
export const run = (options: Options): Effect.Effect<void, ConnectorError, MemoryBudget> =>
  detached(Effect.scoped(start(options))).pipe(
    Effect.onExit((exit) =>
      Effect.sync(() => {
        const { progress } = options
        progress.phase = Exit.isSuccess(exit) || Exit.hasInterrupts(exit) ? "stopped" : "failed"
        progress.memory = 0
        progress.lastError = Exit.isFailure(exit) ? exit.cause.reasons.find(Cause.isFailReason)?.error : undefined
      })
    ),
    Effect.annotateLogs({ pipeline: options.name })
  )
