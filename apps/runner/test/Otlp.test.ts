/**
 * Telemetry of the real command, as a collector gets it.
 */
import { assert, describe } from "@effect/vitest"
import * as Telemetry from "@etl-stream/core/Telemetry"
import * as MetricsOfWalMonitor from "@etl-stream/monitor-wal/Metrics"
import * as MetricsOfPostgres from "@etl-stream/source-postgres/Metrics"
import * as OtlpReceiver from "@etl-stream/testkit/OtlpReceiver"
import * as Effect from "effect/Effect"
import * as AlertMetrics from "../src/alerts/AlertMetrics.ts"
import * as TelemetryDelivery from "../src/TelemetryDelivery.ts"
import { errorOf, scenario } from "./CommandFixture.ts"
import * as Fixture from "./Fixture.ts"

const definitions = new Map(
  [
    ...Telemetry.metrics,
    ...MetricsOfPostgres.metrics,
    ...MetricsOfWalMonitor.metrics,
    ...AlertMetrics.metrics,
    TelemetryDelivery.dropped
  ].map(({ definition }) => [definition.name, definition])
)

/** Writes a configuration with this `telemetry` section in front. */
const configured = (directory: string, otlp: string, source = "password: tell-nobody", sink?: string): string =>
  Fixture.write(
    directory,
    "c.yaml",
    `${otlp === "" ? "" : `telemetry: {otlp: {${otlp}}}\n`}${Fixture.onePipeline(source, sink)}`
  )

const kindOf = (metric: OtlpReceiver.Metric): string =>
  metric.gauge !== undefined
    ? "gauge"
    : metric.histogram !== undefined
    ? "histogram"
    : metric.sum?.isMonotonic === true
    ? "counter"
    : "updown"

const pointsOf = ({ gauge, histogram, sum }: OtlpReceiver.Metric) =>
  gauge?.dataPoints ?? histogram?.dataPoints ?? sum?.dataPoints ?? []

const everything = ({ requests }: OtlpReceiver.Receiver): string =>
  requests.map(({ headers, text }) => JSON.stringify({ ...headers, "x-key": "", authorization: "" }) + text).join("\n")

