import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as fc from "fast-check"
import * as Outlook from "../src/Outlook.ts"
import * as Trigger from "../src/Trigger.ts"

const GiB = 1024 ** 3

/** `used` of 10 GiB, growing by `growth` bytes per second. */
const outlook = (used: number, growth?: number) =>
  Outlook.make(used, { server: undefined, budget: 10 * GiB, disk: undefined }, growth)

const trigger = (text: string): Trigger.Trigger => {
  const parsed = Trigger.parse(text)
  if (parsed === undefined) throw new Error(`${text} is no trigger`)
  return parsed
}

describe("Trigger", () => {
  it("is a share, a size or a time, as its unit says", () => {
    assert.deepStrictEqual(trigger("50%"), { _tag: "Share", share: 0.5 })
    assert.deepStrictEqual(trigger("12.5 %"), { _tag: "Share", share: 0.125 })
    assert.deepStrictEqual(trigger("10GiB"), { _tag: "Size", bytes: 10 * GiB })
    assert.deepStrictEqual(trigger("30 minutes"), { _tag: "Left", millis: 1_800_000 })
    assert.deepStrictEqual(trigger("1 hour"), { _tag: "Left", millis: 3_600_000 })
  })

  it("is nothing else", () => {
    for (
      const text of [
        "",
        "50",
        "0%",
        "101%",
        "-5%",
        "%",
        "5%%",
        "0 minutes",
        "-1 hour",
        "Infinity",
        "infinity hours",
        "soon",
        "10 GiBs",
        "1e3%",
        "50% ".repeat(2),
        "NaN%",
        "ten minutes"
      ]
    ) assert.isUndefined(Trigger.parse(text), text)
  })

  it("never throws, whatever it is given", () => {
    fc.assert(fc.property(fc.string({ unit: "binary" }), (text) => {
      Trigger.parse(text)
    }))
  })

  it("means the same after it was written out", () => {
    fc.assert(fc.property(
      fc.oneof(
        fc.integer({ min: 1, max: 10_000 }).map((share): Trigger.Trigger => ({ _tag: "Share", share: share / 10_000 })),
        fc.integer({ min: 1, max: 2 ** 50 }).map((bytes): Trigger.Trigger => ({ _tag: "Size", bytes })),
        fc.integer({ min: 1, max: 10 ** 10 }).map((millis): Trigger.Trigger => ({ _tag: "Left", millis }))
      ),
      (trigger) => {
        assert.deepStrictEqual(Trigger.parse(Trigger.format(trigger)), trigger)
      }
    ))
  })

  it.effect("says what it takes when it is given something else", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Schema.decodeUnknownEffect(Trigger.Trigger)("50"))
      assert.include(
        error.message,
        "a share of the budget (50%), a size (10GiB), or the time that is left (30 minutes)"
      )
    }))

  it("is met from its share or size on, and over only well below it", () => {
    for (const text of ["50%", "5GiB"]) {
      const at = trigger(text)
      const seen = [2, 3.9, 4.5, 5, 9].map((used) => [
        Trigger.isMet(at, outlook(used * GiB)),
        Trigger.isOver(at, outlook(used * GiB), 0.2)
      ])
      assert.deepStrictEqual(seen, [[false, true], [false, true], [false, false], [true, false], [true, false]])
    }
  })

  it("is met when as little time is left, but not while hardly anything is used", () => {
    const at = trigger("1 hour")
    const hourly = (used: number, hours: number) => outlook(used * GiB, (10 - used) * GiB / (hours * 3600))
    assert.isTrue(Trigger.isMet(at, hourly(5, 0.9)))
    assert.isFalse(Trigger.isOver(at, hourly(5, 0.9), 0.2))
    assert.isFalse(Trigger.isMet(at, hourly(5, 1.1)))
    assert.isFalse(Trigger.isOver(at, hourly(5, 1.1), 0.2))
    assert.isTrue(Trigger.isOver(at, hourly(5, 1.3), 0.2))
    assert.isFalse(Trigger.isMet(at, hourly(0.5, 0.1)))
    assert.isTrue(Trigger.isOver(at, hourly(0.5, 0.1), 0.2))
  })

  it("takes growth that isn't known yet for neither danger nor recovery", () => {
    const at = trigger("1 hour")
    assert.isFalse(Trigger.isMet(at, outlook(5 * GiB)))
    assert.isFalse(Trigger.isOver(at, outlook(5 * GiB), 0.2))
    assert.isTrue(Trigger.isOver(at, outlook(5 * GiB, 0), 0.2))
  })

  it("of a budget that isn't known is over", () => {
    const unlimited = Outlook.make(50 * GiB, { server: undefined, budget: undefined, disk: undefined }, 1e6)
    assert.isFalse(Trigger.isMet(trigger("50%"), unlimited))
    assert.isTrue(Trigger.isOver(trigger("50%"), unlimited, 0.2))
    assert.isTrue(Trigger.isOver(trigger("1 hour"), unlimited, 0.2))
    assert.isTrue(Trigger.isMet(trigger("5GiB"), unlimited))
  })
})

describe("Outlook", () => {
  it("takes the tightest of all limits, and lasts as long as growth lets it", () => {
    const of = Outlook.make(4 * GiB, { server: 20 * GiB, budget: 10 * GiB, disk: 4 * GiB }, GiB / 60)
    assert.strictEqual(of.remaining, 4 * GiB)
    assert.strictEqual(of.share, 0.5)
    assert.strictEqual(Math.round((of.left ?? 0) / 1000), 240)
    assert.strictEqual(Outlook.make(1, { server: 5, budget: undefined, disk: undefined }, -3).left, Infinity)
  })

  it("is exhausted beyond its limit, never negative", () => {
    fc.assert(fc.property(
      fc.integer({ min: 0, max: 2 ** 45 }),
      fc.option(fc.integer({ min: -(2 ** 40), max: 2 ** 45 }), { nil: undefined }),
      fc.option(fc.integer({ min: 1, max: 2 ** 45 }), { nil: undefined }),
      fc.double({ min: -1e12, max: 1e12, noNaN: true }),
      (used, server, budget, growth) => {
        const { left, remaining, share } = Outlook.make(used, { server, budget, disk: undefined }, growth)
        if (server === undefined && budget === undefined) {
          assert.isUndefined(remaining)
          assert.isUndefined(left)
          return
        }
        assert.isAtLeast(remaining ?? -1, 0)
        assert.isAtLeast(share ?? -1, 0)
        assert.isAtMost(share ?? 2, 1)
        assert.isAtLeast(left ?? -1, 0)
      }
    ))
    assert.deepInclude(Outlook.make(7, { server: -3, budget: undefined, disk: undefined }, 1), {
      remaining: 0,
      share: 1,
      left: 0
    })
  })
})
