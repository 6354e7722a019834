/**
 * Posts JSON to a service, and says in this product's words what went wrong when it isn't taken.
 *
 * Trouble that passes (no answer, 408, 429, 5xx) is tried again by a Schedule for `retryFor`, as late as `Retry-After` asks; a service that asks for
 * more than that isn't waited for. Redirections are not followed: the body, and headers that may be secret, go where the user said and nowhere
 * else. Neither the URL nor anything of the answer but its status and codes that are known gets into an error.
 */
import { ConnectorError, isRetryable, type Reason } from "@etl-stream/core/ConnectorError"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type { Patience } from "./DeliveryOptions.ts"

/** A refusal in a service's own terms, instead of what its status says in general. */
export interface Refusal {
  readonly reason: Reason
  readonly message: string
  readonly hint: string
}

export interface Service extends Patience {
  /** The plugin's name. */
  readonly plugin: string
  /** As people call it, for messages: `Slack`. */
  readonly name: string
  readonly url: Redacted.Redacted<string>
  /** The option that the URL is from, for hints. */
  readonly urlOption: string
  /** Knows the service's own codes in an answer that isn't 2xx. */
  readonly refusal?: (status: number, body: string) => Refusal | undefined
}

/** One attempt's failure. */
class AttemptFailed extends Schema.TaggedError<AttemptFailed>("@etl-stream/notifiers/AttemptFailed")("AttemptFailed", {
  error: ConnectorError,
  /** How long the service asks to be left alone. */
  retryAfterMillis: Schema.optionalKey(Schema.Finite)
}) {}

/** What `Retry-After` says, in milliseconds from now: seconds, or a date. */
export const retryAfter = (header: string | null, nowMillis: number): number | undefined => {
  const text = header?.trim() ?? ""
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000
  const date = /[a-z]/i.test(text) ? Date.parse(text) : NaN
  return Number.isNaN(date) ? undefined : Math.max(0, date - nowMillis)
}

/** As much of an answer is looked at. */
const largestAnswer = 16 * 1024

const readText = async (response: Response): Promise<string> => {
  if (response.body === null) return ""
  const decoder = new TextDecoder()
  let text = ""
  const reader = response.body.getReader()
  while (text.length < largestAnswer) {
    const { done, value } = await reader.read()
    if (done) return text
    text += decoder.decode(value, { stream: true })
  }
  await reader.cancel()
  return text
}

const isCode = (code: unknown): code is string => typeof code === "string" && /^[A-Z][A-Z0-9_]{1,60}$/.test(code)

/** Node's code for why there was no answer. The error itself would name the host. */
const codeOf = (cause: unknown): string | undefined => {
  const inner = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause
  if (typeof inner !== "object" || inner === null) return undefined
  if ("code" in inner && isCode(inner.code)) return inner.code
  // Several addresses were tried: the first one's code stands for all.
  const [first]: ReadonlyArray<unknown> = inner instanceof AggregateError ? inner.errors : []
  return typeof first === "object" && first !== null && "code" in first && isCode(first.code) ? first.code : undefined
}

const isCertificate = (code: string): boolean => /CERT|SELF_SIGNED|UNABLE_TO_(GET_ISSUER|VERIFY)/.test(code)

const unanswered = ({ name, plugin, urlOption }: Service, code: string | undefined): ConnectorError =>
  code !== undefined && isCertificate(code)
    ? new ConnectorError({
      reason: "Misconfigured",
      plugin,
      message: `The certificate of ${name} can't be trusted (${code})`,
      hint: "If a company's own authority signed it, name that authority's file in NODE_EXTRA_CA_CERTS and start again."
    })
    : new ConnectorError({
      reason: "Unreachable",
      plugin,
      message: `${name} gave no answer${code === undefined ? "" : ` (${code})`}`,
      hint: `Check \`${urlOption}\` and the network between here and there.`
    })

