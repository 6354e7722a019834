import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as Alarm from "../src/Alarm.ts"

const sustained = { raise: 60, clear: 60 }
const on = { met: true, over: false }
const off = { met: false, over: true }
const between = { met: false, over: false }

/** Whether it is raised after each of the things seen, ten apart. */
const walk = (seen: ReadonlyArray<Alarm.Seen>): ReadonlyArray<boolean> => {
  let alarm: Alarm.Alarm | undefined
  return seen.map((one, index) => {
    alarm = Alarm.next(alarm, one, index * 10, sustained)
    return alarm?.raised === true
  })
}
const times = <A>(count: number, value: A): ReadonlyArray<A> => Array.from({ length: count }, () => value)

describe("Alarm", () => {
  it("is raised once it has been met for long enough without a break", () => {
    assert.deepStrictEqual(walk(times(8, on)), [...times(6, false), true, true])
    assert.notInclude(walk([...times(6, on), between, ...times(6, on), off]), true)
  })

  it("is cleared once it has been over for long enough without a break, and hovering is not over", () => {
    const raised = times(7, on)
    assert.strictEqual(walk([...raised, ...times(6, off)]).at(-1), true)
    assert.strictEqual(walk([...raised, ...times(7, off)]).at(-1), false)
    assert.strictEqual(walk([...raised, ...times(5, off), between, ...times(6, off)]).at(-1), true)
    assert.strictEqual(walk([...raised, ...times(100, between)]).at(-1), true)
  })

  it("keeps since when it is met, whenever it is looked at again", () => {
    const pending = Alarm.next(undefined, on, 100, sustained)
    assert.deepStrictEqual(pending, { since: 100, raised: false, overSince: undefined })
    assert.deepStrictEqual(Alarm.next(pending, on, 1000, sustained), { since: 100, raised: true, overSince: undefined })
  })

  it("doesn't wait for ever when the clock was set back", () => {
    const pending = Alarm.next(undefined, on, 1_000_000, sustained)
    const back = Alarm.next(pending, on, 10, sustained)
    assert.isFalse(back?.raised)
    assert.isTrue(Alarm.next(back, on, 70, sustained)?.raised)
  })

  it("is never raised by what lasts too short, nor cleared by it", () => {
    fc.assert(fc.property(fc.array(fc.constantFrom(on, off, between), { maxLength: 60 }), (seen) => {
      const raised = walk(seen)
      for (const [index, now] of raised.entries()) {
        const before = raised[index - 1] ?? false
        if (now === before) continue
        const run = seen.slice(Math.max(0, index - 6), index + 1)
        assert.lengthOf(run, 7)
        assert.isTrue(run.every((one) => one === (now ? on : off)))
      }
    }))
  })
})
