/** Servers and stores for tests. */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import { Config, RedisStateStore } from "@etl-stream/state-redis"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { randomUUID } from "node:crypto"
import { afterAll, beforeAll } from "vitest"

const decode = Schema.decodeUnknownSync(Config)

/** Options as a configuration has them. */
export const configuration = (options: object): Config => decode(options, { errors: "all", onExcessProperty: "error" })

/** A namespace that nobody else has, as servers may be shared. */
export const someNamespace = (): string => `test-${randomUUID()}`

/** A store of a namespace that nobody else has, or of one that `options` says. */
export const open = (options: object) => RedisStateStore.make(configuration({ namespace: someNamespace(), ...options }))

/** The error of opening a store. */
export const refusal = (options: object): Effect.Effect<ConnectorError, never> =>
  Effect.flip(Effect.scoped(open(options))).pipe(Effect.orDie)

/** Something that is started before the file's first test and ends after its last. */
export const shared = <A, E>(start: Effect.Effect<A, E, Scope.Scope>): Effect.Effect<A, E> => {
  const scope = Scope.makeUnsafe()
  const started = Effect.runSync(Effect.cached(Scope.provide(start, scope)))
  // Redis may have to be installed.
  beforeAll(() => Effect.runPromise(Effect.asVoid(started)), 600_000)
  afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))
  return started
}
