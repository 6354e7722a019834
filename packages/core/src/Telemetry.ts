/**
 * Names, metrics and spans of the engine, by OpenTelemetry's conventions.
 *
 * Everything is recorded per batch, never per row, and labelled by pipeline, component and table only: no positions, keys or
 * values. Metrics carry their UCUM unit in the attribute `unit`, which exporters use. `forPipeline` and `forTable` make the
 * labelled instances once, so that recording costs one map look-up.
 */
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"

/** Metric names. */
export const Names = {
  consumedRecords: "etl_stream.component.consumed.records",
  producedRecords: "etl_stream.component.produced.records",
  producedBytes: "etl_stream.component.produced.size",
  errors: "etl_stream.component.errors",
  dropped: "etl_stream.records.dropped",
  skipped: "etl_stream.records.skipped",
  messages: "etl_stream.messages",
  writeDuration: "etl_stream.batch.write.duration",
  batchRecords: "etl_stream.batch.records",
  replicationLag: "etl_stream.replication.lag",
  freshness: "etl_stream.freshness",
  snapshotRows: "etl_stream.snapshot.rows",
  memoryUsed: "etl_stream.memory.used",
  tableStatus: "etl_stream.table.status",
  condition: "etl_stream.condition",
  deadLetters: "etl_stream.dead_letters",
  quarantines: "etl_stream.table.quarantines",
  sinkCircuit: "etl_stream.sink.circuit"
} as const

/** Span names. */
export const Spans = {
  open: "etl_stream.sink.open",
  write: "etl_stream.sink.write",
  transform: "etl_stream.transform.apply",
  settle: "etl_stream.sink.settle",
  quarantine: "etl_stream.sink.quarantine"
} as const

/** Attribute keys of metrics, spans and logs. */
export const Attributes = {
  pipeline: "etl_stream.pipeline",
  component: "etl_stream.component",
  table: "etl_stream.table",
  element: "etl_stream.element",
  errorType: "error.type",
  stage: "etl_stream.stage",
  condition: "etl_stream.condition.name",
  state: "state",
  rows: "etl_stream.rows",
  bytes: "etl_stream.bytes"
} as const

const counter = (name: string, unit: string, description: string) =>
  Metric.counter(name, { description, incremental: true, attributes: { unit } })
const gauge = (name: string, unit: string, description: string) =>
  Metric.gauge(name, { description, attributes: { unit } })

/** Records that a component (source, transform, sink) took in. */
export const consumedRecords = counter(Names.consumedRecords, "{record}", "Records a component took in")
/** Records that a component gave on. */
export const producedRecords = counter(Names.producedRecords, "{record}", "Records a component gave on")
/** Size of the Arrow buffers that a component gave on. */
export const producedBytes = counter(Names.producedBytes, "By", "Size of the batches a component gave on")
/** Errors that ended a run, by reason and stage. */
export const errors = counter(Names.errors, "{error}", "Errors that ended a run")
/** Records that a transform left out on purpose. */
export const dropped = counter(Names.dropped, "{record}", "Records that transforms left out")
/** Records read again that the sink held already. */
export const skipped = counter(Names.skipped, "{record}", "Records read again that the sink held already")
/** Log messages of applications. */
export const messages = counter(Names.messages, "{message}", "Log messages of applications in the stream")
/** How long a sink took to accept a batch. */
export const writeDuration = Metric.histogram(Names.writeDuration, {
  description: "Time until a sink accepted a batch",
  attributes: { unit: "s" },
  boundaries: Metric.exponentialBoundaries({ start: 0.001, factor: 2, count: 18 })
})
/** Records per batch written. */
export const batchRecords = Metric.histogram(Names.batchRecords, {
  description: "Records per batch written",
  attributes: { unit: "{record}" },
  boundaries: Metric.exponentialBoundaries({ start: 1, factor: 4, count: 10 })
})
/** Bytes of log between what was received and what is acknowledged. */
export const replicationLag = gauge(Names.replicationLag, "By", "Log received and not yet acknowledged")
/** Age of the newest state that is durable at the sink. */
export const freshness = gauge(Names.freshness, "s", "Age of the newest durable commit while changes are under way")
/** Rows of a copy, by `state` copied or estimated. */
export const snapshotRows = gauge(Names.snapshotRows, "{row}", "Rows of the copy of a table")
/** Memory held by batches between intake and acceptance. */
export const memoryUsed = gauge(Names.memoryUsed, "By", "Memory held by batches on their way")

