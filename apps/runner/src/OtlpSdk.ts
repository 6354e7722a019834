/**
 * OpenTelemetry's SDK, put together for what the settings say. Loaded only when something is exported: it takes a quarter of a second.
 */
import { diag, DiagLogLevel } from "@opentelemetry/api"
import { type ExportResult, setGlobalErrorHandler } from "@opentelemetry/core"
import type { CompressionAlgorithm } from "@opentelemetry/otlp-exporter-base"
import {
  defaultResource,
  detectResources,
  envDetector,
  type Resource,
  resourceFromAttributes,
  serviceInstanceIdDetector
} from "@opentelemetry/resources"
import { BatchLogRecordProcessor, LoggerProvider, type LogRecordExporter } from "@opentelemetry/sdk-logs"
import {
  MeterProvider,
  type MetricProducer,
  PeriodicExportingMetricReader,
  type PushMetricExporter
} from "@opentelemetry/sdk-metrics"
import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  BatchSpanProcessor,
  ParentBasedSampler,
  type Sampler,
  type SpanExporter,
  TraceIdRatioBasedSampler,
  TracerProvider
} from "@opentelemetry/sdk-trace"
import * as Redacted from "effect/Redacted"
import type { Batching, Exporter, Protocol, Sampling, Settings, Signal } from "./OtlpSettings.ts"
import { TelemetryDelivery } from "./TelemetryDelivery.ts"

/** A signal's way out. */
export interface Pipe<P> {
  readonly provider: P
  readonly delivery: TelemetryDelivery
  /** Sends what is left. Rejects when it can't. */
  readonly shutdown: () => Promise<void>
}

export interface Options {
  readonly settings: Settings
  readonly version: string
  /** Called with each number of items that were dropped, and why. */
  readonly lost: (signal: Signal, items: number, why: string) => void
  /** Called with what the SDK finds wrong with the environment. */
  readonly warn: (message: string) => void
}

/** What an exporter of a signal takes. What isn't here the exporter reads from the environment. */
const exporterOptions = ({ compression, headers, timeoutMillis, url }: Exporter) => ({
  headers: Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, Redacted.value(value)])),
  ...(url === undefined ? {} : { url }),
  ...(timeoutMillis === undefined ? {} : { timeoutMillis }),
  // An enumeration whose values are these words.
  ...(compression === undefined ? {} : { compression: compression as CompressionAlgorithm })
})

const loaded = {
  traces: {
    json: async () => (await import("@opentelemetry/exporter-trace-otlp-http")).OTLPTraceExporter,
    protobuf: async () => (await import("@opentelemetry/exporter-trace-otlp-proto")).OTLPTraceExporter
  },
  metrics: {
    json: async () => (await import("@opentelemetry/exporter-metrics-otlp-http")).OTLPMetricExporter,
    protobuf: async () => (await import("@opentelemetry/exporter-metrics-otlp-proto")).OTLPMetricExporter
  },
  logs: {
    json: async () => (await import("@opentelemetry/exporter-logs-otlp-http")).OTLPLogExporter,
    protobuf: async () => (await import("@opentelemetry/exporter-logs-otlp-proto")).OTLPLogExporter
  }
} as const satisfies Record<Signal, Record<Protocol, () => Promise<unknown>>>

/** Lets `delivery` see what an exporter is given and what becomes of it. */
const watched = <Items>(
  exporter: { readonly export: (items: Items, done: (result: ExportResult) => void) => void },
  sizeOf: (items: Items) => number,
  gathered: boolean,
  delivery: TelemetryDelivery
) =>
(items: Items, done: (result: ExportResult) => void): void =>
  exporter.export(items, delivery.sending(sizeOf(items), gathered, done))

/** What all telemetry of the process says of it; what the environment says comes first. */
export const resourceOf = (version: string): Resource =>
  defaultResource()
    .merge(resourceFromAttributes({ "service.name": "etl-stream", "service.version": version }))
    .merge(detectResources({ detectors: [serviceInstanceIdDetector, envDetector] }))

const samplerOf = ({ parentBased, ratio }: Sampling): Sampler => {
  const root = ratio === 1
    ? new AlwaysOnSampler()
    : ratio === 0
    ? new AlwaysOffSampler()
    : new TraceIdRatioBasedSampler(ratio)
  return parentBased ? new ParentBasedSampler({ root }) : root
}

