/**
 * Scopes whose closing takes a limited time: a dead connection that is to be ended properly must not hold up a restart or the end of the process.
 */
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"

/** Like `Effect.scoped`, but finalizers that don't end within `limit` are left to themselves, with a warning. `whose`: of what, for that. */
export const closingWithin =
  (limit: Duration.Duration, whose = "pipeline") =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, Exclude<R, Scope.Scope>> =>
    Effect.acquireUseRelease(
      Scope.make(),
      (scope) => Scope.provide(effect, scope),
      (scope, exit) =>
        Effect.gen(function*() {
          const closed = yield* Deferred.make<boolean>()
          yield* Scope.close(scope, exit).pipe(
            Effect.tapCause((cause) => Effect.logWarning(`Releasing what the ${whose} held failed`, cause)),
            Effect.ensuring(Deferred.succeed(closed, true)),
            Effect.forkDetach
          )
          const timer = yield* Effect.forkDetach(Effect.andThen(Effect.sleep(limit), Deferred.succeed(closed, false)))
          if (!(yield* Deferred.await(closed))) {
            yield* Effect.logWarning(`What the ${whose} held could not be released in time`)
          }
          yield* Fiber.interrupt(timer)
        })
    )
