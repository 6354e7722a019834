/**
 * The configuration file's model: what its keys are, before plugins have looked at their options.
 */
import { ByteSize } from "@etl-stream/core/ByteSize"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { AlertRules } from "./alerts/AlertRule.ts"
import { isLoopback } from "./Loopback.ts"
import { Options as OtlpOptions } from "./OtlpOptions.ts"

/** Version of this model that a file names as `apiVersion`. */
export const apiVersion = 1

/** A duration above zero, written as a number and a unit. */
const Period = Schema.DurationFromString.check(
  Schema.makeFilter((duration) => Duration.isFinite(duration) && Duration.toMillis(duration) > 0, {
    expected: "a duration above 0 (not infinite)"
  })
)

const noOptions: { readonly [key: string]: unknown } = {}

const Options = Schema.Record(Schema.String, Schema.Unknown).pipe(
  Schema.withDecodingDefaultKey(Effect.succeed(noOptions))
).annotateKey({ description: "The plugin's own options" })

const PluginName = Schema.NonEmptyString.annotateKey({
  description:
    "Name of a plugin package, a relative path (./transforms/mask.ts), or either with `:exportName` to pick one of several"
})

/** A plugin and its options. */
export const Stage = Schema.Struct({ plugin: PluginName, options: Options })

export const Batch = Schema.Struct({
  rows: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 10_000_000 })).pipe(
    Schema.withDecodingDefaultKey(Effect.succeed(50_000))
  ).annotateKey({ description: "A table's batch is written at this many rows; at most 10000000. Default 50000" }),
  bytes: ByteSize.pipe(Schema.withDecodingDefaultKey(Effect.succeed("16MiB"))).annotateKey({
    description: "A table's batch is written at this size, for example 16MiB (the default)"
  }),
  every: Period.pipe(Schema.withDecodingDefaultKey(Effect.succeed("1 second"))).annotateKey({
    description: "A table's batch is written at this age at the latest, for example 1 second (the default)"
  })
})

const emptyBatch = {}

export const SinkStage = Schema.Struct({
  plugin: PluginName,
  options: Options,
  batch: Batch.pipe(Schema.withDecodingDefaultKey(Effect.succeed(emptyBatch))).annotateKey({
    description: "When a table's rows are written"
  })
})

const noTransforms: ReadonlyArray<typeof Stage.Encoded> = []

const Watchdog = Schema.Struct({
  after: Period.pipe(Schema.withDecodingDefaultKey(Effect.succeed("10 minutes"))).annotateKey({
    description:
      "How long nothing may move while something is under way, or nothing may come from a source that promises a sign of life, for example 10 minutes (the default)"
  }),
  restart: Schema.Boolean.pipe(Schema.withDecodingDefaultKey(Effect.succeed(true))).annotateKey({
    description:
      "Whether a pipeline that is stuck is started again (the default), each time without success after twice as long; false: the condition `stalled` is raised, nothing else"
  })
})

const noWatchdog = {}

/** See `docs/spool.md`. */
export const Spool = Schema.Struct({
  directory: Schema.NonEmptyString.annotateKey({
    description:
      "Folder for the spools, one folder in it for each pipeline. It must outlast the process (in a container: a volume), be this runner's alone, and hold values of rows: only its owner can read it"
  }),
  maxBytes: ByteSize.pipe(Schema.withDecodingDefaultKey(Effect.succeed("10GiB"))).annotateKey({
    description:
      "Disk space that the spool may take, for example 10GiB (the default). When it is used up, the source is read only as fast as the sink takes changes"
  }),
  when: Schema.Literals(["stalled", "asked"]).pipe(
    Schema.withDecodingDefaultKey(Effect.succeed("stalled" as const))
  ).annotateKey({
    description:
      "When changes kept in the spool are confirmed to the source: `stalled` (the default) while the sink makes no progress for the time of `after`, and when a monitor asks for it; `asked` only when a monitor asks for it"
  }),
  after: Period.pipe(Schema.withDecodingDefaultKey(Effect.succeed("1 minute"))).annotateKey({
    description: "With `when: stalled`: how long the sink makes no progress before spooling begins. Default 1 minute"
  })
})

export const Pipeline = Schema.Struct({
  status: Schema.Literals(["running", "paused"]).pipe(
    Schema.withDecodingDefaultKey(Effect.succeed("running" as const))
  ).annotateKey({
    description:
      "`running` (the default) or `paused`: a paused pipeline drains and waits until this says `running` again; its source keeps the log for it. It holds whatever is asked by `etl-stream resume`"
  }),
  source: Stage.annotateKey({ description: "Where changes come from; or the name of one of `sources`" }),
  transforms: Schema.Array(Stage).pipe(Schema.withDecodingDefaultKey(Effect.succeed(noTransforms))).annotateKey({
    description: "What is done to them on the way, in order"
  }),
  sink: SinkStage.annotateKey({ description: "Where changes go; or the name of one of `sinks`" }),
  deadLetters: Schema.optionalKey(Stage).annotateKey({
    description:
      "Where values are kept that the sink can't write: a plugin such as @etl-stream/dead-letters-files. Without it such a value stops its table, unless the sink has a store of its own"
  }),
  spool: Schema.optionalKey(Spool).annotateKey({
    description: "Keeps changes on disk while the sink takes none, so that the source need not keep its log for them"
  }),
  onTableError: Schema.Literals(["quarantine", "stop"]).pipe(
    Schema.withDecodingDefaultKey(Effect.succeed("quarantine" as const))
  ).annotateKey({
    description:
      "What is done about a table that can't go on (a refused row, a missing privilege): `quarantine` (the default) sets it aside with its reason and remedy until it is copied again by `etl-stream resync`, and the others go on; `stop` ends the pipeline, which keeps the source's log for it"
  }),
  watchdog: Watchdog.pipe(Schema.withDecodingDefaultKey(Effect.succeed(noWatchdog))).annotateKey({
    description: "When a pipeline counts as stuck, and what is done then"
  })
})

