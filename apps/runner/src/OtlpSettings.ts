/**
 * Where telemetry goes and how: the `telemetry.otlp` section of the configuration, and OpenTelemetry's environment variables for what it leaves out.
 *
 * What the file says comes before the environment, option by option, as OpenTelemetry has it for whatever is set in code. Only `OTEL_SDK_DISABLED=true` comes before
 * everything. Endpoints, headers, timeouts, compression and certificates of the environment are read by the SDK's exporters; here is what
 * decides whether there is an exporter at all, and what the SDK leaves to its user. As its specification wants, a variable with an unusable value is left out with a
 * warning; but a protocol that isn't spoken here, or an endpoint that is no URL, would mean that nothing ever arrives: that is an error.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { type CommandError, usage } from "./CommandError.ts"
import type { Config } from "./Config.ts"
import * as Redaction from "./Redaction.ts"

export type Environment = Readonly<Record<string, string | undefined>>
export type Signal = "traces" | "metrics" | "logs"
export const signals: ReadonlyArray<Signal> = ["traces", "metrics", "logs"]

export type Protocol = "json" | "protobuf"

/** The exporter of a signal; what is undefined comes from the environment or is the SDK's default. */
export interface Exporter {
  readonly protocol: Protocol
  readonly url: string | undefined
  readonly headers: Readonly<Record<string, Redacted.Redacted>>
  readonly timeoutMillis: number | undefined
  readonly compression: "none" | "gzip" | undefined
}

/** How items of a signal are gathered; a queue that is full drops what comes. */
export interface Batching {
  readonly scheduledDelayMillis: number
  readonly exportTimeoutMillis: number
  readonly maxQueueSize: number
  readonly maxExportBatchSize: number
}

/** Which traces are recorded: a part of those that begin here, 0 to 1; of others those that their beginning says, when `parentBased`, or else the same part. */
export interface Sampling {
  readonly parentBased: boolean
  readonly ratio: number
}

export interface Settings {
  /** Undefined: the signal isn't exported. */
  readonly exporters: Readonly<Record<Signal, Exporter | undefined>>
  readonly sampling: Sampling
  readonly metricsEveryMillis: number
  readonly metricsTimeoutMillis: number
  readonly batching: Readonly<Record<"traces" | "logs", Batching>>
  /** What was left out of the environment, for the log. */
  readonly warnings: ReadonlyArray<string>
  /** What must not be shown: headers, and passwords in URLs. */
  readonly secrets: ReadonlySet<string>
}

type Otlp = NonNullable<Config["telemetry"]["otlp"]>

/** Whether anything is exported. */
export const isOn = ({ exporters }: Settings): boolean => signals.some((signal) => exporters[signal] !== undefined)

const given = (environment: Environment, name: string): string | undefined => {
  const value = environment[name]?.trim()
  return value === "" ? undefined : value
}

/** The header's value, and what follows its scheme (`Bearer …`): either may be quoted. */
const hidden = (value: string): ReadonlyArray<string> => [value, value.split(" ").at(-1) ?? value]

const headerSecrets = (text: string): ReadonlyArray<string> =>
  text.split(",").flatMap((pair) => {
    const value = pair.slice(pair.indexOf("=") + 1).trim()
    try {
      return [...hidden(value), ...hidden(decodeURIComponent(value))]
    } catch {
      // A stray % in a header: it is hidden as it is written.
      return hidden(value)
    }
  })

class Reader {
  readonly environment: Environment
  readonly warnings: Array<string> = []

  constructor(environment: Environment) {
    this.environment = environment
  }

  text(name: string): string | undefined {
    return given(this.environment, name)
  }

  /** A whole number of at least `least`. */
  number(name: string, least: number, otherwise: number): number {
    const text = this.text(name)
    if (text === undefined) return otherwise
    const number = Number(text)
    if (Number.isSafeInteger(number) && number >= least) return number
    this.warnings.push(`${name} is not a whole number of at least ${least}; ${otherwise} is used`)
    return otherwise
  }

  batching(prefix: "OTEL_BSP" | "OTEL_BLRP", delay: number): Batching {
    const maxQueueSize = this.number(`${prefix}_MAX_QUEUE_SIZE`, 1, 2048)
    return {
      scheduledDelayMillis: this.number(`${prefix}_SCHEDULE_DELAY`, 0, delay),
      exportTimeoutMillis: this.number(`${prefix}_EXPORT_TIMEOUT`, 1, 30_000),
      maxQueueSize,
      maxExportBatchSize: Math.min(maxQueueSize, this.number(`${prefix}_MAX_EXPORT_BATCH_SIZE`, 1, 512))
    }
  }

  sampling(): Sampling {
    const sampler = this.text("OTEL_TRACES_SAMPLER") ?? "parentbased_always_on"
    const known = /^(parentbased_)?(always_on|always_off|traceidratio)$/.exec(sampler)
    if (known === null) {
      this.warnings.push("OTEL_TRACES_SAMPLER names a sampler that there isn't here; parentbased_always_on is used")
      return { parentBased: true, ratio: 1 }
    }
    const parentBased = known[1] !== undefined
    if (known[2] !== "traceidratio") return { parentBased, ratio: known[2] === "always_on" ? 1 : 0 }
    const ratio = Number(this.text("OTEL_TRACES_SAMPLER_ARG") ?? 1)
    if (ratio >= 0 && ratio <= 1) return { parentBased, ratio }
    this.warnings.push("OTEL_TRACES_SAMPLER_ARG is not a number from 0 to 1; 1 is used")
    return { parentBased, ratio: 1 }
  }

