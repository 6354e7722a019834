import { assert, describe, it } from "@effect/vitest"
import { condition } from "@etl-stream/core/Telemetry"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Metric from "effect/Metric"
import * as References from "effect/References"
import * as Scope from "effect/Scope"
import * as Memory from "../src/Memory.ts"
import * as Metrics from "../src/Metrics.ts"
import { failure, GiB, memory, pass, Pipeline, Server, watch } from "./Scripted.ts"

const quietly = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.provideService(effect, References.MinimumLogLevel, "None")

const scenario = (name: string, test: Effect.Effect<void, unknown, Scope.Scope>) => it.effect(name, () => quietly(test))

const slots = [{ slot: "shop", pipeline: "shop" }]

describe("levels", () => {
  scenario(
    "a slot is told about when it has kept too much for a while, and no longer once it has been well below that for a while",
    Effect.gen(function*() {
      const server = new Server()
      const { conditions, raised } = yield* watch(server, {
        slots,
        budget: "10GiB",
        thresholds: { warning: "50%", danger: "80%" }
      })
      server.write(5.5 * GiB)
      yield* pass(60)
      assert.deepStrictEqual(raised(), [])
      yield* pass(20)
      assert.deepStrictEqual(raised(), ["slot-wal-warning shop"])
      assert.match(conditions()[0]?.message ?? "", /^The slot shop keeps 5\.5 GiB of WAL \(55 % of its budget\)/)
      server.write(3 * GiB)
      yield* pass(80)
      assert.deepStrictEqual(raised(), ["slot-wal-warning shop", "slot-wal-danger shop"])
      assert.strictEqual(conditions()[1]?.severity, "critical")
      // Below the threshold, but not by as much as counts.
      server.catchUp(7 * GiB)
      yield* pass(200)
      assert.deepStrictEqual(raised(), ["slot-wal-warning shop", "slot-wal-danger shop"])
      server.catchUp(6 * GiB)
      yield* pass(80)
      assert.deepStrictEqual(raised(), ["slot-wal-warning shop"])
      server.catchUp()
      yield* pass(30)
      assert.deepStrictEqual(raised(), ["slot-wal-warning shop"])
      yield* pass(50)
      assert.deepStrictEqual(raised(), [])
    })
  )

  scenario(
    "the end of the budget is predicted from how fast it is used up",
    Effect.gen(function*() {
      const server = new Server()
      const { conditions, monitor, raised } = yield* watch(server, {
        slots,
        budget: "100GiB",
        thresholds: { warning: "4 hours", danger: "30 minutes" }
      })
      server.write(12 * GiB)
      // 1 GiB a minute: 88 of them are left, fewer from minute to minute.
      yield* pass(120, () => server.write(GiB / 6))
      assert.deepStrictEqual(raised(), ["slot-wal-warning shop"])
      assert.match(conditions()[0]?.message ?? "", /at 17\.1 MiB\/s the rest lasts 1\.4 hours/)
      yield* pass(54 * 60, () => server.write(GiB / 6))
      assert.deepStrictEqual(raised(), ["slot-wal-warning shop"])
      yield* pass(6 * 60, () => server.write(GiB / 6))
      assert.deepStrictEqual(raised(), ["slot-wal-warning shop", "slot-wal-danger shop"])
      const [slot] = JSON.parse(JSON.stringify(monitor.status())).slots
      assert.closeTo(slot.retainedBytes, 74 * GiB, 1000)
      assert.closeTo(slot.secondsLeft, 26 * 60, 60)
      // It stands still: nothing is predicted any more, though what was used is.
      yield* pass(12 * 60)
      assert.deepStrictEqual(raised(), [])
    })
  )

  scenario(
    "a reader that keeps up in steps is not told about, however much is written",
    Effect.gen(function*() {
      const server = new Server()
      const { raised } = yield* watch(server, { slots, budget: "20GiB" })
      let step = 0
      yield* pass(3600, () => {
        server.write(GiB)
        if (++step % 3 === 0) server.catchUp()
      })
      assert.deepStrictEqual(raised(), [])
    })
  )

  scenario(
    "the server's own limit counts, and the tighter one of all",
    Effect.gen(function*() {
      const server = new Server()
      const { monitor, raised } = yield* watch(server, { slots, budget: "100GiB", thresholds: { warning: "50%" } })
      server.write(6 * GiB)
      server.keepSize = 10 * GiB
      server.change("shop", { safe: 4 * GiB })
      yield* pass(80)
      assert.deepStrictEqual(raised(), ["slot-wal-warning shop"])
      assert.deepInclude(JSON.parse(JSON.stringify(monitor.status())).slots[0], {
        budgetShare: 0.6,
        remainingBytes: 4 * GiB
      })
    })
  )

  scenario(
    "the WAL directory has levels of its own where its disk is known",
    Effect.gen(function*() {
      const server = new Server()
      const { raised } = yield* watch(server, { slots, disk: "10GiB", thresholds: { warning: "50%", danger: "80%" } })
      server.directory = 9 * GiB
      yield* pass(80)
      assert.deepStrictEqual(raised(), ["wal-directory-warning", "wal-directory-danger"])
      server.directory = 2 * GiB
      yield* pass(80)
      assert.deepStrictEqual(raised(), [])
    })
  )

  scenario(
    "what can't be known is said: the directory's size, and any budget",
    Effect.gen(function*() {
      const server = new Server()
      server.directory = undefined
      const { monitor, raised } = yield* watch(server, { slots })
      server.write(3 * GiB)
      yield* pass(10)
      assert.deepStrictEqual(raised(), ["wal-directory-unknown", "wal-budget-unknown"])
      assert.deepInclude(JSON.parse(JSON.stringify(monitor.status())).directory, { bytes: 3 * GiB, estimated: true })
      server.directory = GiB
      server.keepSize = 20 * GiB
      server.change("shop", { safe: 17 * GiB })
      yield* pass(10)
      assert.deepStrictEqual(raised(), [])
    })
  )

  scenario(
    "lags are told in bytes and in seconds, and in metrics by monitor and slot",
    Effect.gen(function*() {
      const server = new Server()
      const { monitor } = yield* watch(server, { slots, budget: "10GiB" })
      yield* pass(300, () => server.write(1000))
      server.change("shop", { confirmed: server.lsn - 10_000n })
      yield* pass(10)
      const [slot] = JSON.parse(JSON.stringify(monitor.status())).slots
      assert.deepInclude(slot, { confirmedLagBytes: 10_000, restartLagBytes: 30_000, retainedBytes: 30_000 })
      assert.closeTo(slot.confirmedLag.seconds, 110, 10.1)
      assert.closeTo(slot.restartLag.seconds, 310, 10.1)
      const metrics = Metrics.forSlot("pg", "shop")
      assert.strictEqual((yield* Metric.value(metrics.retained)).value, 30_000)
      assert.strictEqual((yield* Metric.value(metrics.remaining)).value, 10 * GiB - 30_000)
      assert.closeTo((yield* Metric.value(metrics.growth)).value, 100, 10)
      assert.strictEqual((yield* Metric.value(metrics.status("reserved"))).value, 1)
      assert.strictEqual((yield* Metric.value(metrics.status("lost"))).value, 0)
    })
  )

  scenario(
    "metrics tell no limit that is gone, no slot that isn't there, and nothing of a monitor that has ended",
    Effect.gen(function*() {
      const metrics = Metrics.forSlot("pg", "shop")
      const { up } = Metrics.forMonitor("pg")
      const valueOf = (metric: Metric.Metric<number, Metric.GaugeState<number>>) =>
        Effect.map(Metric.value(metric), ({ value }) => value)
      const limit = Effect.all([valueOf(metrics.remaining), valueOf(metrics.timeLeft)])
      const inStates = Effect.map(
        Effect.all(Metrics.states.map((state) => valueOf(metrics.status(state)))),
        (values) => Metrics.states.filter((_, index) => values[index] !== 0)
      )
      const server = new Server()
      const monitoring = yield* Scope.make()
      yield* watch(server, { slots }).pipe(Scope.provide(monitoring))
      server.keepSize = 10 * GiB
      server.change("shop", { safe: 0 })
      yield* pass(300, () => server.write(GiB))
      assert.deepStrictEqual(yield* limit, [0, 0])
      server.keepSize = undefined
      server.change("shop", { safe: undefined })
      yield* pass(10)
      assert.deepStrictEqual(yield* limit, [Metrics.unlimited, Metrics.longestTimeLeft])
      server.keepSize = 10 * GiB
      server.change("shop", { safe: 0, status: "unreserved" })
      yield* pass(10)
      assert.deepStrictEqual([yield* limit, yield* inStates], [[0, 0], ["unreserved"]])
      server.change("shop", { status: "lost" })
      yield* pass(10)
      assert.deepStrictEqual(
        [yield* limit, yield* inStates],
        [[Metrics.unlimited, Metrics.longestTimeLeft], ["lost"]]
      )
      server.slots.delete("shop")
      yield* pass(10)
      assert.deepStrictEqual(yield* inStates, ["missing"])
      server.down = failure("Unreachable", "down")
      yield* pass(10)
      assert.strictEqual(yield* valueOf(up), 0)
      yield* Scope.close(monitoring, Exit.void)
      assert.deepStrictEqual([yield* inStates, yield* valueOf(up)], [[], 1])
    })
  )

  scenario(
    "the slot of a pipeline that is gone is in no state any more",
    Effect.gen(function*() {
      const pipelines = [new Pipeline()]
      yield* watch(new Server(), {}, { pipelines })
      yield* pass(10)
      const reserved = Metric.value(Metrics.forSlot("pg", "shop").status("reserved"))
      assert.strictEqual((yield* reserved).value, 1)
      pipelines.pop()
      yield* pass(10)
      assert.strictEqual((yield* reserved).value, 0)
    })
  )

  scenario(
    "every metric that the monitor records is defined, with no other attributes than its definition's",
    Effect.gen(function*() {
      const server = new Server()
      yield* watch(
        server,
        { slots, budget: "10GiB", actions: [{ at: "50%", do: "pause-copies" }] },
        { pipelines: [new Pipeline()] }
      )
      server.change("shop", {
        decoded: {
          spilledTransactions: 1,
          spilledBytes: 1,
          streamedTransactions: 1,
          streamedBytes: 1,
          totalTransactions: 2,
          totalBytes: 2,
          reset: undefined
        }
      })
      server.write(6 * GiB)
      yield* pass(60)
      const definitions = new Map(
        [...Metrics.metrics, condition].map(({ definition }) => [definition.name, definition])
      )
      const seen = new Map<string, Set<string>>()
      for (const { attributes, id } of yield* Metric.snapshot) {
        assert.isTrue(definitions.has(id), id)
        const of = seen.get(id) ?? new Set()
        seen.set(id, of)
        for (const key of Object.keys(attributes ?? {})) if (key !== "unit") of.add(key)
      }
      for (const { attributes, name } of Metrics.metrics.map(({ definition }) => definition)) {
        assert.deepStrictEqual([...seen.get(name) ?? []].sort(), [...attributes].sort(), name)
      }
      for (const key of seen.get(condition.definition.name) ?? []) assert.include(condition.definition.attributes, key)
    })
  )
})

