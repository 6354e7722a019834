/**
 * Removes rows of a table's journal that are merged and past their retention.
 *
 * It comes after a merge, when the warehouse is awake anyway, and removes the oldest rows first, in pieces: each statement reads and locks a bounded part of the journal. A DELETE
 * rewrites what it touches, so none is made before some row has waited an hour (or its retention once more). What a statement finds tells, so it makes no difference how
 * long a run lives.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import type { SequenceText } from "@etl-stream/core/Sequence"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { failure } from "./ErrorPolicy.ts"
import { literal } from "./Identifier.ts"
import * as JournalStatement from "./JournalStatement.ts"
import type { SqlClient } from "./SqlClient.ts"
import type { TableLayout } from "./TableLayout.ts"

type Failed = ConnectorError.ConnectorError

/** Rows that one statement removes at most. */
export const pieceRows = 1_000_000

/** Rows that may go are looked for, and left to wait, for no longer than this. */
export const slackMillis = 3_600_000

const Piece = Schema.Struct({
  rows: Schema.FiniteFromString,
  overdue: Schema.FiniteFromString,
  last: Schema.NullOr(Schema.String)
})

const time = (millis: number): string => `${literal(new Date(millis).toISOString())}::TIMESTAMP_TZ`

export class JournalPruner {
  private readonly sql: SqlClient
  private readonly retention: number
  private readonly slack: number
  private readonly pause: number
  private readonly most: number
  private nextMillis = 0

  /** `every`: how often the table is merged at most, in milliseconds as `retention` is. */
  constructor(sql: SqlClient, retention: number, every: number, most = pieceRows) {
    this.sql = sql
    this.retention = retention
    this.slack = Math.min(retention, slackMillis)
    this.pause = Math.max(every, this.slack)
    this.most = most
  }

  /**
   * Prunes after a merge of `rows` changes, up to `merged`, when it is time. As it removes more than a merge brings, it gets to the end of any backlog in the
   * long run without holding up the next merge.
   */
  after(layout: TableLayout, merged: SequenceText, rows: number): Effect.Effect<void, Failed> {
    return Effect.gen({ self: this }, function*() {
      const now = yield* Clock.currentTimeMillis
      // Nothing is kept for that long yet, and Snowflake reads no time before the year 1.
      if (this.retention >= now || now < this.nextMillis) return
      for (let left = Math.max(this.most, 2 * rows); left > 0;) {
        const removed = yield* this.piece(layout, merged, now)
        if (removed < this.most) {
          this.nextMillis = now + this.pause
          return
        }
        left -= removed
      }
    })
  }

  /** Removes the oldest rows, when there are some that waited long enough; returns how many there were. */
  private piece(layout: TableLayout, merged: SequenceText, now: number): Effect.Effect<number, Failed> {
    return Effect.gen({ self: this }, function*() {
      const before = now - this.retention
      const statement = { what: `Pruning the journal of ${layout.id}`, purpose: "prune", table: layout.id } as const
      const found = yield* this.sql.execute({
        ...statement,
        sql: JournalStatement.prunable(layout, merged, time(before), time(before - this.slack), this.most)
      })
      const { last, overdue, rows } = yield* Effect.mapError(
        Schema.decodeUnknownEffect(Piece)(found.rows[0]),
        () =>
          failure("Protocol", `A query on the journal of ${layout.id} has another form than expected`, "Report it.", {
            table: layout.id
          })
      )
      if (last === null || overdue === 0) return 0
      yield* this.sql.execute({ ...statement, sql: JournalStatement.prune(layout, last, time(before)) })
      return rows
    })
  }
}
