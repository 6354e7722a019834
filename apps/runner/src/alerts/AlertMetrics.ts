/**
 * Metrics of alerts and of what becomes of their notifications.
 */
import * as Telemetry from "@etl-stream/core/Telemetry"
import type * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"

export const Names = { alert: "etl_stream.alert", notifications: "etl_stream.notifications" } as const

export const Attributes = {
  source: "etl_stream.source",
  type: "etl_stream.alert.type",
  notifier: "etl_stream.notifier",
  outcome: "outcome"
} as const

const firing = Metric.gauge(Names.alert, {
  description: "Alerts that fire, by what they are about",
  attributes: { unit: "{alert}" }
})

const notifications = Metric.counter(Names.notifications, {
  description: "Deliveries of notifications that succeeded or failed",
  incremental: true,
  attributes: { unit: "{notification}" }
})

/** How many alerts of a type fire at a pipeline or monitor. */
export const alerts = (source: string, type: string, count: number): Effect.Effect<void> =>
  Metric.update(
    Metric.withAttributes(firing, { [Attributes.source]: source, [Attributes.type]: type }),
    count
  )

export const delivered = (notifier: string): Effect.Effect<void> =>
  Metric.update(
    Metric.withAttributes(notifications, { [Attributes.notifier]: notifier, [Attributes.outcome]: "success" }),
    1
  )

export const failed = (notifier: string, reason: string): Effect.Effect<void> =>
  Metric.update(
    Metric.withAttributes(notifications, {
      [Attributes.notifier]: notifier,
      [Attributes.outcome]: "failure",
      [Telemetry.Attributes.errorType]: reason
    }),
    1
  )
