import { assert, describe, it } from "@effect/vitest"
import * as MetricDefinition from "@etl-stream/core/MetricDefinition"
import * as Telemetry from "@etl-stream/core/Telemetry"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as fc from "fast-check"
import * as PrometheusText from "../src/PrometheusText.ts"

interface Sample {
  readonly name: string
  readonly labels: ReadonlyMap<string, string>
  readonly value: string
}

interface Exposition {
  readonly help: ReadonlyMap<string, string>
  readonly types: ReadonlyMap<string, string>
  readonly samples: ReadonlyArray<Sample>
}

const unescaped = (text: string): string =>
  text.replace(/\\(.)/g, (_, character: string) => {
    if (character !== "n" && character !== "\\" && character !== "\"") throw new TypeError(`\\${character}`)
    return character === "n" ? "\n" : character
  })

/** Reads the text as Prometheus does, and refuses what Prometheus would. */
const parse = (text: string): Exposition => {
  const [help, types, samples] = [new Map<string, string>(), new Map<string, string>(), new Array<Sample>()]
  const seen = new Set<string>()
  const finished = new Set<string>()
  let family = ""
  if (text !== "" && !text.endsWith("\n")) throw new TypeError("The last line doesn't end")
  for (const line of text.split("\n").slice(0, -1)) {
    const meta = /^# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.*)$/s.exec(line)
    if (meta !== null) {
      const [, what, name = "", rest = ""] = meta
      if (name !== family) {
        if (finished.has(name)) throw new TypeError(`${name} comes twice`)
        finished.add(name)
        family = name
      }
      const into = what === "HELP" ? help : types
      if (into.has(name)) throw new TypeError(`${what} of ${name} comes twice`)
      into.set(name, what === "HELP" ? unescaped(rest) : rest)
      continue
    }
    const sample = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/s.exec(line)
    if (sample === null) throw new TypeError(`No sample: ${line}`)
    const [, name = "", braced = "", value = ""] = sample
    if (!name.startsWith(family)) throw new TypeError(`${name} stands below ${family}`)
    if (Number.isNaN(Number(value)) && !["NaN", "+Inf", "-Inf"].includes(value)) throw new TypeError(value)
    const labels = new Map<string, string>()
    let rest = braced
    while (rest !== "") {
      const label = /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\.)*)"(?:,|$)/s.exec(rest)
      if (label === null) throw new TypeError(`No labels: ${rest}`)
      if (labels.has(label[1] ?? "")) throw new TypeError(`A label twice: ${braced}`)
      labels.set(label[1] ?? "", unescaped(label[2] ?? ""))
      rest = rest.slice(label[0].length)
    }
    const key = JSON.stringify([name, [...labels].sort()])
    if (seen.has(key)) throw new TypeError(`A series twice: ${key}`)
    seen.add(key)
    samples.push({ name, labels, value })
  }
  return { help, types, samples }
}

const own = Effect.provideServiceEffect(Metric.MetricRegistry, Effect.sync(() => new Map()))

