/**
 * The alerts of a configuration, over the pipelines of a process.
 */
import type { StateStoreShape } from "@etl-stream/core/StateStore"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Configuration } from "../Configuration.ts"
import type { Watching } from "../Monitors.ts"
import type { Supervised } from "../Supervisor.ts"
import * as Alerting from "./Alerting.ts"
import * as AlertRule from "./AlertRule.ts"
import type { NamedNotifier } from "./Channels.ts"
import type { Subject } from "./Observation.ts"

export interface Options {
  readonly state: StateStoreShape
  readonly redact: (text: string) => string
  readonly subjects: (now: number) => ReadonlyArray<Subject>
}

export interface Alerts {
  readonly reload: (configuration: Configuration) => Effect.Effect<void>
  readonly finish: Alerting.Alerting["finish"]
}

/** The notifiers of a configuration, not made yet. */
export const notifiers = ({ directory, input, notifiers }: Configuration): ReadonlyArray<NamedNotifier> =>
  notifiers.map(({ name, notifier }) => ({
    name,
    identity: [input.notifiers[name], directory],
    make: Effect.suspend(() => notifier.plugin.make(notifier.options, { pipeline: "etl-stream", directory }))
  }))

/** Pipelines as alerts see them. */
export const pipelines = (supervised: ReadonlyArray<Supervised>, now: number): ReadonlyArray<Subject> =>
  supervised.map(({ name, progress }) => {
    const view = progress.snapshot(now)
    return { name, kind: "pipeline", view, conditions: view.conditions }
  })

/** Monitors as alerts see them. */
export const monitors = (watching: ReadonlyArray<Watching>): ReadonlyArray<Subject> =>
  watching.map(({ conditions, name }) => ({ name, kind: "monitor", conditions }))

/** Alerts until the scope closes. */
export const start = Effect.fn("Alerts.start")(
  function*(configuration: Configuration, options: Options): Effect.fn.Return<Alerts, never, Scope.Scope> {
    const alerting = yield* Alerting.start({
      ...options,
      rules: AlertRule.activate(configuration.alerts),
      notifiers: notifiers(configuration)
    })
    return {
      reload: (next) => alerting.reload(AlertRule.activate(next.alerts), notifiers(next)),
      finish: alerting.finish
    }
  }
)
