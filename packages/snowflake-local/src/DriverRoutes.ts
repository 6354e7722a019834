/**
 * The endpoints of Snowflake's drivers: login, tokens, queries, results, and what they send besides.
 *
 * Bodies are decoded by schema. Whatever goes wrong is answered as Snowflake does: HTTP 200 with `success: false`.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { createReadStream } from "node:fs"
import { stat } from "node:fs/promises"
import { basename, join } from "node:path"
import type { Readable } from "node:stream"
import { gunzipSync } from "node:zlib"
import { Bindings } from "./BindVariables.ts"
import type * as DriverFaults from "./DriverFaults.ts"
import type { Request, Response } from "./Http.ts"
import { dropConnection, json } from "./Http.ts"
import { Queries } from "./Queries.ts"
import { failure, parametersOf } from "./QueryAnswer.ts"
import type { Session } from "./Session.ts"
import { Sessions } from "./Sessions.ts"
import * as SnowflakeError from "./SnowflakeError.ts"

const optionalText = Schema.optionalKey(Schema.NullOr(Schema.String))

const LoginBody = Schema.fromJsonString(Schema.Struct({
  data: Schema.Struct({
    ACCOUNT_NAME: optionalText,
    LOGIN_NAME: optionalText,
    AUTHENTICATOR: optionalText,
    TOKEN: optionalText,
    PASSWORD: optionalText,
    SESSION_PARAMETERS: Schema.optionalKey(Schema.NullOr(Schema.Record(Schema.String, Schema.Unknown)))
  })
}))

const QueryBody = Schema.fromJsonString(Schema.Struct({
  sqlText: Schema.String,
  bindings: Schema.optionalKey(Schema.NullOr(Bindings)),
  bindStage: optionalText,
  describeOnly: Schema.optionalKey(Schema.NullOr(Schema.Boolean)),
  asyncExec: Schema.optionalKey(Schema.NullOr(Schema.Boolean)),
  parameters: Schema.optionalKey(Schema.NullOr(Schema.Record(Schema.String, Schema.Unknown)))
}))

const AbortBody = Schema.fromJsonString(Schema.Struct({ requestId: Schema.String }))
const RenewBody = Schema.fromJsonString(Schema.Struct({ requestType: Schema.String }))

const text = (request: Request): string =>
  (request.headers["content-encoding"] === "gzip" ? gunzipSync(request.body) : Buffer.from(request.body)).toString(
    "utf8"
  )

const decoded = <S extends Schema.ConstraintDecoder<unknown>>(schema: S, request: Request) =>
  Effect.try({ try: () => text(request), catch: () => SnowflakeError.badRequest() }).pipe(
    Effect.flatMap((body) => Schema.decodeUnknownEffect(schema)(body)),
    Effect.mapError(() => SnowflakeError.badRequest())
  )

const tokenOf = (request: Request): string | undefined =>
  /^Snowflake Token="([^"]+)"$/.exec(request.headers["authorization"] ?? "")?.[1]

const ok = (data: unknown): Response => json({ success: true, code: null, message: null, data })

/** A chunk is streamed; its response is told apart by its body. */
export type Streamed = Omit<Response, "body"> & { readonly body: string | Uint8Array | Readable }

type Failing = Effect.Effect<Streamed, SnowflakeError.SnowflakeError, Sessions | Queries>

const sessionOf = (request: Request): Effect.Effect<Session, SnowflakeError.SnowflakeError, Sessions> =>
  Effect.flatMap(Sessions, (sessions) => sessions.authenticate(tokenOf(request)))

const login = (request: Request): Failing =>
  Effect.gen(function*() {
    const sessions = yield* Sessions
    const { data } = yield* decoded(LoginBody, request)
    const parameter = (name: string) => request.url.searchParams.get(name) ?? undefined
    const session = yield* sessions.login({
      authenticator: data.AUTHENTICATOR ?? "",
      loginName: data.LOGIN_NAME ?? undefined,
      password: data.PASSWORD ?? undefined,
      token: data.TOKEN ?? undefined,
      warehouse: parameter("warehouse"),
      database: parameter("databaseName"),
      schema: parameter("schemaName"),
      role: parameter("roleName"),
      parameters: data.SESSION_PARAMETERS ?? {}
    })
    return ok({
      token: session.token,
      masterToken: session.masterToken,
      validityInSeconds: sessions.validity.tokenSeconds,
      masterValidityInSeconds: sessions.validity.masterSeconds,
      sessionId: Number(session.id),
      displayUserName: session.user,
      serverVersion: "9.0.0-local",
      firstLogin: false,
      healthCheckInterval: 45,
      parameters: parametersOf(session),
      sessionInfo: {
        databaseName: session.database ?? null,
        schemaName: session.schema ?? null,
        warehouseName: session.warehouse ?? null,
        roleName: session.role
      }
    })
  })

