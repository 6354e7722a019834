import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { Growth } from "../src/Growth.ts"
import { LsnHistory } from "../src/LsnHistory.ts"

const minutes = 60_000
const every = 10_000

/** The rate after samples every ten seconds of what `value` gives. */
const rateOf = (samples: number, value: (index: number) => number, window = 10 * minutes): number | undefined => {
  const growth = new Growth(window)
  for (let index = 0; index < samples; index++) growth.add(index * every, value(index))
  return growth.rate()
}

describe("Growth", () => {
  it("is the rate of what grows evenly, up or down, and unknown before there are enough samples", () => {
    assert.isUndefined(rateOf(3, (index) => index * 1000))
    assert.strictEqual(rateOf(4, (index) => index * 1000), 100)
    fc.assert(
      fc.property(fc.integer({ min: -1_000_000, max: 1_000_000 }), fc.integer({ min: 4, max: 300 }), (rate, count) => {
        assert.closeTo(rateOf(count, (index) => index * rate) ?? Number.NaN, rate / 10, Math.abs(rate) * 1e-9)
      })
    )
  })

  it("isn't moved by single jumps, as a mean would be", () => {
    const spiked = rateOf(60, (index) => index * 1000 + (index === 59 || index === 20 ? 1e9 : 0))
    assert.closeTo(spiked ?? 0, 100, 60)
  })

  it("doesn't take the saw-tooth of a reader that confirms in steps for growth", () => {
    const tooth = rateOf(60, (index) => (index % 3) * 10_000_000)
    assert.closeTo(tooth ?? Number.NaN, 0, 100_000)
  })

  it("notices soon what began to grow just now, and what has grown through a moment's rest", () => {
    const late = rateOf(60, (index) => index < 50 ? 0 : (index - 49) * 1e6)
    assert.isAtLeast(late ?? 0, 50_000)
    const resting = rateOf(60, (index) => Math.min(index, 50) * 1e6)
    assert.isAtLeast(resting ?? 0, 90_000)
  })

  it("forgets what is older than its window, and keeps few samples however many come", () => {
    assert.strictEqual(rateOf(200, (index) => index < 130 ? index * 1e9 : 130e9), 0)
    const growth = new Growth(10 * minutes)
    const begun = performance.now()
    for (let at = 0; at < 60 * minutes; at += 100) growth.add(at, at)
    const rate = growth.rate()
    assert.closeTo(rate ?? 0, 1000, 1)
    assert.isBelow(performance.now() - begun, 5000)
  })
})

describe("LsnHistory", () => {
  it("tells how long ago a position was written, and that it was before all that is known", () => {
    const history = new LsnHistory()
    assert.isUndefined(history.lag(5n, 0))
    for (let index = 0; index <= 6; index++) history.add(index * every, BigInt(1000 + index * 100))
    assert.deepStrictEqual(history.lag(1600n, 60_000), { millis: 0, atLeast: false })
    assert.deepStrictEqual(history.lag(1300n, 60_000), { millis: 30_000, atLeast: false })
    assert.deepStrictEqual(history.lag(1350n, 60_000), { millis: 25_000, atLeast: false })
    assert.deepStrictEqual(history.lag(900n, 60_000), { millis: 60_000, atLeast: true })
  })

  it("knows a pause of writing from the time after it", () => {
    const history = new LsnHistory()
    history.add(0, 100n)
    for (let at = every; at < 100 * every; at += every) history.add(at, 200n)
    history.add(100 * every, 300n)
    // What follows 200 was written between the last look that saw 200 and the one that saw 300.
    assert.deepStrictEqual(history.lag(200n, 100 * every), { millis: every, atLeast: false })
    assert.deepStrictEqual(history.lag(300n, 100 * every), { millis: 0, atLeast: false })
  })

  it("forgets a log that is another one: its end went back", () => {
    const history = new LsnHistory()
    history.add(0, 1000n)
    history.add(1000, 2000n)
    history.add(2000, 500n)
    assert.deepStrictEqual(history.lag(400n, 3000), { millis: 1000, atLeast: true })
  })

  it("reaches far back with few samples, and is never off by more than what it left out", () => {
    const history = new LsnHistory()
    const looks = 20_000
    for (let index = 0; index <= looks; index++) history.add(index * every, BigInt(index))
    const now = looks * every
    for (const behind of [0, 1, 10, 100, 1000, 10_000]) {
      const lag = history.lag(BigInt(looks - behind), now)
      assert.isFalse(lag?.atLeast)
      assert.closeTo(lag?.millis ?? -1, behind * every, 1)
    }
    const kept = history.thinned(64)
    assert.isAtMost(kept.length, 64)
    assert.deepStrictEqual([kept.at(0)?.lsn, kept.at(-1)?.lsn], [0n, BigInt(looks)])
  })

  it("gives lags that never grow with the position", () => {
    fc.assert(fc.property(
      fc.array(fc.tuple(fc.integer({ min: 1, max: 60_000 }), fc.integer({ min: 0, max: 1_000_000 })), {
        minLength: 2,
        maxLength: 400
      }),
      fc.array(fc.integer({ min: 0, max: 400_000_000 }), { minLength: 2, maxLength: 20 }),
      (steps, positions) => {
        const history = new LsnHistory()
        let at = 0
        let lsn = 0n
        for (const [wait, written] of steps) {
          at += wait
          lsn += BigInt(written)
          history.add(at, lsn)
        }
        const lags = positions.sort((a, b) => a - b).map((position) => history.lag(BigInt(position), at)?.millis ?? -1)
        for (const [index, lag] of lags.entries()) {
          assert.isAtLeast(lag, 0)
          assert.isAtMost(lag, lags[index - 1] ?? Infinity)
        }
      }
    ))
  })
})
