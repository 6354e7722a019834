/**
 * Writes docs/telemetry.md from the metrics themselves: `node scripts/telemetry-docs.ts`.
 *
 * With `--check` it only compares, for CI: the page can't name a metric that there isn't, or leave one out.
 */
import type { Definition } from "@etl-stream/core/MetricDefinition"
import { metrics as engine, Spans } from "@etl-stream/core/Telemetry"
import { metrics as monitorWal } from "@etl-stream/monitor-wal/Metrics"
import { metrics as alerts } from "@etl-stream/runner/alerts/AlertMetrics"
import * as PrometheusText from "@etl-stream/runner/PrometheusText"
import { dropped } from "@etl-stream/runner/TelemetryDelivery"
import { metrics as postgres } from "@etl-stream/source-postgres/Metrics"
import { readFileSync, writeFileSync } from "node:fs"

const types: Readonly<Record<Definition["kind"], string>> = {
  counter: "counter",
  updown: "up-down counter",
  gauge: "gauge",
  histogram: "histogram"
}

const table = (metrics: ReadonlyArray<{ readonly definition: Definition }>): string =>
  [
    "| metric | type, unit | attributes | in Prometheus | what it says |",
    "| --- | --- | --- | --- | --- |",
    ...metrics.map(({ definition: { attributes, description, kind, name, unit } }) => {
      const prometheus = PrometheusText.nameOf(name, kind === "updown" ? "gauge" : kind, unit)
      const labels = attributes.map((attribute) => `\`${attribute}\``).join(", ")
      return `| \`${name}\` | ${types[kind]}, \`${unit}\` | ${labels} | \`${prometheus}\` | ${description} |`
    })
  ].join("\n")

