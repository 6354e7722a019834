import { assert, describe, it } from "@effect/vitest"
import { closingWithin } from "@etl-stream/runner/BoundedScope"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { TestClock } from "effect/testing"

const within = closingWithin(Duration.seconds(10))

describe("a bounded scope", () => {
  it.effect("waits for finalizers, in success, failure and interruption", () =>
    Effect.gen(function*() {
      const released: Array<string> = []
      const holding = (name: string) =>
        Effect.addFinalizer(() => Effect.sync(() => released.push(name)).pipe(Effect.delay("1 second")))
      const success = yield* Effect.forkChild(within(Effect.as(holding("success"), 1)))
      const failure = yield* Effect.forkChild(
        Effect.flip(within(Effect.andThen(holding("failure"), Effect.fail("no"))))
      )
      const interrupted = yield* Effect.forkChild(within(Effect.andThen(holding("interruption"), Effect.never)))
      yield* TestClock.adjust("500 millis")
      const interruption = yield* Effect.forkChild(Fiber.interrupt(interrupted))
      assert.deepStrictEqual(released, [])
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Fiber.join(success), 1)
      assert.strictEqual(yield* Fiber.join(failure), "no")
      yield* Fiber.join(interruption)
      assert.sameMembers(released, ["success", "failure", "interruption"])
    }))

  it.effect("doesn't wait longer than its limit for a finalizer that hangs, nor for one that breaks", () =>
    Effect.gen(function*() {
      const hanging = yield* Effect.forkChild(within(Effect.as(Effect.addFinalizer(() => Effect.never), 1)))
      yield* TestClock.adjust("9 seconds")
      assert.isUndefined(hanging.pollUnsafe())
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(yield* Fiber.join(hanging), 1)
      assert.strictEqual(yield* within(Effect.as(Effect.addFinalizer(() => Effect.die("broken")), 2)), 2)
    }))
})
