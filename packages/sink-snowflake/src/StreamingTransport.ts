/**
 * One request to the streaming API, and how long it is repeated.
 *
 * An answer of 2xx is its body; anything else is a failure with the action that `StreamingErrors` names. What is transient is sent again for two minutes, at
 * growing intervals with jitter, or as late as `Retry-After` asks. A server that asks for more than that isn't waited for: the run ends, and the pipeline's own
 * schedule tries again.
 */
import * as ConnectorError from "@etl-stream/core/ConnectorError"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as ErrorPolicy from "./ErrorPolicy.ts"
import * as StreamingAnswer from "./StreamingAnswer.ts"
import * as StreamingErrors from "./StreamingErrors.ts"

/** A refused or failed call: what to do, Snowflake's code when it named one, and the error to end with. */
export class StreamingFailure
  extends Schema.TaggedError<StreamingFailure>("@etl-stream/sink-snowflake/StreamingFailure")("StreamingFailure", {
    action: Schema.Literals(ErrorPolicy.actions),
    code: Schema.UndefinedOr(Schema.String),
    /** The HTTP status, when there was an answer. */
    status: Schema.optionalKey(Schema.Finite),
    /** How long the server asks to be left alone. */
    retryAfterMillis: Schema.optionalKey(Schema.Finite),
    error: ConnectorError.ConnectorError
  })
{}

export interface Request {
  readonly what: string
  readonly occasion?: StreamingErrors.Occasion
  readonly url: string
  readonly method: "GET" | "POST" | "PUT" | "DELETE"
  readonly headers: Readonly<Record<string, string>>
  readonly body?: string | Uint8Array
}

/** Code of a refusal to open a channel while rows of an earlier writer are being committed. */
export const uncommittedData = "ERR_CHANNEL_HAS_UNCOMMITTED_DATA"

const patienceMillis = 120_000
const requestTimeout = "60 seconds"

/** What `Retry-After` says: seconds, or a date. */
export const retryAfter = (header: string | null, nowMillis: number): number | undefined => {
  if (header === null) return undefined
  const text = header.trim()
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000
  const date = Date.parse(text)
  return Number.isNaN(date) ? undefined : Math.max(0, date - nowMillis)
}

/** 250 ms to 5 s and what the server asks for, for two minutes. */
export const patience = Schedule.min([Schedule.exponential("250 millis"), Schedule.spaced("5 seconds")]).pipe(
  Schedule.jittered,
  Schedule.upTo({ duration: Duration.millis(patienceMillis) }),
  Schedule.setInputType<StreamingFailure>(),
  Schedule.while(({ input }) =>
    // Rows of an earlier writer take their own time; the channel waits for them.
    input.action === "retry" && input.code !== uncommittedData && (input.retryAfterMillis ?? 0) <= patienceMillis
  ),
  Schedule.modifyDelay(({ duration, input }) =>
    Effect.succeed(Duration.max(duration, Duration.millis(input.retryAfterMillis ?? 0)))
  )
)

const unreachable = (message: string, hint: string): StreamingFailure =>
  new StreamingFailure({
    action: "retry",
    code: undefined,
    error: ErrorPolicy.failure("Unreachable", message, hint)
  })

/** One request: the body of a 2xx answer, or what to do about anything else. */
export const exchange = (request: Request): Effect.Effect<string, StreamingFailure> =>
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
      return { status: response.status, later: response.headers.get("retry-after"), text: await response.text() }
    },
    catch: (cause) => {
      const inner = cause instanceof Error && cause.cause instanceof Error ? cause.cause : undefined
      const code = inner !== undefined && "code" in inner ? ` (${String(inner.code)})` : ""
      return unreachable(
        `${request.what} failed: no answer from ${new URL(request.url).host}${code}`,
        "Check the account name (or `url`) and the network between here and Snowflake."
      )
    }
  }).pipe(
    Effect.timeoutOrElse({
      duration: requestTimeout,
      orElse: () =>
        Effect.fail(unreachable(
          `${request.what} got no answer in ${requestTimeout}`,
          "Check the network between here and Snowflake."
        ))
    }),
    Effect.flatMap(({ later, status, text }) => {
      if (status >= 200 && status < 300) return Effect.succeed(text)
      const code = StreamingAnswer.codeOf(text)
      const { action, hint, reason } = StreamingErrors.refusal(status, code, request.occasion)
      return Effect.flatMap(Clock.currentTimeMillis, (now) => {
        const wait = retryAfter(later, now)
        return Effect.fail(
          new StreamingFailure({
            action,
            code,
            status,
            ...(wait === undefined ? {} : { retryAfterMillis: wait }),
            // The message isn't passed on: it may quote values of rows.
            error: ErrorPolicy.failure(
              reason,
              `${request.what} was refused: HTTP ${status}${code === undefined ? "" : ` ${code}`}`,
              hint
            )
          })
        )
      })
    })
  )

/** The failure for an answer of 2xx that can't be read. */
export const unexpected = (what: string): StreamingFailure =>
  new StreamingFailure({
    action: "stop",
    code: undefined,
    error: ErrorPolicy.failure(
      "Protocol",
      `${what} got an answer of another form than documented`,
      "Report it with the version of this package."
    )
  })

export const decode = <A>(
  what: string,
  schema: Schema.ConstraintDecoder<A>,
  text: string
): Effect.Effect<A, StreamingFailure> =>
  Effect.mapError(Schema.decodeUnknownEffect(schema)(text), () => unexpected(what))
