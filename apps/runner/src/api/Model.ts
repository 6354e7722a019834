/**
 * What the HTTP API tells of pipelines, as JSON. Positions and sequences are text, because they don't fit into JSON's numbers; times are ISO 8601; sizes are bytes.
 */
import { Reason } from "@etl-stream/core/ConnectorError"
import { State as ResyncState } from "@etl-stream/core/ResyncRequest"
import * as Schema from "effect/Schema"

const Count = Schema.Int
const Time = Schema.String

export const Activity = Schema.Literals([
  "waiting",
  "starting",
  "snapshot",
  "streaming",
  "retrying",
  "draining",
  "paused",
  "stopped",
  "finished",
  "failed"
]).annotate({ description: "What the pipeline is doing" })

export const Desired = Schema.Literals(["running", "paused", "stopped"])

/** Rows per second over the last few seconds. */
export const Rates = Schema.Struct({ copy: Schema.Finite, changes: Schema.Finite })

export const Failure = Schema.Struct({
  reason: Reason,
  plugin: Schema.String,
  table: Schema.NullOr(Schema.String),
  message: Schema.String,
  hint: Schema.String
})

export const Condition = Schema.Struct({
  name: Schema.String,
  severity: Schema.Literals(["warning", "critical"]),
  table: Schema.NullOr(Schema.String),
  message: Schema.String,
  hint: Schema.String,
  since: Time
})

export const Quarantine = Schema.Struct({ reason: Reason, message: Schema.String, hint: Schema.String, since: Time })

export const TablePhase = Schema.Literals(["opening", "waiting", "copying", "streaming", "quarantined", "left"])

export const Table = Schema.Struct({
  table: Schema.String,
  phase: TablePhase,
  quarantine: Schema.NullOr(Quarantine),
  copy: Schema.Struct({
    rows: Count,
    estimatedRows: Schema.NullOr(Schema.Finite),
    /** Until the copy is complete at the present rate; null when that isn't known. */
    etaSeconds: Schema.NullOr(Schema.Finite),
    startedAt: Schema.NullOr(Time),
    completedAt: Schema.NullOr(Time)
  }),
  changes: Count,
  skipped: Count,
  dropped: Count,
  rates: Rates
})

const pipelineFields = {
  name: Schema.String,
  activity: Activity,
  desired: Desired,
  /** Whether its configuration says `status: paused`. */
  pausedByConfiguration: Schema.Boolean,
  /** Pipelines whose drain it waits for. */
  waitsFor: Schema.Array(Schema.String),
  run: Count,
  startedAt: Schema.NullOr(Time),
  retryAt: Schema.NullOr(Time),
  receivedPosition: Schema.String,
  acknowledgedPosition: Schema.String,
  /** Log that was received and isn't acknowledged yet. */
  lagBytes: Schema.Finite,
  /** Age of the durable state while changes are under way, 0 when everything is durable; null before the first transaction. */
  freshnessSeconds: Schema.NullOr(Schema.Finite),
  receivedAt: Schema.NullOr(Time),
  memoryBytes: Schema.Finite,
  rates: Rates,
  circuit: Schema.NullOr(Schema.Struct({
    state: Schema.Literals(["closed", "open", "half_open"]),
    nextProbeAt: Schema.NullOr(Time)
  })),
  conditions: Schema.Array(Condition),
  lastError: Schema.NullOr(Failure),
  tablesByPhase: Schema.Record(Schema.String, Count)
}

/** A pipeline without its tables. */
export const Summary = Schema.Struct(pipelineFields).annotate({ identifier: "PipelineSummary" })
export type Summary = typeof Summary.Type

export const Pipeline = Schema.Struct({ ...pipelineFields, tables: Schema.Array(Table) }).annotate({
  identifier: "Pipeline"
})
export type Pipeline = typeof Pipeline.Type

export const Pipelines = Schema.Struct({ pipelines: Schema.Array(Summary) })

