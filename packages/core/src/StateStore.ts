/**
 * The contract of a state store: small JSON documents under keys, changed by compare-and-set.
 *
 * State is a cache of what sinks know: losing it, or finding an old copy in its place, costs time and never data. Every operation answers or fails
 * within a bounded time, whatever becomes of the store. Leases (`Lease`) are built of these operations, so every store has them.
 *
 * **Who calls what, and when.** `make` is called once per process, and whenever a command needs the store; its scope is closed when the process ends. All pipelines and monitors of the process use the one store, concurrently and beside other
 * processes: checkpoints every five seconds, leases every few seconds, requests (`resync`) once a second. Keys are paths such as `pipelines/shop/checkpoint`, of any characters; values are JSON of some kilobytes, which the store never interprets.
 *
 * **Order.** Operations on one key take effect one after another, whoever calls them: of two that expect the same version one wins and the other gets none. What one caller has written and was answered is seen by whoever reads after that.
 * Nothing is promised between keys.
 *
 * **Errors.** `Unreachable` and `Throttled` are tried again by whoever called; pipelines run on without their store, as long as nobody takes their lease. A call that is interrupted may still have its effect.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type { ConnectorError } from "./ConnectorError.ts"

/** A stored document and the version that a compare-and-set must name. Versions are opaque and differ after every change. */
export interface Entry {
  readonly value: string
  readonly version: string
}

export interface StateStoreShape {
  readonly get: (key: string) => Effect.Effect<Option.Option<Entry>, ConnectorError>
  /** Entries whose key starts with `prefix`, ordered by key. */
  readonly list: (prefix: string) => Effect.Effect<ReadonlyArray<readonly [key: string, entry: Entry]>, ConnectorError>
  /**
   * Writes `value` when the stored version is `expected` (undefined: when there is none) and returns the new version, or
   * none when somebody else was faster. On return as durable as the store is. None is certain: nothing was written, nor will be. When an answer is
   * lost and it can't be found out what happened, the effect fails, and `value` may be there, or come there late from a write that is still on its way.
   */
  readonly compareAndSet: (
    key: string,
    value: string,
    expected: string | undefined
  ) => Effect.Effect<Option.Option<string>, ConnectorError>
  readonly remove: (key: string) => Effect.Effect<void, ConnectorError>
  /**
   * The store's clock, milliseconds since 1970-01-01 UTC: a server's own where there is one, so that all who share the store go by the same clock. It
   * need not be exact.
   */
  readonly now: Effect.Effect<number, ConnectorError>
}

export class StateStore extends Context.Service<StateStore, StateStoreShape>()("@etl-stream/core/StateStore") {}
