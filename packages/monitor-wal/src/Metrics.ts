/**
 * Metrics of the WAL monitor, labelled by monitor and slot.
 */
import { Attributes } from "@etl-stream/core/Telemetry"
import * as Metric from "effect/Metric"

/** Metric names. */
export const Names = {
  wal: "etl_stream.slot.wal",
  growth: "etl_stream.slot.wal.growth",
  timeLeft: "etl_stream.slot.wal.time_left",
  lag: "etl_stream.slot.lag",
  delay: "etl_stream.slot.delay",
  status: "etl_stream.slot.status",
  active: "etl_stream.slot.active",
  xminAge: "etl_stream.slot.xmin_age",
  decoded: "etl_stream.slot.decoded",
  actions: "etl_stream.slot.actions",
  directory: "etl_stream.wal.directory",
  up: "etl_stream.monitor.up"
} as const

const gauge = (name: string, unit: string, description: string) =>
  Metric.gauge(name, { description, attributes: { unit } })

/** By `state`: retained, or remaining until the budget is exhausted (only where something limits it). */
export const wal = gauge(Names.wal, "By", "WAL that a slot keeps, and what it may still keep")
export const growth = gauge(Names.growth, "By/s", "Growth of the WAL that a slot keeps")
/** At most `longestTimeLeft`, which is also the value of a slot that doesn't grow. */
export const timeLeft = gauge(Names.timeLeft, "s", "Predicted time until a slot's WAL budget is exhausted")
/** By `position`: restart or confirmed. */
export const lag = gauge(Names.lag, "By", "WAL written after a slot's position")
export const delay = gauge(Names.delay, "s", "Age of the first WAL after a slot's position")
/** By `state`: 1 for the one that it is in, 0 for the others. */
export const status = gauge(Names.status, "1", "State of a slot's WAL")
export const active = gauge(Names.active, "1", "Whether a slot is being read")
/** By `horizon`: xmin or catalog_xmin. */
export const xminAge = gauge(Names.xminAge, "{transaction}", "Transactions by which a slot holds vacuum back")
/** By `state`: spilled, streamed or total. */
export const decoded = gauge(Names.decoded, "By", "Bytes that decoding for a slot spilled, streamed and handed on")
/** By `action` and `outcome` (done, failed, undone). */
export const actions = Metric.counter(Names.actions, {
  description: "Actions that were taken about slots",
  incremental: true,
  attributes: { unit: "{action}" }
})
export const directory = gauge(Names.directory, "By", "Size of the WAL directory")
export const up = gauge(Names.up, "1", "Whether the server could be looked at")

/** The states of `etl_stream.slot.status`. */
export const states = ["reserved", "extended", "unreserved", "lost", "missing"] as const

/** Seconds. */
export const longestTimeLeft = 30 * 86_400

/** The metrics of a monitor that aren't per slot. */
export const forMonitor = (monitor: string) => {
  const attributes = { [Attributes.monitor]: monitor }
  return { directory: Metric.withAttributes(directory, attributes), up: Metric.withAttributes(up, attributes) }
}

/** The metrics of one slot. */
export const forSlot = (monitor: string, slot: string) => {
  const attributes = { [Attributes.monitor]: monitor, "etl_stream.slot": slot }
  const one = <A, S>(metric: Metric.Metric<A, S>, more: Readonly<Record<string, string>> = {}) =>
    Metric.withAttributes(metric, { ...attributes, ...more })
  return {
    retained: one(wal, { state: "retained" }),
    remaining: one(wal, { state: "remaining" }),
    growth: one(growth),
    timeLeft: one(timeLeft),
    restartLag: one(lag, { position: "restart" }),
    confirmedLag: one(lag, { position: "confirmed" }),
    restartDelay: one(delay, { position: "restart" }),
    confirmedDelay: one(delay, { position: "confirmed" }),
    status: (state: string) => one(status, { state }),
    active: one(active),
    xminAge: one(xminAge, { horizon: "xmin" }),
    catalogXminAge: one(xminAge, { horizon: "catalog_xmin" }),
    spilled: one(decoded, { state: "spilled" }),
    streamed: one(decoded, { state: "streamed" }),
    total: one(decoded, { state: "total" }),
    action: (action: string, outcome: string) => one(actions, { action, outcome })
  }
}
