/**
 * Snowpipe Streaming's REST API (high-performance architecture): host, tokens, and the calls on named channels.
 *
 * The control host names an ingest host; the credentials are exchanged for a token scoped to it, renewed ahead of its end. Answers
 * come in the documented JSON or in the shapes that others have seen (plain text host and token, `error_code`, a bare string).
 * Each call retries what `ErrorPolicy` calls transient; everything else fails with the action that the caller has to take.
 *
 * @see https://docs.snowflake.com/en/user-guide/snowpipe-streaming/snowpipe-streaming-high-performance-rest-api
 */
import * as ConnectorError from "@etl-stream/core/ConnectorError"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Semaphore from "effect/Semaphore"
import { randomUUID } from "node:crypto"
import type { Config } from "./Config.ts"
import type { Credentials } from "./Credentials.ts"
import * as ErrorPolicy from "./ErrorPolicy.ts"
import * as Identifier from "./Identifier.ts"
import * as KeyPair from "./KeyPair.ts"
import type { ChannelStatus } from "./StreamingAnswer.ts"
import * as StreamingAnswer from "./StreamingAnswer.ts"
import * as StreamingErrors from "./StreamingErrors.ts"
import type { ObjectName } from "./TableLayout.ts"

/** A refused or failed call: what to do, Snowflake's code when it named one, and the error to end with. */
export class StreamingFailure
  extends Schema.TaggedError<StreamingFailure>("@etl-stream/sink-snowflake/StreamingFailure")("StreamingFailure", {
    action: Schema.Literals(ErrorPolicy.actions),
    code: Schema.UndefinedOr(Schema.String),
    error: ConnectorError.ConnectorError
  })
{}

export interface Opened {
  readonly continuationToken: string
  readonly status: ChannelStatus
}

export interface Append {
  readonly continuationToken: string
  readonly startOffset: string
  readonly endOffset: string
  readonly body: Uint8Array
  readonly encoding: "zstd" | "gzip"
}

export interface StreamingClient {
  /** Finds the ingest host and gets a token, once and without more: whether the credentials serve. */
  readonly login: Effect.Effect<void, ConnectorError.ConnectorError>
  /** Opens a channel of the table's default pipe and fences whoever had it open. */
  readonly open: (
    table: ObjectName,
    channel: string,
    options: { readonly offsetToken?: string; readonly failOnUncommittedRows: boolean }
  ) => Effect.Effect<Opened, StreamingFailure>
  /** Appends rows; returns the next continuation token. Accepted, not committed yet. */
  readonly append: (table: ObjectName, channel: string, append: Append) => Effect.Effect<string, StreamingFailure>
  /** The channels of these names that exist. */
  readonly statuses: (
    table: ObjectName,
    channels: ReadonlyArray<string>
  ) => Effect.Effect<ReadonlyMap<string, ChannelStatus>, StreamingFailure>
  /** Forgets a channel and its offset. */
  readonly drop: (table: ObjectName, channel: string) => Effect.Effect<void, StreamingFailure>
}

const TokenClaims = Schema.fromJsonString(Schema.Struct({ exp: Schema.Finite }))

/** Code of a refusal to open a channel while rows of an earlier writer are being committed. */
export const uncommittedData = "ERR_CHANNEL_HAS_UNCOMMITTED_DATA"

/** 250 ms to 5 s, for two minutes. */
const patience = Schedule.min([Schedule.exponential("250 millis"), Schedule.spaced("5 seconds")]).pipe(
  Schedule.jittered,
  Schedule.upTo({ duration: "2 minutes" }),
  Schedule.setInputType<StreamingFailure>(),
  // Rows of an earlier writer take their own time; the channel waits for them.
  Schedule.while(({ input }) => input.action === "retry" && input.code !== uncommittedData)
)

const requestTimeout = "60 seconds"
const jwtSeconds = 600
/** A token without a readable end is taken to live this long. */
const defaultTokenSeconds = 300

interface Token {
  readonly value: Redacted.Redacted<string>
  readonly type: string
  readonly renewAtMillis: number
}

