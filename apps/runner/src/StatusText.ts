/**
 * The status of pipelines as lines for people.
 */
import * as ByteSize from "@etl-stream/core/ByteSize"
import type * as Model from "./api/Model.ts"
import { compact, span } from "./LiveView.ts"
import { printable } from "./TextWidth.ts"

const count = (phases: Readonly<Record<string, number>>): number =>
  Object.values(phases).reduce((sum, tables) => sum + tables, 0)

/** A pipeline's own line and what is wrong with it. */
export const summary = (pipeline: Model.Summary, now: number): ReadonlyArray<string> => {
  const { circuit, conditions, lastError, tablesByPhase } = pipeline
  const tables = count(tablesByPhase)
  const retryAt = pipeline.retryAt === null ? undefined : Date.parse(pipeline.retryAt)
  const head = [
    pipeline.name,
    retryAt === undefined ? pipeline.activity : `retrying in ${span(retryAt - now)}`,
    pipeline.waitsFor.length === 0 ? "" : `for ${pipeline.waitsFor.join(", ")}`,
    pipeline.pausedByConfiguration ? "by its configuration" : "",
    tables === 0 ? "" : `${tablesByPhase["streaming"] ?? 0}/${tables} tables in step`,
    pipeline.rates.copy > 0 ? `copy ${compact(pipeline.rates.copy)} rows/s` : "",
    pipeline.activity === "streaming" ? `${compact(pipeline.rates.changes)} changes/s` : "",
    pipeline.freshnessSeconds === null ? "" : `lag ${span(pipeline.freshnessSeconds * 1000)}`,
    pipeline.lagBytes > 0 ? `${ByteSize.format(pipeline.lagBytes)} behind` : "",
    circuit === null || circuit.state === "closed" ? "" : `circuit ${circuit.state.replace("_", " ")}`
  ]
  const troubled = pipeline.activity === "failed" || pipeline.activity === "retrying"
  return [
    head.filter((part) => part !== "").join("  "),
    ...(lastError !== null && troubled ? [`  ${lastError.message}`, `    -> ${lastError.hint}`] : []),
    ...conditions.flatMap(({ hint, message, severity }) => [`  ${severity}: ${message}`, `    -> ${hint}`])
  ].map(printable)
}

const table = ({ changes, copy, phase, quarantine, rates, table }: Model.Pipeline["tables"][number]): string => {
  const rows = copy.estimatedRows === null ? `${copy.rows}` : `${copy.rows}/~${Math.round(copy.estimatedRows)}`
  const eta = copy.etaSeconds === null ? "" : `  ETA ${span(copy.etaSeconds * 1000)}`
  switch (phase) {
    case "copying":
      return `  ${table}  copying  ${rows} rows  ${compact(rates.copy)}/s${eta}`
    case "streaming":
      return `  ${table}  in step  ${changes} changes  ${compact(rates.changes)}/s`
    case "quarantined":
      return `  ${table}  in quarantine  ${quarantine?.message ?? ""}`
    case "opening":
    case "waiting":
    case "left":
      return `  ${table}  ${phase}`
  }
}

/** A pipeline with its tables. */
export const pipeline = (model: Model.Pipeline, now: number): ReadonlyArray<string> => [
  ...summary(model, now),
  ...model.tables.map((one) => printable(table(one)))
]

/** What happened, as one line; undefined for what is only of use to programs. */
export const event = (event: Model.Event): string | undefined => {
  switch (event.type) {
    case "activity":
      return printable(`${event.at}  ${event.pipeline}  ${event.to ?? "removed"}`)
    case "table":
      return printable(`${event.at}  ${event.pipeline}  ${event.table}  ${event.to}`)
    case "condition":
      return printable(
        `${event.at}  ${event.pipeline}  ${event.condition.name} ${event.status}: ${event.condition.message}`
      )
    case "error":
      return printable(`${event.at}  ${event.pipeline}  ${event.error.message}`)
    case "lost":
      return `${event.at}  ${event.events} events were lost: this reader is too slow`
    case "progress":
      return undefined
  }
}
