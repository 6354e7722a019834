/**
 * The contract of a `Notifier` as a conformance suite.
 *
 * The subject starts the other side (a real server on this machine) and says how it is made to refuse, to be slow, to ask for patience. `http` does all of that for
 * notifiers that post to a URL.
 */
import { isRetryable, type Reason } from "@etl-stream/core/ConnectorError"
import type { Notification, Notifier } from "@etl-stream/core/Notifier"
import type { Plugin } from "@etl-stream/core/Plugin"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import { inspect } from "node:util"
import type { Case, Suite } from "./Conformance.ts"
import type { Answer, HttpReceiver } from "./HttpReceiver.ts"
import { freePort } from "./internal/ports.ts"
import * as Refused from "./internal/refusedOptions.ts"
import * as PluginOptions from "./PluginOptions.ts"

/**
 * How the other side meets an attempt. `takes` it; `fails` in a way that passes (HTTP 500, SMTP 451); `throttles` (429), asking to be left alone for a second;
 * `throttlesLong`, for an hour; `unauthorized`: the credentials are wrong; `refuses` the message for good (400); `hangs`: takes it and never answers.
 */
export type Behaviour = "takes" | "fails" | "throttles" | "throttlesLong" | "unauthorized" | "refuses" | "hangs"

/** The other side, with a notifier's options for it. */
export interface Service {
  readonly options: PluginOptions.Options
  /** Relative paths in options are relative to it. Default: the current folder. */
  readonly directory?: string
  /** Parts of the options that must never be seen: keys, tokens, a secret URL. */
  readonly secrets: ReadonlyArray<string>
  /** What was taken, in order, each as text in which titles can be found. */
  readonly taken: Effect.Effect<ReadonlyArray<string>>
  /** How many attempts there were, taken or not. */
  readonly attempts: Effect.Effect<number>
  /** Meets the next attempts so, `times` of them (all, if not given), then takes them again. */
  readonly behave: (behaviour: Behaviour, times?: number) => Effect.Effect<void>
  /** Options for a place where nobody listens. */
  readonly nowhere: PluginOptions.Options
}

export interface Subject<A> {
  readonly plugin: Plugin<"notifier", A>
  /**
   * Starts the other side. The options should give a small patience (two to four seconds for all attempts together) and no narrow limit of rate, as the
   * suite waits for both.
   */
  readonly start: Effect.Effect<Service, unknown, Scope.Scope>
  /** The longest that `notify` may take with these options when nothing works: the other side's silence and all further attempts included. */
  readonly patience: Duration.Input
  /** Behaviours that the other side can't show, each with the reason. */
  readonly cannot?: Readonly<Partial<Record<Behaviour, string>>>
  /** Options that decode. */
  readonly valid: PluginOptions.Options
  readonly refused: ReadonlyArray<PluginOptions.RefusedOptions>
  /** How long a case may take. Default: 1 minute. */
  readonly timeout?: Duration.Input
}

/** Answers as HTTP has them in general. */
const answers: Readonly<Record<Behaviour, Answer | "hang">> = {
  takes: { status: 200 },
  fails: { status: 500 },
  throttles: { status: 429, headers: { "retry-after": "1" } },
  throttlesLong: { status: 429, headers: { "retry-after": "3600" } },
  unauthorized: { status: 401 },
  refuses: { status: 400 },
  hangs: "hang"
}

