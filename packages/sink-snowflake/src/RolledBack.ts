/**
 * What Snowflake rolled back, counted for each thing that is done: once is chance (a deadlock, a session that stood still), again and again is
 * something that stays, and that nobody would see as long as it is only tried again.
 *
 * Some times in a row are a condition. What goes on so for longer, and is about one table, is refused for good: then that table is set aside like others that can't
 * go on. A merge is refused only while merges of other tables are committed: what rolls all of them back is no table's affair, and would have each of them copied
 * again. What ends a run is refused in any case, since it keeps all tables from going on. A success ends the count; the end of a run doesn't, since a run often ends for
 * just this.
 */
import type { Condition, Conditions } from "@etl-stream/core/Condition"
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import type { TableId } from "@etl-stream/core/TableSchema"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Config } from "./Config.ts"
import * as ErrorPolicy from "./ErrorPolicy.ts"

type Failed = ConnectorError.ConnectorError

/** Raised, for the table that it is about, when the same is rolled back several times in a row. */
export const rolledBackCondition = "transactions-rolled-back"

export interface Limits {
  /** Times in a row that are a condition. */
  readonly told: number
  /** Times in a row, and time since the first of them, after which the table is set aside; for a merge, when one of another table was committed since the last time. */
  readonly times: number
  readonly within: Duration.Input
}

/** A deadlock is over in seconds, what somebody runs on a target by hand in minutes. */
export const Limits: Context.Reference<Limits> = Context.Reference<Limits>("@etl-stream/sink-snowflake/RolledBack", {
  defaultValue: () => ({ told: 3, times: 10, within: "10 minutes" })
})

/** Whether the run goes on when it fails, as with a merge: it is tried again with the next one, and the other tables don't wait for it. */
export const RunGoesOn: Context.Reference<boolean> = Context.Reference<boolean>(
  "@etl-stream/sink-snowflake/RolledBack/RunGoesOn",
  { defaultValue: () => false }
)

/** What is done: in messages, and by which it is counted. */
export interface Doing {
  readonly what: string
  readonly table?: string | undefined
}

interface InARow {
  readonly what: string
  readonly table: TableId | undefined
  readonly since: number
  times: number
  /** When it was rolled back last. */
  last: number
}

interface Commit {
  readonly table: TableId
  readonly at: number
}

/** The last merge of a pipeline, and the last one of another table than that one's: enough to tell when another than any given one's was. */
class LastCommits {
  private last: Commit | undefined
  private other: Commit | undefined

  add(commit: Commit): void {
    if (this.last !== undefined && this.last.table !== commit.table) this.other = this.last
    this.last = commit
  }

  /** Whether one of another table was at `since` or later. */
  beside(table: TableId, since: number): boolean {
    const commit = this.last?.table === table ? this.other : this.last
    return commit !== undefined && commit.at >= since
  }
}

/** What is known of a pipeline, from all of its runs in this process. */
interface Known {
  readonly counts: Map<string, InARow>
  /** The tables that the condition is raised for; undefined: for what is about none. */
  readonly raised: Set<TableId | undefined>
  readonly commits: LastCommits
}

const pipelines = new Map<string, Known>()

const advice =
  "Look in Snowflake's query history (query tag etl-stream) for why: a transaction of somebody else that locks the table, " +
  "a task or a stored procedure that writes to it, ABORT_DETACHED_QUERY, LOCK_TIMEOUT or STATEMENT_TIMEOUT_IN_SECONDS of the account."

export interface RolledBack {
  /** Raises conditions there from now on, and ends what an earlier run raised and what is over since. Of tables that aren't `written` nothing is tried any more. */
  readonly raiseIn: (conditions: Conditions, written: (table: TableId) => boolean) => Effect.Effect<void>
  /** Counts how `effect` ends. */
  readonly counted: <A, R>(doing: Doing, effect: Effect.Effect<A, Failed, R>) => Effect.Effect<A, Failed, R>
  /** The same for a transaction: when a merge's is committed, others could be as well. */
  readonly committing: <A, R>(doing: Doing, effect: Effect.Effect<A, Failed, R>) => Effect.Effect<A, Failed, R>
}

