/**
 * Names, metrics and spans of the engine, by OpenTelemetry's conventions.
 *
 * Everything is recorded per batch, never per row, and labelled by pipeline, component and table only: no positions, keys or
 * values. `forPipeline` and `forTable` make the labelled instances once, so that recording costs one map look-up. Without a tracer no span is made.
 */
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Tracer from "effect/Tracer"
import { counter, gauge, histogram, updown } from "./MetricDefinition.ts"
import type { SpanLinks } from "./SpanLinks.ts"
import { isTracing } from "./Tracing.ts"

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
  staleness: "etl_stream.staleness",
  snapshotRows: "etl_stream.snapshot.rows",
  memoryUsed: "etl_stream.memory.used",
  memoryLimit: "etl_stream.memory.limit",
  pipelineStatus: "etl_stream.pipeline.status",
  tableStatus: "etl_stream.table.status",
  condition: "etl_stream.condition",
  deadLetters: "etl_stream.dead_letters",
  quarantines: "etl_stream.table.quarantines",
  sinkCircuit: "etl_stream.sink.circuit",
  databaseDuration: "db.client.operation.duration"
} as const

/** Span names. */
export const Spans = {
  open: "etl_stream.sink.open",
  receive: "etl_stream.source.receive",
  transform: "etl_stream.transform.apply",
  write: "etl_stream.sink.write",
  durable: "etl_stream.sink.durable",
  settle: "etl_stream.sink.settle",
  quarantine: "etl_stream.sink.quarantine"
} as const

/** Attribute keys of metrics, spans and logs. */
export const Attributes = {
  pipeline: "etl_stream.pipeline",
  component: "etl_stream.component",
  table: "etl_stream.table",
  monitor: "etl_stream.monitor",
  subject: "etl_stream.condition.subject",
  element: "etl_stream.element",
  errorType: "error.type",
  stage: "etl_stream.stage",
  condition: "etl_stream.condition.name",
  intentional: "intentional",
  state: "state",
  rows: "etl_stream.rows",
  bytes: "etl_stream.bytes",
  /** Spans that a span isn't linked to because there were too many. */
  omittedLinks: "etl_stream.links.omitted",
  databaseSystem: "db.system.name",
  operation: "db.operation.name"
} as const

const { pipeline, table } = Attributes

