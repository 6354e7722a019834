import { assert, describe, it } from "@effect/vitest"
import * as Lease from "@etl-stream/core/Lease"
import type { StateStoreShape } from "@etl-stream/core/StateStore"
import * as RequestedStatus from "@etl-stream/runner/RequestedStatus"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import {
  change,
  changed,
  configurationOf,
  double,
  eventually,
  idle,
  memoryState,
  scoped,
  start
} from "./SupervisorFixture.ts"

const upTo = (last: number): ReadonlyArray<number> => Array.from({ length: last }, (_, index) => index + 1)

describe("Supervisor.reload", () => {
  it.effect("doesn't let a slow drain hold up other pipelines, changed, added or removed ones", () =>
    scoped(Effect.gen(function*() {
      const [slow, quick, gone, fresh] = [double("slow"), double("quick"), double("gone"), double("fresh")]
      const supervisor = yield* start([slow, quick, gone])
      for (const name of ["slow", "quick", "gone"]) yield* supervisor.streams(name)
      slow.blocked = true
      slow.log = 1
      slow.touch()
      yield* idle
      const reload = yield* Effect.forkChild(
        supervisor.reload(
          configurationOf([changed(slow), changed(quick), fresh.configuration]),
          change({ changed: ["slow", "quick"], added: ["fresh"], removed: ["gone"] })
        ),
        { startImmediately: true }
      )
      yield* eventually(() => quick.begins === 2 && fresh.begins === 1 && supervisor.get("gone") === undefined)
      assert.strictEqual(supervisor.activity("slow"), "draining")
      assert.isUndefined(reload.pollUnsafe())
      // A later reload is taken up while the drain of the one before is under way.
      yield* Effect.forkChild(
        supervisor.reload(
          configurationOf([changed(slow), changed(quick), fresh.configuration]),
          change({ changed: ["quick"], unchanged: ["slow", "fresh"] })
        )
      )
      yield* eventually(() => quick.begins === 3)
      slow.blocked = false
      slow.touch()
      yield* Fiber.join(reload)
      yield* supervisor.streams("slow")
      assert.strictEqual(slow.begins, 2)
      assert.deepStrictEqual(slow.written, [1])
      assert.deepStrictEqual([slow, quick, fresh].map(({ mostStreaming }) => mostStreaming), [1, 1, 1])
    })))

  it.effect("takes the latest of several configurations that come during a drain", () =>
    scoped(Effect.gen(function*() {
      const one = double("one")
      const supervisor = yield* start([one])
      yield* supervisor.streams("one")
      one.blocked = true
      one.log = 1
      one.touch()
      yield* idle
      for (const rows of [10, 20, 30]) {
        const next = changed(one, { batch: { rows, bytes: 1_000_000, every: Duration.millis(10) } })
        yield* Effect.forkChild(supervisor.reload(configurationOf([next]), change({ changed: ["one"] })))
        yield* idle
      }
      one.blocked = false
      one.touch()
      yield* supervisor.streams("one")
      assert.strictEqual(one.begins, 2)
      assert.strictEqual(supervisor.get("one")?.configuration()?.batch.rows, 30)
    })))

  it.effect("starts what takes over a slot or tables when the one that had them has drained, and not before", () =>
    scoped(Effect.gen(function*() {
      const before = double("before", { claims: ["slot a", "table public.*"] })
      const after = double("after", { claims: ["slot b", "table public.orders"], of: before })
      const supervisor = yield* start([before])
      yield* supervisor.streams("before")
      before.blocked = true
      before.log = 1
      before.touch()
      yield* idle
      yield* Effect.forkChild(
        supervisor.reload(configurationOf([after.configuration]), change({ added: ["after"], removed: ["before"] }))
      )
      yield* eventually(() => supervisor.activity("after") === "waiting")
      assert.deepStrictEqual(supervisor.get("after")?.waitsFor(), ["before"])
      yield* idle
      assert.strictEqual(after.makes, 0)
      before.blocked = false
      before.touch()
      yield* supervisor.streams("after")
      assert.isUndefined(supervisor.get("before"))
      assert.deepStrictEqual(after.written, [1])
    })))

  it.effect("lets pipelines of a plugin that doesn't say what it claims wait for each other's drain", () =>
    scoped(Effect.gen(function*() {
      const before = double("before", { claims: undefined })
      const after = double("after", { claims: undefined })
      const supervisor = yield* start([before])
      yield* supervisor.streams("before")
      before.blocked = true
      before.log = 1
      before.touch()
      yield* idle
      yield* Effect.forkChild(
        supervisor.reload(configurationOf([after.configuration]), change({ added: ["after"], removed: ["before"] }))
      )
      yield* eventually(() => supervisor.activity("after") === "waiting")
      before.blocked = false
      before.touch()
      yield* supervisor.streams("after")
    })))

  it.effect("brings a pipeline back that is added again while it is being removed", () =>
    scoped(Effect.gen(function*() {
      const one = double("one")
      const supervisor = yield* start([one])
      yield* supervisor.streams("one")
      one.blocked = true
      one.log = 2
      one.touch()
      yield* idle
      yield* Effect.forkChild(supervisor.reload(configurationOf([]), change({ removed: ["one"] })))
      yield* idle
      yield* Effect.forkChild(supervisor.reload(configurationOf([changed(one)]), change({ added: ["one"] })))
      yield* idle
      one.blocked = false
      one.touch()
      yield* supervisor.streams("one")
      yield* eventually(() => one.written.length === 2)
      assert.deepStrictEqual([one.begins, one.written], [2, [1, 2]])
    })))

  it.effect("starts failed pipelines again that are unchanged, and leaves alone what is in none of its lists", () =>
    scoped(Effect.gen(function*() {
      const one = double("one")
      const steady = double("steady")
      const supervisor = yield* start([one, steady])
      yield* supervisor.streams("one")
      one.fails = "Rejected"
      one.log = 1
      one.touch()
      yield* eventually(() => supervisor.activity("one") === "failed")
      one.fails = undefined
      const configuration = configurationOf([one.configuration, steady.configuration])
      yield* supervisor.reload(configuration, change({}))
      assert.strictEqual(supervisor.activity("one"), "failed")
      yield* supervisor.reload(configuration, change({ unchanged: ["one", "steady"] }))
      yield* supervisor.streams("one")
      yield* eventually(() => one.written.length === 1)
      assert.strictEqual(steady.begins, 1)
    })))
})