const messageOf = ({ since, times, what }: InARow): string =>
  `${what} was rolled back by Snowflake ${times} times in a row, since ${new Date(since).toISOString()}`

/** The counts of a pipeline, which are those of its runs before. */
export const make = Effect.fnUntraced(function*(config: Pick<Config, "account" | "database">, pipeline: string) {
  const { told, times: most, within } = yield* Limits
  const longest = Duration.fromInputUnsafe(within)
  const scope = JSON.stringify([config.account, config.database, pipeline])
  const known: Known = pipelines.get(scope) ?? { counts: new Map(), raised: new Set(), commits: new LastCommits() }
  pipelines.set(scope, known)
  const { commits, counts, raised } = known
  let conditions: Conditions | undefined
  const keyOf = ({ table, what }: Doing): string => JSON.stringify([table ?? "", what])

  const conditionOf = (count: InARow): Condition => ({
    name: rolledBackCondition,
    severity: "warning",
    ...(count.table === undefined ? {} : { table: count.table }),
    message: messageOf(count),
    hint: `${advice} It is tried again by itself${
      count.table === undefined
        ? ""
        : `; after ${
          Duration.format(longest)
        } the table is set aside, unless no other table's changes get through either`
    }.`
  })

  /** The condition of a table is what is worst of all that is done for it. Before there is a run it can't be said, and is by `raiseIn`. */
  const settle = (table: TableId | undefined): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (conditions === undefined) return Effect.void
      const [worst] = [...counts.values()].filter((count) => count.table === table && count.times >= told)
        .sort((a, b) => b.times - a.times)
      if (worst === undefined) {
        return raised.delete(table) ? conditions.clear(rolledBackCondition, table) : Effect.void
      }
      raised.add(table)
      return conditions.raise(conditionOf(worst))
    })

  const over = (key: string): Effect.Effect<void> =>
    Effect.suspend(() => {
      const count = counts.get(key)
      if (count === undefined) return Effect.void
      counts.delete(key)
      return settle(count.table)
    })

  const again = Effect.fnUntraced(function*(key: string, { table, what }: Doing, error: Failed) {
    const now = yield* Clock.currentTimeMillis
    const count = counts.get(key) ?? { what, table, since: now, times: 0, last: now }
    const before = count.last
    count.times++
    count.last = now
    counts.set(key, count)
    const stays = count.times >= most && now - count.since >= Duration.toMillis(longest)
    if (table !== undefined && stays && (!(yield* RunGoesOn) || commits.beside(table, before))) {
      // Nothing is done for it any more.
      for (const [other, { table: of }] of counts) if (of === table) counts.delete(other)
      yield* settle(table)
      return yield* ErrorPolicy.failure(
        "Rejected",
        `${messageOf(count)}. The last time: ${error.message}`,
        advice,
        { table }
      )
    }
    if (count.times >= told) yield* settle(table)
    return yield* error
  })

  const counted: RolledBack["counted"] = (doing, effect) => {
    const key = keyOf(doing)
    return effect.pipe(
      Effect.tap(() => over(key)),
      Effect.catchIf(ErrorPolicy.isRolledBack, (error) => again(key, doing, error))
    )
  }
  const made: RolledBack = {
    raiseIn: (where, written) =>
      Effect.suspend(() => {
        conditions = where
        const tables = new Set([...raised, ...[...counts.values()].map(({ table }) => table)])
        for (const [key, { table }] of counts) if (table !== undefined && !written(table)) counts.delete(key)
        return Effect.forEach(tables, settle, { discard: true })
      }),
    counted,
    committing: (doing, effect) => {
      const { table } = doing
      const committed = table === undefined
        ? effect
        : Effect.tap(effect, () =>
          Effect.gen(function*() {
            if (yield* RunGoesOn) commits.add({ table, at: yield* Clock.currentTimeMillis })
          }))
      return counted(doing, committed)
    }
  }
  return made
})
