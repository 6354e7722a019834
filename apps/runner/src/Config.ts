/**
 * The configuration file's model: what its keys are, before plugins have looked at their options.
 */
import * as ConfigOption from "@etl-stream/core/ConfigOption"
import type { Kind } from "@etl-stream/core/Plugin"
import * as TablePattern from "@etl-stream/core/TablePattern"
import * as Schema from "effect/Schema"
import { AlertRules } from "./alerts/AlertRule.ts"
import { isLoopback } from "./Loopback.ts"
import { Options as OtlpOptions } from "./OtlpOptions.ts"

/** Version of this model that a file names as `apiVersion`. */
export const apiVersion = 1

const noOptions: { readonly [key: string]: unknown } = {}

const Options = Schema.Record(Schema.String, Schema.Unknown).pipe(
  ConfigOption.withDefault(noOptions)
).annotateKey({ description: "The plugin's own options" })

const PluginName = Schema.NonEmptyString.annotateKey({
  description:
    "Name of a plugin package, a relative path (./transforms/mask.ts), or either with `:exportName` to pick one of several"
})

/** What an annotation `stage` says: which plugins may stand there, and which section may hold it under a name instead. */
export interface StageOf {
  readonly kind: Kind
  readonly named?: "sources" | "sinks"
}

export const isStageOf = (value: unknown): value is StageOf =>
  typeof value === "object" && value !== null && "kind" in value

declare module "effect/Schema" {
  namespace Annotations {
    interface Annotations {
      /** Of a mapping with `plugin` and `options`. */
      readonly stage?: StageOf | undefined
    }
  }
}

/** A plugin and its options. */
const stage = (kind: Kind) => Schema.Struct({ plugin: PluginName, options: Options }).annotate({ stage: { kind } })

const Pattern = Schema.String.check(
  Schema.makeFilter((text) => TablePattern.parse(text) !== undefined, {
    expected: "a table such as public.orders, or a pattern such as public.* or sales.order_*"
  })
)

/** A transform. Its patterns are by the names that tables have when they come to it. */
export const TransformStage = Schema.Struct({
  plugin: PluginName,
  tables: Schema.optionalKey(
    Schema.Array(Pattern).check(Schema.isMinLength(1, { expected: "at least one table" }))
  ).pipe(ConfigOption.withExamples(["public.users", "sales.*"])).annotateKey({
    description:
      "Tables that it is for, as schema.name or patterns with `*`, by the names that they have after the transforms before it; all others pass unchanged. Without it: all tables"
  }),
  options: Options
}).annotate({ stage: { kind: "transform" } })

export const Batch = Schema.Struct({
  rows: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 10_000_000 })).pipe(
    ConfigOption.withDefault(50_000)
  ).annotateKey({ description: "A table's batch is written at this many rows; at most 10000000" }),
  bytes: ConfigOption.ByteSize.pipe(ConfigOption.withDefault("8MiB")).annotateKey({
    description: "A table's batch is written at this size"
  }),
  every: ConfigOption.Period.pipe(ConfigOption.withDefault("1 second")).annotateKey({
    description: "A table's batch is written at this age at the latest"
  })
})

const emptyBatch = {}

const SinkStage = Schema.Struct({
  plugin: PluginName,
  options: Options,
  batch: Batch.pipe(ConfigOption.withDefault(emptyBatch)).annotateKey({
    description: "When a table's rows are written"
  })
}).annotate({ stage: { kind: "sink" } })

type StageEncoded = ReturnType<typeof stage>["Encoded"]

const noTransforms: ReadonlyArray<typeof TransformStage.Encoded> = []

const Watchdog = Schema.Struct({
  after: ConfigOption.Period.pipe(ConfigOption.withDefault("10 minutes")).annotateKey({
    description:
      "How long nothing may move while something is under way, or nothing may come from a source that promises a sign of life"
  }),
  restart: Schema.Boolean.pipe(ConfigOption.withDefault(true)).annotateKey({
    description:
      "Whether a pipeline that is stuck is started again, each time without success after twice as long; false: the condition `stalled` is raised, nothing else"
  })
})

const noWatchdog = {}

