/**
 * The live status of one pipeline: what views, logs and health checks read while it runs.
 *
 * The engine updates plain counters, once per batch; `snapshot` copies them into an immutable view. Counters of a table start
 * anew with each run (`begin`), the run's number and the last error stay.
 */
import type { Raised } from "./Condition.ts"
import type { ConnectorError } from "./ConnectorError.ts"
import type { Quarantine } from "./Quarantine.ts"
import type { Sequence } from "./Sequence.ts"
import type { TableId } from "./TableSchema.ts"

export type Phase = "starting" | "snapshot" | "streaming" | "draining" | "stopped" | "failed"

/**
 * `opening`: not yet open at the sink; `waiting`: open, no copy yet; `copying`; `streaming`: the copy is complete; `quarantined`: it can't go on,
 * its changes are dropped; `left`: no longer read.
 */
export type TablePhase = "opening" | "waiting" | "copying" | "streaming" | "quarantined" | "left"

/** Times are milliseconds since 1970-01-01 UTC by the runner's clock unless said otherwise, sizes are bytes. */
export interface TableView {
  readonly table: TableId
  readonly phase: TablePhase
  /** Why the table is in quarantine; undefined when it isn't. */
  readonly quarantine: Quarantine | undefined
  /** Rows of the copy that the sink accepted, those of earlier runs included, and their size as Arrow buffers in this run. */
  readonly snapshotRows: number
  readonly snapshotBytes: number
  /** The source's estimates of the copy; undefined when it has none. */
  readonly estimatedRows: number | undefined
  readonly estimatedBytes: number | undefined
  /** When the copy began and when it was complete and durable; undefined when it didn't happen in this run. */
  readonly startedAt: number | undefined
  readonly copiedAt: number | undefined
  /** Changes that the sink accepted in this run, and their size as Arrow buffers. */
  readonly changes: number
  readonly bytes: number
  /** Changes read again that the sink held already. */
  readonly skipped: number
  /** Changes that transforms left out. */
  readonly dropped: number
  /** Sequence of the last change received. */
  readonly lastSequence: Sequence | undefined
  /** Sequence up to which the table is durable at the sink. */
  readonly durableSequence: Sequence | undefined
}

export interface View {
  readonly pipeline: string
  readonly phase: Phase
  /** Number of this run, from 1: how often the pipeline was started in this process. */
  readonly run: number
  readonly startedAt: number | undefined
  readonly tables: ReadonlyArray<TableView>
  /** Highest watermark received, and highest acknowledged. */
  readonly receivedPosition: bigint
  readonly acknowledgedPosition: bigint
  /** Commit time of the last transaction received and of the last one that is durable: microseconds since 1970-01-01 UTC, source's clock. */
  readonly receivedCommitTime: bigint | undefined
  readonly durableCommitTime: bigint | undefined
  /** When the last element came. */
  readonly receivedAt: number | undefined
  /**
   * Milliseconds by which the sink's durable state is older than now while changes are under way, 0 when everything received
   * is durable; while a run that failed isn't back, at least since something came last; undefined before the first transaction.
   */
  readonly freshness: number | undefined
  /** Application messages in the log, which the engine only counts. */
  readonly messages: number
  /** Memory held for batches on their way. */
  readonly memory: number
  /** What needs somebody while the pipeline goes on, in the order in which it came up. */
  readonly conditions: ReadonlyArray<Raised>
  /** Error that ended the last run. */
  readonly lastError: ConnectorError | undefined
}

type Mutable<A> = { -readonly [K in keyof A]: A[K] }

/** A table's counters while it runs. */
export type TableCounters = Mutable<TableView>

const newTable = (table: TableId): TableCounters => ({
  table,
  phase: "opening",
  quarantine: undefined,
  snapshotRows: 0,
  snapshotBytes: 0,
  estimatedRows: undefined,
  estimatedBytes: undefined,
  startedAt: undefined,
  copiedAt: undefined,
  changes: 0,
  bytes: 0,
  skipped: 0,
  dropped: 0,
  lastSequence: undefined,
  durableSequence: undefined
})

