/**
 * Metrics of the PostgreSQL source, labelled by pipeline only and recorded a few times a minute.
 */
import * as MetricDefinition from "@etl-stream/core/MetricDefinition"
import { Attributes } from "@etl-stream/core/Telemetry"
import * as Metric from "effect/Metric"

/** Metric names. */
export const Names = {
  heartbeatDelay: "etl_stream.postgres.heartbeat.delay",
  slotSafeSize: "etl_stream.postgres.slot.safe_size",
  slotLosses: "etl_stream.postgres.slot.losses"
} as const

/** Time from writing a heartbeat into the server's log until it came back in the stream. */
export const heartbeatDelay = MetricDefinition.gauge({
  name: Names.heartbeatDelay,
  unit: "s",
  description: "Time until the last heartbeat came back in the stream",
  attributes: [Attributes.pipeline]
})
/** Log that may still be written before the slot is in danger; only where the server limits what slots may keep. */
export const slotSafeSize = MetricDefinition.gauge({
  name: Names.slotSafeSize,
  unit: "By",
  description: "Log that may be written before the slot is in danger of being lost; only where the server limits that",
  attributes: [Attributes.pipeline]
})
/** How often a slot turned out to be of no use, so that changes were missing. */
export const slotLosses = MetricDefinition.counter({
  name: Names.slotLosses,
  unit: "{loss}",
  description: "Times that changes were found to be missing from the slot",
  attributes: [Attributes.pipeline]
})

/** Every metric of the source. */
export const metrics = [heartbeatDelay, slotSafeSize, slotLosses] as const

/** The metrics of a pipeline. */
export const forPipeline = (pipeline: string) => {
  const attributes = { [Attributes.pipeline]: pipeline }
  return {
    heartbeatDelay: Metric.withAttributes(heartbeatDelay, attributes),
    slotSafeSize: Metric.withAttributes(slotSafeSize, attributes),
    slotLosses: Metric.withAttributes(slotLosses, attributes)
  }
}
