/**
 * Snowpipe Streaming v2 over HTTP: `/v2/streaming/**` and `/oauth/token`, and the local controls under `/_local/streaming/`.
 *
 * `handle` takes a request that the server has read whole and always answers; a response with status `Http.dropConnection` asks the server to end the
 * connection without an answer. Paths are matched here, credentials checked, faults applied, and the rest is StreamingState's.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { Accounts } from "../Accounts.ts"
import { Catalog } from "../Catalog.ts"
import * as Securables from "../Grants.ts"
import { Grants } from "../Grants.ts"
import type { Request, Response } from "../Http.ts"
import * as Http from "../Http.ts"
import type { Storage } from "../Storage.ts"
import * as VisibleCatalog from "../VisibleCatalog.ts"
import * as Channel from "./Channel.ts"
import * as ContentCoding from "./ContentCoding.ts"
import * as Faults from "./Faults.ts"
import * as PipeName from "./PipeName.ts"
import * as StreamingError from "./StreamingError.ts"
import { StreamingState } from "./StreamingState.ts"

type Services = Storage | Catalog | Accounts | Grants | StreamingState
type Handler = Effect.Effect<Response, StreamingError.StreamingError, Services>

/** Answers a request to `/v2/streaming/**` or `/oauth/token`. */
export const handle = (
  request: Request
): Effect.Effect<Response, never, Services> => {
  if (request.headers["accept"] === undefined) {
    return Effect.succeed(refuse(StreamingError.noAccept("Unsupported Accept header null is specified.")))
  }
  const route = Result.try({
    try: () => match(request),
    catch: () => StreamingError.badRequest("The path is not percent-encoded properly.")
  })
  return Effect.fromResult(route).pipe(
    Effect.flatMap((found) =>
      found === undefined
        ? Effect.fail(StreamingError.notFound("There is no such streaming endpoint."))
        : withFaults(request, found)
    ),
    Effect.catch((error) => Effect.succeed(refuse(error))),
    Effect.catchDefect((defect) =>
      Effect.as(
        // The stack says where; an error's message might hold a value.
        Effect.logError("a streaming request failed", {
          error: defect instanceof Error
            ? defect.stack?.split("\n").filter((line) => /^\s+at /.test(line)).join("\n")
            : typeof defect
        }),
        refuse(StreamingError.internal("The request failed inside the server. Retry."))
      )
    )
  )
}

/** Answers a request to `/_local/streaming/**`: faults, channels and counters. The server mounts it for its administrator only. */
export const handleLocal = (request: Request): Effect.Effect<Response, never, StreamingState> =>
  Effect.gen(function*() {
    const state = yield* StreamingState
    switch (`${request.method} ${request.url.pathname}`) {
      case "POST /_local/streaming/faults": {
        const fault = Schema.decodeUnknownResult(FaultBody)(text(request.body), { onExcessProperty: "error" })
        if (Result.isFailure(fault)) return refuse(StreamingError.badRequest(String(fault.failure.message)))
        state.faults.add(fault.success)
        return json(200, { faults: state.faults.list() })
      }
      case "GET /_local/streaming/faults":
        return json(200, { faults: state.faults.list() })
      case "DELETE /_local/streaming/faults": {
        state.faults.clear()
        yield* state.resumeCommits
        return json(200, { faults: [] })
      }
      case "DELETE /_local/streaming/channels": {
        const name = request.url.searchParams.get("channel") ?? undefined
        return yield* state.forget(name).pipe(
          Effect.map(() => json(200, {})),
          Effect.catch((error) => Effect.succeed(refuse(error)))
        )
      }
      case "GET /_local/streaming/channels":
        return json(200, {
          counters: state.counters,
          channels: state.channels().map(({ bufferedBytes, bufferedRows, record }) => ({
            ...Channel.status(record),
            table_name: record.table,
            client_sequencer: record.clientSequencer,
            buffered_rows: bufferedRows,
            buffered_bytes: bufferedBytes
          }))
        })
      default:
        return refuse(StreamingError.notFound("There is no such local endpoint."))
    }
  })

const FaultBody = Schema.fromJsonString(Faults.Fault)

// A body may be a bare JSON string, so it is written here: Http.json takes a string as it is.
const json = (status: number, body: unknown): Response => Http.json(JSON.stringify(body), status)

const refuse = (error: StreamingError.StreamingError): Response =>
  json(error.status, { code: error.code, message: error.message })

const text = (body: Uint8Array): string => Buffer.from(body).toString("utf8")

// ---- matching

