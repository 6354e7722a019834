/**
 * A strict receiver of OTLP over HTTP: what it gets has to be what OpenTelemetry's protocol says, in JSON or in protobuf, compressed or not.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { createServer, type IncomingHttpHeaders, type Server } from "node:http"
import { gunzipSync } from "node:zlib"
import * as Protobuf from "./internal/otlpProtobuf.ts"

const optional = Schema.optionalKey
const Hex = (digits: number) => Schema.String.check(Schema.isPattern(new RegExp(`^[0-9a-f]{${digits}}$`)))
/** 64-bit integers are texts; the SDK writes those of counts as numbers, which the protocol allows. */
const Integer = Schema.Union([Schema.Int, Schema.String.check(Schema.isPattern(/^\d+$/u))])
const Nanos = Schema.String.check(Schema.isPattern(/^1\d{18}$/u))
const Count = optional(Schema.Int)

const AnyValue: Schema.Codec<AnyValue, unknown> = Schema.suspend(() =>
  Schema.Struct({
    stringValue: optional(Schema.String),
    boolValue: optional(Schema.Boolean),
    intValue: optional(Integer),
    doubleValue: optional(Schema.Finite),
    arrayValue: optional(Schema.Struct({ values: Schema.Array(AnyValue) }))
  }).check(Schema.makeFilter((value) => Object.keys(value).length === 1, { expected: "one value" }))
)
export interface AnyValue {
  readonly stringValue?: string
  readonly boolValue?: boolean
  readonly intValue?: number | string
  readonly doubleValue?: number
  readonly arrayValue?: { readonly values: ReadonlyArray<AnyValue> }
}

const attributes = Schema.Array(Schema.Struct({ key: Schema.NonEmptyString, value: AnyValue }))
const described = { attributes, droppedAttributesCount: Count }
const Resource = Schema.Struct(described)
const ScopeOf = Schema.Struct({
  name: Schema.NonEmptyString,
  version: optional(Schema.String),
  attributes: optional(attributes),
  droppedAttributesCount: Count
})

const Span = Schema.Struct({
  ...described,
  traceId: Hex(32),
  spanId: Hex(16),
  traceState: optional(Schema.String),
  parentSpanId: optional(Hex(16)),
  flags: Count,
  name: Schema.NonEmptyString,
  kind: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 5 })),
  startTimeUnixNano: Nanos,
  endTimeUnixNano: Nanos,
  events: Schema.Array(Schema.Struct({ ...described, timeUnixNano: Nanos, name: Schema.NonEmptyString })),
  droppedEventsCount: Count,
  links: Schema.Array(
    Schema.Struct({
      ...described,
      traceId: Hex(32),
      spanId: Hex(16),
      traceState: optional(Schema.String),
      flags: Count
    })
  ),
  droppedLinksCount: Count,
  status: optional(Schema.Struct({ code: optional(Schema.Literals([0, 1, 2])), message: optional(Schema.String) }))
}).check(
  Schema.makeFilter(({ endTimeUnixNano, startTimeUnixNano }) => BigInt(startTimeUnixNano) <= BigInt(endTimeUnixNano), {
    expected: "a span that ends after it began"
  })
)

const point = { attributes, startTimeUnixNano: Nanos, timeUnixNano: Nanos, flags: Count }
const NumberPoint = Schema.Struct({ ...point, asDouble: optional(Schema.Finite), asInt: optional(Integer) })
const HistogramPoint = Schema.Struct({
  ...point,
  count: Integer,
  sum: Schema.Finite,
  min: optional(Schema.Finite),
  max: optional(Schema.Finite),
  bucketCounts: Schema.Array(Integer),
  explicitBounds: Schema.Array(Schema.Finite)
}).check(
  Schema.makeFilter(
    ({ bucketCounts, count, explicitBounds }) =>
      bucketCounts.length === explicitBounds.length + 1 &&
      bucketCounts.reduce((sum: number, one) => sum + Number(one), 0) === Number(count) &&
      explicitBounds.every((bound, index) => index === 0 || bound > (explicitBounds[index - 1] ?? 0)),
    { expected: "a bucket more than bounds, ascending, and as many values in them as are counted" }
  )
)
const cumulative = Schema.Literal(2)
const Metric = Schema.Struct({
  name: Schema.NonEmptyString,
  description: optional(Schema.String),
  unit: optional(Schema.String),
  gauge: optional(Schema.Struct({ dataPoints: Schema.Array(NumberPoint) })),
  sum: optional(
    Schema.Struct({
      dataPoints: Schema.Array(NumberPoint),
      aggregationTemporality: cumulative,
      isMonotonic: optional(Schema.Boolean)
    })
  ),
  histogram: optional(
    Schema.Struct({ dataPoints: Schema.Array(HistogramPoint), aggregationTemporality: cumulative })
  )
})

const LogRecord = Schema.Struct({
  ...described,
  timeUnixNano: Nanos,
  observedTimeUnixNano: Nanos,
  severityNumber: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 24 })),
  severityText: Schema.NonEmptyString,
  body: AnyValue,
  flags: Count,
  traceId: optional(Schema.Union([Hex(32), Schema.Literal("")])),
  spanId: optional(Schema.Union([Hex(16), Schema.Literal("")])),
  eventName: optional(Schema.String)
})

