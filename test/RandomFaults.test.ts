/**
 * Faults at random moments: whatever is killed, cut off or stalled, every row arrives once.
 *
 * The seed decides the workload and the faults, though not their exact moments; a failure names it, `FAULTS_SEED` sets it.
 */
import { describe, it } from "@effect/vitest"
import type * as ChildProcess from "@etl-stream/testkit/ChildProcess"
import * as FaultProxy from "@etl-stream/testkit/FaultProxy"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { randomInt } from "node:crypto"
import * as Shop from "../demo/Shop.ts"
import * as Workload from "../demo/Workload.ts"
import * as Landscape from "./Landscape.ts"

const rows = 15_000
const rounds = 12

/** Whole numbers from a seed. */
const randomOf = (seed: number) => {
  let state = seed
  return (below: number): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff
    return (state >>> 8) % below
  }
}

/** The runner under a service manager: started again whenever it is not running. */
const supervised = (start: Effect.Effect<ChildProcess.ChildProcess, ChildProcess.ChildProcessError, Scope.Scope>) =>
  Effect.map(start, (first) => {
    let runner = first
    const revive = Effect.gen(function*() {
      if (!runner.isRunning()) runner = yield* start
    })
    return {
      revive,
      end: (signal: NodeJS.Signals) => Effect.andThen(Effect.suspend(() => runner.kill(signal, 45_000)), revive)
    }
  })

describe("random faults", () => {
  it.live("lose nothing and double nothing", () =>
    Effect.gen(function*() {
      const seed = Number(process.env["FAULTS_SEED"] ?? randomInt(1_000_000))
      const random = randomOf(seed)
      const history: Array<string> = [`FAULTS_SEED=${seed}`]

      // With several threads rows come in another order each time, and with rare heartbeats more of them again.
      const landscape = yield* Landscape.make({ threads: 3 })
      const { postgres, warehouse } = landscape
      const size = Shop.sizeOf(rows)
      yield* Shop.create(postgres, size)
      const workload = yield* Workload.start({ url: postgres.url, size, clerks: 2, pause: "30 millis", seed })
      const proxy = yield* FaultProxy.start(postgres)
      const file = landscape.write(
        landscape.configuration({ through: proxy, source: { heartbeat: { every: "10 seconds" } } })
      )
      const runner = yield* supervised(landscape.run(file, ["--drain-timeout", "10 seconds"]))

      const forAWhile = Effect.sleep("1500 millis")
      const faults = {
        "kill the runner": runner.end("SIGKILL"),
        "kill the runner again": Effect.andThen(runner.end("SIGKILL"), runner.end("SIGKILL")),
        "stop the runner": runner.end("SIGTERM"),
        "kill the warehouse": Effect.andThen(warehouse.kill, warehouse.restart),
        "kill the warehouse for a while": Effect.andThen(warehouse.kill, Effect.andThen(forAWhile, warehouse.restart)),
        "cut the connections to PostgreSQL": Effect.asVoid(proxy.cut),
        "stall PostgreSQL": Effect.andThen(proxy.stall, Effect.andThen(forAWhile, proxy.resume)),
        "turn PostgreSQL away": Effect.andThen(proxy.refuse, Effect.andThen(forAWhile, proxy.resume)),
        "end the walsender": Effect.asVoid(
          postgres.query("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active")
        )
      }
      const names = Object.keys(faults) as ReadonlyArray<keyof typeof faults> // the object has these keys only

      yield* Effect.gen(function*() {
        for (let round = 0; round < rounds; round++) {
          yield* Effect.sleep(200 + random(2500))
          const name = names[random(names.length)] ?? "kill the runner"
          history.push(name)
          yield* faults[name]
          yield* runner.revive
        }
        yield* workload.pause
        const mirror = yield* landscape.mirror
        yield* Landscape.caughtUp(landscape, mirror, Shop.tables, 120_000).pipe(
          Effect.raceFirst(Effect.andThen(Effect.repeat(runner.revive, Schedule.spaced("1 second")), Effect.never))
        )
        yield* Landscape.assertSame(landscape, mirror, Shop.tables)
      }).pipe(
        Effect.raceFirst(workload.failed),
        Effect.tapCause(() => Effect.sync(() => console.error(history.join("\n  "))))
      )
    }), 300_000)
})
