/**
 * What was executed, for tests and for the curious: the last statements with their tag, warehouse and outcome, and how many there were of each kind.
 */

export interface Entry {
  readonly queryId: string
  readonly requestId: string
  readonly sessionId: string
  readonly user: string
  readonly sql: string
  readonly tag: string
  /** The session's warehouse when the statement ran. */
  readonly warehouse: string | null
  /** The statement used the warehouse: in Snowflake it would wake it. */
  needsWarehouse: boolean
  kind: string
  readonly startedAt: number
  durationMillis: number | null
  /** Snowflake's error code; null when it succeeded or still runs. */
  code: string | null
}

const kept = 2000

export class StatementLog {
  readonly entries: Array<Entry> = []
  readonly counts = new Map<string, number>()

  add(entry: Entry): void {
    this.entries.push(entry)
    if (this.entries.length > kept) this.entries.splice(0, this.entries.length - kept)
  }

  finish(entry: Entry, now: number): void {
    entry.durationMillis = now - entry.startedAt
    this.counts.set(entry.kind, (this.counts.get(entry.kind) ?? 0) + 1)
  }

  clear(): void {
    this.entries.length = 0
    this.counts.clear()
  }
}
