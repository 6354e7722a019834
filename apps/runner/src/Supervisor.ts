/**
 * Runs every pipeline of a configuration, each kept as it is wanted by a `Keeper` of its own.
 *
 * What is wanted of a pipeline is its configuration, and what was asked of it while it runs: to pause, to stop, to go on. A change to one pipeline never waits
 * for another one's drain, except when it takes over what that one still has (`Claims`). When `stop` completes, running pipelines drain and waiting ones end.
 */
import { MemoryBudget } from "@etl-stream/core/MemoryBudget"
import type { Made } from "@etl-stream/core/Plugin"
import * as ResyncRequest from "@etl-stream/core/ResyncRequest"
import type * as RetryPolicy from "@etl-stream/core/RetryPolicy"
import type { StateStoreShape } from "@etl-stream/core/StateStore"
import type { TableId } from "@etl-stream/core/TableSchema"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Changes from "./Changes.ts"
import * as Claims from "./Claims.ts"
import { type CommandError, fromConnector, internal, isConnectorError } from "./CommandError.ts"
import type { Configuration, PipelineConfiguration } from "./Configuration.ts"
import type { ConfigurationChange } from "./ConfigurationChange.ts"
import { ControlError } from "./ControlError.ts"
import * as Keeper from "./Keeper.ts"
import type { Outcome } from "./PipelineRun.ts"
import type { RequestedStatus } from "./RequestedStatus.ts"
import * as SinkCircuit from "./SinkCircuit.ts"

export type { Activity, Supervised } from "./Keeper.ts"
export type { Outcome } from "./PipelineRun.ts"

/** What became of a request to pause, stop or resume. */
export interface Requested {
  /** Whether it asks for something else than what was wanted already. */
  readonly changed: boolean
  /** Whether it survives a restart of the process: false when the state store keeps nothing. */
  readonly kept: boolean
}

export interface Supervisor {
  /** The pipelines of the configuration as it is now, ended ones and those that are being stopped included. */
  readonly pipelines: () => ReadonlyArray<Keeper.Supervised>
  /** Waits until no pipeline is left and nothing is being changed: how those of the configuration as it is then ended. Paused and stopped ones are left. */
  readonly outcomes: Effect.Effect<ReadonlyMap<string, Outcome>>
  /**
   * Goes over to another configuration: pipelines that are no longer in it drain and stop, changed ones drain and start anew, new ones start. Those in
   * `change.unchanged` are left alone, but started again when they had failed; in none of its lists they are left alone in any case. What is wanted is set at
   * once, in the order of calls; completes when all of it is under way, or what came later. Interrupting it takes nothing back.
   */
  readonly reload: (configuration: Configuration, change: ConfigurationChange) => Effect.Effect<void>
  /** Asks a pipeline to drain and wait until it is resumed. It keeps its place: what is known of it, and whoever watches it. */
  readonly pause: (pipeline: string) => Effect.Effect<Requested, ControlError>
  /** Asks a pipeline to drain and end until it is resumed. Nothing of it stays in this process; its slot stays where it is, as for a pause. */
  readonly stop: (pipeline: string) => Effect.Effect<Requested, ControlError>
  /** Asks a pipeline to run again, whether it was paused, was stopped or has ended. */
  readonly resume: (pipeline: string) => Effect.Effect<Requested, ControlError>
  /** Waits until a pipeline is as it is wanted: drained when it is paused or stopped, started when it is to run. */
  readonly settled: (pipeline: string) => Effect.Effect<void>
  /** Asks for a new copy of tables: taken up within a second when the pipeline runs, or when it is resumed. */
  readonly resync: (
    pipeline: string,
    tables: ReadonlyArray<TableId>
  ) => Effect.Effect<ReadonlyArray<ResyncRequest.ResyncRequest>, ControlError>
  /** Why the supervisor doesn't do its work; undefined while it does. */
  readonly stuck: Effect.Effect<string | undefined>
}

