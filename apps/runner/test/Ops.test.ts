/**
 * What `ops/` says of metrics has to be what the code has: names after the translation for Prometheus, labels, states.
 */
import { assert, describe, it } from "@effect/vitest"
import * as ConnectorError from "@etl-stream/core/ConnectorError"
import type { Definition } from "@etl-stream/core/MetricDefinition"
import type { Phase, TablePhase } from "@etl-stream/core/Progress"
import * as Telemetry from "@etl-stream/core/Telemetry"
import * as WalMonitor from "@etl-stream/monitor-wal/Metrics"
import * as Postgres from "@etl-stream/source-postgres/Metrics"
import type { SyntaxNode } from "@lezer/common"
import { parser } from "@prometheus-io/lezer-promql"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { readdirSync, readFileSync } from "node:fs"
import { parse as parseYaml } from "yaml"
import * as AlertMetrics from "../src/alerts/AlertMetrics.ts"
import * as PrometheusText from "../src/PrometheusText.ts"
import * as TelemetryDelivery from "../src/TelemetryDelivery.ts"

const definitions: ReadonlyArray<Definition> = [
  ...Telemetry.metrics,
  ...Postgres.metrics,
  ...WalMonitor.metrics,
  ...AlertMetrics.metrics,
  TelemetryDelivery.dropped
].map(({ definition }) => definition)

/** The series of each metric in Prometheus, and the labels that they may have. */
const series = new Map<string, ReadonlyArray<string>>()
for (const { attributes, kind, name, unit } of definitions) {
  const type = kind === "updown" ? "gauge" : kind
  const translated = PrometheusText.nameOf(name, type, unit)
  const labels = attributes.map(PrometheusText.labelOf)
  if (type === "histogram") {
    series.set(`${translated}_bucket`, [...labels, "le"])
    series.set(`${translated}_sum`, labels)
    series.set(`${translated}_count`, labels)
  } else series.set(translated, labels)
}

/** The states that each metric with the label `state` has. */
const states: Readonly<Record<string, ReadonlyArray<string>>> = {
  etl_stream_pipeline_status: [
    "starting",
    "snapshot",
    "streaming",
    "draining",
    "stopped",
    "failed"
  ] satisfies ReadonlyArray<Phase>,
  etl_stream_table_status: [
    "opening",
    "waiting",
    "copying",
    "streaming",
    "quarantined",
    "left"
  ] satisfies ReadonlyArray<TablePhase>,
  etl_stream_snapshot_rows: ["copied", "estimated"],
  etl_stream_slot_wal_bytes: ["retained", "remaining"],
  etl_stream_sink_circuit: ["closed", "open", "half_open"],
  etl_stream_slot_status: WalMonitor.states,
  etl_stream_slot_decoded_bytes: ["spilled", "streamed", "total"]
}

/** The values of other labels that have only a few, by metric. */
const fixed: Readonly<Record<string, Readonly<Record<string, ReadonlyArray<string>>>>> = {
  position: {
    etl_stream_slot_lag_bytes: ["restart", "confirmed"],
    etl_stream_slot_delay_seconds: ["restart", "confirmed"]
  },
  horizon: { etl_stream_slot_xmin_age: ["xmin", "catalog_xmin"] },
  outcome: {
    etl_stream_notifications_total: ["success", "failure"],
    etl_stream_slot_actions_total: ["done", "failed", "undone"] satisfies ReadonlyArray<WalMonitor.Outcome>
  }
}

interface Used {
  readonly metrics: ReadonlyArray<string>
  readonly labels: ReadonlySet<string>
}

