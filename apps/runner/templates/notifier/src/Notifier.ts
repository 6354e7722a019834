/**
 * The notifier: posts each notification as JSON, and tries again while the other side can't take it for now.
 *
 * The contract (`@etl-stream/core/Notifier`): `notify` completes once the other side has taken the notification over. It fails after a limited time with a reason that says
 * whether waiting can help; whoever calls begins anew later, as long as the alert holds.
 */
import { ConnectorError, isRetryable, type Reason } from "@etl-stream/core/ConnectorError"
import type { Notification, Notifier } from "@etl-stream/core/Notifier"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import type { Config } from "./Config.ts"

/** The name that configurations use. */
export const pluginName = "etl-stream-kind-example"

/** Neither the address nor anything of the answer's text: both may hold secrets. */
const failure = (reason: Reason, message: string, hint: string): ConnectorError =>
  new ConnectorError({ reason, plugin: pluginName, message, hint })

const unanswered = failure("Unreachable", "There was no answer", "Check `url` and the network between here and there.")

/** What a status means; undefined: the notification was taken. */
const judge = (status: number): ConnectorError | undefined => {
  if (status >= 200 && status < 300) return undefined
  const message = `The answer was ${status}`
  if (status === 429) return failure("Throttled", message, "It takes no more for now: send fewer alerts there.")
  if (status === 408 || status >= 500) return failure("Unreachable", message, "The other side is in trouble.")
  if (status === 401) return failure("Unauthorized", message, "Check `token`: it may have been revoked.")
  if (status === 403) return failure("Forbidden", message, "Check what `token` may do.")
  if (status === 404 || status === 410) return failure("Missing", message, "Check `url`: there is nothing behind it.")
  return failure("Rejected", message, "Check that `url` is an address that takes such notifications.")
}

/** One attempt's end: how long the other side wants to be left alone, in milliseconds, if it says so. */
interface Attempt {
  readonly error: ConnectorError
  readonly later: number
}

export const make = ({ retryFor, timeout, token, url }: Config): Notifier => {
  const post = (notification: Notification): Effect.Effect<void, Attempt> =>
    Effect.tryPromise({
      try: (signal) =>
        fetch(url, {
          method: "POST",
          // The token goes to the address that the user has named, and to no other.
          redirect: "manual",
          headers: {
            "content-type": "application/json",
            ...(token === undefined ? {} : { authorization: `Bearer ${Redacted.value(token)}` })
          },
          body: JSON.stringify(notification),
          signal
        }).then(async (response) => {
          await response.body?.cancel()
          return { error: judge(response.status), later: Number(response.headers.get("retry-after") ?? "0") * 1000 }
        }),
      catch: (): Attempt => ({ error: unanswered, later: 0 })
    }).pipe(
      Effect.timeoutOrElse({ duration: timeout, orElse: () => Effect.fail<Attempt>({ error: unanswered, later: 0 }) }),
      Effect.flatMap(({ error, later }) => error === undefined ? Effect.void : Effect.fail({ error, later }))
    )

  const again = Schedule.min([Schedule.exponential("200 millis"), Schedule.spaced("15 seconds")]).pipe(
    Schedule.jittered,
    Schedule.upTo({ duration: retryFor }),
    Schedule.setInputType<Attempt>(),
    Schedule.while(({ input }) => isRetryable(input.error) && !(input.later > Duration.toMillis(retryFor))),
    Schedule.modifyDelay(({ duration, input }) =>
      Effect.succeed(Duration.max(duration, Duration.millis(input.later > 0 ? input.later : 0)))
    )
  )
  return {
    notify: (notification) =>
      Effect.retry(post(notification), again).pipe(
        Effect.mapError(({ error }) => error),
        Effect.timeoutOrElse({ duration: Duration.sum(retryFor, timeout), orElse: () => Effect.fail(unanswered) })
      )
  }
}