/** See `docs/spool.md`. */
export const Spool = Schema.Struct({
  directory: ConfigOption.Path.annotateKey({
    description:
      "Folder for the spools, one folder in it for each pipeline. It must outlast the process (in a container: a volume), be this runner's alone, and hold values of rows: only its owner can read it"
  }),
  maxBytes: ConfigOption.ByteSize.pipe(ConfigOption.withDefault("10GiB")).annotateKey({
    description:
      "Disk space that the spool may take. When it is used up, the source is read only as fast as the sink takes changes"
  }),
  when: Schema.Literals(["stalled", "asked"]).pipe(
    ConfigOption.withDefault("stalled")
  ).annotateKey({
    description:
      "When changes kept in the spool are confirmed to the source: `stalled` while the sink makes no progress for the time of `after`, and when a monitor asks for it; `asked` only when a monitor asks for it"
  }),
  after: ConfigOption.Period.pipe(ConfigOption.withDefault("1 minute")).annotateKey({
    description: "With `when: stalled`: how long the sink makes no progress before spooling begins"
  })
})

export const Pipeline = Schema.Struct({
  status: Schema.Literals(["running", "paused"]).pipe(
    ConfigOption.withDefault("running")
  ).annotateKey({
    description:
      "`running` or `paused`: a paused pipeline drains and waits until this says `running` again; its source keeps the log for it. It holds whatever is asked by `etl-stream resume`"
  }),
  source: stage("source").annotate({ stage: { kind: "source", named: "sources" } }).annotateKey({
    description: "Where changes come from; or the name of one of `sources`"
  }),
  transforms: Schema.Array(TransformStage).pipe(ConfigOption.withDefault(noTransforms)).annotateKey({
    description: "What is done to them on the way, in order"
  }),
  sink: SinkStage.annotate({ stage: { kind: "sink", named: "sinks" } }).annotateKey({
    description: "Where changes go; or the name of one of `sinks`"
  }),
  deadLetters: Schema.optionalKey(stage("deadLetters")).annotateKey({
    description:
      "Where values are kept that the sink can't write: a plugin such as @etl-stream/dead-letters-files. Without it such a value stops its table, unless the sink has a store of its own"
  }),
  spool: Schema.optionalKey(Spool).annotateKey({
    description: "Keeps changes on disk while the sink takes none, so that the source need not keep its log for them"
  }),
  onTableError: Schema.Literals(["quarantine", "stop"]).pipe(
    ConfigOption.withDefault("quarantine")
  ).annotateKey({
    description:
      "What is done about a table that can't go on (a refused row, a missing privilege): `quarantine` sets it aside with its reason and remedy until it is copied again by `etl-stream resync`, and the others go on; `stop` ends the pipeline, which keeps the source's log for it"
  }),
  watchdog: Watchdog.pipe(ConfigOption.withDefault(noWatchdog)).annotateKey({
    description: "When a pipeline counts as stuck, and what is done then"
  })
})

/** Slots, journals and logs are named after the pipeline. */
const PipelineName = Schema.String.check(
  Schema.isPattern(/^[A-Za-z][A-Za-z0-9_-]{0,62}$/u, {
    expected: "a name of 1 to 63 letters, digits, _ and -, beginning with a letter"
  })
)

/** Conditions, metrics and what a monitor remembers are named after it. */
const MonitorName = Schema.String.check(
  Schema.isPattern(/^[A-Za-z][A-Za-z0-9_-]{0,62}$/u, {
    expected: "a name of 1 to 63 letters, digits, _ and -, beginning with a letter"
  })
)

const noMonitors: { readonly [name: string]: StageEncoded } = {}

/** Sources and sinks that pipelines name instead of spelling them out. */
const StageName = Schema.String.check(
  Schema.isPattern(/^[A-Za-z][A-Za-z0-9_.-]{0,99}$/u, {
    expected: "a name of 1 to 100 letters, digits, _, . and -, beginning with a letter"
  })
)

/** Where state is kept when a configuration doesn't say. */
export const defaultState = { plugin: "@etl-stream/state-sqlite", options: { file: "./.etl-stream/state.sqlite" } }

const Telemetry = Schema.Struct({
  otlp: Schema.optionalKey(OtlpOptions).annotateKey({
    description:
      "Sends traces, metrics and logs to an OpenTelemetry collector; what isn't said here comes from OpenTelemetry's environment variables"
  })
})

const noTelemetry = {}

const NotifierName = Schema.String.check(
  Schema.isPattern(/^[A-Za-z][A-Za-z0-9_-]{0,62}$/u, {
    expected: "a name of 1 to 63 letters, digits, _ and -, beginning with a letter"
  })
)

