/**
 * The configuration file's model: what its keys are, before plugins have looked at their options.
 */
import { ByteSize } from "@etl-stream/core/ByteSize"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

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
      "When changes kept in the spool are confirmed to the source: `stalled` (the default) while the sink makes no progress for the time of `after`, and when it is asked for; `asked` only when it is asked for, by a monitor or through the API"
  }),
  after: Period.pipe(Schema.withDecodingDefaultKey(Effect.succeed("1 minute"))).annotateKey({
    description: "With `when: stalled`: how long the sink makes no progress before spooling begins. Default 1 minute"
  })
})

export const Pipeline = Schema.Struct({
  source: Stage.annotateKey({ description: "Where changes come from" }),
  transforms: Schema.Array(Stage).pipe(Schema.withDecodingDefaultKey(Effect.succeed(noTransforms))).annotateKey({
    description: "What is done to them on the way, in order"
  }),
  sink: SinkStage.annotateKey({ description: "Where changes go" }),
  spool: Schema.optionalKey(Spool).annotateKey({
    description: "Keeps changes on disk while the sink takes none, so that the source need not keep its log for them"
  }),
  onTableError: Schema.Literals(["quarantine", "stop"]).pipe(
    Schema.withDecodingDefaultKey(Effect.succeed("quarantine" as const))
  ).annotateKey({
    description:
      "What is done about a table that can't go on (a refused row, a missing privilege): `quarantine` (the default) sets it aside with its reason and remedy until it is copied again by `etl-stream resync`, and the others go on; `stop` ends the pipeline, which keeps the source's log for it"
  })
})

/** Slots, journals and logs are named after the pipeline. */
const PipelineName = Schema.String.check(
  Schema.isPattern(/^[A-Za-z][A-Za-z0-9_-]{0,62}$/, {
    expected: "a name of 1 to 63 letters, digits, _ and -, beginning with a letter"
  })
)

const defaultState = { plugin: "@etl-stream/state-sqlite", options: { file: "./.etl-stream/state.sqlite" } }

const Telemetry = Schema.Struct({
  otlp: Schema.optionalKey(
    Schema.Struct({
      endpoint: Schema.String.check(Schema.isPattern(/^https?:\/\/\S+$/, { expected: "an http:// or https:// URL" }))
        .annotateKey({
          description:
            "Base URL of an OpenTelemetry collector that takes OTLP over HTTP, for example http://localhost:4318"
        })
    })
  ).annotateKey({ description: "Sends traces, metrics and logs to an OpenTelemetry collector" })
})

const noTelemetry = {}

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
  pipelines: Schema.Record(PipelineName, Pipeline).check(
    Schema.makeFilter((pipelines) => Object.keys(pipelines).length > 0, { expected: "at least one pipeline" })
  ).annotateKey({ description: "The pipelines by name, each with a source and a sink" })
})
export type Config = typeof Config.Type
