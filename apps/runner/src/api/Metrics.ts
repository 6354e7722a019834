/**
 * The metrics of the process as Prometheus' text.
 */
import type * as Effect from "effect/Effect"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"

export const render: Effect.Effect<string> = PrometheusMetrics.format()
