/**
 * Follows the configuration database while pipelines run: what changes there takes effect.
 *
 * Notifications tell of changes at once; a look every now and then finds what no notification told, such as what changed while the connection was
 * gone. Whatever is wrong with the database, pipelines go on with what they have: it is a condition, and the connection is made anew by a `Schedule`.
 */
import * as Condition from "@etl-stream/core/Condition"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Progress from "@etl-stream/core/Progress"
import * as RetryPolicy from "@etl-stream/core/RetryPolicy"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as SqlClient from "effect/sql/SqlClient"
import { internal } from "../CommandError.ts"
import type { Configuration } from "../Configuration.ts"
import * as ConfigurationChange from "../ConfigurationChange.ts"
import type { Problem } from "../Problem.ts"
import type { Redaction } from "../Redaction.ts"
import type { Supervised, Supervisor } from "../Supervisor.ts"
import * as Connection from "./Connection.ts"
import { fromSql, withoutDefects } from "./DatabaseError.ts"
import type { Evaluated, Evaluation, Problems } from "./Evaluation.ts"
import * as ProblemColumns from "./ProblemColumns.ts"
import { keyOf, read, type Snapshot } from "./Rows.ts"
import { channel } from "./Tables.ts"

export interface Options {
  readonly url: Redacted.Redacted
  readonly evaluation: Evaluation
  readonly supervisor: Pick<Supervisor, "pipelines" | "reload">
  /** What `supervisor` was started with. */
  readonly initial: Evaluated
  /** Completes each time that everything is to be looked at anew, references too. */
  readonly asked: Effect.Effect<void>
  /** How often the tables are looked at without a notification. */
  readonly poll: Duration.Duration
  /** How long the database may take to answer. Default: 20 seconds. */
  readonly patience?: Duration.Duration
  /** Called with a configuration before anything of it is used, so that its secrets are hidden. */
  readonly loaded: (configuration: Configuration) => void
  /** Takes over what of a configuration isn't about pipelines. */
  readonly taken: (configuration: Configuration) => Effect.Effect<void>
  /** Hides the secrets of all configurations so far. */
  readonly redact: Redaction
}

/** The name that conditions of the database are kept under, as if it were a pipeline. */
export const conditionsOf = "configuration-database"

const condition = "configuration-database-unavailable"

/** Changes that come within this time are looked at together. */
const gathering = Duration.millis(50)

const reconnecting: RetryPolicy.RetryPolicy = Schedule.min([
  Schedule.exponential("250 millis"),
  Schedule.spaced("10 seconds")
]).pipe(Schedule.jittered, Schedule.setInputType<ConnectorError>())

const named = (change: ConfigurationChange.ConfigurationChange): Readonly<Record<string, string>> =>
  Object.fromEntries(
    (["changed", "added", "removed"] as const).flatMap((kind) =>
      change[kind].length === 0 ? [] : [[kind, change[kind].join(", ")]]
    )
  )

/** Logs problems that are new. */
const tellProblems = (before: Problems, now: Problems): Effect.Effect<void> => {
  const known = new Set([...before.values()].flat().map((problem) => JSON.stringify(problem)))
  const fresh = [...now.values()].flat().filter((problem) => !known.has(JSON.stringify(problem)))
  return Effect.forEach(fresh, ({ message, path, remedy, row }) =>
    Effect.logError(message).pipe(
      Effect.annotateLogs({ row: row ?? "", ...(path === "" ? {} : { path }), hint: remedy })
    ), { discard: true })
}

/** What `problems` says of rows, and why pipelines ended that nothing will start again by itself. */
const withFailures = (problems: Problems, pipelines: ReadonlyArray<Supervised>): Problems => {
  const all = new Map<string, ReadonlyArray<Problem>>(problems)
  for (const { name, progress: { lastError, phase }, retryAt } of pipelines) {
    const row = keyOf({ table: "pipelines", name })
    if (phase !== "failed" || retryAt() !== undefined || all.has(row)) continue
    all.set(row, [{
      path: "",
      row,
      message: `The pipeline failed: ${lastError?.message ?? "an unexpected error, see its log"}`,
      remedy: `${lastError?.hint ?? ""} It starts again when its row changes, or at SIGHUP.`.trim()
    }])
  }
  return all
}

