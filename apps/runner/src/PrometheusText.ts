/**
 * Metrics in Prometheus' text format: what the HTTP API answers at `/metrics`.
 *
 * Names follow OpenTelemetry's translation: dots become underscores, the unit becomes a suffix (`By` → `_bytes`, `s` → `_seconds`, `1` → `_ratio` of gauges, what
 * is in braces → nothing), and counters end with `_total`. So a dashboard is right whether Prometheus scrapes us or gets the metrics from a collector.
 */
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"

/** The `Content-Type` of the text. */
export const contentType = "text/plain; version=0.0.4; charset=utf-8"

type Snapshot = Metric.Metric.Snapshot
type Type = "counter" | "gauge" | "histogram" | "summary"

const units: ReadonlyMap<string, string> = new Map(Object.entries({
  d: "days",
  h: "hours",
  min: "minutes",
  s: "seconds",
  ms: "milliseconds",
  us: "microseconds",
  ns: "nanoseconds",
  By: "bytes",
  KiBy: "kibibytes",
  MiBy: "mebibytes",
  GiBy: "gibibytes",
  TiBy: "tebibytes",
  KBy: "kilobytes",
  MBy: "megabytes",
  GBy: "gigabytes",
  TBy: "terabytes",
  m: "meters",
  V: "volts",
  A: "amperes",
  J: "joules",
  W: "watts",
  g: "grams",
  Cel: "celsius",
  Hz: "hertz",
  "%": "percent"
}))

const rates: ReadonlyMap<string, string> = new Map(Object.entries({
  s: "second",
  m: "minute",
  h: "hour",
  d: "day",
  w: "week",
  mo: "month",
  y: "year"
}))

const underscored = (text: string): string => text.replace(/[^A-Za-z0-9_:]+/g, "_").replace(/_{2,}/g, "_")

const unitSuffix = (unit: string): string => {
  const [of = "", per] = unit.replace(/\{[^}]*\}/g, "").split("/", 2)
  const amount = units.get(of) ?? underscored(of)
  const whole = per === undefined || per === "" ? amount : `${amount}_per_${rates.get(per) ?? underscored(per)}`
  return whole.replace(/^_+|_+$/g, "")
}

/** What a metric is called in Prometheus. */
export const nameOf = (name: string, type: Type, unit: string | undefined): string => {
  let base = underscored(name).replace(/_+$/, "")
  if (!/^[A-Za-z_:]/.test(base)) base = `_${base}`
  const suffix = unit === undefined ? "" : unit === "1" ? (type === "gauge" ? "ratio" : "") : unitSuffix(unit)
  const total = type === "counter"
  if (total) base = base.replace(/_total$/, "")
  const withUnit = suffix === "" || base.endsWith(`_${suffix}`) ? base : `${base}_${suffix}`
  return total ? `${withUnit}_total` : withUnit
}

/** What an attribute is called as a label. */
export const labelOf = (attribute: string): string => {
  const name = attribute.replace(/[^A-Za-z0-9_]+/g, "_").replace(/_{2,}/g, "_")
  return /^[A-Za-z_]/.test(name) ? name : `_${name}`
}

const typeOf = (snapshot: Snapshot): Type => {
  switch (snapshot.type) {
    case "Counter":
      return snapshot.state.incremental ? "counter" : "gauge"
    case "Frequency":
      return "counter"
    case "Gauge":
      return "gauge"
    case "Histogram":
      return "histogram"
    case "Summary":
      return "summary"
  }
}

const value = (number: number | bigint): string =>
  number === Infinity ? "+Inf" : number === -Infinity ? "-Inf" : String(number)

const escaped = (text: string): string =>
  text.toWellFormed().replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll("\"", "\\\"")

