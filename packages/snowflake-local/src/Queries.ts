/**
 * Queries from the driver's request to its answer.
 *
 * A query runs in a fiber of the server's, not of the request's: when the connection breaks it goes on, and the driver's repeated request (same request id) is given
 * the same answer instead of a second execution. The answers of a session are kept for its last requests.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { randomBytes, randomUUID } from "node:crypto"
import { mkdir, rm } from "node:fs/promises"
import { join } from "node:path"
import { Accounts } from "./Accounts.ts"
import type { Bindings } from "./BindVariables.ts"
import * as BindVariables from "./BindVariables.ts"
import { Catalog } from "./Catalog.ts"
import { Grants } from "./Grants.ts"
import * as QueryAnswer from "./QueryAnswer.ts"
import * as ResultRows from "./ResultRows.ts"
import * as Session from "./Session.ts"
import { Sessions } from "./Sessions.ts"
import * as SnowflakeError from "./SnowflakeError.ts"
import * as Environment from "./sql/Environment.ts"
import type { Token } from "./sql/Token.ts"
import { statements, tokenize } from "./sql/Token.ts"
import * as Dispatch from "./statement/Dispatch.ts"
import * as StageStatement from "./statement/StageStatement.ts"
import type { Outcome, StatementContext } from "./statement/StatementContext.ts"
import * as Statement from "./statement/StatementContext.ts"
import { logged, StatementLog } from "./StatementLog.ts"
import * as Storage from "./Storage.ts"
import { StreamingState } from "./streaming/StreamingState.ts"
import { TaskRuns } from "./TaskRuns.ts"
import * as VisibleCatalog from "./VisibleCatalog.ts"

export interface QueryRequest {
  readonly requestId: string
  readonly sqlText: string
  readonly bindings: Bindings | undefined
  readonly describeOnly: boolean
  readonly asynchronous: boolean
  readonly statementCount: number
  readonly parameters: Readonly<Record<string, unknown>>
  /** Scheme, host and port by which the client reaches the server. */
  readonly origin: string
  /** False: not in the statement log. */
  readonly logged?: boolean
}

interface Running {
  readonly queryId: string
  readonly requestId: string
  readonly session: Session.Session
  readonly answer: Deferred.Deferred<QueryAnswer.Answer>
  fiber: Fiber.Fiber<void> | undefined
  status: "RUNNING" | "SUCCESS" | "FAILED_WITH_ERROR"
  /** Names of the files with the result's chunks. */
  chunks: ReadonlyArray<string>
  /** Length of the answer. */
  characters: number
}

/** Answers are kept for repeated requests: the last ones, and not too much text. */
const keptAnswers = 200
const keptCharacters = 16_000_000

