import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import * as CircuitBreaker from "../src/CircuitBreaker.ts"

const open = Schedule.min([Schedule.exponential("1 second"), Schedule.spaced("4 seconds")])
const options = { name: "sink", failures: 3, openTime: open }
const fails = Effect.fail("down" as const)
const works = Effect.succeed("fine" as const)

describe("CircuitBreaker", () => {
  it.effect("opens after consecutive failures and refuses calls without making them", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make(options)
      yield* Effect.flip(breaker.execute(fails))
      yield* Effect.flip(breaker.execute(fails))
      yield* breaker.execute(works)
      yield* Effect.flip(breaker.execute(fails))
      yield* Effect.flip(breaker.execute(fails))
      assert.strictEqual(yield* breaker.state, "Closed")
      yield* Effect.flip(breaker.execute(fails))
      assert.strictEqual(yield* breaker.state, "Open")
      let called = false
      const refused = yield* Effect.flip(breaker.execute(Effect.sync(() => {
        called = true
      })))
      assert.isFalse(called)
      assert.deepInclude(refused, { _tag: "CircuitOpen", name: "sink", retryAfter: 1000 })
      yield* TestClock.adjust("400 millis")
      assert.deepInclude(yield* Effect.flip(breaker.execute(works)), { retryAfter: 600 })
    }))

  it.effect("lets one probe through when the time is over: its success closes, its failure opens for longer", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ ...options, failures: 1 })
      const seen = yield* Effect.forkChild(Stream.runCollect(Stream.take(breaker.transitions, 6)), {
        startImmediately: true
      })
      yield* Effect.flip(breaker.execute(fails))
      yield* TestClock.adjust("1 second")
      yield* Effect.flip(breaker.execute(fails))
      yield* TestClock.adjust("1 second")
      assert.deepInclude(yield* Effect.flip(breaker.execute(works)), { _tag: "CircuitOpen", retryAfter: 1000 })
      yield* TestClock.adjust("1 second")

      const gate = yield* Deferred.make<void>()
      const probe = yield* Effect.forkChild(breaker.execute(Deferred.await(gate)), { startImmediately: true })
      assert.strictEqual(yield* breaker.state, "HalfOpen")
      assert.deepInclude(yield* Effect.flip(breaker.execute(works)), { _tag: "CircuitOpen", retryAfter: 0 })
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.join(probe)
      assert.strictEqual(yield* breaker.state, "Closed")
      assert.strictEqual(yield* breaker.execute(works), "fine")

      // Once closed the open times begin anew.
      yield* Effect.flip(breaker.execute(fails))
      assert.deepInclude(yield* Effect.flip(breaker.execute(works)), { retryAfter: 1000 })
      assert.deepStrictEqual((yield* Fiber.join(seen)).map(({ at, from, to }) => `${at} ${from}-${to}`), [
        "0 Closed-Open",
        "1000 Open-HalfOpen",
        "1000 HalfOpen-Open",
        "3000 Open-HalfOpen",
        "3000 HalfOpen-Closed",
        "3000 Closed-Open"
      ])
    }))

  it.effect("keeps the last open time when the schedule ends", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({
        ...options,
        failures: 1,
        openTime: Schedule.upTo(Schedule.spaced("2 seconds"), { times: 1 })
      })
      for (let i = 0; i < 4; i++) {
        yield* Effect.flip(breaker.execute(fails))
        assert.deepInclude(yield* Effect.flip(breaker.execute(works)), { retryAfter: 2000 })
        yield* TestClock.adjust("2 seconds")
      }
    }))

  it.effect("counts defects, but neither interruptions nor errors that it is told to ignore", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({
        ...options,
        failures: 1,
        isFailure: (error) => error !== "harmless"
      })
      yield* Effect.flip(breaker.execute(Effect.fail("harmless")))
      const slow = yield* Effect.forkChild(breaker.execute(Effect.never), { startImmediately: true })
      yield* Fiber.interrupt(slow)
      assert.strictEqual(yield* breaker.state, "Closed")
      yield* Effect.exit(breaker.execute(Effect.die("defect")))
      assert.strictEqual(yield* breaker.state, "Open")
    }))

  it.effect("frees the probe's place when it is interrupted", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ ...options, failures: 1 })
      yield* Effect.flip(breaker.execute(fails))
      yield* TestClock.adjust("1 second")
      const probe = yield* Effect.forkChild(breaker.execute(Effect.never), { startImmediately: true })
      yield* Fiber.interrupt(probe)
      assert.strictEqual(yield* breaker.state, "HalfOpen")
      yield* breaker.execute(works)
      assert.strictEqual(yield* breaker.state, "Closed")
    }))

  it.effect("ignores outcomes of calls that began before it opened", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ ...options, failures: 1 })
      const gate = yield* Deferred.make<void>()
      const late = yield* Effect.forkChild(breaker.execute(Effect.andThen(Deferred.await(gate), fails)), {
        startImmediately: true
      })
      yield* Effect.flip(breaker.execute(fails))
      yield* TestClock.adjust("1 second")
      yield* breaker.execute(works)
      yield* Deferred.succeed(gate, undefined)
      assert.isTrue(Exit.isFailure(yield* Fiber.await(late)))
      assert.strictEqual(yield* breaker.state, "Closed")
    }))
})