/** Follows the database until interrupted. */
export const run = Effect.fn("Following.run")(function*(options: Options) {
  const { asked, evaluation, initial, loaded, patience = Duration.seconds(20), poll, redact, supervisor, taken, url } =
    options
  const scope = yield* Effect.scope
  const conditions = Condition.make(conditionsOf, Progress.make(conditionsOf))
  let current = initial
  let reached = false
  let mayWrite = true
  let anew = false
  /** Holds something when there is a reason to look. */
  const reasons = yield* Queue.sliding<void>(1)
  const remind = Queue.offer(reasons, undefined)
  yield* asked.pipe(
    Effect.andThen(Effect.sync(() => {
      anew = true
    })),
    Effect.andThen(remind),
    Effect.forever,
    Effect.forkScoped
  )

  let connection: Connection.Connection | undefined
  const inTime = <A, R>(use: Effect.Effect<A, ConnectorError, R>): Effect.Effect<A, ConnectorError, R> =>
    connection === undefined ? use : Connection.answering(patience, connection)(use)
  // Before this is interrupted: what waits on a silent connection can't be.
  yield* Effect.addFinalizer(() => connection?.sever ?? Effect.void)

  yield* tellProblems(new Map(), initial.problems)

  const apply = Effect.fnUntraced(function*(snapshot: Snapshot, anew: boolean) {
    const next = yield* evaluation.evaluate(snapshot, anew)
    loaded(next.configuration)
    yield* tellProblems(current.problems, next.problems)
    const paused = next.paused.filter((name) => !current.paused.includes(name))
    const change = ConfigurationChange.between(current.configuration, next.configuration)
    // As a whole, whatever becomes of the connection meanwhile: nobody would look again for what was left out.
    yield* Effect.uninterruptible(Effect.gen(function*() {
      current = next
      yield* taken(next.configuration)
      // What has failed starts again when it changes, or when everything is looked at anew. The next change doesn't wait for the drains of this one.
      yield* supervisor.reload(next.configuration, anew ? change : { ...change, unchanged: [] }).pipe(
        Effect.forkIn(scope, { startImmediately: true })
      )
    }))
    const annotations = { ...named(change), ...(paused.length === 0 ? {} : { paused: paused.join(", ") }) }
    if (Object.keys(annotations).length > 0) {
      yield* Effect.logInfo("The configuration has changed").pipe(Effect.annotateLogs(annotations))
    }
  })

  /** What can't be written back is in the log, so pipelines don't depend on it. */
  const writeBack = Effect.fnUntraced(function*(snapshot: Snapshot) {
    if (!mayWrite) return
    yield* ProblemColumns.write(snapshot, withFailures(current.problems, supervisor.pipelines()), redact).pipe(
      inTime,
      Effect.catchIf(
        ({ reason }) => reason !== "Unreachable",
        (error) => {
          // Somebody was in the way: next time.
          if (error.reason === "Throttled") return Effect.void
          mayWrite = false
          return Effect.logWarning(`What is wrong with rows can't be written back: ${redact(error.message)}`).pipe(
            Effect.annotateLogs({ reason: error.reason, hint: error.hint })
          )
        }
      )
    )
  })

  const look = Effect.gen(function*() {
    const snapshot = yield* inTime(read)
    const all = anew
    anew = false
    yield* apply(snapshot, all).pipe(
      Effect.catchDefect((defect) => Effect.fail(internal("Looking at the configuration", defect))),
      Effect.catch((error) => Effect.logError(error.message).pipe(Effect.annotateLogs({ hint: error.hint })))
    )
    yield* writeBack(snapshot)
    reached = true
    yield* conditions.clear(condition)
  })

  const session = Effect.gen(function*() {
    connection = yield* Connection.connect(url)
    const { client } = connection
    mayWrite = true
    const notifications = yield* client.listen(channel).pipe(
      Effect.mapError(fromSql),
      inTime
    )
    const listening = Queue.takeAll(notifications).pipe(
      Effect.mapError(fromSql),
      Effect.andThen(remind),
      Effect.forever
    )
    const looking = Effect.gen(function*() {
      while (true) {
        yield* Effect.provideService(look, SqlClient.SqlClient, client)
        yield* Effect.raceFirst(Effect.andThen(Queue.take(reasons), Effect.sleep(gathering)), Effect.sleep(poll))
      }
    })
    return yield* Effect.raceFirst(listening, looking)
  }).pipe(Effect.scoped, withoutDefects)

  const keptUp = RetryPolicy.supervise(
    Effect.andThen(
      Effect.sync(() => {
        reached = false
      }),
      session
    ),
    {
      policy: reconnecting,
      healthyAfter: "1 minute",
      healthy: Effect.sync(() => reached),
      onRetry: ({ error }) =>
        conditions.raise({
          name: condition,
          severity: "warning",
          message: `${redact(error.message)} Pipelines go on with the configuration that they have`,
          hint: redact(error.hint)
        })
    }
  )
  // The schedule has no end.
  return yield* keptUp.pipe(
    Effect.catch((error) => Effect.logError(redact(error.message))),
    Effect.forever
  )
})
