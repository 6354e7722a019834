/**
 * What a run does when a table can't go on: it sets the table aside and lets the others go on, or ends.
 *
 * From the moment of the error on nothing of the table is taken any more, and no watermark counts that comes after it. Once the sink has made the quarantine
 * durable, everything of the table is void: its memory and its tickets are given back, and the acknowledged position moves on. A crash in
 * between reads again what wasn't acknowledged, and comes to the same error.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Acknowledgement } from "./Acknowledgement.ts"
import type { Conditions } from "./Condition.ts"
import { ConnectorError } from "./ConnectorError.ts"
import * as Quarantine from "./Quarantine.ts"
import type { Route } from "./Route.ts"
import type { Sink } from "./Sink.ts"
import type { TableSchema } from "./TableSchema.ts"

export interface TableFailures {
  /** Whether an error sets its table aside. */
  readonly isolates: (error: ConnectorError) => boolean
  /** Deals with an error of a table, wherever it came up. Doesn't wait for the sink. */
  readonly failed: (route: Route, error: ConnectorError) => Effect.Effect<void>
  /** The same for what ended a table's worker. */
  readonly broken: (route: Route, cause: Cause.Cause<ConnectorError>) => Effect.Effect<void>
  /**
   * Sets a table aside because somebody asks for it, whatever the policy. Completes when that is durable; fails with `Unsupported` where the
   * sink can't remember it.
   */
  readonly setAside: (route: Route, why: Quarantine.Quarantine) => Effect.Effect<void, ConnectorError>
  /** To be called when the sink has begun a quarantined table anew, or left it. */
  readonly lifted: (route: Route) => Effect.Effect<void>
  /** Whether some quarantine isn't durable yet. */
  readonly isIsolating: () => boolean
}

export interface Options {
  readonly sink: Sink
  readonly policy: Quarantine.Policy
  readonly conditions: Conditions
  readonly acknowledgement: Acknowledgement
  /** Where quarantines are made durable. */
  readonly scope: Scope.Scope
  readonly isolate: (
    route: Route,
    target: TableSchema,
    why: Quarantine.Quarantine
  ) => Effect.Effect<void, ConnectorError>
  /** Called when a table is set aside durably. */
  readonly isolated: (route: Route) => void
  /** Ends the run. */
  readonly ends: (cause: Cause.Cause<ConnectorError>) => Effect.Effect<void>
}

export const make = (options: Options): TableFailures => {
  const { acknowledgement, conditions, policy, sink } = options
  let isolating = 0

  const isolates = (error: ConnectorError): boolean =>
    policy === "quarantine" && sink.quarantine !== undefined && Quarantine.concernsTable(error)

  const isolate = (route: Route, target: TableSchema, why: Quarantine.Quarantine, done: Deferred.Deferred<void>) =>
    options.isolate(route, target, why).pipe(
      Effect.andThen(Effect.suspend(() => {
        isolating--
        route.isolating = undefined
        acknowledgement.release(route.table)
        options.isolated(route)
        return Deferred.succeed(done, undefined)
      })),
      Effect.catchCause((cause) => Cause.hasInterruptsOnly(cause) ? Effect.void : options.ends(cause)),
      Effect.annotateLogs({ table: route.table })
    )

  const begin = Effect.fnUntraced(function*(route: Route, target: TableSchema, why: Quarantine.Quarantine) {
    const done = yield* Deferred.make<void>()
    yield* Effect.suspend(() => {
      // What comes up while it is being set aside follows from that.
      if (route.quarantine !== undefined) return Effect.void
      route.quarantine = why
      route.isolating = done
      isolating++
      acknowledgement.hold(route.table)
      // The caller may be the worker, which is about to be closed.
      return Effect.forkIn(isolate(route, target, why, done), options.scope)
    })
  })

  const failed = Effect.fnUntraced(function*(route: Route, error: ConnectorError) {
    const { target } = route
    if (target === undefined || !isolates(error)) return yield* options.ends(Cause.fail(error))
    yield* begin(route, target, Quarantine.of(error, yield* Clock.currentTimeMillis))
  })

  const setAside = Effect.fnUntraced(function*(route: Route, why: Quarantine.Quarantine) {
    const { table, target } = route
    if (target === undefined || sink.quarantine === undefined) {
      return yield* new ConnectorError({
        reason: "Unsupported",
        plugin: "@etl-stream/core",
        message: target === undefined
          ? `The table ${table} is left out by a transform, so there is nothing to set aside`
          : `The sink can't set the table ${table} aside: it doesn't remember quarantines`,
        hint: target === undefined
          ? "Look at the pipeline's transforms."
          : "Leave the table out of the pipeline's tables if the others can't wait for it.",
        table
      })
    }
    // Whoever asks for it means the table as it is, not only what it did before it left.
    route.leaving = undefined
    yield* begin(route, target, why)
    const { isolating } = route
    if (isolating !== undefined) yield* Deferred.await(isolating)
  })

  return {
    isolates,
    failed,
    setAside,
    broken: (route, cause) => {
      const error = cause.reasons.find(Cause.isFailReason)?.error
      return error === undefined ? options.ends(cause) : failed(route, error)
    },
    lifted: (route) => {
      if (route.counters.quarantine === undefined) return Effect.void
      route.counters.quarantine = undefined
      return conditions.clear(Quarantine.condition, route.table)
    },
    isIsolating: () => isolating > 0
  }
}
