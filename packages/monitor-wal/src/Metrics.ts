/**
 * Metrics of the WAL monitor, labelled by monitor and slot.
 */
import * as MetricDefinition from "@etl-stream/core/MetricDefinition"
import * as Telemetry from "@etl-stream/core/Telemetry"
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

/** Attribute keys. */
export const Attributes = {
  monitor: Telemetry.Attributes.monitor,
  slot: "etl_stream.slot",
  state: Telemetry.Attributes.state,
  position: "position",
  horizon: "horizon",
  action: "action",
  outcome: "outcome"
} as const

const ofSlot = [Attributes.monitor, Attributes.slot]

/** Seconds. */
export const longestTimeLeft = 30 * 86_400

/** Bytes: what remains to a slot that something limited and nothing limits any more. Gauges can't be taken back, and an old value would go on raising alerts. */
export const unlimited = 2 ** 63

/** By `state`: retained, or remaining until the budget is exhausted. */
export const wal = MetricDefinition.gauge({
  name: Names.wal,
  unit: "By",
  description:
    "WAL that a slot keeps (`retained`), and may still keep (`remaining`; only where something limits it, and 2^63 when nothing does any more)",
  attributes: [...ofSlot, Attributes.state]
})
export const growth = MetricDefinition.gauge({
  name: Names.growth,
  unit: "By/s",
  description: "Growth of the WAL that a slot keeps; negative when it shrinks",
  attributes: ofSlot
})
/** At most `longestTimeLeft`, which is also the value of a slot that doesn't grow. */
export const timeLeft = MetricDefinition.gauge({
  name: Names.timeLeft,
  unit: "s",
  description:
    "Predicted time until a slot's WAL budget is exhausted, at most 30 days; only where something limits it or did",
  attributes: ofSlot
})
/** By `position`: restart or confirmed. */
export const lag = MetricDefinition.gauge({
  name: Names.lag,
  unit: "By",
  description: "WAL written after a slot's position: `restart` (what it keeps) or `confirmed` (what its reader has)",
  attributes: [...ofSlot, Attributes.position]
})
export const delay = MetricDefinition.gauge({
  name: Names.delay,
  unit: "s",
  description: "Age of the first WAL after a slot's position, `restart` or `confirmed`",
  attributes: [...ofSlot, Attributes.position]
})
/** By `state`: 1 for the one that it is in, 0 for the others; all 0 once it isn't watched any more. */
export const status = MetricDefinition.gauge({
  name: Names.status,
  unit: "{slot}",
  description:
    "1 for the state that a slot's WAL is in, 0 for the others: reserved, extended, unreserved, lost, missing (there is no such slot)",
  attributes: [...ofSlot, Attributes.state]
})
export const active = MetricDefinition.gauge({
  name: Names.active,
  unit: "{slot}",
  description: "1 while a slot is being read, 0 otherwise",
  attributes: ofSlot
})
/** By `horizon`: xmin or catalog_xmin. */
export const xminAge = MetricDefinition.gauge({
  name: Names.xminAge,
  unit: "{transaction}",
  description: "Transactions by which a slot holds vacuum back, by its `xmin` or `catalog_xmin`",
  attributes: [...ofSlot, Attributes.horizon]
})
/** By `state`: spilled, streamed or total. As the server counts them: they begin anew when its statistics are reset. */
export const decoded = MetricDefinition.gauge({
  name: Names.decoded,
  unit: "By",
  description:
    "Bytes that decoding for a slot `spilled` to the server's disk, `streamed` in parts, and handed on in `total`, since the server's statistics began",
  attributes: [...ofSlot, Attributes.state]
})
/** By `action` and `outcome`. */
export const actions = MetricDefinition.counter({
  name: Names.actions,
  unit: "{action}",
  description: "Actions taken about slots, by outcome: done, failed, undone",
  attributes: [...ofSlot, Attributes.action, Attributes.outcome]
})
export const directory = MetricDefinition.gauge({
  name: Names.directory,
  unit: "By",
  description: "Size of the WAL directory; where it may not be seen, what slots keep of it at least",
  attributes: [Attributes.monitor]
})
/** A monitor that has ended doesn't miss the server, so it leaves 1. */
export const up = MetricDefinition.gauge({
  name: Names.up,
  unit: "{monitor}",
  description: "0 while the server can't be looked at, 1 otherwise",
  attributes: [Attributes.monitor]
})

/** Every metric of the monitor. */
export const metrics = [
  wal,
  growth,
  timeLeft,
  lag,
  delay,
  status,
  active,
  xminAge,
  decoded,
  actions,
  directory,
  up
] as const

/** The states of `etl_stream.slot.status`. */
export const states = ["reserved", "extended", "unreserved", "lost", "missing"] as const

/** What became of an action. */
export type Outcome = "done" | "failed" | "undone"

/** The metrics of a monitor that aren't per slot. */
export const forMonitor = (monitor: string) => {
  const attributes = { [Attributes.monitor]: monitor }
  return { directory: Metric.withAttributes(directory, attributes), up: Metric.withAttributes(up, attributes) }
}

/** The metrics of one slot. */
export const forSlot = (monitor: string, slot: string) => {
  const attributes = { [Attributes.monitor]: monitor, [Attributes.slot]: slot }
  const one = <A, S>(metric: Metric.Metric<A, S>, more: Readonly<Record<string, string>> = {}) =>
    Metric.withAttributes(metric, { ...attributes, ...more })
  return {
    retained: one(wal, { [Attributes.state]: "retained" }),
    remaining: one(wal, { [Attributes.state]: "remaining" }),
    growth: one(growth),
    timeLeft: one(timeLeft),
    restartLag: one(lag, { [Attributes.position]: "restart" }),
    confirmedLag: one(lag, { [Attributes.position]: "confirmed" }),
    restartDelay: one(delay, { [Attributes.position]: "restart" }),
    confirmedDelay: one(delay, { [Attributes.position]: "confirmed" }),
    status: (state: typeof states[number]) => one(status, { [Attributes.state]: state }),
    active: one(active),
    xminAge: one(xminAge, { [Attributes.horizon]: "xmin" }),
    catalogXminAge: one(xminAge, { [Attributes.horizon]: "catalog_xmin" }),
    spilled: one(decoded, { [Attributes.state]: "spilled" }),
    streamed: one(decoded, { [Attributes.state]: "streamed" }),
    total: one(decoded, { [Attributes.state]: "total" }),
    action: (action: string, outcome: Outcome) =>
      one(actions, { [Attributes.action]: action, [Attributes.outcome]: outcome })
  }
}
