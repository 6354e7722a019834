/**
 * Runs tasks: those whose time has come by the server's clock, and those that EXECUTE TASK asks for.
 *
 * The interval of a task begins when it is resumed (or the server starts). A run that is due while the last one goes on is left out, unless the task allows overlaps. A run has a session of its own, as the
 * task's owner, whose transaction and temporary tables go with it. While the condition is false there is no run and nothing is asked of a warehouse.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { randomUUID } from "node:crypto"
import type { Task } from "./Catalog.ts"
import { Catalog } from "./Catalog.ts"
import { Queries } from "./Queries.ts"
import type { Session } from "./Session.ts"
import { Sessions } from "./Sessions.ts"
import * as SnowflakeError from "./SnowflakeError.ts"
import type { TaskRun } from "./TaskRuns.ts"
import { TaskRuns } from "./TaskRuns.ts"

const tick = "20 millis"

/** What is read of an answer to a query. */
const Answer = Schema.fromJsonString(Schema.Struct({
  success: Schema.Boolean,
  code: Schema.NullOr(Schema.String),
  message: Schema.NullOr(Schema.String),
  data: Schema.Struct({
    queryId: Schema.NullOr(Schema.String),
    rowset: Schema.optionalKey(Schema.Array(Schema.Array(Schema.NullOr(Schema.String))))
  })
}))
type Answer = typeof Answer.Type
const decode = Schema.decodeUnknownEffect(Answer)

/** @param speedup Intervals pass this much faster. */
export const layer = (speedup: number): Layer.Layer<never, never, Catalog | Queries | Sessions | TaskRuns> =>
  Layer.effectDiscard(Effect.gen(function*() {
    const catalog = yield* Catalog
    const queries = yield* Queries
    const sessions = yield* Sessions
    const runs = yield* TaskRuns
    const due = new Map<string, { readonly seconds: number; at: number }>()
    const running = new Set<string>()
    const failures = new Map<string, number>()
    const scope = yield* Effect.scope

    const inProgress = ({ code }: Answer): boolean => code === "333333" || code === "333334"

    /** Runs a statement to its end. */
    const execute = (session: Session, sqlText: string, logged: boolean): Effect.Effect<Answer> =>
      Effect.gen(function*() {
        const requestId = randomUUID()
        const submitted = queries.submit(session, {
          requestId,
          sqlText,
          bindings: undefined,
          describeOnly: false,
          asynchronous: false,
          statementCount: 1,
          parameters: {},
          origin: "",
          logged
        })
        let answer = yield* decode(yield* submitted)
        while (inProgress(answer)) answer = yield* decode(yield* queries.result(session, answer.data.queryId ?? ""))
        return answer
      }).pipe(Effect.orDie)

    const withSession = <A>(task: Task, use: (session: Session) => Effect.Effect<A>) =>
      Effect.acquireUseRelease(
        sessions.openForTask(task),
        use,
        (session) => Effect.andThen(queries.forget(session), sessions.remove(session))
      )

    const suspend = (task: Task) =>
      catalog.change((changes) =>
        Effect.suspend(() => {
          const current = catalog.task(task.database, task.schema, task.name)
          return current?.id === task.id ? changes.put({ ...current, state: "suspended" }) : Effect.void
        })
      )

    /** Counts a failure; after enough of them in a row the task is suspended, as in Snowflake. */
    const failed = (task: Task) =>
      Effect.suspend(() => {
        const count = (failures.get(task.id) ?? 0) + 1
        failures.set(task.id, count)
        if (task.suspendAfterFailures === 0 || count < task.suspendAfterFailures) return Effect.void
        failures.delete(task.id)
        return Effect.ignore(suspend(task))
      })

    const perform = Effect.fnUntraced(function*(task: Task, run: TaskRun) {
      const finish = (answer: Pick<Answer, "success" | "code" | "message">) =>
        Effect.gen(function*() {
          run.state = answer.success ? "SUCCEEDED" : "FAILED"
          run.errorCode = answer.success ? null : answer.code
          run.errorMessage = answer.success ? null : answer.message
          run.completedAt = yield* Clock.currentTimeMillis
          if (answer.success) failures.delete(task.id)
          else yield* failed(task)
        })
      yield* withSession(task, (session) =>
        Effect.gen(function*() {
          if (task.condition !== undefined) {
            const asked = yield* execute(session, `SELECT ${task.condition}`, false)
            if (!asked.success) return yield* finish(asked)
            if (asked.data.rowset?.[0]?.[0] !== "1") {
              run.state = "SKIPPED"
              run.errorMessage = "Conditional expression for task evaluated to false."
              run.completedAt = yield* Clock.currentTimeMillis
              return
            }
          }
          const answer = yield* execute(session, task.definition, true).pipe(
            Effect.timeoutOption(`${task.timeoutMillis} millis`)
          )
          if (answer._tag === "None") {
            // Ending the session ends what still runs in it.
            const { code, message } = SnowflakeError.statementTimeout(task.timeoutMillis / 1000)
            return yield* finish({ success: false, code, message })
          }
          run.queryId = answer.value.data.queryId
          yield* finish(answer.value)
        })).pipe(Effect.catch((error) => finish({ success: false, code: error.code, message: error.message })))
    })

    const start = (task: Task, scheduledFrom: TaskRun["scheduledFrom"], scheduledAt: number, now: number) => {
      const run: TaskRun = {
        taskId: task.id,
        database: task.database,
        schema: task.schema,
        name: task.name,
        definition: task.definition,
        condition: task.condition ?? null,
        scheduledFrom,
        scheduledAt,
        startedAt: now,
        queryId: null,
        state: "EXECUTING",
        errorCode: null,
        errorMessage: null,
        completedAt: null
      }
      running.add(task.id)
      runs.add(run)
      return perform(task, run).pipe(
        Effect.ensuring(Effect.sync(() => running.delete(task.id))),
        Effect.forkIn(scope)
      )
    }

    /** The task's time, when it has come; it is then moved on. */
    const take = (task: Task, now: number): number | undefined => {
      const { schedule } = task
      if (task.state !== "started" || schedule === undefined) {
        due.delete(task.id)
        return undefined
      }
      const millis = schedule.seconds * 1000 / speedup
      const next = due.get(task.id)
      if (next?.seconds !== schedule.seconds) {
        due.set(task.id, { seconds: schedule.seconds, at: now + millis })
        return undefined
      }
      if (next.at > now) return undefined
      const at = next.at
      while (next.at <= now) next.at += millis
      return at
    }

    const round = Effect.gen(function*() {
      const now = yield* Clock.currentTimeMillis
      for (const task of catalog.tasks()) {
        const at = take(task, now)
        const free = task.allowOverlap || !running.has(task.id)
        if (free && runs.take(task.id)) yield* start(task, "EXECUTE TASK", now, now)
        else if (free && at !== undefined) yield* start(task, "SCHEDULE", at, now)
      }
    })
    yield* Effect.forkScoped(Effect.repeat(round, Schedule.spaced(tick)))
  }))
