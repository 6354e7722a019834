/**
 * Slack, PagerDuty and Teams: what is sent has the form that they document, and their refusals are told with a remedy.
 */
import { assert, describe, it } from "@effect/vitest"
import type { Notification } from "@etl-stream/core/Notifier"
import { pagerduty } from "@etl-stream/notifiers/PagerDuty"
import * as PagerDuty from "@etl-stream/notifiers/PagerDuty"
import * as Slack from "@etl-stream/notifiers/Slack"
import * as Teams from "@etl-stream/notifiers/Teams"
import * as Receiver from "@etl-stream/testkit/HttpReceiver"
import type { HeaderBlock, SectionBlock } from "@slack/types"
import { AdaptiveCard, SerializationContext } from "adaptivecards"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Fixture from "./Fixture.ts"

const all: ReadonlyArray<readonly [Notification, ...ReadonlyArray<Notification>]> = [
  [Fixture.firing],
  [Fixture.resolved],
  [Fixture.quarantined],
  [{ ...Fixture.firing, reminder: true }],
  [Fixture.hostile],
  [Fixture.firing, Fixture.resolved, Fixture.hostile],
  [{ ...Fixture.hostile, title: "漢".repeat(10_000), body: "字".repeat(10_000) }],
  [Fixture.hostile, ...Array.from({ length: 500 }, () => ({ ...Fixture.hostile, title: "漢".repeat(10_000) }))],
  [Fixture.hostile, ...Array.from({ length: 500 }, () => Fixture.hostile)]
]

const text = (type: string, longest: number) =>
  Schema.Struct({
    type: Schema.Literal(type),
    text: Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(longest)),
    emoji: Schema.optionalKey(Schema.Boolean)
  })

/** https://docs.slack.dev/reference/block-kit/blocks */
const SlackMessage = Schema.Struct({
  text: Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(40_000)),
  blocks: Schema.Array(Schema.Union([
    Schema.Struct({ type: Schema.Literal("header"), text: text("plain_text", 150) }),
    Schema.Struct({ type: Schema.Literal("section"), text: text("mrkdwn", 3000) }),
    Schema.Struct({
      type: Schema.Literal("section"),
      fields: Schema.Array(text("mrkdwn", 2000)).check(Schema.isMinLength(1), Schema.isMaxLength(10))
    })
  ])).check(Schema.isMinLength(1), Schema.isMaxLength(50))
})

/** https://developer.pagerduty.com/docs/send-alert-event */
const PagerDutyEvent = Schema.Union([
  Schema.Struct({
    routing_key: Schema.String.check(Schema.isPattern(/^.{32}$/)),
    event_action: Schema.Literal("resolve"),
    dedup_key: Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(255))
  }),
  Schema.Struct({
    routing_key: Schema.String.check(Schema.isPattern(/^.{32}$/)),
    event_action: Schema.Literal("trigger"),
    dedup_key: Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(255)),
    client: Schema.String,
    payload: Schema.Struct({
      summary: Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(1024)),
      source: Schema.String.check(Schema.isMinLength(1)),
      severity: Schema.Literals(["critical", "error", "warning", "info"]),
      timestamp: Schema.String.check(Schema.isPattern(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)),
      component: Schema.optionalKey(Schema.String),
      group: Schema.optionalKey(Schema.String),
      class: Schema.optionalKey(Schema.String),
      custom_details: Schema.Record(Schema.String, Schema.Unknown)
    })
  })
])

const strictly = <S extends Schema.ConstraintDecoder<unknown>>(schema: S, value: unknown) =>
  Schema.decodeUnknownEffect(schema)(value, { errors: "all", onExcessProperty: "error" })

/** Every text of a Slack message that Slack reads as markup. */
const markup = (message: typeof SlackMessage.Type): ReadonlyArray<string> => [
  message.text,
  ...message.blocks.flatMap((block) =>
    block.type === "header" ? [] : "fields" in block ? block.fields.map(({ text }) => text) : [block.text.text]
  )
]

const routingKey = "0123456789abcdef0123456789ABCDEF"

describe("slack", () => {
  it.effect("sends blocks within Slack's limits, in which nothing from outside is markup", () =>
    Effect.gen(function*() {
      for (const told of all) {
        const payload = Slack.payload(told)
        const blocks: ReadonlyArray<object> = payload.blocks
        const message = yield* strictly(SlackMessage, JSON.parse(JSON.stringify(payload)))
        assert.strictEqual(blocks.length, message.blocks.length)
        for (const part of markup(message)) assert.notMatch(part, /<|>|&(?!(amp|lt|gt);)/)
      }
      // The library's own types agree.
      const [header, section] = Slack.payload([Fixture.firing]).blocks
      const typed: readonly [HeaderBlock, SectionBlock] = [header as HeaderBlock, section as SectionBlock] // compared below
      assert.deepStrictEqual([typed[0].type, typed[1].text?.type], ["header", "mrkdwn"])
    }))

  it.live("posts to the webhook and says what Slack's own codes mean", () =>
    Effect.gen(function*() {
      const receiver = yield* Receiver.start
      const notifier = yield* Fixture.make(Slack.slack, { url: `${receiver.url}/services/T0/B0/secret-path` })
      yield* notifier.notify(Fixture.quarantined)
      const [request] = receiver.requests
      assert.strictEqual(request?.path, "/services/T0/B0/secret-path")
      const message = yield* strictly(SlackMessage, JSON.parse(request?.body ?? ""))
      assert.include(message.text, "Critical: shop: the table public.orders is in quarantine")
      for (
        const [status, body, reason] of [
          [404, "no_service", "Missing"],
          [403, "invalid_token", "Unauthorized"],
          [410, "channel_is_archived", "Missing"],
          [403, "action_prohibited", "Forbidden"],
          [400, "invalid_payload", "Protocol"],
          [400, "secret-answer", "Rejected"]
        ] as const
      ) {
        receiver.script({ status, body })
        const error = yield* Effect.flip(notifier.notify(Fixture.firing))
        assert.strictEqual(error.reason, reason, body)
        assert.notMatch(JSON.stringify(error), /secret-|127\.0\.0\.1/)
      }
    }))

  it.effect("wants https, since the URL is a secret", () =>
    Effect.gen(function*() {
      const message = yield* Fixture.refusal(Slack.slack, { url: "http://hooks.slack.com/services/secret-path" })
      assert.match(message, /https/)
      assert.notInclude(message, "secret-path")
    }))
})