/** Attributes as labels, those of one label joined by `;`; the metric's unit is none. */
const labelsOf = (attributes: Metric.Metric.AttributeSet | undefined): ReadonlyMap<string, string> => {
  const labels = new Map<string, string>()
  const entries = Object.entries(attributes ?? {}).sort(([a], [b]) => a < b ? -1 : a > b ? 1 : 0)
  for (const [key, text] of entries) {
    if (key === "unit" || key === "time_unit") continue
    const label = labelOf(key)
    const before = labels.get(label)
    labels.set(label, before === undefined ? text : `${before};${text}`)
  }
  return labels
}

const braced = (labels: ReadonlyMap<string, string>): string =>
  labels.size === 0 ? "" : `{${[...labels].map(([name, text]) => `${name}="${escaped(text)}"`).join(",")}}`

/** Puts `label` in the place of one that an attribute may have taken. */
const and = (labels: ReadonlyMap<string, string>, label: string, text: string): ReadonlyMap<string, string> =>
  new Map([...labels].filter(([name]) => name !== label)).set(label, text)

/** The lines of one series, each with its name and labels before its value. */
const samples = (name: string, snapshot: Snapshot): ReadonlyArray<readonly [series: string, value: string]> => {
  const labels = labelsOf(snapshot.attributes)
  const of = (suffix: string, more = labels) => `${name}${suffix}${braced(more)}`
  switch (snapshot.type) {
    case "Counter":
      return [[of(""), value(snapshot.state.count)]]
    case "Gauge":
      return [[of(""), value(snapshot.state.value)]]
    case "Frequency":
      return [...snapshot.state.occurrences].map(([key, count]) => [of("", and(labels, "key", key)), value(count)])
    case "Histogram": {
      const { buckets, count, sum } = snapshot.state
      return [
        ...buckets.filter(([boundary]) => boundary !== Infinity).map(([boundary, below]) =>
          [of("_bucket", and(labels, "le", value(boundary))), value(below)] as const
        ),
        [of("_bucket", and(labels, "le", "+Inf")), value(count)],
        [of("_sum"), value(sum)],
        [of("_count"), value(count)]
      ]
    }
    case "Summary": {
      const { count, quantiles, sum } = snapshot.state
      return [
        ...quantiles.flatMap(([quantile, at]) =>
          at === undefined ? [] : [[of("", and(labels, "quantile", value(quantile))), value(at)] as const]
        ),
        [of("_sum"), value(sum)],
        [of("_count"), value(count)]
      ]
    }
  }
}

interface Family {
  readonly type: Type
  readonly help: string | undefined
  /** Of two series that can't be told apart after the translation the later one stays: Prometheus would refuse both, and everything else with them. */
  readonly samples: Map<string, string>
}

/** What the metrics are, as text. */
export const format = (snapshots: ReadonlyArray<Snapshot>): string => {
  const families = new Map<string, Family>()
  for (const snapshot of snapshots) {
    const type = typeOf(snapshot)
    const name = nameOf(snapshot.id, type, snapshot.attributes?.["unit"] ?? snapshot.attributes?.["time_unit"])
    let family = families.get(name)
    if (family === undefined) {
      family = { type, help: snapshot.description, samples: new Map() }
      families.set(name, family)
    }
    // A name has one type: another metric that comes to be called the same has to go without.
    if (family.type !== type) continue
    for (const [series, number] of samples(name, snapshot)) family.samples.set(series, number)
  }
  const lines: Array<string> = []
  for (const [name, family] of [...families].sort(([a], [b]) => a < b ? -1 : 1)) {
    if (family.help !== undefined && family.help !== "") {
      lines.push(`# HELP ${name} ${family.help.toWellFormed().replaceAll("\\", "\\\\").replaceAll("\n", "\\n")}`)
    }
    lines.push(`# TYPE ${name} ${family.type}`)
    for (const [series, number] of family.samples) lines.push(`${series} ${number}`)
  }
  return lines.length === 0 ? "" : `${lines.join("\n")}\n`
}

/** The process' metrics as they are now. */
export const render = (): Effect.Effect<string> => Effect.map(Metric.snapshot, format)