describe("a server that can't be looked at", () => {
  scenario(
    "is a condition once that lasts, is asked less and less often, and is well again at once",
    Effect.gen(function*() {
      const server = new Server()
      const { conditions, fiber, raised } = yield* watch(server, { slots, budget: "10GiB" })
      server.down = failure("Unreachable", "nobody answers")
      yield* pass(60)
      assert.deepStrictEqual(raised(), [])
      yield* pass(90)
      assert.deepStrictEqual(raised(), ["server-unreachable"])
      assert.include(conditions()[0]?.message ?? "", "nobody answers")
      const looks = server.looks
      yield* pass(1200)
      assert.isAtMost(server.looks - looks, 26)
      assert.isAtLeast(server.looks - looks, 15)
      server.down = undefined
      yield* pass(90)
      assert.deepStrictEqual(raised(), [])
      assert.isUndefined(fiber.pollUnsafe())
    })
  )

  scenario(
    "because it refuses is told at once",
    Effect.gen(function*() {
      const server = new Server()
      server.down = failure("Unauthorized", "wrong password")
      const { raised } = yield* watch(server, { slots })
      assert.deepStrictEqual(raised(), ["server-unreachable"])
    })
  )
})

describe("a restart", () => {
  scenario(
    "neither tells anew nor forgets: what is raised keeps its beginning, what is pending its time",
    Effect.gen(function*() {
      const server = new Server()
      const state = memory()
      const options = { slots, budget: "10GiB", thresholds: { warning: "50%", danger: "80%", sustained: "5 minutes" } }
      const first = yield* Scope.make()
      const before = yield* watch(server, options, { state }).pipe(Scope.provide(first))
      server.write(6 * GiB)
      yield* pass(320)
      const since = before.conditions()[0]?.since
      assert.deepStrictEqual(before.raised(), ["slot-wal-warning shop"])
      server.write(3 * GiB)
      yield* pass(120)
      yield* Scope.close(first, Exit.void)
      // It can't even look at the server at first.
      server.down = failure("Unreachable", "nobody answers")
      const after = yield* watch(server, options, { state })
      assert.deepStrictEqual(after.raised(), ["slot-wal-warning shop"])
      assert.strictEqual(after.conditions()[0]?.since, since)
      assert.include(after.conditions()[0]?.message ?? "", "GiB of WAL")
      server.down = undefined
      yield* pass(150)
      assert.deepStrictEqual(after.raised(), ["slot-wal-warning shop"])
      yield* pass(60)
      assert.deepStrictEqual(after.raised(), ["slot-wal-warning shop", "slot-wal-danger shop"])
      assert.strictEqual(after.conditions()[0]?.since, since)
    })
  )

  scenario(
    "knows lags of before it",
    Effect.gen(function*() {
      const server = new Server()
      const state = memory()
      const first = yield* Scope.make()
      yield* watch(server, { slots, budget: "10GiB" }, { state }).pipe(Scope.provide(first))
      yield* pass(600, () => server.write(1000))
      yield* Scope.close(first, Exit.void)
      const { monitor } = yield* watch(server, { slots, budget: "10GiB" }, { state })
      const [slot] = JSON.parse(JSON.stringify(monitor.status())).slots
      assert.closeTo(slot.restartLag.seconds, 600, 20)
      assert.isFalse(slot.restartLag.atLeast)
    })
  )

  scenario(
    "with a document that isn't one begins anew",
    Effect.gen(function*() {
      for (const text of ["", "{", "[]", "null", `{"version":2}`, `{"version":1,"alarms":[{}]}`, "\u0000"]) {
        assert.deepStrictEqual(Memory.parse(text), Memory.nothing)
        const state = memory()
        yield* state.compareAndSet(Memory.key("pg"), text, undefined)
        const server = new Server()
        server.write(6 * GiB)
        const { raised } = yield* watch(server, { slots, thresholds: { warning: "5GiB" }, budget: "1TiB" }, { state })
        yield* pass(80)
        assert.deepStrictEqual(raised(), ["slot-wal-warning shop"])
        assert.strictEqual(Memory.parse(state.documents.get(Memory.key("pg")) ?? "").alarms.length, 1)
      }
    })
  )

  scenario(
    "writes seldom while nothing happens",
    Effect.gen(function*() {
      const server = new Server()
      const state = memory()
      yield* watch(server, { slots, budget: "10GiB" }, { state })
      yield* pass(3600, () => server.write(1000))
      assert.isAtMost(state.writes, 62)
      assert.isAtLeast(state.writes, 30)
    })
  )

  scenario(
    "goes on without a state store, and remembers once there is one",
    Effect.gen(function*() {
      const server = new Server()
      const refusing = failure("Unreachable", "no store")
      const store = memory()
      let up = false
      const state = {
        ...store,
        get: (key: string) => Effect.suspend(() => up ? store.get(key) : Effect.fail(refusing)),
        compareAndSet: (key: string, value: string, expected: string | undefined) =>
          Effect.suspend(() => up ? store.compareAndSet(key, value, expected) : Effect.fail(refusing))
      }
      server.write(6 * GiB)
      const { raised } = yield* watch(server, { slots, budget: "10GiB", thresholds: { warning: "50%" } }, { state })
      yield* pass(90)
      assert.deepStrictEqual(raised(), ["slot-wal-warning shop"])
      up = true
      yield* pass(130)
      assert.lengthOf(
        Memory.parse(store.documents.get(Memory.key("pg")) ?? "").alarms.filter(({ raised }) => raised),
        1
      )
      // It goes away and comes back.
      up = false
      server.write(3 * GiB)
      yield* pass(130)
      up = true
      yield* pass(130)
      assert.lengthOf(
        Memory.parse(store.documents.get(Memory.key("pg")) ?? "").alarms.filter(({ raised }) => raised),
        2
      )
    })
  )
})

