import { assert, describe, it } from "@effect/vitest"
import { Socket } from "node:net"
import { afterEach, beforeEach, vi } from "vitest"
import { WireReader } from "../src/internal/wireReader.ts"

/** A session whose stream has begun, read by somebody who pulls again and again; `resumed` counts how often its socket was. */
const session = () => {
  const socket = new Socket()
  let resumed = 0
  vi.spyOn(socket, "resume").mockImplementation(() => {
    resumed++
    return socket
  })
  vi.spyOn(socket, "pause").mockImplementation(() => socket)
  const reader = new WireReader(socket, true, () => {})
  const write = (bytes: Uint8Array) => {
    for (let at = 0; at < bytes.length;) {
      const target = reader.buffer.target()
      const count = Math.min(target.length, bytes.length - at)
      target.set(bytes.subarray(at, at + count))
      reader.received(target, count)
      at += count
    }
  }
  write(Uint8Array.of(0x57, 0, 0, 0, 7, 0, 0, 0)) // CopyBothResponse
  const pullAgain = (): void => reader.pull(() => pullAgain())
  pullAgain()
  return { write, resumed: () => resumed }
}

/** So many bytes of CopyData messages. */
const copyData = (messages: number, body: number): Uint8Array => {
  const message = new Uint8Array(5 + body)
  message[0] = 0x64
  new DataView(message.buffer).setUint32(1, 4 + body)
  const all = new Uint8Array(messages * message.length)
  for (let index = 0; index < messages; index++) all.set(message, index * message.length)
  return all
}

describe("how often a busy stream is read", () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] })
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  /** Milliseconds until the socket is read again after `bytes` came in `millis`. */
  const pauseAfter = (bytes: Uint8Array, millis: number): number => {
    const { resumed, write } = session()
    vi.advanceTimersByTime(millis)
    write(bytes)
    const before = resumed()
    for (let pause = 0; pause < 100; pause++) {
      if (resumed() > before) return pause
      vi.advanceTimersByTime(1)
    }
    return Infinity
  }

  it("pauses, so that the server's small sends gather", () => {
    assert.strictEqual(pauseAfter(copyData(1200, 100), 5), 25)
  })

  it("pauses no longer than a server of large rows takes to fill the kernel's buffer", () => {
    // 4 MiB in 10 ms: the next one takes 2.5.
    const { resumed, write } = session()
    write(copyData(4, 1 << 20))
    vi.advanceTimersByTime(10)
    const before = resumed()
    write(copyData(4, 1 << 20))
    let pause = 0
    while (resumed() === before && pause < 100) {
      vi.advanceTimersByTime(1)
      pause++
    }
    assert.isAtMost(pause, 5)
  })

  it("reads a quiet stream at once", () => {
    const { resumed, write } = session()
    vi.advanceTimersByTime(100)
    const before = resumed()
    write(copyData(1, 100))
    assert.isAbove(resumed(), before)
  })
})
