/**
 * The last stretch of a table's batches in traces: from when the sink accepted them until it reported them durable.
 *
 * Each report makes one span, from the acceptance of the oldest write that it covers to the report, linked to the spans of these writes. Of many writes that wait
 * at once, those accepted last stand together.
 */
import type * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Tracer from "effect/Tracer"
import * as Sequence from "./Sequence.ts"
import { SpanLinks } from "./SpanLinks.ts"
import * as Telemetry from "./Telemetry.ts"

interface Waiting {
  upTo: Sequence.Sequence
  readonly since: bigint
  readonly writes: SpanLinks
}

/** Writes that wait separately. */
const most = 64

export class DurableSpans {
  private readonly tracer: Tracer.Tracer
  private readonly clock: Clock.Clock
  private readonly pipeline: string
  private readonly table: string
  private waiting: Array<Waiting> = []

  constructor(tracer: Tracer.Tracer, clock: Clock.Clock, pipeline: string, table: string) {
    this.tracer = tracer
    this.clock = clock
    this.pipeline = pipeline
    this.table = table
  }

  /** The sink accepted changes up to `upTo`, in the write `span`. */
  accepted(upTo: Sequence.Sequence, span: Tracer.AnySpan): void {
    const last = this.waiting.at(-1)
    if (last !== undefined && this.waiting.length >= most) {
      last.upTo = upTo
      last.writes.add(span)
      return
    }
    const writes = new SpanLinks()
    writes.add(span)
    this.waiting.push({ upTo, since: this.clock.currentTimeNanosUnsafe(), writes })
  }

  /** Everything up to `upTo` is durable. */
  durable(upTo: Sequence.Sequence): void {
    const left = this.waiting.findIndex((waiting) => Sequence.compare(waiting.upTo, upTo) > 0)
    const done = this.waiting.splice(0, left < 0 ? this.waiting.length : left)
    const [oldest] = done
    if (oldest === undefined) return
    const links = new SpanLinks()
    for (const { writes } of done) links.addAll(writes)
    const { attributes, ...options } = Telemetry.tableSpan(this.pipeline, this.table, { links })
    const span = this.tracer.span({
      name: Telemetry.Spans.durable,
      parent: Option.none(),
      annotations: Context.empty(),
      links: [...(options.links ?? [])],
      startTime: oldest.since,
      kind: "internal",
      root: true,
      sampled: true
    })
    for (const [key, value] of Object.entries(attributes)) span.attribute(key, value)
    span.end(this.clock.currentTimeNanosUnsafe(), Exit.void)
  }

  /** The table's writer is closed: what waits is void. */
  clear(): void {
    this.waiting = []
  }
}