const page = `# Telemetry

<!-- Written by scripts/telemetry-docs.ts from the metrics; edit those, or the script. -->

Metrics, traces and logs go to an OpenTelemetry collector by OTLP, and metrics to Prometheus in its own format. All of it is recorded per batch, table or pipeline, never per row, and holds no row values, keys, positions
or secrets. Without a collector no spans are made.

## To a collector

\`\`\`yaml
telemetry:
  otlp:
    endpoint: http://localhost:4318
    headers: {authorization: "Bearer \${file:/run/secrets/otlp}"}
\`\`\`

The options are in [configuration.md](configuration.md). Or by the environment alone: \`OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 etl-stream run shop.yaml\`. Nothing is sent unless the file has
\`telemetry.otlp\`, or the environment an endpoint or \`OTEL_…_EXPORTER=otlp\`.

**The file comes before the environment**, option by option, as OpenTelemetry has it for whatever is set in code; headers are put together, and the file's win. Only \`OTEL_SDK_DISABLED=true\` comes before both. The variables
that count, \`<SIGNAL>\` being \`TRACES\`, \`METRICS\` or \`LOGS\`:

| variable | meaning |
| --- | --- |
| \`OTEL_SDK_DISABLED\` | \`true\`: nothing is exported |
| \`OTEL_<SIGNAL>_EXPORTER\` | \`otlp\` or \`none\`; others (\`console\`, \`prometheus\` …) are left out with a warning |
| \`OTEL_EXPORTER_OTLP_ENDPOINT\`, \`OTEL_EXPORTER_OTLP_<SIGNAL>_ENDPOINT\` | base URL, to which \`/v1/traces\` and so on are added; a signal's own URL is taken as it is |
| \`OTEL_EXPORTER_OTLP_HEADERS\`, \`OTEL_EXPORTER_OTLP_<SIGNAL>_HEADERS\` | \`name=value,…\`, percent-encoded; their values are secrets: logs and errors show \`<redacted>\` |
| \`OTEL_EXPORTER_OTLP_PROTOCOL\`, \`OTEL_EXPORTER_OTLP_<SIGNAL>_PROTOCOL\` | \`http/protobuf\` (the default) or \`http/json\`. \`grpc\` is an error: use the collector's port for HTTP, usually 4318 |
| \`OTEL_EXPORTER_OTLP_TIMEOUT\`, \`…_COMPRESSION\`, \`…_CERTIFICATE\`, \`…_CLIENT_CERTIFICATE\`, \`…_CLIENT_KEY\` and those of a signal | as OpenTelemetry's SDK reads them: milliseconds (10000), \`none\` or \`gzip\`, paths of PEM files |
| \`OTEL_SERVICE_NAME\`, \`OTEL_RESOURCE_ATTRIBUTES\` | the resource; the name is \`etl-stream\` otherwise |
| \`OTEL_TRACES_SAMPLER\`, \`OTEL_TRACES_SAMPLER_ARG\` | \`always_on\`, \`always_off\`, \`traceidratio\`, each also with \`parentbased_\`; the default is \`parentbased_always_on\` |
| \`OTEL_BSP_SCHEDULE_DELAY\`, \`…_EXPORT_TIMEOUT\`, \`…_MAX_QUEUE_SIZE\`, \`…_MAX_EXPORT_BATCH_SIZE\`, and with \`OTEL_BLRP_\` those of logs | how spans and log records are gathered |
| \`OTEL_METRIC_EXPORT_INTERVAL\`, \`OTEL_METRIC_EXPORT_TIMEOUT\` | milliseconds: 60000, 30000 |

Not supported: OTLP over gRPC, temporality other than cumulative (a collector's \`cumulativetodelta\` processor converts it), and limits of spans and attributes from the environment. A variable with an unusable value is left out with a
warning.

**A collector that is down or slow holds nothing up.** Queues are bounded (2048 spans, 2048 log records); what it doesn't take is dropped, counted in \`${dropped.definition.name}\` and said once per signal, and once more in sum at the end. The end of the process waits for it
3 seconds at most.

## Metrics

Names, units and attributes are OpenTelemetry's conventions; in Prometheus dots become underscores and the unit a suffix. \`etl_stream.pipeline\` is the label \`etl_stream_pipeline\`, and so on. Both ways lead to the same names: etl-stream's own
\`/metrics\` and a collector's \`prometheus\` exporter.

### Of the engine

${table(engine)}

\`etl_stream.freshness\` says how long changes took; it is silent while none becomes durable. That is what \`etl_stream.staleness\` is for: it grows while changes wait. \`db.client.operation.duration\` has the attribute
\`error.type\` only of statements that failed. \`etl_stream.condition\` has the pipeline or the monitor that it is of, and the table or the subject (such as a slot) only where it is about one.

### Of \`@etl-stream/source-postgres\`

${table(postgres)}

### Of \`@etl-stream/monitor-wal\`

${table(monitorWal)}

What these say, and which conditions come of it: [wal-monitor.md](wal-monitor.md).

### Of alerts

${table(alerts)}

What fires and who is told: [alerts.md](alerts.md).

### Of the export itself

${table([dropped])}

## Traces

Every batch begins a trace of its own, because batches are joined on their way: a span is *linked* to those whose rows it holds.

| span | from … to | links |
| --- | --- | --- |
| \`${Spans.receive}\` | a decoded batch of the source came … its table's writer has it; inside of it \`${Spans.transform}\` | |
| \`${Spans.write}\` | the sink was given a batch … it accepted it | the batches received that are joined in it |
| \`${Spans.durable}\` | changes were accepted … they are durable | the writes |
| \`etl_stream.snowflake.merge\` | a merge of a table's journal; inside of it \`SqlClient.execute\` | the writes since the merge before |
| \`${Spans.open}\`, \`${Spans.quarantine}\`, \`${Spans.settle}\` | a table was opened or set aside, the end of a run | |

They have the attributes \`etl_stream.pipeline\` and \`etl_stream.table\`, those of batches \`etl_stream.rows\` and \`etl_stream.bytes\`. A span has 32 links at most; \`etl_stream.links.omitted\` says how many more there would be. An error is told by its kind
(\`error.type\`) and, when it is ours, its message; never by a stack trace.

## Logs

The same lines as on standard error, with the same redaction and from the same level on (\`--log-level\`): the message as body, annotations as attributes (\`etl_stream.pipeline\`, \`etl_stream.table\`, \`hint\` …), and the span in which they were written, if it is recorded.

## Dashboard, alerts, collector

[ops/](../ops) has what to begin with; a test holds its metrics, labels and states to those of the code.

* \`ops/grafana/etl-stream.json\`: a Grafana dashboard. Import it (Dashboards, New, Import) and choose the Prometheus data source.
* \`ops/prometheus/alerts.yaml\`: alert rules. Name the file under \`rule_files\` in \`prometheus.yml\`, and check it with \`promtool check rules alerts.yaml\`.
* \`ops/otel-collector/config.yaml\`: a collector that takes OTLP on port 4318, offers the metrics to Prometheus on port 9464 and passes traces and logs on.

\`\`\`sh
OTLP_BACKEND=http://localhost:3200 otelcol --config ops/otel-collector/config.yaml
OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 etl-stream run shop.yaml
\`\`\`

\`\`\`yaml
# prometheus.yml
rule_files: [alerts.yaml]
scrape_configs:
  - job_name: otel-collector
    # Keeps the labels job (the service's name) and instance that the collector gives.
    honor_labels: true
    static_configs: [{targets: ["localhost:9464"]}]
\`\`\`
`

const file = "docs/telemetry.md"
if (!process.argv.includes("--check")) writeFileSync(file, page)
else if (readFileSync(file, "utf8") !== page) {
  console.error(`${file} is not what the metrics say: run \`node scripts/telemetry-docs.ts\``)
  process.exitCode = 1
}
