import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Conformance from "../src/Conformance.ts"

const suite = (
  run: Conformance.Case["run"],
  skipped?: string,
  timeout: Duration.Input = "1 minute"
): Conformance.Suite => ({
  kind: "sink",
  plugin: "example",
  cases: [{ name: "writes", run, skipped: undefined }, { name: "reshapes", run, skipped }],
  timeout: Duration.fromInputUnsafe(timeout)
})

const [writes] = suite(Effect.void).cases

describe("a conformance suite", () => {
  it("runs in any test runner that has `describe` and `it`, without what can't be tried", async () => {
    const titles: Array<string> = []
    const tests: Array<() => Promise<void>> = []
    Conformance.register(suite(Effect.void, "it has no columns"), {
      describe: (title, register) => {
        titles.push(title)
        register()
      },
      it: (name, run) => {
        titles.push(name)
        tests.push(run)
      }
    })
    assert.deepStrictEqual(titles, ["example, conformance of its sink (1 of its cases can't be tried)", "writes"])
    await Promise.all(tests.map((run) => run()))
  })

  it("is reported with what can't be tried, and why, where the test runner can skip", () => {
    const tried: Array<string> = []
    const skipped: Array<string> = []
    Conformance.register(suite(Effect.void, "it has no columns"), {
      describe: (title, register) => {
        assert.strictEqual(title, "example, conformance of its sink")
        register()
      },
      it: (name) => tried.push(name),
      skip: (name) => skipped.push(name)
    })
    assert.deepStrictEqual(tried, ["writes"])
    assert.deepStrictEqual(skipped, ["reshapes (not tried: it has no columns)"])
  })

  it("rejects with what a case failed by", async () => {
    if (writes === undefined) return assert.fail("the suite has no case")
    const failed = await Conformance.promise(suite(Effect.void), {
      ...writes,
      run: Effect.fail(new Error("lost a row"))
    })
      .then(() => "passed", String)
    assert.include(failed, "lost a row")
  })

  it("gives a case up that hangs, also when what it holds can't be released", async () => {
    if (writes === undefined) return assert.fail("the suite has no case")
    const hanging = Effect.andThen(Effect.addFinalizer(() => Effect.never), Effect.never)
    const failed = await Conformance.promise(suite(Effect.void, undefined, "50 millis"), { ...writes, run: hanging })
      .then(
        () => "passed",
        String
      )
    assert.include(failed, "was not over in time")
  })
})
