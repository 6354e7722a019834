import { assert, describe, it } from "@effect/vitest"
import * as Claims from "@etl-stream/runner/Claims"
import { double } from "./SupervisorFixture.ts"

describe("Claims", () => {
  it("overlap when one names what the other does, wildcards included", () => {
    const cases = [
      [["p slot a"], ["p slot a"], true],
      [["p slot a"], ["p slot b"], false],
      [["p table public.*"], ["p table public.orders"], true],
      [["p table public.orders"], ["p table public.*"], true],
      [["p table public.*"], ["p table pub*"], true],
      [["p table public.*"], ["p table sales.*"], false],
      [["p *"], ["q slot a"], false],
      [[], ["p *"], false]
    ] as const
    for (const [some, others, expected] of cases) {
      assert.strictEqual(Claims.overlap(some, others), expected, `${some} and ${others}`)
    }
  })

  it("of a plugin that says nothing are everything of its kind", () => {
    const silent = (name: string) => Claims.of(double(name, { claims: undefined }).configuration, "/")
    assert.isTrue(Claims.overlap(silent("one"), silent("two")))
    const telling = (name: string) => Claims.of(double(name).configuration, "/")
    assert.isFalse(Claims.overlap(telling("one"), telling("two")))
  })
})
