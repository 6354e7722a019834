import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as References from "effect/References"
import { TestClock } from "effect/testing"
import * as Condition from "../src/Condition.ts"
import * as Progress from "../src/Progress.ts"
import * as Telemetry from "../src/Telemetry.ts"

const late: Condition.Condition = {
  name: "heartbeat-late",
  severity: "warning",
  message: "The heartbeat is late",
  hint: "Look at the server"
}

const gauge = (name: string, table?: string) =>
  Effect.map(Metric.value(Telemetry.conditionOf("p", name, table)), ({ value }) => Number(value))

it.effect("a condition stays in status and metric from when it was first raised until it is cleared or its pipeline forgotten", () =>
  Effect.gen(function*() {
    const progress = Progress.make("p")
    const conditions = Condition.make("p", progress)
    yield* TestClock.adjust("5 seconds")
    yield* conditions.raise(late)
    yield* TestClock.adjust("5 seconds")
    yield* conditions.raise({ ...late, message: "The heartbeat is very late" })
    yield* conditions.raise({ ...late, name: "missing", table: "public.a" })
    yield* conditions.raise({ ...late, name: "missing", table: "public.b" })
    progress.begin(0)
    assert.deepStrictEqual(
      progress.snapshot(0).conditions.map(({ message, name, since, table }) => [name, table, since, message]),
      [
        ["heartbeat-late", undefined, 5000, "The heartbeat is very late"],
        ["missing", "public.a", 10_000, "The heartbeat is late"],
        ["missing", "public.b", 10_000, "The heartbeat is late"]
      ]
    )
    assert.strictEqual(yield* gauge("missing", "public.a"), 1)

    yield* conditions.clear("missing", "public.a")
    yield* conditions.clear("heartbeat-late")
    yield* conditions.clear("heartbeat-late")
    assert.deepStrictEqual(progress.snapshot(0).conditions.map(({ name, table }) => [name, table]), [[
      "missing",
      "public.b"
    ]])
    assert.strictEqual(yield* gauge("missing", "public.a"), 0)
    assert.strictEqual(yield* gauge("missing", "public.b"), 1)

    yield* Condition.forget("p", progress)
    assert.deepStrictEqual(progress.snapshot(0).conditions, [])
    assert.strictEqual(yield* gauge("missing", "public.b"), 0)
  }).pipe(Effect.provideService(References.MinimumLogLevel, "None")))

it.effect("conditions of a monitor are told apart by subject, keep the beginning that they are given, and have metrics of their own", () =>
  Effect.gen(function*() {
    const holder: Condition.Holder = { conditions: new Map() }
    const conditions = Condition.makeMonitor("m", holder)
    const value = (subject: string) =>
      Effect.map(
        Metric.value(Telemetry.monitorConditionOf("m", "slot", undefined, subject)),
        ({ value }) => Number(value)
      )
    yield* TestClock.adjust("10 seconds")
    yield* conditions.raise({ ...late, name: "slot", subject: "a" }, 4000)
    yield* conditions.raise({ ...late, name: "slot", subject: "b" })
    yield* conditions.raise({ ...late, name: "slot", subject: "b", message: "Still" }, 5000)
    assert.deepStrictEqual(
      [...holder.conditions.values()].map(({ message, since, subject }) => [subject, since, message]),
      [["a", 4000, "The heartbeat is late"], ["b", 10_000, "Still"]]
    )
    assert.deepStrictEqual([yield* value("a"), yield* value("b")], [1, 1])
    yield* conditions.clear("slot")
    assert.strictEqual(holder.conditions.size, 2)
    yield* conditions.clear("slot", undefined, "a")
    assert.deepStrictEqual([yield* value("a"), yield* value("b")], [0, 1])
    yield* Condition.forgetMonitor("m", holder)
    assert.deepStrictEqual([holder.conditions.size, yield* value("b")], [0, 0])
  }).pipe(Effect.provideService(References.MinimumLogLevel, "None")))
