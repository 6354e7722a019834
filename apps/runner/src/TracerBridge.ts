/**
 * Effect's spans as spans of OpenTelemetry's SDK, which samples, limits and exports them.
 *
 * Errors are told by kind and, when they are ours, by message: those of libraries may quote data, and stack traces do. Every text passes through redaction.
 */
import * as Otel from "@opentelemetry/api"
import { suppressTracing } from "@opentelemetry/core"
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"
import { CommandError, isConnectorError } from "./CommandError.ts"
import { failureText, word } from "./Logging.ts"
import type { Redaction } from "./Redaction.ts"

/** Nanoseconds since 1970-01-01 UTC as the SDK takes them. */
export const hrTime = (nanos: bigint): Otel.HrTime => [Number(nanos / 1_000_000_000n), Number(nanos % 1_000_000_000n)]

/** A value as an attribute. */
export const attributeValue = (value: unknown, redact: Redaction): Otel.AttributeValue =>
  typeof value === "number" || typeof value === "boolean" ? value : redact(word(value))

const contextOf = ({ sampled, spanId, traceId }: Tracer.AnySpan, isRemote: boolean): Otel.SpanContext => ({
  traceId,
  spanId,
  traceFlags: sampled ? Otel.TraceFlags.SAMPLED : Otel.TraceFlags.NONE,
  isRemote
})

const kinds: Readonly<Record<Tracer.SpanKind, Otel.SpanKind>> = {
  internal: Otel.SpanKind.INTERNAL,
  client: Otel.SpanKind.CLIENT,
  server: Otel.SpanKind.SERVER,
  producer: Otel.SpanKind.PRODUCER,
  consumer: Otel.SpanKind.CONSUMER
}

/** What an error is called: its reason where it has one. */
const errorType = (failure: unknown): string =>
  isConnectorError(failure)
    ? failure.reason
    : failure instanceof CommandError
    ? failure.code
    : failure instanceof Error
    ? failure.name
    : "_OTHER"

type Options = Parameters<Tracer.Tracer["span"]>[0]

class BridgedSpan implements Tracer.Span {
  readonly _tag = "Span"
  readonly name: string
  readonly parent: Option.Option<Tracer.AnySpan>
  readonly annotations: Context.Context<never>
  readonly links: Array<Tracer.SpanLink>
  readonly kind: Tracer.SpanKind
  readonly attributes = new Map<string, unknown>()
  readonly sampled: boolean
  readonly spanId: string
  readonly traceId: string
  status: Tracer.SpanStatus
  private readonly redact: Redaction
  private readonly span: Otel.Span

  constructor(tracer: Otel.Tracer, options: Options, redact: Redaction) {
    this.name = options.name
    // A span that isn't ours (begun before there was a tracer) is nowhere to be found: its children are the first of their traces.
    this.parent = Option.filter(
      options.parent,
      (parent) => parent instanceof BridgedSpan || parent._tag === "ExternalSpan"
    )
    this.annotations = options.annotations
    this.links = options.links
    this.kind = options.kind
    this.redact = redact
    const above = Option.match(this.parent, {
      onNone: () => Otel.ROOT_CONTEXT,
      onSome: (parent) =>
        Otel.trace.setSpanContext(Otel.ROOT_CONTEXT, contextOf(parent, parent._tag === "ExternalSpan"))
    })
    this.span = tracer.startSpan(options.name, {
      startTime: hrTime(options.startTime),
      kind: kinds[options.kind],
      links: this.otelLinks(options.links)
    }, options.sampled ? above : suppressTracing(above))
    const { spanId, traceFlags, traceId } = this.span.spanContext()
    this.spanId = spanId
    this.traceId = traceId
    this.sampled = (traceFlags & Otel.TraceFlags.SAMPLED) !== 0
    this.status = { _tag: "Started", startTime: options.startTime }
  }

  private otelLinks(links: ReadonlyArray<Tracer.SpanLink>): Array<Otel.Link> {
    return links.map(({ attributes, span }) => ({
      context: contextOf(span, false),
      attributes: Object.fromEntries(
        Object.entries(attributes).map(([key, value]) => [key, attributeValue(value, this.redact)])
      )
    }))
  }

  attribute(key: string, value: unknown): void {
    if (this.span.isRecording()) this.span.setAttribute(key, attributeValue(value, this.redact))
  }

  event(name: string, startTime: bigint, attributes: Record<string, unknown> = {}): void {
    if (!this.span.isRecording()) return
    const values = Object.entries(attributes).map(([key, value]) => [key, attributeValue(value, this.redact)] as const)
    this.span.addEvent(this.redact(name), Object.fromEntries(values), hrTime(startTime))
  }

  addLinks(links: ReadonlyArray<Tracer.SpanLink>): void {
    this.links.push(...links)
    if (this.span.isRecording()) this.span.addLinks(this.otelLinks(links))
  }

  end(endTime: bigint, exit: Exit.Exit<unknown, unknown>): void {
    if (this.status._tag === "Ended") return
    this.status = { _tag: "Ended", startTime: this.status.startTime, endTime, exit }
    if (this.span.isRecording() && Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause)) {
      const failure = Cause.squash(exit.cause)
      const [type, message] = [errorType(failure), this.redact(failureText(failure))]
      this.span.setAttribute("error.type", type)
      this.span.setStatus({ code: Otel.SpanStatusCode.ERROR, message })
      this.span.addEvent("exception", { "exception.type": type, "exception.message": message }, hrTime(endTime))
    }
    this.span.end(hrTime(endTime))
  }
}

/** A tracer whose spans are `tracer`'s. */
export const make = (tracer: Otel.Tracer, redact: Redaction): Tracer.Tracer =>
  Tracer.make({ span: (options) => new BridgedSpan(tracer, options, redact) })

/** The context of a fiber's span, for what belongs to it; the root when it has none that goes anywhere. */
export const contextOfSpan = (span: Tracer.AnySpan | undefined): Otel.Context =>
  span instanceof BridgedSpan && span.sampled
    ? Otel.trace.setSpanContext(Otel.ROOT_CONTEXT, contextOf(span, false))
    : Otel.ROOT_CONTEXT
