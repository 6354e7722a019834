/**
 * Which position may be acknowledged to the source: the highest watermark before which every change is durable.
 *
 * The engine registers what it hands to writers (`emitted`, one ticket per batch), what sinks report (`durable`) and the
 * source's `watermark`s. Tickets between two watermarks coalesce to the last sequence per table, and watermarks that
 * wait coalesce pairwise once there are too many, so memory is bounded by `maxWaiting` times the number of tables. All
 * of it is plain arithmetic: no Effect, no clock, and amortised constant time per call.
 */
import * as Sequence from "./Sequence.ts"
import type { TableId } from "./TableSchema.ts"

/** A watermark and the tables with changes between it and the watermark before, each with its last sequence. */
interface Segment {
  position: bigint
  commitTime: bigint | undefined
  /** Commit time of the first transaction in it, when several were put together. */
  oldestTime: bigint | undefined
  readonly tables: Map<TableId, Sequence.Sequence>
}

/** How far a table's changes are: the last one emitted, the last one durable. Undefined when there was none in this run. */
export interface TableProgress {
  readonly emitted: Sequence.Sequence | undefined
  readonly durable: Sequence.Sequence | undefined
}

interface TableState {
  emitted: Sequence.Sequence | undefined
  durable: Sequence.Sequence | undefined
  /** Whether something is missing that was never emitted. */
  held: boolean
}

const covers = (durable: Sequence.Sequence | undefined, sequence: Sequence.Sequence): boolean =>
  durable !== undefined && Sequence.compare(durable, sequence) >= 0

const isUnsettled = ({ durable, emitted, held }: TableState): boolean =>
  held || (emitted !== undefined && !covers(durable, emitted))

export class Acknowledgement {
  private readonly states = new Map<TableId, TableState>()
  private waiting: Array<Segment> = []
  private open = new Map<TableId, Sequence.Sequence>()
  private readonly maxWaiting: number
  /** The table that the oldest waiting watermark was last seen to wait for; nothing else needs a look before it moves. */
  private blocker: TableId | undefined
  private received = 0n
  private confirmed = 0n
  private confirmedTime: bigint | undefined
  private oldestTime: bigint | undefined
  private unsettled = 0

  constructor(maxWaiting = 1024) {
    this.maxWaiting = Math.max(2, maxWaiting)
  }

  private state(table: TableId): TableState {
    let state = this.states.get(table)
    if (state === undefined) {
      state = { emitted: undefined, durable: undefined, held: false }
      this.states.set(table, state)
    }
    return state
  }

  /** Registers that changes of `table` up to `last` are on their way; they belong before the next watermark. */
  emitted(table: TableId, last: Sequence.Sequence): void {
    const state = this.state(table)
    if (state.emitted !== undefined && Sequence.compare(state.emitted, last) > 0) {
      throw new RangeError(`Changes of ${table} were emitted out of order`)
    }
    const wasSettled = !isUnsettled(state)
    state.emitted = last
    if (!isUnsettled(state)) return
    if (wasSettled) this.unsettled++
    this.open.set(table, last)
  }

  /** Registers that everything of `table` up to `sequence` survives a crash. Going back is ignored. */
  durable(table: TableId, sequence: Sequence.Sequence): void {
    const state = this.state(table)
    if (covers(state.durable, sequence)) return
    const wasUnsettled = isUnsettled(state)
    state.durable = sequence
    if (wasUnsettled && !isUnsettled(state)) this.unsettled--
    if (this.blocker === table) this.advance()
  }

  /** Registers that changes of `table` are missing from here on: no later watermark counts before `release`. */
  hold(table: TableId): void {
    const state = this.state(table)
    if (!isUnsettled(state)) this.unsettled++
    state.held = true
    this.open.set(table, state.emitted ?? Sequence.zero)
  }

  /** Registers that whatever was registered of `table` is void: nothing waits for it any more, and it begins anew. */
  release(table: TableId): void {
    const state = this.states.get(table)
    if (state !== undefined && isUnsettled(state)) this.unsettled--
    this.states.delete(table)
    this.open.delete(table)
    for (const segment of this.waiting) segment.tables.delete(table)
    if (this.blocker === table) this.advance()
  }

