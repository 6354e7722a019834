/** A state store in memory, with a switch that makes it fail. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { ConnectorError } from "../../src/ConnectorError.ts"
import type { Entry, StateStoreShape } from "../../src/StateStore.ts"

export class MemoryState implements StateStoreShape {
  readonly entries = new Map<string, Entry>()
  failing = false
  private version = 0
  private readonly asked = new Map<string, number>()

  private guarded<A>(evaluate: () => A): Effect.Effect<A, ConnectorError> {
    return Effect.suspend(() =>
      this.failing
        ? Effect.fail(new ConnectorError({ reason: "Unreachable", plugin: "test", message: "no store", hint: "none" }))
        : Effect.sync(evaluate)
    )
  }

  /** How often a key was asked for. */
  gets(key: string): number {
    return this.asked.get(key) ?? 0
  }

  readonly get = (key: string) => {
    this.asked.set(key, this.gets(key) + 1)
    return this.guarded(() => Option.fromNullishOr(this.entries.get(key)))
  }
  readonly list = (prefix: string) =>
    this.guarded(() => [...this.entries].filter(([key]) => key.startsWith(prefix)).sort(([a], [b]) => a < b ? -1 : 1))
  readonly compareAndSet = (key: string, value: string, expected: string | undefined) =>
    this.guarded(() => {
      if (this.entries.get(key)?.version !== expected) return Option.none<string>()
      const version = `v${++this.version}`
      this.entries.set(key, { value, version })
      return Option.some(version)
    })
  readonly remove = (key: string) =>
    this.guarded(() => {
      this.entries.delete(key)
    })
  readonly now = Effect.andThen(this.guarded(() => undefined), Clock.currentTimeMillis)
}
