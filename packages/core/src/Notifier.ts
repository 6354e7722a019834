/**
 * The contract of a notifier: tells people, or programs of theirs, about alerts that begin and end.
 *
 * **Who calls what, and when.** `make` is called when the runner begins to use a channel, and again after its options have changed. `notify` is called for one notification at a time per
 * alert, for several alerts concurrently; of one alert the notifications come in order: `firing`, reminders, a `firing` of another severity, `resolved`.
 *
 * **At least once.** A notification counts as told when `notify` returns. When it fails, or the runner dies before it has noted that, it comes again, with the same `at`: where the other side can recognise it (by `key` and
 * `at`, or `key` alone), nobody should be told twice. A notification that no longer holds is not repeated.
 *
 * **Errors.** Trouble that passes (`Unreachable`, `Throttled`) is retried inside for some seconds; then, and for any other reason, the runner tries again later, with growing waits. Messages of errors never hold the channel's address
 * or token. A call may be interrupted at any time.
 */
import type * as Effect from "effect/Effect"
import type { ConnectorError } from "./ConnectorError.ts"
import type { TableId } from "./TableSchema.ts"

/** A number with its unit by UCUM (`ms`, `By`, `{table}`), so that programs can compare it. */
export interface Measure {
  readonly value: number
  readonly unit: string
}

/**
 * Something worth telling. No field ever holds a row's value or a secret.
 *
 * `key` identifies the alert: the same key with `resolved` ends it, and the same key with `firing` once more is about the same alert. The same
 * key, status, severity and `at` are the same notification, delivered again.
 */
export interface Notification {
  readonly key: string
  /** What kind of alert it is, in lower case with hyphens: a rule's (`freshness`, `pipeline-failed`) or the condition's name. */
  readonly type: string
  readonly severity: "info" | "warning" | "critical"
  readonly status: "firing" | "resolved"
  /** One line. */
  readonly title: string
  /** What it means and what to do. */
  readonly body: string
  /** Name of the pipeline or monitor that it is about. */
  readonly source: string
  /** The pipeline, when it is about one. */
  readonly pipeline: string | undefined
  readonly table: TableId | undefined
  /** What was measured last, and the limit that it passed; undefined when the alert is not about a number. */
  readonly size: Measure | undefined
  readonly threshold: Measure | undefined
  /** How long it has been so, or had been so until it was over, in milliseconds. */
  readonly duration: number
  /** Whether this was told before and still is so. */
  readonly reminder: boolean
  /** When the alert began (`firing`), was over (`resolved`), or, of a reminder, when it is sent: milliseconds since 1970-01-01 UTC. */
  readonly at: number
}

export interface Notifier {
  /**
   * Sends one notification and completes once it was taken over by the other side. Transient trouble is retried inside for a limited time;
   * whoever calls tries again after a failure, as long as the notification still holds.
   */
  readonly notify: (notification: Notification) => Effect.Effect<void, ConnectorError>
}
