import { assert, describe, it } from "@effect/vitest"
import * as ChildProcess from "@etl-stream/testkit/ChildProcess"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"

const node = (script: string, name = "script") =>
  ChildProcess.start({ name, command: process.execPath, args: ["-e", script] })

describe("ChildProcess", () => {
  it.live("waits for output and for the exit code", () =>
    Effect.gen(function*() {
      const child = yield* node("console.log('port 4242'); process.exitCode = 3")
      const match = yield* child.waitFor(/port (\d+)/)
      assert.strictEqual(match[1], "4242")
      assert.deepStrictEqual(yield* child.ended(), { code: 3, signal: null })
    }))

  it.live("kills without warning", () =>
    Effect.gen(function*() {
      const child = yield* node("process.on('SIGTERM', () => {}); console.log('up'); setInterval(() => {}, 1000)")
      yield* child.waitFor(/up/)
      assert.deepStrictEqual(yield* child.kill(), { code: null, signal: "SIGKILL" })
      assert.isFalse(child.isRunning())
    }))

  it.live("fails with its last words when it ends before the output that was waited for", () =>
    Effect.gen(function*() {
      const child = yield* node("console.error('no database'); process.exit(3)", "runner")
      const error = yield* Effect.flip(child.waitFor(/ready/))
      assert.match(error.message, /runner ended with exit code 3.*no database/s)
    }))

  it.live("fails when the output doesn't come in time", () =>
    Effect.gen(function*() {
      const child = yield* node("setInterval(() => {}, 1000)")
      const error = yield* Effect.flip(child.waitFor(/ready/, 100))
      assert.match(error.message, /more than 100 ms/)
    }))

  it.live("knows the peak of the memory after the process is gone", () =>
    Effect.gen(function*() {
      const child = yield* node("let b = Buffer.alloc(200e6, 1); console.log('big'); setInterval(() => b, 1000)")
      yield* child.waitFor(/big/)
      yield* child.kill()
      assert.isAbove(child.peakMemory(), 200e6)
    }))

  it.live("ends with its scope", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const child = yield* node("console.log('up'); setInterval(() => {}, 1000)").pipe(Scope.provide(scope))
      yield* child.waitFor(/up/)
      yield* Scope.close(scope, Exit.void)
      assert.throws(() => process.kill(child.pid, 0))
    }))
})