/** What became of a request to pause, stop or resume. */
export const Requested = Schema.Struct({
  /** Whether it asked for something else than what was wanted already. */
  changed: Schema.Boolean,
  /** Whether it survives a restart of the process. */
  kept: Schema.Boolean,
  pipeline: Summary
}).annotate({ identifier: "Requested" })
export type Requested = typeof Requested.Type

export const Offsets = Schema.Struct({
  received: Schema.String,
  acknowledged: Schema.String,
  tables: Schema.Array(Schema.Struct({
    table: Schema.String,
    /** Sequence of the last change that was received, and up to which the table is durable at the sink. */
    received: Schema.NullOr(Schema.String),
    durable: Schema.NullOr(Schema.String)
  }))
}).annotate({ identifier: "Offsets" })

export const ResyncRequests = Schema.Struct({
  requests: Schema.Array(Schema.Struct({
    id: Schema.String,
    table: Schema.String,
    at: Time,
    state: ResyncState
  }))
}).annotate({ identifier: "ResyncRequests" })

/** Dead letters without the values in them. */
export const DeadLetters = Schema.Struct({
  letters: Schema.Array(Schema.Struct({
    id: Schema.String,
    table: Schema.String,
    column: Schema.String,
    reason: Schema.String,
    operation: Schema.String,
    sequence: Schema.String,
    at: Time
  })),
  /** Whether there are more than were asked for. */
  more: Schema.Boolean
}).annotate({ identifier: "DeadLetters" })

export const Monitors = Schema.Struct({
  monitors: Schema.Array(Schema.Struct({
    name: Schema.String,
    conditions: Schema.Array(Condition),
    status: Schema.Json
  }))
}).annotate({ identifier: "Monitors" })

export const Plugins = Schema.Struct({
  plugins: Schema.Array(Schema.Struct({
    /** As the configuration names it. */
    name: Schema.String,
    kind: Schema.String,
    version: Schema.String,
    apiVersion: Schema.Int,
    stability: Schema.Literals(["experimental", "beta", "stable"]),
    summary: Schema.String,
    /** Absolute path of its module, who brought it, and the package that it comes in. */
    path: Schema.NullOr(Schema.String),
    origin: Schema.NullOr(Schema.Literals(["built-in", "project", "global", "file"])),
    package: Schema.NullOr(Schema.String),
    pipelines: Schema.Array(Schema.String)
  }))
}).annotate({ identifier: "Plugins" })

const event = <const Type extends string, Fields extends Schema.Struct.Fields>(type: Type, fields: Fields) =>
  Schema.Struct({ type: Schema.Literal(type), at: Time, ...fields })

const ofPipeline = { pipeline: Schema.String }

/** What happened, or how it stands. */
export const Event = Schema.Union([
  event("activity", { ...ofPipeline, from: Schema.NullOr(Activity), to: Schema.NullOr(Activity) }),
  event("table", {
    ...ofPipeline,
    table: Schema.String,
    from: Schema.NullOr(TablePhase),
    to: TablePhase
  }),
  event("condition", { ...ofPipeline, status: Schema.Literals(["raised", "cleared"]), condition: Condition }),
  event("error", { ...ofPipeline, error: Failure }),
  event("progress", { ...ofPipeline, progress: Summary }),
  event("lost", { events: Count })
]).annotate({ identifier: "Event" })
export type Event = typeof Event.Type

/** An element that passed from the source to the sink. Values are there only when they were asked for and are allowed. */
export const Sample = Schema.Union([
  event("element", {
    element: Schema.String,
    table: Schema.NullOr(Schema.String),
    rows: Count,
    operations: Schema.Record(Schema.String, Count),
    first: Schema.NullOr(Schema.String),
    last: Schema.NullOr(Schema.String),
    columns: Schema.Array(Schema.String),
    values: Schema.optionalKey(Schema.Array(Schema.Record(Schema.String, Schema.NullOr(Schema.String))))
  }),
  event("lost", { events: Count })
]).annotate({ identifier: "Sample" })
export type Sample = typeof Sample.Type
