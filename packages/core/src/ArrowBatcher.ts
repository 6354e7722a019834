/**
 * Collects one table's elements in order and joins neighbouring small batches into batches of a useful size.
 *
 * Rows of one schema version gather in a group until it reaches `rows` or `bytes`, is older than `every`, or something that
 * isn't rows follows (a barrier). `take` gives the next element to write: a joined batch or the barrier. A batch that is
 * larger than the limits makes a group of its own and passes untouched. While a writer is slow, groups fill up instead of
 * multiplying; many tiny batches are joined early, since each of them holds kilobytes (`BatchConcat.footprint`).
 */
import type { AnySpan } from "effect/Tracer"
import * as BatchConcat from "./BatchConcat.ts"
import type { ChangeBatch } from "./ChangeBatch.ts"
import type { Rows, SnapshotRows } from "./Element.ts"
import type { TableElement } from "./Sink.ts"
import { SpanLinks } from "./SpanLinks.ts"

export interface Limits {
  readonly rows: number
  /** Size of the Arrow buffers. */
  readonly bytes: number
  /** Milliseconds that rows wait for company. */
  readonly every: number
}

/** The next element to write, and the memory (bytes) that is held for it until it is accepted. */
export interface Batched {
  readonly element: TableElement
  readonly held: number
  /** The spans in which its batches were received; undefined when nothing is traced. */
  readonly received: SpanLinks | undefined
}

/** Memory counted for an element without rows. */
export const barrierFootprint = 1024

/** Joining early: this many neighbours of one level become one batch of the next level. */
const fanIn = 16
/** Batches above this size are not joined early: their buffers are well used and would only be copied twice. */
const smallBytes = 64 * 1024

interface Part {
  readonly batch: ChangeBatch
  readonly level: number
  readonly footprint: number
}

interface Group {
  readonly _tag: "Group"
  /** The first element, whose tag, position and chunk the joined one gets. */
  readonly first: Rows | SnapshotRows
  readonly since: number
  readonly parts: Array<Part>
  rows: number
  bytes: number
  held: number
  ready: boolean
  received: SpanLinks | undefined
}

interface Barrier {
  readonly _tag: "Barrier"
  readonly element: TableElement
  readonly held: number
  readonly received: undefined
}

const isRows = (element: TableElement): element is Rows | SnapshotRows =>
  element._tag === "Rows" || element._tag === "SnapshotRows"

const joins = (group: Group, element: Rows | SnapshotRows): boolean => {
  const { first } = group
  const [table, other] = [first.batch.table, element.batch.table]
  return first._tag === element._tag && (table === other || table.version === other.version) &&
    (first._tag === "Rows" ||
      (element._tag === "SnapshotRows" && first.position === element.position && first.chunk === element.chunk))
}

export class ArrowBatcher {
  private readonly limits: Limits
  /** Told how much less (negative) or more memory is held after batches were joined. */
  private readonly resized: (bytes: number) => void
  private queue: Array<Group | Barrier> = []

  constructor(limits: Limits, resized: (bytes: number) => void = () => {}) {
    // Offsets of text columns have 31 bits: a joined batch stays well below.
    this.limits = { ...limits, bytes: Math.min(limits.bytes, 1 << 30) }
    this.resized = resized
  }

  /** Appends an element for which `held` bytes are accounted; `now` in milliseconds, `span` the one that it was received in, if that is sampled. */
  append(element: TableElement, held: number, now: number, span?: AnySpan): void {
    const last = this.queue.at(-1)
    const group = last?._tag === "Group" ? last : undefined
    if (!isRows(element)) {
      if (group !== undefined) group.ready = true
      this.queue.push({ _tag: "Barrier", element, held, received: undefined })
      return
    }
    const { batch } = element
    const part: Part = { batch, level: 0, footprint: held }
    if (
      group !== undefined && !group.ready && joins(group, element) && group.rows + batch.rows <= this.limits.rows &&
      group.bytes + batch.bytes <= this.limits.bytes
    ) {
      group.parts.push(part)
      group.rows += batch.rows
      group.bytes += batch.bytes
      group.held += held
      group.ready = this.full(group)
      if (span !== undefined) (group.received ??= new SpanLinks()).add(span)
      this.joinEarly(group)
      return
    }
    if (group !== undefined) group.ready = true
    const { bytes, rows } = batch
    let received: SpanLinks | undefined
    if (span !== undefined) (received = new SpanLinks()).add(span)
    const next: Group = {
      _tag: "Group",
      first: element,
      since: now,
      parts: [part],
      rows,
      bytes,
      held,
      ready: false,
      received
    }
    next.ready = this.full(next)
    this.queue.push(next)
  }

  private full(group: Group): boolean {
    return group.rows >= this.limits.rows || group.bytes >= this.limits.bytes
  }

  private joinEarly(group: Group): void {
    const { parts } = group
    for (;;) {
      const level = parts.at(-1)?.level ?? 0
      const tail = parts.slice(-fanIn)
      if (tail.length < fanIn || tail.some((part) => part.level !== level || part.batch.bytes > smallBytes)) return
      parts.length -= fanIn
      const batch = BatchConcat.concat(tail.map((part) => part.batch))
      const joined = { batch, level: level + 1, footprint: BatchConcat.footprint(batch) }
      parts.push(joined)
      const change = joined.footprint - tail.reduce((sum, part) => sum + part.footprint, 0)
      group.held += change
      this.resized(change)
    }
  }

  /** Makes everything that has gathered ready to be taken. */
  flush(): void {
    const last = this.queue.at(-1)
    if (last?._tag === "Group") last.ready = true
  }

  /** When (milliseconds) the next element can be taken: 0 when it is ready, undefined when there is none. */
  dueAt(): number | undefined {
    const head = this.queue[0]
    if (head === undefined) return undefined
    return head._tag === "Barrier" || head.ready ? 0 : head.since + this.limits.every
  }

  /** Removes the next element, whether or not it is due; undefined when there is none. */
  take(): Batched | undefined {
    const head = this.queue.shift()
    if (head === undefined || head._tag === "Barrier") return head
    const batch = BatchConcat.concat(head.parts.map((part) => part.batch))
    const { received } = head
    if (batch === head.first.batch) return { element: head.first, held: head.held, received }
    const held = BatchConcat.footprint(batch)
    this.resized(held - head.held)
    return { element: { ...head.first, batch }, held, received }
  }

  /** Removes everything and returns the memory that was held for it. */
  clear(): number {
    const held = this.queue.reduce((sum, entry) => sum + entry.held, 0)
    this.queue = []
    return held
  }

  /** Number of elements that wait (a group counts as one). */
  get length(): number {
    return this.queue.length
  }
}