interface Route {
  readonly endpoint: Faults.Endpoint
  readonly channel: string | undefined
  readonly run: Handler
}

const bulkStatus = ":bulk-channel-status"

const match = (request: Request): Route | undefined => {
  const { method, url } = request
  const path = url.pathname.split("/").slice(1).map((segment) => decodeURIComponent(segment))
  if (method === "POST" && url.pathname === "/oauth/token") {
    return { endpoint: "token", channel: undefined, run: token(request) }
  }
  if (method === "GET" && url.pathname === "/v2/streaming/hostname") {
    return { endpoint: "hostname", channel: undefined, run: hostname(request) }
  }
  if (path[0] !== "v2" || path[1] !== "streaming") return undefined
  const data = path[2] === "data"
  const [databases, database, schemas, schema, pipes, pipe, channels, channel, rows, ...rest] = path.slice(data ? 3 : 2)
  if (databases !== "databases" || schemas !== "schemas" || pipes !== "pipes" || rest.length > 0) return undefined
  if (database === undefined || schema === undefined || pipe === undefined) return undefined
  if (!data && method === "POST" && channels === undefined && pipe.endsWith(bulkStatus)) {
    const names = PipeName.parse(database, schema, pipe.slice(0, -bulkStatus.length))
    return { endpoint: "status", channel: undefined, run: status(request, names) }
  }
  if (channels !== "channels" || channel === undefined || channel === "") return undefined
  const names = PipeName.parse(database, schema, pipe)
  if (data) {
    return method === "POST" && rows === "rows"
      ? { endpoint: "append", channel, run: append(request, names, channel) }
      : undefined
  }
  if (rows !== undefined) return undefined
  if (method === "PUT") return { endpoint: "open", channel, run: open(request, names, channel) }
  if (method === "DELETE") return { endpoint: "drop", channel, run: drop(request, names, channel) }
  return undefined
}

const withFaults = (request: Request, { channel, endpoint, run }: Route): Handler =>
  Effect.gen(function*() {
    const { faults, tokens } = yield* StreamingState
    const delay = faults.take("delay", endpoint, channel)
    if (delay !== undefined) yield* Effect.sleep(delay.millis ?? 1000)
    const credential = bearer(request)
    if (credential !== undefined && faults.take("expireToken", endpoint, channel) !== undefined) {
      tokens.expire(credential)
    }
    const refused = faults.take("status", endpoint, channel)
    if (refused !== undefined) return injected(refused)
    if (faults.take("dropBeforeStore", endpoint, channel) !== undefined) {
      return { status: Http.dropConnection, body: "" }
    }
    const response = yield* run
    const denied = faults.take("statusAfterStore", endpoint, channel)
    if (denied !== undefined) return injected(denied)
    return faults.take("dropAfterStore", endpoint, channel) === undefined
      ? response
      : { status: Http.dropConnection, body: "" }
  })

const injected = (fault: Faults.Fault): Response => {
  const body = fault.body ?? { code: "ERR_GENERAL_EXCEPTION_RETRY_REQUEST", message: "An injected fault" }
  const answer = json(fault.status ?? 503, body)
  return { ...answer, headers: { ...answer.headers, ...fault.headers } }
}

// ---- credentials

const bearer = (request: Request): string | undefined =>
  /^Bearer +(\S+)$/i.exec(request.headers["authorization"] ?? "")?.[1]

/** Who a key-pair JWT, or a programmatic access or OAuth token, belongs to. */
const account = Effect.fnUntraced(function*(credential: string | undefined) {
  const accounts = yield* Accounts
  if (credential === undefined) {
    return yield* StreamingError.invalidJwt("Authorization: Bearer <key-pair JWT> is missing.")
  }
  return yield* accounts.verifyKeyPairJwt(credential).pipe(
    Effect.catch((error) =>
      Effect.mapError(accounts.verifyToken(credential), () => StreamingError.invalidJwt(error.message))
    )
  )
})

const ingestHost = (request: Request, configured: string | undefined): string =>
  configured ?? request.headers["host"] ?? request.url.host

/** An underscore in a host name ends in internal errors at Snowflake; clients write a hyphen, and both are the same host. */
const hyphenated = (host: string): string => host.replaceAll("_", "-").toLowerCase()

