/**
 * Leases with fencing tokens: who may do something that only one at a time should do, among all who share a state store.
 *
 * A lease is a document under `leases/<name>`, changed by compare-and-set and timed by the store's clock, so it works in every store, and clocks of
 * machines needn't agree. Whoever holds it renews it in the background; when the holder is gone, it runs out after its time to live. Holders judge by
 * their own clocks, from before each renewal was asked for, so they stop before the store lets others in.
 *
 * A lease alone can't keep a holder out that was paused, or cut off from the store, and hasn't noticed yet that its time is over: what it
 * still writes must be recognised by its token where it arrives. Tokens of a name grow with every acquisition. They are the store's time in
 * milliseconds at least, so they go on growing when the store loses its documents, or finds old ones, as long as its clock isn't set back and there weren't more acquisitions than
 * milliseconds. A store that loses its documents also forgets who holds what: then somebody else may acquire the lease at once, with a greater token,
 * and the old holder finds out at its next renewal, a third of the time to live later at most.
 */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { randomUUID } from "node:crypto"
import { type ConnectorError, isRetryable } from "./ConnectorError.ts"
import type { Entry, StateStoreShape } from "./StateStore.ts"

export interface Options {
  /** What the lease is for, for example `pipelines/shop`. */
  readonly name: string
  /** Who asks, for people who wait: a host and a process id, for example. No secrets. */
  readonly owner: string
  /** How long others wait for a holder that is gone; it is renewed three times as often. */
  readonly ttl: Duration.Input
  /**
   * Whether a holder is known to be gone for good, so that its time needn't be waited for: a process of this machine that has ended, for example. It
   * must be certain.
   */
  readonly isGone?: (owner: string) => boolean
  /** Called by `acquire` before it waits, and again when somebody else has the lease then. */
  readonly onWait?: (held: LeaseHeld) => Effect.Effect<void>
}

/** Somebody else has the lease. */
export class LeaseHeld extends Schema.TaggedError<LeaseHeld>("@etl-stream/core/LeaseHeld")("LeaseHeld", {
  name: Schema.String,
  owner: Schema.String,
  /** How long it lasts unless it is renewed, milliseconds. */
  remaining: Schema.Number
}) {
  override get message(): string {
    return `${this.owner} holds the lease ${this.name}`
  }
}

/**
 * How a lease was lost. `Taken`: another holds it; `Forgotten`: the store doesn't know it any more, or another had it and gave it up; `Late`: it couldn't be renewed in time, because the
 * store failed or this process was paused.
 */
export type Lost = { readonly _tag: "Taken"; readonly owner: string } | { readonly _tag: "Forgotten" } | {
  readonly _tag: "Late"
}

/** A lease that was acquired. It is given up when its scope closes. */
export interface Lease {
  readonly name: string
  /** Greater than those of all who held the lease before. A safe integer. */
  readonly token: number
  /** Whether its time isn't over by this process's clocks: nobody else has it then, unless the store lost its documents. */
  readonly isHeld: Effect.Effect<boolean>
  /** Completes when the lease is lost, with how that happened; never when it is given up. It isn't renewed any more then. */
  readonly lost: Effect.Effect<Lost>
}

/** Leaves room to count on: tokens and times of documents of ours are far below. */
const Count = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 2 ** 52 }))

/** Times are milliseconds since 1970-01-01 UTC by the store's clock. A lease that was given up is kept for its token; it expired at 0. */
const Document = Schema.Struct({
  version: Schema.Literal(1),
  token: Count,
  /** Of one acquisition. */
  id: Schema.String,
  owner: Schema.String,
  /** Time to live, milliseconds. */
  ttl: Count,
  expires: Count
})
type Document = typeof Document.Type

const decode = Schema.decodeUnknownOption(Schema.fromJsonString(Document))

/** The state store's key of a lease. */
export const key = (name: string): string => `leases/${name}`

/** The document of an entry; none when there is none, or not one of ours: that is replaced. */
const documentOf = (entry: Option.Option<Entry>): Document | undefined =>
  Option.getOrUndefined(Option.flatMap(entry, ({ value }) => decode(value)))

/** A moment by both clocks of this process: the one may stand still while the machine sleeps, the other may be set. */
const moment = Effect.all({ steady: Clock.monotonicTimeNanos, wall: Clock.currentTimeMillis })

/** Milliseconds since then, by the clock that says more. */
const since = (then: Moment) =>
  Effect.map(moment, (now) => Math.max(Number(now.steady - then.steady) / 1e6, now.wall - then.wall))

type Moment = Effect.Success<typeof moment>

/** What somebody who waits saw last of the lease's holder. */
interface Seen {
  readonly document: Document
  /** Since when the store doesn't know of it any more. */
  readonly forgotten: Moment | undefined
}

/** Whether a document is from before what was seen: the store was emptied, or went back to an old copy. */
const isBefore = (document: Document | undefined, seen: Document): boolean =>
  document === undefined || document.token < seen.token ||
  (document.id === seen.id && document.expires > 0 && document.expires < seen.expires)

const clockOf = (state: StateStoreShape) => Effect.map(state.now, Math.floor)

/** How often `acquire` looks whether the lease is free, at least. */
const lookEvery = 1000