interface Request {
  readonly what: string
  readonly occasion?: StreamingErrors.Occasion
  readonly url: string
  readonly method: "GET" | "POST" | "PUT" | "DELETE"
  readonly headers: Readonly<Record<string, string>>
  readonly body?: string | Uint8Array
}

/** One request: the body of a 2xx answer, or what to do about anything else. */
const exchange = (request: Request): Effect.Effect<string, StreamingFailure> =>
  Effect.tryPromise({
    try: async (signal) => {
      const { body } = request
      const response = await fetch(request.url, {
        method: request.method,
        headers: { accept: "application/json", "user-agent": "etl-stream", ...request.headers },
        signal,
        // The buffer is ours and not shared; fetch's type asks for that to be said.
        ...(body === undefined ? {} : { body: body as string | Uint8Array<ArrayBuffer> })
      })
      return { status: response.status, text: await response.text() }
    },
    catch: (cause) => {
      const inner = cause instanceof Error && cause.cause instanceof Error ? cause.cause : undefined
      const code = inner !== undefined && "code" in inner ? ` (${String(inner.code)})` : ""
      return new StreamingFailure({
        action: "retry",
        code: undefined,
        error: ErrorPolicy.failure(
          "Unreachable",
          `${request.what} failed: no answer from ${new URL(request.url).host}${code}`,
          "Check the account name (or `url`) and the network between here and Snowflake."
        )
      })
    }
  }).pipe(
    Effect.timeoutOrElse({
      duration: requestTimeout,
      orElse: () =>
        Effect.fail(
          new StreamingFailure({
            action: "retry",
            code: undefined,
            error: ErrorPolicy.failure(
              "Unreachable",
              `${request.what} got no answer in ${requestTimeout}`,
              "Check the network between here and Snowflake."
            )
          })
        )
    }),
    Effect.flatMap(({ status, text }) => {
      if (status >= 200 && status < 300) return Effect.succeed(text)
      const code = StreamingAnswer.codeOf(text)
      const { action, hint, reason } = StreamingErrors.refusal(status, code, request.occasion)
      // The message isn't passed on: it may quote values of rows.
      const error = ErrorPolicy.failure(
        reason,
        `${request.what} was refused: HTTP ${status}${code === undefined ? "" : ` ${code}`}`,
        hint
      )
      return Effect.fail(new StreamingFailure({ action, code, error }))
    })
  )

const unexpected = (what: string): StreamingFailure =>
  new StreamingFailure({
    action: "stop",
    code: undefined,
    error: ErrorPolicy.failure(
      "Protocol",
      `${what} got an answer of another form than documented`,
      "Report it with the version of this package."
    )
  })

const unreadable = (what: string): StreamingFailure =>
  new StreamingFailure({
    action: "reopen",
    code: undefined,
    error: ErrorPolicy.failure(
      "Fenced",
      `${what} got an answer of another form than documented, so that it isn't known whether they were taken`,
      "The pipeline reopens the channel and goes on after its committed offset. If it happens again and again, look for a proxy that answers instead of Snowflake."
    )
  })

const decode = <A>(
  what: string,
  schema: Schema.ConstraintDecoder<A>,
  text: string
): Effect.Effect<A, StreamingFailure> =>
  Effect.mapError(Schema.decodeUnknownEffect(schema)(text), () => unexpected(what))

/** Where the account is reached: `https://…` unless the configured URL says otherwise. */
export const controlUrl = (config: Config): string =>
  config.url?.replace(/\/$/, "") ??
    `https://${config.account.toLowerCase().replaceAll("_", "-")}.snowflakecomputing.com`