/** The metrics and labels of a query. Fails when it isn't PromQL, or names what there isn't. */
const check = (query: string): Used => {
  const text = query.replaceAll("$__rate_interval", "5m")
  const tree = parser.parse(text)
  const of = (node: SyntaxNode | null): string => node === null ? "" : text.slice(node.from, node.to)
  const [metrics, labels] = [new Array<string>(), new Set<string>()]
  tree.iterate({
    enter: (node) => {
      assert.isFalse(node.type.isError, `no PromQL at ${node.from}: ${text}`)
      if (node.name !== "VectorSelector") return
      const name = of(node.node.getChild("Identifier"))
      const known = series.get(name)
      assert.isDefined(known, `${name} is no metric of ours: ${text}`)
      metrics.push(name)
      for (const matcher of node.node.getChild("LabelMatchers")?.getChildren("UnquotedLabelMatcher") ?? []) {
        const label = of(matcher.getChild("LabelName"))
        assert.include(known, label, `${name} has no such label: ${text}`)
        const value = of(matcher.getChild("StringLiteral")).slice(1, -1)
        if (label === "state") assert.include(states[name] ?? [], value, `${name} has no such state`)
        if (label in fixed) assert.include(fixed[label]?.[name] ?? [], value, `${name} has no such ${label}`)
      }
    }
  })
  const known = new Set(metrics.flatMap((name) => series.get(name) ?? []))
  tree.iterate({
    enter: (node) => {
      if (node.name !== "GroupingLabels") return
      for (const label of node.node.getChildren("LabelName")) {
        assert.isTrue(known.has(of(label)), `nothing has the label ${of(label)}: ${text}`)
        if (node.node.parent?.getChild("By") !== null) labels.add(of(label))
      }
    }
  })
  return { metrics, labels: labels.size > 0 ? labels : known }
}

const read = (name: string): string => readFileSync(new URL(`../../../ops/${name}`, import.meta.url), "utf8")

const Alerts = Schema.Struct({
  groups: Schema.Array(Schema.Struct({
    name: Schema.NonEmptyString,
    rules: Schema.Array(Schema.Struct({
      alert: Schema.NonEmptyString,
      expr: Schema.NonEmptyString,
      for: Schema.optionalKey(Schema.String.check(Schema.isPattern(/^\d+[smhd]$/))),
      labels: Schema.Struct({ severity: Schema.Literals(["critical", "warning", "info"]) }),
      annotations: Schema.Struct({ summary: Schema.NonEmptyString, description: Schema.NonEmptyString })
    }))
  }))
})

const Dashboard = Schema.Struct({
  uid: Schema.NonEmptyString,
  panels: Schema.Array(Schema.Struct({
    id: Schema.Int,
    title: Schema.NonEmptyString,
    type: Schema.NonEmptyString,
    gridPos: Schema.Struct({ x: Schema.Int, y: Schema.Int, w: Schema.Int, h: Schema.Int }),
    targets: Schema.optionalKey(Schema.Array(Schema.Struct({ expr: Schema.String, legendFormat: Schema.String })))
  })),
  templating: Schema.Struct({
    list: Schema.Array(Schema.Struct({ name: Schema.String, definition: Schema.optionalKey(Schema.String) }))
  })
})

const decode = <A>(schema: Schema.Codec<A, unknown>, value: unknown): A =>
  Effect.runSync(Schema.decodeUnknownEffect(schema)(value))

