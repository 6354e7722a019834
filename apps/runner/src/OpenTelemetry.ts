/**
 * Export of traces and metrics to an OpenTelemetry collector, by OTLP over HTTP with JSON.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

/** Sends to the collector at `endpoint` (base URL); a collector that doesn't answer holds the end up for at most three seconds. */
export const layer = (endpoint: string, version: string): Layer.Layer<never> =>
  Layer.unwrap(
    Effect.promise(async () => {
      const [FetchHttpClient, OtlpMetrics, OtlpSerialization, OtlpTracer] = await Promise.all([
        import("effect/http/FetchHttpClient"),
        import("effect/observability/OtlpMetrics"),
        import("effect/observability/OtlpSerialization"),
        import("effect/observability/OtlpTracer")
      ])
      const base = endpoint.replace(/\/+$/, "")
      const common = {
        resource: { serviceName: "etl-stream", serviceVersion: version },
        shutdownTimeout: "3 seconds"
      } as const
      return Layer.mergeAll(
        OtlpTracer.layer({ ...common, url: `${base}/v1/traces` }),
        OtlpMetrics.layer({ ...common, url: `${base}/v1/metrics` })
      ).pipe(Layer.provide([OtlpSerialization.layerJson, FetchHttpClient.layer]))
    })
  )