  /** Whether a signal is exported by what the environment says: its exporters, or that there is an endpoint. */
  wants(signal: Signal, endpoint: boolean): boolean {
    const name = `OTEL_${signal.toUpperCase()}_EXPORTER`
    const exporters = this.text(name)?.split(",").map((exporter) => exporter.trim()).filter((one) => one !== "")
    if (exporters === undefined || exporters.length === 0) return endpoint
    const others = exporters.filter((exporter) => exporter !== "otlp" && exporter !== "none")
    if (others.length > 0) {
      this.warnings.push(`${name} names ${others.join(", ")}, which there isn't here: only otlp and none are known`)
    }
    return exporters.includes("otlp")
  }
}

const protocolOf = Effect.fnUntraced(function*(
  reader: Reader,
  signal: Signal
): Effect.fn.Return<Protocol, CommandError> {
  const names = [`OTEL_EXPORTER_OTLP_${signal.toUpperCase()}_PROTOCOL`, "OTEL_EXPORTER_OTLP_PROTOCOL"]
  const name = names.find((one) => reader.text(one) !== undefined)
  const protocol = name === undefined ? undefined : reader.text(name)
  switch (protocol) {
    case undefined:
    case "http/protobuf":
      return "protobuf"
    case "http/json":
      return "json"
    case "grpc":
      return yield* usage(
        `${name} asks for OTLP over gRPC, which etl-stream doesn't speak`,
        "Set it to http/protobuf (or `telemetry.otlp.protocol` in the configuration to protobuf) and let the endpoint be the collector's port for OTLP over HTTP, usually 4318 instead of 4317."
      )
    default:
      reader.warnings.push(`${name} is not http/protobuf, http/json or grpc; http/protobuf is used`)
      return "protobuf"
  }
})

const checkEndpoint = (reader: Reader, name: string): Effect.Effect<void, CommandError> => {
  const endpoint = reader.text(name)
  return endpoint === undefined || (/^https?:\/\//i.test(endpoint) && URL.canParse(endpoint)) ?
    Effect.void :
    Effect.fail(
      usage(
        `${name} is not an http:// or https:// URL`,
        "OTLP over HTTP needs one, for example http://localhost:4318; without a scheme it is for gRPC, which etl-stream doesn't speak."
      )
    )
}

/** The settings that `otlp` (the section of the configuration; undefined when it has none) and the environment make together. */
export const make = Effect.fnUntraced(function*(
  otlp: Otlp | undefined,
  environment: Environment
): Effect.fn.Return<Settings, CommandError> {
  const reader = new Reader(environment)
  const disabled = reader.text("OTEL_SDK_DISABLED")?.toLowerCase() === "true"
  const exporters: Record<Signal, Exporter | undefined> = { traces: undefined, metrics: undefined, logs: undefined }
  for (const signal of disabled ? [] : signals) {
    const endpoints = ["OTEL_EXPORTER_OTLP_ENDPOINT", `OTEL_EXPORTER_OTLP_${signal.toUpperCase()}_ENDPOINT`]
    const endpoint = otlp !== undefined || endpoints.some((name) => reader.text(name) !== undefined)
    if (!(otlp?.signals?.includes(signal) ?? reader.wants(signal, endpoint))) continue
    if (otlp?.endpoint === undefined) yield* Effect.forEach(endpoints, (name) => checkEndpoint(reader, name))
    exporters[signal] = {
      protocol: otlp?.protocol ?? (yield* protocolOf(reader, signal)),
      url: otlp?.endpoint === undefined ? undefined : `${otlp.endpoint.replace(/\/+$/, "")}/v1/${signal}`,
      headers: otlp?.headers ?? {},
      timeoutMillis: otlp?.timeout === undefined ? undefined : Duration.toMillis(otlp.timeout),
      compression: otlp?.compression
    }
  }
  const temporality = reader.text("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE")?.toLowerCase()
  if (exporters.metrics !== undefined && temporality !== undefined && temporality !== "cumulative") {
    reader.warnings.push(
      "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE is left out: metrics are cumulative; a collector's cumulativetodelta processor converts them"
    )
  }
  const metricsEveryMillis = otlp?.interval === undefined
    ? reader.number("OTEL_METRIC_EXPORT_INTERVAL", 1, 60_000)
    : Duration.toMillis(otlp.interval)
  const quoted = Object.entries(environment).flatMap(([name, value]) =>
    /^OTEL_EXPORTER_OTLP_(TRACES_|METRICS_|LOGS_)?HEADERS$/.test(name) && value !== undefined
      ? headerSecrets(value)
      : []
  )
  const urls = Object.entries(environment).filter(([name]) => /^OTEL_EXPORTER_OTLP_.*ENDPOINT$/.test(name))
  const fromFile = Object.values(otlp?.headers ?? {}).flatMap((header) => hidden(Redacted.value(header)))
  return {
    exporters,
    sampling: otlp?.sampling === undefined ? reader.sampling() : { parentBased: true, ratio: otlp.sampling },
    metricsEveryMillis,
    metricsTimeoutMillis: Math.min(metricsEveryMillis, reader.number("OTEL_METRIC_EXPORT_TIMEOUT", 1, 30_000)),
    batching: {
      traces: reader.batching("OTEL_BSP", 5000),
      logs: reader.batching("OTEL_BLRP", 1000)
    },
    warnings: reader.warnings,
    secrets: Redaction.secretsOf([[...quoted, ...fromFile].map((secret) => Redacted.make(secret)), urls])
  }
})
