import { assert, describe, it } from "@effect/vitest"
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { Notification } from "@etl-stream/core/Notifier"
import * as Rate from "@etl-stream/notifiers/Rate"
import * as RateLimit from "@etl-stream/notifiers/RateLimit"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as fc from "fast-check"
import { firing } from "./Fixture.ts"

const numbered = (n: number): Notification => ({ ...firing, key: String(n) })

const keys = (told: RateLimit.Told) => told.map(({ key }) => key)

const refused = new ConnectorError({ reason: "Unreachable", plugin: "test", message: "gone", hint: "" })

describe("Rate", () => {
  it("reads what it writes, and nothing else", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 999_999 }),
        fc.constantFrom(1000, 60_000),
        (messages, perMillis) => {
          assert.deepStrictEqual(Rate.parse(Rate.format({ messages, perMillis })), { messages, perMillis })
        }
      )
    )
    for (
      const text of [
        "",
        "10",
        "0 per minute",
        "-1 per minute",
        "1.5 per minute",
        "10 per day",
        "10 per hour",
        "10 per minutes",
        "ten per minute",
        "9999999 per second"
      ]
    ) {
      assert.isUndefined(Rate.parse(text), text)
    }
  })
})

describe("RateLimit", () => {
  it.effect("sends what is too much as one message when the next may go, and nobody's is lost", () =>
    Effect.gen(function*() {
      const sent: Array<{ readonly at: number; readonly keys: ReadonlyArray<string> }> = []
      const notifier = yield* RateLimit.make({
        plugin: "test",
        rate: { messages: 3, perMillis: 60_000 },
        together: true,
        send: (told) => Effect.map(Clock.currentTimeMillis, (at) => void sent.push({ at, keys: keys(told) }))
      })
      const all = yield* Effect.forEach(
        Array.from({ length: 8 }, (_, n) => numbered(n)),
        (notification) => Effect.forkChild(notifier.notify(notification))
      )
      yield* TestClock.adjust("59 seconds")
      assert.deepStrictEqual(sent.map(({ keys }) => keys), [["0"], ["1"], ["2"]])
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(sent[3], { at: 60_000, keys: ["3", "4", "5", "6", "7"] })
      yield* Effect.forEach(all, Fiber.join)
    }))

  it.effect("sends one by one where each must have its own", () =>
    Effect.gen(function*() {
      const sent: Array<string> = []
      const notifier = yield* RateLimit.make({
        plugin: "test",
        rate: { messages: 1, perMillis: 1000 },
        together: false,
        send: (told) => Effect.map(Clock.currentTimeMillis, (at) => void sent.push(`${at}:${keys(told).join("+")}`))
      })
      const all = yield* Effect.forEach([0, 1, 2], (n) => Effect.forkChild(notifier.notify(numbered(n))))
      yield* TestClock.adjust("2 seconds")
      yield* Effect.forEach(all, Fiber.join)
      assert.deepStrictEqual(sent, ["0:0", "1000:1", "2000:2"])
    }))

  it.effect("tells everybody in a summary that it failed", () =>
    Effect.gen(function*() {
      let works = true
      const notifier = yield* RateLimit.make({
        plugin: "test",
        rate: { messages: 1, perMillis: 1000 },
        together: true,
        send: () => works ? Effect.void : Effect.fail(refused)
      })
      yield* notifier.notify(numbered(0))
      works = false
      const held = yield* Effect.forEach([1, 2], (n) => Effect.forkChild(Effect.exit(notifier.notify(numbered(n)))))
      yield* TestClock.adjust("1 second")
      for (const exit of yield* Effect.forEach(held, Fiber.join)) assert.deepStrictEqual(exit, Exit.fail(refused))
    }))

  it.effect("doesn't send what nobody waits for any more, and fails what waits when it is closed", () =>
    Effect.gen(function*() {
      const sent: Array<ReadonlyArray<string>> = []
      const scope = yield* Scope.make()
      const notifier = yield* Scope.provide(
        RateLimit.make({
          plugin: "test",
          rate: { messages: 1, perMillis: 1000 },
          together: true,
          send: (told) => Effect.sync(() => void sent.push(keys(told)))
        }),
        scope
      )
      yield* notifier.notify(numbered(0))
      const [given, kept] = yield* Effect.forEach(
        [1, 2],
        (n) => Effect.forkChild(notifier.notify(numbered(n)), { startImmediately: true })
      )
      if (given === undefined || kept === undefined) return assert.fail("two fibers")
      yield* Fiber.interrupt(given)
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(kept)
      assert.deepStrictEqual(sent, [["0"], ["2"]])
      const held = yield* Effect.forkChild(Effect.flip(notifier.notify(numbered(3))), { startImmediately: true })
      yield* Scope.close(scope, Exit.void)
      assert.include((yield* Fiber.join(held)).message, "closed")
      assert.include(
        (yield* Effect.flip(Effect.flatMap(TestClock.adjust(0), () => notifier.notify(numbered(4))))).message,
        "closed"
      )
    }))

  it.effect("a message that takes its time holds up no other, as long as the rate allows them", () =>
    Effect.gen(function*() {
      const sent: Array<string> = []
      const slow = yield* Deferred.make<void>()
      const notifier = yield* RateLimit.make({
        plugin: "test",
        rate: { messages: 10, perMillis: 1000 },
        together: true,
        send: (told) =>
          told[0].key === "0" ? Deferred.await(slow) : Effect.sync(() => void sent.push(keys(told).join("+")))
      })
      yield* Effect.forkChild(notifier.notify(numbered(0)), { startImmediately: true })
      yield* notifier.notify(numbered(1))
      assert.deepStrictEqual(sent, ["1"])
    }))

  it.effect.prop(
    "never exceeds the rate in any span of its length, and sends each exactly once",
    [
      Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 2500 }))).check(
        Schema.isMinLength(1),
        Schema.isMaxLength(30)
      ),
      Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 5 })),
      Schema.Boolean
    ],
    ([gaps, messages, together]) =>
      Effect.gen(function*() {
        const sent: Array<{ readonly at: number; readonly keys: ReadonlyArray<string> }> = []
        const notifier = yield* RateLimit.make({
          plugin: "test",
          rate: { messages, perMillis: 1000 },
          together,
          send: (told) => Effect.map(Clock.currentTimeMillis, (at) => void sent.push({ at, keys: keys(told) }))
        })
        const fibers: Array<Fiber.Fiber<void, ConnectorError>> = []
        for (const [n, gap] of gaps.entries()) {
          yield* TestClock.adjust(gap % 7 === 0 ? 0 : gap)
          fibers.push(yield* Effect.forkChild(notifier.notify(numbered(n)), { startImmediately: true }))
        }
        yield* TestClock.adjust(1000 * (gaps.length + 1))
        yield* Effect.forEach(fibers, Fiber.join)
        assert.deepStrictEqual(
          sent.flatMap(({ keys }) => keys).map(Number).sort((a, b) => a - b),
          gaps.map((_, n) => n)
        )
        for (const { at } of sent) {
          assert.isAtMost(sent.filter((other) => other.at > at - 1000 && other.at <= at).length, messages)
        }
      })
  )
})
