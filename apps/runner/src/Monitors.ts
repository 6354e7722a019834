/**
 * Runs the monitors of a configuration, each as a supervised fiber beside the pipelines.
 *
 * A monitor that breaks, for whatever reason, runs again after a while and is a condition until it has been well for some time: what is there to warn
 * must not be gone for good because of one mishap, nor take the pipelines with it. What it raised outlives its runs, and ends with it.
 */
import * as Condition from "@etl-stream/core/Condition"
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { MonitoredPipeline } from "@etl-stream/core/Monitor"
import * as RetryPolicy from "@etl-stream/core/RetryPolicy"
import type { StateStoreShape } from "@etl-stream/core/StateStore"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { closingWithin } from "./BoundedScope.ts"
import { isConnectorError } from "./CommandError.ts"
import type { Configuration, MonitorConfiguration } from "./Configuration.ts"
import type { Supervised } from "./Supervisor.ts"

/** A monitor as it is now. */
export interface Watching {
  readonly name: string
  /** What it has raised, in the order in which it came up. */
  readonly conditions: ReadonlyArray<Condition.Raised>
  /** What it saw last, as it says itself; null before that. */
  readonly status: Schema.Json
}

export interface Monitors {
  /** In the configuration's order. */
  readonly monitors: () => ReadonlyArray<Watching>
  /** Goes over to another configuration: monitors that are gone or changed end, changed and new ones start. */
  readonly reload: (configuration: Configuration) => Effect.Effect<void>
}

export interface Options {
  readonly state: StateStoreShape
  /** The pipelines as they are now. */
  readonly pipelines: () => ReadonlyArray<MonitoredPipeline>
  readonly retry?: { readonly initial?: Duration.Input; readonly cap?: Duration.Input }
}

/** A run that lasted this long was a good one. */
const healthyAfter = Duration.minutes(1)

/** How long what a run holds may take to be released. */
const closeLimit = Duration.seconds(10)

/** Pipelines under supervision as monitors see them. */
export const pipelinesOf = (
  supervised: ReadonlyArray<Pick<Supervised, "name" | "progress" | "control">>,
  now: () => number
): ReadonlyArray<MonitoredPipeline> =>
  supervised.map(({ control, name, progress }) => ({ name, control, view: () => progress.snapshot(now()) }))

const failedCondition = "monitor-failed"

/** Whatever a monitor ended with, as an error for people. */
const errorOf = (name: string, plugin: string, cause: Cause.Cause<ConnectorError>): ConnectorError => {
  const failure = Cause.squash(cause)
  return isConnectorError(failure) ? failure : new ConnectorError({
    reason: "Protocol",
    plugin,
    message: `The monitor ${name} broke: ${failure instanceof Error ? failure.name : "unknown error"}`,
    hint: "This is a defect of the plugin: please report it with its version and the log.",
    cause: failure
  })
}

interface Entry {
  readonly configuration: MonitorConfiguration
  readonly holder: Condition.Holder
  readonly fiber: Fiber.Fiber<void>
  readonly status: () => Schema.Json
}

/** Starts every monitor; all are interrupted when the scope closes. */
export const start = Effect.fn("Monitors.start")(function*(
  configuration: Configuration,
  options: Options
): Effect.fn.Return<Monitors, never, Scope.Scope> {
  const scope = yield* Effect.scope
  const entries = new Map<string, Entry>()
  let current = configuration

  const supervise = (
    { name, stage }: MonitorConfiguration,
    directory: string,
    conditions: Condition.Conditions,
    running: (status: (() => Schema.Json) | undefined) => void
  ): Effect.Effect<void> => {
    const well = Effect.delay(conditions.clear(failedCondition), healthyAfter)
    const run = Effect.gen(function*() {
      const monitor = yield* stage.plugin.make(stage.options, { pipeline: name, directory })
      running(monitor.status)
      yield* Effect.forkScoped(well)
      return yield* monitor.run({ conditions, state: options.state, pipelines: options.pipelines })
    }).pipe(
      closingWithin(closeLimit, "monitor"),
      Effect.catchCause((cause) =>
        Cause.hasInterruptsOnly(cause)
          ? Effect.failCause(cause)
          : Effect.fail(errorOf(name, stage.plugin.name, cause))
      )
    )
    const waits = Schedule.min([
      Schedule.exponential(options.retry?.initial ?? "1 second"),
      Schedule.spaced(options.retry?.cap ?? "1 minute")
    ]).pipe(Schedule.jittered, Schedule.setInputType<ConnectorError>())
    return RetryPolicy.supervise(run, {
      policy: waits,
      healthyAfter,
      onRetry: ({ delay, error, failures }) =>
        Effect.andThen(
          conditions.raise({
            name: failedCondition,
            severity: "critical",
            message: `The monitor ${name} doesn't run: ${error.message}`,
            hint: error.hint
          }),
          Effect.logDebug("A monitor has failed", error).pipe(
            Effect.annotateLogs({ failures, retryInMillis: Math.round(Duration.toMillis(delay)) })
          )
        )
    }).pipe(
      // The waits have no end.
      Effect.catch((error) => Effect.logError(error.message)),
      Effect.annotateLogs({ monitor: name })
    )
  }

  const launch = Effect.fnUntraced(function*(monitor: MonitorConfiguration, directory: string) {
    const { name } = monitor
    const holder: Condition.Holder = { conditions: new Map() }
    let status: (() => Schema.Json) | undefined
    const fiber = yield* supervise(monitor, directory, Condition.makeMonitor(name, holder), (of) => {
      status = of
    }).pipe(Effect.forkIn(scope))
    entries.set(name, { configuration: monitor, holder, fiber, status: () => status?.() ?? null })
  })

  const stop = Effect.fnUntraced(function*(entry: Entry) {
    const { name } = entry.configuration
    yield* Fiber.interrupt(entry.fiber)
    yield* Condition.forgetMonitor(name, entry.holder)
    entries.delete(name)
  })

  const reload = Effect.fn("Monitors.reload")(function*(next: Configuration) {
    const [before, now] = [current.input.monitors, next.input.monitors]
    current = next
    const changed = (name: string) => !Object.hasOwn(now, name) || !Equal.equals(before[name], now[name])
    yield* Effect.forEach([...entries.values()].filter(({ configuration: { name } }) => changed(name)), stop, {
      concurrency: "unbounded",
      discard: true
    })
    yield* Effect.forEach(
      next.monitors.filter(({ name }) => !entries.has(name)),
      (monitor) => launch(monitor, next.directory),
      { discard: true }
    )
  })

  yield* Effect.forEach(configuration.monitors, (monitor) => launch(monitor, configuration.directory), {
    discard: true
  })
  return {
    monitors: () =>
      current.monitors.flatMap(({ name }) => {
        const entry = entries.get(name)
        return entry === undefined
          ? []
          : [{ name, conditions: [...entry.holder.conditions.values()], status: entry.status() }]
      }),
    reload
  }
})