describe("Supervisor.pause, stop and resume", () => {
  for (const [verb, state] of [["pause", "paused"], ["stop", "stopped"]] as const) {
    it.effect(`${verb} drains, keeps the pipeline out until it is resumed, and loses and doubles nothing`, () =>
      scoped(Effect.gen(function*() {
        const one = double("one")
        const other = double("other")
        const supervisor = yield* start([one, other])
        yield* supervisor.streams("one")
        one.blocked = true
        one.log = 3
        one.touch()
        yield* idle
        assert.deepStrictEqual(yield* supervisor[verb]("one"), { changed: true, kept: true })
        assert.deepStrictEqual(yield* supervisor[verb]("one"), { changed: false, kept: true })
        yield* eventually(() => supervisor.activity("one") === "draining")
        one.blocked = false
        one.touch()
        yield* supervisor.settled("one")
        assert.strictEqual(supervisor.activity("one"), state)
        assert.deepStrictEqual(one.written, upTo(one.written.length))
        assert.strictEqual(one.acknowledged(), BigInt(one.written.length), "nothing is acknowledged that isn't there")
        assert.strictEqual(one.streaming, 0)
        one.log = 5
        one.touch()
        yield* TestClock.adjust("1 hour")
        assert.strictEqual(one.begins, 1)
        // Changes of its configuration wait, too.
        yield* supervisor.reload(configurationOf([changed(one), other.configuration]), change({ changed: ["one"] }))
        assert.strictEqual(supervisor.activity("one"), state)
        assert.deepStrictEqual(yield* supervisor.resume("one"), { changed: true, kept: true })
        assert.deepStrictEqual(yield* supervisor.resume("one"), { changed: false, kept: true })
        yield* eventually(() => one.written.length === 5)
        assert.deepStrictEqual(one.written, [1, 2, 3, 4, 5])
        assert.strictEqual(other.begins, 1)
      })))
  }

  it.effect("a paused pipeline keeps what is known of it, a stopped one doesn't", () =>
    scoped(Effect.gen(function*() {
      const one = double("one")
      const supervisor = yield* start([one])
      yield* supervisor.streams("one")
      one.log = 2
      one.touch()
      yield* eventually(() => one.written.length === 2)
      const changes = () => supervisor.get("one")?.progress.snapshot(0).tables.map(({ changes }) => changes)
      yield* supervisor.pause("one")
      yield* supervisor.settled("one")
      assert.deepStrictEqual(changes(), [2])
      yield* supervisor.stop("one")
      yield* supervisor.settled("one")
      yield* idle
      assert.deepStrictEqual(changes(), [])
      assert.strictEqual((yield* Effect.flip(supervisor.resync("one", ["public.numbers"]))).reason, "PipelineStopped")
    })))

  it.effect("whoever asks last is right, however many ask at the same time", () =>
    scoped(Effect.gen(function*() {
      const entries = new Map<string, string>()
      const one = double("one")
      const supervisor = yield* start([one], memoryState(entries))
      yield* supervisor.streams("one")
      const verbs = ["pause", "resume", "stop", "pause", "stop", "resume", "pause"] as const
      for (let round = 0; round < 5; round++) {
        yield* Effect.forEach(verbs, (verb) => supervisor[verb]("one"), { concurrency: "unbounded" })
        yield* supervisor.settled("one")
        assert.strictEqual(supervisor.activity("one"), "paused")
        assert.include(entries.get(RequestedStatus.key("one")), "\"status\":\"paused\"")
        yield* Effect.forEach([...verbs, "resume"] as const, (verb) => supervisor[verb]("one"), {
          concurrency: "unbounded"
        })
        one.log = round + 1
        one.touch()
        yield* eventually(() => one.written.length === round + 1)
        assert.isUndefined(entries.get(RequestedStatus.key("one")))
      }
      assert.deepStrictEqual(one.written, [1, 2, 3, 4, 5])
      assert.strictEqual(one.mostStreaming, 1)
    })))

  it.effect("survive a restart of the process, and are forgotten with the state store or the pipeline", () =>
    Effect.gen(function*() {
      const entries = new Map<string, string>()
      const state = memoryState(entries)
      const one = double("one")
      yield* scoped(Effect.gen(function*() {
        const supervisor = yield* start([one], state)
        yield* supervisor.streams("one")
        // The process dies before it has drained.
        one.blocked = true
        one.log = 1
        one.touch()
        yield* idle
        yield* supervisor.pause("one")
      }))
      one.blocked = false
      yield* scoped(Effect.gen(function*() {
        const supervisor = yield* start([one], state)
        yield* supervisor.settled("one")
        assert.deepStrictEqual([supervisor.activity("one"), one.begins], ["paused", 1])
        yield* supervisor.reload(configurationOf([]), change({ removed: ["one"] }))
        assert.isFalse(entries.has(RequestedStatus.key("one")))
        yield* supervisor.reload(configurationOf([one.configuration]), change({ added: ["one"] }))
        yield* supervisor.streams("one")
        yield* supervisor.stop("one")
        yield* supervisor.settled("one")
      }))
      yield* scoped(Effect.gen(function*() {
        const supervisor = yield* start([one], state)
        yield* supervisor.settled("one")
        assert.strictEqual(supervisor.activity("one"), "stopped")
      }))
      entries.clear()
      yield* scoped(Effect.gen(function*() {
        const supervisor = yield* start([one], state)
        yield* supervisor.streams("one")
        assert.deepStrictEqual(one.written, [1])
      }))
    }))

  it.effect("work without the state store, and say that they won't survive a restart", () =>
    scoped(Effect.gen(function*() {
      const memory = memoryState()
      const unlessAsked = <A, E>(key: string, effect: Effect.Effect<A, E>) =>
        key === RequestedStatus.key("one") ? Effect.never : effect
      const hangs: StateStoreShape = {
        ...memory,
        get: (key) => unlessAsked(key, memory.get(key)),
        compareAndSet: (key, value, expected) => unlessAsked(key, memory.compareAndSet(key, value, expected))
      }
      const one = double("one")
      const supervisor = yield* start([one], hangs)
      yield* idle
      yield* TestClock.adjust("5 seconds")
      yield* supervisor.streams("one")
      const asked = yield* Effect.forkChild(supervisor.pause("one"))
      yield* idle
      assert.strictEqual(supervisor.activity("one"), "paused", "it doesn't wait for the store")
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(yield* Fiber.join(asked), { changed: true, kept: false })
    })))

  it.effect("work with a state store that breaks", () =>
    scoped(Effect.gen(function*() {
      const memory = memoryState()
      const breaks: StateStoreShape = {
        ...memory,
        get: (key) => key === RequestedStatus.key("one") ? Effect.die(new TypeError("broken")) : memory.get(key)
      }
      const one = double("one")
      const supervisor = yield* start([one], breaks)
      yield* supervisor.streams("one")
      assert.deepStrictEqual(yield* supervisor.pause("one"), { changed: true, kept: false })
      yield* supervisor.settled("one")
      assert.strictEqual(supervisor.activity("one"), "paused")
      assert.isUndefined(yield* supervisor.stuck)
    })))

  it.effect("`status: paused` in the configuration holds whatever is asked, until it says otherwise", () =>
    scoped(Effect.gen(function*() {
      const one = double("one", { status: "paused" })
      const supervisor = yield* start([one])
      yield* supervisor.settled("one")
      assert.deepStrictEqual([supervisor.activity("one"), one.makes], ["paused", 0])
      assert.strictEqual((yield* Effect.flip(supervisor.resume("one"))).reason, "PausedByConfiguration")
      yield* supervisor.reload(
        configurationOf([changed(one, { status: "running" })]),
        change({ changed: ["one"] })
      )
      yield* supervisor.streams("one")
      yield* supervisor.reload(configurationOf([one.configuration]), change({ changed: ["one"] }))
      assert.deepStrictEqual([supervisor.activity("one"), one.streaming], ["paused", 0])
      assert.strictEqual((yield* Effect.flip(supervisor.pause("two"))).reason, "UnknownPipeline")
    })))

  it.effect("resume runs a pipeline again that has failed", () =>
    scoped(Effect.gen(function*() {
      const one = double("one")
      const other = double("other")
      const supervisor = yield* start([one, other])
      yield* supervisor.streams("one")
      one.fails = "Rejected"
      one.log = 1
      one.touch()
      yield* eventually(() => supervisor.activity("one") === "failed")
      one.fails = undefined
      assert.isTrue((yield* supervisor.resume("one")).changed)
      yield* eventually(() => one.written.length === 1)
    })))

  it.effect("a pause ends the wait for the next run", () =>
    scoped(Effect.gen(function*() {
      const one = double("one")
      const supervisor = yield* start([one])
      yield* supervisor.streams("one")
      one.fails = "Unreachable"
      one.log = 1
      one.touch()
      yield* eventually(() => supervisor.activity("one") === "retrying")
      yield* supervisor.pause("one")
      yield* supervisor.settled("one")
      assert.strictEqual(supervisor.activity("one"), "paused")
      assert.isUndefined(supervisor.get("one")?.retryAt())
    })))

  it.effect("paused and stopped pipelines keep the process, and end with it", () =>
    scoped(Effect.gen(function*() {
      const [paused, stopped, finished] = [double("paused"), double("stopped"), double("finished")]
      const supervisor = yield* start([paused, stopped, finished])
      for (const name of ["paused", "stopped", "finished"]) yield* supervisor.streams(name)
      finished.ends = true
      finished.touch()
      yield* supervisor.pause("paused")
      yield* supervisor.stop("stopped")
      yield* eventually(() => supervisor.activity("finished") === "finished")
      const outcomes = yield* Effect.forkChild(supervisor.outcomes)
      yield* idle
      assert.isUndefined(outcomes.pollUnsafe())
      yield* supervisor.askToStop
      assert.deepStrictEqual([...yield* Fiber.join(outcomes)], [
        ["paused", { _tag: "Stopped", settled: true }],
        ["stopped", { _tag: "Stopped", settled: true }],
        ["finished", { _tag: "Finished" }]
      ])
      assert.strictEqual((yield* Effect.flip(supervisor.resume("paused"))).reason, "ShuttingDown")
    })))
})

