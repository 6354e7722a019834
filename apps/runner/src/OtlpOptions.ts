/**
 * The options of `telemetry.otlp`.
 */
import * as Duration from "effect/Duration"
import * as Schema from "effect/Schema"

const Period = Schema.DurationFromString.check(
  Schema.makeFilter((duration) => Duration.isFinite(duration) && Duration.toMillis(duration) >= 1, {
    expected: "a duration of at least 1 millisecond (not infinite)"
  })
)

export const Options = Schema.Struct({
  endpoint: Schema.optionalKey(
    Schema.String.check(Schema.isPattern(/^https?:\/\/\S+$/u, { expected: "an http:// or https:// URL" }))
  ).annotateKey({
    description:
      "Base URL of an OpenTelemetry collector that takes OTLP over HTTP, for example http://localhost:4318. Default: OTEL_EXPORTER_OTLP_ENDPOINT and the like, else http://localhost:4318"
  }),
  headers: Schema.optionalKey(
    Schema.Record(Schema.NonEmptyString, Schema.RedactedFromValue(Schema.String))
  ).annotateKey({
    description: "Headers of every request, for example for authentication; secrets, like all their values"
  }),
  protocol: Schema.optionalKey(Schema.Literals(["protobuf", "json"])).annotateKey({
    description: "How requests are encoded. Default: OTEL_EXPORTER_OTLP_PROTOCOL, else protobuf; gRPC is not spoken"
  }),
  compression: Schema.optionalKey(Schema.Literals(["none", "gzip"])).annotateKey({
    description: "How requests are compressed. Default: OTEL_EXPORTER_OTLP_COMPRESSION, else none"
  }),
  timeout: Schema.optionalKey(Period).annotateKey({
    description: "How long a request may take. Default: OTEL_EXPORTER_OTLP_TIMEOUT, else 10 seconds"
  }),
  signals: Schema.optionalKey(Schema.Array(Schema.Literals(["traces", "metrics", "logs"]))).annotateKey({
    description: "What is sent: any of traces, metrics and logs. Default: all but those whose OTEL_…_EXPORTER is none"
  }),
  sampling: Schema.optionalKey(Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: 1 }))).annotateKey({
    description: "Part of the traces that is recorded, from 0 to 1. Default: OTEL_TRACES_SAMPLER, else all"
  }),
  interval: Schema.optionalKey(Period).annotateKey({
    description: "How often metrics are sent. Default: OTEL_METRIC_EXPORT_INTERVAL, else 60 seconds"
  })
})
