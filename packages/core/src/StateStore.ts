/**
 * The contract of a state store: small JSON documents under keys, changed by compare-and-set.
 *
 * State is a cache of what sinks know: losing it, or finding an old copy in its place, costs time and never data.
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
   * none when somebody else was faster. Durable on return.
   */
  readonly compareAndSet: (
    key: string,
    value: string,
    expected: string | undefined
  ) => Effect.Effect<Option.Option<string>, ConnectorError>
  readonly remove: (key: string) => Effect.Effect<void, ConnectorError>
}

export class StateStore extends Context.Service<StateStore, StateStoreShape>()("@etl-stream/core/StateStore") {}