describe("circuit breakers of sinks", () => {
  it.effect("open after repeated failures, hold up all pipelines of the sink, and close with the first success", () =>
    scoped(Effect.gen(function*() {
      const [one, two, elsewhere] = [
        double("one", { account: "shared" }),
        double("two", { account: "shared" }),
        double("elsewhere")
      ]
      const supervisor = yield* start([one, two, elsewhere])
      for (const name of ["one", "two", "elsewhere"]) yield* supervisor.streams(name)
      one.fails = "Unreachable"
      two.fails = "Unreachable"
      one.log = 1
      one.touch()
      const state = (name: string) => supervisor.get(name)?.circuit()?.state()
      for (let waits = 0; state("one") !== "Open"; waits++) {
        assert.isBelow(waits, 40)
        yield* idle
        yield* TestClock.adjust("500 millis")
      }
      assert.deepStrictEqual([state("two"), state("elsewhere")], ["Open", "Closed"])
      yield* TestClock.adjust("1 second")
      assert.include(
        [...supervisor.get("two")?.progress.conditions.values() ?? []].map(({ name }) => name),
        "sink-circuit-open"
      )
      // The other pipeline's write isn't made, and nothing of it is acknowledged.
      two.log = 2
      two.touch()
      elsewhere.log = 1
      elsewhere.touch()
      yield* eventually(() => elsewhere.written.length === 1)
      yield* idle
      assert.deepStrictEqual([two.written, two.acknowledged()], [[], 0n])
      const calls = one.calls + two.calls
      yield* TestClock.adjust("10 seconds")
      assert.isAtMost(one.calls + two.calls - calls, 5, "single probes, further and further apart")
      one.fails = undefined
      two.fails = undefined
      for (let waits = 0; one.written.length < 1 || two.written.length < 2; waits++) {
        assert.isBelow(waits, 400)
        yield* TestClock.adjust("1 second")
        yield* idle
      }
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual([state("one"), state("two")], ["Closed", "Closed"])
      assert.strictEqual(supervisor.get("two")?.progress.conditions.size, 0)
      assert.deepStrictEqual([one.written, two.written], [[1], [1, 2]])
    })))

  it.effect("don't open for errors that are not about the sink as a whole", () =>
    scoped(Effect.gen(function*() {
      const one = double("one")
      const supervisor = yield* start([one, double("other")])
      for (let round = 0; round < 8; round++) {
        yield* supervisor.streams("one")
        one.fails = "Rejected"
        one.log = 1
        one.touch()
        yield* eventually(() => supervisor.activity("one") === "failed")
        one.fails = undefined
        if (round === 7) one.fails = undefined
        one.log = 0
        yield* supervisor.resume("one")
      }
      yield* supervisor.streams("one")
      assert.strictEqual(supervisor.get("one")?.circuit()?.state(), "Closed")
    })))
})

