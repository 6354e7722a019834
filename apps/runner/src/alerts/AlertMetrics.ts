/**
 * Metrics of alerts and of what becomes of their notifications.
 */
import * as MetricDefinition from "@etl-stream/core/MetricDefinition"
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

/** Alerts that fire. */
export const firing = MetricDefinition.gauge({
  name: Names.alert,
  unit: "{alert}",
  description: "Alerts that fire, by type and by the pipeline or monitor that they are about",
  attributes: [Attributes.source, Attributes.type]
})

/** What became of notifications. */
export const notifications = MetricDefinition.counter({
  name: Names.notifications,
  unit: "{notification}",
  description: "Deliveries of notifications that succeeded or failed (`error.type`), by notifier",
  attributes: [Attributes.notifier, Attributes.outcome, Telemetry.Attributes.errorType]
})

/** Every metric of alerts. */
export const metrics = [firing, notifications] as const

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