const noNotifiers: { readonly [name: string]: StageEncoded } = {}
/** A shorter token could be found by trying. */
const shortestToken = 24

const noHosts: ReadonlyArray<string> = []

/** The keys of `http`, also for when the API is switched on without the section. */
export const Http = Schema.Struct({
  host: Schema.NonEmptyString.pipe(ConfigOption.withDefault("127.0.0.1")).annotateKey({
    description:
      "Address to listen on. Only this machine reaches 127.0.0.1; any other needs a `token`, and belongs behind a proxy with TLS"
  }),
  port: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 65535 })).pipe(
    ConfigOption.withDefault(8086)
  ).annotateKey({ description: "Port to listen on; 0 takes any that is free and logs which" }),
  token: Schema.optionalKey(
    Schema.RedactedFromValue(
      Schema.String.check(
        Schema.isPattern(/^[\x21-\x7e]+$/u, { expected: "printable ASCII characters without spaces" }),
        Schema.isMinLength(shortestToken, { expected: `at least ${shortestToken} characters` })
      )
    )
  ).annotateKey({
    description:
      `What clients send as \`Authorization: Bearer\`, at least ${shortestToken} characters; needed when \`host\` is not loopback. It gives full control of the pipelines`
  }),
  hosts: Schema.Array(Schema.NonEmptyString).pipe(ConfigOption.withDefault(noHosts)).annotateKey({
    description:
      "Further host names by which it may be asked for when it listens on loopback, such as that of a proxy; localhost and 127.0.0.1 are always among them"
  }),
  tapValues: Schema.Boolean.pipe(ConfigOption.withDefault(false)).annotateKey({
    description: "Whether `tap` may show values of rows to whoever has access to the API, when asked for"
  })
}).check(
  Schema.makeFilter(({ host, token }) =>
    token === undefined && !isLoopback(host)
      ? { path: ["host"], issue: "loopback (127.0.0.1, ::1 or localhost), or else a `token` beside it" }
      : undefined
  )
)

/** What `http: {}` stands for. */
export const defaultHttp = Schema.decodeUnknownEffect(Http)({})

export const Config = Schema.Struct({
  apiVersion: Schema.Literal(apiVersion).annotateKey({ description: "Version of this file's format: 1" }),
  memory: ConfigOption.ByteSize.pipe(ConfigOption.withDefault("32MiB")).annotateKey({
    description: "Budget for rows in flight, shared by all pipelines"
  }),
  state: stage("state").pipe(ConfigOption.withDefault(defaultState)).annotateKey({
    description: "Where small state is cached"
  }),
  telemetry: Telemetry.pipe(ConfigOption.withDefault(noTelemetry)).annotateKey({
    description: "Where telemetry goes"
  }),
  notifiers: Schema.Record(NotifierName, stage("notifier")).pipe(
    ConfigOption.withDefault(noNotifiers)
  ).annotateKey({ description: "Ways to tell people about alerts, by name" }),
  alerts: AlertRules.annotateKey({ description: "What to tell them, and when: a list of rules" }),
  monitors: Schema.Record(MonitorName, stage("monitor")).pipe(ConfigOption.withDefault(noMonitors))
    .annotateKey({
      description:
        "What watches over the pipelines, by name: plugins such as @etl-stream/monitor-wal, each with its options"
    }),
  http: Schema.optionalKey(Http).annotateKey({
    description: "Serves the HTTP API: status, control, events, metrics. Off without this section or `--http`"
  }),
  sources: Schema.optionalKey(Schema.Record(StageName, stage("source"))).annotateKey({
    description: "Sources by name, for pipelines that share one: `source: <name>` there"
  }),
  sinks: Schema.optionalKey(Schema.Record(StageName, SinkStage)).annotateKey({
    description: "Sinks by name, for pipelines that share one: `sink: <name>` there"
  }),
  pipelines: Schema.Record(PipelineName, Pipeline).check(
    Schema.makeFilter((pipelines) => Object.keys(pipelines).length > 0, { expected: "at least one pipeline" })
  ).annotateKey({ description: "The pipelines by name, each with a source and a sink" })
})
export type Config = typeof Config.Type

/** The same for where no pipeline need be there yet: a configuration database. */
export const GrowingConfig = Schema.Struct({ ...Config.fields, pipelines: Schema.Record(PipelineName, Pipeline) })
