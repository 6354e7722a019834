import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as ByteCopy from "../src/ByteCopy.ts"

describe("ByteCopy", () => {
  it("copies any range to any place and touches nothing beside it", () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.nat(40), fc.nat(600)),
        fc.nat(20),
        fc.nat(20),
        fc.boolean(),
        fc.infiniteStream(fc.nat(255)),
        (length, start, at, shared, values) => {
          const random = (bytes: number) => Uint8Array.from({ length: bytes }, () => values.next().value ?? 0)
          const content = random(start + length + 3)
          const memory = shared ? new SharedArrayBuffer(content.length + 5) : new ArrayBuffer(content.length + 5)
          // Not at the beginning of its memory.
          const source = new Uint8Array(memory, 5)
          source.set(content)
          const target = new Uint8Array(new ArrayBuffer(at + length + 9), 2)
          const before = random(target.length)
          target.set(before)
          ByteCopy.copy(ByteCopy.viewOf(target), at, ByteCopy.viewOf(source), start, start + length)
          before.set(content.subarray(start, start + length), at)
          assert.deepStrictEqual(target, before)
        }
      ),
      { numRuns: 3000 }
    )
  })

  it("refuses a range that its buffers don't have", () => {
    for (const length of [1, 3, 5, 12, 600]) {
      // Its memory goes on behind it.
      const bytes = new Uint8Array(new ArrayBuffer(length + 8), 0, length)
      const larger = new Uint8Array(length + 1)
      const copy = (target: Uint8Array, source: Uint8Array) => () =>
        ByteCopy.copy(ByteCopy.viewOf(target), 0, ByteCopy.viewOf(source), 0, length + 1)
      assert.throws(copy(bytes, larger), RangeError)
      assert.throws(copy(larger, bytes), RangeError)
    }
  })
})
