import { assert, describe, it } from "@effect/vitest"
import { ConnectorError, type Reason } from "@etl-stream/core/ConnectorError"
import type { Sink } from "@etl-stream/core/Sink"
import * as SinkCircuit from "@etl-stream/runner/SinkCircuit"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import { double, elementsOf, idle } from "./SupervisorFixture.ts"

const error = (reason: Reason) => new ConnectorError({ reason, plugin: "p", message: "no", hint: "Wait." })

const stage = (options: unknown) => ({ ...double("one").configuration.sink, options })

const failing = (reason: Reason) => Effect.fail(error(reason))

const rows = elementsOf(1)[2]

/** A sink whose writes fail while `fails` is set. */
const sinkOf = (state: { fails: boolean; logins: number }): Sink => ({
  begin: () => Effect.sync(() => void state.logins++),
  open: () =>
    Effect.succeed({
      position: { copied: undefined, committed: undefined },
      write: () => Effect.suspend(() => state.fails ? failing("Unreachable") : Effect.void)
    }),
  run: Effect.never,
  settle: Effect.void
})

const conditions = { raise: () => Effect.void, clear: () => Effect.void }

describe("SinkCircuit", () => {
  it.effect("is shared by what talks to the same place, by the same plugin", () =>
    Effect.gen(function*() {
      const circuits = SinkCircuit.make()
      const open = (options: unknown, pipeline: string) =>
        Effect.gen(function*() {
          const circuit = yield* circuits.of(stage(options), pipeline)
          return { circuit, isOpen: () => circuit.state() === "Open" }
        })
      const one = yield* open({ account: "a", url: Redacted.make("https://x"), schema: "s" }, "one")
      const same = yield* open({ account: "a", url: Redacted.make("https://x"), schema: "t" }, "two")
      const other = yield* open({ account: "b", url: Redacted.make("https://x") }, "three")
      const [own, another] = [yield* open({ file: "f" }, "four"), yield* open({ file: "f" }, "five")]
      for (let call = 0; call < 5; call++) {
        yield* Effect.exit(one.circuit.call(failing("Throttled")))
        yield* Effect.exit(own.circuit.call(failing("Unreachable")))
      }
      assert.deepStrictEqual([one, same, other, own, another].map(({ isOpen }) => isOpen()), [
        true,
        true,
        false,
        true,
        false
      ])
    }))

  it.effect("is forgotten with its last user", () =>
    Effect.gen(function*() {
      const circuits = SinkCircuit.make()
      const [first, second] = [yield* Scope.make(), yield* Scope.make()]
      const circuit = yield* Scope.provide(circuits.of(stage({ account: "a" }), "one"), first)
      yield* Scope.provide(circuits.of(stage({ account: "a" }), "two"), second)
      for (let call = 0; call < 5; call++) yield* Effect.exit(circuit.call(failing("Unreachable")))
      yield* Scope.close(first, Exit.void)
      const state = Effect.scoped(Effect.map(circuits.of(stage({ account: "a" }), "three"), ({ state }) => state()))
      assert.strictEqual(yield* state, "Open")
      yield* Scope.close(second, Exit.void)
      assert.strictEqual(yield* state, "Closed")
    }))

  it.effect("closes by a login when logins were what failed, and only by a write when writes were", () =>
    Effect.gen(function*() {
      const circuit = yield* SinkCircuit.make().of(stage({ account: "a" }), "one")
      for (let call = 0; call < 5; call++) yield* Effect.exit(circuit.call(failing("Unreachable")))
      assert.strictEqual(circuit.state(), "Open")
      const login = yield* Effect.forkChild(circuit.call(Effect.void))
      yield* idle
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(login)
      assert.strictEqual(circuit.state(), "Closed")

      const state = { fails: true, logins: 0 }
      const sink = circuit.guard(sinkOf(state))
      if (rows?._tag !== "Rows") throw new Error("they are rows")
      const writer = yield* sink.open(rows.batch.table, () => Effect.void, () => Effect.void, () => undefined)
      for (let call = 0; call < 5; call++) yield* Effect.exit(writer.write(rows))
      assert.strictEqual(circuit.state(), "Open")
      const begins = yield* Effect.forkChild(sink.begin([], conditions))
      yield* idle
      assert.strictEqual(state.logins, 0, "it waits as writes do")
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(begins)
      assert.strictEqual(circuit.state(), "Open")
      state.fails = false
      yield* writer.write(rows)
      assert.strictEqual(circuit.state(), "Closed")
    }))

  it.effect("counts what fails in the background, and nothing that is about one table or a refused row", () =>
    Effect.gen(function*() {
      const circuit = yield* SinkCircuit.make().of(stage({ account: "a" }), "one")
      for (let call = 0; call < 10; call++) yield* Effect.exit(circuit.call(failing("Rejected")))
      assert.strictEqual(circuit.state(), "Closed")
      let tell: (error: ConnectorError) => Effect.Effect<void> = () => Effect.void
      const inner = sinkOf({ fails: false, logins: 0 })
      const sink = circuit.guard({
        ...inner,
        open: (table, durable, failed, given) => {
          tell = failed
          return inner.open(table, durable, failed, given)
        },
        run: failing("Unreachable")
      })
      const told: Array<Reason> = []
      if (rows?._tag !== "Rows") throw new Error("they are rows")
      yield* sink.open(
        rows.batch.table,
        () => Effect.void,
        ({ reason }) => Effect.sync(() => told.push(reason)),
        () => undefined
      )
      for (let call = 0; call < 2; call++) yield* tell(error("Unreachable"))
      for (let call = 0; call < 3; call++) yield* Effect.exit(Effect.scoped(sink.run))
      assert.deepStrictEqual([circuit.state(), told], ["Open", ["Unreachable", "Unreachable"]])
      assert.isDefined(circuit.nextProbe())
    }))
})
