import { assert, describe, it } from "@effect/vitest"
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import { SqliteStateStore } from "@etl-stream/state-sqlite"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Metric from "effect/Metric"
import * as TestClock from "effect/testing/TestClock"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import {
  copyOf,
  kept,
  memory,
  Pipeline,
  putBack,
  Recorder,
  rules,
  start,
  unreachable,
  type World,
  world
} from "./AlertWorld.ts"

const minutes = (count: number) => count * 60_000

/** Lets time pass second by second, as pipelines and alerts see it; `each` is done before every second. */
const pass = (seconds: number, each: (now: number) => void = () => {}) =>
  Effect.gen(function*() {
    for (let second = 0; second < seconds; second++) {
      each(yield* Clock.currentTimeMillis)
      yield* TestClock.adjust(1000)
    }
  })

const stale = ({ pipeline }: World, millis: number) => (now: number) => pipeline.behind(millis, now)

describe("Alerting", () => {
  it.effect("tells a limit that was passed for long enough, once, and once that it is over", () =>
    Effect.gen(function*() {
      const w = world()
      yield* start(w, rules({ when: "freshness > 5 minutes", for: "2 minutes", to: ["ops"] }))
      yield* pass(60, stale(w, minutes(5) - 2000))
      yield* pass(118, stale(w, minutes(6)))
      yield* pass(1, stale(w, minutes(4)))
      yield* pass(118, stale(w, minutes(6)))
      assert.deepStrictEqual(w.ops.lines, [])
      yield* pass(4, stale(w, minutes(6)))
      assert.deepStrictEqual(w.ops.lines, ["firing freshness"])
      const [told] = w.ops.told
      assert.deepInclude(told, {
        type: "freshness",
        status: "firing",
        severity: "warning",
        source: "shop",
        pipeline: "shop",
        threshold: { value: minutes(5), unit: "ms" },
        duration: minutes(2),
        reminder: false
      })
      assert.strictEqual(told?.size?.unit, "ms")
      assert.closeTo(told?.size?.value ?? 0, minutes(6), 2000)
      yield* pass(3600, stale(w, minutes(6)))
      assert.deepStrictEqual(w.ops.lines, ["firing freshness"])
      yield* pass(59, stale(w, 0))
      assert.deepStrictEqual(w.ops.lines, ["firing freshness"])
      yield* pass(3, stale(w, 0))
      assert.deepStrictEqual(w.ops.lines, ["firing freshness", "resolved freshness"])
      assert.strictEqual(w.ops.told[1]?.key, told?.key)
      yield* pass(600, stale(w, 0))
      assert.strictEqual(w.ops.told.length, 2)
      // What is over leaves nothing behind.
      assert.strictEqual(kept(w.memory).length, 0)
    }))

  it.effect("takes what comes and goes for one alert until it has been away for long enough", () =>
    Effect.gen(function*() {
      const w = world()
      yield* start(w, rules({ when: "condition", recoverAfter: "30 seconds", to: ["ops"] }))
      for (let round = 0; round < 20; round++) {
        yield* pass(20, (now) => w.pipeline.raise({ name: "heartbeat-late" }, now))
        w.pipeline.clear("heartbeat-late")
        yield* pass(20)
      }
      assert.deepStrictEqual(w.ops.lines, ["firing heartbeat-late"])
      yield* pass(15)
      assert.deepStrictEqual(w.ops.lines, ["firing heartbeat-late", "resolved heartbeat-late"])
    }))

  it.effect("tells each condition and table by itself, those that the rule wants, of monitors too", () =>
    Effect.gen(function*() {
      const w = world()
      const [all, some] = [new Recorder("all"), new Recorder("some")]
      yield* start(
        w,
        rules(
          { when: "condition", to: ["all"] },
          { when: "condition", severity: "critical", to: ["ops"] },
          { when: "condition", names: ["slot-wal"], pipelines: ["shop"], to: ["some"] },
          { when: "table-quarantined", severity: "warning", to: ["some"] }
        ),
        [all, some]
      )
      w.pipeline.raise({ name: "heartbeat-late" }, 0)
      w.pipeline.raise({ name: "table-quarantined", severity: "critical", table: "public.a" }, 0)
      w.pipeline.raise({ name: "table-quarantined", severity: "critical", table: "public.b" }, 0)
      w.monitors.push({
        name: "wal",
        kind: "monitor",
        conditions: [{ name: "slot-wal", severity: "critical", message: "full soon", hint: "Look.", since: 0 }]
      })
      yield* pass(2)
      const quarantined = ["firing table-quarantined public.a", "firing table-quarantined public.b"]
      assert.sameMembers([...all.lines], [...quarantined, "firing heartbeat-late", "firing slot-wal"])
      assert.sameMembers([...w.ops.lines], [...quarantined, "firing slot-wal"])
      assert.sameMembers([...some.lines], quarantined)
      assert.deepStrictEqual(new Set(some.told.map(({ severity }) => severity)), new Set(["warning"]))
      const told = all.told.find(({ type }) => type === "slot-wal")
      assert.deepInclude(told, { source: "wal", pipeline: undefined, title: "wal: full soon", body: "Look." })
      assert.strictEqual(new Set(all.told.map(({ key }) => key)).size, 4)
      w.pipeline.clear("table-quarantined")
      yield* pass(62)
      assert.strictEqual(all.lines.filter((line) => line.startsWith("resolved table-quarantined")).length, 2)
    }))

  it.effect("tells a failed pipeline once for all its attempts, and its recovery when it streams again", () =>
    Effect.gen(function*() {
      const w = world()
      const { progress } = w.pipeline
      yield* start(w, rules({ when: "pipeline-failed", for: "30 seconds", to: ["ops"] }))
      progress.lastError = new ConnectorError({
        reason: "Unreachable",
        plugin: "p",
        message: "no route, password hunter2",
        hint: "Wait."
      })
      // A failure that is mended by the next attempt is not worth a word.
      progress.phase = "failed"
      yield* pass(5)
      progress.phase = "starting"
      yield* pass(2)
      progress.phase = "streaming"
      yield* pass(60)
      assert.deepStrictEqual(w.ops.lines, [])
      // One that fails again and again has failed all the time, even if it streams for a while in between.
      for (let attempt = 0; attempt < 10; attempt++) {
        progress.phase = "failed"
        yield* pass(4)
        progress.begin(yield* Clock.currentTimeMillis)
        yield* pass(2)
        progress.phase = "streaming"
        yield* pass(4)
      }
      assert.deepStrictEqual(w.ops.lines, ["firing pipeline-failed"])
      assert.deepInclude(w.ops.told[0], {
        severity: "critical",
        title: "shop failed: no route, password <redacted>",
        body: "Wait."
      })
      progress.phase = "snapshot"
      yield* pass(62)
      assert.deepStrictEqual(w.ops.lines, ["firing pipeline-failed", "resolved pipeline-failed"])
    }))

  it.effect("sees a pipeline that never got as far as to begin", () =>
    Effect.gen(function*() {
      const w = world()
      const never = new Pipeline()
      Object.assign(never.progress, { run: 0, phase: "starting", lastError: unreachable })
      yield* start({ ...w, pipeline: never }, rules({ when: "pipeline-failed", to: ["ops"] }))
      yield* pass(2)
      assert.deepStrictEqual(w.ops.lines, ["firing pipeline-failed"])
    }))

  it.effect("tells that data is late while a pipeline can't come back, also when everything that it had read was durable", () =>
    Effect.gen(function*() {
      const w = world()
      yield* start(w, rules({ when: "freshness > 1 minute", to: ["ops"] }))
      const { progress } = w.pipeline
      yield* pass(10, stale(w, 0))
      progress.receivedAt = yield* Clock.currentTimeMillis
      // It fails, tries to begin, and fails again.
      for (let attempt = 0; attempt < 8; attempt++) {
        progress.phase = "failed"
        yield* pass(5)
        progress.begin(yield* Clock.currentTimeMillis)
        yield* pass(5)
      }
      assert.deepStrictEqual(w.ops.lines, ["firing freshness"])
      progress.phase = "streaming"
      progress.receivedAt = yield* Clock.currentTimeMillis
      yield* pass(65)
      assert.deepStrictEqual(w.ops.lines, ["firing freshness", "resolved freshness"])
    }))

  it.effect("looks at lag and silence", () =>
    Effect.gen(function*() {
      const w = world()
      yield* start(w, rules({ when: "lag > 1KiB", to: ["ops"] }, { when: "silence > 1 minute", to: ["ops"] }))
      const { progress } = w.pipeline
      progress.receivedPosition = 1024n
      progress.receivedAt = 0
      yield* pass(60)
      assert.deepStrictEqual(w.ops.lines, [])
      progress.receivedPosition = 1025n
      yield* pass(2)
      assert.sameMembers([...w.ops.lines], ["firing lag", "firing silence"])
      assert.deepStrictEqual(w.ops.told.find(({ type }) => type === "lag")?.size, { value: 1025, unit: "By" })
    }))

  it.effect("a pipeline that starts or stops neither ends an alert nor begins one", () =>
    Effect.gen(function*() {
      const w = world()
      yield* start(w, rules({ when: "freshness > 5 minutes", to: ["ops"] }))
      yield* pass(2, stale(w, minutes(6)))
      for (const phase of ["draining", "stopped", "starting"] as const) {
        w.pipeline.progress.phase = phase
        yield* pass(300, stale(w, 0))
      }
      assert.deepStrictEqual(w.ops.lines, ["firing freshness"])
      const other = world()
      other.pipeline.progress.phase = "stopped"
      yield* start(other, rules({ when: "freshness > 5 minutes", to: ["ops"] }))
      yield* pass(300, stale(other, minutes(60)))
      assert.deepStrictEqual(other.ops.lines, [])
    }))

  it.effect("reminds as often as it is asked to, and tells again what has become critical", () =>
    Effect.gen(function*() {
      const w = world()
      yield* start(w, rules({ when: "condition", repeat: "10 minutes", to: ["ops"] }))
      w.pipeline.raise({ name: "slot-wal" }, 0)
      yield* pass(1205)
      assert.deepStrictEqual(w.ops.lines, ["firing slot-wal", "still firing slot-wal", "still firing slot-wal"])
      w.pipeline.raise({ name: "slot-wal", severity: "critical" }, 0)
      yield* pass(2)
      assert.deepInclude(w.ops.told[3], { severity: "critical", reminder: false })
      w.pipeline.raise({ name: "slot-wal" }, 0)
      yield* pass(300)
      assert.strictEqual(w.ops.told.length, 4)
    }))

  it.effect("a restart repeats nothing, and tells what is over since", () =>
    Effect.gen(function*() {
      const directory = yield* Effect.acquireRelease(
        Effect.sync(() => Fs.mkdtempSync(join(tmpdir(), "alerting-"))),
        (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true, force: true }))
      )
      const w = world()
      const active = rules({ when: "condition", to: ["ops"] })
      /** A process with the state file. */
      const process = (seconds: number, each?: (now: number) => void) =>
        Effect.gen(function*() {
          const store = yield* SqliteStateStore.make(join(directory, "state.sqlite"))
          const alerting = yield* start({ ...w, memory: { ...w.memory, store } }, active)
          yield* pass(seconds, each)
          yield* alerting.finish(true)
        }).pipe(Effect.scoped)
      w.pipeline.raise({ name: "slot-wal" }, 0)
      yield* process(5)
      yield* process(120)
      assert.deepStrictEqual(w.ops.lines, ["firing slot-wal"])
      // It comes up some time after the start.
      w.pipeline.clear("slot-wal")
      const restarted = yield* Clock.currentTimeMillis
      yield* process(100, (now) => {
        if (now - restarted === 20_000) w.pipeline.raise({ name: "slot-wal" }, now)
      })
      assert.deepStrictEqual(w.ops.lines, ["firing slot-wal"])
      w.pipeline.clear("slot-wal")
      yield* process(20)
      yield* process(70)
      assert.deepStrictEqual(w.ops.lines, ["firing slot-wal", "resolved slot-wal"])
      yield* process(120)
      assert.strictEqual(w.ops.told.length, 2)
      w.pipeline.raise({ name: "slot-wal" }, 0)
      yield* process(5)
      assert.deepStrictEqual(w.ops.lines, ["firing slot-wal", "resolved slot-wal", "firing slot-wal"])
    }))

  it.effect("a lost state costs one repeated notice", () =>
    Effect.gen(function*() {
      const w = world()
      const active = rules({ when: "condition", to: ["ops"] })
      w.pipeline.raise({ name: "slot-wal" }, 0)
      yield* Effect.scoped(Effect.andThen(start(w, active), pass(5)))
      w.memory.entries.clear()
      yield* Effect.scoped(Effect.andThen(start(w, active), pass(300)))
      yield* Effect.scoped(Effect.andThen(start(w, active), pass(300)))
      assert.deepStrictEqual(w.ops.lines, ["firing slot-wal", "firing slot-wal"])
      // Lost while it runs it costs nothing.
      yield* Effect.gen(function*() {
        yield* start(w, active)
        yield* pass(5)
        w.memory.entries.clear()
        yield* pass(60)
        w.pipeline.clear("slot-wal")
        yield* pass(65)
      }).pipe(Effect.scoped)
      assert.deepStrictEqual(w.ops.lines.slice(2), ["resolved slot-wal"])
    }))

  it.effect("the end of what was told before the store was emptied is told, of a pipeline that was paused meanwhile too, once", () =>
    Effect.gen(function*() {
      const w = world()
      const active = rules({ when: "condition", to: ["ops"] })
      yield* start(w, active)
      w.pipeline.raise({ name: "slot-wal" }, 0)
      w.pipeline.raise({ name: "heartbeat-late" }, 0)
      yield* pass(5)
      w.pipeline.progress.phase = "stopped"
      yield* pass(60)
      for (let flush = 0; flush < 3; flush++) {
        w.memory.entries.clear()
        yield* pass(65)
        assert.strictEqual(kept(w.memory).length, 2)
      }
      w.pipeline.clear("heartbeat-late")
      w.pipeline.progress.phase = "streaming"
      yield* pass(120)
      assert.sameMembers([...w.ops.lines], ["firing slot-wal", "firing heartbeat-late", "resolved heartbeat-late"])
      assert.strictEqual(kept(w.memory).length, 1)
      w.pipeline.clear("slot-wal")
      yield* pass(120)
      assert.deepStrictEqual(w.ops.lines.slice(3), ["resolved slot-wal"])
      assert.strictEqual(kept(w.memory).length, 0)
    }))

  it.effect("an emptied store is told again what fires at a pipeline that runs, for the next start", () =>
    Effect.gen(function*() {
      const w = world()
      const active = rules({ when: "condition", to: ["ops"] })
      w.pipeline.raise({ name: "slot-wal" }, 0)
      yield* Effect.gen(function*() {
        yield* start(w, active)
        yield* pass(5)
        w.memory.entries.clear()
        yield* pass(65)
      }).pipe(Effect.scoped)
      w.pipeline.clear("slot-wal")
      yield* Effect.scoped(Effect.andThen(start(w, active), pass(120)))
      assert.deepStrictEqual(w.ops.lines, ["firing slot-wal", "resolved slot-wal"])
    }))

  it.effect("of two processes whose store was emptied, the one that has the pipeline tells its end, once", () =>
    Effect.gen(function*() {
      const w = world()
      const active = rules({ when: "condition", to: ["ops"] })
      const standby = { ...w, ops: new Recorder(), pipeline: new Pipeline() }
      standby.pipeline.progress.phase = "starting"
      yield* start(standby, active)
      yield* pass(10)
      yield* Effect.gen(function*() {
        yield* start(w, active)
        w.pipeline.raise({ name: "slot-wal" }, 0)
        yield* pass(65)
        w.memory.entries.clear()
        yield* pass(65)
        assert.strictEqual(kept(w.memory).length, 1)
        w.pipeline.clear("slot-wal")
        yield* pass(65)
      }).pipe(Effect.scoped)
      assert.deepStrictEqual(w.ops.lines, ["firing slot-wal", "resolved slot-wal"])
      standby.pipeline.progress.phase = "streaming"
      yield* pass(120)
      assert.deepStrictEqual(standby.ops.lines, [])
      assert.strictEqual(kept(w.memory).length, 0)
    }))

  it.effect("a store that went back to a copy is told again what fires here, and whom it was told, for the next start", () =>
    Effect.gen(function*() {
      const w = world()
      const active = rules({ when: "condition", to: ["ops"] })
      yield* Effect.gen(function*() {
        yield* start(w, active)
        w.pipeline.raise({ name: "slot-wal" }, 0)
        w.ops.answer = () => Effect.fail(unreachable)
        yield* pass(5)
        // The copy has an alert that nobody was told, and lacks another one.
        const copy = copyOf(w.memory)
        assert.strictEqual(kept(w.memory).length, 1)
        w.ops.answer = () => Effect.void
        w.pipeline.raise({ name: "heartbeat-late" }, 0)
        yield* pass(65)
        putBack(w.memory, copy)
        yield* pass(65)
        assert.strictEqual(kept(w.memory).length, 2)
      }).pipe(Effect.scoped)
      w.pipeline.clear("slot-wal")
      w.pipeline.clear("heartbeat-late")
      yield* Effect.scoped(Effect.andThen(start(w, active), pass(120)))
      assert.sameMembers([...w.ops.lines], [
        "firing slot-wal",
        "firing heartbeat-late",
        "resolved slot-wal",
        "resolved heartbeat-late"
      ])
    }))

  it.effect("the end of what a copy lacks that the store went back to is told, of a pipeline that was paused meanwhile too, once", () =>
    Effect.gen(function*() {
      const w = world()
      const active = rules({ when: "condition", to: ["ops"] })
      yield* start(w, active)
      w.pipeline.raise({ name: "slot-wal" }, 0)
      w.ops.answer = () => Effect.fail(unreachable)
      yield* pass(5)
      const copy = copyOf(w.memory)
      w.ops.answer = () => Effect.void
      w.pipeline.raise({ name: "heartbeat-late" }, 0)
      yield* pass(65)
      // It shows nothing of what was at its source and sink.
      w.pipeline.progress.phase = "stopped"
      w.pipeline.clear("slot-wal")
      w.pipeline.clear("heartbeat-late")
      yield* pass(60)
      for (let failover = 0; failover < 3; failover++) {
        putBack(w.memory, copy)
        yield* pass(65)
        assert.strictEqual(kept(w.memory).length, 2)
      }
      w.pipeline.progress.phase = "streaming"
      yield* pass(120)
      assert.sameMembers([...w.ops.lines], [
        "firing slot-wal",
        "firing heartbeat-late",
        "resolved slot-wal",
        "resolved heartbeat-late"
      ])
      assert.strictEqual(kept(w.memory).length, 0)
    }))

  it.effect("a standby sees that the store went back, also when others have begun alerts since", () =>
    Effect.gen(function*() {
      const w = world()
      const active = rules({ when: "condition", to: ["ops"] })
      const standby = { ...w, ops: new Recorder(), pipeline: new Pipeline() }
      standby.pipeline.progress.phase = "starting"
      const other = { ...w, ops: new Recorder(), pipeline: new Pipeline("other") }
      yield* start(other, active)
      const copy = yield* Effect.gen(function*() {
        yield* start(w, active)
        yield* pass(5)
        const copy = copyOf(w.memory)
        w.pipeline.raise({ name: "slot-wal" }, 0)
        yield* pass(5)
        return copy
      }).pipe(Effect.scoped)
      yield* start(standby, active)
      yield* pass(62)
      putBack(w.memory, copy)
      // More often than before.
      for (const name of ["a", "b", "c", "d", "e"]) {
        other.pipeline.raise({ name }, 0)
        yield* pass(2)
      }
      assert.deepStrictEqual(kept(w.memory).filter((text) => text.includes("slot-wal")), [])
      yield* pass(35)
      standby.pipeline.progress.phase = "streaming"
      yield* pass(120)
      assert.deepStrictEqual(standby.ops.lines, ["resolved slot-wal"])
    }))

  it.effect("looks go on while the store can be read and hangs when it is written", () =>
    Effect.gen(function*() {
      const w = world()
      const { memory: { store } } = w
      let hangs = true
      const hanging = {
        ...w.memory,
        store: {
          ...store,
          compareAndSet: (...given: Parameters<typeof store.compareAndSet>) =>
            hangs ? Effect.never : store.compareAndSet(...given)
        }
      }
      class Counted extends Pipeline {
        looks = 0
        override subject(now: number) {
          this.looks++
          return super.subject(now)
        }
      }
      const pipeline = new Counted()
      yield* start({ ...w, memory: hanging, pipeline }, rules({ when: "condition", to: ["ops"] }))
      yield* pass(20)
      for (let second = 0; second < 60; second++) {
        const before = pipeline.looks
        yield* pass(1)
        assert.isAbove(pipeline.looks, before, `in second ${second}`)
      }
      hangs = false
      yield* pass(60)
      assert.isTrue(w.memory.entries.has("alerts/epoch"))
    }))

  it.effect("documents of others in the store are left alone, and those that can't be read count as none", () =>
    Effect.gen(function*() {
      const w = world()
      const active = rules({ when: "condition", to: ["ops"] })
      w.pipeline.raise({ name: "slot-wal" }, 0)
      yield* Effect.scoped(Effect.andThen(start(w, active), pass(5)))
      const [[key, { value, version }] = ["", { value: "", version: "" }]] = [...w.memory.entries].filter(([key]) =>
        key !== "alerts/epoch"
      )
      for (
        const broken of [
          "",
          "{",
          "null",
          "[]",
          value.replace("\"version\":1", "\"version\":2"),
          value.replace("firing", "fired")
        ]
      ) {
        w.memory.entries.set(key, { value: broken, version: `${version}!` })
        w.memory.entries.set("alerts/other", { value: broken, version: "x" })
        w.ops.told.length = 0
        yield* Effect.scoped(Effect.andThen(start(w, active), pass(5)))
        assert.deepStrictEqual(w.ops.lines, ["firing slot-wal"], broken)
        assert.strictEqual(w.memory.entries.get("alerts/other")?.value, broken)
        w.memory.entries.set(key, { value, version })
      }
    }))

  it.effect("of two processes with one store, the later one sees what the other has told", () =>
    Effect.gen(function*() {
      const w = world()
      const active = rules({ when: "condition", to: ["ops"] })
      const late = { ...w, ops: new Recorder(), pipeline: new Pipeline() }
      yield* start(w, active)
      yield* start(late, active)
      w.pipeline.raise({ name: "slot-wal" }, 0)
      yield* pass(5)
      late.pipeline.raise({ name: "slot-wal" }, 0)
      yield* pass(5)
      assert.deepStrictEqual(w.ops.lines, ["firing slot-wal"])
      assert.deepStrictEqual(late.ops.lines, [])
      assert.strictEqual(kept(w.memory).length, 1)
    }))

  it.effect("a process that takes a pipeline over tells the end of what another one told, once", () =>
    Effect.gen(function*() {
      const w = world()
      const active = rules({ when: "condition", repeat: "2 minutes", to: ["ops"] })
      // It waits for the pipeline that the other process runs.
      const standby = { ...w, ops: new Recorder(), pipeline: new Pipeline() }
      standby.pipeline.progress.phase = "starting"
      yield* start(standby, active)
      yield* Effect.gen(function*() {
        yield* start(w, active)
        w.pipeline.raise({ name: "slot-wal" }, 0)
        w.pipeline.raise({ name: "heartbeat-late" }, 0)
        yield* pass(3)
        w.pipeline.clear("heartbeat-late")
        yield* pass(150)
      }).pipe(Effect.scoped)
      assert.sameMembers([...w.ops.lines], [
        "firing slot-wal",
        "firing heartbeat-late",
        "resolved heartbeat-late",
        "still firing slot-wal"
      ])
      yield* pass(300)
      assert.deepStrictEqual(standby.ops.lines, [])
      standby.pipeline.progress.phase = "streaming"
      yield* pass(65)
      assert.deepStrictEqual(standby.ops.lines, ["resolved slot-wal"])
      assert.strictEqual(kept(w.memory).length, 0)
    }))

  it.effect("alerts of pipelines that aren't in the file are left to the process that runs them", () =>
    Effect.gen(function*() {
      const w = world()
      const active = rules({ when: "condition", to: ["ops"] })
      const other = { ...w, ops: new Recorder(), pipeline: new Pipeline("other") }
      yield* start(other, active)
      other.pipeline.raise({ name: "slot-wal" }, 0)
      yield* pass(3)
      yield* Effect.scoped(Effect.andThen(start(w, active), pass(200)))
      assert.deepStrictEqual(w.ops.lines, [])
      assert.deepStrictEqual(other.ops.lines, ["firing slot-wal"])
      assert.strictEqual(kept(w.memory).length, 1)
    }))

  it.effect("a notifier that hangs holds up neither another nor the stop, and is tried again after it", () =>
    Effect.gen(function*() {
      const w = world()
      const stuck = new Recorder("stuck")
      stuck.answer = () => Effect.never
      const active = rules({ when: "condition", to: ["stuck", "ops"] })
      w.pipeline.raise({ name: "slot-wal" }, 0)
      yield* Effect.gen(function*() {
        const alerting = yield* start(w, active, [stuck])
        yield* pass(2)
        assert.deepStrictEqual(w.ops.lines, ["firing slot-wal"])
        w.pipeline.raise({ name: "heartbeat-late" }, 0)
        yield* pass(2)
        assert.deepStrictEqual(w.ops.lines, ["firing slot-wal", "firing heartbeat-late"])
        const finishing = yield* Effect.forkChild(alerting.finish(true))
        yield* TestClock.adjust("5 seconds")
        yield* Fiber.join(finishing)
      }).pipe(Effect.scoped)
      assert.strictEqual(stuck.attempts, 2)
      stuck.answer = () => Effect.void
      yield* Effect.scoped(Effect.andThen(start(w, active, [stuck]), pass(3)))
      assert.sameMembers([...stuck.lines], ["firing slot-wal", "firing heartbeat-late"])
      assert.strictEqual(w.ops.told.length, 2)
    }))

  it.effect("a notifier that can't be interrupted doesn't hold up the end of the process", () =>
    Effect.gen(function*() {
      const w = world()
      w.ops.answer = () => Effect.uninterruptible(Effect.never)
      w.pipeline.raise({ name: "slot-wal" }, 0)
      // The life of a process, by the test's clock.
      const running = yield* Effect.forkChild(
        Effect.scoped(Effect.andThen(start(w, rules({ when: "condition", to: ["ops"] })), Effect.sleep("3 seconds")))
      )
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual(w.ops.attempts, 1)
      yield* TestClock.adjust("2 seconds")
      yield* Fiber.join(running)
    }))

  it.effect("tries again what fails while the alert holds, at growing intervals, and counts it", () =>
    Effect.gen(function*() {
      const w = { ...world(), ops: new Recorder("counted") }
      const counted = Effect.map(
        Metric.snapshot,
        (all) =>
          all.reduce((sum, metric) =>
            metric.id === "etl_stream.notifications" && metric.type === "Counter" &&
              metric.attributes?.["etl_stream.notifier"] === "counted" && metric.attributes["outcome"] === "failure" &&
              metric.attributes["error.type"] === "Unreachable"
              ? sum + Number(metric.state.count)
              : sum, 0)
      )
      const before = yield* counted
      w.ops.answer = () => Effect.fail(unreachable)
      yield* start(w, rules({ when: "condition", to: ["counted"] }))
      w.pipeline.raise({ name: "slot-wal" }, 0)
      yield* pass(6)
      assert.strictEqual(w.ops.attempts, 1)
      yield* pass(600)
      assert.isAtLeast(w.ops.attempts, 5)
      assert.isAtMost(w.ops.attempts, 9)
      assert.strictEqual((yield* counted) - before, w.ops.attempts)
      w.ops.answer = () => Effect.void
      yield* pass(400)
      assert.deepStrictEqual(w.ops.lines, ["firing slot-wal"])
    }))

  it.effect("says nothing of an alert that is over before it could be told, and of its end until it can", () =>
    Effect.gen(function*() {
      const w = world()
      w.ops.answer = () => Effect.fail(unreachable)
      yield* start(w, rules({ when: "condition", recoverAfter: "0 seconds", to: ["ops"] }))
      w.pipeline.raise({ name: "heartbeat-late" }, 0)
      yield* pass(5)
      w.pipeline.clear("heartbeat-late")
      yield* pass(5)
      w.ops.answer = () => Effect.void
      yield* pass(600)
      assert.deepStrictEqual(w.ops.lines, [])
      w.pipeline.raise({ name: "slot-wal" }, 0)
      yield* pass(2)
      w.ops.answer = () => Effect.fail(unreachable)
      w.pipeline.clear("slot-wal")
      yield* pass(3600)
      w.ops.answer = () => Effect.void
      yield* pass(400)
      assert.deepStrictEqual(w.ops.lines, ["firing slot-wal", "resolved slot-wal"])
      assert.strictEqual(kept(w.memory).length, 0)
    }))

  it.effect("a plugin that breaks is a failed delivery, and so is one that can't be made", () =>
    Effect.gen(function*() {
      const w = world()
      let made = 0
      class Broken extends Recorder {
        override get notifier() {
          const { make, ...rest } = super.notifier
          const breaking = Effect.suspend(() => {
            made++
            if (made === 1) return Effect.fail(unreachable)
            return made === 2 ? Effect.die(new Error("hunter2")) : make
          })
          return { ...rest, make: breaking }
        }
      }
      const ops = new Broken()
      yield* start({ ...w, ops }, rules({ when: "condition", to: ["ops"] }))
      w.pipeline.raise({ name: "slot-wal" }, 0)
      yield* pass(120)
      assert.deepStrictEqual(ops.lines, ["firing slot-wal"])
      assert.strictEqual(made, 3)
    }))

  it.effect("alerts go on when the state store fails or hangs, and are kept when it is back", () =>
    Effect.gen(function*() {
      for (const trouble of [Effect.fail(unreachable), Effect.never]) {
        const w = world()
        const active = rules({ when: "condition", recoverAfter: "10 seconds", to: ["ops"] })
        yield* Effect.gen(function*() {
          w.memory.before = trouble
          yield* start(w, active)
          w.pipeline.raise({ name: "slot-wal" }, 0)
          yield* pass(40)
          assert.deepStrictEqual(w.ops.lines, ["firing slot-wal"])
          w.memory.before = Effect.void
          yield* pass(20)
          assert.strictEqual(kept(w.memory).length, 1)
        }).pipe(Effect.scoped)
        yield* Effect.scoped(Effect.andThen(start(w, active), pass(20)))
        assert.deepStrictEqual(w.ops.lines, ["firing slot-wal"])
      }
    }))

  it.effect("a stop tells what has come up last", () =>
    Effect.gen(function*() {
      const w = world()
      const alerting = yield* start(w, rules({ when: "condition", to: ["ops"] }))
      yield* pass(2)
      w.pipeline.raise({ name: "slot-wal" }, 0)
      yield* alerting.finish(true)
      assert.deepStrictEqual(w.ops.lines, ["firing slot-wal"])
    }))

  it.effect("an end by failure isn't waited for, one that was asked for is", () =>
    Effect.gen(function*() {
      for (const stopped of [true, false]) {
        const w = world()
        const alerting = yield* start(w, rules({ when: "pipeline-failed", for: "1 minute", to: ["ops"] }))
        yield* pass(2)
        w.pipeline.progress.phase = "failed"
        yield* alerting.finish(stopped)
        assert.deepStrictEqual(w.ops.lines, stopped ? [] : ["firing pipeline-failed"])
      }
    }))

  it.effect("a reload takes rules and notifiers over", () =>
    Effect.gen(function*() {
      const w = world()
      const more = new Recorder("more")
      const alerting = yield* start(w, rules({ when: "condition", to: ["ops"] }))
      w.pipeline.raise({ name: "slot-wal" }, 0)
      yield* pass(2)
      // Another receiver of the same rule is told what holds; the first one isn't told again.
      yield* alerting.reload(rules({ when: "condition", for: "1 second", to: ["ops", "more"] }), [
        w.ops.notifier,
        more.notifier
      ])
      yield* pass(5)
      assert.deepStrictEqual([w.ops.lines, more.lines], [["firing slot-wal"], ["firing slot-wal"]])
      // A rule that is gone watches no more.
      yield* alerting.reload(rules({ when: "pipeline-failed", to: ["ops"] }), [w.ops.notifier])
      yield* pass(2)
      assert.deepStrictEqual(w.ops.lines, ["firing slot-wal", "resolved slot-wal"])
      // Whoever isn't there any more can't be told.
      assert.deepStrictEqual(more.lines, ["firing slot-wal"])
      assert.strictEqual(kept(w.memory).length, 0)
    }))

  it.effect("a reload tries again at once what failed before", () =>
    Effect.gen(function*() {
      const w = world()
      const active = rules({ when: "condition", to: ["ops"] })
      const alerting = yield* start(w, active)
      w.ops.answer = () => Effect.fail(unreachable)
      w.pipeline.raise({ name: "slot-wal" }, 0)
      yield* pass(300)
      w.ops.answer = () => Effect.void
      yield* alerting.reload(active, [w.ops.notifier])
      yield* pass(2)
      assert.deepStrictEqual(w.ops.lines, ["firing slot-wal"])
    }))

  it.effect("a pipeline that is no longer there has no alerts", () =>
    Effect.gen(function*() {
      const w = world()
      const gone = new Pipeline("gone")
      gone.raise({ name: "slot-wal" }, 0)
      w.monitors.push(gone.subject(0))
      yield* start(w, rules({ when: "condition", to: ["ops"] }))
      yield* pass(2)
      w.monitors.length = 0
      yield* pass(65)
      assert.deepStrictEqual(w.ops.lines, ["firing slot-wal", "resolved slot-wal"])
    }))

  it.effect("a memory of many alerts costs one document each", () =>
    Effect.gen(function*() {
      const w = { ...world(), memory: memory() }
      yield* start(w, rules({ when: "table-quarantined", to: ["ops"] }))
      for (let n = 0; n < 200; n++) {
        w.pipeline.raise({ name: "table-quarantined", severity: "critical", table: `public.t${n}` }, 0)
      }
      yield* pass(3)
      assert.strictEqual(w.ops.told.length, 200)
      assert.strictEqual(kept(w.memory).length, 200)
    }))
})
