/**
 * The notifier for Microsoft Teams, by a workflow that posts what its webhook receives ("When a Teams webhook request is received").
 *
 * Workflows take Adaptive Cards. The text is in `RichTextBlock`s, which know no Markdown, so that names of tables stay what they are. The older incoming webhooks of Office 365
 * connectors are retired; their URLs are refused when the configuration is read.
 */
import * as Plugin from "@etl-stream/core/Plugin"
import * as Schema from "effect/Schema"
import * as DeliveryOptions from "./DeliveryOptions.ts"
import * as HttpDelivery from "./HttpDelivery.ts"
import * as RateLimit from "./RateLimit.ts"
import { SecretUrl } from "./SecretUrl.ts"
import * as Wording from "./Wording.ts"

export const pluginName = "@etl-stream/notifiers:teams"

const retired = ({ hostname, pathname }: URL): string | undefined =>
  /(^|\.)webhook\.office\.com$|^outlook\.office(365)?\.com$/.test(hostname) || pathname.includes("/IncomingWebhook/")
    ? "expected the URL of a workflow: incoming webhooks of Office 365 connectors are retired"
    : undefined

export const Config = Schema.Struct({
  url: SecretUrl(false, retired).annotateKey({
    description:
      "URL of a Teams workflow with the trigger \"When a Teams webhook request is received\", which anyone may trigger. It is a secret: give it as `${env:…}` or `${file:…}`"
  }),
  timeout: DeliveryOptions.timeout,
  retryFor: DeliveryOptions.retryFor,
  rate: DeliveryOptions.summarisedRate
})
export type Config = typeof Config.Type

const colors = { resolved: "good", info: "accent", warning: "warning", critical: "attention" } as const

/** A message to Teams may have 28 KB; a UTF-16 unit takes three bytes at most. */
const longestTitle = 300
const longestBody = 5000
const longestFact = 300
const mostLines = 20

interface Run {
  readonly type: "TextRun"
  readonly text: string
  readonly weight?: "Bolder"
  readonly size?: "Medium"
  readonly color?: (typeof colors)[keyof typeof colors]
}

const block = (inlines: ReadonlyArray<Run>, spacing: "Default" | "Small" | "None") => ({
  type: "RichTextBlock",
  spacing,
  inlines
})

const card = (body: ReadonlyArray<ReturnType<typeof block>>, fallbackText: string) => ({
  type: "message",
  attachments: [{
    contentType: "application/vnd.microsoft.card.adaptive",
    contentUrl: null,
    content: {
      $schema: "http://adaptivecards.io/schemas/adaptive-card.json",
      type: "AdaptiveCard",
      version: "1.4",
      fallbackText,
      msteams: { width: "Full" },
      body
    }
  }]
})

/** The message for `told`. */
export const payload = (told: RateLimit.Told) => {
  const [first, ...others] = told
  const line = Wording.shorten(others.length === 0 ? Wording.headline(first) : Wording.summaryLine(told), longestTitle)
  const title = block(
    [{ type: "TextRun", text: line, weight: "Bolder", size: "Medium", color: colors[Wording.gravest(told)] }],
    "Default"
  )
  if (others.length > 0) {
    const lines = Wording.summaryLines(told, mostLines).map((text) =>
      block([{ type: "TextRun", text: Wording.shorten(text, longestTitle) }], "Small")
    )
    return card([title, ...lines], line)
  }
  return card([
    title,
    ...(first.body === ""
      ? []
      : [block([{ type: "TextRun", text: Wording.shorten(first.body, longestBody) }], "Default")]),
    ...Wording.facts(first).map(([name, value], index) =>
      block([
        { type: "TextRun", text: `${name}: `, weight: "Bolder" },
        { type: "TextRun", text: Wording.shorten(value, longestFact) }
      ], index === 0 ? "Default" : "None")
    )
  ], line)
}

const refusal = (status: number): HttpDelivery.Refusal | undefined =>
  status === 401 || status === 403
    ? {
      reason: "Unauthorized",
      message: `The Teams workflow answered ${status}`,
      hint:
        "Let anyone trigger the workflow (\"Who can trigger the flow?\"), save it, and put its URL, complete with `sig=`, into `url`."
    }
    : status === 404 || status === 410
    ? {
      reason: "Missing",
      message: `The Teams workflow answered ${status}`,
      hint: "The workflow was deleted, turned off, or has a new URL: open it in Teams and put its URL into `url`."
    }
    : undefined

export const make = (config: Config) => {
  const service: HttpDelivery.Service = {
    plugin: pluginName,
    name: "The Teams workflow",
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

export const teams = Plugin.notifier({
  name: pluginName,
  version: "0.1.0",
  summary: "Sends alerts to Microsoft Teams by a workflow's webhook",
  examples: [{ title: "A channel's workflow", options: { url: "${env:TEAMS_URL}" } }],
  config: Config,
  make
})