/** The other side of a notifier that posts to a URL: `options` makes its options of the receiver's address. */
export const http = (
  receiver: HttpReceiver,
  given: {
    readonly options: (url: string) => PluginOptions.Options
    readonly secrets: ReadonlyArray<string>
    /** Answers that differ from what HTTP says in general. */
    readonly answers?: Readonly<Partial<Record<Behaviour, Answer>>>
  }
): Effect.Effect<Service> =>
  Effect.map(Effect.promise(freePort), (closed) => {
    const answerOf = (behaviour: Behaviour): Answer | "hang" => given.answers?.[behaviour] ?? answers[behaviour]
    receiver.always(answerOf("takes"))
    return {
      options: given.options(receiver.url),
      nowhere: given.options(`http://127.0.0.1:${closed}`),
      secrets: given.secrets,
      taken: Effect.sync(() =>
        receiver.requests.flatMap(({ answer, body }) => answer !== "hang" && answer.status < 300 ? [body] : [])
      ),
      attempts: Effect.sync(() => receiver.requests.length),
      behave: (behaviour, times) =>
        Effect.sync(() => {
          if (times === undefined) return receiver.always(answerOf(behaviour))
          receiver.script(...Array.from({ length: times }, () => answerOf(behaviour)), answerOf("takes"))
        })
    }
  })

/** When a case's alerts began. */
const began = Date.UTC(2026, 0, 2, 3, 4, 5)

/** An alert of its own, with a word in its title that nothing else has. */
const alert = (more: Partial<Notification> = {}): Notification & { readonly word: string } => {
  const word = `Alert${randomUUID().slice(0, 8)}`
  return {
    word,
    key: `etl-stream/pipeline/conformance/freshness/${randomUUID()}`,
    type: "freshness",
    severity: "warning",
    status: "firing",
    title: `${word}: the sink's data is older than allowed`,
    body: "Look at the pipeline's log.",
    source: "conformance",
    pipeline: "conformance",
    table: "public.orders",
    size: { value: 360_000, unit: "ms" },
    threshold: { value: 300_000, unit: "ms" },
    duration: 120_000,
    reminder: false,
    at: began,
    ...more
  }
}

/** What somebody could write to do harm or by accident: markup, control characters, halves of characters, great length. */
const hostile = (): ReadonlyArray<Notification> => [
  alert({
    title: "<!channel> *b* _i_ [x](http://evil.example) \r\nBcc: all@example.com &amp; <script>alert(1)</script>",
    body: `<script>alert(1)</script> & <@U123> \u0000\u0007\u001b[31m \ud800 ${"<&>\"'".repeat(20_000)}`,
    key: `etl-stream/${"k".repeat(600)}/ü\n`,
    table: `"pub<li>c"."a&b${"x".repeat(5000)}"`
  }),
  alert({ title: "🦆".repeat(3000), body: "", source: "s".repeat(1000) }),
  alert({
    title: "a title\nof two lines",
    body: "line\r\n.\r\nline\u2028line",
    size: { value: Number.MAX_SAFE_INTEGER, unit: "By" }
  }),
  alert({ title: "", body: "b".repeat(100_000) })
]

const longer = (limit: Duration.Input): Duration.Duration =>
  Duration.sum(Duration.fromInputUnsafe(limit), Duration.millis(500))

interface Running {
  readonly service: Service
  readonly notifier: Notifier
}

type Scoped<A> = Effect.Effect<A, unknown, Scope.Scope>

