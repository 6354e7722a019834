/**
 * Rows per second of pipelines and tables, over the last few seconds of their progress.
 *
 * `record` is called with each snapshot of progress; a window of them smooths what batches make jumpy. A restart of a pipeline, whose counters begin
 * anew, begins the window anew.
 */
import type { Progress, View } from "@etl-stream/core/Progress"
import type { TableId } from "@etl-stream/core/TableSchema"

/** Rows per second. */
export interface TableRate {
  readonly snapshot: number
  readonly changes: number
}

export interface PipelineRates {
  readonly snapshot: number
  readonly changes: number
  readonly tables: ReadonlyMap<TableId, TableRate>
}

interface Sample {
  readonly at: number
  readonly run: number
  readonly tables: ReadonlyMap<TableId, { readonly snapshotRows: number; readonly changes: number }>
}

const windowMillis = 5_000

/** The rates of one pipeline. */
export class Rates {
  private samples: Array<Sample> = []

  /** Rates as of `view`, taken at `now` (milliseconds). */
  record(view: View, now: number): PipelineRates {
    const latest: Sample = {
      at: now,
      run: view.run,
      tables: new Map(view.tables.map(({ changes, snapshotRows, table }) => [table, { snapshotRows, changes }]))
    }
    this.samples = [...this.samples.filter(({ run }) => run === view.run), latest]
    // One sample at or beyond the window's start stays as its beginning.
    while ((this.samples[1]?.at ?? now) <= now - windowMillis) this.samples.shift()
    const first = this.samples[0] ?? latest
    const seconds = (now - first.at) / 1000
    const perSecond = (rows: number): number => seconds <= 0 ? 0 : Math.max(0, rows / seconds)
    const tables = new Map<TableId, TableRate>()
    let snapshot = 0
    let changes = 0
    for (const [table, counters] of latest.tables) {
      const before = first.tables.get(table)
      const rate = {
        snapshot: perSecond(counters.snapshotRows - (before?.snapshotRows ?? 0)),
        changes: perSecond(counters.changes - (before?.changes ?? 0))
      }
      snapshot += rate.snapshot
      changes += rate.changes
      tables.set(table, rate)
    }
    return { snapshot, changes, tables }
  }
}

/** The rates of pipelines that come and go. */
export class PipelinesRates {
  private readonly known = new WeakMap<Progress, Rates>()

  of(progress: Progress): Rates {
    let rates = this.known.get(progress)
    if (rates === undefined) {
      rates = new Rates()
      this.known.set(progress, rates)
    }
    return rates
  }
}
