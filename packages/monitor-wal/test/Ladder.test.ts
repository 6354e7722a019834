import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as References from "effect/References"
import * as Scope from "effect/Scope"
import { failure, GiB, memory, pass, Pipeline, Server, watch } from "./Scripted.ts"

const scenario = (name: string, test: Effect.Effect<void, unknown, Scope.Scope>) =>
  it.effect(name, () => Effect.provideService(test, References.MinimumLogLevel, "None"))

const actions = [
  { at: "50%", do: "alert" },
  { at: "60%", do: "pause-copies" },
  { at: "70%", do: "spool" },
  { at: "90%", do: "quarantine" }
]

/** Thresholds that are never met, so that only actions show. */
const options = {
  slots: [{ slot: "shop", pipeline: "shop" }],
  budget: "100GiB",
  thresholds: { warning: "1TiB", danger: "1TiB" },
  actions,
  wait: "2 minutes"
}

/** The conditions of actions, without what else is raised. */
const ofActions = (raised: ReadonlyArray<string>) => raised.filter((name) => name.startsWith("wal-action"))

describe("actions", () => {
  scenario(
    "are taken once each, in their order, as the budget runs out, and undone in the opposite one",
    Effect.gen(function*() {
      const server = new Server()
      const pipeline = new Pipeline()
      const { conditions, monitor, raised } = yield* watch(server, options, { pipelines: [pipeline] })
      const states = () =>
        JSON.parse(JSON.stringify(monitor.status())).slots[0].actions.map((action: { do: string; state: string }) =>
          `${action.do} ${action.state}`
        )
      yield* pass(30)
      assert.deepStrictEqual(ofActions(raised()), [])
      server.write(55 * GiB)
      yield* pass(30)
      assert.deepStrictEqual(ofActions(raised()), ["wal-action-alert shop at 50 % of the budget"])
      assert.deepStrictEqual(pipeline.asked, [])
      server.write(10 * GiB)
      yield* pass(30)
      assert.deepStrictEqual(pipeline.asked, ["pause"])
      server.write(10 * GiB)
      yield* pass(30)
      assert.deepStrictEqual(pipeline.asked, ["pause", "spool"])
      assert.deepStrictEqual(states(), ["alert done", "pause-copies done", "spool done", "quarantine waiting"])
      assert.deepStrictEqual(ofActions(raised()), [
        "wal-action-alert shop at 50 % of the budget",
        "wal-action-pause-copies shop at 60 % of the budget",
        "wal-action-spool shop at 70 % of the budget"
      ])
      assert.include(conditions().at(-1)?.message ?? "", "75 % of its budget: changes are kept on disk here")
      yield* pass(300)
      assert.deepStrictEqual(pipeline.asked, ["pause", "spool"])
      // Below every trigger, but the copies' and the alert's by less than counts.
      server.catchUp(49 * GiB)
      yield* pass(100)
      assert.deepStrictEqual(pipeline.asked, ["pause", "spool", "unspool"])
      server.catchUp()
      yield* pass(60)
      assert.deepStrictEqual(pipeline.asked, ["pause", "spool", "unspool"])
      yield* pass(20)
      assert.deepStrictEqual(pipeline.asked, ["pause", "spool", "unspool", "resume"])
      assert.deepStrictEqual(ofActions(raised()), [])
      assert.deepStrictEqual(states(), ["alert waiting", "pause-copies waiting", "spool waiting", "quarantine waiting"])
      // It happens again: everything is done again.
      server.write(65 * GiB)
      yield* pass(10)
      assert.strictEqual(pipeline.asked.at(-1), "pause")
    })
  )

  scenario(
    "all that are due are taken in one go, but a quarantine gives them time first",
    Effect.gen(function*() {
      const server = new Server()
      const pipeline = new Pipeline()
      pipeline.blocking = ["public.slow", "public.slower"]
      yield* watch(server, options, { pipelines: [pipeline] })
      server.write(95 * GiB)
      yield* pass(10)
      assert.deepStrictEqual(pipeline.asked, ["pause", "spool"])
      yield* pass(110)
      assert.deepStrictEqual(pipeline.asked, ["pause", "spool"])
      yield* pass(20)
      assert.deepStrictEqual(pipeline.asked, ["pause", "spool", "quarantine public.slow"])
    })
  )

  scenario(
    "quarantines set one table aside at a time, wait to see whether it helps, and are never undone",
    Effect.gen(function*() {
      const server = new Server()
      const pipeline = new Pipeline()
      pipeline.blocking = ["public.a", "public.b", "public.c"]
      const { conditions, raised } = yield* watch(
        server,
        { ...options, actions: [{ at: "90%", do: "quarantine" }] },
        { pipelines: [pipeline] }
      )
      server.write(92 * GiB)
      yield* pass(10)
      assert.deepStrictEqual(pipeline.asked, ["quarantine public.a"])
      assert.strictEqual(conditions().at(-1)?.severity, "critical")
      yield* pass(110)
      assert.deepStrictEqual(pipeline.asked, ["quarantine public.a"])
      yield* pass(20)
      assert.deepStrictEqual(pipeline.asked, ["quarantine public.a", "quarantine public.b"])
      assert.include(conditions().at(-1)?.message ?? "", "(public.a, public.b)")
      // That helps, slowly: the next one gets time as long as it does.
      yield* pass(600, () => {
        const restart = server.slots.get("shop")?.restart ?? 0n
        server.change("shop", { restart: restart + 1000n })
      })
      assert.deepStrictEqual(pipeline.asked, ["quarantine public.a", "quarantine public.b"])
      // And then no longer.
      server.write(GiB)
      yield* pass(260)
      assert.deepStrictEqual(pipeline.asked, ["quarantine public.a", "quarantine public.b", "quarantine public.c"])
      server.catchUp()
      yield* pass(100)
      assert.deepStrictEqual(pipeline.asked.slice(3), [])
      assert.deepStrictEqual(ofActions(raised()), [])
    })
  )

  scenario(
    "a quarantine that takes long holds nothing up, and none is asked for beside it",
    Effect.gen(function*() {
      const server = new Server()
      const pipeline = new Pipeline()
      pipeline.blocking = ["public.a", "public.b"]
      const settled = yield* Deferred.make<void>()
      pipeline.quarantining = Deferred.await(settled)
      const { raised } = yield* watch(
        server,
        { ...options, actions: [{ at: "90%", do: "quarantine" }, { at: "95%", do: "spool" }] },
        { pipelines: [pipeline] }
      )
      server.write(92 * GiB)
      yield* pass(400)
      assert.deepStrictEqual(pipeline.asked, ["quarantine public.a"])
      assert.deepStrictEqual(ofActions(raised()), [])
      server.write(5 * GiB)
      yield* pass(10)
      assert.deepStrictEqual(pipeline.asked, ["quarantine public.a", "spool"])
      yield* Deferred.succeed(settled, undefined)
      yield* pass(20)
      assert.deepStrictEqual(ofActions(raised()), [
        "wal-action-spool shop at 95 % of the budget",
        "wal-action-quarantine shop at 90 % of the budget"
      ])
    })
  )

  scenario(
    "one that fails is told, tried again later, and holds none of the others up",
    Effect.gen(function*() {
      const server = new Server()
      const pipeline = new Pipeline()
      pipeline.hasSpool = false
      pipeline.blocking = ["public.a"]
      const { conditions, monitor, raised } = yield* watch(server, options, { pipelines: [pipeline] })
      server.write(95 * GiB)
      yield* pass(10)
      assert.deepStrictEqual(pipeline.asked, ["pause", "spool"])
      assert.include(
        conditions().find(({ name }) => name === "wal-action-failed")?.message ?? "",
        "The action spool about the slot shop failed: The pipeline has no spool"
      )
      assert.deepInclude(JSON.parse(JSON.stringify(monitor.status())).slots[0].actions[2], {
        do: "spool",
        state: "failed",
        why: "The pipeline has no spool"
      })
      yield* pass(130)
      assert.deepStrictEqual(pipeline.asked, ["pause", "spool", "spool", "quarantine public.a"])
      pipeline.hasSpool = true
      yield* pass(130)
      assert.isTrue(pipeline.spooling)
      assert.notInclude(raised().join(), "wal-action-failed")
    })
  )

  scenario(
    "one that can't be undone is told, and tried again until it is",
    Effect.gen(function*() {
      const server = new Server()
      const pipeline = new Pipeline()
      pipeline.endsSpooling = false
      const { conditions, raised } = yield* watch(server, options, { pipelines: [pipeline] })
      server.write(75 * GiB)
      yield* pass(10)
      server.catchUp()
      yield* pass(100)
      assert.deepStrictEqual(pipeline.asked, ["pause", "spool", "unspool", "resume"])
      assert.include(conditions().map(({ name }) => name), "wal-action-failed")
      assert.include(raised(), "wal-action-spool shop at 70 % of the budget")
      yield* pass(100)
      assert.deepStrictEqual(pipeline.asked.slice(4), ["unspool"])
      pipeline.endsSpooling = true
      yield* pass(130)
      assert.isFalse(pipeline.spooling)
      assert.deepStrictEqual(ofActions(raised()), [])
    })
  )

  scenario(
    "fail where no pipeline of this process reads the slot, and where no table holds it back",
    Effect.gen(function*() {
      const server = new Server()
      const { conditions } = yield* watch(server, options)
      server.write(95 * GiB)
      yield* pass(10)
      const failures = () =>
        conditions().filter(({ name }) => name === "wal-action-failed").map(({ message }) => message)
      assert.lengthOf(failures(), 3)
      assert.include(failures()[0] ?? "", "the pipeline shop doesn't run in this process")
      const idle = new Pipeline()
      const other = yield* watch(server, { ...options, actions: [{ at: "90%", do: "quarantine" }] }, {
        pipelines: [idle]
      })
      assert.include(
        other.conditions().find(({ name }) => name === "wal-action-failed")?.message ?? "",
        "no table holds the slot back"
      )
      assert.deepStrictEqual(idle.asked, [])
    })
  )

  scenario(
    "at a predicted time wait until the prediction has lasted",
    Effect.gen(function*() {
      const server = new Server()
      const pipeline = new Pipeline()
      yield* watch(server, { ...options, actions: [{ at: "1 hour", do: "pause-copies" }] }, { pipelines: [pipeline] })
      server.write(20 * GiB)
      // 80 GiB at 2 a minute.
      yield* pass(80, () => server.write(GiB / 3))
      assert.deepStrictEqual(pipeline.asked, [])
      yield* pass(60, () => server.write(GiB / 3))
      assert.deepStrictEqual(pipeline.asked, ["pause"])
    })
  )

  scenario(
    "leave alone what somebody else had asked for",
    Effect.gen(function*() {
      const server = new Server()
      const pipeline = new Pipeline()
      pipeline.paused = true
      yield* watch(server, options, { pipelines: [pipeline] })
      server.write(65 * GiB)
      yield* pass(10)
      server.catchUp()
      yield* pass(100)
      assert.deepStrictEqual(pipeline.asked, [])
      assert.isTrue(pipeline.paused)
    })
  )

  scenario(
    "are known after a restart: asked for again of pipelines that have begun anew, told no second time, undone all the same",
    Effect.gen(function*() {
      const server = new Server()
      const state = memory()
      const first = yield* Scope.make()
      const before = yield* watch(server, options, { state, pipelines: [new Pipeline()] }).pipe(Scope.provide(first))
      server.write(75 * GiB)
      yield* pass(30)
      const told = before.conditions().map(({ since }) => since)
      yield* Scope.close(first, Exit.void)
      const pipeline = new Pipeline()
      const after = yield* watch(server, options, { state, pipelines: [pipeline] })
      yield* pass(30)
      assert.deepStrictEqual(pipeline.asked, ["pause", "spool"])
      assert.deepStrictEqual(after.conditions().map(({ since }) => since), told)
      server.catchUp()
      yield* pass(80)
      assert.deepStrictEqual(pipeline.asked, ["pause", "spool", "unspool", "resume"])
      assert.deepStrictEqual(ofActions(after.raised()), [])
      assert.deepStrictEqual([pipeline.paused, pipeline.spooling], [false, false])
    })
  )

  scenario(
    "are taken back when the monitor ends, since nobody would undo them, and taken again when it is there again",
    Effect.gen(function*() {
      const server = new Server()
      const state = memory()
      const pipeline = new Pipeline()
      const scope = yield* Scope.make()
      yield* watch(server, options, { state, pipelines: [pipeline] }).pipe(Scope.provide(scope))
      server.write(75 * GiB)
      yield* pass(30)
      assert.deepStrictEqual([pipeline.paused, pipeline.spooling], [true, true])
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual([pipeline.paused, pipeline.spooling], [false, false])
      yield* watch(server, options, { state, pipelines: [pipeline] })
      assert.deepStrictEqual([pipeline.paused, pipeline.spooling], [true, true])
    })
  )

  scenario(
    "that are no longer configured are forgotten with their conditions",
    Effect.gen(function*() {
      const server = new Server()
      const state = memory()
      const first = yield* Scope.make()
      yield* watch(server, options, { state, pipelines: [new Pipeline()] }).pipe(Scope.provide(first))
      server.write(75 * GiB)
      yield* pass(30)
      yield* Scope.close(first, Exit.void)
      const pipeline = new Pipeline()
      const { raised } = yield* watch(server, { ...options, actions: [] }, { state, pipelines: [pipeline] })
      yield* pass(300)
      assert.deepStrictEqual(raised(), [])
      assert.deepStrictEqual(pipeline.asked, [])
    })
  )

  scenario(
    "stay as they are while the slot is lost or away, and are undone when there is one that keeps little",
    Effect.gen(function*() {
      const server = new Server()
      const pipeline = new Pipeline()
      const { raised } = yield* watch(server, options, { pipelines: [pipeline] })
      server.write(75 * GiB)
      yield* pass(30)
      server.change("shop", { status: "lost", invalidation: "wal_removed", restart: undefined })
      yield* pass(400)
      assert.include(raised(), "slot-lost shop")
      assert.lengthOf(ofActions(raised()), 3)
      assert.deepStrictEqual(pipeline.asked, ["pause", "spool"])
      server.slots.delete("shop")
      yield* pass(400)
      assert.include(raised(), "slot-missing shop")
      assert.lengthOf(ofActions(raised()), 3)
      server.slots.set("shop", server.slot("shop"))
      yield* pass(80)
      assert.deepStrictEqual(pipeline.asked, ["pause", "spool", "unspool", "resume"])
    })
  )

  scenario(
    "a stuck pipeline doesn't stop the monitor",
    Effect.gen(function*() {
      const server = new Server()
      const pipeline = new Pipeline()
      const control = { ...pipeline.control, pauseCopies: () => Effect.never }
      const stuck = { monitored: () => ({ ...pipeline.monitored(), control }) }
      const { conditions } = yield* watch(server, options, {
        // Only what is asked of pipelines is used.
        pipelines: [Object.assign(new Pipeline(), stuck)]
      })
      server.write(75 * GiB)
      yield* pass(60)
      assert.deepStrictEqual(pipeline.asked, ["spool"])
      assert.include(
        conditions().find(({ name }) => name === "wal-action-failed")?.message ?? "",
        "pause-copies about the slot shop failed: the pipeline doesn't answer"
      )
    })
  )

  scenario(
    "a quarantine that fails says why",
    Effect.gen(function*() {
      const server = new Server()
      const pipeline = new Pipeline()
      pipeline.blocking = ["public.a"]
      pipeline.quarantining = Effect.fail(failure("Missing", "No such table runs."))
      const { conditions } = yield* watch(
        server,
        { ...options, actions: [{ at: "90%", do: "quarantine" }] },
        { pipelines: [pipeline] }
      )
      server.write(95 * GiB)
      yield* pass(10)
      assert.include(
        conditions().at(-1)?.message ?? "",
        "The action quarantine about the slot shop failed: No such table runs"
      )
    })
  )

  scenario(
    "of random loads, failures and restarts never contradict each other, and leave nothing behind in the end",
    Effect.gen(function*() {
      for (let seed = 1; seed <= 12; seed++) {
        let random = seed * 7919
        const below = (n: number) => {
          random = (random * 1103515245 + 12345) % 2 ** 31
          return Math.floor(random / 2 ** 31 * n)
        }
        const server = new Server()
        const state = memory()
        const pipeline = new Pipeline()
        const quarantined: Array<number> = []
        const begin = Effect.gen(function*() {
          const scope = yield* Scope.make()
          return {
            scope,
            ...(yield* watch(server, options, { state, pipelines: [pipeline] }).pipe(Scope.provide(scope)))
          }
        })
        let monitor = yield* begin
        for (let look = 0; look < 80; look++) {
          const kept = Number(server.lsn - (server.slots.get("shop")?.restart ?? 0n)) / GiB
          switch (below(8)) {
            case 0:
              server.catchUp(below(Math.ceil(kept + 1)) * GiB)
              break
            case 1:
              pipeline.hasSpool = !pipeline.hasSpool
              break
            case 2:
              server.down = server.down === undefined ? failure("Unreachable", "away") : undefined
              break
            case 3:
              yield* Scope.close(monitor.scope, Exit.void)
              assert.isFalse(pipeline.paused, `seed ${seed}`)
              assert.isFalse(pipeline.spooling, `seed ${seed}`)
              monitor = yield* begin
              break
            default:
              server.write(below(20) * GiB)
          }
          pipeline.blocking = ["public.a", "public.b", "public.c", "public.d"].slice(below(4))
          const before = pipeline.asked.filter((one) => one.startsWith("quarantine")).length
          yield* pass(10 * (1 + below(4)))
          const after = pipeline.asked.filter((one) => one.startsWith("quarantine")).length
          assert.isAtMost(after - before, 1, `seed ${seed}`)
          if (after > before) quarantined.push(yield* Clock.currentTimeMillis)
        }
        for (const [index, at] of quarantined.entries()) {
          // Looks are ten seconds apart, and what is noted is the end of up to four of them.
          if (index > 0) assert.isAtLeast(at - (quarantined[index - 1] ?? 0), 80_000, `seed ${seed}`)
        }
        server.down = undefined
        pipeline.hasSpool = true
        server.catchUp()
        yield* pass(400)
        assert.deepStrictEqual(ofActions(monitor.raised()), [], `seed ${seed}`)
        assert.deepStrictEqual([pipeline.paused, pipeline.spooling], [false, false], `seed ${seed}`)
        const copies = pipeline.asked.filter((one) => one === "pause" || one === "resume")
        assert.isTrue(
          copies.every((one, index) => one === (index % 2 === 0 ? "pause" : "resume")),
          `seed ${seed}: ${copies}`
        )
        yield* Scope.close(monitor.scope, Exit.void)
      }
    })
  )
})
