/**
 * Every notifier keeps the contract, against real servers that fail in every way.
 */
import { plugins } from "@etl-stream/notifiers"
import * as Conformance from "@etl-stream/testkit/Conformance"
import * as HttpReceiver from "@etl-stream/testkit/HttpReceiver"
import * as NotifierConformance from "@etl-stream/testkit/NotifierConformance"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { AddressInfo } from "node:net"
import { SMTPServer } from "smtp-server"
import { describe, it } from "vitest"

// An attempt may time out though it was taken: only where nobody answers should it come to that.
const patient = { timeout: "2 seconds", retryFor: "2 seconds", rate: "1000 per minute" }
const patience = "10 seconds"

const http = (
  options: (url: string) => object,
  secrets: ReadonlyArray<string>,
  answers: Parameters<typeof NotifierConformance.http>[1]["answers"] = {}
) =>
  Effect.flatMap(
    HttpReceiver.start,
    (receiver) =>
      NotifierConformance.http(receiver, { options: (url) => ({ ...options(url), ...patient }), secrets, answers })
  )

const key = "0123456789abcdef0123456789ABCDEF"

const webhook = NotifierConformance.make({
  plugin: plugins.webhook,
  start: http(
    (url) => ({
      url: `${url}/secret-path?token=secret-token`,
      secret: "a secret of enough bytes",
      headers: { Authorization: "Bearer secret-header" }
    }),
    ["secret-path", "secret-token", "a secret of enough bytes", "secret-header"]
  ),
  patience,
  valid: { url: "https://example.com/hook" },
  refused: [
    { what: "something that is no URL", options: { url: "example.com" }, path: "url" },
    {
      what: "a header of its own",
      options: { url: "https://example.com", headers: { "webhook-id": "1" } },
      path: "headers.webhook-id"
    },
    { what: "a rate of nothing", options: { url: "https://example.com", rate: "0 per minute" }, path: "rate" }
  ]
})

const slack = NotifierConformance.make({
  plugin: plugins.slack,
  start: http((url) => ({ url: `${url}/services/secret-path` }), ["secret-path"], {
    unauthorized: { status: 403, body: "invalid_token" },
    refuses: { status: 400, body: "invalid_payload" }
  }),
  patience,
  valid: { url: "https://hooks.slack.com/services/a/b/c" },
  refused: [{ what: "a URL in the clear", options: { url: "http://example.com" }, path: "url" }]
})

const teams = NotifierConformance.make({
  plugin: plugins.teams,
  start: http((url) => ({ url: `${url}/workflows/secret-path` }), ["secret-path"]),
  patience,
  valid: { url: "https://example.com/workflows/a" },
  refused: [{ what: "a URL in the clear", options: { url: "http://example.com" }, path: "url" }]
})

const pagerduty = NotifierConformance.make({
  plugin: plugins.pagerduty,
  start: http((url) => ({ url: `${url}/v2/enqueue`, routingKey: key }), [key], {
    takes: { status: 202, body: "{\"status\":\"success\"}" },
    unauthorized: { status: 400, body: "{\"errors\":[\"'routing_key' is invalid\"]}" }
  }),
  patience,
  valid: { routingKey: key },
  refused: [{ what: "a key that is too short", options: { routingKey: "short" }, path: "routingKey" }]
})

const password = "a secret password"

/** A real SMTP server, as it is told to be. */
const mailServer: Effect.Effect<NotifierConformance.Service, never, Scope.Scope> = Effect.gen(function*() {
  let behaviour: NotifierConformance.Behaviour = "takes"
  let left = Infinity
  let attempts = 0
  const taken: Array<string> = []
  /** What becomes of the message of a connection, by the connection's id: decided when it begins, since one that was interrupted may have sent its message already. */
  const decided = new Map<string, NotifierConformance.Behaviour>()
  const now = (): NotifierConformance.Behaviour => left > 0 ? behaviour : "takes"
  const refusing = (code: number): Error => Object.assign(new Error("no"), { responseCode: code })
  const server = new SMTPServer({
    disabledCommands: ["STARTTLS"],
    allowInsecureAuth: true,
    logger: false,
    onConnect: ({ id }, done) => {
      decided.set(id, now())
      attempts++
      done()
    },
    onAuth: (_, __, done) => now() === "unauthorized" ? done(refusing(535)) : done(null, { user: "etl" }),
    onData: (stream, { id }, done) => {
      let text = ""
      stream.setEncoding("utf8").on("data", (part: string) => text += part).on("end", () => {
        const met = decided.get(id)
        left--
        if (met === "hangs") return
        if (met === "fails") return done(refusing(451))
        if (met === "refuses") return done(refusing(554))
        taken.push(text)
        done()
      })
    }
  })
  server.on("error", () => {})
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => {
      server.listen(0, "127.0.0.1", () => resume(Effect.void))
    }),
    () => Effect.sync(() => server.close())
  )
  const { port } = server.server.address() as AddressInfo // it listens on a port
  const options = {
    ...patient,
    host: "127.0.0.1",
    port,
    tls: "none",
    auth: { user: "etl", password },
    from: "etl@example.com",
    to: ["ops@example.com"]
  }
  return {
    options,
    nowhere: { ...options, port: 1 },
    secrets: [password],
    taken: Effect.sync(() => [...taken]),
    attempts: Effect.sync(() => attempts),
    behave: (next, times = Infinity) =>
      Effect.sync(() => {
        behaviour = next
        left = times
      })
  }
})

const email = NotifierConformance.make({
  plugin: plugins.email,
  start: mailServer,
  patience,
  cannot: {
    throttles: "SMTP has no Retry-After",
    throttlesLong: "SMTP has no Retry-After"
  },
  valid: { host: "mail.example.com", from: "etl@example.com", to: ["ops@example.com"] },
  refused: [
    {
      what: "a recipient that is no address",
      options: { host: "mail.example.com", from: "etl@example.com", to: ["ops"] },
      path: "to.0"
    },
    {
      what: "a sender with a second line",
      options: { host: "mail.example.com", from: "etl@example.com\nBcc: all@example.com", to: ["ops@example.com"] },
      path: "from"
    }
  ]
})

export const conformance = [webhook, slack, teams, pagerduty, email]

const timed = (name: string, run: () => Promise<void>) => it(`${name}`, run, 60_000)
const alone = ({ name }: Conformance.Case) => name.startsWith("leaves nothing open")
const only = (which: (one: Conformance.Case) => boolean) =>
  conformance.map((suite) => ({ ...suite, cases: suite.cases.filter(which) }))

// Most wait for seconds, each for a server of its own, and so beside each other; those that look at what the whole process has open run alone.
// A case that the subject says it can't do (`cannot`) is reported as skipped, with the reason in its name, instead of passing silently.
Conformance.register(only((one) => !alone(one)), { describe: describe.concurrent, it: timed, skip: it.skip })
Conformance.register(only(alone), { describe, it: timed, skip: it.skip })
