/**
 * The notifier for programs: posts each notification as JSON to an address of the user's, signed if there is a secret.
 *
 * The body's keys are always there, `null` where there is nothing to say. Sizes have their unit beside them. `id` (also the header `webhook-id`) is the same when the same notification is
 * delivered again, after a lost answer or a restart, so that a receiver can leave out what it has.
 */
import type { Notification } from "@etl-stream/core/Notifier"
import * as Plugin from "@etl-stream/core/Plugin"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { createHash } from "node:crypto"
import * as DeliveryOptions from "./DeliveryOptions.ts"
import * as HttpDelivery from "./HttpDelivery.ts"
import * as RateLimit from "./RateLimit.ts"
import { SecretUrl } from "./SecretUrl.ts"
import * as Signature from "./Signature.ts"
import * as Wording from "./Wording.ts"

export const pluginName = "@etl-stream/notifiers:webhook"

/** Set by us, or by the connection. */
const reserved =
  /^(webhook-.*|content-type|content-length|content-encoding|transfer-encoding|host|connection|user-agent)$/i

const HeaderName = Schema.String.check(
  Schema.makeFilter((name: string) => /^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/.test(name) && !reserved.test(name), {
    expected: "the name of a header that this notifier doesn't set itself"
  })
)

const HeaderValue = Schema.RedactedFromValue(
  Schema.String.check(Schema.isPattern(/^[\t\x20-\x7e]*$/u, { expected: "printable ASCII in one line" }))
)

export const Config = Schema.Struct({
  url: SecretUrl(true).annotateKey({ description: "Address that notifications are posted to. Treated as a secret" }),
  secret: Schema.optionalKey(
    Schema.RedactedFromValue(Schema.String.check(Schema.makeFilter((text: string) => Signature.problemOf(text))))
  ).annotateKey({
    description:
      "Signs each request with HMAC-SHA256 as Standard Webhooks describes (headers webhook-id, webhook-timestamp, webhook-signature): `whsec_` and the key in base64, or any text of at least 16 bytes. Without it nothing is signed"
  }),
  headers: Schema.optionalKey(Schema.Record(HeaderName, HeaderValue)).annotateKey({
    description: "Further headers of each request by name, for example Authorization. Values are treated as secrets"
  }),
  timeout: DeliveryOptions.timeout,
  retryFor: DeliveryOptions.retryFor,
  rate: DeliveryOptions.summarisedRate
})
export type Config = typeof Config.Type

/** Identity of a message: the same for the same notifications. */
const idOf = (told: RateLimit.Told): string =>
  `msg_${
    createHash("sha256").update(
      JSON.stringify(told.map(({ at, key, severity, status }) => [key, status, severity, at]))
    ).digest("hex")
      .slice(0, 32)
  }`

const notificationBody = (notification: Notification) => ({
  type: notification.type,
  key: notification.key,
  status: notification.status,
  severity: notification.severity,
  title: notification.title,
  body: notification.body,
  source: notification.source,
  pipeline: notification.pipeline ?? null,
  table: notification.table ?? null,
  size: notification.size ?? null,
  threshold: notification.threshold ?? null,
  duration: { value: notification.duration, unit: "ms" },
  reminder: notification.reminder,
  timestamp: new Date(notification.at).toISOString()
})

/** What is posted for `told`: one notification, or a summary that has all of them. */
export const payload = (told: RateLimit.Told) => {
  const [first, ...others] = told
  const id = idOf(told)
  if (others.length === 0) return { version: 1, id, ...notificationBody(first) }
  const worst = Wording.gravest(told)
  return {
    version: 1,
    id,
    type: "summary",
    status: worst === "resolved" ? "resolved" : "firing",
    severity: worst === "resolved" ? "info" : worst,
    title: Wording.summaryLine(told),
    timestamp: new Date(Math.max(...told.map(({ at }) => at))).toISOString(),
    notifications: told.map(notificationBody)
  }
}

export const make = (config: Config) => {
  const own = Object.fromEntries(
    Object.entries(config.headers ?? {}).map(([name, value]) => [name, Redacted.value(value)])
  )
  const key = config.secret === undefined ? undefined : Signature.keyOf(Redacted.value(config.secret))
  const service: HttpDelivery.Service = {
    plugin: pluginName,
    name: "The webhook's receiver",
    url: config.url,
    urlOption: "url",
    timeout: config.timeout,
    retryFor: config.retryFor
  }
  return RateLimit.make({
    plugin: pluginName,
    rate: config.rate,
    together: true,
    send: (told) => {
      const message = payload(told)
      const body = JSON.stringify(message)
      return HttpDelivery.post(
        service,
        body,
        Effect.map(Clock.currentTimeMillis, (now) => {
          const seconds = Math.floor(now / 1000)
          return {
            ...own,
            ...(key === undefined
              ? { "webhook-id": message.id, "webhook-timestamp": String(seconds) }
              : Signature.headers(key, message.id, seconds, body))
          }
        })
      )
    }
  })
}

export const webhook = Plugin.notifier({
  name: pluginName,
  version: "0.1.0",
  summary: "Posts alerts as signed JSON to an address of yours",
  examples: [
    {
      title: "Signed requests to a service of one's own",
      options: { url: "https://alerts.example.com/etl", secret: "${env:ALERT_SECRET}" }
    }
  ],
  config: Config,
  make
})