export const make = (config: Config, credentials: Credentials): StreamingClient => {
  const control = controlUrl(config)
  const { protocol } = new URL(control)
  const renewing = Semaphore.makeUnsafe(1)
  let host: string | undefined
  let token: Token | undefined

  /** The credentials themselves as a bearer token, and what kind of token it is. */
  const bearer: Effect.Effect<Pick<Token, "value" | "type">> = Effect.map(Clock.currentTimeMillis, (now) => {
    switch (credentials._tag) {
      case "KeyPair":
        return {
          value: KeyPair.jwt(credentials.keyPair, config.account, config.user, Math.floor(now / 1000), jwtSeconds),
          type: "KEYPAIR_JWT"
        }
      case "Token":
        return { value: credentials.token, type: "PROGRAMMATIC_ACCESS_TOKEN" }
      case "Password":
        return { value: credentials.password, type: "PROGRAMMATIC_ACCESS_TOKEN" }
      case "OAuth":
        return { value: credentials.token, type: "OAUTH" }
    }
  })

  const authorization = (by: Pick<Token, "value" | "type">): Record<string, string> => ({
    authorization: `Bearer ${Redacted.value(by.value)}`,
    "x-snowflake-authorization-token-type": by.type
  })

  const ingestHost = Effect.fnUntraced(function*() {
    if (host !== undefined) return host
    const text = yield* exchange({
      what: "Asking for the ingest host",
      url: `${control}/v2/streaming/hostname`,
      method: "GET",
      headers: authorization(yield* bearer)
    })
    const answer = Option.getOrUndefined(Schema.decodeOption(StreamingAnswer.Host)(text))?.hostname ?? text.trim()
    if (!/^[\w.-]+(:\d+)?$/.test(answer)) return yield* unexpected("Asking for the ingest host")
    // Underscores in the host end in internal errors (documented); the token's scope has to name the same spelling.
    host = answer.replaceAll("_", "-")
    return host
  })

  const renew = Effect.fnUntraced(function*() {
    const to = yield* ingestHost()
    const credential = yield* bearer
    const what = "Exchanging the credentials for a token"
    const scope = config.role === undefined ? to : `${to} session:role:${Identifier.fromConfig(config.role)}`
    const text = yield* exchange({
      what,
      url: `${control}/oauth/token`,
      method: "POST",
      headers: { ...authorization(credential), "content-type": "application/x-www-form-urlencoded" },
      body: new URLSearchParams({ grant_type: "urn:ietf:params:oauth:grant-type:jwt-bearer", scope }).toString()
    }).pipe(Effect.catch((failure) =>
      // Only key-pair tokens are documented for the exchange; the others may have to be presented as they are.
      credentials._tag !== "KeyPair" && failure.action !== "retry"
        ? Effect.succeed(undefined)
        : Effect.fail(failure)
    ))
    const now = yield* Clock.currentTimeMillis
    if (text === undefined) return { ...credential, renewAtMillis: now + defaultTokenSeconds * 1000 }
    const parsed = Option.getOrUndefined(Schema.decodeOption(StreamingAnswer.Token)(text)) ?? text.trim()
    const value = typeof parsed === "string" ? parsed : "token" in parsed ? parsed.token : parsed.access_token
    const claims = Schema.decodeOption(TokenClaims)(
      Buffer.from(value.split(".")[1] ?? "", "base64url").toString()
    )
    const lifeMillis = Option.match(claims, {
      onNone: () => defaultTokenSeconds * 1000,
      onSome: ({ exp }) => exp * 1000 - now
    })
    return {
      value: Redacted.make(value),
      type: "OAUTH",
      renewAtMillis: now + Math.max(lifeMillis - 60_000, lifeMillis / 2)
    }
  })

  /** A token that isn't about to end; a new one when `refused` is the one in use. */
  const current = (refused?: Token): Effect.Effect<Token, StreamingFailure> =>
    renewing.withPermits(1)(Effect.gen(function*() {
      const now = yield* Clock.currentTimeMillis
      if (token === undefined || token === refused || token.renewAtMillis <= now) token = yield* renew()
      return token
    }))

  const call = (path: string, request: Omit<Request, "url">): Effect.Effect<string, StreamingFailure> => {
    const once = (refused?: Token): Effect.Effect<string, StreamingFailure> =>
      Effect.gen(function*() {
        const by = yield* current(refused)
        const url = `${protocol}//${yield* ingestHost()}${path}`
        return yield* exchange({ ...request, url, headers: { ...request.headers, ...authorization(by) } }).pipe(
          Effect.catch((failure) =>
            failure.action === "refresh" && refused === undefined ? once(by) : Effect.fail(failure)
          )
        )
      })
    return Effect.suspend(() => once()).pipe(
      Effect.tapError((failure) =>
        failure.action === "retry" && failure.code !== uncommittedData
          ? Effect.logWarning(`${failure.error.message}; trying again`)
          : Effect.void
      ),
      Effect.retry(patience)
    )
  }

  const pipePath = (table: ObjectName): string =>
    `/databases/${Identifier.pathSegment(table.database)}/schemas/${Identifier.pathSegment(table.schema)}/pipes/` +
    Identifier.pathSegment(`${table.name}-STREAMING`, Identifier.isPlain(table.name))
  const channelPath = (table: ObjectName, channel: string): string =>
    `${pipePath(table)}/channels/${encodeURIComponent(channel)}`
  const json = { "content-type": "application/json" }

  return {
    login: Effect.suspend(() => current()).pipe(Effect.asVoid, Effect.mapError(({ error }) => error)),
    open: Effect.fn("StreamingClient.open")(function*(table, channel, options) {
      const what = `Opening the channel ${channel} of ${table.name}`
      const text = yield* call(`/v2/streaming${channelPath(table, channel)}?requestId=${randomUUID()}`, {
        what,
        occasion: "open",
        method: "PUT",
        headers: json,
        body: JSON.stringify({
          ...(options.offsetToken === undefined ? {} : { offset_token: options.offsetToken }),
          ...(options.failOnUncommittedRows ? { fail_on_uncommitted_rows: true } : {})
        })
      })
      const answer = yield* decode(what, StreamingAnswer.Open, text)
      return {
        continuationToken: answer.next_continuation_token,
        status: StreamingAnswer.statusOf(answer.channel_status)
      }
    }),
    append: Effect.fn("StreamingClient.append")(function*(table, channel, append) {
      const what = `Appending rows to ${table.name}`
      // One id for all attempts of this append, so that Snowflake can tell a repetition.
      const query = new URLSearchParams({
        requestId: randomUUID(),
        continuationToken: append.continuationToken,
        startOffsetToken: append.startOffset,
        endOffsetToken: append.endOffset
      })
      const text = yield* call(`/v2/streaming/data${channelPath(table, channel)}/rows?${query}`, {
        what,
        occasion: "append",
        method: "POST",
        headers: { "content-type": "application/x-ndjson", "content-encoding": append.encoding },
        body: append.body
      })
      const answer = Option.getOrUndefined(Schema.decodeOption(StreamingAnswer.Append)(text))
      const statusCode = answer?.status_code ?? 0
      if (Number(statusCode) !== 0) {
        const { action, hint, reason } = StreamingErrors.appendStatus(statusCode)
        const code = StreamingAnswer.statusCodeOf(statusCode)
        const error = ErrorPolicy.failure(reason, `${what} was refused with status code ${code ?? "unknown"}`, hint)
        return yield* new StreamingFailure({ action, code, error })
      }
      const next = answer?.next_continuation_token ?? undefined
      // The rows may have been taken: what is committed will tell.
      if (next === undefined) return yield* unreadable(what)
      return next
    }),
    statuses: Effect.fn("StreamingClient.statuses")(function*(table, channels) {
      const what = `Asking for the channel status of ${table.name}`
      const text = yield* call(`/v2/streaming${pipePath(table)}:bulk-channel-status`, {
        what,
        method: "POST",
        headers: json,
        body: JSON.stringify({ channel_names: channels })
      })
      const { channel_statuses } = yield* decode(what, StreamingAnswer.Statuses, text)
      return new Map(Object.entries(channel_statuses).map(([name, status]) => [name, StreamingAnswer.statusOf(status)]))
    }),
    drop: Effect.fn("StreamingClient.drop")(function*(table, channel) {
      yield* call(`/v2/streaming${channelPath(table, channel)}?requestId=${randomUUID()}`, {
        what: `Dropping the channel ${channel} of ${table.name}`,
        method: "DELETE",
        headers: json,
        body: "{}"
      })
    })
  }
}