/** Slots, journals and logs are named after the pipeline. */
const PipelineName = Schema.String.check(
  Schema.isPattern(/^[A-Za-z][A-Za-z0-9_-]{0,62}$/, {
    expected: "a name of 1 to 63 letters, digits, _ and -, beginning with a letter"
  })
)

/** Conditions, metrics and what a monitor remembers are named after it. */
const MonitorName = Schema.String.check(
  Schema.isPattern(/^[A-Za-z][A-Za-z0-9_-]{0,62}$/, {
    expected: "a name of 1 to 63 letters, digits, _ and -, beginning with a letter"
  })
)

const noMonitors: { readonly [name: string]: typeof Stage.Encoded } = {}

/** Sources and sinks that pipelines name instead of spelling them out. */
const StageName = Schema.String.check(
  Schema.isPattern(/^[A-Za-z][A-Za-z0-9_.-]{0,99}$/, {
    expected: "a name of 1 to 100 letters, digits, _, . and -, beginning with a letter"
  })
)

const defaultState = { plugin: "@etl-stream/state-sqlite", options: { file: "./.etl-stream/state.sqlite" } }

const Telemetry = Schema.Struct({
  otlp: Schema.optionalKey(OtlpOptions).annotateKey({
    description:
      "Sends traces, metrics and logs to an OpenTelemetry collector; what isn't said here comes from OpenTelemetry's environment variables"
  })
})

const noTelemetry = {}

const NotifierName = Schema.String.check(
  Schema.isPattern(/^[A-Za-z][A-Za-z0-9_-]{0,62}$/, {
    expected: "a name of 1 to 63 letters, digits, _ and -, beginning with a letter"
  })
)

const noNotifiers: { readonly [name: string]: typeof Stage.Encoded } = {}
/** A shorter token could be found by trying. */
const shortestToken = 24

const noHosts: ReadonlyArray<string> = []

/** The keys of `http`, also for when the API is switched on without the section. */
export const Http = Schema.Struct({
  host: Schema.NonEmptyString.pipe(Schema.withDecodingDefaultKey(Effect.succeed("127.0.0.1"))).annotateKey({
    description:
      "Address to listen on; default 127.0.0.1, which only this machine reaches. Any other needs a `token`, and belongs behind a proxy with TLS"
  }),
  port: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 65535 })).pipe(
    Schema.withDecodingDefaultKey(Effect.succeed(8086))
  ).annotateKey({ description: "Port to listen on, 8086 by default; 0 takes any that is free and logs which" }),
  token: Schema.optionalKey(
    Schema.RedactedFromValue(
      Schema.String.check(
        Schema.isPattern(/^[\x21-\x7e]+$/, { expected: "printable ASCII characters without spaces" }),
        Schema.isMinLength(shortestToken, { expected: `at least ${shortestToken} characters` })
      )
    )
  ).annotateKey({
    description:
      `What clients send as \`Authorization: Bearer\`, at least ${shortestToken} characters; needed when \`host\` is not loopback. It gives full control of the pipelines`
  }),
  hosts: Schema.Array(Schema.NonEmptyString).pipe(Schema.withDecodingDefaultKey(Effect.succeed(noHosts))).annotateKey({
    description:
      "Further host names by which it may be asked for when it listens on loopback, such as that of a proxy; localhost and 127.0.0.1 are always among them"
  }),
  tapValues: Schema.Boolean.pipe(Schema.withDecodingDefaultKey(Effect.succeed(false))).annotateKey({
    description:
      "Whether `tap` may show values of rows to whoever has access to the API, when asked for; default false: never"
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
  memory: ByteSize.pipe(Schema.withDecodingDefaultKey(Effect.succeed("64MiB"))).annotateKey({
    description: "Budget for rows in flight, shared by all pipelines, for example 64MiB (the default)"
  }),
  state: Stage.pipe(Schema.withDecodingDefaultKey(Effect.succeed(defaultState))).annotateKey({
    description: "Where small state is cached; default a SQLite file at ./.etl-stream/state.sqlite"
  }),
  telemetry: Telemetry.pipe(Schema.withDecodingDefaultKey(Effect.succeed(noTelemetry))).annotateKey({
    description: "Where telemetry goes"
  }),
  notifiers: Schema.Record(NotifierName, Stage).pipe(
    Schema.withDecodingDefaultKey(Effect.succeed(noNotifiers))
  ).annotateKey({ description: "Ways to tell people about alerts, by name" }),
  alerts: AlertRules.annotateKey({ description: "What to tell them, and when: a list of rules" }),
  monitors: Schema.Record(MonitorName, Stage).pipe(Schema.withDecodingDefaultKey(Effect.succeed(noMonitors)))
    .annotateKey({
      description:
        "What watches over the pipelines, by name: plugins such as @etl-stream/monitor-wal, each with its options"
    }),
  http: Schema.optionalKey(Http).annotateKey({
    description: "Serves the HTTP API: status, control, events, metrics. Off without this section or `--http`"
  }),
  sources: Schema.optionalKey(Schema.Record(StageName, Stage)).annotateKey({
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
