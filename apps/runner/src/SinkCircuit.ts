/**
 * Circuit breakers in front of sinks: what keeps failing is left alone for a while, by all pipelines that write to it.
 *
 * While a circuit is open nothing is written: the pipelines wait with what they have, which pauses their reading, and their sources go on telling the server
 * what is durable, which is less than they have read and never anything else. One call at a time finds out whether the sink works again. An error still ends the
 * run that met it; its next run waits for the circuit before it connects to anything.
 *
 * Pipelines share a circuit when their sinks are of one plugin and its options name the same server or account.
 */
import * as CircuitBreaker from "@etl-stream/core/CircuitBreaker"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { Sink, TableWriter } from "@etl-stream/core/Sink"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import { isConnectorError } from "./CommandError.ts"
import type { Stage } from "./Configuration.ts"

export interface SinkCircuit {
  readonly state: () => CircuitBreaker.State
  /** When the next probe may be made, milliseconds since 1970-01-01 UTC; undefined unless it is open. */
  readonly nextProbe: () => number | undefined
  /** Waits until calls may be made again. */
  readonly admitted: Effect.Effect<void>
  /** Makes a call when the circuit allows it; until then it waits. */
  readonly call: <A, R>(call: Effect.Effect<A, ConnectorError, R>) => Effect.Effect<A, ConnectorError, R>
  /** The sink behind the circuit. */
  readonly guard: (sink: Sink) => Sink
}

export interface SinkCircuits {
  /** The circuit of a pipeline's sink, for as long as the scope is open. */
  readonly of: (sink: Stage<"sink">, pipeline: string) => Effect.Effect<SinkCircuit, never, Scope.Scope>
}

/** So many failures in a row open a circuit. */
const failures = 5

/** How long it stays open: 1 second, then twice as long each time, up to a minute. */
const openTime = Schedule.min([Schedule.exponential("1 second"), Schedule.spaced("1 minute")])

/** How often a call that waits for another one's probe looks again. */
const lookEvery = Duration.millis(250)

/** Options by which connectors name what they talk to. */
const places = ["account", "url", "host", "port", "endpoint", "servers", "brokers"] as const

const text = (value: unknown): string | undefined => {
  if (Redacted.isRedacted(value)) return text(Redacted.value(value))
  if (value instanceof URL) return value.href
  if (Array.isArray(value)) return value.map((one) => text(one) ?? "").join(",")
  return typeof value === "string" || typeof value === "number" ? String(value) : undefined
}

/** What the sink talks to; kept in memory only, as it may hold a password. */
const keyOf = (sink: Stage<"sink">, pipeline: string): string => {
  const { options, plugin } = sink
  const named = typeof options !== "object" || options === null
    ? []
    : places.map((place) => text(Reflect.get(options, place)))
  return JSON.stringify([plugin.name, named.some((one) => one !== undefined) ? named : `pipeline ${pipeline}`])
}

/** Whether an error says that the sink as a whole can't be had at the moment. */
const isOutage = (error: unknown): boolean =>
  isConnectorError(error) && (error.reason === "Unreachable" || error.reason === "Throttled")

interface Shared {
  readonly breaker: CircuitBreaker.CircuitBreaker
  readonly scope: Scope.Closeable
  /** While writes fail, whatever else is asked of the sink is asked by one pipeline at a time. */
  readonly oneByOne: Semaphore.Semaphore
  /** Whether the last write failed. */
  writesFail: boolean
  users: number
}

const guarded = (shared: Shared): SinkCircuit => {
  const { breaker, oneByOne } = shared
  const admitted = Effect.gen(function*() {
    for (let at = breaker.nextProbe(); at !== undefined; at = breaker.nextProbe()) {
      const now = yield* Clock.currentTimeMillis
      if (at <= now) return
      yield* Effect.sleep(at - now)
    }
  })
  const patient = <A, R>(effect: Effect.Effect<A, ConnectorError, R>): Effect.Effect<A, ConnectorError, R> =>
    Effect.gen(function*() {
      while (true) {
        const result = yield* Effect.result(breaker.execute(effect))
        if (result._tag === "Success") return result.success
        if (result.failure._tag !== "CircuitOpen") return yield* result.failure
        yield* Effect.sleep(Duration.max(lookEvery, Duration.millis(result.failure.retryAfter)))
      }
    })
  const failed = (error: ConnectorError): Effect.Effect<void> => Effect.ignore(breaker.execute(Effect.fail(error)))
  // That a sink can be logged in to doesn't mean that it takes anything: what isn't a write is no success while writes fail.
  const call = <A, R>(effect: Effect.Effect<A, ConnectorError, R>): Effect.Effect<A, ConnectorError, R> =>
    Effect.suspend(() => {
      const counted = Effect.tapError(effect, failed)
      if (breaker.current() === "Closed") return counted
      return shared.writesFail ? oneByOne.withPermits(1)(Effect.andThen(admitted, counted)) : patient(effect)
    })
  const writing = (effect: Effect.Effect<void, ConnectorError>): Effect.Effect<void, ConnectorError> =>
    patient(Effect.onExit(effect, (exit) =>
      Effect.sync(() => {
        if (Exit.isSuccess(exit)) shared.writesFail = false
        else if (exit.cause.reasons.some((reason) => Cause.isFailReason(reason) && isOutage(reason.error))) {
          shared.writesFail = true
        }
      })))
  const writer = (inner: TableWriter): TableWriter => ({
    position: inner.position,
    write: (element) => writing(inner.write(element))
  })
  return {
    state: breaker.current,
    nextProbe: breaker.nextProbe,
    admitted,
    call,
    guard: (sink) => ({
      begin: (tables, conditions) => call(sink.begin(tables, conditions)),
      open: (table, durable, tableFailed, given) =>
        Effect.map(
          call(sink.open(table, durable, (error) => Effect.andThen(failed(error), tableFailed(error)), given)),
          writer
        ),
      ...(sink.quarantine === undefined
        ? {}
        : {
          quarantine: (table, why) => call(sink.quarantine?.(table, why) ?? Effect.void)
        }),
      run: Effect.tapError(sink.run, failed),
      settle: writing(sink.settle)
    })
  }
}

/** Circuits that pipelines of this process share. Each is forgotten with its last user. */
export const make = (): SinkCircuits => {
  const known = new Map<string, Shared>()
  return {
    of: (sink, pipeline) =>
      Effect.gen(function*() {
        const key = keyOf(sink, pipeline)
        const shared = yield* Effect.acquireRelease(
          Effect.gen(function*() {
            const present = known.get(key)
            if (present !== undefined) {
              present.users++
              return present
            }
            const scope = yield* Scope.make()
            const breaker = yield* Scope.provide(
              CircuitBreaker.make({ name: sink.plugin.name, failures, openTime, isFailure: isOutage }),
              scope
            )
            // Making one needs no time, but another fiber may have been as fast.
            const made = known.get(key) ?? {
              breaker,
              scope,
              oneByOne: Semaphore.makeUnsafe(1),
              writesFail: false,
              users: 0
            }
            made.users++
            known.set(key, made)
            return made
          }),
          (shared, exit) =>
            Effect.suspend(() => {
              if (--shared.users > 0) return Effect.void
              known.delete(key)
              return Scope.close(shared.scope, exit)
            })
        )
        return guarded(shared)
      })
  }
}