export class Queries extends Context.Service<Queries, {
  readonly log: StatementLog
  readonly stageToken: string
  readonly resultsFolder: string
  /** Starts a query, or finds the one of the same request id, and answers: with its result, or that it is still in progress. */
  readonly submit: (session: Session.Session, request: QueryRequest) => Effect.Effect<QueryAnswer.Answer>
  /** The answer of an earlier query. */
  readonly result: (session: Session.Session, queryId: string) => Effect.Effect<QueryAnswer.Answer>
  readonly monitor: (
    session: Session.Session,
    queryId: string
  ) => { readonly id: string; readonly status: string } | undefined
  /** Cancels by request id or query id. */
  readonly abort: (session: Session.Session, id: string) => Effect.Effect<void>
  /** Forgets a session's answers, and ends what still runs in it. */
  readonly forget: (session: Session.Session) => Effect.Effect<void>
}>()("@etl-stream/snowflake-local/Queries") {
  static readonly layer = (options: {
    readonly inProgressAfterMillis?: number | undefined
  }): Layer.Layer<
    Queries,
    Storage.StorageError,
    Storage.Storage | Catalog | Accounts | Grants | Sessions | StreamingState | TaskRuns
  > =>
    Layer.effect(
      Queries,
      Effect.gen(function*() {
        const storage = yield* Storage.Storage
        const catalog = yield* Catalog
        const accounts = yield* Accounts
        const grants = yield* Grants
        const sessions = yield* Sessions
        const streaming = yield* StreamingState
        const scope = yield* Effect.scope
        const log = new StatementLog()
        const bySession = new Map<Session.Session, Map<string, Running>>()
        const resultsFolder = join(storage.dataDir, "results")
        const stageToken = randomBytes(24).toString("base64url")
        const inProgressAfter = options.inProgressAfterMillis ?? 45_000
        // Results of sessions that are gone.
        yield* Effect.tryPromise({
          try: async () => {
            await rm(resultsFolder, { recursive: true, force: true })
            await mkdir(resultsFolder, { recursive: true })
          },
          catch: Storage.StorageError.from
        })

        const services: Statement.Services = {
          storage,
          catalog,
          accounts,
          grants,
          locks: sessions.locks,
          log,
          taskRuns: yield* TaskRuns,
          warehouses: sessions.warehouses,
          channels: () => streaming.channels().map(({ record }) => record),
          stageToken,
          resultsFolder
        }

        /** One statement, logged; `tokens` is undefined when the text must not be split (PUT). */
        const statement = (
          session: Session.Session,
          request: QueryRequest,
          queryId: string,
          source: string,
          tokens: ReadonlyArray<Token>
        ): Effect.Effect<Outcome, SnowflakeError.SnowflakeError> =>
          Effect.gen(function*() {
            const tag = request.parameters["QUERY_TAG"]
            const context: StatementContext = {
              session,
              services: { ...services, catalog: VisibleCatalog.of(catalog, grants, session.role) },
              source,
              tokens,
              queryId,
              request: { id: request.requestId, tag: typeof tag === "string" ? tag : undefined },
              now: yield* Clock.currentTimeMillis,
              origin: request.origin,
              binds: [],
              findings: Environment.noFindings(),
              facts: { needsWarehouse: false, wokeWarehouse: false }
            }
            const run = Effect.gen(function*() {
              const binds = yield* Statement.parse(() => BindVariables.literals(request.bindings))
              const seconds = Number(session.parameters.get("STATEMENT_TIMEOUT_IN_SECONDS") ?? 0)
              const execution = Dispatch.execute({ ...context, binds }, request.describeOnly)
              if (seconds === 0) return yield* execution
              const tooLate = Effect.sleep(`${seconds} seconds`).pipe(
                Effect.andThen(Session.stoppable(session)),
                Effect.andThen(Effect.fail(SnowflakeError.statementTimeout(seconds)))
              )
              return yield* Effect.raceFirst(execution, tooLate)
            })
            return yield* request.logged === false ? run : logged(context, source, run)
          })

        const execute = (
          session: Session.Session,
          request: QueryRequest,
          running: Running
        ): Effect.Effect<QueryAnswer.Answer> =>
          Effect.gen(function*() {
            session.busy = true
            const source = request.sqlText
            if (StageStatement.isPut(source)) {
              const outcome = yield* statement(session, request, running.queryId, source, [])
              return QueryAnswer.success(session, running.queryId, outcome, request.origin)
            }
            const parts = yield* Statement.parse(() => statements(tokenize(source)))
            const single = parts[0]
            if (parts.length === 0 || single === undefined) return yield* SnowflakeError.syntax("Empty SQL statement.")
            if (request.statementCount !== 0 && parts.length !== request.statementCount) {
              return yield* SnowflakeError.statementCount(parts.length, request.statementCount)
            }
            if (parts.length === 1) {
              const outcome = yield* statement(session, request, running.queryId, source, single)
              running.chunks = outcome.result.chunks.map((chunk) => chunk.path)
              return QueryAnswer.success(session, running.queryId, outcome, request.origin)
            }
            const ids: Array<string> = []
            const types: Array<number> = []
            for (const part of parts) {
              const queryId = randomUUID()
              const outcome = yield* statement(session, request, queryId, source, part)
              const child = makeRunning(session, `${request.requestId}/${ids.length}`, queryId)
              child.status = "SUCCESS"
              child.chunks = outcome.result.chunks.map((chunk) => chunk.path)
              yield* Deferred.succeed(child.answer, QueryAnswer.success(session, queryId, outcome, request.origin))
              Session.committed(session)
              ids.push(queryId)
              types.push(outcome.typeId)
            }
            return QueryAnswer.success(session, running.queryId, {
              kind: "MULTI_STATEMENT",
              typeId: 0xa000,
              result: ResultRows.status("Multiple statements executed successfully."),
              extra: {
                rowtype: [ResultRows.rowType(ResultRows.column("multiple statement execution"))],
                rowset: [["Multiple statements executed successfully."]],
                total: 1,
                returned: 1,
                resultIds: ids.join(","),
                resultTypes: types.join(",")
              }
            }, request.origin)
          }).pipe(
            Effect.catch((error) => {
              running.status = "FAILED_WITH_ERROR"
              return Effect.succeed(QueryAnswer.failure(error, running.queryId))
            }),
            Effect.catchDefect((defect) => {
              running.status = "FAILED_WITH_ERROR"
              const message = defect instanceof Error ? defect.message : String(defect)
              return Effect.succeed(QueryAnswer.failure(SnowflakeError.internal(message), running.queryId))
            }),
            Effect.onInterrupt(() =>
              Effect.sync(() => {
                running.status = "FAILED_WITH_ERROR"
              })
            ),
            Effect.ensuring(Effect.sync(() => {
              session.busy = false
              session.lastUsedAt = Date.now()
              session.lastQueryId = running.queryId
            }))
          )

        const answersOf = (session: Session.Session): Map<string, Running> => {
          const found = bySession.get(session)
          if (found !== undefined) return found
          const made = new Map<string, Running>()
          bySession.set(session, made)
          return made
        }

        const removeChunks = (running: Running) =>
          Effect.promise(() =>
            Promise.all(running.chunks.map((name) => rm(join(resultsFolder, name), { force: true })))
          )

        const makeRunning = (session: Session.Session, requestId: string, queryId: string): Running => {
          const running: Running = {
            queryId,
            requestId,
            session,
            answer: Deferred.makeUnsafe<QueryAnswer.Answer>(),
            fiber: undefined,
            status: "RUNNING",
            chunks: [],
            characters: 0
          }
          answersOf(session).set(requestId, running)
          return running
        }

        /** A query of this session, or of another one of the same user. */
        const byQueryId = (session: Session.Session, id: string): Running | undefined => {
          for (const [owner, answers] of bySession) {
            if (owner.user !== session.user) continue
            for (const running of answers.values()) if (running.queryId === id) return running
          }
          return undefined
        }

        const discardOldest = (answers: Map<string, Running>): Effect.Effect<void> =>
          Effect.suspend(() => {
            let characters = 0
            for (const other of answers.values()) characters += other.characters
            const discarded: Array<Running> = []
            for (const other of answers.values()) {
              if (answers.size <= keptAnswers && characters <= keptCharacters) break
              if (other.status === "RUNNING") continue
              answers.delete(other.requestId)
              characters -= other.characters
              discarded.push(other)
            }
            return Effect.forEach(discarded, removeChunks, { discard: true })
          })

        const start = (session: Session.Session, request: QueryRequest): Effect.Effect<Running> =>
          Effect.gen(function*() {
            const answers = answersOf(session)
            const known = answers.get(request.requestId)
            if (known !== undefined) return known
            const running = makeRunning(session, request.requestId, randomUUID())
            yield* discardOldest(answers)
            const answered = execute(session, request, running).pipe(
              Effect.flatMap((answer) => {
                if (running.status === "RUNNING") running.status = "SUCCESS"
                running.characters = answer.length
                return Deferred.succeed(running.answer, answer)
              }),
              Effect.ensuring(Effect.sync(() => Session.committed(session)))
            )
            running.fiber = yield* session.lock.withPermit(answered).pipe(
              Effect.onInterrupt(() =>
                Deferred.succeed(running.answer, QueryAnswer.failure(SnowflakeError.cancelled(), running.queryId))
              ),
              Effect.asVoid,
              Effect.forkIn(scope, { startImmediately: true })
            )
            return running
          })

        const wait = (running: Running): Effect.Effect<QueryAnswer.Answer> =>
          Deferred.await(running.answer).pipe(
            Effect.timeoutOrElse({
              duration: `${inProgressAfter} millis`,
              orElse: () => Effect.succeed(QueryAnswer.inProgress(running.session, running.queryId, false))
            })
          )

        const stop = (running: Running): Effect.Effect<void> =>
          Effect.gen(function*() {
            yield* Session.stoppable(running.session)
            if (running.fiber !== undefined && running.status === "RUNNING") yield* Fiber.interrupt(running.fiber)
          })

        return Queries.of({
          log,
          stageToken,
          resultsFolder,
          submit: (session, request) =>
            Effect.flatMap(
              start(session, request),
              (running) =>
                request.asynchronous
                  ? Effect.succeed(QueryAnswer.inProgress(running.session, running.queryId, true))
                  : wait(running)
            ),
          result: (session, queryId) =>
            Effect.suspend(() => {
              const running = byQueryId(session, queryId)
              return running === undefined
                ? Effect.succeed(QueryAnswer.failure(SnowflakeError.resultNotFound(), queryId))
                : wait(running)
            }),
          monitor: (session, queryId) => {
            const running = byQueryId(session, queryId)
            return running === undefined ? undefined : { id: queryId, status: running.status }
          },
          abort: (session, id) =>
            Effect.suspend(() => {
              const running = answersOf(session).get(id) ?? byQueryId(session, id)
              return running === undefined ? Effect.void : stop(running)
            }),
          forget: (session) =>
            Effect.suspend(() => {
              const answers = [...answersOf(session).values()]
              bySession.delete(session)
              return Effect.forEach(
                answers,
                (running) =>
                  Effect.andThen(
                    stop(running),
                    removeChunks(running)
                  ),
                { discard: true }
              )
            })
        })
      })
    )
}
