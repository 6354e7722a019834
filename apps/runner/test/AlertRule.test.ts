import { assert, describe, it } from "@effect/vitest"
import * as AlertRule from "@etl-stream/runner/alerts/AlertRule"
import * as fc from "fast-check"
import { rules, type WrittenRule } from "./AlertWorld.ts"

describe("AlertRule", () => {
  it("reads limits with their units", () => {
    const above = (measure: AlertRule.MeasureName, value: number, unit: string): AlertRule.When => ({
      _tag: "Above",
      measure,
      threshold: { value, unit }
    })
    const cases: ReadonlyArray<readonly [string, AlertRule.When]> = [
      ["freshness > 5 minutes", above("freshness", 300_000, "ms")],
      ["  freshness>90 seconds ", above("freshness", 90_000, "ms")],
      ["silence > 1 hour", above("silence", 3_600_000, "ms")],
      ["lag > 1.5 GiB", above("lag", 1.5 * 1024 ** 3, "By")],
      ["lag > 100MB", above("lag", 100_000_000, "By")],
      ["condition", { _tag: "Condition" }],
      ["pipeline-failed", { _tag: "PipelineFailed" }],
      ["table-quarantined", { _tag: "TableQuarantined" }]
    ]
    for (const [text, when] of cases) assert.deepStrictEqual(AlertRule.parseWhen(text), when, text)
  })

  it("says what is wrong with anything else", () => {
    const cases: ReadonlyArray<readonly [string, RegExp]> = [
      ["", /expected `condition`/],
      ["freshness", /a limit such as/],
      ["conditon", /did you mean `condition`\?/],
      ["freshnes > 5 minutes", /did you mean `freshness`\?/],
      ["latency > 5 minutes", /a limit of `freshness`, `silence` or `lag`$/],
      ["freshness < 5 minutes", /expected `>`/],
      ["freshness >= 5 minutes", /expected `>`/],
      ["freshness => 5 minutes", /expected `>`/],
      ["freshness > 5", /a duration above 0/],
      ["freshness > -5 minutes", /a duration above 0/],
      ["freshness > 0 minutes", /a duration above 0/],
      ["freshness > Infinity", /a duration above 0/],
      ["freshness > 5 minutes or so", /a duration above 0/],
      ["freshness > 1GiB", /a duration above 0/],
      ["lag > 1000", /a size above 0/],
      ["lag > 0MiB", /a size above 0/],
      ["lag > 5 minutes", /a size above 0/],
      ["toString", /expected `condition`/],
      ["__proto__ > 1 hour", /a limit of/]
    ]
    for (const [text, says] of cases) assert.match(String(AlertRule.parseWhen(text)), says, text)
  })

  it("never throws, whatever is written", () => {
    fc.assert(fc.property(fc.string(), (text) => void AlertRule.parseWhen(text)))
  })

  it("keeps a rule's identity while what it is about stays the same", () => {
    const id = (...written: ReadonlyArray<WrittenRule>) => rules(...written).map(({ id }) => id)
    const [first] = id({ when: "freshness > 5 minutes", pipelines: ["a", "b"], to: ["ops"] })
    const [same] = id({
      when: "freshness > 300 seconds",
      for: "1 minute",
      repeat: "1 hour",
      recoverAfter: "2 minutes",
      pipelines: ["b", "a"],
      to: ["others"]
    })
    assert.strictEqual(first, same)
    const others = id(
      { when: "freshness > 5 minutes", to: ["ops"] },
      { when: "freshness > 5 minutes", to: ["others"] },
      { when: "freshness > 6 minutes", to: ["ops"] },
      { when: "condition", to: ["ops"] },
      { when: "condition", severity: "critical", to: ["ops"] },
      { when: "condition", names: ["a"], to: ["ops"] }
    )
    assert.strictEqual(new Set([first, ...others]).size, 7)
  })
})