describe("ops", () => {
  it("alerts ask for metrics, labels and states that there are, and name labels that they have", () => {
    const { groups } = decode(Alerts, parseYaml(read("prometheus/alerts.yaml")))
    const rules = groups.flatMap((group) => group.rules)
    assert.strictEqual(new Set(rules.map(({ alert }) => alert)).size, rules.length)
    for (const { annotations, expr } of rules) {
      const { labels } = check(expr)
      for (const [, label] of JSON.stringify(annotations).matchAll(/\$labels\.([A-Za-z0-9_]+)/g)) {
        assert.isTrue(labels.has(label ?? ""), `${label} is not in the result of ${expr}`)
      }
    }
  })

  it("the dashboard shows metrics, labels and states that there are, and every metric", () => {
    const { panels, templating } = decode(Dashboard, JSON.parse(read("grafana/etl-stream.json")))
    const shown = new Set<string>()
    for (const { targets } of panels) {
      for (const { expr, legendFormat } of targets ?? []) {
        const { labels, metrics } = check(expr)
        for (const name of metrics) shown.add(name.replace(/_(bucket|sum|count)$/, ""))
        for (const [, label] of legendFormat.matchAll(/\{\{(\w+)\}\}/g)) {
          assert.isTrue(labels.has(label ?? ""), `${label} is not in the result of ${expr}`)
        }
      }
    }
    for (const { definition } of templating.list) {
      if (definition === undefined) continue
      const [, query = "", label = ""] = /^label_values\((.*), (\w+)\)$/.exec(definition) ?? []
      assert.isTrue(check(query).labels.has(label), definition)
    }
    assert.sameMembers(
      [...shown],
      [...new Set([...series.keys()].map((name) => name.replace(/_(bucket|sum|count)$/, "")))]
    )
    assert.strictEqual(new Set(panels.map(({ id }) => id)).size, panels.length)
    const cells = new Set<string>()
    for (const { gridPos: { h, w, x, y }, title } of panels) {
      assert.isAtMost(x + w, 24, title)
      for (let column = x; column < x + w; column++) {
        for (let line = y; line < y + h; line++) {
          assert.isFalse(cells.has(`${column} ${line}`), `${title} covers another panel`)
          cells.add(`${column} ${line}`)
        }
      }
    }
  })

  it("the checks find what there isn't", () => {
    for (
      const query of [
        "rate(etl_stream_nothing_total[5m])",
        "etl_stream_staleness_seconds{etl_stream_table=\"a\"}",
        "sum by (etl_stream_table) (etl_stream_staleness_seconds)",
        "etl_stream_table_status{state=\"lost\"}",
        "etl_stream_slot_lag_bytes{position=\"kept\"}",
        "etl_stream_notifications_total{outcome=\"failed\"}",
        "sum(etl_stream_staleness_seconds"
      ]
    ) {
      assert.throws(() => check(query), undefined, undefined, query)
    }
  })

  it("the collector's pipelines name components that it has", () => {
    const Components = Schema.Record(Schema.String, Schema.Unknown)
    const names = Schema.Array(Schema.String)
    const config = decode(
      Schema.Struct({
        receivers: Components,
        processors: Components,
        exporters: Components,
        service: Schema.Struct({
          pipelines: Schema.Record(
            Schema.Literals(["traces", "metrics", "logs"]),
            Schema.Struct({ receivers: names, processors: names, exporters: names })
          )
        })
      }),
      parseYaml(read("otel-collector/config.yaml"))
    )
    assert.sameMembers(Object.keys(config.service.pipelines), ["traces", "metrics", "logs"])
    for (const pipeline of Object.values(config.service.pipelines)) {
      for (const kind of ["receivers", "processors", "exporters"] as const) {
        for (const name of pipeline[kind]) assert.property(config[kind], name)
      }
    }
  })

  it("the runbook has every alert, every reason of an error, and every condition but those of the WAL monitor", () => {
    const root = new URL("../../../", import.meta.url)
    const runbook = readFileSync(new URL("docs/operations.md", root), "utf8")
    const { groups } = decode(Alerts, parseYaml(read("prometheus/alerts.yaml")))
    const conditions = ["core", "source-postgres", "sink-snowflake", "runner"].flatMap((name) => {
      const folder = new URL(`${name === "runner" ? "apps" : "packages"}/${name}/src/`, root)
      return readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts")).flatMap(
        (file) => {
          const source = readFileSync(new URL(file, folder), "utf8")
          return [...source.matchAll(/const (?:\w*[cC]ondition|unreachable|atRisk|late) = "([a-z-]+)"/g)].map((
            [, name]
          ) => name)
        }
      )
    })
    assert.includeMembers(conditions, ["table-quarantined", "slot-at-risk", "sink-unreachable", "stalled"])
    const alerts = groups.flatMap(({ rules }) => rules.map(({ alert }) => alert))
    for (const name of [...alerts, ...ConnectorError.Reason.literals, ...conditions]) {
      assert.include(runbook, `\`${name}\``)
    }
  })
})
