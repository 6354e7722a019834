import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { FrameBuffer, type Frames } from "../src/internal/frameBuffer.ts"

const frame = (type: string, body: Uint8Array): Buffer => {
  const bytes = Buffer.alloc(5 + body.length)
  bytes.write(type)
  bytes.writeUInt32BE(4 + body.length, 1)
  bytes.set(body, 5)
  return bytes
}

const copyBoth = frame("W", Uint8Array.of(0, 0, 0))

const xlog = (low: number, payload: Uint8Array): Buffer => {
  const body = Buffer.alloc(25 + payload.length)
  body.write("w")
  body.writeUInt32BE(low, 5)
  body.set(payload, 25)
  return frame("d", body)
}

const keepalive = (low: number, reply: boolean): Buffer => {
  const body = Buffer.alloc(18)
  body.write("k")
  body.writeUInt32BE(low, 5)
  body[17] = reply ? 1 : 0
  return frame("d", body)
}

const bytesOf = (frames: Frames): Buffer => Buffer.from(frames.bytes.subarray(frames.start, frames.end))

/** Gives bytes as a socket does: into the buffer's own target, as much as fits. */
const read = (buffer: FrameBuffer, bytes: Uint8Array): void => {
  for (let at = 0; at < bytes.length;) {
    const target = buffer.target()
    assert.isAbove(target.length, 0)
    const count = Math.min(target.length, bytes.length - at)
    target.set(bytes.subarray(at, at + count))
    buffer.wrote(target, count)
    at += count
  }
}

const started = (): FrameBuffer => {
  const buffer = new FrameBuffer()
  read(buffer, copyBoth)
  assert.isTrue(buffer.streaming)
  assert.isFalse(buffer.hasFrames)
  return buffer
}

describe("FrameBuffer", () => {
  it("gives the frames that came, whole and in order, however the bytes are cut and whenever they are taken", () => {
    const sizes = fc.array(fc.integer({ min: 1, max: 700_000 }), { minLength: 1, maxLength: 30 })
    const frames = fc.array(fc.integer({ min: 0, max: 300_000 }), { minLength: 1, maxLength: 12 })
    fc.assert(
      fc.property(
        frames,
        sizes,
        fc.array(fc.boolean(), { minLength: 1 }),
        fc.boolean(),
        (lengths, cuts, takes, foreign) => {
          const stream = Buffer.concat(lengths.map((length, index) => xlog(index, new Uint8Array(length).fill(index))))
          const buffer = started()
          const taken: Array<Buffer> = []
          for (let at = 0, step = 0; at < stream.length; step++) {
            const end = Math.min(stream.length, at + (cuts[step % cuts.length] ?? 1))
            if (foreign) buffer.write(stream.subarray(at, end))
            else read(buffer, stream.subarray(at, end))
            at = end
            if (buffer.hasFrames && takes[step % takes.length]) taken.push(bytesOf(buffer.take()))
          }
          if (buffer.hasFrames) taken.push(bytesOf(buffer.take()))
          assert.isTrue(Buffer.concat(taken).equals(stream))
          assert.strictEqual(buffer.receivedLow, lengths.length - 1)
        }
      ),
      { numRuns: 60 }
    )
  })

  it("leaves a view alone while more bytes come", () => {
    const buffer = started()
    const first = xlog(1, new Uint8Array(1000).fill(1))
    const second = xlog(2, new Uint8Array(1000).fill(2))
    read(buffer, Buffer.concat([first, second.subarray(0, 500)]))
    const view = buffer.take()
    read(buffer, Buffer.concat([second.subarray(500), xlog(3, new Uint8Array(300_000))]))
    assert.isTrue(bytesOf(view).equals(first))
    assert.isTrue(bytesOf(buffer.take()).subarray(0, second.length).equals(second))
  })

  it("grows for one large frame only, and not before its bytes come", () => {
    const buffer = started()
    const large = xlog(1, new Uint8Array(20_000_000))
    read(buffer, large.subarray(0, 100))
    assert.isBelow(buffer.capacity, 1_000_000, "a claimed length alone allocates nothing")
    read(buffer, large.subarray(100))
    assert.strictEqual(bytesOf(buffer.take()).length, large.length)
    read(buffer, xlog(2, new Uint8Array(10)))
    buffer.take()
    assert.isAtMost(buffer.capacity, 8 * 1024 * 1024)
  })

  it("shrinks again when reads stay small", () => {
    const buffer = started()
    for (let round = 0; round < 40; round++) {
      read(buffer, xlog(1, new Uint8Array(4_000_000)))
      buffer.take()
    }
    const busy = buffer.capacity
    for (let round = 0; round < 2000; round++) {
      read(buffer, xlog(1, new Uint8Array(10)))
      buffer.take()
    }
    assert.isAtLeast(busy, 4 * 1024 * 1024)
    assert.isAtMost(buffer.capacity, 512 * 1024)
  })

  it("remembers the highest position and that an answer is wanted", () => {
    const buffer = started()
    read(buffer, Buffer.concat([xlog(70, new Uint8Array(1)), keepalive(90, false), xlog(80, new Uint8Array(1))]))
    assert.strictEqual(buffer.receivedLow, 90)
    assert.isFalse(buffer.replyRequested)
    read(buffer, keepalive(50, true))
    assert.isTrue(buffer.replyRequested)
    assert.strictEqual(buffer.receivedLow, 90)
  })

  it("gives what came before an error, then the error", () => {
    const buffer = started()
    const row = xlog(1, new Uint8Array(3))
    read(buffer, Buffer.concat([row, frame("E", Buffer.from("SFATAL\0C57P01\0Mending\0\0")), row]))
    assert.isTrue(bytesOf(buffer.take()).equals(row))
    assert.isFalse(buffer.hasFrames)
    assert.strictEqual(buffer.terminal?._tag, "ServerError")
    assert.strictEqual(buffer.terminal?._tag === "ServerError" ? buffer.terminal.fields.get("C") : undefined, "57P01")
  })

  it("ends at bytes that aren't the protocol, without an allocation of what they claim", () => {
    const claims: ReadonlyArray<Uint8Array> = [
      Uint8Array.of(0x64, 0, 0, 0, 3, 0),
      Uint8Array.of(0x64, 0xff, 0xff, 0xff, 0xff, 0),
      frame("D", new Uint8Array(4)),
      frame("\0", new Uint8Array(4))
    ]
    for (const bytes of claims) {
      const buffer = started()
      read(buffer, bytes)
      assert.strictEqual(buffer.terminal?._tag, "Malformed")
      assert.isFalse(buffer.hasFrames)
      assert.isBelow(buffer.capacity, 1_000_000)
    }
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      const buffer = started()
      read(buffer, bytes)
      if (buffer.hasFrames) buffer.take()
    }))
  })
})
