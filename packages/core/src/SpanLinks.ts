/**
 * Spans that a later one is to be linked to: those of the batches that were joined into one, of the writes that a merge takes in.
 *
 * Batches join without limit, links must not: of many, the earliest ones stay, the rest is counted. Nothing is kept of a span but its identity, and nothing at all of one that
 * isn't sampled.
 */
import * as Tracer from "effect/Tracer"

/** Collectors show a few links of a span, and OpenTelemetry's SDKs keep 128 at most. */
const most = 32

export class SpanLinks {
  private readonly spans: Array<Tracer.ExternalSpan> = []
  private more = 0

  /** Adds a span; one that isn't sampled is nowhere to be found and left out. */
  add(span: Tracer.AnySpan): void {
    if (!span.sampled) return
    if (this.spans.length < most) {
      const { spanId, traceId } = span
      this.spans.push(Tracer.externalSpan({ spanId, traceId, sampled: true }))
    } else this.more++
  }

  /** Adds what `others` holds. */
  addAll(others: SpanLinks): void {
    for (const span of others.spans) this.add(span)
    this.more += others.more
  }

  /** How many spans had no room. */
  get omitted(): number {
    return this.more
  }

  get size(): number {
    return this.spans.length
  }

  /** As the options of a span take them. */
  links(): ReadonlyArray<Tracer.SpanLink> {
    return this.spans.map((span) => ({ span, attributes: {} }))
  }
}
