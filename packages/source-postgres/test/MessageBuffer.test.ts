import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { MessageBuffer } from "../src/internal/messageBuffer.ts"

/** A message of type `d` with a body of so many bytes. */
const message = (length: number): Buffer => {
  const bytes = Buffer.from(Uint8Array.from({ length: length + 5 }, (_, at) => at * 31 + length))
  bytes.write("d")
  bytes.writeInt32BE(length + 4, 1)
  return bytes
}

describe("MessageBuffer", () => {
  it("gives every message, whether bytes are read into its room, into a buffer asked for before, or come by themselves", () => {
    const lengths = fc.array(fc.oneof(fc.nat(100), fc.integer({ min: 60_000, max: 400_000 })), { maxLength: 8 })
    const cuts = fc.infiniteStream(fc.tuple(
      fc.oneof({ weight: 1, arbitrary: fc.integer({ min: 1, max: 50 }) }, {
        weight: 9,
        arbitrary: fc.integer({ min: 1, max: 70_000 })
      }),
      fc.constantFrom("into", "elsewhere", "append")
    ))
    fc.assert(fc.property(lengths, cuts, (lengths, cuts) => {
      const messages = lengths.map(message)
      const bytes = Buffer.concat(messages)
      const buffer = new MessageBuffer()
      const found: Array<Buffer> = []
      for (let at = 0; at < bytes.length;) {
        const [most, way] = cuts.next().value
        const target = way === "into" ? buffer.target() : new Uint8Array(70_000)
        const count = Math.min(most, target.length, bytes.length - at)
        if (way === "append") buffer.append(bytes.subarray(at, at + count))
        else {
          target.set(bytes.subarray(at, at + count))
          buffer.received(target, count)
        }
        at += count
        while (buffer.next()) found.push(Buffer.from(buffer.bytes.subarray(buffer.start - 5, buffer.end)))
      }
      assert.deepStrictEqual(found, messages)
    }))
  })

  it("makes room for a large message once, however little comes of its end at a time", () => {
    for (const way of ["into", "append"] as const) {
      const bytes = Buffer.concat([message(100), message(300_000), message(3_000_000), message(100)])
      const buffer = new MessageBuffer()
      const made = new Set([buffer.bytes])
      let found = 0
      for (let at = 0; at < bytes.length; at += 1000) {
        const chunk = bytes.subarray(at, at + 1000)
        if (way === "append") buffer.append(chunk)
        else {
          const target = buffer.target()
          target.set(chunk)
          buffer.received(target, chunk.length)
        }
        made.add(buffer.bytes)
        while (buffer.next()) found++
      }
      assert.strictEqual(found, 4)
      assert.isAtMost(made.size, 3, way)
    }
  })
})
