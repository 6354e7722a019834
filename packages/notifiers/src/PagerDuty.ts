/**
 * The notifier for PagerDuty, by its Events API v2 (https://developer.pagerduty.com/docs/events-api-v2-overview).
 *
 * An alert that begins triggers, one that is over resolves, both with the same `dedup_key`, so that PagerDuty opens and closes one incident for it; a reminder is another trigger of
 * the open one. Each has an event of its own: a summary could not be resolved. What exceeds the rate waits for its turn.
 */
import * as ConfigOption from "@etl-stream/core/ConfigOption"
import type { Notification } from "@etl-stream/core/Notifier"
import * as Plugin from "@etl-stream/core/Plugin"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { createHash } from "node:crypto"
import * as DeliveryOptions from "./DeliveryOptions.ts"
import * as HttpDelivery from "./HttpDelivery.ts"
import * as RateLimit from "./RateLimit.ts"
import { SecretUrl } from "./SecretUrl.ts"
import * as Wording from "./Wording.ts"

export const pluginName = "@etl-stream/notifiers:pagerduty"

const defaultUrl = "https://events.pagerduty.com/v2/enqueue"

export const Config = Schema.Struct({
  routingKey: Schema.RedactedFromValue(
    Schema.String.check(
      Schema.isPattern(/^[A-Za-z0-9]{32}$/u, { expected: "an integration key of 32 letters and digits" })
    )
  ).annotateKey({
    description:
      "Integration key of an \"Events API v2\" integration. It is a secret: give it as `${env:…}` or `${file:…}`"
  }),
  url: SecretUrl(false).pipe(ConfigOption.withDefault(defaultUrl)).annotateKey({
    description: "Where events are sent; of an account in the EU https://events.eu.pagerduty.com/v2/enqueue"
  }),
  timeout: DeliveryOptions.timeout,
  retryFor: DeliveryOptions.retryFor,
  rate: DeliveryOptions.pacedRate
})
export type Config = typeof Config.Type

// Limits of the Events API.
const longestKey = 255
const longestSummary = 1024
/** An event may have 512 KB; this leaves room for everything else. */
const longestBody = 16_000

const dedupKey = (key: string): string =>
  key.length <= longestKey && Wording.oneLine(key) === key
    ? key
    : `etl-stream/${createHash("sha256").update(key).digest("hex")}`

/** The event for a notification. */
export const event = (routingKey: string, notification: Notification) => {
  const { at, body, duration, key, severity, size, source, status, table, threshold, type } = notification
  const identity = { routing_key: routingKey, dedup_key: dedupKey(key) }
  if (status === "resolved") return { ...identity, event_action: "resolve" }
  return {
    ...identity,
    event_action: "trigger",
    client: "etl-stream",
    payload: {
      summary: Wording.shorten(Wording.oneLine(notification.title), longestSummary),
      source,
      severity,
      timestamp: new Date(at).toISOString(),
      class: type,
      group: "etl-stream",
      ...(table === undefined ? {} : { component: table }),
      custom_details: {
        details: Wording.shorten(body, longestBody),
        duration: { value: duration, unit: "ms" },
        ...(size === undefined ? {} : { size }),
        ...(threshold === undefined ? {} : { threshold })
      }
    }
  }
}

/** A refused event: the answer says which field is wrong, never what is in it. */
const refusal = (status: number, body: string): HttpDelivery.Refusal | undefined =>
  status === 400 && /routing_key/.test(body)
    ? {
      reason: "Unauthorized",
      message: "PagerDuty doesn't know the routing key",
      hint: "Put the integration key of an \"Events API v2\" integration of a service into `routingKey`."
    }
    : status === 400
    ? { reason: "Protocol", message: "PagerDuty answered 400", hint: "This is a bug: report it." }
    : undefined

export const make = (config: Config) => {
  const service: HttpDelivery.Service = {
    plugin: pluginName,
    name: "PagerDuty",
    url: config.url,
    urlOption: "url",
    timeout: config.timeout,
    retryFor: config.retryFor,
    refusal
  }
  return RateLimit.make({
    plugin: pluginName,
    rate: config.rate,
    together: false,
    send: ([notification]) =>
      HttpDelivery.post(service, JSON.stringify(event(Redacted.value(config.routingKey), notification)))
  })
}

export const pagerduty = Plugin.notifier({
  name: pluginName,
  version: "0.1.0",
  summary: "Opens and resolves incidents in PagerDuty",
  examples: [
    { title: "A service's Events API v2 integration", options: { routingKey: "${env:PAGERDUTY_KEY}" } }
  ],
  config: Config,
  make
})