describe("the watchdog", () => {
  const watchdog = { after: Duration.minutes(10), restart: true }

  it.effect("restarts a pipeline whose changes don't get anywhere, later each time that it doesn't help", () =>
    scoped(Effect.gen(function*() {
      const one = double("one", { watchdog })
      const supervisor = yield* start([one])
      yield* supervisor.streams("one")
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(one.begins, 1, "without heartbeats silence is no trouble")
      one.blocked = true
      one.log = 1
      one.touch()
      yield* idle
      yield* TestClock.adjust("9 minutes")
      assert.strictEqual(one.begins, 1)
      yield* TestClock.adjust("2 minutes")
      yield* eventually(() => one.begins === 2)
      assert.strictEqual(supervisor.get("one")?.progress.conditions.size, 1)
      yield* TestClock.adjust("15 minutes")
      assert.strictEqual(one.begins, 2, "it has 20 minutes now")
      yield* TestClock.adjust("7 minutes")
      yield* eventually(() => one.begins === 3)
      one.blocked = false
      one.touch()
      yield* eventually(() => one.written.length === 1)
      yield* TestClock.adjust("20 seconds")
      assert.strictEqual(supervisor.get("one")?.progress.conditions.size, 0)
      assert.deepStrictEqual(one.written, [1])
    })))

  it.effect("restarts a pipeline whose source is silent although it promised not to be", () =>
    scoped(Effect.gen(function*() {
      const one = double("one", { watchdog, heartbeat: Duration.seconds(10) })
      const supervisor = yield* start([one])
      yield* supervisor.streams("one")
      for (let minute = 0; minute < 30; minute++) {
        one.log++
        one.touch()
        yield* idle
        yield* TestClock.adjust("1 minute")
      }
      assert.strictEqual(one.begins, 1)
      yield* TestClock.adjust("11 minutes")
      yield* eventually(() => one.begins === 2)
    })))

  it.effect("leaves a pipeline alone that waits for another runner", () =>
    scoped(Effect.gen(function*() {
      const state = memoryState()
      const other = yield* Scope.make()
      yield* Lease.tryAcquire(state, { name: "pipelines/one", owner: "another runner", ttl: "15 seconds" }).pipe(
        Scope.provide(other),
        Effect.orDie
      )
      const one = double("one", { watchdog })
      const supervisor = yield* start([one], state)
      yield* TestClock.adjust("30 minutes")
      assert.strictEqual(one.makes, 0)
      assert.strictEqual(supervisor.get("one")?.progress.conditions.size, 0)
      yield* Scope.close(other, Exit.void)
      yield* TestClock.adjust("2 seconds")
      yield* supervisor.streams("one")
      yield* TestClock.adjust("30 minutes")
      assert.strictEqual(one.begins, 1)
    })))

  it.effect("restarts a pipeline whose probe of the sink doesn't come back", () =>
    scoped(Effect.gen(function*() {
      const one = double("one", { watchdog })
      const supervisor = yield* start([one])
      yield* supervisor.streams("one")
      const circuitIs = Effect.fnUntraced(function*(wanted: string) {
        for (let waits = 0; supervisor.get("one")?.circuit()?.state() !== wanted; waits++) {
          assert.isBelow(waits, 1000, wanted)
          yield* idle
          yield* TestClock.adjust("500 millis")
        }
      })
      one.fails = "Unreachable"
      one.log = 1
      one.touch()
      yield* circuitIs("Open")
      one.blocked = true
      one.fails = undefined
      yield* circuitIs("HalfOpen")
      yield* idle
      const { begins } = one
      yield* TestClock.adjust("9 minutes")
      assert.strictEqual(one.begins, begins)
      yield* TestClock.adjust("2 minutes")
      yield* eventually(() => one.begins > begins)
      one.blocked = false
      one.touch()
      for (let waits = 0; one.written.length < 1; waits++) {
        assert.isBelow(waits, 100)
        yield* TestClock.adjust("1 second")
        yield* idle
      }
      assert.deepStrictEqual(one.written, [1])
    })))

  it.effect("only says so when it isn't to restart", () =>
    scoped(Effect.gen(function*() {
      const one = double("one", { watchdog: { ...watchdog, restart: false } })
      const supervisor = yield* start([one])
      yield* supervisor.streams("one")
      one.blocked = true
      one.log = 1
      one.touch()
      yield* idle
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(one.begins, 1)
      const [stalled] = supervisor.get("one")?.progress.conditions.values() ?? []
      assert.deepInclude(stalled, { name: "stalled", severity: "critical" })
      assert.isUndefined(yield* supervisor.stuck)
    })))
})
