/**
 * A channel's limits, which hold by construction: rates over any second, sizes by what was seen.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import * as fc from "fast-check"
import { BatchSize, maxRequestBytes } from "../src/BatchSize.ts"
import { channelRates, RequestPacer } from "../src/RequestPacer.ts"

interface Sent {
  readonly at: number
  readonly bytes: number
}

/** Sends requests one after the other, each after so long a pause, and tells when. */
const send = (requests: ReadonlyArray<{ readonly bytes: number; readonly pause: number }>) =>
  Effect.gen(function*() {
    const pacer = new RequestPacer()
    const sent: Array<Sent> = []
    const fiber = yield* Effect.forkChild(
      Effect.forEach(requests, ({ bytes, pause }) =>
        Effect.gen(function*() {
          yield* Effect.sleep(pause)
          yield* pacer.admit(bytes)
          sent.push({ at: yield* Clock.currentTimeMillis, bytes })
        }), { discard: true })
    )
    yield* TestClock.adjust("1 day")
    yield* Fiber.join(fiber)
    return sent
  })

/** What is sent in the second that begins with each request. */
const seconds = (sent: ReadonlyArray<Sent>) =>
  sent.map(({ at }) => sent.filter((other) => other.at >= at && other.at < at + 1000))

describe("RequestPacer", () => {
  it.effect("lets no second have more requests or bytes than a channel may take", () =>
    Effect.promise(() =>
      fc.assert(
        fc.asyncProperty(
          fc.array(
            fc.record({
              bytes: fc.oneof(
                fc.integer({ min: 1, max: 2000 }),
                fc.integer({ min: 1, max: 8_000_000 }),
                fc.integer({ min: 15_000_000, max: 20_000_000 })
              ),
              pause: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 30 }), fc.integer({ min: 0, max: 1500 }))
            }),
            { minLength: 1, maxLength: 60 }
          ),
          (requests) =>
            Effect.runPromise(
              Effect.gen(function*() {
                const sent = yield* send(requests)
                assert.strictEqual(sent.length, requests.length)
                for (const second of seconds(sent)) {
                  const bytes = second.reduce((sum, request) => sum + request.bytes, 0)
                  assert.isAtMost(second.length, 10)
                  assert.isTrue(second.length === 1 || bytes <= 20_000_000, `${bytes} bytes in a second`)
                }
              }).pipe(Effect.scoped, Effect.provide(TestClock.layer()))
            )
        ),
        { numRuns: 200 }
      )
    ))

  it.effect("is idle only while the rates want it", () =>
    Effect.gen(function*() {
      const small = yield* send(Array.from({ length: 91 }, () => ({ bytes: 10, pause: 0 })))
      assert.strictEqual(small.at(-1)?.at, 10_000)
      const start = yield* Clock.currentTimeMillis
      const large = yield* send(
        Array.from({ length: 40 }, () => ({ bytes: channelRates.bytesPerSecond / 2, pause: 0 }))
      )
      assert.strictEqual((large.at(-1)?.at ?? 0) - start, 19_000)
    }))
})

describe("BatchSize", () => {
  it("follows the compression that is achieved, so that requests stay below the limit", () => {
    fc.assert(fc.property(
      fc.array(fc.double({ min: 0.01, max: 1, noNaN: true }), { minLength: 2, maxLength: 20 }),
      (ratios) => {
        const size = new BatchSize()
        for (const ratio of ratios) {
          size.compressed(size.rawBytes, size.rawBytes * ratio)
          // The same ratio again fits.
          assert.isAtMost(size.rawBytes * ratio, maxRequestBytes)
          assert.isAtMost(size.rawBytes, 8_000_000)
        }
      }
    ))
  })

  it("is halved by a refusal as too large, and grows again slowly", () => {
    const size = new BatchSize()
    size.refused(3_000_000)
    assert.strictEqual(size.requestBytes, 1_500_000)
    size.refused(1_000_000)
    assert.strictEqual(size.requestBytes, 500_000)
    for (let request = 0; request < 10; request++) size.answered(500_000, 50)
    assert.isTrue(size.requestBytes > 1_000_000 && size.requestBytes < 2_000_000)
    for (let request = 0; request < 40; request++) size.answered(500_000, 50)
    assert.strictEqual(size.requestBytes, maxRequestBytes)
    for (let refusal = 0; refusal < 40; refusal++) size.refused(100)
    assert.strictEqual(size.requestBytes, 1)
  })

  it("shrinks when answers take so long that a request might be given up, and never to a trickle", () => {
    const size = new BatchSize()
    const before = size.rawBytes
    size.answered(before, 9000)
    assert.strictEqual(size.rawBytes, before)
    size.answered(before, 20_000)
    assert.strictEqual(size.rawBytes, before / 2)
    for (let request = 0; request < 20; request++) size.answered(size.rawBytes, 50_000)
    assert.strictEqual(size.rawBytes, 1_000_000)
  })
})