export interface Options {
  /** Completes when a graceful stop is asked for. */
  readonly stop: Effect.Effect<void>
  /** How long a graceful stop may take. */
  readonly drain: Duration.Duration
  readonly retry?: RetryPolicy.Options
  /** Whether more pipelines may come when none is left. Trouble with the environment of one then passes, as far as it can, and is always logged. */
  readonly lasting?: boolean
}

const beatEvery = 1_000
/** The supervisor is stuck when it hasn't had its turn for this long, milliseconds. */
const beatLimit = 30_000

/** The store that all pipelines of a configuration share. */
export const makeState = (configuration: Configuration): Effect.Effect<Made["state"], CommandError, Scope.Scope> => {
  const { options, plugin } = configuration.state
  return plugin.make(options, { pipeline: "etl-stream", directory: configuration.directory }).pipe(
    Effect.catchCause((cause) => {
      const failure = Cause.squash(cause)
      return Effect.fail(
        isConnectorError(failure)
          ? fromConnector(undefined, failure)
          : internal("The state store", failure)
      )
    })
  )
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
  const clock = yield* Clock.Clock
  const changes = Changes.make()
  const circuits = SinkCircuit.make()
  const keepers = new Map<string, Keeper.Keeper>()
  /** Pipelines whose keeper broke. */
  const broken = new Set<string>()
  let order: ReadonlyMap<string, number> = new Map()
  const setOrder = (pipelines: ReadonlyArray<PipelineConfiguration>): void => {
    order = new Map(pipelines.map(({ name }, index) => [name, index]))
  }
  let stopping = false
  let beatAt = clock.currentTimeMillisUnsafe()
  yield* options.stop.pipe(
    Effect.andThen(Effect.sync(() => {
      stopping = true
      changes.touch()
    })),
    Effect.forkScoped
  )
  yield* Effect.forkScoped(
    Effect.repeat(
      Effect.sync(() => {
        beatAt = clock.currentTimeMillisUnsafe()
      }),
      Schedule.spaced(beatEvery)
    )
  )
  const anyActive = () => [...keepers.values()].some((keeper) => !keeper.hasEnded())

  /** Keeps a pipeline until it is removed. */
  const keep = (keeper: Keeper.Keeper): Effect.Effect<void> =>
    Effect.gen(function*() {
      do {
        yield* keeper.run
      } while (keeper.configuration() !== undefined)
      keepers.delete(keeper.name)
      changes.touch()
    }).pipe(
      Effect.catchCause((cause) => {
        if (Cause.hasInterruptsOnly(cause)) return Effect.failCause(cause)
        broken.add(keeper.name)
        return Effect.logError("The supervision of a pipeline broke; restart etl-stream").pipe(
          Effect.andThen(Effect.logDebug("The supervision of a pipeline broke", cause)),
          Effect.annotateLogs({ pipeline: keeper.name })
        )
      }),
      Effect.provideService(MemoryBudget, budget)
    )

  const intentOf = (pipeline: PipelineConfiguration, directory: string): Keeper.Intent => ({
    pipeline,
    directory,
    claims: Claims.of(pipeline, directory)
  })

  /** Sets what is wanted of a pipeline of the configuration, and gives its keeper when it is new. */
  const configure = (intent: Keeper.Intent): Keeper.Keeper | undefined => {
    const { name } = intent.pipeline
    const known = keepers.get(name)
    const keeper = known ?? Keeper.make(name, {
      state,
      circuits,
      changes,
      stop: options.stop,
      isStopping: () => stopping,
      drain: options.drain,
      retry: options.retry,
      lasting: options.lasting === true,
      all: () => keepers.values(),
      anyActive
    })
    keepers.set(name, keeper)
    keeper.configure(intent, true)
    return known === undefined ? keeper : undefined
  }

  const fork = (added: ReadonlyArray<Keeper.Keeper | undefined>): Effect.Effect<void> =>
    Effect.forEach(
      added.filter((keeper) => keeper !== undefined),
      (keeper) => Effect.forkIn(keep(keeper), scope),
      { discard: true }
    )

  const reload = Effect.fn("Supervisor.reload")(function*(next: Configuration, change: ConfigurationChange) {
    const removed = change.removed.map((name) => keepers.get(name)).filter((keeper) => keeper !== undefined)
    const again = new Set([
      ...change.changed,
      ...change.added,
      ...change.unchanged.filter((name) => keepers.get(name)?.outcome()?._tag === "Failed")
    ])
    const wanted = next.pipelines.filter(({ name }) => again.has(name))
    const intents = wanted.map((pipeline) => intentOf(pipeline, next.directory))
    // Everything is set before anything is done, so that whoever takes over sees who gives away.
    for (const keeper of removed) keeper.configure(undefined, false)
    const added = intents.map(configure)
    setOrder(next.pipelines)
    yield* fork(added)
    changes.touch()
    yield* Effect.forEach(
      removed,
      (keeper) =>
        Effect.logInfo("The pipeline is no longer in the configuration: it drains and stops").pipe(
          Effect.annotateLogs({ pipeline: keeper.name, hint: removedHint })
        )
    )
    const affected = [...removed.map(({ name }) => name), ...wanted.map(({ name }) => name)]
    yield* changes.until(() => affected.every((name) => stopping || (keepers.get(name)?.isSettled() ?? true)))
  })

  const find = (name: string): Effect.Effect<Keeper.Keeper, ControlError> =>
    Effect.suspend(() => {
      const keeper = keepers.get(name)
      return keeper?.configuration() === undefined
        ? Effect.fail(ControlError.unknownPipeline(name, order.keys()))
        : Effect.succeed(keeper)
    })

  const request = (status: RequestedStatus) =>
    Effect.fnUntraced(function*(name: string): Effect.fn.Return<Requested, ControlError> {
      const keeper = yield* find(name)
      if (stopping) return yield* ControlError.shuttingDown()
      if (status === "running" && keeper.isPausedByConfiguration() && keeper.desired() !== "stopped") {
        return yield* ControlError.pausedByConfiguration(name)
      }
      const changed = keeper.request(status)
      changes.touch()
      const kept = yield* keeper.keep
      if (changed) {
        yield* Effect.logInfo(
          `The pipeline was asked to ${status === "running" ? "resume" : status === "paused" ? "pause" : "stop"}`
        )
          .pipe(Effect.annotateLogs({ pipeline: name }))
      }
      return { changed, kept }
    })

  setOrder(configuration.pipelines)
  const intents = configuration.pipelines.map((pipeline) => intentOf(pipeline, configuration.directory))
  yield* fork(intents.map(configure))
  return {
    pipelines: () => {
      const place = (name: string) => order.get(name) ?? order.size
      return [...keepers.values()].sort((a, b) => place(a.name) - place(b.name))
    },
    outcomes: Effect.suspend(() => changes.until(() => !anyActive())).pipe(
      Effect.map(() => {
        const outcomes = new Map<string, Outcome>()
        for (const name of order.keys()) {
          const outcome = keepers.get(name)?.outcome()
          if (outcome !== undefined) outcomes.set(name, outcome)
        }
        return outcomes
      })
    ),
    reload,
    pause: request("paused"),
    stop: request("stopped"),
    resume: request("running"),
    settled: (name) => changes.until(() => keepers.get(name)?.isSettled() ?? true),
    resync: Effect.fnUntraced(function*(name, tables) {
      const keeper = yield* find(name)
      if (keeper.desired() === "stopped") return yield* ControlError.pipelineStopped(name)
      return yield* Effect.mapError(ResyncRequest.ask(state, name, tables), ControlError.stateStore)
    }),
    stuck: Effect.sync(() => {
      if (broken.size > 0) return `the supervision of ${[...broken].join(", ")} broke`
      return clock.currentTimeMillisUnsafe() - beatAt > beatLimit ? "the supervisor doesn't get its turn" : undefined
    })
  }
})
