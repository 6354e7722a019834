import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { TestClock } from "effect/testing"
import type { Reason } from "../src/ConnectorError.ts"
import { ConnectorError, exitCode, isRetryable } from "../src/ConnectorError.ts"
import * as RetryPolicy from "../src/RetryPolicy.ts"

const error = (reason: Reason) => new ConnectorError({ reason, plugin: "test", message: "no", hint: "wait" })

/** Something that fails with each of the errors in turn and then succeeds, and the times at which it was called. */
const failing = (errors: ReadonlyArray<ConnectorError>, lasting: Duration.Input = 0) => {
  const calls: Array<number> = []
  const run = Effect.gen(function*() {
    calls.push(yield* Clock.currentTimeMillis)
    const next = errors[calls.length - 1]
    yield* Effect.sleep(lasting)
    if (next !== undefined) return yield* next
    return "done"
  })
  return { calls, run }
}
const times = (n: number, reason: Reason = "Unreachable") => Array.from({ length: n }, () => error(reason))

describe("RetryPolicy", () => {
  it.effect("waits twice as long each time, up to the cap", () =>
    Effect.gen(function*() {
      const { calls, run } = failing(times(6))
      const policy = RetryPolicy.make({ jitter: false, cap: "2 seconds" })
      const fiber = yield* Effect.forkChild(Effect.retry(run, policy))
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* Fiber.join(fiber), "done")
      assert.deepStrictEqual(calls, [0, 250, 750, 1750, 3750, 5750, 7750])
    }))

  it.effect("varies the waits by a fifth", () =>
    Effect.gen(function*() {
      const { calls, run } = failing(times(8))
      const fiber = yield* Effect.forkChild(
        Effect.retry(run, RetryPolicy.make({ initial: "1 second", cap: "1 second" }))
      )
      yield* TestClock.adjust("1 minute")
      yield* Fiber.join(fiber)
      const waits = calls.slice(1).map((at, i) => at - (calls[i] ?? 0))
      assert.isTrue(waits.every((wait) => wait >= 800 && wait <= 1200))
      assert.isAbove(new Set(waits).size, 1)
    }))

  it.effect("gives up at once for an error that trying again can't mend", () =>
    Effect.gen(function*() {
      for (
        const reason of [
          "Unauthorized",
          "Forbidden",
          "Missing",
          "Misconfigured",
          "Lost",
          "Rejected",
          "Unsupported",
          "Protocol"
        ] as const
      ) {
        const { calls, run } = failing([error(reason)])
        const exit = yield* Effect.exit(Effect.retry(run, RetryPolicy.make()))
        assert.isTrue(Exit.isFailure(exit))
        assert.strictEqual(calls.length, 1)
      }
    }))

  it.effect("gives up after the given number of retries or time", () =>
    Effect.gen(function*() {
      const counted = failing(times(9))
      const first = yield* Effect.forkChild(Effect.retry(counted.run, RetryPolicy.make({ times: 3 })))
      const timed = failing(times(99))
      const second = yield* Effect.forkChild(
        Effect.retry(
          timed.run,
          RetryPolicy.make({ within: "10 seconds", initial: "1 second", cap: "1 second", jitter: false })
        )
      )
      yield* TestClock.adjust("1 hour")
      assert.isTrue(Exit.isFailure(yield* Fiber.await(first)))
      assert.isTrue(Exit.isFailure(yield* Fiber.await(second)))
      assert.strictEqual(counted.calls.length, 4)
      assert.isAtMost(timed.calls.length, 12)
      assert.isAbove(timed.calls.length, 8)
    }))
})

describe("RetryPolicy.supervise", () => {
  const policy = RetryPolicy.make({ jitter: false, initial: "1 second", cap: "8 seconds" })

  it.effect("runs again by the policy and tells of each retry", () =>
    Effect.gen(function*() {
      const { calls, run } = failing(times(3))
      const told: Array<readonly [number, number]> = []
      const fiber = yield* Effect.forkChild(RetryPolicy.supervise(run, {
        policy,
        healthyAfter: "1 minute",
        onRetry: ({ delay, failures }) => Effect.sync(() => void told.push([failures, Duration.toMillis(delay)]))
      }))
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* Fiber.join(fiber), "done")
      assert.deepStrictEqual(calls, [0, 1000, 3000, 7000])
      assert.deepStrictEqual(told, [[1, 1000], [2, 2000], [3, 4000]])
    }))

  it.effect("begins with short waits again after a run that lasted", () =>
    Effect.gen(function*() {
      const { calls, run } = failing(times(4), "1 minute")
      const fiber = yield* Effect.forkChild(RetryPolicy.supervise(run, { policy, healthyAfter: "30 seconds" }))
      yield* TestClock.adjust("1 hour")
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(calls, [0, 61_000, 122_000, 183_000, 244_000])
    }))

  it.effect("begins with short waits again after a run that made progress", () =>
    Effect.gen(function*() {
      const { calls, run } = failing(times(4))
      let progress = 0
      const healthy = Effect.sync(() => progress++ === 2)
      const fiber = yield* Effect.forkChild(RetryPolicy.supervise(run, { policy, healthyAfter: "1 hour", healthy }))
      yield* TestClock.adjust("1 hour")
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(calls, [0, 1000, 3000, 4000, 6000])
    }))

  it.effect("ends with an error that isn't retryable, and with the last one when the policy ends", () =>
    Effect.gen(function*() {
      const forbidden = error("Forbidden")
      const { run } = failing([forbidden])
      assert.strictEqual(yield* Effect.flip(RetryPolicy.supervise(run, { policy, healthyAfter: "1 hour" })), forbidden)
      const errors = times(5)
      const limited = RetryPolicy.make({ jitter: false, times: 2 })
      const fiber = yield* Effect.forkChild(
        Effect.flip(RetryPolicy.supervise(failing(errors).run, { policy: limited, healthyAfter: "1 hour" }))
      )
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(yield* Fiber.join(fiber), errors[2])
    }))
})

describe("ConnectorError", () => {
  it("is retryable when the other side may come back, and names the exit code", () => {
    assert.isTrue((["Unreachable", "Throttled", "Fenced"] as const).every((reason) => isRetryable(error(reason))))
    assert.deepStrictEqual(
      (["Unreachable", "Unauthorized", "Forbidden", "Missing", "Misconfigured"] as const).map((reason) =>
        exitCode(error(reason))
      ),
      [3, 3, 3, 3, 3]
    )
    assert.deepStrictEqual(
      (["Throttled", "Fenced", "Lost", "Rejected", "Unsupported", "Protocol"] as const).map((reason) =>
        exitCode(error(reason))
      ),
      [1, 1, 1, 1, 1, 1]
    )
  })
})
