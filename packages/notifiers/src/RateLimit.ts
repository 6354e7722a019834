/**
 * Keeps a notifier to a rate without losing anything: what is too much waits, and then goes out as one message, or one by one where each
 * must have its own.
 *
 * A call completes when the message that its notification went with was delivered, and fails when that failed. So nobody takes for told what
 * only waits, and what is interrupted while it waits is not sent. Any time span of the rate's length has at most its number of messages.
 */
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { Notification, Notifier } from "@etl-stream/core/Notifier"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Rate } from "./Rate.ts"

/** What is told in one message; more than one is a summary. */
export type Told = readonly [Notification, ...ReadonlyArray<Notification>]

export interface Options {
  /** The plugin's name. */
  readonly plugin: string
  readonly rate: Rate
  /** Whether what waits goes out together. */
  readonly together: boolean
  readonly send: (told: Told) => Effect.Effect<void, ConnectorError>
}

interface Waiting {
  readonly notification: Notification
  readonly done: Deferred.Deferred<void, ConnectorError>
}

/** A notifier that lives as long as the scope. */
export const make = Effect.fn("RateLimit.make")(
  function*({ plugin, rate, send, together }: Options): Effect.fn.Return<Notifier, never, Scope.Scope> {
    const scope = yield* Effect.scope
    let waiting: Array<Waiting> = []
    /** When messages of the last span were sent, in order. */
    let sent: Array<number> = []
    /** Whether a fiber is at work on what waits. */
    let flushing = false
    let closed = false

    const wasClosed = new ConnectorError({
      reason: "Unreachable",
      plugin,
      message: "The notifier was closed before this could be sent",
      hint: "Nothing: it is sent by the notifier that takes its place, or after the next start."
    })
    const giveUp = (those: ReadonlyArray<Waiting>) =>
      Effect.forEach(those, ({ done }) => Deferred.fail(done, wasClosed), { discard: true })

    /** Milliseconds until the next message may go. */
    const delay = (now: number): number => {
      sent = sent.filter((at) => at > now - rate.perMillis)
      const oldest = sent[0]
      return sent.length < rate.messages || oldest === undefined ? 0 : oldest + rate.perMillis - now
    }

    const flush = Effect.gen(function*() {
      while (true) {
        const now = yield* Clock.currentTimeMillis
        if (waiting.length === 0) {
          // In one step with the look: whoever comes later starts another.
          flushing = false
          return
        }
        const wait = delay(now)
        if (wait > 0) {
          yield* Effect.sleep(wait)
          continue
        }
        const taken = waiting.splice(0, together ? waiting.length : 1)
        const [first, ...others] = taken.map(({ notification }) => notification)
        if (first === undefined) continue
        sent.push(now)
        const exit = yield* send([first, ...others]).pipe(
          Effect.exit,
          Effect.onInterrupt(() => giveUp(taken))
        )
        yield* Effect.forEach(taken, ({ done }) => Deferred.done(done, exit), { discard: true })
      }
    })

    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => {
        closed = true
        return giveUp(waiting.splice(0))
      })
    )

    const hold = Effect.fnUntraced(function*(notification: Notification) {
      const held: Waiting = { notification, done: yield* Deferred.make<void, ConnectorError>() }
      if (closed) return yield* wasClosed
      waiting.push(held)
      if (!flushing) {
        flushing = true
        yield* Effect.forkIn(flush, scope)
      }
      yield* Deferred.await(held.done).pipe(
        Effect.onInterrupt(() =>
          Effect.sync(() => {
            waiting = waiting.filter((other) => other !== held)
          })
        )
      )
    })

    return {
      notify: (notification) =>
        Effect.flatMap(Clock.currentTimeMillis, (now) => {
          if (flushing || delay(now) > 0) return hold(notification)
          sent.push(now)
          return send([notification])
        })
    }
  }
)
