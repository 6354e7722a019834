/**
 * Something that is wrong with a running pipeline and needs somebody, while the pipeline goes on: an alarm that stays until
 * what caused it is over.
 *
 * A source or sink raises a condition under a name of its own (`publication-table-missing`, `heartbeat-late`), for one table or for all of it,
 * and clears it. Raising it again changes its text only. Conditions are in the pipeline's `Progress`, in the metric
 * `etl_stream.condition` (1 while raised, 0 after) and, once each way, in the log.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import type { Progress } from "./Progress.ts"
import type { TableId } from "./TableSchema.ts"
import * as Telemetry from "./Telemetry.ts"

export interface Condition {
  /** Stable name in lower case with hyphens: what alerts match. */
  readonly name: string
  /** `critical`: data is missing or will be; `warning`: it can become so. */
  readonly severity: "warning" | "critical"
  /** Table (`schema.name`) it is about, when it is about one. */
  readonly table?: TableId
  /** What is wrong, one sentence without row values or secrets. */
  readonly message: string
  /** What the operator can do about it. */
  readonly hint: string
}

/** A condition and since when (milliseconds since 1970-01-01 UTC) it has been there. */
export interface Raised extends Condition {
  readonly since: number
}

/** Where a source or sink raises its conditions. */
export interface Conditions {
  readonly raise: (condition: Condition) => Effect.Effect<void>
  readonly clear: (name: string, table?: TableId) => Effect.Effect<void>
}

/** Forgets what is raised: after the pipeline's end nobody is left to clear it. */
export const forget = (pipeline: string, progress: Progress): Effect.Effect<void> =>
  Effect.suspend(() => {
    const raised = [...progress.conditions.values()]
    progress.conditions.clear()
    return Effect.forEach(
      raised,
      ({ name, table }) => Metric.update(Telemetry.conditionOf(pipeline, name, table), 0),
      { discard: true }
    )
  })

const keyOf = (name: string, table: TableId | undefined): string => JSON.stringify([name, table ?? null])

/** Conditions that are kept in `progress`. */
export const make = (pipeline: string, progress: Progress): Conditions => {
  const gauge = (name: string, table: TableId | undefined, value: number) =>
    Metric.update(Telemetry.conditionOf(pipeline, name, table), value)
  return {
    raise: Effect.fnUntraced(function*(condition) {
      const { hint, message, name, severity, table } = condition
      const key = keyOf(name, table)
      const known = progress.conditions.get(key)
      progress.conditions.set(key, { ...condition, since: known?.since ?? (yield* Clock.currentTimeMillis) })
      if (known !== undefined) return
      yield* gauge(name, table, 1)
      yield* (severity === "critical" ? Effect.logError(message) : Effect.logWarning(message)).pipe(
        Effect.annotateLogs({ condition: name, hint, ...(table === undefined ? {} : { table }) })
      )
    }),
    clear: Effect.fnUntraced(function*(name, table) {
      if (!progress.conditions.delete(keyOf(name, table))) return
      yield* gauge(name, table, 0)
      yield* Effect.logInfo("A condition is over").pipe(
        Effect.annotateLogs({ condition: name, ...(table === undefined ? {} : { table }) })
      )
    })
  }
}
