/**
 * The contract of a notifier: tells people about conditions that begin and end.
 */
import type * as Effect from "effect/Effect"
import type { ConnectorError } from "./ConnectorError.ts"

/** Something worth telling. `key` identifies the condition: the same key with `resolved` ends it. */
export interface Notification {
  readonly key: string
  readonly severity: "info" | "warning" | "critical"
  readonly status: "firing" | "resolved"
  readonly title: string
  /** What it means and what to do; no row values, no secrets. */
  readonly body: string
  readonly pipeline: string | undefined
  /** Milliseconds since 1970-01-01 UTC. */
  readonly at: number
}

export interface Notifier {
  /** Sends one notification; transient trouble is retried inside. */
  readonly notify: (notification: Notification) => Effect.Effect<void, ConnectorError>
}
