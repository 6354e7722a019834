/**
 * The contract of a notifier: tells people, or programs of theirs, about alerts that begin and end.
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
