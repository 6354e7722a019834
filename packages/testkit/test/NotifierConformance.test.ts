/**
 * The suite of notifiers passes what keeps the contract, and catches what doesn't by the case that is meant for it.
 */
import { ConnectorError, isRetryable, type Reason } from "@etl-stream/core/ConnectorError"
import type { Notification, Notifier } from "@etl-stream/core/Notifier"
import * as Plugin from "@etl-stream/core/Plugin"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { assert, describe, it } from "vitest"
import * as HttpReceiver from "../src/HttpReceiver.ts"
import * as NotifierConformance from "../src/NotifierConformance.ts"
import * as Verdicts from "./Verdicts.ts"

const Config = Schema.Struct({ url: Schema.NonEmptyString })
type Config = typeof Config.Type

const error = (reason: Reason, message: string) =>
  new ConnectorError({ reason, plugin: "tried", message, hint: "Look at the other side." })

interface Ways {
  readonly retryFor: number
  readonly timeout: number
  readonly heedsRetryAfter: boolean
  readonly reasonOf: (status: number) => Reason
  readonly body: (notification: Notification) => string
}

const reasonOf = (status: number): Reason =>
  status === 429 ? "Throttled" : status >= 500 ? "Unreachable" : status === 401 ? "Unauthorized" : "Rejected"

const well: Ways = { retryFor: 1500, timeout: 1000, heedsRetryAfter: true, reasonOf, body: JSON.stringify }

interface Later {
  readonly error: ConnectorError
  readonly after: number
}

/** A notifier that posts, as well as `ways` let it. */
const posting = (ways: Ways) => ({ url }: Config): Notifier => {
  const attempt = (notification: Notification): Effect.Effect<void, Later> =>
    Effect.tryPromise({
      try: (signal) =>
        fetch(url, {
          method: "POST",
          body: ways.body(notification),
          signal: AbortSignal.any([signal, AbortSignal.timeout(ways.timeout)])
        }),
      catch: (): Later => ({ error: error("Unreachable", "There was no answer"), after: 0 })
    }).pipe(
      Effect.flatMap(({ headers, status }) =>
        status < 300 ? Effect.void : Effect.fail<Later>({
          error: error(ways.reasonOf(status), `It answered ${status}`),
          after: ways.heedsRetryAfter ? Number(headers.get("retry-after") ?? 0) * 1000 : 0
        })
      )
    )
  return {
    notify: (notification) =>
      attempt(notification).pipe(
        Effect.retry(
          Schedule.spaced("100 millis").pipe(
            Schedule.upTo({ duration: ways.retryFor }),
            Schedule.setInputType<Later>(),
            Schedule.while(({ input }) => isRetryable(input.error) && input.after <= ways.retryFor),
            Schedule.modifyDelay(({ duration, input }) =>
              Effect.succeed(Math.max(100, input.after, Number(duration) || 0))
            )
          )
        ),
        Effect.mapError(({ error }) => error)
      )
  }
}

const suiteOf = (make: (config: Config) => Notifier | Effect.Effect<Notifier, never, Scope.Scope>) =>
  NotifierConformance.make({
    plugin: Plugin.notifier({
      name: "tried",
      version: "1.0.0",
      summary: "Is tried",
      config: Config,
      make: (config) => {
        const made = make(config)
        return Effect.isEffect(made) ? made : Effect.succeed(made)
      }
    }),
    start: Effect.flatMap(
      HttpReceiver.start,
      (receiver) =>
        NotifierConformance.http(receiver, { options: (url) => ({ url: `${url}/secret` }), secrets: ["/secret"] })
    ),
    patience: "4 seconds",
    valid: { url: "http://127.0.0.1" },
    refused: [{ what: "an empty URL", options: { url: "" }, path: "url" }]
  })

const before = (
  config: Config,
  also: (notification: Notification) => Effect.Effect<void, ConnectorError>
): Notifier => {
  const { notify } = posting(well)(config)
  return { notify: (notification) => Effect.andThen(also(notification), notify(notification)) }
}

/** Looks at what the whole process has open; all other cases wait for a server of their own, and so beside each other. */
const alone = "leaves nothing open"