/** Acquires the lease, or fails with `LeaseHeld`. `waiting` is what is remembered from one attempt to the next. */
const attempt = Effect.fnUntraced(function*(
  state: StateStoreShape,
  options: Options,
  waiting: { seen: Seen | undefined }
): Effect.fn.Return<Lease, ConnectorError | LeaseHeld, Scope.Scope> {
  const { name, owner } = options
  const at = key(name)
  const ttl = Math.max(1, Math.ceil(Duration.toMillis(Duration.fromInputUnsafe(options.ttl))))
  const id = randomUUID()
  let version: string | undefined
  let token = 0
  /** When the last renewal that succeeded was asked for. */
  let renewed = yield* moment
  const lost = yield* Deferred.make<Lost>()
  const isHeld = Effect.suspend(() =>
    Effect.map(since(renewed), (elapsed) => elapsed < ttl && !Deferred.isDoneUnsafe(lost))
  )
  const document = (expires: number) =>
    JSON.stringify({ version: 1, token, id, owner, ttl, expires } satisfies Document)

  const take = Effect.gen(function*() {
    for (;;) {
      const asked = yield* moment
      const entry = yield* state.get(at)
      const now = yield* clockOf(state)
      const held = documentOf(entry)
      version = Option.getOrUndefined(entry)?.version
      if (held !== undefined && held.expires > now && options.isGone?.(held.owner) !== true) {
        const remaining = held.expires - now
        if (remaining > held.ttl) {
          // The store's clock was set back: the holder has its time from now on, not until the clock is there again.
          yield* state.compareAndSet(at, JSON.stringify({ ...held, expires: now + held.ttl }), version)
        }
        waiting.seen = { document: held, forgotten: undefined }
        return yield* new LeaseHeld({ name, owner: held.owner, remaining: Math.min(remaining, held.ttl) })
      }
      const { seen } = waiting
      if (seen !== undefined && options.isGone?.(seen.document.owner) !== true && isBefore(held, seen.document)) {
        // Its holder, who doesn't know yet, gets the time of a renewal to acquire it again.
        const { document } = seen
        const forgotten = seen.forgotten ?? asked
        waiting.seen = { document, forgotten }
        const remaining = document.ttl / 2 - (yield* since(forgotten))
        if (remaining > 0) return yield* new LeaseHeld({ name, owner: document.owner, remaining })
      }
      token = Math.max(1, now, held === undefined ? 0 : held.token + 1)
      const written = yield* state.compareAndSet(at, document(now + ttl), version)
      if (Option.isSome(written)) {
        version = written.value
        renewed = asked
        return
      }
    }
  })

  /** Writes the lease's end; gives how the lease was lost when it isn't there any more. */
  const write = Effect.fnUntraced(function*(expires: number): Effect.fn.Return<Lost | undefined, ConnectorError> {
    for (;;) {
      const written = yield* state.compareAndSet(at, document(expires), version)
      if (Option.isSome(written)) {
        version = written.value
        return undefined
      }
      const entry = yield* state.get(at)
      const held = documentOf(entry)
      if (held?.id !== id) {
        return held === undefined || held.expires === 0 ? { _tag: "Forgotten" } : { _tag: "Taken", owner: held.owner }
      }
      // A write of ours whose answer was lost, or somebody who waits brought its end forward.
      version = Option.getOrUndefined(entry)?.version
    }
  })

  const renew = Effect.gen(function*() {
    const asked = yield* moment
    const now = yield* clockOf(state)
    const outcome = yield* write(now + ttl)
    if (outcome === undefined) renewed = asked
    return outcome
  })

  const renewing = Effect.gen(function*() {
    for (;;) {
      yield* Effect.sleep(ttl / 3)
      const outcome = yield* renew.pipe(
        Effect.retry(Schedule.jittered(Schedule.spaced(ttl / 20))),
        Effect.timeoutOption(Math.max(0, ttl - (yield* since(renewed))))
      )
      const how: Lost | undefined = Option.getOrElse(outcome, () => ({ _tag: "Late" }))
      if (how !== undefined) return yield* Deferred.succeed(lost, how)
    }
  })

  yield* Effect.acquireRelease(take, () => Effect.ignore(write(0)))
  yield* Effect.forkScoped(renewing)
  return { name, token, isHeld, lost: Deferred.await(lost) }
})

/** Acquires the lease, or fails with `LeaseHeld`. */
export const tryAcquire = Effect.fn("Lease.tryAcquire")((
  state: StateStoreShape,
  options: Options
): Effect.Effect<Lease, ConnectorError | LeaseHeld, Scope.Scope> => attempt(state, options, { seen: undefined }))

/**
 * Acquires the lease; waits while somebody else holds it. Whoever waits also waits for a store that can't be reached for a while, and when the
 * store forgets the holder, that one has half its time to live to acquire the lease anew.
 */
export const acquire = (
  state: StateStoreShape,
  options: Options
): Effect.Effect<Lease, ConnectorError, Scope.Scope> =>
  Effect.suspend(() => {
    const every = Math.min(lookEvery, Duration.toMillis(Duration.fromInputUnsafe(options.ttl)) / 3)
    const waiting: { seen: Seen | undefined } = { seen: undefined }
    let told: string | undefined
    return attempt(state, options, waiting).pipe(
      Effect.tapError((error) => {
        if (error._tag !== "LeaseHeld" || error.owner === told) return Effect.void
        told = error.owner
        return options.onWait?.(error) ?? Effect.void
      }),
      Effect.retry({
        while: (error) => error._tag === "LeaseHeld" || (waiting.seen !== undefined && isRetryable(error)),
        schedule: Schedule.jittered(Schedule.spaced(every))
      }),
      // Only what is retried without end is left out.
      Effect.catchTag("LeaseHeld", (error) => Effect.die(error))
    )
  })
