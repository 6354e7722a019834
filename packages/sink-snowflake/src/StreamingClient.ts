/**
 * Snowpipe Streaming's REST API (high-performance architecture): the calls on named channels.
 *
 * Each call retries what `StreamingErrors` calls transient, under one request id, and gets a new token once when the one in use is refused; everything
 * else fails with the action that the caller has to take.
 *
 * @see https://docs.snowflake.com/en/user-guide/snowpipe-streaming/snowpipe-streaming-high-performance-rest-api
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { randomUUID } from "node:crypto"
import type { Encoding } from "./BodyCoding.ts"
import type { Config } from "./Config.ts"
import type { Credentials } from "./Credentials.ts"
import * as ErrorPolicy from "./ErrorPolicy.ts"
import * as Identifier from "./Identifier.ts"
import * as IngestToken from "./IngestToken.ts"
import type { ChannelStatus } from "./StreamingAnswer.ts"
import * as StreamingAnswer from "./StreamingAnswer.ts"
import * as StreamingErrors from "./StreamingErrors.ts"
import type { Request } from "./StreamingTransport.ts"
import { decode, exchange, patience, StreamingFailure, uncommittedData } from "./StreamingTransport.ts"
import type { ObjectName } from "./TableLayout.ts"

export interface Opened {
  readonly continuationToken: string
  readonly status: ChannelStatus
}

export interface Append {
  readonly continuationToken: string
  readonly startOffset: string
  readonly endOffset: string
  readonly body: Uint8Array
  readonly encoding: Encoding
  /** Length of the body before its compression. */
  readonly rawBytes: number
  /** Waits for the channel's turn, before each attempt. */
  readonly before: Effect.Effect<void>
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

/** The next continuation token, from the answer to an append. */
const taken = (what: string, text: string): Effect.Effect<string, StreamingFailure> => {
  const answer = Option.getOrUndefined(Schema.decodeOption(StreamingAnswer.Append)(text))
  const statusCode = answer?.status_code ?? 0
  if (Number(statusCode) !== 0) {
    const { action, hint, reason } = StreamingErrors.appendStatus(statusCode)
    const code = StreamingAnswer.statusCodeOf(statusCode)
    const error = ErrorPolicy.failure(reason, `${what} was refused with status code ${code ?? "unknown"}`, hint)
    return Effect.fail(new StreamingFailure({ action, code, error }))
  }
  const next = answer?.next_continuation_token ?? undefined
  if (next !== undefined) return Effect.succeed(next)
  // The rows may have been taken: what is committed will tell.
  const error = ErrorPolicy.failure(
    "Fenced",
    `${what} got an answer of another form than documented, so that it isn't known whether they were taken`,
    "The pipeline reopens the channel and goes on after its committed offset. If it happens again and again, look for a proxy that answers instead of Snowflake."
  )
  return Effect.fail(new StreamingFailure({ action: "reopen", code: undefined, error }))
}

export const make = (config: Config, credentials: Credentials): StreamingClient => {
  const { protocol } = new URL(IngestToken.controlUrl(config))
  const tokens = IngestToken.make(config, credentials)

  /** Calls until `read` understands the answer, for as long as `patience` lasts. */
  const call = <A>(
    path: string,
    { before, ...request }: Omit<Request, "url"> & {
      /** Done before each attempt. */
      readonly before?: Effect.Effect<void>
    },
    read: (text: string) => Effect.Effect<A, StreamingFailure>
  ): Effect.Effect<A, StreamingFailure> => {
    const once = (refused?: IngestToken.Token): Effect.Effect<string, StreamingFailure> =>
      Effect.gen(function*() {
        const by = yield* tokens.current(refused)
        const url = `${protocol}//${yield* tokens.host}${path}`
        const headers = { ...request.headers, ...IngestToken.authorization(by) }
        if (before !== undefined) yield* before
        return yield* exchange({ ...request, url, headers }).pipe(
          Effect.catch((failure) =>
            failure.action === "refresh" && refused === undefined ? once(by) : Effect.fail(failure)
          )
        )
      })
    return Effect.suspend(() => once()).pipe(
      Effect.flatMap(read),
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
    login: Effect.suspend(() => tokens.current()).pipe(Effect.asVoid, Effect.mapError(({ error }) => error)),
    open: Effect.fn("StreamingClient.open")(function*(table, channel, options) {
      const what = `Opening the channel ${channel} of ${table.name}`
      const answer = yield* call(`/v2/streaming${channelPath(table, channel)}?requestId=${randomUUID()}`, {
        what,
        occasion: "open",
        method: "PUT",
        headers: json,
        body: JSON.stringify({
          ...(options.offsetToken === undefined ? {} : { offset_token: options.offsetToken }),
          ...(options.failOnUncommittedRows ? { fail_on_uncommitted_rows: true } : {})
        })
      }, (text) => decode(what, StreamingAnswer.Open, text))
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
      return yield* call(
        `/v2/streaming/data${channelPath(table, channel)}/rows?${query}`,
        {
          what,
          occasion: "append",
          method: "POST",
          headers: {
            "content-type": "application/x-ndjson",
            "content-encoding": append.encoding,
            // Not documented; Snowflake's own clients send it.
            "x-snowflake-uncompressed-content-length": String(append.rawBytes)
          },
          body: append.body,
          before: append.before
        },
        (text) => taken(what, text)
      )
    }),
    statuses: Effect.fn("StreamingClient.statuses")(function*(table, channels) {
      const what = `Asking for the channel status of ${table.name}`
      const { channel_statuses } = yield* call(`/v2/streaming${pipePath(table)}:bulk-channel-status`, {
        what,
        method: "POST",
        headers: json,
        body: JSON.stringify({ channel_names: channels })
      }, (text) => decode(what, StreamingAnswer.Statuses, text))
      return new Map(Object.entries(channel_statuses).map(([name, status]) => [name, StreamingAnswer.statusOf(status)]))
    }),
    drop: Effect.fn("StreamingClient.drop")(function*(table, channel) {
      yield* call(`/v2/streaming${channelPath(table, channel)}?requestId=${randomUUID()}`, {
        what: `Dropping the channel ${channel} of ${table.name}`,
        method: "DELETE",
        headers: json,
        body: "{}"
      }, () => Effect.void)
    })
  }
}