/** Defects, each with a part of the name of the case that must find it. */
const defects: Readonly<
  Record<
    string,
    readonly [make: (config: Config) => Notifier | Effect.Effect<Notifier, never, Scope.Scope>, found: string]
  >
> = {
  "one that sends nothing": [() => ({ notify: () => Effect.void }), "of every severity"],
  "one that forgets ends": [(config) => {
    const { notify } = posting(well)(config)
    return { notify: (notification) => notification.status === "resolved" ? Effect.void : notify(notification) }
  }, "of every severity"],
  "one that tells twice": [(config) => before(config, posting(well)(config).notify), "of every severity"],
  "one that needs a threshold": [
    (config) =>
      before(config, ({ threshold }) => threshold === undefined ? Effect.die(new TypeError("undefined")) : Effect.void),
    "with and without"
  ],
  "one that says nothing of it": [posting({ ...well, body: () => "something is wrong" }), "the alert's title"],
  "one that can't send long texts": [
    (config) =>
      before(
        config,
        ({ body }) => body.length > 10_000 ? Effect.fail(error("Rejected", "It is too long")) : Effect.void
      ),
    "whatever texts"
  ],
  "one that drops what comes at once": [(config) => {
    let busy = false
    const { notify } = posting(well)(config)
    return {
      notify: (notification) =>
        Effect.suspend(() => {
          if (busy) return Effect.void
          busy = true
          return Effect.ensuring(
            notify(notification),
            Effect.sync(() => {
              busy = false
            })
          )
        })
    }
  }, "several alerts at once"],
  "one that never tries again": [posting({ ...well, retryFor: -1 }), "fails once"],
  "one that doesn't wait as it is asked to": [
    posting({ ...well, heedsRetryAfter: false }),
    "as long as the other side asks"
  ],
  "one that waits an hour if it is asked to": [posting({ ...well, retryFor: 4_000_000 }), "more patience"],
  "one that never gives up": [posting({ ...well, retryFor: 600_000 }), "keeps failing"],
  "one that calls what passes final": [posting({ ...well, reasonOf: () => "Rejected" }), "keeps failing"],
  "one that waits for an answer for ever": [posting({ ...well, timeout: 600_000 }), "never answers"],
  "one whose errors have the URL in them": [
    ({ url }) => ({ notify: () => Effect.fail(error("Unreachable", `No answer from ${url}`)) }),
    "nobody is there"
  ],
  "one that breaks": [() => ({ notify: () => Effect.die(new Error("broken")) }), "nobody is there"],
  "one that takes wrong credentials for an outage": [
    posting({ ...well, reasonOf: (status) => status === 401 ? "Unreachable" : reasonOf(status) }),
    "credentials"
  ],
  "one that insists": [
    posting({ ...well, reasonOf: (status) => status === 400 ? "Throttled" : reasonOf(status) }),
    "is refused"
  ],
  "one that can't be interrupted": [
    (config) => ({
      notify: (notification) =>
        Effect.uninterruptible(posting({ ...well, timeout: 5000, retryFor: 0 })(config).notify(notification))
    }),
    "interrupted"
  ],
  "one that leaves timers behind": [(config) =>
    Effect.sync(() => {
      setInterval(() => {}, 1000)
      return posting(well)(config)
    }), alone]
}

describe("the suite of notifiers", () => {
  it("passes one that keeps the contract", async () => {
    const suite = suiteOf(posting(well))
    const failuresOf = async (cases: typeof suite.cases) => [...await Verdicts.failures({ ...suite, cases })]
    const beside = suite.cases.filter(({ name }) => !name.startsWith(alone))
    assert.deepStrictEqual((await Promise.all(beside.map((one) => failuresOf([one])))).flat(), [])
    assert.deepStrictEqual(await failuresOf(suite.cases.filter(({ name }) => name.startsWith(alone))), [])
  }, 120_000)

  for (const [defect, [make, found]] of Object.entries(defects)) {
    const test = found === alone ? it : it.concurrent
    test(`catches ${defect}`, async () => {
      const failures = await Verdicts.failures(suiteOf(make), found)
      assert.strictEqual(failures.size, 1, `no case about "${found}" failed`)
    }, 60_000)
  }
})
