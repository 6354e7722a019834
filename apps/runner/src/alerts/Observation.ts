/**
 * What a rule finds at a pipeline or monitor right now.
 *
 * A rule holds, or it doesn't, or there is no telling: a pipeline that starts, drains or stops says nothing about its source and sink. So
 * `observe` gives what holds, and `tells` whether it means anything that the rest doesn't.
 */
import type { Raised } from "@etl-stream/core/Condition"
import type { Measure } from "@etl-stream/core/Notifier"
import type { View } from "@etl-stream/core/Progress"
import * as Quarantine from "@etl-stream/core/Quarantine"
import type { TableId } from "@etl-stream/core/TableSchema"
import type { ActiveRule, MeasureName } from "./AlertRule.ts"

/** A pipeline or monitor as the alerts see it. */
export interface Subject {
  readonly name: string
  readonly kind: "pipeline" | "monitor"
  /** Of a pipeline. */
  readonly view?: View | undefined
  readonly conditions: ReadonlyArray<Raised>
}

/** Something that holds. */
export interface Observation {
  readonly type: string
  readonly severity: "warning" | "critical"
  readonly table: TableId | undefined
  /** What it is about, other than a table: a slot, for example. */
  readonly subject: string | undefined
  /** Since when it holds, if it says so itself: milliseconds since 1970-01-01 UTC. */
  readonly since: number | undefined
  readonly title: string
  readonly body: string
  readonly size: Measure | undefined
  readonly threshold: Measure | undefined
}

/** Whether a rule looks at a subject at all. */
export const concerns = ({ pipelines, when }: ActiveRule, { kind, name }: Subject): boolean =>
  kind === "pipeline"
    ? pipelines === undefined || pipelines.has(name)
    : pipelines === undefined && when._tag === "Condition"

/** Whether what a subject doesn't show is not so. */
export const tells = ({ kind, view }: Subject): boolean =>
  kind === "monitor" || view?.phase === "snapshot" || view?.phase === "streaming"

/** A run that lasted this long is a good one. */
const healthyMillis = 60_000

/**
 * Whether what a rule saw at a subject for a while, and doesn't see now, is over. A run that has just begun after a failed one isn't a recovery yet: a pipeline that
 * fails again and again has failed all the time.
 */
export const isOver = ({ when }: ActiveRule, subject: Subject, now: number): boolean => {
  const { view } = subject
  if (!tells(subject)) return false
  return when._tag !== "PipelineFailed" || view === undefined || view.run <= 1 || view.startedAt === undefined ||
    now - view.startedAt >= healthyMillis
}

const sizeOf = (name: MeasureName, view: View, now: number): number | undefined => {
  switch (name) {
    case "freshness":
      return view.freshness
    case "silence":
      return view.receivedAt === undefined ? undefined : Math.max(0, now - view.receivedAt)
    case "lag":
      return view.receivedPosition > view.acknowledgedPosition
        ? Number(view.receivedPosition - view.acknowledgedPosition)
        : 0
  }
}

const limitTexts: Readonly<Record<MeasureName, { readonly title: string; readonly body: string }>> = {
  freshness: {
    title: "the sink's data is older than allowed",
    body:
      "Changes are under way, and what is durable at the sink is older than the limit. Look at the pipeline's log: whether the sink is slow, refuses, or a large transaction is being written."
  },
  silence: {
    title: "nothing has come from the source for longer than allowed",
    body:
      "Not even a heartbeat was read. Look at the source: whether it is reachable, its replication slot active, and its heartbeat on."
  },
  lag: {
    title: "more of the log is unacknowledged than allowed",
    body:
      "The source keeps its log until what was read is durable at the sink. Look at the pipeline's log: whether the sink is slow, or one table holds the position back."
  }
}

const ofCondition = (
  { hint, message, name, severity, since, subject: about, table }: Raised,
  subject: Subject
): Observation => ({
  type: name,
  severity,
  table,
  subject: about,
  since,
  title: `${subject.name}: ${message}`,
  body: hint,
  size: undefined,
  threshold: undefined
})

/** Phases in which a pipeline's numbers say something. */
const measured: ReadonlySet<string> = new Set(["starting", "snapshot", "streaming", "failed"])

/** What of `rule` holds at `subject`. */
export const observe = (rule: ActiveRule, subject: Subject, now: number): ReadonlyArray<Observation> => {
  if (!concerns(rule, subject)) return []
  const { severity, when } = rule
  const { conditions, name, view } = subject
  switch (when._tag) {
    case "Condition":
      return conditions
        .filter((condition) =>
          (rule.names === undefined || rule.names.has(condition.name)) &&
          (severity === undefined || severity === condition.severity)
        )
        .map((condition) => ofCondition(condition, subject))
    case "TableQuarantined":
      return conditions
        .filter((condition) => condition.name === Quarantine.condition)
        .map((condition) => ({ ...ofCondition(condition, subject), severity: severity ?? "critical" }))
    case "PipelineFailed": {
      if (view === undefined) return []
      // A run that never got as far as to begin leaves the phase as it was.
      const failed = view.phase === "failed" || (view.run === 0 && view.lastError !== undefined)
      return failed
        ? [{
          type: "pipeline-failed",
          severity: severity ?? "critical",
          table: undefined,
          subject: undefined,
          since: undefined,
          title: `${name} failed${view.lastError === undefined ? "" : `: ${view.lastError.message}`}`,
          body: view.lastError?.hint ?? "Look at the pipeline's log.",
          size: undefined,
          threshold: undefined
        }]
        : []
    }
    case "Above": {
      const size = view === undefined || !measured.has(view.phase) ? undefined : sizeOf(when.measure, view, now)
      return size === undefined || size <= when.threshold.value
        ? []
        : [{
          type: when.measure,
          severity: severity ?? "warning",
          table: undefined,
          subject: undefined,
          since: undefined,
          title: `${name}: ${limitTexts[when.measure].title}`,
          body: limitTexts[when.measure].body,
          size: { value: size, unit: when.threshold.unit },
          threshold: when.threshold
        }]
    }
  }
}
