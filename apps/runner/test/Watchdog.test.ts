import { assert, describe, it } from "@effect/vitest"
import * as Progress from "@etl-stream/core/Progress"
import { Watchdog } from "@etl-stream/runner/Watchdog"
import * as Duration from "effect/Duration"

/** Looks every second until `seconds` have passed, and gives the first stall and when it came. */
const watch = (
  seconds: number,
  step: (progress: Progress.Progress, second: number) => void,
  options: { readonly heartbeat?: Duration.Duration; readonly excused?: (second: number) => boolean } = {}
) => {
  const progress = Progress.make("p")
  progress.begin(0)
  progress.phase = "streaming"
  const watchdog = new Watchdog(Duration.seconds(10))
  watchdog.begin(0)
  for (let second = 0; second <= seconds; second++) {
    step(progress, second)
    const excused = options.excused?.(second) ?? false
    const stall = watchdog.look(progress, { now: second * 1000, heartbeat: options.heartbeat, excused })
    if (stall !== undefined) return { second, ...stall, watchdog, progress }
  }
  return undefined
}

describe("Watchdog", () => {
  it("leaves a pipeline alone that has nothing to do, or whose work moves", () => {
    assert.isUndefined(watch(1000, () => {}))
    assert.isUndefined(watch(1000, (progress, second) => {
      progress.receivedPosition = BigInt(second + 100)
      progress.acknowledgedPosition = BigInt(second)
      progress.memory = 1
    }))
    assert.isUndefined(watch(1000, (progress, second) => {
      progress.phase = "snapshot"
      progress.table("public.a").snapshotRows = Math.floor(second / 9)
    }))
  })

  it("notices that nothing moves: a start, a copy, changes", () => {
    for (
      const step of [
        (progress: Progress.Progress) => progress.phase = "starting",
        (progress: Progress.Progress) => progress.phase = "snapshot",
        (progress: Progress.Progress) => progress.memory = 1,
        (progress: Progress.Progress) => progress.receivedPosition = 1n
      ]
    ) assert.deepInclude(watch(1000, step), { second: 10, restart: true })
  })

  it("notices silence of a source that promised to be heard, and of no other", () => {
    const heard = (until: number) => (progress: Progress.Progress, second: number) => {
      if (second <= until) progress.receivedAt = second * 1000
    }
    assert.deepInclude(watch(1000, heard(50), { heartbeat: Duration.seconds(1) }), { second: 60, restart: true })
    assert.deepInclude(watch(1000, heard(50), { heartbeat: Duration.seconds(10) }), { second: 80 })
    assert.isUndefined(watch(1000, heard(50)))
  })

  it("only tells when changes move but none becomes durable everywhere", () => {
    const found = watch(1000, (progress, second) => {
      progress.receivedPosition = BigInt(second + 1)
      progress.table("public.a").changes = second
    })
    assert.deepInclude(found, { second: 10, restart: false })
  })

  it("leaves a run going that keeps trying to reach its sink, and not one that hangs in an attempt", () => {
    const step = (until: number) => (progress: Progress.Progress, second: number) => {
      progress.receivedPosition = 5n
      progress.deliveries = Math.floor(Math.min(second, until) / 9)
    }
    const seen: Array<boolean> = []
    const progress = Progress.make("p")
    const watchdog = new Watchdog(Duration.seconds(10))
    progress.begin(0)
    progress.phase = "streaming"
    watchdog.begin(0)
    for (let second = 0; second <= 60; second++) {
      step(45)(progress, second)
      const stall = watchdog.look(progress, { now: second * 1000, heartbeat: undefined, excused: false })
      seen.push(stall?.restart === true)
    }
    assert.strictEqual(seen.indexOf(true), 55)
  })

  it("excuses what has a reason", () => {
    const stuck = (progress: Progress.Progress) => progress.memory = 1
    assert.deepInclude(watch(1000, stuck, { excused: (second) => second < 500 }), { second: 509 })
  })

  it("gives more time after each restart that moved nothing, up to a limit, until something moves", () => {
    const found = watch(1000, (progress) => progress.receivedPosition = 5n)
    if (found === undefined) throw new Error("it is stuck")
    const { progress, watchdog } = found
    const limits: Array<number> = []
    for (let restart = 0; restart < 9; restart++) {
      watchdog.restarted()
      watchdog.begin(0)
      limits.push(watchdog.limit() / 10_000)
    }
    assert.deepStrictEqual(limits, [2, 4, 8, 16, 32, 64, 64, 64, 64])
    assert.isTrue(watchdog.isStalled())
    progress.acknowledgedPosition = 1n
    watchdog.look(progress, { now: 1, heartbeat: undefined, excused: false })
    assert.strictEqual(watchdog.limit(), 10_000)
    assert.isFalse(watchdog.isStalled())
  })
})
