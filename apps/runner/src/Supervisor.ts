/**
 * Runs every pipeline of a configuration as a supervised fiber.
 *
 * A run that fails retryably is started again by `RetryPolicy`; any other failure ends its pipeline and leaves the others alone. Until a pipeline has
 * reached its source's stream for the first time, trouble with its environment ends it at once: whoever starts it is there to read the error. When `stop`
 * completes, running pipelines drain and waiting ones end. A reload does the same to those pipelines that it changes or removes.
 */
import * as Condition from "@etl-stream/core/Condition"
import * as Connector from "@etl-stream/core/ConnectorError"
import { MemoryBudget } from "@etl-stream/core/MemoryBudget"
import * as Pipeline from "@etl-stream/core/Pipeline"
import * as PipelineControl from "@etl-stream/core/PipelineControl"
import type { Kind, Made } from "@etl-stream/core/Plugin"
import * as Progress from "@etl-stream/core/Progress"
import * as RetryPolicy from "@etl-stream/core/RetryPolicy"
import type { Source } from "@etl-stream/core/Source"
import type { StateStoreShape } from "@etl-stream/core/StateStore"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import { closingWithin } from "./BoundedScope.ts"
import { type CommandError, fromConnector, internal, isConnectorError } from "./CommandError.ts"
import type { Configuration, PipelineConfiguration, Stage } from "./Configuration.ts"
import type { ConfigurationChange } from "./ConfigurationChange.ts"
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
  /** What can be asked of it while it runs, over all its runs. */
  readonly control: PipelineControl.PipelineControl
  /** When it runs again after a failure, milliseconds since 1970-01-01 UTC; undefined while it runs. */
  readonly retryAt: () => number | undefined
}