/** Records that a component (source, transform, sink) took in. */
export const consumedRecords = counter({
  name: Names.consumedRecords,
  unit: "{record}",
  description: "Records a component took in",
  attributes: [pipeline, table, Attributes.component]
})
/** Records that a component gave on. */
export const producedRecords = counter({
  name: Names.producedRecords,
  unit: "{record}",
  description: "Records a component gave on",
  attributes: [pipeline, table, Attributes.component]
})
/** Size of the Arrow buffers that a component gave on. */
export const producedBytes = counter({
  name: Names.producedBytes,
  unit: "By",
  description: "Size of the batches a component gave on, as Arrow buffers",
  attributes: [pipeline, table, Attributes.component]
})
/** Errors that ended a run, by reason and stage. */
export const errors = counter({
  name: Names.errors,
  unit: "{error}",
  description: "Errors that ended a run, by reason and by the stage (source, sink) that they came from",
  attributes: [pipeline, Attributes.errorType, Attributes.stage]
})
/** Records that a transform left out on purpose. */
export const dropped = counter({
  name: Names.dropped,
  unit: "{record}",
  description: "Records that transforms left out on purpose",
  attributes: [pipeline, table, Attributes.intentional]
})
/** Records read again that the sink held already. */
export const skipped = counter({
  name: Names.skipped,
  unit: "{record}",
  description: "Records read again that the sink held already",
  attributes: [pipeline, table]
})
/** Log messages of applications. */
export const messages = counter({
  name: Names.messages,
  unit: "{message}",
  description: "Logical messages of applications in the stream",
  attributes: [pipeline]
})
/** How long a sink took to accept a batch. */
export const writeDuration = histogram({
  name: Names.writeDuration,
  unit: "s",
  description: "Time until the sink accepted a batch",
  attributes: [pipeline, table]
}, Metric.exponentialBoundaries({ start: 0.001, factor: 2, count: 18 }))
/** Records per batch written. */
export const batchRecords = histogram({
  name: Names.batchRecords,
  unit: "{record}",
  description: "Records per batch written",
  attributes: [pipeline, table]
}, Metric.exponentialBoundaries({ start: 1, factor: 4, count: 10 }))
/** Bytes of log between what was received and what is acknowledged. */
export const replicationLag = gauge({
  name: Names.replicationLag,
  unit: "By",
  description: "Log received and not yet acknowledged to the source",
  attributes: [pipeline]
})
/** From commit to durable, once per acknowledgement, of the oldest transaction in it. */
export const freshness = histogram({
  name: Names.freshness,
  unit: "s",
  description:
    "Time from a transaction's commit at the source until it was durable at the sink: of the oldest one in each acknowledgement",
  attributes: [pipeline]
}, [0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 14_400, 86_400])
/** Age of the newest state that is durable at the sink. */
export const staleness = gauge({
  name: Names.staleness,
  unit: "s",
  description: "Age of the newest durable commit while changes are under way; 0 when everything received is durable",
  attributes: [pipeline]
})
/** Rows of a copy, by `state` copied or estimated. */
export const snapshotRows = gauge({
  name: Names.snapshotRows,
  unit: "{row}",
  description: "Rows of a table's copy: `copied` so far, and as many as the source `estimated`",
  attributes: [pipeline, table, Attributes.state]
})
/** Memory held by batches between intake and acceptance. */
export const memoryUsed = gauge({
  name: Names.memoryUsed,
  unit: "By",
  description: "Memory held by batches on their way, of all pipelines",
  attributes: []
})
/** The budget that all pipelines share. */
export const memoryLimit = gauge({
  name: Names.memoryLimit,
  unit: "By",
  description: "Budget for batches on their way, shared by all pipelines",
  attributes: []
})
/** 1 in the state that a pipeline is in. */
export const pipelineStatus = updown({
  name: Names.pipelineStatus,
  unit: "{pipeline}",
  description:
    "1 for the state that the pipeline is in, 0 for the others: starting, snapshot, streaming, draining, stopped, failed",
  attributes: [pipeline, Attributes.state]
})
/** 1 in the state that a table is in. */
export const tableStatus = updown({
  name: Names.tableStatus,
  unit: "{table}",
  description:
    "1 for the state that the table is in, 0 for the others: opening, waiting, copying, streaming, quarantined, left",
  attributes: [pipeline, table, Attributes.state]
})
/** How often tables were put in quarantine, by reason. */
export const quarantines = counter({
  name: Names.quarantines,
  unit: "{table}",
  description: "Tables that could not go on and were put in quarantine",
  attributes: [pipeline, table, Attributes.errorType]
})
/** Values that went to the dead letters. */
export const deadLetters = counter({
  name: Names.deadLetters,
  unit: "{value}",
  description: "Values that could not be written and were kept as dead letters",
  attributes: [pipeline, table]
})
/** Whether something needs somebody: 1 while a condition is raised, 0 after it was cleared. */
export const condition = gauge({
  name: Names.condition,
  unit: "{condition}",
  description: "1 while something needs somebody and the pipeline or monitor goes on, 0 after it is over",
  attributes: [pipeline, Attributes.monitor, Attributes.condition, table, Attributes.subject]
})
/** The circuit breaker of a pipeline's sink. */
export const sinkCircuit = gauge({
  name: Names.sinkCircuit,
  unit: "{circuit}",
  description:
    "1 for the state that the circuit breaker before the pipeline's sink is in, 0 for the others: closed, open, half_open",
  attributes: [pipeline, Attributes.state]
})
/** How long statements of sources and sinks take, as OpenTelemetry's conventions have it. */
export const databaseDuration = histogram({
  name: Names.databaseDuration,
  unit: "s",
  description: "Duration of SQL statements, by their first word",
  attributes: [Attributes.databaseSystem, Attributes.operation, Attributes.errorType]
}, [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800])

/** Every metric of the engine. */
export const metrics = [
  consumedRecords,
  producedRecords,
  producedBytes,
  errors,
  dropped,
  skipped,
  messages,
  writeDuration,
  batchRecords,
  replicationLag,
  freshness,
  staleness,
  snapshotRows,
  memoryUsed,
  memoryLimit,
  pipelineStatus,
  tableStatus,
  quarantines,
  deadLetters,
  condition,
  sinkCircuit,
  databaseDuration
] as const

