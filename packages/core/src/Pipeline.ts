/**
 * One run of a pipeline: source to transforms to sink, until it is asked to stop, the source ends, or something fails.
 *
 * `run` opens every table at the sink, pulls the source's elements one by one through `Intake`, and lets each table's
 * `TableWorker` write them (`Delivery`). What sinks report durable goes through `Acknowledgement` back to the source. Any error ends the run and
 * releases everything; running again continues where the sink is. A graceful stop stops pulling, writes what has gathered,
 * waits until all of it is durable and the source had a chance to confirm it, and settles the sink, all within a deadline.
 *
 * With a spool, elements pass through it on their way (`Spool`). When the sink can't be reached any more, and the spool has everything
 * that it lacks, the run goes on without it: it is opened again as soon as that is possible, and given what it lacks.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Pull from "effect/Pull"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Condition from "./Condition.ts"
import type { ConnectorError } from "./ConnectorError.ts"
import * as Delivery from "./Delivery.ts"
import type { MemoryBudget } from "./MemoryBudget.ts"
import * as PipelineControl from "./PipelineControl.ts"
import type { Progress } from "./Progress.ts"
import type * as Quarantine from "./Quarantine.ts"
import * as RunSpool from "./RunSpool.ts"
import type { Sink } from "./Sink.ts"
import type { Source } from "./Source.ts"
import type * as Spool from "./Spool.ts"
import type { StateStoreShape } from "./StateStore.ts"
import * as Telemetry from "./Telemetry.ts"
import { detached } from "./Tracing.ts"
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
  /** What may be asked of the pipeline, over all its runs; made with this pipeline's name. Nothing is asked when not given. */
  readonly control?: PipelineControl.OwnedControl
  /** Where changes are kept on disk; nowhere when not given. */
  readonly spool?: Spool.Settings | undefined
  /** Completes when a graceful stop is asked for. */
  readonly stop: Effect.Effect<void>
  /** How long a graceful stop may take; then the run ends anyway, and what wasn't durable is read again next time. */
  readonly drain: Duration.Input
}

/** Raised while a run goes on without its sink. */
export const unreachable = "sink-unreachable"

/** Whether the sink is there again by itself after a while; anything else has to be looked into by a new run. */
const isOutage = ({ reason }: ConnectorError): boolean => reason === "Unreachable" || reason === "Throttled"

/** Whether rows of a copy may be under way: only a new run finds out which of them the sink has. */
const isCopying = ({ routes }: Delivery.Delivery): boolean =>
  [...routes.all()].some(({ counters }) => counters.phase === "copying")

/** How long to wait before a sink that can't be reached is opened again: longer each time, in milliseconds. */
const waits = [250, 500, 1000, 2000, 5000, 10_000, 30_000] as const
/** After so many milliseconds with the sink the waits begin anew. */
const healthyMillis = 60_000

