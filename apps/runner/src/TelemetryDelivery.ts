/**
 * Watches over what happens to a signal's items between their making and the collector: how many wait, how many never arrived.
 *
 * The queue is bounded here as it is in OpenTelemetry's SDK, so that what it would drop in silence is counted. A collector that is down or slow costs telemetry, never
 * memory or time of a pipeline.
 */
import * as MetricDefinition from "@etl-stream/core/MetricDefinition"
import { type ExportResult, ExportResultCode } from "@opentelemetry/core"
import type { Signal } from "./OtlpSettings.ts"

/** Items that never reached the collector. */
export const dropped = MetricDefinition.counter({
  name: "etl_stream.telemetry.dropped",
  unit: "{item}",
  description: "Spans, log records and data points of metrics that the OpenTelemetry collector didn't get",
  attributes: ["signal"]
})

export class TelemetryDelivery {
  readonly signal: Signal
  private readonly limit: number
  private readonly lost: (items: number, why: string) => void
  /** Gathered, and under way to the collector. */
  private waiting = 0
  private underWay = 0

  /** `lost` is called with each number of items that were dropped, and why. */
  constructor(signal: Signal, limit: number, lost: (items: number, why: string) => void) {
    this.signal = signal
    this.limit = limit
    this.lost = lost
  }

  /** Whether there is room for one more item; counts it either way. */
  admits(): boolean {
    if (this.waiting < this.limit) {
      this.waiting++
      return true
    }
    this.lost(1, "it takes less than there is")
    return false
  }

  /** Wraps an export of `items` items. `gathered`: they were admitted one by one. */
  sending(items: number, gathered: boolean, done: (result: ExportResult) => void): (result: ExportResult) => void {
    if (gathered) this.waiting -= items
    this.underWay += items
    return (result) => {
      this.underWay -= items
      if (result.code !== ExportResultCode.SUCCESS) this.lost(items, reasonOf(result.error))
      done(result)
    }
  }

  /** Nothing is sent any more: what wasn't delivered is lost. */
  close(): void {
    const items = this.waiting + this.underWay
    this.waiting = 0
    this.underWay = 0
    if (items > 0) this.lost(items, "it didn't take it before the end")
  }
}

/** Why an export failed, without anything that the collector said: it may quote what it was sent. */
const reasonOf = (error: (Error & { readonly code?: unknown }) | undefined): string => {
  const code = error?.code
  if (typeof code === "number") return `it answered with HTTP status ${code}`
  if (typeof code === "string") return code
  switch (error?.message) {
    case "Request timed out":
      return "it didn't answer in time"
    case "Export failed with retryable status":
      return "it asked again and again to try later"
    default:
      return error?.name ?? "an unknown error"
  }
}
