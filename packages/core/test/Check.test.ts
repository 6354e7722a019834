import { assert, describe, it } from "@effect/vitest"
import { type Check, evaluate } from "../src/Check.ts"
import { critical, info, warning } from "../src/Finding.ts"

const even: Check<{ readonly numbers: ReadonlyArray<number> }> = {
  name: "even-numbers",
  looksAt: "every number is even",
  severities: ["critical", "warning"],
  *find({ numbers }) {
    for (const number of numbers) {
      if (number === 1) yield critical("Rejected", "one is odd", "Add one.", { sql: ["SELECT 1 + 1;"], table: "a.b" })
      else if (number % 2 === 1) yield warning(`${number} is odd`, "Double it.")
    }
  }
}

describe("Check", () => {
  it("gives its name to everything that it finds, in order", () => {
    assert.deepStrictEqual(evaluate([even], { numbers: [3, 2, 1] }), [
      { check: "even-numbers", severity: "warning", message: "3 is odd", remedy: "Double it.", sql: [] },
      {
        check: "even-numbers",
        severity: "critical",
        reason: "Rejected",
        message: "one is odd",
        remedy: "Add one.",
        sql: ["SELECT 1 + 1;"],
        table: "a.b"
      }
    ])
  })

  it("says that all is in order when it finds nothing, so that people see what was looked at", () => {
    assert.deepStrictEqual(evaluate([even], { numbers: [2] }), [
      { check: "even-numbers", severity: "ok", message: "every number is even", remedy: "", sql: [] }
    ])
    assert.deepStrictEqual(info("so it is"), { severity: "info", message: "so it is", remedy: "", sql: [] })
  })
})
