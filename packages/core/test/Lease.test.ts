import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import { ConnectorError } from "../src/ConnectorError.ts"
import * as Lease from "../src/Lease.ts"
import type { StateStoreShape } from "../src/StateStore.ts"
import { MemoryState } from "./doubles/MemoryState.ts"

const name = "pipelines/shop"
const ask = (owner: string) => ({ name, owner, ttl: "10 seconds" }) as const

/** What `tryAcquire` fails with. */
const refusal = (state: StateStoreShape, owner: string) => Effect.flip(Lease.tryAcquire(state, ask(owner)))

const start = TestClock.setTime(1_700_000_000_000)

const brokenStore = new ConnectorError({ reason: "Unreachable", plugin: "test", message: "no store", hint: "none" })

describe("Lease", () => {
  it.effect("lets one hold it and tells others who does, and for how long", () =>
    Effect.gen(function*() {
      yield* start
      const state = new MemoryState()
      const lease = yield* Lease.tryAcquire(state, ask("a"))
      assert.isTrue(yield* lease.isHeld)
      assert.strictEqual(lease.token, 1_700_000_000_000)
      yield* TestClock.adjust("2 seconds")
      const error = yield* refusal(state, "b")
      assert(error._tag === "LeaseHeld")
      assert.deepStrictEqual([error.owner, error.remaining], ["a", 8000])
      assert.include(error.message, "a holds")
    }))

  it.effect("is renewed as long as its scope lives, and then free at once", () =>
    Effect.gen(function*() {
      yield* start
      const state = new MemoryState()
      const token = yield* Effect.scoped(Effect.gen(function*() {
        const lease = yield* Lease.tryAcquire(state, ask("a"))
        for (let second = 0; second < 100; second++) {
          yield* TestClock.adjust("1 second")
          assert.isTrue(yield* lease.isHeld)
          assert.strictEqual((yield* refusal(state, "b"))._tag, "LeaseHeld")
        }
        return lease.token
      }))
      const next = yield* Lease.tryAcquire(state, ask("b"))
      assert.isAbove(next.token, token)
    }))

  it.effect("is lost by its holder before anybody else can have it, when the store fails", () =>
    Effect.gen(function*() {
      yield* start
      const state = new MemoryState()
      const lease = yield* Lease.tryAcquire(state, ask("a"))
      const lost = yield* Effect.forkChild(lease.lost)
      state.failing = true
      yield* TestClock.adjust("9999 millis")
      assert.isTrue(yield* lease.isHeld)
      yield* TestClock.adjust("1 millis")
      assert.isFalse(yield* lease.isHeld)
      assert.deepStrictEqual(yield* Fiber.join(lost), { _tag: "Late" })
      state.failing = false
      const next = yield* Lease.tryAcquire(state, ask("b"))
      assert.isAbove(next.token, lease.token)
    }))

  it.effect("survives a store that fails for a while", () =>
    Effect.gen(function*() {
      yield* start
      const state = new MemoryState()
      const lease = yield* Lease.tryAcquire(state, ask("a"))
      for (let round = 0; round < 5; round++) {
        state.failing = true
        yield* TestClock.adjust("5 seconds")
        state.failing = false
        yield* TestClock.adjust("2 seconds")
        assert.isTrue(yield* lease.isHeld)
      }
    }))

  it.effect("is lost when the store forgets it, and tokens go on growing", () =>
    Effect.gen(function*() {
      yield* start
      const state = new MemoryState()
      const lease = yield* Lease.tryAcquire(state, ask("a"))
      yield* TestClock.adjust("1 second")
      state.entries.clear()
      const next = yield* Lease.tryAcquire(state, ask("b"))
      assert.isAbove(next.token, lease.token)
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual(yield* lease.lost, { _tag: "Taken", owner: "b" })
      assert.isFalse(yield* lease.isHeld)
      state.entries.clear()
      yield* TestClock.adjust("4 seconds")
      assert.deepStrictEqual(yield* next.lost, { _tag: "Forgotten" })
    }))

  it.effect("has growing tokens, too, when the store goes back to an old copy", () =>
    Effect.gen(function*() {
      yield* start
      const state = new MemoryState()
      yield* Effect.scoped(Lease.tryAcquire(state, ask("a")))
      const copy = new Map(state.entries)
      let token = 0
      for (let round = 0; round < 5; round++) {
        yield* TestClock.adjust("1 millis")
        const lease = yield* Effect.scoped(Lease.tryAcquire(state, ask("a")))
        assert.isAbove(lease.token, token)
        token = lease.token
      }
      yield* TestClock.adjust("1 millis")
      state.entries.clear()
      for (const [key, entry] of copy) state.entries.set(key, entry)
      assert.isAbove((yield* Lease.tryAcquire(state, ask("b"))).token, token)
    }))

  it.effect("has growing tokens within a millisecond, and when the clock was set back", () =>
    Effect.gen(function*() {
      yield* start
      const state = new MemoryState()
      const tokens: Array<number> = []
      for (let round = 0; round < 3; round++) {
        tokens.push((yield* Effect.scoped(Lease.tryAcquire(state, ask("a")))).token)
      }
      yield* TestClock.setTime(1_600_000_000_000)
      tokens.push((yield* Effect.scoped(Lease.tryAcquire(state, ask("a")))).token)
      assert.deepStrictEqual(tokens, [0, 1, 2, 3].map((n) => 1_700_000_000_000 + n))
    }))

  it.effect("of a holder that is gone runs out in time though the clock was set back", () =>
    Effect.gen(function*() {
      yield* start
      const state = new MemoryState()
      const gone = yield* Scope.make()
      yield* Lease.tryAcquire(state, ask("a")).pipe(Scope.provide(gone))
      const document = state.entries.get(Lease.key(name))
      yield* Scope.close(gone, Exit.void)
      assert(document !== undefined)
      state.entries.set(Lease.key(name), document)
      yield* TestClock.setTime(1_600_000_000_000)
      assert.strictEqual((yield* refusal(state, "b"))._tag, "LeaseHeld")
      yield* TestClock.adjust("10 seconds")
      assert.isAbove((yield* Lease.tryAcquire(state, ask("b"))).token, 1_700_000_000_000)
    }))

  it.effect("stays held when the answer to a renewal was lost", () =>
    Effect.gen(function*() {
      yield* start
      const state = new MemoryState()
      let lose = false
      const losing: StateStoreShape = {
        ...state,
        get: state.get,
        list: state.list,
        remove: state.remove,
        now: state.now,
        compareAndSet: (...args) =>
          Effect.flatMap(state.compareAndSet(...args), (answer) => {
            if (!lose) return Effect.succeed(answer)
            lose = false
            return Effect.fail(brokenStore)
          })
      }
      const lease = yield* Lease.tryAcquire(losing, ask("a"))
      for (let round = 0; round < 5; round++) {
        lose = true
        yield* TestClock.adjust("6 seconds")
        assert.isFalse(lose)
        assert.isTrue(yield* lease.isHeld)
      }
    }))

  it.effect("is waited for, and whoever waits says so once", () =>
    Effect.gen(function*() {
      yield* start
      const state = new MemoryState()
      const holder = yield* Scope.make()
      yield* Lease.tryAcquire(state, ask("a")).pipe(Scope.provide(holder))
      const told: Array<string> = []
      const waiting = yield* Effect.forkChild(Lease.acquire(state, {
        ...ask("b"),
        onWait: ({ owner }) => Effect.sync(() => void told.push(owner))
      }))
      yield* TestClock.adjust("1 minute")
      assert.isUndefined(waiting.pollUnsafe())
      assert.deepStrictEqual(told, ["a"])
      yield* Scope.close(holder, Exit.void)
      yield* TestClock.adjust("2 seconds")
      const lease = yield* Fiber.join(waiting)
      assert.isTrue(yield* lease.isHeld)
      assert.deepStrictEqual(told, ["a"])
    }))

  for (
    const [what, forget] of [
      ["is emptied", (state: MemoryState) => state.entries.clear()],
      ["goes back to an old copy", (state: MemoryState) => {
        const entry = state.entries.get(Lease.key(name))
        assert(entry !== undefined)
        const value = { ...JSON.parse(entry.value), token: 7, id: "old", expires: 1 }
        state.entries.set(Lease.key(name), { value: JSON.stringify(value), version: "old" })
      }]
    ] as const
  ) {
    it.effect(`is left to its holder, who acquires it anew, when the store ${what} while others wait`, () =>
      Effect.gen(function*() {
        yield* start
        const state = new MemoryState()
        const holder = yield* Scope.make()
        const lease = yield* Lease.tryAcquire(state, ask("a")).pipe(Scope.provide(holder))
        const waiting = yield* Effect.forkChild(Lease.acquire(state, ask("b")))
        yield* TestClock.adjust("1 second")
        forget(state)
        yield* TestClock.adjust("4 seconds")
        yield* lease.lost
        assert.isUndefined(waiting.pollUnsafe())
        const again = yield* Lease.tryAcquire(state, ask("a")).pipe(Scope.provide(holder))
        assert.isAbove(again.token, lease.token)
        yield* TestClock.adjust("1 hour")
        assert.isUndefined(waiting.pollUnsafe())
        // A holder that doesn't come back is not waited for.
        forget(state)
        yield* Scope.close(holder, Exit.void)
        yield* TestClock.adjust("7 seconds")
        assert.isTrue(yield* (yield* Fiber.join(waiting)).isHeld)
      }))
  }

  it.effect("isn't waited for when its holder is known to be gone", () =>
    Effect.gen(function*() {
      yield* start
      const state = new MemoryState()
      const lease = yield* Lease.tryAcquire(state, ask("a"))
      const held = yield* Effect.flip(Lease.tryAcquire(state, { ...ask("b"), isGone: (owner) => owner !== "a" }))
      assert.strictEqual(held._tag, "LeaseHeld")
      const next = yield* Lease.tryAcquire(state, { ...ask("b"), isGone: (owner) => owner === "a" })
      assert.isAbove(next.token, lease.token)
      yield* TestClock.adjust("4 seconds")
      assert.deepStrictEqual(yield* lease.lost, { _tag: "Taken", owner: "b" })
    }))

  it.effect("replaces documents that aren't leases", () =>
    Effect.gen(function*() {
      yield* start
      const documents = [
        "",
        "null",
        "[]",
        "{\"version\":2}",
        "{\"version\":1,\"token\":-1,\"id\":\"x\",\"owner\":\"x\",\"ttl\":1,\"expires\":9007199254740991}",
        "{\"version\":1,\"token\":1e300,\"id\":\"x\",\"owner\":\"x\",\"ttl\":1,\"expires\":1}",
        "{\"version\":1,\"token\":1.5,\"id\":\"x\",\"owner\":\"x\",\"ttl\":1,\"expires\":1}"
      ]
      for (const document of documents) {
        const state = new MemoryState()
        yield* state.compareAndSet(Lease.key(name), document, undefined)
        const lease = yield* Effect.scoped(Lease.tryAcquire(state, ask("a")))
        assert.strictEqual(lease.token, 1_700_000_000_000, document)
        assert.isTrue(Option.isSome(yield* state.get(Lease.key(name))))
      }
    }))

  it.effect("fails when the store does", () =>
    Effect.gen(function*() {
      const state = new MemoryState()
      state.failing = true
      assert.strictEqual((yield* Effect.flip(Lease.acquire(state, ask("a"))))._tag, "ConnectorError")
    }))
})