  /** Registers that everything up to `position` has been emitted. A position that isn't higher than the last is ignored. */
  watermark(position: bigint, commitTime?: bigint): void {
    if (position <= this.received) return
    this.received = position
    this.waiting.push({ position, commitTime, oldestTime: commitTime, tables: this.open })
    this.open = new Map()
    if (this.waiting.length > this.maxWaiting) this.coalesce()
    if (this.blocker === undefined) this.advance()
  }

  private advance(): void {
    this.blocker = undefined
    let done = 0
    for (const segment of this.waiting) {
      for (const [table, sequence] of segment.tables) {
        const state = this.states.get(table)
        if (state?.held === true || !covers(state?.durable, sequence)) {
          this.blocker = table
          break
        }
        segment.tables.delete(table)
      }
      if (this.blocker !== undefined) break
      this.confirmed = segment.position
      if (segment.commitTime !== undefined) this.confirmedTime = segment.commitTime
      this.oldestTime ??= segment.oldestTime
      done++
    }
    if (done > 0) this.waiting.splice(0, done)
  }

  /** Halves the number of waiting watermarks: of each pair the later one stays and waits for the changes of both. */
  private coalesce(): void {
    const fewer: Array<Segment> = []
    for (let i = 0; i < this.waiting.length; i += 2) {
      const earlier = this.waiting[i]
      const later = this.waiting[i + 1]
      if (earlier === undefined) continue
      if (later === undefined) {
        fewer.push(earlier)
        continue
      }
      for (const [table, sequence] of later.tables) earlier.tables.set(table, sequence)
      fewer.push({
        position: later.position,
        commitTime: later.commitTime ?? earlier.commitTime,
        oldestTime: earlier.oldestTime ?? later.oldestTime,
        tables: earlier.tables
      })
    }
    this.waiting = fewer
  }

  /** The highest watermark before which everything is durable; 0 until there is one. */
  acknowledged(): bigint {
    return this.confirmed
  }

  /** Commit time (microseconds since 1970-01-01 UTC) of the last transaction up to `acknowledged`, when it is known. */
  acknowledgedTime(): bigint | undefined {
    return this.confirmedTime
  }

  /**
   * Commit time (microseconds since 1970-01-01 UTC) of the first transaction that came to be acknowledged since the last call; undefined when there was none, or its time
   * isn't known.
   */
  takeOldestTime(): bigint | undefined {
    const time = this.oldestTime
    this.oldestTime = undefined
    return time
  }

  /** The highest watermark received; 0 until there is one. */
  receivedWatermark(): bigint {
    return this.received
  }

  /** Whether everything emitted so far is durable. */
  settled(): boolean {
    return this.unsettled === 0
  }

  /** The tables with changes that are emitted and not yet durable: what a drain still waits for. */
  unsettledTables(): ReadonlyArray<TableId> {
    return [...this.states].filter(([, state]) => isUnsettled(state)).map(([table]) => table)
  }

  /**
   * The tables that keep watermarks from counting, in the order of the first watermark that each of them keeps: the one that is furthest behind
   * comes first.
   */
  blockingTables(): ReadonlyArray<TableId> {
    const blocking = new Set<TableId>()
    for (const { tables } of this.waiting) {
      for (const [table, sequence] of tables) {
        const state = this.states.get(table)
        if (state?.held === true || !covers(state?.durable, sequence)) blocking.add(table)
      }
    }
    return [...blocking]
  }

  table(table: TableId): TableProgress {
    return this.states.get(table) ?? { emitted: undefined, durable: undefined }
  }

  /** Per table, up to where its changes are durable, for every table that had any in this run. */
  durablePositions(): ReadonlyMap<TableId, Sequence.Sequence> {
    const positions = new Map<TableId, Sequence.Sequence>()
    for (const [table, { durable }] of this.states) if (durable !== undefined) positions.set(table, durable)
    return positions
  }

  /**
   * The lowest durable sequence among the tables that have changes under way (`Sequence.zero` for one with nothing durable
   * yet); undefined when everything is durable.
   */
  lowestDurable(): Sequence.Sequence | undefined {
    let lowest: Sequence.Sequence | undefined
    for (const state of this.states.values()) {
      if (!isUnsettled(state)) continue
      const held = state.durable ?? Sequence.zero
      if (lowest === undefined || Sequence.compare(held, lowest) < 0) lowest = held
    }
    return lowest
  }

  /** Number of watermarks that wait, for tests and metrics. */
  waitingWatermarks(): number {
    return this.waiting.length
  }
}
