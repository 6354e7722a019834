/**
 * The notifier for Slack, by an incoming webhook (https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks).
 *
 * Messages are blocks, with a plain text for notifications on phones. Everything that comes from outside is escaped, so that no name of a table
 * can call a whole channel.
 */
import * as Plugin from "@etl-stream/core/Plugin"
import * as Schema from "effect/Schema"
import * as DeliveryOptions from "./DeliveryOptions.ts"
import * as HttpDelivery from "./HttpDelivery.ts"
import * as RateLimit from "./RateLimit.ts"
import { SecretUrl } from "./SecretUrl.ts"
import * as Wording from "./Wording.ts"

export const pluginName = "@etl-stream/notifiers:slack"

export const Config = Schema.Struct({
  url: SecretUrl(false).annotateKey({
    description:
      "The incoming webhook's URL (https://hooks.slack.com/services/…). It is a secret: give it as `${env:…}` or `${file:…}`"
  }),
  timeout: DeliveryOptions.timeout,
  retryFor: DeliveryOptions.retryFor,
  rate: DeliveryOptions.summarisedRate
})
export type Config = typeof Config.Type

/** The characters that have a meaning in Slack's text. */
const escape = (text: string): string => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")

/** Shortened before it is escaped may be too long, after it may cut an entity in two: so a fifth of the limit is what is surely safe. */
const escapedWithin = (text: string, longest: number): string => {
  const escaped = escape(text)
  return escaped.length <= longest ? escaped : escape(Wording.shorten(text, Math.floor(longest / 5)))
}

const marks = { resolved: "🟢", info: "🔵", warning: "🟠", critical: "🔴" } as const

// Limits of Block Kit: https://docs.slack.dev/reference/block-kit/blocks
const longestHeader = 150
const longestText = 3000
const longestField = 2000
const mostLines = 20

const header = (text: string) => ({
  type: "header",
  text: { type: "plain_text", text: Wording.shorten(text, longestHeader), emoji: false }
})

const section = (text: string) => ({
  type: "section",
  text: { type: "mrkdwn", text: escapedWithin(text, longestText) }
})

/** The message for `told`. */
export const payload = (told: RateLimit.Told) => {
  const [first, ...others] = told
  const mark = marks[Wording.gravest(told)]
  if (others.length > 0) {
    const line = Wording.summaryLine(told)
    return {
      text: `${mark} ${line}`,
      blocks: [header(`${mark} ${line}`), section(Wording.summaryLines(told, mostLines).join("\n"))]
    }
  }
  const line = Wording.headline(first)
  return {
    text: `${mark} ${escapedWithin(line, longestText)}`,
    blocks: [
      header(`${mark} ${line}`),
      ...(first.body === "" ? [] : [section(first.body)]),
      {
        type: "section",
        fields: Wording.facts(first).map(([name, value]) => ({
          type: "mrkdwn",
          text: `*${name}*\n${escapedWithin(value, longestField - 50)}`
        }))
      }
    ]
  }
}

const newUrl = "Make a new incoming webhook in Slack and put its URL into `url`."

/** Slack's own codes, the text of its answer (https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks#handling_errors). */
const refusal = (status: number, body: string): HttpDelivery.Refusal | undefined => {
  const code = body.trim()
  const message = `Slack answered ${status}: ${code}`
  switch (code) {
    case "no_service":
    case "no_service_id":
    case "no_active_hooks":
    case "no_team":
    case "team_disabled":
      return { reason: "Missing", message, hint: newUrl }
    case "invalid_token":
      return { reason: "Unauthorized", message, hint: newUrl }
    case "channel_not_found":
    case "channel_is_archived":
    case "user_not_found":
      return { reason: "Missing", message, hint: `Its channel is gone or archived. ${newUrl}` }
    case "action_prohibited":
    case "posting_to_general_channel_denied":
      return {
        reason: "Forbidden",
        message,
        hint: "An admin of the workspace has restricted posting: ask for it, or choose another channel."
      }
    case "invalid_payload":
    case "too_many_attachments":
    case "no_text":
      return { reason: "Protocol", message, hint: "This is a bug: report it." }
    default:
      return undefined
  }
}

export const make = (config: Config) => {
  const service: HttpDelivery.Service = {
    plugin: pluginName,
    name: "Slack",
    url: config.url,
    urlOption: "url",
    timeout: config.timeout,
    retryFor: config.retryFor,
    refusal
  }
  return RateLimit.make({
    plugin: pluginName,
    rate: config.rate,
    together: true,
    send: (told) => HttpDelivery.post(service, JSON.stringify(payload(told)))
  })
}

export const slack = Plugin.notifier({
  name: pluginName,
  version: "0.1.0",
  summary: "Sends alerts to a Slack channel by an incoming webhook",
  examples: [{ title: "A channel's incoming webhook", options: { url: "${env:SLACK_URL}" } }],
  config: Config,
  make
})