export interface Supervisor {
  /** The pipelines of the configuration as it is now, ended ones and those that are being stopped included. */
  readonly pipelines: () => ReadonlyArray<Supervised>
  /** Waits until no pipeline is left and no reload is under way: how those of the configuration as it is then ended. */
  readonly outcomes: Effect.Effect<ReadonlyMap<string, Outcome>>
  /**
   * Goes over to another configuration: pipelines that are no longer in it drain and stop, changed ones drain and start anew, new ones start
   * once nothing is being drained. Unchanged ones are left alone, but started again when they had failed. Completes when all is under way.
   */
  readonly reload: (configuration: Configuration, change: ConfigurationChange) => Effect.Effect<void>
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
  ...(source.resync === undefined ? {} : { resync: source.resync.bind(source) }),
  ...(source.spoolable === undefined ? {} : { spoolable: source.spoolable })
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

/** Runs one pipeline to its end. `before`: it ran well before, so nobody waits to read about its environment. */
const supervise = Effect.fnUntraced(function*(
  pipeline: PipelineConfiguration,
  progress: Progress.Progress,
  directory: string,
  state: StateStoreShape,
  options: Options,
  waitsUntil: (retryAt: number | undefined) => void,
  before: boolean,
  control: PipelineControl.OwnedControl
) {
  const { batch, name, onTableError, sink, source, spool, transforms } = pipeline
  let reached = before
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
      onTableError,
      control,
      spool,
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

/** A pipeline under supervision. */
interface Entry extends Supervised {
  readonly progress: Progress.Progress
  readonly control: PipelineControl.OwnedControl
  /** Asks this pipeline alone to stop. */
  readonly stop: Deferred.Deferred<void>
  readonly fiber: Fiber.Fiber<Outcome>
  /** How it ended; undefined while it runs. */
  readonly outcome: () => Outcome | undefined
}

const removedHint =
  "What it made stays where it is: its tables at the sink, and at a PostgreSQL source its replication slot, which keeps WAL for it. " +
  "If the pipeline is not to come back, drop the slot: SELECT pg_drop_replication_slot('<slot>'); its name is `slot.name` of the source's options, or else the pipeline's."

/** Starts every pipeline; all are interrupted when the scope closes. */
export const start = Effect.fn("Supervisor.start")(function*(
  configuration: Configuration,
  state: StateStoreShape,
  options: Options
): Effect.fn.Return<Supervisor, never, MemoryBudget | Scope.Scope> {
  const budget = yield* MemoryBudget
  const scope = yield* Effect.scope
  const entries = new Map<string, Entry>()
  /** Opened whenever a pipeline ends or a change of configuration is over. */
  const changed = Latch.makeUnsafe(false)
  let order = configuration.pipelines.map(({ name }) => name)
  /** Whether pipelines are being started or stopped by configuration. */
  let changing = true
  let stopping = false
  yield* Effect.forkScoped(Effect.andThen(options.stop, Effect.sync(() => stopping = true)))
  const active = () => changing || [...entries.values()].some(({ outcome }) => outcome() === undefined)

  const launch = Effect.fnUntraced(
    function*(pipeline: PipelineConfiguration, directory: string, before: Entry | undefined) {
      const { name } = pipeline
      const progress = before?.progress ?? Progress.make(name)
      const control = before?.control ?? PipelineControl.make({ pipeline: name, spool: pipeline.spool !== undefined })
      const stop = yield* Deferred.make<void>()
      let retryAt: number | undefined
      let outcome: Outcome | undefined
      const reached = before?.outcome()?._tag === "Stopped"
      const ended = (how: Outcome) =>
        Effect.suspend(() => {
          outcome = how
          changed.openUnsafe()
          return tell(how, active())
        })
      const fiber = yield* supervise(
        pipeline,
        progress,
        directory,
        state,
        { ...options, stop: Effect.raceFirst(options.stop, Deferred.await(stop)) },
        (at) => {
          retryAt = at
        },
        reached,
        control
      ).pipe(
        Effect.tap(ended),
        Effect.annotateLogs({ pipeline: name }),
        Effect.provideService(MemoryBudget, budget),
        Effect.forkIn(scope)
      )
      entries.set(name, { name, progress, control, stop, fiber, retryAt: () => retryAt, outcome: () => outcome })
    }
  )

  /** Asks a pipeline to stop and waits until it has ended. */
  const drain = (entry: Entry): Effect.Effect<void> =>
    Deferred.succeed(entry.stop, undefined).pipe(
      Effect.andThen(Fiber.await(entry.fiber)),
      // Whoever raised these is gone.
      Effect.andThen(Condition.forget(entry.name, entry.progress))
    )

  const remove = Effect.fnUntraced(function*(entry: Entry) {
    yield* Effect.logInfo("The pipeline is no longer in the configuration: it drains and stops").pipe(
      Effect.annotateLogs({ hint: removedHint })
    )
    yield* drain(entry)
    entries.delete(entry.name)
  })

  const reload = Effect.fn("Supervisor.reload")(function*(next: Configuration, change: ConfigurationChange) {
    changing = true
    const known = (name: string) => entries.get(name)
    const startAgain = new Set([
      ...change.changed,
      ...change.unchanged.filter((name) => known(name)?.outcome()?._tag === "Failed")
    ])
    const stops = change.removed.map(known).filter((entry) => entry !== undefined)
    const drained = Effect.forEach(
      stops,
      (entry) => Effect.annotateLogs(remove(entry), { pipeline: entry.name }),
      { concurrency: "unbounded", discard: true }
    )
    const restarted = Effect.forEach(
      next.pipelines.filter(({ name }) => startAgain.has(name)),
      Effect.fnUntraced(function*(pipeline) {
        const before = known(pipeline.name)
        if (before !== undefined) yield* drain(before)
        if (!stopping) yield* launch(pipeline, next.directory, before)
      }),
      { concurrency: "unbounded", discard: true }
    )
    yield* Effect.all([drained, restarted], { concurrency: "unbounded", discard: true })
    order = next.pipelines.map(({ name }) => name)
    const added = next.pipelines.filter(({ name }) => change.added.includes(name))
    yield* Effect.forEach(
      added,
      (pipeline) => Effect.suspend(() => stopping ? Effect.void : launch(pipeline, next.directory, undefined)),
      { discard: true }
    )
  }, (effect) =>
    Effect.ensuring(
      effect,
      Effect.sync(() => {
        changing = false
        changed.openUnsafe()
      })
    ))

  yield* Effect.forEach(configuration.pipelines, (pipeline) => launch(pipeline, configuration.directory, undefined))
  changing = false
  return {
    pipelines: () => {
      const place = (name: string) => order.includes(name) ? order.indexOf(name) : order.length
      return [...entries.values()].sort((a, b) => place(a.name) - place(b.name))
    },
    outcomes: Effect.gen(function*() {
      while (active()) {
        changed.closeUnsafe()
        yield* changed.await
      }
      const outcomes = new Map<string, Outcome>()
      for (const name of order) {
        const outcome = entries.get(name)?.outcome()
        if (outcome !== undefined) outcomes.set(name, outcome)
      }
      return outcomes
    }),
    reload
  }
})
