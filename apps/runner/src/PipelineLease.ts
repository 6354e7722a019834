/**
 * Keeps a pipeline from being run by two runners that share a state store: whoever runs it holds a lease, the others wait and say so.
 *
 * It is a courtesy between runners and no safeguard: what keeps a second writer out are the source's slot and the sink's channels. So a state store
 * that fails stops no run, neither at its start nor later; only who has seen that another runs the pipeline waits on. A run ends only when another
 * runner is seen to have the lease.
 */
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Lease from "@etl-stream/core/Lease"
import type { StateStoreShape } from "@etl-stream/core/StateStore"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as RunnerIdentity from "./RunnerIdentity.ts"

export interface PipelineLease {
  /** Fails as `Fenced` when another runner has taken the pipeline over; else it goes on for ever. */
  readonly taken: Effect.Effect<never, ConnectorError>
}

export interface Options {
  /** How long others wait for a runner that is gone. */
  readonly ttl?: Duration.Input
  /** Who asks; default: this process. */
  readonly owner?: string
  /** Called when another runner is seen to have it. */
  readonly onWait?: () => void
}

/** Long enough for a state store that is restarted, short enough for whoever waits for a machine that is gone. */
const defaultTtl = Duration.seconds(15)

/** Waits between attempts while the state store fails. */
const untilItWorks = Schedule.jittered(
  Schedule.min([Schedule.exponential("500 millis"), Schedule.spaced("2 seconds")])
)

const takenOver = (pipeline: string, owner: string) =>
  new ConnectorError({
    reason: "Fenced",
    plugin: "@etl-stream/runner",
    message: `Another runner has taken the pipeline ${pipeline} over: ${owner}`,
    hint:
      "It goes on here when that one is gone. If both are meant to run, give them pipelines of different names, or state stores (namespaces) of their own."
  })

/** Pipelines whose lease this process holds. */
const held = new Set<string>()

/**
 * Acquires the pipeline's lease, which may mean to wait for another runner's end, and keeps it until the scope closes. When the state store fails, it is
 * acquired in the background as soon as that works.
 */
export const hold = Effect.fn("PipelineLease.hold")(function*(
  state: StateStoreShape,
  pipeline: string,
  { onWait, owner = RunnerIdentity.identity, ttl = defaultTtl }: Options = {}
): Effect.fn.Return<PipelineLease, never, Scope.Scope> {
  const settled = yield* Deferred.make<void>()
  const taken = yield* Deferred.make<never, ConnectorError>()
  const options: Lease.Options = {
    name: `pipelines/${pipeline}`,
    owner,
    ttl,
    // A lease of ours that nobody holds is left over from a state store that failed when it was to be given up.
    isGone: (other) => other === owner ? !held.has(pipeline) : RunnerIdentity.hasEnded(other)
  }
  /** Holds the lease until it is lost. */
  const holding = (acquire: Effect.Effect<Lease.Lease, ConnectorError | Lease.LeaseHeld, Scope.Scope>) =>
    Effect.scoped(Effect.gen(function*() {
      const lease = yield* acquire
      yield* Effect.acquireRelease(
        Effect.sync(() => held.add(pipeline)),
        () => Effect.sync(() => held.delete(pipeline))
      )
      yield* Deferred.succeed(settled, undefined)
      yield* lease.lost
    }))

  let waited = false
  const first = Lease.acquire(state, {
    ...options,
    onWait: ({ owner }) => {
      waited = true
      onWait?.()
      return Effect.logWarning("Another runner runs this pipeline; it is waited for").pipe(
        Effect.annotateLogs({ runner: owner })
      )
    }
  }).pipe(
    Effect.retry({ schedule: untilItWorks, while: () => waited }),
    Effect.tap(() => waited ? Effect.logInfo("The other runner is gone; the pipeline goes on here") : Effect.void)
  )
  yield* holding(first).pipe(
    Effect.catchTag(
      "ConnectorError",
      (error) =>
        Effect.logWarning("It can't be found out whether another runner runs this pipeline; it starts").pipe(
          Effect.annotateLogs({ reason: error.reason, message: error.message, hint: error.hint }),
          Effect.andThen(Deferred.succeed(settled, undefined))
        )
    ),
    Effect.andThen(
      holding(Lease.tryAcquire(state, options)).pipe(
        Effect.retry({ schedule: untilItWorks, while: ({ _tag }) => _tag === "ConnectorError" }),
        Effect.forever
      )
    ),
    Effect.catch((error) =>
      error._tag === "LeaseHeld" ? Deferred.fail(taken, takenOver(pipeline, error.owner)) : Effect.void
    ),
    Effect.forkScoped
  )
  yield* Deferred.await(settled)
  return { taken: Deferred.await(taken) }
})