describe("telemetry over OTLP", () => {
  for (const protocol of ["json", "protobuf"] as const) {
    scenario(
      `traces, metrics and logs arrive as ${protocol} in the form that the protocol prescribes`,
      (directory) =>
        Effect.gen(function*() {
          const receiver = yield* OtlpReceiver.start()
          const file = configured(
            directory,
            `endpoint: "${receiver.endpoint}/", protocol: ${protocol}, headers: {X-Key: swordfish-1}, interval: 500 millis`
          )
          const ended = yield* Fixture.run(["run", file])
          assert.strictEqual(ended.code, 0, ended.stderr)
          assert.deepStrictEqual(receiver.problems, [])
          assert.deepStrictEqual(
            [...new Set(receiver.requests.map(({ path }) => path))].sort(),
            ["/v1/logs", "/v1/metrics", "/v1/traces"]
          )
          for (const { headers } of receiver.requests) assert.strictEqual(headers["x-key"], "swordfish-1")
          for (const resource of receiver.resources) {
            assert.deepInclude(resource, { "service.name": "etl-stream" })
            assert.match(String(resource["service.version"]), /^\d+\.\d+\.\d+/)
          }

          const metrics = new Map(receiver.metrics().map((metric) => [metric.name, metric]))
          for (const [name, metric] of metrics) {
            const definition = definitions.get(name)
            assert.isDefined(definition, name)
            assert.strictEqual(definition?.kind, kindOf(metric), name)
            assert.deepStrictEqual([definition?.unit, definition?.description], [metric.unit, metric.description])
            for (const { attributes } of pointsOf(metric)) {
              for (const { key } of attributes) assert.include(definition?.attributes, key, name)
            }
          }
          const produced = pointsOf(metrics.get(Telemetry.Names.producedRecords) ?? { name: "" })
          assert.deepStrictEqual(
            produced.map((point) => [OtlpReceiver.record(point.attributes), "asDouble" in point && point.asDouble]),
            [[{
              "etl_stream.pipeline": "numbers",
              "etl_stream.table": "public.numbers",
              "etl_stream.component": "source"
            }, 8]]
          )

          const named = (name: string) => receiver.spans.filter((span) => span.name === name)
          const ids = (name: string) => new Set(named(name).map(({ spanId }) => spanId))
          const [received, written] = [ids(Telemetry.Spans.receive), ids(Telemetry.Spans.write)]
          const rows = named(Telemetry.Spans.write).filter(({ attributes }) =>
            OtlpReceiver.record(attributes)["etl_stream.element"] === "Rows"
          )
          assert.isAbove(rows.length, 0)
          for (const { links } of rows) {
            assert.isAbove(links.length, 0)
            for (const { spanId } of links) assert.isTrue(received.has(spanId))
          }
          assert.strictEqual(
            new Set(rows.flatMap(({ links }) => links.map(({ spanId }) => spanId))).size,
            5,
            "every batch of changes is linked to"
          )
          const durable = named(Telemetry.Spans.durable)
          assert.isAbove(durable.length, 0)
          for (const { links } of durable) {
            assert.isAbove(links.length, 0)
            for (const { spanId } of links) assert.isTrue(written.has(spanId))
          }
          for (const { parentSpanId } of [...rows, ...durable]) assert.include([undefined, ""], parentSpanId)

          const starts = receiver.logs.find(({ body }) => body.stringValue === "The pipeline runs")
          assert.deepInclude(starts, { severityNumber: 9, severityText: "INFO" })
          assert.deepInclude(OtlpReceiver.record(starts?.attributes ?? []), {
            "etl_stream.pipeline": "numbers",
            tables: 1
          })
          for (const secret of ["tell-nobody", "swordfish-1"]) {
            assert.notInclude(everything(receiver), secret)
            assert.notInclude(ended.stderr, secret)
          }
        })
    )
  }

  scenario(
    "what a library or plugin quotes of secrets is hidden in logs and spans, as on standard error",
    (directory) =>
      Effect.gen(function*() {
        const receiver = yield* OtlpReceiver.start()
        const file = configured(
          directory,
          `endpoint: "${receiver.endpoint}"`,
          "password: tell-nobody, secret: nor-this, fails: {at: leak, reason: Unauthorized}"
        )
        const ended = yield* Fixture.run(["run", file, "--log-level", "debug"])
        assert.strictEqual(ended.code, 3, ended.stderr)
        assert.deepStrictEqual(receiver.problems, [])
        assert.isTrue(receiver.logs.some(({ body }) => body.stringValue === "logging in with <redacted> <redacted>"))
        assert.notMatch(everything(receiver) + ended.stderr, /tell-nobody|nor-this/)
      })
  )

  scenario("the environment alone is enough, and every variable counts", (directory) =>
    Effect.gen(function*() {
      const receiver = yield* OtlpReceiver.start()
      const ended = yield* Fixture.run(["run", configured(directory, "")], {
        env: {
          OTEL_EXPORTER_OTLP_ENDPOINT: `${receiver.endpoint}/base`,
          OTEL_EXPORTER_OTLP_HEADERS: "authorization=Bearer%20swordfish-2,x-other=plain-other",
          OTEL_EXPORTER_OTLP_TRACES_HEADERS: "x-other=of-traces",
          OTEL_EXPORTER_OTLP_PROTOCOL: "http/protobuf",
          OTEL_EXPORTER_OTLP_METRICS_PROTOCOL: "http/json",
          OTEL_EXPORTER_OTLP_COMPRESSION: "gzip",
          OTEL_EXPORTER_OTLP_TIMEOUT: "5000",
          OTEL_SERVICE_NAME: "shop",
          OTEL_RESOURCE_ATTRIBUTES: "deployment.environment.name=test,service.name=overridden",
          OTEL_LOGS_EXPORTER: "none",
          OTEL_METRIC_EXPORT_INTERVAL: "20",
          OTEL_BSP_SCHEDULE_DELAY: "50"
        }
      })
      assert.strictEqual(ended.code, 0, ended.stderr)
      assert.deepStrictEqual(receiver.problems, [])
      const headersOf = (path: string) => receiver.requests.find((request) => request.path === path)?.headers
      assert.deepInclude(headersOf("/base/v1/traces"), {
        authorization: "Bearer swordfish-2",
        "x-other": "of-traces",
        "content-type": "application/x-protobuf",
        "content-encoding": "gzip"
      })
      assert.deepInclude(headersOf("/base/v1/metrics"), {
        "x-other": "plain-other",
        "content-type": "application/json"
      })
      assert.strictEqual(headersOf("/base/v1/logs"), undefined)
      assert.isAbove(receiver.requests.filter(({ path }) => path.endsWith("metrics")).length, 1)
      for (const resource of receiver.resources) {
        assert.deepInclude(resource, { "service.name": "shop", "deployment.environment.name": "test" })
      }
      assert.notInclude(ended.stderr, "swordfish-2")
    }))

  scenario(
    "an endpoint of one signal is taken as it is, and the sampler decides about traces",
    (directory) =>
      Effect.gen(function*() {
        const receiver = yield* OtlpReceiver.start()
        const ended = yield* Fixture.run(["run", configured(directory, "")], {
          env: {
            OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: `${receiver.endpoint}/my/metrics`,
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: `${receiver.endpoint}/my/traces`,
            OTEL_TRACES_SAMPLER: "parentbased_traceidratio",
            OTEL_TRACES_SAMPLER_ARG: "0"
          }
        })
        assert.strictEqual(ended.code, 0, ended.stderr)
        assert.deepStrictEqual(receiver.problems, [])
        assert.deepStrictEqual([...new Set(receiver.requests.map(({ path }) => path))], ["/my/metrics"])
      })
  )

  scenario(
    "what the configuration says comes before the environment, and OTEL_SDK_DISABLED before both",
    (directory) =>
      Effect.gen(function*() {
        const [receiver, other] = [yield* OtlpReceiver.start(), yield* OtlpReceiver.start()]
        const file = configured(
          directory,
          `endpoint: "${receiver.endpoint}", protocol: json, signals: [logs], headers: {x-key: ours}`
        )
        const env = {
          OTEL_EXPORTER_OTLP_ENDPOINT: other.endpoint,
          OTEL_EXPORTER_OTLP_PROTOCOL: "grpc",
          OTEL_EXPORTER_OTLP_HEADERS: "x-key=theirs,x-more=theirs",
          OTEL_LOGS_EXPORTER: "none"
        }
        const ended = yield* Fixture.run(["run", file], { env })
        assert.strictEqual(ended.code, 0, ended.stderr)
        assert.deepStrictEqual([...new Set(receiver.requests.map(({ path }) => path))], ["/v1/logs"])
        assert.deepInclude(receiver.requests[0]?.headers, { "x-key": "ours", "x-more": "theirs" })
        const before = receiver.requests.length
        const disabled = yield* Fixture.run(["run", file], { env: { ...env, OTEL_SDK_DISABLED: "true" } })
        assert.strictEqual(disabled.code, 0, disabled.stderr)
        assert.strictEqual(receiver.requests.length, before)
        assert.deepStrictEqual(other.requests, [])
      })
  )

  scenario(
    "gRPC and endpoints without a scheme are errors that say what to do; other odd values are warnings",
    (directory) =>
      Effect.gen(function*() {
        const file = configured(directory, "")
        const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:1" }
        const grpc = yield* Fixture.run(["run", file, "--json"], {
          env: { ...endpoint, OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" }
        })
        assert.strictEqual(grpc.code, 2)
        assert.include(String(errorOf(grpc)["message"]), "OTEL_EXPORTER_OTLP_PROTOCOL asks for OTLP over gRPC")
        assert.include(String(errorOf(grpc)["hint"]), "4318")
        const bare = yield* Fixture.run(["run", file, "--json"], {
          env: { OTEL_EXPORTER_OTLP_ENDPOINT: "collector:4317" }
        })
        assert.strictEqual(bare.code, 2)
        assert.include(
          String(errorOf(bare)["message"]),
          "OTEL_EXPORTER_OTLP_ENDPOINT is not an http:// or https:// URL"
        )
        const receiver = yield* OtlpReceiver.start()
        const odd = yield* Fixture.run(["run", file], {
          env: {
            OTEL_EXPORTER_OTLP_ENDPOINT: receiver.endpoint,
            OTEL_TRACES_EXPORTER: "console",
            OTEL_BSP_MAX_QUEUE_SIZE: "many",
            OTEL_EXPORTER_OTLP_COMPRESSION: "zstd"
          }
        })
        assert.strictEqual(odd.code, 0, odd.stderr)
        assert.include(odd.stderr, "OTEL_TRACES_EXPORTER names console")
        assert.include(odd.stderr, "OTEL_BSP_MAX_QUEUE_SIZE is not a whole number")
        assert.include(odd.stderr, "OTEL_EXPORTER_OTLP_COMPRESSION is invalid")
        assert.deepStrictEqual(receiver.problems, [])
        assert.deepStrictEqual([...new Set(receiver.requests.map(({ path }) => path))].sort(), [
          "/v1/logs",
          "/v1/metrics"
        ])
      })
  )

  for (
    const [trouble, answer, queue, said] of [
      ["is down", undefined, 2048, "ECONNREFUSED"],
      ["refuses", 401, 16, "HTTP status 401"],
      ["never answers", "hang", 16, "it takes less than there is"]
    ] as const
  ) {
    scenario(
      `a collector that ${trouble} costs telemetry and nothing else, and is said once`,
      (directory) =>
        Effect.gen(function*() {
          const receiver = answer === undefined ? undefined : yield* OtlpReceiver.start(answer)
          const file = configured(
            directory,
            `endpoint: "${receiver?.endpoint ?? "http://127.0.0.1:1"}", interval: 100 millis`,
            "changes: 300, ends: false"
          )
          const running = yield* Fixture.start(["run", file], {
            env: {
              ...(answer === undefined ? { OTEL_EXPORTER_OTLP_TIMEOUT: "500" } : {}),
              OTEL_BSP_MAX_QUEUE_SIZE: String(queue),
              OTEL_BSP_MAX_EXPORT_BATCH_SIZE: "8",
              OTEL_BSP_SCHEDULE_DELAY: "20",
              OTEL_BLRP_SCHEDULE_DELAY: "20"
            }
          })
          yield* running.stderrHas("doesn't take traces")
          // Everything is in place although nothing of it was reported.
          yield* Effect.callback<void>((resume) => {
            const look = setInterval(() => {
              if (Fixture.written(directory).filter(({ kind }) => kind === "change").length < 300) return
              clearInterval(look)
              resume(Effect.void)
            }, 50)
          })
          const before = performance.now()
          running.child.kill("SIGTERM")
          const ended = yield* running.ended
          const took = performance.now() - before
          assert.strictEqual(ended.code, 0, ended.stderr)
          // A request alone would be waited for for 10 seconds.
          assert.isBelow(took, 9000)
          assert.strictEqual(ended.stderr.split("doesn't take traces").length, 2, ended.stderr)
          assert.match(ended.stderr, new RegExp(`doesn't take \\w+: .*${said}`))
          assert.match(ended.stderr, /didn't get everything.*tracesDropped=\d+/)
        })
    )
  }
})
