/**
 * One pipeline from its start to its end: a run that fails retryably is started again by `RetryPolicy`, any other failure ends it.
 *
 * Until it has reached its source's stream for the first time, trouble with its environment ends it at once: whoever starts it is there to read the error. A run
 * that is stuck is ended as if its connection were lost. When `stop` completes, the run drains; while it waits for its next run, it ends.
 */
import * as Condition from "@etl-stream/core/Condition"
import * as Connector from "@etl-stream/core/ConnectorError"
import type { Element } from "@etl-stream/core/Element"
import type { MemoryBudget } from "@etl-stream/core/MemoryBudget"
import * as Pipeline from "@etl-stream/core/Pipeline"
import type { OwnedControl } from "@etl-stream/core/PipelineControl"
import type { Kind, PluginContext } from "@etl-stream/core/Plugin"
import type { Progress } from "@etl-stream/core/Progress"
import * as RetryPolicy from "@etl-stream/core/RetryPolicy"
import type { Source } from "@etl-stream/core/Source"
import type { StateStoreShape } from "@etl-stream/core/StateStore"
import * as Telemetry from "@etl-stream/core/Telemetry"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Metric from "effect/Metric"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { closingWithin } from "./BoundedScope.ts"
import { type CommandError, fromConnector, internal } from "./CommandError.ts"
import type { PipelineConfiguration, Stage } from "./Configuration.ts"
import { ExitCode } from "./ExitCode.ts"
import * as PipelineLease from "./PipelineLease.ts"
import * as PipelineLetters from "./PipelineLetters.ts"
import type { SinkCircuit } from "./SinkCircuit.ts"
import { Watchdog } from "./Watchdog.ts"

/** How a pipeline ended. */
export type Outcome =
  /** Its source came to an end, and everything is in place. */
  | { readonly _tag: "Finished" }
  /** It was asked to stop; `settled` is false when the deadline came before everything read was in place. */
  | { readonly _tag: "Stopped"; readonly settled: boolean }
  | { readonly _tag: "Failed"; readonly error: CommandError }

export interface Options {
  readonly pipeline: PipelineConfiguration
  /** What relative paths in plugins' options are relative to. */
  readonly directory: string
  readonly progress: Progress
  readonly state: StateStoreShape
  /** What is asked of the pipeline, over all its runs. */
  readonly control: OwnedControl
  readonly circuit: SinkCircuit
  /** Completes when a graceful stop is asked for. */
  readonly stop: Effect.Effect<void>
  /** How long a graceful stop may take. */
  readonly drain: Duration.Duration
  readonly retry: RetryPolicy.Options | undefined
  /** Told when it runs again after a failure (milliseconds since 1970-01-01 UTC), and, by undefined, when it does. */
  readonly waitsUntil: (retryAt: number | undefined) => void
  /** Called for each element that the source emits. */
  readonly see: (element: Element) => void
  /** It ran well before, so nobody waits to read about its environment. */
  readonly before: boolean
}

/** A run that lasted this long was a good one: after it, waits between restarts begin anew. */
const healthyAfter = Duration.minutes(1)

/** How long what a run holds may take to be released, before the run counts as over. */
const closeLimit = Duration.seconds(10)

const observeEvery = Duration.seconds(1)

const make = <K extends Kind>(stage: Stage<K>, context: PluginContext) => stage.plugin.make(stage.options, context)

/** `source`, telling when its stream is asked for (by then its tables are known and open at the sink) and what comes. */
const observed = (source: Source, started: () => void, see: (element: Element) => void): Source => ({
  heartbeat: source.heartbeat,
  tables: source.tables,
  stream: (context) => {
    started()
    return Stream.map(source.stream(context), (element) => {
      see(element)
      return element
    })
  },
  ...(source.resync === undefined ? {} : { resync: source.resync.bind(source) }),
  ...(source.spoolable === undefined ? {} : { spoolable: source.spoolable })
})

