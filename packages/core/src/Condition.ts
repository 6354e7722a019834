/**
 * Something that is wrong with a running pipeline, or with what a monitor watches, and needs somebody, while everything goes on: an alarm that stays until
 * what caused it is over.
 *
 * A source, sink or monitor raises a condition under a name of its own (`publication-table-missing`, `heartbeat-late`), for one table, for one subject
 * or for all of it, and clears it. Raising it again changes its text only. Conditions are in the pipeline's `Progress` (a monitor's in a `Holder` of its own), in
 * the metric `etl_stream.condition` (1 while raised, 0 after) and, once each way, in the log.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import type { TableId } from "./TableSchema.ts"
import * as Telemetry from "./Telemetry.ts"

export interface Condition {
  /** Stable name in lower case with hyphens: what alerts match. */
  readonly name: string
  /** `critical`: data is missing or will be; `warning`: it can become so. */
  readonly severity: "warning" | "critical"
  /** Table (`schema.name`) it is about, when it is about one. */
  readonly table?: TableId
  /** What else it is about, when there may be several of the same name: a replication slot's name. */
  readonly subject?: string
  /** What is wrong, one sentence without row values or secrets. */
  readonly message: string
  /** What the operator can do about it. */
  readonly hint: string
}

/** A condition and since when (milliseconds since 1970-01-01 UTC) it has been there. */
export interface Raised extends Condition {
  readonly since: number
}

/** Where a source, sink or monitor raises its conditions. */
export interface Conditions {
  /** `since`: when it began, for one that was raised before a restart; now when not given. */
  readonly raise: (condition: Condition, since?: number) => Effect.Effect<void>
  readonly clear: (name: string, table?: TableId, subject?: string) => Effect.Effect<void>
}

/** What keeps conditions: the `Progress` of a pipeline, or a monitor's own. */
export interface Holder {
  /** By `keyOf`. */
  readonly conditions: Map<string, Raised>
}

/** Which of the conditions of a pipeline or monitor one is. */
export const keyOf = ({ name, subject, table }: Pick<Condition, "name" | "table" | "subject">): string =>
  JSON.stringify(subject === undefined ? [name, table ?? null] : [name, table ?? null, subject])

/** A condition's table and subject, as attributes of a log line. */
const about = ({ subject, table }: Pick<Condition, "table" | "subject">): Readonly<Record<string, string>> => ({
  ...(table === undefined ? {} : { table }),
  ...(subject === undefined ? {} : { subject })
})

type Gauge = (condition: Pick<Condition, "name" | "table" | "subject">, value: number) => Effect.Effect<void>

const pipelineGauge = (pipeline: string): Gauge => ({ name, subject, table }, value) =>
  Metric.update(Telemetry.conditionOf(pipeline, name, table, subject), value)

const monitorGauge = (monitor: string): Gauge => ({ name, subject, table }, value) =>
  Metric.update(Telemetry.monitorConditionOf(monitor, name, table, subject), value)

const forgetIn = (holder: Holder, gauge: Gauge): Effect.Effect<void> =>
  Effect.suspend(() => {
    const raised = [...holder.conditions.values()]
    holder.conditions.clear()
    return Effect.forEach(raised, (condition) => gauge(condition, 0), { discard: true })
  })

const keptIn = (holder: Holder, gauge: Gauge): Conditions => ({
  raise: Effect.fnUntraced(function*(condition, since) {
    const { hint, message, name, severity } = condition
    const key = keyOf(condition)
    const known = holder.conditions.get(key)
    const now = yield* Clock.currentTimeMillis
    holder.conditions.set(key, { ...condition, since: known?.since ?? since ?? now })
    if (known !== undefined) return
    yield* gauge(condition, 1)
    yield* (severity === "critical" ? Effect.logError(message) : Effect.logWarning(message)).pipe(
      Effect.annotateLogs({ condition: name, hint, ...about(condition) })
    )
  }),
  clear: Effect.fnUntraced(function*(name, table, subject) {
    const condition = {
      name,
      ...(table === undefined ? {} : { table }),
      ...(subject === undefined ? {} : { subject })
    }
    if (!holder.conditions.delete(keyOf(condition))) return
    yield* gauge(condition, 0)
    yield* Effect.logInfo("A condition is over").pipe(
      Effect.annotateLogs({ condition: name, ...about(condition) })
    )
  })
})

/** Forgets what is raised: after the pipeline's end nobody is left to clear it. */
export const forget = (pipeline: string, progress: Holder): Effect.Effect<void> =>
  forgetIn(progress, pipelineGauge(pipeline))

/** Conditions that are kept in `progress`. */
export const make = (pipeline: string, progress: Holder): Conditions => keptIn(progress, pipelineGauge(pipeline))

/** Forgets what a monitor has raised: after its end nobody is left to clear it. */
export const forgetMonitor = (monitor: string, holder: Holder): Effect.Effect<void> =>
  forgetIn(holder, monitorGauge(monitor))

/** Conditions of a monitor, kept in `holder`. */
export const makeMonitor = (monitor: string, holder: Holder): Conditions => keptIn(holder, monitorGauge(monitor))
