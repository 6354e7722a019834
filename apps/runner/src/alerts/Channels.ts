/**
 * The notifiers of a configuration by name, each made when it is first needed and made anew when its configuration changes.
 *
 * A notifier that can't be made (a file that is missing, say) fails what is to be told by it and nothing else, and is made at the next attempt.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { Notification, Notifier } from "@etl-stream/core/Notifier"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"

/** A notifier as it is configured. */
export interface NamedNotifier {
  readonly name: string
  /** What its configuration says, compared with `Equal`: the same means that it stays as it is. */
  readonly identity: unknown
  readonly make: Effect.Effect<Notifier, ConnectorError, Scope.Scope>
}

export interface Channels {
  readonly has: (name: string) => boolean
  /** Fails when the notifier can't be made, or fails itself. There must be one of that name. */
  readonly notify: (name: string, notification: Notification) => Effect.Effect<void, ConnectorError>
  /** Goes over to other notifiers. Those that are the same stay. */
  readonly update: (notifiers: ReadonlyArray<NamedNotifier>) => Effect.Effect<void>
}

interface Channel {
  readonly identity: unknown
  readonly scope: Scope.Closeable
  readonly notifier: Effect.Effect<Notifier, ConnectorError>
}

/** Channels that are closed with the scope. */
export const make = Effect.fnUntraced(
  function*(notifiers: ReadonlyArray<NamedNotifier>): Effect.fn.Return<Channels, never, Scope.Scope> {
    const parent = yield* Effect.scope
    const channels = new Map<string, Channel>()

    const open = Effect.fnUntraced(function*({ identity, make, name }: NamedNotifier) {
      const scope = yield* Scope.fork(parent)
      const alone = yield* Semaphore.make(1)
      let made: Notifier | undefined
      const notifier = alone.withPermits(1)(Effect.gen(function*() {
        if (made !== undefined) return made
        // What a failed attempt has acquired is released at once.
        const own = yield* Scope.fork(scope)
        const notifier = yield* Scope.provide(make, own).pipe(
          Effect.onError((cause) => Scope.close(own, Exit.failCause(cause)))
        )
        made = notifier
        return notifier
      }))
      channels.set(name, { identity, scope, notifier })
    })

    const update = Effect.fnUntraced(function*(next: ReadonlyArray<NamedNotifier>) {
      for (const [name, { identity, scope }] of channels) {
        const same = next.find((other) => other.name === name)
        if (same !== undefined && Equal.equals(same.identity, identity)) continue
        channels.delete(name)
        // Nobody waits for a notifier that takes its time to close.
        yield* Effect.forkIn(Scope.close(scope, Exit.void), parent)
      }
      yield* Effect.forEach(next.filter(({ name }) => !channels.has(name)), open, { discard: true })
    })

    yield* update(notifiers)
    return {
      has: (name) => channels.has(name),
      notify: (name, notification) =>
        Effect.suspend(() => channels.get(name)?.notifier ?? Effect.interrupt).pipe(
          Effect.flatMap((notifier) => notifier.notify(notification))
        ),
      update
    }
  }
)