/** Raised while the sink's circuit is not closed. */
const circuitCondition = "sink-circuit-open"
/** Raised while nothing moves that should. */
const stalledCondition = "stalled"

const circuitStates = { Closed: "closed", Open: "open", HalfOpen: "half_open" } as const

/** Shows the state of the sink's circuit as metric and condition until interrupted. */
const showCircuit = Effect.fnUntraced(function*(
  pipeline: string,
  circuit: SinkCircuit,
  conditions: Condition.Conditions
) {
  let shown: keyof typeof circuitStates | undefined
  const show = (state: keyof typeof circuitStates | undefined) =>
    Effect.forEach(
      Object.entries(circuitStates),
      ([name, label]) => Metric.update(Telemetry.sinkCircuitOf(pipeline, label), name === state ? 1 : 0),
      { discard: true }
    )
  const look = Effect.gen(function*() {
    const state = circuit.state()
    if (state === shown) return
    shown = state
    yield* show(state)
    yield* state === "Closed" ? conditions.clear(circuitCondition) : conditions.raise({
      name: circuitCondition,
      severity: "warning",
      message: "The sink failed several times in a row: nothing is written until it answers again",
      hint: "It is tried again by itself, at the latest every minute. The last error says what is wrong."
    })
  })
  return yield* Effect.repeat(look, Schedule.spaced(observeEvery)).pipe(
    Effect.andThen(Effect.never),
    Effect.ensuring(show(undefined))
  )
})