describe("pagerduty", () => {
  it.effect("sends events of the documented form, with the same key for an alert and its end", () =>
    Effect.gen(function*() {
      for (const [notification] of all) {
        const trigger = yield* strictly(
          PagerDutyEvent,
          JSON.parse(JSON.stringify(PagerDuty.event(routingKey, notification)))
        )
        const resolve = PagerDuty.event(routingKey, { ...notification, status: "resolved" })
        assert.strictEqual(trigger.dedup_key, resolve.dedup_key)
        yield* strictly(PagerDutyEvent, JSON.parse(JSON.stringify(resolve)))
        assert.isBelow(Buffer.byteLength(JSON.stringify(trigger)), 512_000)
      }
      const long = (suffix: string) =>
        PagerDuty.event(routingKey, { ...Fixture.hostile, key: "k".repeat(300) + suffix })
      assert.notStrictEqual(long("1").dedup_key, long("2").dedup_key)
    }))

  it.live("triggers and resolves each alert by itself, however low the rate", () =>
    Effect.gen(function*() {
      const receiver = yield* Receiver.start
      receiver.script({ status: 202 }, { status: 429 }, { status: 202 })
      const notifier = yield* Fixture.make(pagerduty, { routingKey, url: receiver.url, rate: "2 per second" })
      const told = [Fixture.firing, Fixture.quarantined, Fixture.resolved]
      yield* Effect.forEach(told, (notification) => notifier.notify(notification), { concurrency: "unbounded" })
      const events = receiver.requests.map(({ body }) => Schema.decodeUnknownSync(PagerDutyEvent)(JSON.parse(body)))
      const key = (event: (typeof events)[number]) => `${event.event_action} ${event.dedup_key}`
      assert.deepStrictEqual(
        new Set(events.map(key)),
        new Set([
          `trigger ${Fixture.firing.key}`,
          `trigger ${Fixture.quarantined.key}`,
          `resolve ${Fixture.firing.key}`
        ])
      )
      // One was refused once.
      assert.strictEqual(events.length, 4)
    }))

  it.live("says that a routing key isn't known, without saying which", () =>
    Effect.gen(function*() {
      const receiver = yield* Receiver.start
      const notifier = yield* Fixture.make(pagerduty, { routingKey, url: receiver.url })
      receiver.script({
        status: 400,
        body: `{"status":"invalid event","errors":["'routing_key' is invalid: ${routingKey}"]}`
      })
      const error = yield* Effect.flip(notifier.notify(Fixture.firing))
      assert.strictEqual(error.reason, "Unauthorized")
      assert.notInclude(JSON.stringify(error), routingKey)
      assert.match(yield* Fixture.refusal(pagerduty, { routingKey: "short-secret" }), /32 letters and digits/)
    }))
})

describe("teams", () => {
  it("sends messages with a card that the official library reads without complaint, within 28 KB", () => {
    for (const told of all) {
      const payload = Teams.payload(told)
      assert.isBelow(Buffer.byteLength(JSON.stringify(payload)), 28 * 1024)
      assert.strictEqual(payload.type, "message")
      const [attachment, ...others] = payload.attachments
      assert.strictEqual(others.length, 0)
      assert.strictEqual(attachment?.contentType, "application/vnd.microsoft.card.adaptive")
      const context = new SerializationContext()
      const card = new AdaptiveCard()
      card.parse(JSON.parse(JSON.stringify(attachment?.content)), context)
      const events = Array.from({ length: context.eventCount }, (_, index) => context.getEventAt(index).message)
      assert.deepStrictEqual(events, [])
      assert.isAbove(card.getItemCount(), 0)
    }
  })

  it.live("takes 202 for an answer, and says what to do about a workflow that refuses", () =>
    Effect.gen(function*() {
      const receiver = yield* Receiver.start
      const notifier = yield* Fixture.make(Teams.teams, { url: `${receiver.url}/workflows/x?sig=secret-sig` })
      receiver.script({ status: 202, body: "" }, { status: 401 }, { status: 404 })
      yield* notifier.notify(Fixture.firing)
      const refused = yield* Effect.flip(notifier.notify(Fixture.firing))
      const gone = yield* Effect.flip(notifier.notify(Fixture.firing))
      assert.deepStrictEqual([refused.reason, gone.reason], ["Unauthorized", "Missing"])
      assert.notMatch(JSON.stringify([refused, gone]), /secret-|127\.0\.0\.1/)
    }))

  it.effect("refuses the URL of a retired connector", () =>
    Effect.gen(function*() {
      for (
        const url of [
          "https://example.webhook.office.com/webhookb2/secret-1/IncomingWebhook/secret-2",
          "https://outlook.office.com/webhook/secret-1"
        ]
      ) {
        const message = yield* Fixture.refusal(Teams.teams, { url })
        assert.match(message, /retired/)
        assert.notInclude(message, "secret-")
      }
    }))
})
