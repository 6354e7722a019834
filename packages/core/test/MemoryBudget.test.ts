import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as fc from "fast-check"
import * as MemoryBudget from "../src/MemoryBudget.ts"

/** Lets every other fiber run until it waits. */
const settle = Effect.repeat(Effect.yieldNow, { times: 20 })

describe("MemoryBudget", () => {
  it.effect("admits what fits and lets the rest wait for releases", () =>
    Effect.gen(function*() {
      const budget = MemoryBudget.make(100)
      const account = yield* budget.account
      yield* account.reserve(60)
      const waiting = yield* Effect.forkChild(account.reserve(50))
      yield* settle
      assert.strictEqual(budget.waiting(), 1)
      assert.strictEqual(budget.used(), 60)
      account.release(60)
      yield* Fiber.join(waiting)
      assert.strictEqual(budget.used(), 50)
      assert.strictEqual(budget.waiting(), 0)
    }))

  it.effect("is fair: a small reservation doesn't overtake a large one that waits", () =>
    Effect.gen(function*() {
      const budget = MemoryBudget.make(100)
      const account = yield* budget.account
      const order: Array<string> = []
      const take = (name: string, bytes: number) =>
        Effect.forkChild(Effect.tap(account.reserve(bytes), () => Effect.sync(() => order.push(name))))
      yield* account.reserve(80)
      const large = yield* take("large", 90)
      yield* settle
      const small = yield* take("small", 10)
      yield* settle
      assert.isFalse(account.tryReserve(1))
      assert.deepStrictEqual(order, [])
      account.release(80)
      yield* Fiber.joinAll([large, small])
      assert.deepStrictEqual(order, ["large", "small"])
    }))

  it.effect("admits what is larger than the budget alone", () =>
    Effect.gen(function*() {
      const budget = MemoryBudget.make(100)
      const account = yield* budget.account
      yield* account.reserve(10)
      const huge = yield* Effect.forkChild(account.reserve(5000))
      yield* settle
      assert.strictEqual(budget.used(), 10)
      account.release(10)
      yield* Fiber.join(huge)
      assert.strictEqual(budget.used(), 5000)
      assert.isFalse(account.tryReserve(1))
    }))

  it.effect("never starves an account by what another one holds", () =>
    Effect.gen(function*() {
      const budget = MemoryBudget.make(100)
      const stalled = yield* budget.account
      const other = yield* budget.account
      yield* stalled.reserve(100)
      const waiting = yield* Effect.forkChild(stalled.reserve(50))
      yield* settle
      yield* other.reserve(30)
      const next = yield* Effect.forkChild(other.reserve(30))
      yield* settle
      assert.strictEqual(other.held(), 30)
      other.release(30)
      yield* Fiber.join(next)
      assert.strictEqual(other.held(), 30)
      yield* Fiber.interrupt(waiting)
      assert.strictEqual(budget.used(), 130)
    }))

  it.effect("keeps a share for each account that others can't take, several batches of it at a time", () =>
    Effect.gen(function*() {
      const budget = MemoryBudget.make(800)
      const stalled = yield* budget.account
      const other = yield* budget.account
      // A quarter, divided by two: 100 each; the other 600 are for whoever needs them.
      while (stalled.tryReserve(50));
      assert.strictEqual(stalled.held(), 700)
      const waiting = yield* Effect.forkChild(stalled.reserve(50))
      yield* settle
      yield* other.reserve(40)
      yield* other.reserve(30)
      yield* other.reserve(30)
      assert.isFalse(other.tryReserve(1))
      assert.strictEqual(budget.used(), 800)
      other.release(30)
      assert.isTrue(other.tryReserve(30))
      yield* Fiber.interrupt(waiting)
    }))

  it.effect("doesn't let a reservation that waits hold up another account that has room", () =>
    Effect.gen(function*() {
      const budget = MemoryBudget.make(800)
      const stalled = yield* budget.account
      const other = yield* budget.account
      yield* stalled.reserve(400)
      const waiting = yield* Effect.forkChild(stalled.reserve(600))
      yield* settle
      yield* other.reserve(100)
      yield* other.reserve(200)
      assert.strictEqual(other.held(), 300)
      assert.strictEqual(budget.waiting(), 1)
      stalled.release(400)
      yield* Fiber.join(waiting)
    }))

  it.effect("gives the whole capacity to the only account", () =>
    Effect.gen(function*() {
      const budget = MemoryBudget.make(100)
      const account = yield* budget.account
      while (account.tryReserve(10));
      assert.strictEqual(account.held(), 100)
    }))

  it.effect("takes nothing when a wait is interrupted, and lets those behind go on", () =>
    Effect.gen(function*() {
      const budget = MemoryBudget.make(100)
      const account = yield* budget.account
      yield* account.reserve(50)
      const large = yield* Effect.forkChild(account.reserve(90))
      yield* settle
      const small = yield* Effect.forkChild(account.reserve(40))
      yield* settle
      assert.strictEqual(budget.waiting(), 2)
      yield* Fiber.interrupt(large)
      yield* Fiber.join(small)
      assert.strictEqual(budget.used(), 90)
    }))

  it.effect("returns what an account holds when its scope closes, and ignores its late releases", () =>
    Effect.gen(function*() {
      const budget = MemoryBudget.make(100)
      const scope = yield* Scope.make()
      const closing = yield* Scope.provide(budget.account, scope)
      const other = yield* budget.account
      yield* closing.reserve(70)
      yield* other.reserve(30)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(budget.used(), 30)
      closing.release(70)
      closing.grow(70)
      assert.strictEqual(budget.used(), 30)
    }))

  it.effect("accounts for growth of what is held", () =>
    Effect.gen(function*() {
      const budget = MemoryBudget.make(100)
      const account = yield* budget.account
      yield* account.reserve(90)
      account.grow(20)
      assert.strictEqual(budget.used(), 110)
      account.release(110)
      assert.strictEqual(budget.used(), 0)
    }))

  it.effect("stays below the capacity plus one reservation per account, and lets everybody through", () =>
    Effect.gen(function*() {
      const sizes = fc.array(fc.array(fc.integer({ min: 1, max: 150 }), { maxLength: 12 }), {
        minLength: 1,
        maxLength: 4
      })
      for (const accounts of fc.sample(sizes, 50)) {
        const budget = MemoryBudget.make(100)
        let peak = 0
        yield* Effect.scoped(Effect.forEach(accounts, (sizes) =>
          Effect.gen(function*() {
            const account = yield* budget.account
            yield* Effect.forEach(sizes, (bytes) =>
              Effect.gen(function*() {
                yield* account.reserve(bytes)
                peak = Math.max(peak, budget.used())
                yield* Effect.yieldNow
                account.release(bytes)
              }), { concurrency: "unbounded" })
          }), { concurrency: "unbounded" }))
        assert.strictEqual(budget.used(), 0)
        assert.isAtMost(peak, 100 + accounts.length * 150)
      }
    }))

  it.effect("has 32 MiB by default", () =>
    Effect.gen(function*() {
      const budget = yield* MemoryBudget.MemoryBudget
      assert.strictEqual(budget.capacity, 33554432)
    }).pipe(Effect.provide(MemoryBudget.MemoryBudget.layer())))
})