const conditionWith = (
  owner: Readonly<Record<string, string>>,
  name: string,
  table: string | undefined,
  subject: string | undefined
) =>
  Metric.withAttributes(condition, {
    ...owner,
    [Attributes.condition]: name,
    ...(table === undefined ? {} : { [Attributes.table]: table }),
    ...(subject === undefined ? {} : { [Attributes.subject]: subject })
  })

/** The gauge of one condition of a pipeline, or of one of its tables. */
export const conditionOf = (pipeline: string, name: string, table: string | undefined, subject?: string) =>
  conditionWith({ [Attributes.pipeline]: pipeline }, name, table, subject)

/** The gauge of one condition of a monitor. */
export const monitorConditionOf = (monitor: string, name: string, table: string | undefined, subject?: string) =>
  conditionWith({ [Attributes.monitor]: monitor }, name, table, subject)

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
    staleness: Metric.withAttributes(staleness, attributes),
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
    dropped: Metric.withAttributes(dropped, { ...attributes, [Attributes.intentional]: "true" }),
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

/** What a span tells besides its pipeline and table. */
export interface SpanDetails {
  readonly attributes?: Record<string, unknown>
  readonly links?: SpanLinks | undefined
  readonly kind?: Tracer.SpanKind
}

/** The options of a root span about a table, with the links that it is to have. */
export const tableSpan = (pipeline: string, table: string, { attributes, kind, links }: SpanDetails = {}) => ({
  root: true,
  ...(kind === undefined ? {} : { kind }),
  ...(links === undefined ? {} : { links: links.links() }),
  attributes: {
    [Attributes.pipeline]: pipeline,
    [Attributes.table]: table,
    ...attributes,
    ...(links === undefined || links.omitted === 0 ? {} : { [Attributes.omittedLinks]: links.omitted })
  }
})

/**
 * A span of its own (not a child of the pipeline's endless one) around work on one batch or table. `details` is asked only when there is a tracer; without one the
 * effect stays as it is.
 */
export const withTableSpan =
  (name: string, pipeline: string, table: string, details: () => SpanDetails = () => ({})) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.withFiber((fiber) =>
      isTracing(fiber)
        ? Effect.useSpan(
          name,
          tableSpan(pipeline, table, details()),
          (span) => Effect.provideService(effect, Tracer.ParentSpan, span)
        )
        : effect
    )

/** The first word of a statement, and of the words before its table what tells it apart: what `db.operation.name` is to be. */
const operationOf = (sql: string): string => {
  const word = /^\s*(?:--[^\n]*\n\s*|\/\*.*?\*\/\s*)*([A-Za-z]+)/s.exec(sql)?.[1]?.toUpperCase() ?? ""
  return operations.has(word) ? word : "OTHER"
}

/** Statements that plugins use; anything else counts together, whatever it begins with. */
const operations: ReadonlySet<string> = new Set([
  ..."ALTER BEGIN CALL COMMIT COPY CREATE DELETE DROP EXECUTE FETCH GET GRANT INSERT LIST LOCK MERGE PUT REMOVE RESET"
    .split(" "),
  ..."REVOKE ROLLBACK SELECT SET SHOW TRUNCATE UPDATE USE VALUES WITH DESC DESCRIBE START".split(" ")
])

/** Records how long a statement took, and by which error (`errorType`) it failed. `system`: `postgresql`, `snowflake` … */
export const timedStatement = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  system: string,
  sql: string,
  errorType: (error: E) => string
): Effect.Effect<A, E, R> =>
  Effect.clockWith((clock) => {
    const before = clock.currentTimeNanosUnsafe()
    const attributes = { [Attributes.databaseSystem]: system, [Attributes.operation]: operationOf(sql) }
    const record = (more: Readonly<Record<string, string>>) =>
      Metric.update(
        Metric.withAttributes(databaseDuration, { ...attributes, ...more }),
        Number(clock.currentTimeNanosUnsafe() - before) / 1e9
      )
    return effect.pipe(
      Effect.tap(() => record({})),
      Effect.tapError((error) => record({ [Attributes.errorType]: errorType(error) }))
    )
  })