/** How often tables were put in quarantine, by reason. */
export const quarantines = counter(
  Names.quarantines,
  "{table}",
  "Tables that could not go on and were put in quarantine"
)

/** Values that went to the dead letters. */
export const deadLetters = counter(
  Names.deadLetters,
  "{value}",
  "Values that could not be written and were kept as dead letters"
)

/** Whether something needs somebody: 1 while a condition is raised, 0 after it was cleared. */
export const condition = gauge(Names.condition, "1", "Conditions that need somebody while the pipeline goes on")

/** The gauge of one condition of a pipeline, or of one of its tables. */
export const conditionOf = (pipeline: string, name: string, table: string | undefined) =>
  Metric.withAttributes(condition, {
    [Attributes.pipeline]: pipeline,
    [Attributes.condition]: name,
    ...(table === undefined ? {} : { [Attributes.table]: table })
  })

/** The circuit breaker of a pipeline's sink: 1 for the state that it is in, 0 for the others. */
export const sinkCircuit = gauge(Names.sinkCircuit, "1", "State of the circuit breaker in front of a pipeline's sink")

/** The gauge of one state of a pipeline's circuit breaker. */
export const sinkCircuitOf = (pipeline: string, state: "closed" | "open" | "half_open") =>
  Metric.withAttributes(sinkCircuit, { [Attributes.pipeline]: pipeline, [Attributes.state]: state })

/** The metrics of a pipeline that aren't per table. */
export const forPipeline = (pipeline: string) => {
  const attributes = { [Attributes.pipeline]: pipeline }
  return {
    messages: Metric.withAttributes(messages, attributes),
    replicationLag: Metric.withAttributes(replicationLag, attributes),
    freshness: Metric.withAttributes(freshness, attributes),
    error: (reason: string, stage: string): Effect.Effect<void> =>
      Metric.update(
        Metric.withAttributes(errors, { ...attributes, [Attributes.errorType]: reason, [Attributes.stage]: stage }),
        1
      )
  }
}
export type PipelineMetrics = ReturnType<typeof forPipeline>

/** The metrics of one table of a pipeline. */
export const forTable = (pipeline: string, table: string) => {
  const attributes = { [Attributes.pipeline]: pipeline, [Attributes.table]: table }
  const source = { ...attributes, [Attributes.component]: "source" }
  const sink = { ...attributes, [Attributes.component]: "sink" }
  return {
    sourceRecords: Metric.withAttributes(producedRecords, source),
    sourceBytes: Metric.withAttributes(producedBytes, source),
    sinkRecords: Metric.withAttributes(consumedRecords, sink),
    dropped: Metric.withAttributes(dropped, { ...attributes, intentional: "true" }),
    skipped: Metric.withAttributes(skipped, attributes),
    quarantined: (reason: string): Effect.Effect<void> =>
      Metric.update(Metric.withAttributes(quarantines, { ...attributes, [Attributes.errorType]: reason }), 1),
    writeDuration: Metric.withAttributes(writeDuration, attributes),
    batchRecords: Metric.withAttributes(batchRecords, attributes),
    snapshotCopied: Metric.withAttributes(snapshotRows, { ...attributes, [Attributes.state]: "copied" }),
    snapshotEstimated: Metric.withAttributes(snapshotRows, { ...attributes, [Attributes.state]: "estimated" })
  }
}
export type TableMetrics = ReturnType<typeof forTable>

/** A span of its own (not a child of the pipeline's endless one) around work on one batch or table. */
export const withTableSpan = (
  name: string,
  pipeline: string,
  table: string,
  attributes: Record<string, unknown> = {}
) =>
<A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.withSpan(effect, name, {
    root: true,
    attributes: { [Attributes.pipeline]: pipeline, [Attributes.table]: table, ...attributes }
  })