/** Checks the scoped token of an ingest call; the role that it stands for. */
const ingest = Effect.fnUntraced(function*(request: Request) {
  const state = yield* StreamingState
  const credential = bearer(request)
  if (credential === undefined) {
    return yield* StreamingError.invalidToken("Authorization: Bearer <scoped token> is missing.")
  }
  const claims = yield* state.tokens.verify(credential, yield* Clock.currentTimeMillis)
  if (
    claims.aud !== undefined && hyphenated(claims.aud) !== hyphenated(ingestHost(request, state.settings.ingestHost))
  ) {
    return yield* StreamingError.invalidToken("The access token is for another ingest host.")
  }
  return claims.role ?? defaultRole(yield* Grants, claims.sub)
})

const defaultRole = (grants: Grants["Service"], user: string): string => grants.rolesOf(user)[0] ?? "PUBLIC"

/** The pipe of a name, as far as the role sees it and may insert into its table. */
const pipeFor = Effect.fnUntraced(function*(names: PipeName.PipeName, role: string) {
  const catalog = yield* Catalog
  const grants = yield* Grants
  const pipe = yield* Effect.provideService(
    PipeName.resolve(names),
    Catalog,
    VisibleCatalog.of(catalog, grants, role)
  )
  if (!grants.allows(role, "INSERT", Securables.object(pipe.table))) {
    return yield* StreamingError.noTable(`Table ${pipe.table.name} does not exist or is not authorized.`)
  }
  return pipe
})

const hostname = (request: Request): Handler =>
  Effect.gen(function*() {
    const { settings } = yield* StreamingState
    yield* account(bearer(request))
    // Plain text, whatever Accept says: so does Snowflake, against its documentation.
    return { status: 200, headers: { "content-type": "text/plain" }, body: ingestHost(request, settings.ingestHost) }
  })

const jwtBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"

const token = (request: Request): Handler =>
  Effect.gen(function*() {
    const { settings, tokens } = yield* StreamingState
    const grants = yield* Grants
    if (!(request.headers["content-type"] ?? "").toLowerCase().startsWith("application/x-www-form-urlencoded")) {
      return yield* StreamingError.unsupportedMedia("Content-Type must be application/x-www-form-urlencoded.")
    }
    const form = new URLSearchParams(text(request.body))
    if (form.get("grant_type") !== jwtBearer) {
      return yield* StreamingError.badRequest(`grant_type must be ${jwtBearer}.`)
    }
    const { user } = yield* account(form.get("assertion") ?? bearer(request))
    const scopes = (form.get("scope") ?? "").split(/\s+/).filter((scope) => scope !== "")
    const role = scopes.find((scope) => scope.startsWith("session:role:"))?.slice("session:role:".length).toUpperCase()
    const hosts = scopes.filter((scope) => !scope.startsWith("session:"))
    const host = ingestHost(request, settings.ingestHost)
    if (hosts.some((scope) => hyphenated(scope) !== hyphenated(host))) {
      return yield* StreamingError.badRequest("scope must be the ingest host that /v2/streaming/hostname answered.")
    }
    if (role !== undefined && !grants.rolesOf(user).includes(role)) {
      return yield* StreamingError.roleNotGranted("The role in the scope is not granted to the user.")
    }
    const now = Math.floor((yield* Clock.currentTimeMillis) / 1000)
    const body = tokens.sign({
      sub: user,
      ...(hosts[0] === undefined ? {} : { aud: hosts[0] }),
      ...(role === undefined ? {} : { role }),
      iat: now,
      exp: now + settings.tokenTtlMillis / 1000
    })
    // The bare token, as Snowflake answers it, against its documentation.
    return { status: 200, headers: { "content-type": "text/plain" }, body }
  })

// ---- channels

const FailFlag = { fail_on_uncommitted_rows: Schema.optionalKey(Schema.Boolean) }
const OpenBody = Schema.fromJsonString(
  Schema.Struct({ offset_token: Schema.optionalKey(Schema.NullOr(Schema.String)), ...FailFlag })
)
const DropBody = Schema.fromJsonString(Schema.Struct(FailFlag))
const StatusBody = Schema.fromJsonString(Schema.Struct({ channel_names: Schema.Array(Schema.String) }))

const decoded = <A>(
  schema: Schema.ConstraintDecoder<A>,
  body: string
): Effect.Effect<A, StreamingError.StreamingError> =>
  Schema.decodeUnknownEffect(schema)(body).pipe(
    Effect.mapError(() => StreamingError.badRequest("The body is not the JSON that this endpoint takes."))
  )

