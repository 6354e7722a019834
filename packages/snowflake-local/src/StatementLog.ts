/**
 * What was executed, for tests and for the curious: the last statements with their tag, warehouse and outcome, and how many there were of each kind.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as SnowflakeError from "./SnowflakeError.ts"
import type { Outcome, Run, StatementContext } from "./statement/StatementContext.ts"

export interface Entry {
  readonly queryId: string
  readonly requestId: string
  readonly sessionId: string
  readonly user: string
  readonly role: string
  readonly sql: string
  readonly tag: string
  /** The name of the task whose run it belongs to. */
  readonly task: string | null
  /** The statement that it is a part of: a block of Snowflake Scripting. */
  readonly parentQueryId: string | null
  /** The session's warehouse when the statement ran. */
  readonly warehouse: string | null
  /** The statement used the warehouse: in Snowflake it would keep it running. */
  needsWarehouse: boolean
  /** The warehouse was suspended, and the statement did wake it. */
  wokeWarehouse: boolean
  kind: string
  readonly startedAt: number
  durationMillis: number | null
  /** Snowflake's error code; null when it succeeded or still runs. */
  code: string | null
}

const kept = 2000
/** The log keeps this much of a statement's text. */
const keptCharacters = 10_000

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

/** Runs a statement and logs it. */
export const logged = (
  context: StatementContext,
  sql: string,
  run: Run<Outcome>,
  parentQueryId: string | null = null
): Run<Outcome> =>
  Effect.gen(function*() {
    const { facts, request, services, session } = context
    const { log } = services
    const [first] = context.tokens
    const entry: Entry = {
      queryId: context.queryId,
      requestId: request.id,
      sessionId: session.id,
      user: session.user,
      role: session.role,
      sql: sql.slice(0, keptCharacters),
      tag: request.tag ?? session.parameters.get("QUERY_TAG") ?? "",
      task: session.task ?? null,
      parentQueryId,
      warehouse: session.warehouse ?? null,
      needsWarehouse: false,
      wokeWarehouse: false,
      kind: first?.kind === "word" ? first.text : "UNKNOWN",
      startedAt: yield* Clock.currentTimeMillis,
      durationMillis: null,
      code: null
    }
    log.add(entry)
    return yield* run.pipe(
      Effect.tap((done) => Effect.sync(() => void (entry.kind = done.kind))),
      Effect.onExit((exit) =>
        Effect.map(Clock.currentTimeMillis, (finished) => {
          entry.needsWarehouse = facts.needsWarehouse
          entry.wokeWarehouse = facts.wokeWarehouse
          if (Exit.isFailure(exit)) {
            const error = Cause.findErrorOption(exit.cause)
            entry.code = error._tag === "Some" ? error.value.code : SnowflakeError.cancelled().code
          }
          log.finish(entry, finished)
        })
      )
    )
  })