const renew = (request: Request): Failing =>
  Effect.gen(function*() {
    const sessions = yield* Sessions
    const { requestType } = yield* decoded(RenewBody, request)
    if (requestType !== "RENEW") return yield* SnowflakeError.badRequest()
    const session = yield* sessions.renew(tokenOf(request))
    return ok({
      sessionToken: session.token,
      validityInSecondsST: sessions.validity.tokenSeconds,
      masterToken: session.masterToken,
      validityInSecondsMT: sessions.validity.masterSeconds,
      sessionId: Number(session.id)
    })
  })

const query = (request: Request, faults: DriverFaults.DriverFaults): Failing =>
  Effect.gen(function*() {
    const session = yield* sessionOf(request)
    const queries = yield* Queries
    const body = yield* decoded(QueryBody, request)
    if (body.bindStage != null) return yield* SnowflakeError.unsupported("bind variables uploaded to a stage")
    const requestId = request.url.searchParams.get("requestId")
    if (requestId === null) return yield* SnowflakeError.badRequest()
    const parameters = body.parameters ?? {}
    const run = Effect.map(
      queries.submit(session, {
        requestId,
        sqlText: body.sqlText,
        bindings: body.bindings ?? undefined,
        describeOnly: body.describeOnly ?? false,
        asynchronous: body.asyncExec ?? false,
        statementCount: Number(
          parameters["MULTI_STATEMENT_COUNT"] ?? session.parameters.get("MULTI_STATEMENT_COUNT") ?? 1
        ),
        parameters,
        origin: request.url.origin
      }),
      (answer): Streamed => json(answer)
    )
    return yield* withFault(faults, "query", run, { text: body.sqlText, session })
  })

const end = (session: Session): Effect.Effect<void, never, Sessions | Queries> =>
  Effect.gen(function*() {
    const sessions = yield* Sessions
    const queries = yield* Queries
    yield* queries.forget(session)
    yield* sessions.remove(session)
  })

const abort = (request: Request, faults: DriverFaults.DriverFaults, queryId: string | undefined): Failing =>
  Effect.gen(function*() {
    const session = yield* sessionOf(request)
    const queries = yield* Queries
    const id = queryId ?? (yield* decoded(AbortBody, request)).requestId
    return yield* withFault(faults, "abort", Effect.as(queries.abort(session, id), ok(null)), { session })
  })

const monitoring = (request: Request, faults: DriverFaults.DriverFaults, queryId: string): Failing =>
  Effect.gen(function*() {
    const session = yield* sessionOf(request)
    const queries = yield* Queries
    const answer = Effect.sync(() => {
      const found = queries.monitor(session, queryId)
      return ok({ queries: found === undefined ? [] : [found] })
    })
    return yield* withFault(faults, "monitoring", answer, { session })
  })

const result = (request: Request, faults: DriverFaults.DriverFaults, queryId: string): Failing =>
  Effect.gen(function*() {
    const session = yield* sessionOf(request)
    const queries = yield* Queries
    return yield* withFault(faults, "result", Effect.map(queries.result(session, queryId), (body) => json(body)), {
      session
    })
  })

const heartbeat = (request: Request, faults: DriverFaults.DriverFaults): Failing =>
  Effect.gen(function*() {
    const session = yield* sessionOf(request)
    return yield* withFault(faults, "heartbeat", Effect.succeed(ok(null)), { session })
  })

/** A chunk's name can't be guessed, and is all that the driver sends for it. */
const chunk = (name: string): Failing =>
  Effect.gen(function*() {
    const queries = yield* Queries
    const path = join(queries.resultsFolder, basename(name))
    const facts = yield* Effect.tryPromise({ try: () => stat(path), catch: () => SnowflakeError.resultNotFound() })
      .pipe(Effect.option)
    if (facts._tag === "None") return { status: 403, body: "" }
    return {
      status: 200,
      // Not JSON: a chunk is rows without the outer brackets, and the driver would try to parse it.
      headers: { "content-type": "application/octet-stream", "content-length": String(facts.value.size) },
      body: createReadStream(path)
    }
  })