describe("slots", () => {
  scenario(
    "are those named like a pipeline when none is named, and none is missing that was never there",
    Effect.gen(function*() {
      const server = new Server()
      server.write(6 * GiB)
      const pipelines = [new Pipeline("shop"), new Pipeline("other")]
      const { monitor, raised } = yield* watch(
        server,
        { budget: "10GiB", thresholds: { warning: "50%" } },
        { pipelines }
      )
      yield* pass(80)
      assert.deepStrictEqual(raised(), ["slot-wal-warning shop"])
      assert.lengthOf(JSON.parse(JSON.stringify(monitor.status())).slots, 1)
    })
  )

  scenario(
    "that nobody reads are told about after a while, those of others when they keep much",
    Effect.gen(function*() {
      const server = new Server()
      server.change("abandoned", { active: false })
      server.change("standby", { active: true, logical: false })
      server.change("copy", { active: false, synced: true })
      server.change("shop", { active: false })
      server.write(2 * GiB)
      const { monitor, raised } = yield* watch(server, { slots, budget: "100GiB" })
      yield* pass(80)
      assert.deepStrictEqual(raised(), ["slot-idle abandoned"])
      yield* pass(260)
      assert.deepStrictEqual(raised(), ["slot-idle abandoned"])
      yield* pass(40)
      assert.deepStrictEqual(raised(), ["slot-idle abandoned", "slot-inactive shop"])
      assert.deepStrictEqual(
        JSON.parse(JSON.stringify(monitor.status())).otherSlots.map(({ slot }: { slot: string }) => slot),
        ["abandoned", "standby", "copy"]
      )
      server.slots.delete("abandoned")
      server.change("shop", { active: true })
      yield* pass(10)
      assert.deepStrictEqual(raised(), ["slot-idle abandoned"])
      yield* pass(200)
      assert.deepStrictEqual(raised(), [])
    })
  )

  scenario(
    "that hold vacuum back too far are told about",
    Effect.gen(function*() {
      const server = new Server()
      const { raised } = yield* watch(server, { slots, budget: "10GiB", xminAge: 1000 })
      server.change("shop", { catalogXminAge: 1000 })
      yield* pass(10)
      assert.deepStrictEqual(raised(), ["slot-xmin-age shop"])
      server.change("shop", { catalogXminAge: 100 })
      yield* pass(10)
      assert.deepStrictEqual(raised(), [])
    })
  )

  scenario(
    "that are interrupted go with their fiber",
    Effect.gen(function*() {
      const { fiber } = yield* watch(new Server(), { slots })
      yield* Fiber.interrupt(fiber)
      assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(fiber)))
    })
  )
})
