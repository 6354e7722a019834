/**
 * Tells a pipeline that is stuck from one that has nothing to do.
 *
 * A pipeline that has something under way is stuck when none of it has moved for the time allowed: nothing accepted, nothing acknowledged, no table further than
 * it was. One that has nothing under way is stuck when its source promises a sign of life (`Source.heartbeat`) and none has come for as long. A restart that moved
 * nothing doubles the time allowed, so that work which takes longer than it comes to its end.
 */
import type { Progress, View } from "@etl-stream/core/Progress"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Duration from "effect/Duration"

/** What is wrong, and whether running the pipeline again can help. */
export interface Stall {
  readonly message: string
  readonly restart: boolean
}

export interface Look {
  /** Milliseconds. */
  readonly now: number
  /** What the source promises. */
  readonly heartbeat: Duration.Duration | undefined
  /** Whether it is known why nothing moves, as while a sink's circuit is open or while it drains. */
  readonly excused: boolean
}

/** After a restart that moved nothing the time allowed is at most this many times the configured one. */
const longest = 64

const moved = (view: View): string =>
  [
    view.phase,
    view.acknowledgedPosition,
    ...view.tables.map(({ changes, dropped, durableSequence, phase, skipped, snapshotRows, table }) =>
      [
        table,
        phase,
        snapshotRows,
        changes,
        skipped,
        dropped,
        durableSequence === undefined ? "" : Sequence.format(durableSequence)
      ]
        .join(" ")
    )
  ].join("\n")

/** Watches one pipeline over its runs. */
export class Watchdog {
  private readonly after: number
  private allowed: number
  private mark = ""
  private movedAt: number | undefined
  private acknowledged = 0n
  private acknowledgedAt = 0
  private heardAt = 0
  /** The furthest that it ever was. */
  private furthest = 0n
  private mostRows = 0
  private stalled = false

  /** `after`: how long it may be stuck. */
  constructor(after: Duration.Duration) {
    this.after = Duration.toMillis(after)
    this.allowed = this.after
  }

  /** How long it may be stuck at present, milliseconds. */
  limit(): number {
    return this.allowed
  }

  /** A run begins; what was before doesn't count. */
  begin(now: number): void {
    this.movedAt = undefined
    this.heardAt = now
  }

  /** Whether it was stuck when it was last looked at, or has been restarted for that and hasn't got any further yet. */
  isStalled(): boolean {
    return this.stalled
  }

  /** It is restarted because it was stuck. */
  restarted(): void {
    this.allowed = Math.min(this.allowed * 2, this.after * longest)
  }

  /** Looks at the pipeline as it is now; undefined when all is well. */
  look(progress: Progress, { excused, heartbeat, now }: Look): Stall | undefined {
    const view = progress.snapshot(now)
    // Where a spool lets the run go on without its sink, each new attempt to reach the sink is a move: the run must not end for that.
    const mark = `${progress.deliveries}\n${moved(view)}`
    const first = this.movedAt === undefined
    const underWay = view.phase !== "streaming" || view.memory > 0 ||
      view.receivedPosition > view.acknowledgedPosition
    const rows = view.tables.reduce((sum, { snapshotRows }) => sum + snapshotRows, 0)
    if (view.acknowledgedPosition > this.furthest || rows > this.mostRows) {
      this.allowed = this.after
      this.stalled = false
      if (view.acknowledgedPosition > this.furthest) this.furthest = view.acknowledgedPosition
      this.mostRows = Math.max(this.mostRows, rows)
    }
    if (first || excused || !underWay || mark !== this.mark) this.movedAt = now
    if (
      first || excused || view.receivedPosition <= view.acknowledgedPosition ||
      view.acknowledgedPosition !== this.acknowledged
    ) {
      this.acknowledgedAt = now
    }
    if (first || excused || underWay) this.heardAt = now
    this.heardAt = Math.max(this.heardAt, view.receivedAt ?? 0)
    this.mark = mark
    this.acknowledged = view.acknowledgedPosition
    const stall = this.judge(now, heartbeat)
    if (stall !== undefined) this.stalled = true
    else if (!underWay) this.stalled = false
    return stall
  }

  private judge(now: number, heartbeat: Duration.Duration | undefined): Stall | undefined {
    const over = (since: number | undefined, limit = this.allowed): boolean =>
      since !== undefined && now - since >= limit
    if (over(this.movedAt)) return { message: "Nothing of what is under way has moved", restart: true }
    // A few of its signs may be late.
    if (heartbeat !== undefined && over(this.heardAt, Math.max(this.allowed, 3 * Duration.toMillis(heartbeat)))) {
      return { message: "Nothing has come from the source, not even a sign of life", restart: true }
    }
    if (over(this.acknowledgedAt)) {
      return { message: "Changes move, but nothing of them has become durable at every table", restart: false }
    }
    return undefined
  }
}