const start = Effect.fnUntraced(function*(options: Options) {
  const { name, progress, source } = options
  const clock = yield* Clock.Clock
  const drain = Duration.fromInputUnsafe(options.drain)
  const metrics = Telemetry.forPipeline(name)
  const control = options.control ?? PipelineControl.make({ pipeline: name, spool: options.spool !== undefined })
  progress.begin(clock.currentTimeMillisUnsafe())

  const failure = yield* Deferred.make<never, ConnectorError>()
  const stopped = yield* Deferred.make<void>()
  const ended = yield* Deferred.make<void>()
  const conditions = Condition.make(name, progress)

  const failedAt = (stage: string) => (cause: Cause.Cause<ConnectorError>): Effect.Effect<void> => {
    const error = cause.reasons.find(Cause.isFailReason)?.error
    return error === undefined ? Effect.void : metrics.error(error.reason, stage)
  }
  /** Lets a fiber's end for any reason but interruption end the run. */
  const endsRun = <A, R>(effect: Effect.Effect<A, ConnectorError, R>, stage: string): Effect.Effect<void, never, R> =>
    effect.pipe(
      Effect.catchCause((cause) => Effect.andThen(failedAt(stage)(cause), Deferred.failCause(failure, cause))),
      Effect.asVoid
    )

  let delivery: Delivery.Delivery | undefined
  /** What deliveries before the present one have brought about. */
  let before = 0n
  const acknowledged = (): bigint => {
    const now = delivery?.acknowledgement.acknowledged() ?? 0n
    return now > before ? now : before
  }
  /** What the source's feedback read last; undefined when it has never read it. */
  let confirmed: bigint | undefined
  const confirm = (): bigint => {
    const position = acknowledged()
    if (position !== confirmed) {
      confirmed = position
      delivery?.changed.openUnsafe()
    }
    return position
  }

  const spool = options.spool === undefined
    ? undefined
    : yield* RunSpool.open({ pipeline: name, settings: options.spool, source, conditions, acknowledged, control })
  // Closed in the opposite order: first nothing is read any more, then nothing is written.
  const deliveries = yield* Delivery.childScope
  const sourceScope = yield* Delivery.childScope
  yield* options.stop.pipe(Effect.andThen(Deferred.succeed(stopped, undefined)), Effect.forkIn(deliveries))
  if (spool !== undefined) yield* endsRun(spool.run, "spool").pipe(Effect.forkIn(deliveries))
  yield* control.attach({
    quarantine: (table, why) => delivery === undefined ? RunSpool.notYet(name, table) : delivery.quarantine(table, why),
    blocking: () => delivery?.acknowledgement.blockingTables() ?? [],
    isSpooling: () => spool?.isSpooling() ?? false,
    spools: spool !== undefined
  }, () => spool?.look())

  // The source stays open after its end and after a stop: its feedback still has to tell the server what becomes durable.
  const pulling = (first: Delivery.Delivery) =>
    Effect.gen(function*() {
      const pull = yield* Stream.toPull(
        source.stream({
          positions: spool?.positions(first.routes.positions) ?? first.routes.positions,
          unwanted: first.routes.unwanted,
          quarantined: (table) => (delivery ?? first).routes.find(table)?.quarantine,
          acknowledged: confirm,
          ...(spool === undefined ? {} : { spool: spool.context }),
          copiesGoOn: control.copiesGoOn,
          conditions
        })
      )
      while (true) {
        const elements = yield* pull
        for (const element of elements) {
          if (spool !== undefined) yield* spool.put(element, delivery ?? first)
          // After a stop nobody takes any more.
          else if (!(yield* Queue.offer(first.handoff, element))) return yield* Effect.never
        }
      }
    }).pipe(
      Pull.catchDone(() => {
        spool?.end()
        return Effect.andThen(Deferred.succeed(ended, undefined), Effect.never)
      }),
      Effect.scoped,
      Effect.catchCauseIf(
        (cause) => Deferred.isDoneUnsafe(stopped) && !Cause.hasInterruptsOnly(cause),
        (cause) => Effect.logWarning("The source failed while the pipeline stopped", cause)
      )
    )

  let pulls = false
  /** One delivery from its beginning to its end. */
  const deliver = Effect.gen(function*() {
    progress.deliveries++
    const scope = yield* Scope.fork(deliveries)
    const made = yield* Scope.provide(
      Delivery.make({
        pipeline: options,
        conditions,
        stopped,
        ended,
        moved: () => spool?.look(),
        confirmed: () => confirmed,
        acknowledged,
        failedAt,
        drained: spool?.drained ?? Effect.void
      }),
      scope
    )
    delivery = made
    const work = Effect.gen(function*() {
      const prepare = Effect.gen(function*() {
        const tables = spool?.tables() ?? (yield* Effect.tapCause(source.tables, failedAt("source")))
        yield* made.prepare(tables)
        if (spool !== undefined && !pulls) yield* spool.begin(made, tables)
        yield* conditions.clear(unreachable)
        yield* Effect.logInfo("The pipeline runs").pipe(Effect.annotateLogs({ tables: tables.length }))
      })
      const prepared = yield* Effect.raceFirst(Effect.as(prepare, true), Effect.as(Deferred.await(stopped), false))
      if (!prepared) return
      if (!pulls) {
        pulls = true
        yield* endsRun(pulling(made), "source").pipe(Effect.forkIn(sourceScope))
      }
      if (spool !== undefined) yield* endsRun(spool.give(made), "spool").pipe(Effect.forkIn(scope))
      yield* made.work
    })
    const exit = yield* Effect.exit(Effect.raceFirst(work, Deferred.await(made.failure)))
    return { exit, scope, made }
  })

  const deliverAll = Effect.gen(function*() {
    let failures = 0
    while (true) {
      const since = clock.currentTimeMillisUnsafe()
      const { exit, made, scope } = yield* deliver
      if (Exit.isSuccess(exit)) return
      const error = exit.cause.reasons.find(Cause.isFailReason)?.error
      const goesOn = spool !== undefined && pulls && error !== undefined && isOutage(error) &&
        !Deferred.isDoneUnsafe(stopped) && !made.failures.isIsolating() && !isCopying(made)
      if (!goesOn) return yield* exit
      yield* Scope.close(scope, Exit.void)
      before = acknowledged()
      if (!(yield* spool.rewind)) return yield* exit
      if (clock.currentTimeMillisUnsafe() - since > healthyMillis) failures = 0
      progress.lastError = error
      yield* conditions.raise({
        name: unreachable,
        severity: "warning",
        message: `The sink can't be reached, and is opened again as soon as it can: ${error.message}`,
        hint: error.hint
      })
      const wait = waits[Math.min(failures++, waits.length - 1)] ?? 0
      const goes = yield* Effect.raceFirst(
        Effect.as(Effect.sleep(wait), true),
        Effect.as(Deferred.await(stopped), false)
      )
      if (!goes) return
    }
  })

  const deadline = Deferred.await(stopped).pipe(
    Effect.andThen(Effect.sleep(drain)),
    Effect.andThen(
      Effect.suspend(() =>
        Effect.logWarning("The deadline of the stop has come; what isn't durable will be read again").pipe(
          Effect.annotateLogs({ tables: delivery?.acknowledgement.unsettledTables() ?? [] })
        )
      )
    )
  )

  yield* Effect.raceAllFirst([deliverAll, deadline, Deferred.await(failure)])
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
