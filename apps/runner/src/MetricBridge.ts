/**
 * Effect's metrics as OpenTelemetry's SDK exports them. Sums and histograms are cumulative, from the beginning of the process.
 */
import { type HrTime, ValueType } from "@opentelemetry/api"
import type { Resource } from "@opentelemetry/resources"
import {
  AggregationTemporality,
  DataPointType,
  type MetricData,
  type MetricDescriptor,
  type MetricProducer
} from "@opentelemetry/sdk-metrics"
import type * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Metric from "effect/Metric"
import { hrTime } from "./TracerBridge.ts"

type Snapshot = Metric.Metric.Snapshot

const cumulative = AggregationTemporality.CUMULATIVE

/** The attribute `unit` is the metric's own. */
const withoutUnit = (attributes: Snapshot["attributes"]): Record<string, string> =>
  Object.fromEntries(Object.entries(attributes ?? {}).filter(([key]) => key !== "unit" && key !== "time_unit"))

const dataOf = (snapshot: Snapshot, startTime: HrTime, endTime: HrTime): MetricData => {
  const descriptor: MetricDescriptor = {
    name: snapshot.id,
    description: snapshot.description ?? "",
    unit: snapshot.attributes?.["unit"] ?? snapshot.attributes?.["time_unit"] ?? "",
    valueType: ValueType.DOUBLE
  }
  const point = { startTime, endTime, attributes: withoutUnit(snapshot.attributes) }
  const common = { descriptor, aggregationTemporality: cumulative }
  switch (snapshot.type) {
    case "Counter":
      return {
        ...common,
        dataPointType: DataPointType.SUM,
        isMonotonic: snapshot.state.incremental,
        dataPoints: [{ ...point, value: Number(snapshot.state.count) }]
      }
    case "Gauge":
      return {
        ...common,
        dataPointType: DataPointType.GAUGE,
        dataPoints: [{ ...point, value: Number(snapshot.state.value) }]
      }
    case "Frequency":
      return {
        ...common,
        dataPointType: DataPointType.SUM,
        isMonotonic: true,
        dataPoints: [...snapshot.state.occurrences].map(([key, value]) => ({
          ...point,
          attributes: { ...point.attributes, key },
          value
        }))
      }
    case "Histogram": {
      const { buckets, count, max, min, sum } = snapshot.state
      const finite = buckets.filter(([boundary]) => boundary !== Infinity)
      // Effect counts what is below a boundary, OpenTelemetry what is between two.
      const below = [...finite.map(([, cumulated]) => cumulated), count]
      return {
        ...common,
        dataPointType: DataPointType.HISTOGRAM,
        dataPoints: [{
          ...point,
          value: {
            buckets: {
              boundaries: finite.map(([boundary]) => boundary),
              counts: below.map((cumulated, index) => cumulated - (below[index - 1] ?? 0))
            },
            count,
            sum,
            ...(count === 0 ? {} : { min, max })
          }
        }]
      }
    }
    case "Summary":
      // The SDK has none: count, sum and quantiles stand for it as a gauge each.
      return {
        ...common,
        dataPointType: DataPointType.GAUGE,
        dataPoints: snapshot.state.quantiles.flatMap(([quantile, value]) =>
          value === undefined
            ? []
            : [{ ...point, attributes: { ...point.attributes, quantile: String(quantile) }, value }]
        )
      }
  }
}

/** Data of one metric in one place, whatever order its series come in. */
const joined = (data: Iterable<MetricData>): Array<MetricData> => {
  const byName = new Map<string, MetricData>()
  for (const one of data) {
    const { descriptor: { name }, dataPointType } = one
    const before = byName.get(name)
    if (before === undefined) byName.set(name, one)
    // Their kinds are the same, and so are their points'.
    else if (before.dataPointType === dataPointType) (before.dataPoints as Array<unknown>).push(...one.dataPoints)
  }
  return [...byName.values()]
}

/** Reads the metrics of `context`. */
export const make = (
  context: Context.Context<never>,
  clock: Clock.Clock,
  resource: Resource,
  scope: { readonly name: string; readonly version: string }
): MetricProducer => {
  const startTime = hrTime(clock.currentTimeNanosUnsafe())
  return {
    collect: () => {
      const endTime = hrTime(clock.currentTimeNanosUnsafe())
      const metrics = joined(
        Metric.snapshotUnsafe(context).map((snapshot) => dataOf(snapshot, startTime, endTime))
      )
      return Promise.resolve({ resourceMetrics: { resource, scopeMetrics: [{ scope, metrics }] }, errors: [] })
    }
  }
}