/** Runs it. Never fails. */
export const run = Effect.fnUntraced(function*(
  options: Options
): Effect.fn.Return<Outcome, never, MemoryBudget> {
  const { circuit, directory, pipeline, progress, state, waitsUntil } = options
  const { batch, name, onTableError, sink, source, spool, transforms } = pipeline
  const conditions = Condition.make(name, progress)
  const watchdog = new Watchdog(pipeline.watchdog.after)
  let reached = options.before
  let stoppedAt: number | undefined
  const waiting = Latch.makeUnsafe(false)
  const stop = Effect.andThen(
    options.stop,
    Effect.map(Clock.currentTimeMillis, (now): void => {
      stoppedAt ??= now
    })
  )

  const made = Effect.gen(function*() {
    yield* circuit.admitted
    const context = { pipeline: name, directory }
    const madeSource = yield* make(source, context)
    const madeTransforms = yield* Effect.forEach(transforms, (transform) => make(transform, context))
    const sinkContext = yield* PipelineLetters.sinkContext(pipeline, directory)
    return {
      source: madeSource,
      transforms: madeTransforms,
      sink: circuit.guard(yield* circuit.call(make(sink, sinkContext)))
    }
  })

  let heartbeat: Duration.Duration | undefined
  /** False while the run waits for another runner that has the pipeline. */
  let isLeased = false
  /** Fails when the run is stuck and is to be restarted for it. */
  const watching = Effect.gen(function*() {
    heartbeat = undefined
    watchdog.begin(yield* Clock.currentTimeMillis)
    const every = Duration.min(Duration.seconds(10), Duration.times(pipeline.watchdog.after, 0.1))
    while (true) {
      const now = yield* Clock.currentTimeMillis
      // A probe of the circuit that doesn't come back is no reason to wait.
      const excused = stoppedAt !== undefined || progress.phase === "draining" || !isLeased ||
        (circuit.nextProbe() ?? 0) > now
      const limit = watchdog.limit()
      const stall = watchdog.look(progress, { now, heartbeat, excused })
      if (!watchdog.isStalled()) yield* conditions.clear(stalledCondition)
      if (stall !== undefined) {
        const restarts = stall.restart && pipeline.watchdog.restart
        const message = `${stall.message} for ${Duration.format(Duration.millis(limit))}`
        yield* conditions.raise({
          name: stalledCondition,
          severity: "critical",
          message,
          hint: restarts
            ? "The pipeline is started again by itself. When that doesn't help, look at what its source and its sink are doing; `watchdog` in its configuration sets the time."
            : "Look at what its source and its sink are doing; `watchdog` in its configuration sets the time."
        })
        if (restarts) {
          watchdog.restarted()
          reached = true
          return yield* new Connector.ConnectorError({
            reason: "Unreachable",
            plugin: "@etl-stream/runner",
            message,
            hint: "It is started again from what is durable; nothing is lost."
          })
        }
      }
      yield* Effect.sleep(every)
    }
  })

  const working = Effect.gen(function*() {
    const lease = yield* Effect.raceFirst(PipelineLease.hold(state, name), Effect.as(stop, undefined))
    if (lease === undefined) return
    isLeased = true
    // A plugin may connect while it is made: that doesn't hold a stop up.
    const parts = yield* Effect.raceFirst(made, Effect.as(stop, undefined))
    if (parts === undefined) return
    heartbeat = parts.source.heartbeat
    yield* Pipeline.run({
      name,
      source: observed(parts.source, () => {
        reached = true
      }, options.see),
      transforms: parts.transforms,
      sink: parts.sink,
      batch,
      onTableError,
      progress,
      state,
      control: options.control,
      spool,
      stop,
      drain: options.drain
    }).pipe(Effect.raceFirst(lease.taken))
  })
  const once = Effect.suspend(() => {
    waiting.closeUnsafe()
    isLeased = false
    waitsUntil(undefined)
    return Effect.raceFirst(watching, working)
  }).pipe(closingWithin(closeLimit))

  const ended = Effect.map(Clock.currentTimeMillis, (now): Outcome =>
    stoppedAt === undefined
      ? { _tag: "Finished" }
      : { _tag: "Stopped", settled: now - stoppedAt < Duration.toMillis(options.drain) })
  const failed = (error: Connector.ConnectorError): Outcome => {
    progress.phase = "failed"
    progress.lastError = error
    return { _tag: "Failed", error: fromConnector(name, error) }
  }
  /** Whether trying again is out of the question, whatever the policy says. */
  const final = (error: Connector.ConnectorError): boolean =>
    stoppedAt !== undefined || (!reached && Connector.exitCode(error) === ExitCode.environment)

  const runs = RetryPolicy.supervise(
    once.pipe(
      Effect.andThen(ended),
      Effect.catchIf(final, (error) => Effect.succeed(failed(error)))
    ),
    {
      policy: RetryPolicy.make({ cap: "30 seconds", ...options.retry }),
      healthyAfter,
      onRetry: ({ delay, error, failures }) =>
        Effect.gen(function*() {
          waitsUntil((yield* Clock.currentTimeMillis) + Duration.toMillis(delay))
          progress.phase = "failed"
          progress.lastError = error
          waiting.openUnsafe()
          yield* Effect.logWarning(error.message).pipe(
            Effect.annotateLogs({
              reason: error.reason,
              ...(error.table === undefined ? {} : { table: error.table }),
              hint: error.hint,
              failures,
              retryInMillis: Math.round(Duration.toMillis(delay))
            })
          )
        })
    }
  ).pipe(Effect.catch((error) => Effect.succeed(failed(error))))

  // Between runs nothing is under way, so there is nothing to drain.
  const stoppedWhileWaiting: Effect.Effect<Outcome> = stop.pipe(
    Effect.andThen(waiting.await),
    Effect.as({ _tag: "Stopped", settled: true })
  )

  return yield* Effect.raceAllFirst([runs, stoppedWhileWaiting, showCircuit(name, circuit, conditions)]).pipe(
    Effect.catchCause((cause) =>
      Cause.hasInterruptsOnly(cause)
        ? Effect.failCause(cause)
        : Effect.logDebug("The pipeline broke", cause).pipe(
          Effect.as<Outcome>({ _tag: "Failed", error: internal(`Pipeline ${name}`, Cause.squash(cause)) }),
          Effect.tap(() => Effect.sync(() => progress.phase = "failed"))
        )
    ),
    Effect.ensuring(Effect.sync(() => waitsUntil(undefined)))
  )
})
