import { assert, describe, it } from "@effect/vitest"
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Lease from "@etl-stream/core/Lease"
import type { Entry, StateStoreShape } from "@etl-stream/core/StateStore"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import { spawn } from "node:child_process"
import { once } from "node:events"
import * as PipelineLease from "../src/PipelineLease.ts"
import * as RunnerIdentity from "../src/RunnerIdentity.ts"

/** A store in memory that can be switched off and emptied. */
const memory = () => {
  const entries = new Map<string, Entry>()
  let failing = false
  let version = 0
  const guarded = <A>(evaluate: () => A) =>
    Effect.suspend(() =>
      failing
        ? Effect.fail(new ConnectorError({ reason: "Unreachable", plugin: "test", message: "no store", hint: "none" }))
        : Effect.sync(evaluate)
    )
  const state: StateStoreShape = {
    get: (key) => guarded(() => Option.fromUndefinedOr(entries.get(key))),
    list: () => guarded(() => [...entries]),
    compareAndSet: (key, value, expected) =>
      guarded(() => {
        if (entries.get(key)?.version !== expected) return Option.none()
        entries.set(key, { value, version: String(++version) })
        return Option.some(String(version))
      }),
    remove: (key) => guarded(() => void entries.delete(key)),
    now: Effect.andThen(guarded(() => undefined), Clock.currentTimeMillis)
  }
  return {
    state,
    entries,
    fail: (on: boolean) => {
      failing = on
    }
  }
}

/** Runs as long as it has the pipeline; ends with the error when another takes it. */
const running = (state: StateStoreShape, owner: string) =>
  Effect.scoped(
    Effect.flatMap(PipelineLease.hold(state, "shop", { owner, ttl: "10 seconds" }), ({ taken }) => taken)
  ).pipe(Effect.flip)

/** Who has the pipeline by the store's word. */
const holder = (state: StateStoreShape) =>
  Effect.flip(
    Effect.scoped(Lease.tryAcquire(state, { name: "pipelines/shop", owner: "asker", ttl: "1 second" }))
  ).pipe(
    Effect.map((error) => error._tag === "LeaseHeld" ? error.owner : error._tag),
    Effect.catchCause(() => Effect.succeed("nobody"))
  )

describe("PipelineLease", () => {
  it.effect("lets the second runner wait until the first is gone", () =>
    Effect.gen(function*() {
      const { state } = memory()
      const first = yield* Effect.forkChild(running(state, "first"))
      yield* TestClock.adjust("1 second")
      const second = yield* Effect.forkChild(running(state, "second"))
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(yield* holder(state), "first")
      yield* Fiber.interrupt(first)
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(yield* holder(state), "second")
      yield* Fiber.interrupt(second)
      assert.strictEqual(yield* holder(state), "nobody")
    }))

  it.effect("leaves the pipeline where it is when the state store fails, or is emptied, while another waits", () =>
    Effect.gen(function*() {
      const store = memory()
      const first = yield* Effect.forkChild(running(store.state, "first"))
      yield* TestClock.adjust("1 second")
      const second = yield* Effect.forkChild(running(store.state, "second"))
      yield* TestClock.adjust("5 seconds")
      for (let round = 0; round < 3; round++) {
        store.entries.clear()
        yield* TestClock.adjust("1 minute")
        assert.strictEqual(yield* holder(store.state), "first")
        store.fail(true)
        store.entries.clear()
        yield* TestClock.adjust("1 minute")
        store.fail(false)
        yield* TestClock.adjust("1 minute")
        assert.strictEqual(yield* holder(store.state), "first")
      }
      assert.isUndefined(first.pollUnsafe())
      assert.isUndefined(second.pollUnsafe())
      yield* Fiber.interrupt(first)
      yield* TestClock.adjust("20 seconds")
      assert.strictEqual(yield* holder(store.state), "second")
      yield* Fiber.interrupt(second)
    }))

  it.effect("stops a runner whose pipeline another has taken", () =>
    Effect.gen(function*() {
      const { entries, state } = memory()
      const first = yield* Effect.forkChild(running(state, "first"))
      yield* TestClock.adjust("1 second")
      // As if the state store had been emptied in between.
      entries.clear()
      const second = yield* Effect.forkChild(running(state, "second"))
      yield* TestClock.adjust("10 seconds")
      const error = yield* Fiber.join(first)
      assert.strictEqual(error.reason, "Fenced")
      assert.include(error.message, "second")
      assert.strictEqual(yield* holder(state), "second")
      yield* Fiber.interrupt(second)
    }))

  it.effect("starts, and goes on, without a state store, and has the lease when it is back", () =>
    Effect.gen(function*() {
      const store = memory()
      store.fail(true)
      const scope = yield* Scope.make()
      const { taken } = yield* PipelineLease.hold(store.state, "shop", { owner: "first", ttl: "10 seconds" }).pipe(
        Scope.provide(scope)
      )
      const ended = yield* Effect.forkChild(Effect.exit(taken))
      yield* TestClock.adjust("1 hour")
      store.fail(false)
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(yield* holder(store.state), "first")
      store.fail(true)
      yield* TestClock.adjust("1 minute")
      store.fail(false)
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(yield* holder(store.state), "first")
      store.entries.clear()
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(yield* holder(store.state), "first")
      assert.isUndefined(ended.pollUnsafe())
      yield* Scope.close(scope, Exit.void)
    }))

  it.effect("takes back at once what it couldn't give up", () =>
    Effect.gen(function*() {
      const store = memory()
      const first = yield* Effect.forkChild(running(store.state, "first"))
      yield* TestClock.adjust("1 second")
      store.fail(true)
      yield* Fiber.interrupt(first)
      store.fail(false)
      assert.strictEqual(yield* holder(store.state), "first")
      const again = yield* Effect.forkChild(running(store.state, "first"))
      yield* TestClock.adjust("1 second")
      yield* TestClock.adjust("1 hour")
      assert.isUndefined(again.pollUnsafe())
      assert.strictEqual(yield* holder(store.state), "first")
      yield* Fiber.interrupt(again)
    }))
})

describe("RunnerIdentity", () => {
  it("doesn't take a running process for ended, nor one of which nothing is known", () => {
    assert.isFalse(RunnerIdentity.hasEnded(RunnerIdentity.identity))
    assert.isFalse(RunnerIdentity.hasEnded("another-host, process 1"))
    assert.isFalse(RunnerIdentity.hasEnded("another-host, process 1 (000000000000-1)"))
    assert.isFalse(RunnerIdentity.hasEnded(""))
  })

  // Only Linux tells when a process began (/proc), so elsewhere no process counts as ended.
  it.live.skipIf(process.platform !== "linux")(
    "knows that a process of this machine has ended",
    () =>
      Effect.promise(async () => {
        const child = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"], { stdio: "ignore" })
        await once(child, "spawn")
        const other = RunnerIdentity.of(child.pid ?? 0)
        assert.isFalse(RunnerIdentity.hasEnded(other))
        child.kill("SIGKILL")
        await once(child, "exit")
        assert.isTrue(RunnerIdentity.hasEnded(other))
        // Another process with the same id.
        const later = RunnerIdentity.identity.replace(/-\d+\)$/, "-1)")
        assert.isTrue(RunnerIdentity.hasEnded(later))
      })
  )
})