describe("PrometheusText", () => {
  it("translates names and units as OpenTelemetry does", () => {
    const named: ReadonlyArray<readonly [string, Parameters<typeof PrometheusText.nameOf>[1], string, string]> = [
      ["etl_stream.component.produced.records", "counter", "{record}", "etl_stream_component_produced_records_total"],
      ["etl_stream.component.produced.size", "counter", "By", "etl_stream_component_produced_size_bytes_total"],
      ["etl_stream.freshness", "histogram", "s", "etl_stream_freshness_seconds"],
      ["etl_stream.table.status", "gauge", "{table}", "etl_stream_table_status"],
      ["system.cpu.utilization", "gauge", "1", "system_cpu_utilization_ratio"],
      ["requests", "counter", "1", "requests_total"],
      ["requests_total", "counter", "", "requests_total"],
      ["wait.seconds", "gauge", "s", "wait_seconds"],
      ["network.speed", "gauge", "By/s", "network_speed_bytes_per_second"],
      ["errors", "gauge", "{error}/m", "errors_per_minute"],
      ["speed", "gauge", "foo/bar", "speed_foo_per_bar"],
      ["a..b--c", "gauge", "", "a_b_c"],
      ["5xx", "gauge", "", "_5xx"],
      ["größe", "gauge", "", "gr_e"]
    ]
    for (const [name, type, unit, expected] of named) {
      assert.strictEqual(PrometheusText.nameOf(name, type, unit), expected)
    }
    assert.strictEqual(PrometheusText.labelOf("etl_stream.pipeline"), "etl_stream_pipeline")
    assert.strictEqual(PrometheusText.labelOf("0day"), "_0day")
  })

  it.effect("gives every metric of the engine a name, a type and a help text", () =>
    Effect.gen(function*() {
      yield* Effect.forEach(Telemetry.metrics, (metric) => Metric.update(metric as Metric.Metric<number, unknown>, 1)) // numbers all
      const { help, types } = parse(yield* PrometheusText.render())
      assert.strictEqual(types.size, Telemetry.metrics.length)
      assert.strictEqual(types.get("etl_stream_freshness_seconds"), "histogram")
      assert.strictEqual(types.get("etl_stream_component_errors_total"), "counter")
      assert.strictEqual(types.get("etl_stream_table_status"), "gauge")
      assert.strictEqual(help.size, Telemetry.metrics.length)
    }).pipe(own))

  it.effect("writes histograms as cumulated buckets, with their count and sum", () =>
    Effect.gen(function*() {
      const histogram = MetricDefinition.histogram(
        { name: "wait", unit: "s", description: "", attributes: ["le"] },
        [1, 2.5, Infinity]
      )
      for (const value of [0.5, 1, 2, 9]) {
        yield* Metric.update(Metric.withAttributes(histogram, { le: "mine" }), value)
      }
      const text = yield* PrometheusText.render()
      assert.strictEqual(
        text,
        `# TYPE wait_seconds histogram
wait_seconds_bucket{le="1"} 2
wait_seconds_bucket{le="2.5"} 3
wait_seconds_bucket{le="+Inf"} 4
wait_seconds_sum{le="mine"} 12.5
wait_seconds_count{le="mine"} 4
`
      )
      parse(text)
    }).pipe(own))

  it.effect("keeps what any text is, in labels and help, and can't be broken out of", () =>
    Effect.promise(() =>
      fc.assert(fc.asyncProperty(
        fc.string({ unit: "binary" }),
        fc.string({ unit: "binary" }),
        fc.constantFrom("\"", "\\", "\n", "\\n", "\"} 1\nevil 2\n#", "\ud800", "}", "{", ""),
        (text, description, nasty) =>
          Effect.runPromise(
            Effect.gen(function*() {
              const value = text + nasty
              const gauge = Metric.gauge("g", { description: description + nasty })
              yield* Metric.update(Metric.withAttributes(gauge, { "a.b": value, unit: "s" }), 1)
              const { help, samples } = parse(yield* PrometheusText.render())
              assert.strictEqual(samples.length, 1)
              assert.strictEqual(samples[0]?.labels.get("a_b"), value.toWellFormed())
              assert.strictEqual(help.get("g_seconds") ?? "", (description + nasty).toWellFormed())
            }).pipe(own)
          )
      ))
    ))

  it.effect("stays readable whatever metrics, attributes and values there are", () =>
    Effect.promise(() =>
      fc.assert(fc.asyncProperty(
        fc.array(fc.record({
          kind: fc.constantFrom("counter", "updown", "gauge", "histogram", "frequency", "summary"),
          name: fc.constantFrom("a", "a.b", "a_b", "a.b_total", "", "1", "a b", "ü"),
          unit: fc.constantFrom("", "1", "s", "By", "{x}", "{", "/", "a/b/c", "\n"),
          attributes: fc.dictionary(
            fc.constantFrom("x", "x.y", "x_y", "", "le", "quantile", "key", "9", "__proto__"),
            fc.string()
          ),
          value: fc.oneof(fc.double(), fc.integer())
        })),
        (metrics) =>
          Effect.runPromise(
            Effect.gen(function*() {
              for (const { attributes, kind, name, unit, value } of metrics) {
                const options = { description: "d", attributes: { unit } }
                const made = kind === "counter"
                  ? Metric.counter(name, { ...options, incremental: true })
                  : kind === "updown"
                  ? Metric.counter(name, options)
                  : kind === "gauge"
                  ? Metric.gauge(name, options)
                  : kind === "histogram"
                  ? Metric.histogram(name, { ...options, boundaries: [1, 10] })
                  : kind === "summary"
                  ? Metric.summary(name, { ...options, maxAge: "1 minute", maxSize: 10, quantiles: [0.5, 0.9] })
                  : undefined
                yield* made === undefined
                  ? Metric.update(Metric.withAttributes(Metric.frequency(name, options), attributes), String(value))
                  : Metric.update(Metric.withAttributes(made as Metric.Metric<number, unknown>, attributes), value) // numbers all
              }
              parse(yield* PrometheusText.render())
            }).pipe(own)
          )
      ))
    ))
})
