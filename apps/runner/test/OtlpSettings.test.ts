import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as fc from "fast-check"
import * as OtlpSettings from "../src/OtlpSettings.ts"

const make = (otlp: Parameters<typeof OtlpSettings.make>[0], environment: OtlpSettings.Environment = {}) =>
  OtlpSettings.make(otlp, environment)

const on = ({ exporters }: OtlpSettings.Settings) =>
  OtlpSettings.signals.filter((signal) => exporters[signal] !== undefined)

describe("OtlpSettings", () => {
  it.effect("exports nothing that nobody asked for", () =>
    Effect.gen(function*() {
      assert.isFalse(OtlpSettings.isOn(yield* make(undefined)))
      assert.isFalse(
        OtlpSettings.isOn(yield* make(undefined, { OTEL_SERVICE_NAME: "x", OTEL_EXPORTER_OTLP_ENDPOINT: " " }))
      )
      assert.deepStrictEqual(on(yield* make({})), ["traces", "metrics", "logs"])
      assert.deepStrictEqual(on(yield* make(undefined, { OTEL_EXPORTER_OTLP_LOGS_ENDPOINT: "http://c/logs" })), [
        "logs"
      ])
      assert.deepStrictEqual(on(yield* make(undefined, { OTEL_TRACES_EXPORTER: "otlp" })), ["traces"])
      assert.deepStrictEqual(on(yield* make({ signals: ["metrics"] }, { OTEL_METRICS_EXPORTER: "none" })), ["metrics"])
      assert.deepStrictEqual(on(yield* make({}, { OTEL_METRICS_EXPORTER: "none" })), ["traces", "logs"])
      assert.deepStrictEqual(on(yield* make({}, { OTEL_SDK_DISABLED: "TRUE" })), [])
    }))

  it.effect("takes what the file says, then the environment, then the defaults", () =>
    Effect.gen(function*() {
      const environment = {
        OTEL_METRIC_EXPORT_INTERVAL: "1000",
        OTEL_TRACES_SAMPLER: "traceidratio",
        OTEL_TRACES_SAMPLER_ARG: "0.25",
        OTEL_BLRP_MAX_QUEUE_SIZE: "100",
        OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: "http/json"
      }
      const own = yield* make(
        { endpoint: "https://c:4318//", interval: Duration.seconds(5), sampling: 0.5 },
        environment
      )
      assert.deepInclude(own, { metricsEveryMillis: 5000, metricsTimeoutMillis: 5000 })
      assert.deepStrictEqual(own.sampling, { parentBased: true, ratio: 0.5 })
      assert.strictEqual(own.exporters.traces?.url, "https://c:4318/v1/traces")
      const theirs = yield* make({}, environment)
      assert.deepInclude(theirs, { metricsEveryMillis: 1000, metricsTimeoutMillis: 1000, warnings: [] })
      assert.deepStrictEqual(theirs.sampling, { parentBased: false, ratio: 0.25 })
      assert.deepStrictEqual([theirs.exporters.traces?.protocol, theirs.exporters.logs?.protocol], ["json", "protobuf"])
      assert.deepInclude(theirs.batching.logs, { maxQueueSize: 100, maxExportBatchSize: 100 })
      const defaults = yield* make({})
      assert.deepInclude(defaults, { metricsEveryMillis: 60_000, metricsTimeoutMillis: 30_000 })
      assert.deepStrictEqual(defaults.sampling, { parentBased: true, ratio: 1 })
    }))

  it.effect("hides headers and passwords of the environment and the file, however they are encoded", () =>
    Effect.gen(function*() {
      const { secrets } = yield* make({ headers: { authorization: Redacted.make("Bearer from-file") } }, {
        OTEL_EXPORTER_OTLP_HEADERS: "a=Basic%20from-headers,b=raw%-value",
        OTEL_EXPORTER_OTLP_LOGS_HEADERS: "c=from-logs",
        OTEL_EXPORTER_OTLP_ENDPOINT: "http://user:from-url@c:4318"
      })
      for (const secret of ["from-file", "from-headers", "raw%-value", "from-logs", "from-url"]) {
        assert.isTrue(secrets.has(secret), secret)
      }
    }))

  it.effect("leaves unusable values out with a warning that doesn't quote them", () =>
    Effect.promise(() =>
      fc.assert(fc.asyncProperty(
        fc.constantFrom(
          "OTEL_BSP_MAX_QUEUE_SIZE",
          "OTEL_METRIC_EXPORT_INTERVAL",
          "OTEL_BLRP_EXPORT_TIMEOUT",
          "OTEL_TRACES_SAMPLER",
          "OTEL_EXPORTER_OTLP_PROTOCOL"
        ),
        fc.string().filter((text) => text.trim() !== "" && !/^\s*\d+(\.0*)?(e\d+)?\s*$|^\s*0[xob]/i.test(text)),
        (name, value) =>
          Effect.runPromise(Effect.gen(function*() {
            const odd = yield* make({}, { [name]: `?${value}` })
            const { warnings } = odd
            assert.strictEqual(new Set(warnings).size, 1)
            assert.include(warnings[0], name)
            assert.deepStrictEqual({ ...odd, warnings: [] }, yield* make({}))
          }))
      ))
    ))
})