/** Applies the next fault of this endpoint, if there is one. */
const withFault = <R>(
  faults: DriverFaults.DriverFaults,
  endpoint: DriverFaults.Endpoint,
  run: Effect.Effect<Streamed, SnowflakeError.SnowflakeError, R>,
  about: { readonly text?: string; readonly session?: Session } = {}
): Effect.Effect<Streamed, SnowflakeError.SnowflakeError, R | Sessions | Queries> =>
  Effect.suspend((): Effect.Effect<Streamed, SnowflakeError.SnowflakeError, R | Sessions | Queries> => {
    const fault = faults.take(endpoint, about.text)
    if (fault === undefined) return run
    const { session } = about
    const answer: Streamed = {
      status: fault.status ?? 503,
      body: fault.body ?? "",
      ...(fault.headers === undefined ? {} : { headers: fault.headers })
    }
    const cut: Streamed = { status: dropConnection, body: "" }
    const pause = Effect.sleep(`${fault.millis ?? 1000} millis`)
    switch (fault.kind) {
      case "status":
        return Effect.succeed(answer)
      case "statusAfter":
        return Effect.as(run, answer)
      case "delay":
        return Effect.andThen(pause, run)
      case "delayAfter":
        return Effect.tap(run, pause)
      case "dropBefore":
        return Effect.succeed(cut)
      case "dropAfter":
        return Effect.as(run, cut)
      case "error":
        return Effect.fail(
          new SnowflakeError.SnowflakeError({
            code: fault.code ?? "300002",
            sqlState: fault.sqlState ?? "XX000",
            message: fault.message ?? "Internal error (injected)."
          })
        )
      case "expireSession":
        if (endpoint === "token") return Effect.fail(SnowflakeError.masterTokenExpired())
        if (session !== undefined) session.tokenExpiresAt = 0
        return Effect.fail(SnowflakeError.sessionTokenExpired())
      case "endSession":
        return Effect.andThen(
          session === undefined ? Effect.void : end(session),
          Effect.fail(SnowflakeError.sessionGone())
        )
    }
  })

const route = (request: Request, faults: DriverFaults.DriverFaults): Failing | undefined => {
  const { method } = request
  const path = request.url.pathname
  if (method === "POST" && path === "/session/v1/login-request") return withFault(faults, "login", login(request))
  if (method === "POST" && path === "/session/token-request") return withFault(faults, "token", renew(request))
  if (method === "POST" && path === "/session" && request.url.searchParams.get("delete") === "true") {
    return Effect.as(Effect.flatMap(sessionOf(request), end), ok(null))
  }
  if (method === "POST" && path === "/session/heartbeat") return heartbeat(request, faults)
  if (method === "POST" && path === "/telemetry/send") return Effect.succeed(ok(null))
  if (method === "POST" && path === "/queries/v1/query-request") return query(request, faults)
  if (method === "POST" && path === "/queries/v1/abort-request") return abort(request, faults, undefined)
  const aborted = /^\/queries\/([^/]+)\/abort-request$/.exec(path)
  if (method === "POST" && aborted !== null) return abort(request, faults, aborted[1])
  const asked = /^\/queries\/([^/]+)\/result$/.exec(path)
  if (method === "GET" && asked !== null) return result(request, faults, asked[1] ?? "")
  const monitored = /^\/monitoring\/queries\/([^/]+)$/.exec(path)
  if (method === "GET" && monitored !== null) return monitoring(request, faults, monitored[1] ?? "")
  const chunked = /^\/results\/([^/]+)$/.exec(path)
  if (method === "GET" && chunked !== null) return withFault(faults, "chunk", chunk(chunked[1] ?? ""))
  return undefined
}

/** Answers a request of a driver; undefined when the path is none of its. */
export const handle = (
  request: Request,
  faults: DriverFaults.DriverFaults
): Effect.Effect<Streamed, never, Sessions | Queries> | undefined =>
  route(request, faults)?.pipe(
    Effect.catch((error) => Effect.succeed<Streamed>(json(failure(error)))),
    Effect.catchDefect((defect) =>
      Effect.succeed<Streamed>(
        json(failure(SnowflakeError.internal(defect instanceof Error ? defect.message : String(defect))))
      )
    )
  )
