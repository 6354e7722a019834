/**
 * What pipelines are doing, as the API tells it. Texts are redacted: whatever a connector put into an error, secrets don't leave the process.
 */
import type { Raised } from "@etl-stream/core/Condition"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { TableView, View } from "@etl-stream/core/Progress"
import * as Quarantine from "@etl-stream/core/Quarantine"
import * as Sequence from "@etl-stream/core/Sequence"
import type { PipelineRates, TableRate } from "../Rates.ts"
import type { Redaction } from "../Redaction.ts"
import type { Supervised } from "../Supervisor.ts"
import type * as Model from "./Model.ts"

const time = (millis: number | undefined): string | null => millis === undefined ? null : new Date(millis).toISOString()

const rounded = (value: number): number => Math.round(value * 10) / 10

const ratesOf = (rate: TableRate | PipelineRates | undefined): typeof Model.Rates.Type => ({
  copy: rounded(rate?.snapshot ?? 0),
  changes: rounded(rate?.changes ?? 0)
})

export const failure = (error: ConnectorError, redact: Redaction): typeof Model.Failure.Type => ({
  reason: error.reason,
  plugin: error.plugin,
  table: error.table ?? null,
  message: redact(error.message),
  hint: redact(error.hint)
})

export const condition = (
  { hint, message, name, severity, since, table }: Raised,
  redact: Redaction
): typeof Model.Condition.Type => ({
  name,
  severity,
  table: table ?? null,
  message: redact(message),
  hint: redact(hint),
  since: new Date(since).toISOString()
})

const eta = ({ estimatedRows, phase, snapshotRows }: TableView, rate: TableRate | undefined): number | null =>
  phase !== "copying" || estimatedRows === undefined || rate === undefined || rate.snapshot <= 0
    ? null
    : rounded(Math.max(0, estimatedRows - snapshotRows) / rate.snapshot)

const table = (view: TableView, rate: TableRate | undefined, redact: Redaction): typeof Model.Table.Type => {
  const { quarantine } = view
  return {
    table: view.table,
    phase: view.phase,
    quarantine: quarantine === undefined ? null : {
      reason: quarantine.reason,
      message: redact(quarantine.message),
      hint: redact(Quarantine.remedy(quarantine, view.table)),
      since: new Date(quarantine.since).toISOString()
    },
    copy: {
      rows: view.snapshotRows,
      estimatedRows: view.estimatedRows ?? null,
      etaSeconds: eta(view, rate),
      startedAt: time(view.startedAt),
      completedAt: time(view.copiedAt)
    },
    changes: view.changes,
    skipped: view.skipped,
    dropped: view.dropped,
    rates: ratesOf(rate)
  }
}

const circuitStates = { Closed: "closed", Open: "open", HalfOpen: "half_open" } as const

const byPhase = (tables: ReadonlyArray<TableView>): Readonly<Record<string, number>> => {
  const counts: Record<string, number> = {}
  for (const { phase } of tables) counts[phase] = (counts[phase] ?? 0) + 1
  return counts
}

export const summary = (
  pipeline: Supervised,
  view: View,
  rates: PipelineRates | undefined,
  redact: Redaction
): Model.Summary => {
  const circuit = pipeline.circuit()
  const lag = view.receivedPosition - view.acknowledgedPosition
  return {
    name: pipeline.name,
    activity: pipeline.activity(),
    desired: pipeline.desired(),
    pausedByConfiguration: pipeline.isPausedByConfiguration(),
    waitsFor: pipeline.waitsFor(),
    run: view.run,
    startedAt: time(view.startedAt),
    retryAt: time(pipeline.retryAt()),
    receivedPosition: view.receivedPosition.toString(),
    acknowledgedPosition: view.acknowledgedPosition.toString(),
    lagBytes: lag > 0n ? Number(lag) : 0,
    freshnessSeconds: view.freshness === undefined ? null : rounded(view.freshness / 1000),
    receivedAt: time(view.receivedAt),
    memoryBytes: view.memory,
    rates: ratesOf(rates),
    circuit: circuit === undefined
      ? null
      : { state: circuitStates[circuit.state()], nextProbeAt: time(circuit.nextProbe()) },
    conditions: view.conditions.map((raised) => condition(raised, redact)),
    lastError: view.lastError === undefined ? null : failure(view.lastError, redact),
    tablesByPhase: byPhase(view.tables)
  }
}

export const pipeline = (
  supervised: Supervised,
  view: View,
  rates: PipelineRates | undefined,
  redact: Redaction
): Model.Pipeline => ({
  ...summary(supervised, view, rates, redact),
  tables: view.tables.map((one) => table(one, rates?.tables.get(one.table), redact))
})

export const offsets = (view: View): typeof Model.Offsets.Type => ({
  received: view.receivedPosition.toString(),
  acknowledged: view.acknowledgedPosition.toString(),
  tables: view.tables.map(({ durableSequence, lastSequence, table }) => ({
    table,
    received: lastSequence === undefined ? null : Sequence.format(lastSequence),
    durable: durableSequence === undefined ? null : Sequence.format(durableSequence)
  }))
})

/** What is not as it should be with a pipeline; empty when all is well. */
export const degradations = (pipeline: Supervised, view: View): ReadonlyArray<string> => {
  const activity = pipeline.activity()
  return [
    ...(activity === "failed" || activity === "retrying" || activity === "waiting" ? [activity] : []),
    ...(view.conditions.map(({ name, table }) => table === undefined ? name : `${name} ${table}`))
  ]
}