const url = { schemaUrl: optional(Schema.String) }
const Traces = Schema.Struct({
  resourceSpans: Schema.Array(Schema.Struct({
    ...url,
    resource: Resource,
    scopeSpans: Schema.Array(Schema.Struct({ ...url, scope: ScopeOf, spans: Schema.Array(Span) }))
  }))
})
const Metrics = Schema.Struct({
  resourceMetrics: Schema.Array(Schema.Struct({
    ...url,
    resource: Resource,
    scopeMetrics: Schema.Array(Schema.Struct({ ...url, scope: ScopeOf, metrics: Schema.Array(Metric) }))
  }))
})
const Logs = Schema.Struct({
  resourceLogs: Schema.Array(Schema.Struct({
    ...url,
    resource: Resource,
    scopeLogs: Schema.Array(Schema.Struct({ ...url, scope: ScopeOf, logRecords: Schema.Array(LogRecord) }))
  }))
})

export type Span = typeof Span.Type
export type Metric = typeof Metric.Type
export type LogRecord = typeof LogRecord.Type

/** A value in plain form. */
export const plain = (value: AnyValue): unknown =>
  value.stringValue ?? value.boolValue ?? value.doubleValue ??
    (value.intValue === undefined ? value.arrayValue?.values.map(plain) : Number(value.intValue))

/** Attributes as a record. */
export const record = (
  of: ReadonlyArray<{ readonly key: string; readonly value: AnyValue }>
): Readonly<Record<string, unknown>> => Object.fromEntries(of.map(({ key, value }) => [key, plain(value)]))

export interface Request {
  readonly path: string
  readonly headers: IncomingHttpHeaders
  /** As it came, decompressed. */
  readonly text: string
}

export interface Receiver {
  readonly endpoint: string
  readonly requests: ReadonlyArray<Request>
  readonly spans: ReadonlyArray<Span>
  /** The metrics of the last request: they are cumulative. */
  readonly metrics: () => ReadonlyArray<Metric>
  readonly logs: ReadonlyArray<LogRecord>
  readonly resources: ReadonlyArray<Readonly<Record<string, unknown>>>
  /** What was wrong with what came. */
  readonly problems: ReadonlyArray<string>
}

const kinds = {
  traces: ["TracesData", Traces],
  metrics: ["MetricsData", Metrics],
  logs: ["LogsData", Logs]
} as const

/** `answer`: `hang` never answers; a number is an HTTP status. */
export const start = (answer: "ok" | "hang" | number = "ok"): Effect.Effect<Receiver, never, Scope.Scope> =>
  Effect.gen(function*() {
    const requests: Array<Request> = []
    const [spans, logs, resources, problems]: [
      Array<Span>,
      Array<LogRecord>,
      Array<Readonly<Record<string, unknown>>>,
      Array<string>
    ] = [[], [], [], []]
    let metrics: ReadonlyArray<Metric> = []

    const decode = (path: string, headers: IncomingHttpHeaders, body: Buffer): void => {
      const signal = (["traces", "metrics", "logs"] as const).find((one) => path.includes(one))
      if (signal === undefined) {
        problems.push(`A request to ${path}`)
        return
      }
      const [type, schema] = kinds[signal]
      const document: unknown = headers["content-type"] === "application/json"
        ? JSON.parse(body.toString())
        : headers["content-type"] === "application/x-protobuf"
        ? Protobuf.read(type, body)
        : undefined
      const decoded = Schema.decodeUnknownResult(
        // Each is decoded by its own below.
        schema as Schema.Codec<unknown, unknown>
      )(document, { errors: "all", onExcessProperty: "error" })
      if (Result.isFailure(decoded)) {
        problems.push(`${path}: ${String(decoded.failure.message)}`)
        return
      }
      switch (signal) {
        case "traces":
          for (const  of of(decoded.success as typeof Traces.Type).resourceSpans) { // decoded by this schema
            resources.push(record(of.resource.attributes))
            spans.push(...of.scopeSpans.flatMap((scope) => scope.spans))
          }
          return
        case "metrics":
          for (const  of of(decoded.success as typeof Metrics.Type).resourceMetrics) { // decoded by this schema
            resources.push(record(of.resource.attributes))
            metrics = of.scopeMetrics.flatMap((scope) => scope.metrics)
          }
          return
        case "logs":
          for (const  of of(decoded.success as typeof Logs.Type).resourceLogs) { // decoded by this schema
            resources.push(record(of.resource.attributes))
            logs.push(...of.scopeLogs.flatMap((scope) => scope.logRecords))
          }
      }
    }

    const server = yield* Effect.acquireRelease(
      Effect.callback<Server>((resume) => {
        const made = createServer((request, response) => {
          const parts: Array<Buffer> = []
          request.on("data", (part: Buffer) => parts.push(part)).on("end", () => {
            const raw = Buffer.concat(parts)
            const body = request.headers["content-encoding"] === "gzip" ? gunzipSync(raw) : raw
            const path = request.url ?? ""
            requests.push({ path, headers: request.headers, text: body.toString("latin1") })
            if (request.method !== "POST") problems.push(`${request.method} ${path}`)
            if (answer === "hang") return
            if (answer !== "ok") {
              response.writeHead(answer).end()
              return
            }
            try {
              decode(path, request.headers, body)
            } catch (cause) {
              problems.push(`${path}: ${String(cause)}`)
            }
            const type = request.headers["content-type"]
            response.writeHead(200, { "content-type": type }).end(type === "application/json" ? "{}" : "")
          })
        })
        made.listen(0, "127.0.0.1", () => resume(Effect.succeed(made)))
      }),
      (made) =>
        Effect.sync(() => {
          made.closeAllConnections()
          made.close()
        })
    )
    const address = server.address()
    const port = typeof address === "object" ? address?.port : undefined
    return {
      endpoint: `http://127.0.0.1:${port}`,
      requests,
      spans,
      metrics: () => metrics,
      logs,
      resources,
      problems
    }
  })