const batching = ({ exportTimeoutMillis, maxExportBatchSize, maxQueueSize, scheduledDelayMillis }: Batching) => ({
  exportTimeoutMillis,
  maxExportBatchSize,
  maxQueueSize,
  scheduledDelayMillis
})

/** Makes the ways of the signals that are exported. */
export const make = async ({ lost, settings, version, warn }: Options) => {
  const { exporters } = settings
  const resource = resourceOf(version)
  const deliveryOf = (signal: Signal, limit: number) =>
    new TelemetryDelivery(signal, limit, (items, why) => lost(signal, items, why))
  // Failures of exports come to us by their results.
  setGlobalErrorHandler(() => {})
  const said = (message: string) => warn(message)
  diag.setLogger({ error: said, warn: said, info: () => {}, debug: () => {}, verbose: () => {} }, {
    logLevel: DiagLogLevel.WARN,
    suppressOverrideMessage: true
  })

  const traces = async (exporter: Exporter): Promise<Pipe<TracerProvider>> => {
    const Make = await loaded.traces[exporter.protocol]()
    const inner = new Make(exporterOptions(exporter))
    const delivery = deliveryOf("traces", settings.batching.traces.maxQueueSize)
    const counting: SpanExporter = {
      export: watched(inner, (spans) => spans.length, true, delivery),
      shutdown: () => inner.shutdown(),
      forceFlush: () => inner.forceFlush()
    }
    const batches = new BatchSpanProcessor({ exporter: counting, ...batching(settings.batching.traces) })
    const provider = new TracerProvider({
      resource,
      sampler: samplerOf(settings.sampling),
      spanProcessors: [{
        onStart: () => {},
        onEnd: (span) => {
          if ((span.spanContext().traceFlags & 1) !== 0 && delivery.admits()) batches.onEnd(span)
        },
        forceFlush: () => batches.forceFlush(),
        shutdown: () => batches.shutdown()
      }]
    })
    return { provider, delivery, shutdown: () => provider.shutdown() }
  }

  const metrics = async (exporter: Exporter): Promise<Pipe<(producer: MetricProducer) => void>> => {
    const Make = await loaded.metrics[exporter.protocol]()
    const inner = new Make(exporterOptions(exporter))
    const delivery = deliveryOf("metrics", 0)
    const counting: PushMetricExporter = {
      export: watched(
        inner,
        ({ scopeMetrics }) =>
          scopeMetrics.reduce(
            (sum, scope) => sum + scope.metrics.reduce((points, { dataPoints }) => points + dataPoints.length, 0),
            0
          ),
        false,
        delivery
      ),
      shutdown: () => inner.shutdown(),
      forceFlush: () => inner.forceFlush()
    }
    let provider: MeterProvider | undefined
    return {
      delivery,
      provider: (producer) => {
        const reader = new PeriodicExportingMetricReader({
          exporter: counting,
          exportIntervalMillis: settings.metricsEveryMillis,
          exportTimeoutMillis: settings.metricsTimeoutMillis,
          metricProducers: [producer]
        })
        provider = new MeterProvider({ resource, readers: [reader] })
      },
      shutdown: () => provider?.shutdown() ?? Promise.resolve()
    }
  }

  const logs = async (exporter: Exporter): Promise<Pipe<LoggerProvider>> => {
    const Make = await loaded.logs[exporter.protocol]()
    const inner = new Make(exporterOptions(exporter))
    const delivery = deliveryOf("logs", settings.batching.logs.maxQueueSize)
    const counting: LogRecordExporter = {
      export: watched(inner, (records) => records.length, true, delivery),
      shutdown: () => inner.shutdown(),
      forceFlush: () => inner.forceFlush()
    }
    const batches = new BatchLogRecordProcessor({ exporter: counting, ...batching(settings.batching.logs) })
    const provider = new LoggerProvider({
      resource,
      processors: [{
        onEmit: (record) => {
          if (delivery.admits()) batches.onEmit(record)
        },
        forceFlush: () => batches.forceFlush(),
        shutdown: () => batches.shutdown()
      }]
    })
    return { provider, delivery, shutdown: () => provider.shutdown() }
  }

  try {
    return {
      resource,
      traces: exporters.traces === undefined ? undefined : await traces(exporters.traces),
      metrics: exporters.metrics === undefined ? undefined : await metrics(exporters.metrics),
      logs: exporters.logs === undefined ? undefined : await logs(exporters.logs)
    }
  } finally {
    // From here on it has nothing to say that we don't know.
    diag.disable()
  }
}