export class Progress {
  readonly pipeline: string
  phase: Phase = "starting"
  receivedPosition = 0n
  acknowledgedPosition = 0n
  receivedCommitTime: bigint | undefined
  durableCommitTime: bigint | undefined
  receivedAt: number | undefined
  messages = 0
  memory = 0
  /** How often tables were opened at the sink so that elements can be given to it, over all runs. */
  deliveries = 0
  lastError: ConnectorError | undefined
  /** Kept by `Condition.make`, by name and table. They outlive runs: whoever raised one clears it. */
  readonly conditions = new Map<string, Raised>()
  private run = 0
  private startedAt: number | undefined
  private tables = new Map<TableId, TableCounters>()

  constructor(pipeline: string) {
    this.pipeline = pipeline
  }

  /** A run begins: phases and counters of tables start anew, positions stay until the run has its own. */
  begin(now: number): void {
    this.run++
    this.startedAt = now
    this.phase = "starting"
    this.tables = new Map()
    this.memory = 0
  }

  /** The counters of a table, made when it is new. */
  table(table: TableId): TableCounters {
    let counters = this.tables.get(table)
    if (counters === undefined) {
      counters = newTable(table)
      this.tables.set(table, counters)
    }
    return counters
  }

  /** The tables of the run and the phases that they are in. */
  *tablePhases(): Iterable<readonly [table: TableId, phase: TablePhase]> {
    for (const { phase, table } of this.tables.values()) yield [table, phase]
  }

  /** A copy ended, or a position came: the run streams once it has begun and no table is waiting for its copy or being copied. */
  proceed(): void {
    if (this.phase !== "starting" && this.phase !== "snapshot") return
    if (this.phase === "snapshot") {
      for (const { phase } of this.tables.values()) if (phase === "copying" || phase === "waiting") return
    }
    this.phase = "streaming"
  }

  /** Whether everything received is durable. */
  caughtUp(): boolean {
    return this.acknowledgedPosition >= this.receivedPosition
  }

  /** Another process runs the pipeline: what this one has seen of it is of the past. */
  standBy(): void {
    this.phase = "starting"
    this.receivedPosition = this.acknowledgedPosition
    this.receivedCommitTime = undefined
    this.durableCommitTime = undefined
    this.receivedAt = undefined
  }

  freshness(now: number): number | undefined {
    if (this.durableCommitTime === undefined && this.receivedCommitTime === undefined) return undefined
    if (this.caughtUp()) {
      // Of what happens while nothing is read nobody knows, so the sink is as old as what came last.
      const isReading = this.phase !== "starting" && this.phase !== "failed"
      return isReading || this.receivedAt === undefined ? 0 : Math.max(0, now - this.receivedAt)
    }
    const time = this.durableCommitTime ?? this.receivedCommitTime ?? 0n
    return Math.max(0, now - Number(time / 1000n))
  }

  /** An immutable view as of `now` (milliseconds since 1970-01-01 UTC). */
  snapshot(now: number): View {
    return {
      pipeline: this.pipeline,
      phase: this.phase,
      run: this.run,
      startedAt: this.startedAt,
      tables: [...this.tables.values()].map((table) => ({ ...table })),
      receivedPosition: this.receivedPosition,
      acknowledgedPosition: this.acknowledgedPosition,
      receivedCommitTime: this.receivedCommitTime,
      durableCommitTime: this.durableCommitTime,
      receivedAt: this.receivedAt,
      freshness: this.freshness(now),
      messages: this.messages,
      memory: this.memory,
      conditions: [...this.conditions.values()],
      lastError: this.lastError
    }
  }
}

export const make = (pipeline: string): Progress => new Progress(pipeline)
