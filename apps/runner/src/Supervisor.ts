/**
 * Runs every pipeline of a configuration as a supervised fiber.
 *
 * A run that fails retryably is started again by `RetryPolicy`; any other failure ends its pipeline and leaves the others alone. Until a pipeline has
 * reached its source's stream for the first time, trouble with its environment ends it at once: whoever starts it is there to read the error. When `stop`
 * completes, running pipelines drain and waiting ones end.
 */
import * as Connector from "@etl-stream/core/ConnectorError"
import type { MemoryBudget } from "@etl-stream/core/MemoryBudget"
import * as Pipeline from "@etl-stream/core/Pipeline"
import type { Kind, Made } from "@etl-stream/core/Plugin"
import * as Progress from "@etl-stream/core/Progress"
import * as RetryPolicy from "@etl-stream/core/RetryPolicy"
import type { Source } from "@etl-stream/core/Source"
import type { StateStoreShape } from "@etl-stream/core/StateStore"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FiberMap from "effect/FiberMap"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import { closingWithin } from "./BoundedScope.ts"
import { type CommandError, fromConnector, internal, isConnectorError } from "./CommandError.ts"
import type { Configuration, PipelineConfiguration, Stage } from "./Configuration.ts"
import { ExitCode } from "./ExitCode.ts"

/** How a pipeline ended. */
export type Outcome =
  /** Its source came to an end, and everything is in place. */
  | { readonly _tag: "Finished" }
  /** It was asked to stop; `settled` is false when the deadline came before everything read was in place. */
  | { readonly _tag: "Stopped"; readonly settled: boolean }
  | { readonly _tag: "Failed"; readonly error: CommandError }

/** A pipeline as it runs. */
export interface Supervised {
  readonly name: string
  readonly progress: Progress.Progress
  /** When it runs again after a failure, milliseconds since 1970-01-01 UTC; undefined while it runs. */
  readonly retryAt: () => number | undefined
}

export interface Supervisor {
  readonly pipelines: ReadonlyArray<Supervised>
  /** Waits until no pipeline is left. */
  readonly outcomes: Effect.Effect<ReadonlyMap<string, Outcome>>
}

export interface Options {
  /** Completes when a graceful stop is asked for. */
  readonly stop: Effect.Effect<void>
  /** How long a graceful stop may take. */
  readonly drain: Duration.Duration
  readonly retry?: RetryPolicy.Options
}

/** A run that lasted this long was a good one: after it, waits between restarts begin anew. */
const healthyAfter = Duration.minutes(1)

/** How long what a run holds may take to be released, before the run counts as over. */
const closeLimit = Duration.seconds(10)

const make = <K extends Kind>(stage: Stage<K>, pipeline: string, directory: string) =>
  stage.plugin.make(stage.options, { pipeline, directory })

/** `source`, telling when its stream is asked for: by then its tables are known and open at the sink. */
const onStream = (source: Source, started: () => void): Source => ({
  tables: source.tables,
  stream: (context) => {
    started()
    return source.stream(context)
  },
  ...(source.resync === undefined ? {} : { resync: source.resync.bind(source) })
})

/** The store that all pipelines of a configuration share. */
export const makeState = (configuration: Configuration): Effect.Effect<Made["state"], CommandError, Scope.Scope> =>
  make(configuration.state, "etl-stream", configuration.directory).pipe(
    Effect.catchCause((cause) => {
      const failure = Cause.squash(cause)
      return Effect.fail(
        isConnectorError(failure)
          ? fromConnector(undefined, failure)
          : internal("The state store", failure)
      )
    })
  )

const supervise = Effect.fnUntraced(function*(
  pipeline: PipelineConfiguration,
  progress: Progress.Progress,
  directory: string,
  state: StateStoreShape,
  options: Options,
  waitsUntil: (retryAt: number | undefined) => void
) {
  const { batch, name, sink, source, transforms } = pipeline
  let reached = false
  let stoppedAt: number | undefined
  const waiting = Latch.makeUnsafe(false)
  const stop = Effect.andThen(
    options.stop,
    Effect.map(Clock.currentTimeMillis, (now): void => {
      stoppedAt ??= now
    })
  )

  const made = Effect.gen(function*() {
    const madeSource = yield* make(source, name, directory)
    const madeTransforms = yield* Effect.forEach(transforms, (transform) => make(transform, name, directory))
    return { source: madeSource, transforms: madeTransforms, sink: yield* make(sink, name, directory) }
  })
  const run = Effect.gen(function*() {
    waiting.closeUnsafe()
    waitsUntil(undefined)
    // A plugin may connect while it is made: that doesn't hold a stop up.
    const parts = yield* Effect.raceFirst(made, Effect.as(stop, undefined))
    if (parts === undefined) return
    yield* Pipeline.run({
      name,
      source: onStream(parts.source, () => {
        reached = true
      }),
      transforms: parts.transforms,
      sink: parts.sink,
      batch,
      progress,
      state,
      stop,
      drain: options.drain
    })
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
    run.pipe(
      Effect.andThen(ended),
      Effect.catchIf(final, (error) => Effect.succeed(failed(error)))
    ),
    {
      policy: RetryPolicy.make({ cap: "30 seconds", ...options.retry }),
      healthyAfter,
      onRetry: ({ delay, error, failures }) =>
        Effect.gen(function*() {
          waitsUntil((yield* Clock.currentTimeMillis) + Duration.toMillis(delay))
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

  return yield* Effect.raceFirst(runs, stoppedWhileWaiting).pipe(
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

const tell = (outcome: Outcome, othersRun: boolean): Effect.Effect<void> => {
  switch (outcome._tag) {
    case "Finished":
      return Effect.logInfo("The source has ended and everything is in place")
    case "Stopped":
      return outcome.settled
        ? Effect.logInfo("Stopped")
        : Effect.logWarning("Stopped before everything read was in place; it is read again next time")
    case "Failed":
      // The last failure is the command's own result and told there.
      return othersRun
        ? Effect.logError(outcome.error.message).pipe(
          Effect.annotateLogs({ code: outcome.error.code, hint: outcome.error.hint })
        )
        : Effect.void
  }
}

/** Starts every pipeline; all are interrupted when the scope closes. */
export const start = Effect.fn("Supervisor.start")(function*(
  configuration: Configuration,
  state: StateStoreShape,
  options: Options
): Effect.fn.Return<Supervisor, never, MemoryBudget | Scope.Scope> {
  const fibers = yield* FiberMap.make<string, Outcome>()
  const retries = new Map<string, number>()
  let running = configuration.pipelines.length
  const started = yield* Effect.forEach(configuration.pipelines, (pipeline) =>
    Effect.gen(function*() {
      const { name } = pipeline
      const progress = Progress.make(name)
      const waitsUntil = (retryAt: number | undefined): void => {
        if (retryAt === undefined) retries.delete(name)
        else retries.set(name, retryAt)
      }
      const fiber = yield* FiberMap.run(
        fibers,
        name,
        supervise(pipeline, progress, configuration.directory, state, options, waitsUntil).pipe(
          Effect.tap((outcome) => Effect.suspend(() => tell(outcome, --running > 0))),
          Effect.annotateLogs({ pipeline: name })
        )
      )
      return { supervised: { name, progress, retryAt: () => retries.get(name) }, fiber }
    }))
  return {
    pipelines: started.map(({ supervised }) => supervised),
    outcomes: Effect.map(
      Effect.forEach(
        started,
        ({ fiber, supervised }) => Effect.map(Fiber.join(fiber), (outcome) => [supervised.name, outcome] as const)
      ),
      (entries) => new Map(entries)
    )
  }
})