/** The suite for a notifier. */
export const make = <A>(subject: Subject<A>): Suite => {
  const { cannot = {}, patience, plugin } = subject

  const started: Scoped<Running> = Effect.gen(function*() {
    const service = yield* subject.start
    const { directory = PluginOptions.context.directory } = service
    const notifier = yield* PluginOptions.make(plugin, service.options, { ...PluginOptions.context, directory })
    return { service, notifier }
  })

  /** Completes with the error of `notify`, as it has to be, which comes in time and has no secret in it. */
  const failing = Effect.fnUntraced(function*({ notifier, service }: Running, notification = alert()) {
    const result = yield* notifier.notify(notification).pipe(
      Effect.result,
      Effect.timeoutOrElse({
        duration: longer(patience),
        orElse: () =>
          Effect.die(
            new assert.AssertionError({ message: `\`notify\` wasn't over after ${Duration.format(longer(patience))}` })
          )
      })
    )
    if (result._tag === "Success") return assert.fail("`notify` completed, though the other side has taken nothing")
    const { failure } = result
    assert.equal(failure._tag, "ConnectorError", "it failed with something that is no ConnectorError")
    assert.equal(failure.plugin, plugin.name, "the error names another plugin")
    assert.notEqual(failure.hint.trim(), "", "the error has no hint what to do")
    const told = `${failure.message}\n${failure.hint}\n${inspect(failure, { depth: 10, showHidden: true })}\n${
      failure.stack ?? ""
    }`
    for (const secret of service.secrets) {
      assert.ok(!told.includes(secret), `the error has a secret in it: ${failure.message}`)
    }
    return failure
  })

  const reasonAmong = (reason: Reason, ...expected: ReadonlyArray<Reason>) =>
    assert.ok(expected.includes(reason), `the error's reason is ${reason}, not ${expected.join(" or ")}`)

  const tells = Effect.fnUntraced(
    function*({ notifier, service }: Running, notifications: ReadonlyArray<Notification>) {
      for (const notification of notifications) {
        const before = (yield* service.taken).length
        yield* notifier.notify(notification)
        const now = (yield* service.taken).length
        assert.ok(
          now > before,
          `\`notify\` completed, and the other side has taken nothing (${notification.status}, ${notification.severity})`
        )
        assert.ok(now === before + 1, `one notification came ${now - before} times`)
      }
    }
  )

  const test = (
    name: string,
    run: (running: Running) => Scoped<void>,
    ...behaviours: ReadonlyArray<Behaviour>
  ): Case => {
    const missing = behaviours.find((behaviour) => cannot[behaviour] !== undefined)
    return { name, skipped: missing === undefined ? undefined : cannot[missing], run: Effect.flatMap(started, run) }
  }

  const severities = ["info", "warning", "critical"] as const

  return {
    kind: "notifier",
    plugin: plugin.name,
    timeout: Duration.fromInputUnsafe(subject.timeout ?? "1 minute"),
    cases: [
      ...Refused.cases(plugin, subject.refused, subject.valid),
      test("tells that an alert begins, still is so, and is over, of every severity", (running) =>
        tells(
          running,
          severities.flatMap((severity) => {
            const firing = alert({ severity })
            return [
              firing,
              { ...firing, reminder: true, at: began + 600_000, duration: 720_000 },
              { ...firing, status: "resolved", body: "", at: began + 700_000 }
            ] as const
          })
        )),
      test("tells of alerts with and without pipeline, table, size and threshold", (running) =>
        tells(
          running,
          Array.from({ length: 16 }, (_, bits) =>
            alert({
              ...(bits & 1 ? { pipeline: undefined } : {}),
              ...(bits & 2 ? { table: undefined } : {}),
              ...(bits & 4 ? { size: undefined } : {}),
              ...(bits & 8 ? { threshold: undefined } : {})
            }))
        )),
      test("tells what the alert's title says", (running) =>
        Effect.gen(function*() {
          const { word, ...notification } = alert()
          yield* tells(running, [notification])
          const text = (yield* running.service.taken).join("\n")
          assert.ok(text.includes(word), "the title isn't in what was taken")
        })),
      test("sends whatever texts there may be: markup, control characters, 100 kB", (running) =>
        tells(running, hostile())),
      test("tells of several alerts at once, each", ({ notifier, service }) =>
        Effect.gen(function*() {
          const alerts = Array.from({ length: 10 }, () => alert())
          yield* Effect.forEach(alerts, notifier.notify, { concurrency: "unbounded" })
          const text = (yield* service.taken).join("\n")
          for (const { word } of alerts) assert.ok(text.includes(word), "an alert of several at once was never told")
        })),
      test("tries again by itself when the other side fails once, and tells once", (running) =>
        Effect.gen(function*() {
          yield* running.service.behave("fails", 1)
          yield* tells(running, [alert()])
          assert.ok((yield* running.service.attempts) >= 2)
        }), "fails"),
      test("waits as long as the other side asks for", (running) =>
        Effect.gen(function*() {
          yield* running.service.behave("throttles", 1)
          const before = Date.now()
          yield* tells(running, [alert()])
          const waited = Date.now() - before
          assert.ok(waited >= 950, `it asked for a second, and was asked again after ${waited} ms`)
        }), "throttles"),
      test(
        "gives up, saying so, when the other side asks for more patience than it has",
        (running) =>
          Effect.gen(function*() {
            yield* running.service.behave("throttlesLong")
            reasonAmong((yield* failing(running)).reason, "Throttled")
          }),
        "throttlesLong"
      ),
      test(
        "gives up in time when the other side keeps failing, and works when it works again",
        (running) =>
          Effect.gen(function*() {
            yield* running.service.behave("fails")
            const error = yield* failing(running)
            assert.ok(isRetryable(error), `the error's reason is ${error.reason}, of which nobody tries again`)
            yield* running.service.behave("takes")
            yield* tells(running, [alert()])
          }),
        "fails"
      ),
      test(
        "gives up in time when the other side never answers, and works when it does",
        (running) =>
          Effect.gen(function*() {
            yield* running.service.behave("hangs")
            reasonAmong((yield* failing(running)).reason, "Unreachable")
            yield* running.service.behave("takes")
            yield* tells(running, [alert()])
          }),
        "hangs"
      ),
      test("gives up in time when nobody is there", ({ service }) =>
        Effect.gen(function*() {
          const { directory = PluginOptions.context.directory } = service
          const notifier = yield* PluginOptions.make(plugin, service.nowhere, { ...PluginOptions.context, directory })
          reasonAmong((yield* failing({ notifier, service })).reason, "Unreachable")
        })),
      test("says that the credentials are wrong, at once", (running) =>
        Effect.gen(function*() {
          yield* running.service.behave("unauthorized")
          reasonAmong((yield* failing(running)).reason, "Unauthorized", "Forbidden", "Missing")
          assert.equal(yield* running.service.attempts, 1, "it was tried again, though that can't help")
        }), "unauthorized"),
      test("says that the message is refused, at once", (running) =>
        Effect.gen(function*() {
          yield* running.service.behave("refuses")
          const error = yield* failing(running)
          assert.ok(!isRetryable(error), `the error's reason is ${error.reason}, of which one tries again`)
          assert.equal(yield* running.service.attempts, 1, "it was tried again, though that can't help")
        }), "refuses"),
      test("ends when it is interrupted while it waits, and works after that", (running) =>
        Effect.gen(function*() {
          const { notifier, service } = running
          yield* service.behave("hangs")
          const fiber = yield* Effect.forkChild(notifier.notify(alert()))
          yield* service.attempts.pipe(
            Effect.repeat({ while: (count) => count === 0, schedule: Schedule.spaced("10 millis") })
          )
          yield* Fiber.interrupt(fiber).pipe(
            Effect.timeoutOrElse({
              duration: "2 seconds",
              orElse: () =>
                Effect.die(
                  new assert.AssertionError({ message: "it wasn't over two seconds after it was interrupted" })
                )
            })
          )
          yield* service.behave("takes")
          yield* tells(running, [alert()])
        }), "hangs"),
      test("leaves nothing open when it is closed", ({ service }) =>
        Effect.gen(function*() {
          const { directory = PluginOptions.context.directory } = service
          const once = PluginOptions.make(plugin, service.options, { ...PluginOptions.context, directory }).pipe(
            Effect.flatMap((notifier) => notifier.notify(alert())),
            Effect.scoped
          )
          yield* once
          const open = Effect.sync(() => process.getActiveResourcesInfo().length)
          const before = yield* open
          const rounds = 10
          yield* Effect.repeat(once, { times: rounds - 1 })
          // Connections that are kept for the next one may stay for a while.
          const left = yield* open.pipe(
            Effect.repeat({
              until: (now) => now < before + rounds / 2,
              schedule: Schedule.spaced("100 millis").pipe(Schedule.upTo({ duration: "10 seconds" }))
            }),
            Effect.andThen(open)
          )
          assert.ok(
            left < before + rounds / 2,
            `${left - before} timers or connections of ${rounds} notifiers are left after their ends`
          )
        }))
    ]
  }
}