/** What a status means in general. */
const refused = ({ name, plugin, urlOption }: Service, status: number): ConnectorError => {
  const failure = (reason: Reason, hint: string): ConnectorError =>
    new ConnectorError({ reason, plugin, message: `${name} answered ${status}`, hint })
  if (status === 429) {
    return failure("Throttled", "It takes no more messages for now. Lower `rate`, or send fewer alerts there.")
  }
  if (status === 408 || status >= 500) return failure("Unreachable", "The service is in trouble; it is tried again.")
  if (status === 401) {
    return failure("Unauthorized", `Check \`${urlOption}\` and the credentials: they may have been revoked.`)
  }
  if (status === 403) {
    return failure("Forbidden", `Whoever \`${urlOption}\` belongs to may not post there: check its rights.`)
  }
  if (status === 404 || status === 410) {
    return failure("Missing", `What \`${urlOption}\` names isn't there any more: make a new one.`)
  }
  if (status >= 300 && status < 400) {
    return failure("Misconfigured", `It redirects, which isn't followed: give the final address in \`${urlOption}\`.`)
  }
  return failure(
    "Rejected",
    "The service doesn't take messages of this form: check that the URL belongs to this kind of notifier."
  )
}

const attempt = Effect.fnUntraced(
  function*(service: Service, body: string, headers: Effect.Effect<Readonly<Record<string, string>>>) {
    const sent = { ...yield* headers }
    const answer = yield* Effect.tryPromise({
      try: async (signal) => {
        const response = await fetch(Redacted.value(service.url), {
          method: "POST",
          redirect: "manual",
          headers: { "content-type": "application/json", "user-agent": "etl-stream", ...sent },
          body,
          signal
        })
        const { headers, status } = response
        return { status, later: headers.get("retry-after"), text: await readText(response) }
      },
      catch: (cause) => new AttemptFailed({ error: unanswered(service, codeOf(cause)) })
    }).pipe(
      Effect.timeoutOrElse({
        duration: service.timeout,
        orElse: () => Effect.fail(new AttemptFailed({ error: unanswered(service, "ETIMEDOUT") }))
      })
    )
    if (answer.status >= 200 && answer.status < 300) return
    const wait = retryAfter(answer.later, yield* Clock.currentTimeMillis)
    const own = service.refusal?.(answer.status, answer.text)
    return yield* new AttemptFailed({
      error: own === undefined
        ? refused(service, answer.status)
        : new ConnectorError({ ...own, plugin: service.plugin }),
      ...(wait === undefined ? {} : { retryAfterMillis: wait })
    })
  }
)

/** Half a second to 15 seconds between attempts, and what the service asks for. */
const schedule = (retryFor: Duration.Duration) =>
  Schedule.min([Schedule.exponential("500 millis"), Schedule.spaced("15 seconds")]).pipe(
    Schedule.jittered,
    Schedule.upTo({ duration: retryFor }),
    Schedule.setInputType<AttemptFailed>(),
    Schedule.while(({ input }) =>
      isRetryable(input.error) && (input.retryAfterMillis ?? 0) <= Duration.toMillis(retryFor)
    ),
    Schedule.modifyDelay(({ duration, input }) =>
      Effect.succeed(Duration.max(duration, Duration.millis(input.retryAfterMillis ?? 0)))
    )
  )

/** Posts `body`. `headers` are made anew for each attempt. */
export const post = (
  service: Service,
  body: string,
  headers: Effect.Effect<Readonly<Record<string, string>>> = Effect.succeed({})
): Effect.Effect<void, ConnectorError> =>
  Effect.suspend(() => {
    let last = unanswered(service, "ETIMEDOUT")
    return attempt(service, body, headers).pipe(
      Effect.tapError(({ error }) =>
        Effect.sync(() => {
          last = error
        })
      ),
      Effect.retry(schedule(service.retryFor)),
      Effect.mapError(({ error }) => error),
      // Whatever a service asks for: its patience and one more attempt are the end.
      Effect.timeoutOrElse({
        duration: Duration.sum(service.retryFor, service.timeout),
        orElse: () => Effect.fail(last)
      })
    )
  })
