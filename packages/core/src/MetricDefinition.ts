/**
 * Metrics that know what they are called, measured in and told apart by, so that documentation, dashboards and exporters can be checked against the code.
 *
 * Names are OpenTelemetry's: dots, no unit and no `_total` in them (the translation for Prometheus adds both). Units are UCUM: `s`, `By`, or what is counted in
 * braces, `{record}`. The unit travels as the metric's attribute `unit`, which isn't a label. Attributes are recorded per batch, table or pipeline, and never hold
 * positions, keys or values.
 */
import * as Metric from "effect/Metric"

/**
 * `counter`: only grows; `updown`: a sum that also falls, such as how many are in a state; `gauge`: a value of now that sums up to nothing; `histogram`: how values are
 * distributed.
 */
export type Kind = "counter" | "updown" | "gauge" | "histogram"

export interface Definition {
  readonly name: string
  readonly kind: Kind
  readonly unit: string
  /** One sentence: what it says. */
  readonly description: string
  /** Attributes that series have; those of them that only some series have, too. */
  readonly attributes: ReadonlyArray<string>
}

/** A metric and what it is. */
export type Defined<M> = M & { readonly definition: Definition }

type Described = Omit<Definition, "kind">

const defined = <M extends object>(
  kind: Kind,
  { attributes, description, name, unit }: Described,
  make: (options: { readonly description: string; readonly attributes: { readonly unit: string } }) => M
): Defined<M> =>
  Object.assign(make({ description, attributes: { unit } }), {
    definition: { name, kind, unit, description, attributes }
  })

export const counter = (of: Described): Defined<Metric.Counter<number>> =>
  defined("counter", of, (options) => Metric.counter(of.name, { ...options, incremental: true }))

/** Updated with differences. */
export const updown = (of: Described): Defined<Metric.Counter<number>> =>
  defined("updown", of, (options) => Metric.counter(of.name, options))

export const gauge = (of: Described): Defined<Metric.Gauge<number>> =>
  defined("gauge", of, (options) => Metric.gauge(of.name, options))

/** `boundaries` ascending, in the metric's unit; whatever is above the last one has a bucket of its own. */
export const histogram = (of: Described, boundaries: ReadonlyArray<number>): Defined<Metric.Histogram<number>> =>
  defined("histogram", of, (options) => Metric.histogram(of.name, { ...options, boundaries }))
