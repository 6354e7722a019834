import { assert, describe, it } from "@effect/vitest"
import type { Configuration } from "@etl-stream/runner/Configuration"
import type { ConfigurationChange } from "@etl-stream/runner/ConfigurationChange"
import * as TakeOver from "@etl-stream/runner/database/TakeOver"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import * as fc from "fast-check"

type Pipelines = Readonly<Record<string, number>>

/** A configuration whose pipelines are told apart by a number. */
const configurationOf = (pipelines: Pipelines): Configuration => {
  const input = {
    pipelines: Object.fromEntries(Object.entries(pipelines).map(([name, version]) => [name, { version }]))
  }
  // Nothing else of it is looked at.
  return { input } as unknown as Configuration
}

const versionsOf = ({ input }: Configuration): Pipelines =>
  Object.fromEntries(
    // As they were made.
    Object.entries(input.pipelines).map((
      [name, pipeline]
    ) => [name, (pipeline as unknown as { version: number }).version])
  )

/** Runs pipelines by numbers; each change takes `delays` milliseconds in turn. */
const supervisorOf = (initial: Pipelines, delays: ReadonlyArray<number>) => {
  const running = new Map(Object.entries(initial))
  const busy = new Set<string>()
  const problems: Array<string> = []
  const touched: Array<string> = []
  let calls = 0
  return {
    running: () => Object.fromEntries(running),
    problems,
    touched,
    reload: (next: Configuration, { added, changed, removed, unchanged }: ConfigurationChange) =>
      Effect.gen(function*() {
        const names = [...added, ...changed, ...removed, ...unchanged]
        for (const name of names) {
          if (busy.has(name)) problems.push(`${name} is changed twice at a time`)
          busy.add(name)
          touched.push(name)
        }
        const wanted = versionsOf(next)
        yield* Effect.sleep(delays[calls++ % delays.length] ?? 0)
        for (const name of added) if (running.has(name)) problems.push(`${name} is added twice`)
        for (const name of [...changed, ...removed, ...unchanged]) {
          if (!running.has(name)) problems.push(`${name} does not run`)
        }
        for (const name of [...added, ...changed]) running.set(name, wanted[name] ?? -1)
        for (const name of removed) running.delete(name)
        for (const name of names) busy.delete(name)
      })
  }
}

const pipelines = fc.dictionary(fc.constantFrom("a", "b", "c", "d"), fc.nat(3), { maxKeys: 4 })

describe("taking over configurations", () => {
  it.effect("ends with what was wanted last, one change of a pipeline at a time, whatever comes when", () =>
    Effect.promise(() =>
      fc.assert(
        fc.asyncProperty(
          pipelines,
          fc.array(fc.tuple(pipelines, fc.nat(30)), { maxLength: 12 }),
          fc.array(fc.nat(40), { minLength: 1, maxLength: 8 }),
          (initial, steps, delays) =>
            Effect.runPromise(
              Effect.gen(function*() {
                const supervisor = supervisorOf(initial, delays)
                const takeOver = yield* TakeOver.make(supervisor, configurationOf(initial))
                for (const [wanted, wait] of steps) {
                  yield* takeOver.to(configurationOf(wanted))
                  if (wait % 5 === 0) yield* takeOver.retry
                  yield* TestClock.adjust(wait)
                }
                yield* TestClock.adjust("1 minute")
                assert.deepStrictEqual(supervisor.problems, [])
                assert.deepStrictEqual(supervisor.running(), steps.at(-1)?.[0] ?? initial)
              }).pipe(Effect.scoped, Effect.provide(TestClock.layer()))
            )
        ),
        { numRuns: 200 }
      )
    ))

  it.effect("touches nothing but what is different, and starts nothing that will have changed again", () =>
    Effect.gen(function*() {
      const supervisor = supervisorOf({ a: 1, b: 1, c: 1 }, [100])
      const takeOver = yield* TakeOver.make(supervisor, configurationOf({ a: 1, b: 1, c: 1 }))
      const change = yield* takeOver.to(configurationOf({ a: 2, b: 1, d: 1 }))
      assert.deepStrictEqual(change, { unchanged: ["b"], changed: ["a"], added: ["d"], removed: ["c"] })
      for (const version of [3, 4, 5]) {
        yield* TestClock.adjust(10)
        yield* takeOver.to(configurationOf({ a: version, b: 1, d: 1 }))
      }
      yield* TestClock.adjust("1 second")
      // What is added waits for what is removed with it.
      assert.deepStrictEqual(supervisor.touched.slice(0, 2), ["a", "c"])
      assert.deepStrictEqual(supervisor.touched.slice(2).sort(), ["a", "d"])
      assert.deepStrictEqual(supervisor.running(), { a: 5, b: 1, d: 1 })
    }))

  it.effect("a change that breaks is told, and the next one is made", () =>
    Effect.gen(function*() {
      const supervisor = supervisorOf({}, [0])
      let breaks = true
      const takeOver = yield* TakeOver.make({
        reload: (next, change) =>
          Effect.suspend(() => breaks ? Effect.die(new Error("it broke")) : supervisor.reload(next, change))
      }, configurationOf({}))
      yield* takeOver.to(configurationOf({ a: 1 }))
      yield* TestClock.adjust("1 second")
      breaks = false
      yield* takeOver.to(configurationOf({ b: 1 }))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(supervisor.running(), { b: 1 })
    }))
})