const open = (request: Request, names: PipeName.PipeName, channel: string): Handler =>
  Effect.gen(function*() {
    const state = yield* StreamingState
    const pipe = yield* pipeFor(names, yield* ingest(request))
    yield* invalidateByFault("open", pipe, channel)
    const body = yield* decoded(OpenBody, text(request.body).trim() || "{}")
    const { continuationToken, record } = yield* state.open(pipe, channel, {
      offsetToken: body.offset_token ?? undefined,
      failOnUncommittedRows: body.fail_on_uncommitted_rows ?? false
    })
    return json(200, { next_continuation_token: continuationToken, channel_status: Channel.status(record) })
  })

const drop = (request: Request, names: PipeName.PipeName, channel: string): Handler =>
  Effect.gen(function*() {
    const state = yield* StreamingState
    const pipe = yield* pipeFor(names, yield* ingest(request))
    const body = yield* decoded(DropBody, text(request.body).trim() || "{}")
    yield* state.drop(pipe, channel, { failOnUncommittedRows: body.fail_on_uncommitted_rows ?? false })
    return { status: 200, body: "" }
  })

const status = (request: Request, names: PipeName.PipeName): Handler =>
  Effect.gen(function*() {
    const state = yield* StreamingState
    // Snowflake answers this call on the account's host with a key-pair JWT as well.
    const grants = yield* Grants
    const role = yield* ingest(request).pipe(
      Effect.catch((error) =>
        Effect.mapBoth(account(bearer(request)), {
          onFailure: () => error,
          onSuccess: ({ user }) => defaultRole(grants, user)
        })
      )
    )
    const pipe = yield* pipeFor(names, role)
    const body = yield* decoded(StatusBody, text(request.body))
    yield* Effect.forEach(body.channel_names, (channel) => invalidateByFault("status", pipe, channel), {
      discard: true
    })
    const records = yield* state.statuses(pipe, body.channel_names)
    return json(200, {
      channel_statuses: Object.fromEntries(records.map((record) => [record.channel, Channel.status(record)]))
    })
  })

const append = (request: Request, names: PipeName.PipeName, channel: string): Handler =>
  Effect.gen(function*() {
    const state = yield* StreamingState
    const role = yield* ingest(request)
    const { maxRequestBytes, maxUncompressedBytes } = state.settings
    if (request.body.length > maxRequestBytes) {
      return yield* StreamingError.tooLarge(
        `The request has more than ${maxRequestBytes} bytes. Split the rows over several requests.`
      )
    }
    const type = (request.headers["content-type"] ?? "").split(";")[0]?.trim().toLowerCase()
    if (type !== "application/x-ndjson") {
      return yield* StreamingError.unsupportedMedia("Content-Type must be application/x-ndjson.")
    }
    const pipe = yield* pipeFor(names, role)
    yield* invalidateByFault("append", pipe, channel)
    const query = request.url.searchParams
    const continuationToken = query.get("continuationToken")
    if (continuationToken === null) return yield* StreamingError.badRequest("continuationToken is missing.")
    const offsetToken = yield* offsetOf(query)
    yield* state.admit(pipe, channel, continuationToken)
    return yield* state.decoding.withPermit(Effect.gen(function*() {
      const body = yield* ContentCoding.decode(request.body, request.headers["content-encoding"], maxUncompressedBytes)
      const announced = request.headers["x-snowflake-uncompressed-content-length"]
      if (announced !== undefined && Number(announced) !== body.length) {
        return yield* StreamingError.badRequest(
          "x-snowflake-uncompressed-content-length differs from the body's length."
        )
      }
      const next = yield* state.append(pipe, channel, { continuationToken, offsetToken, body })
      return json(200, { next_continuation_token: next })
    }))
  })

/** The token that the commit of an append sets: `endOffsetToken`, or `offsetToken` of the older form. */
const offsetOf = (query: URLSearchParams): Effect.Effect<string | null, StreamingError.StreamingError> => {
  const [start, end, single] = [query.get("startOffsetToken"), query.get("endOffsetToken"), query.get("offsetToken")]
  if ((start === null) !== (end === null)) {
    return Effect.fail(StreamingError.badRequest("startOffsetToken and endOffsetToken belong together."))
  }
  if (end !== null && single !== null) {
    return Effect.fail(
      StreamingError.badRequest("offsetToken can't be given beside startOffsetToken and endOffsetToken.")
    )
  }
  return Effect.succeed((end ?? single) || null)
}

const invalidateByFault = (endpoint: Faults.Endpoint, pipe: Channel.PipeTarget, channel: string) =>
  Effect.gen(function*() {
    const state = yield* StreamingState
    const fault = state.faults.take("invalidateChannel", endpoint, channel)
    if (fault !== undefined) yield* state.invalidate(pipe, channel, fault.code ?? Channel.mustBeReopened)
  })
