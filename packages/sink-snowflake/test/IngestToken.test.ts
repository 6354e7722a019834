/**
 * Tokens for the ingest host: how often they are asked for, and by whom.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/testing/TestClock"
import * as IngestToken from "../src/IngestToken.ts"
import * as KeyPair from "../src/KeyPair.ts"
import { privateKeyPem } from "./Local.ts"
import type { Answer } from "./StreamingStub.ts"
import { stub } from "./StreamingStub.ts"

const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url")

/** Tokens that live ten minutes by a clock of the server's own, which is hours away from this one's. */
const tokens = Effect.fnUntraced(function*(answer: (exchanges: number) => Answer | undefined = () => undefined) {
  let exchanges = 0
  const { asked, config } = yield* stub((path, host) => {
    if (path === "/v2/streaming/hostname") return [200, host]
    exchanges++
    const iat = 1_900_000_000
    return answer(exchanges) ?? [200, `x.${part({ iat, exp: iat + 600, number: exchanges })}.y`]
  })
  const keyPair = yield* KeyPair.parse(Redacted.make(privateKeyPem), undefined, "auth.privateKey")
  return {
    made: IngestToken.make(config, { _tag: "KeyPair", keyPair }),
    exchanges: () => exchanges,
    hosts: () => asked.filter(({ path }) => path === "/v2/streaming/hostname").length
  }
})

describe("IngestToken", () => {
  it.effect("are had once by all who ask at a time, and renewed a minute before they end, whatever the clock", () =>
    Effect.gen(function*() {
      const { exchanges, hosts, made } = yield* tokens()
      const ask = Effect.all(Array.from({ length: 20 }, () => made.current()), { concurrency: "unbounded" })
      const first = yield* ask
      assert.deepStrictEqual([exchanges(), hosts(), new Set(first).size], [1, 1, 1])
      yield* TestClock.adjust("539 seconds")
      assert.deepStrictEqual(new Set(yield* ask), new Set(first))
      yield* TestClock.adjust("1 second")
      const second = yield* ask
      assert.deepStrictEqual([exchanges(), hosts(), new Set(second).size], [2, 1, 1])
      assert.notStrictEqual(second[0], first[0])
    }).pipe(Effect.scoped))

  it.effect("are replaced once when Snowflake refuses one early, however many were refused with it", () =>
    Effect.gen(function*() {
      const { exchanges, made } = yield* tokens()
      const refused = yield* made.current()
      const next = yield* Effect.all(Array.from({ length: 20 }, () => made.current(refused)), {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual([exchanges(), new Set(next).size], [2, 1])
      assert.notStrictEqual(next[0], refused)
      // Late news of the old one's refusal costs no third.
      assert.strictEqual(yield* made.current(refused), next[0])
    }).pipe(Effect.scoped))

  it.effect("serve until they end while no new one can be had", () =>
    Effect.gen(function*() {
      const { exchanges, made } = yield* tokens((number) => number > 1 && number < 4 ? [503, ""] : undefined)
      const first = yield* made.current()
      yield* TestClock.adjust("550 seconds")
      assert.strictEqual(yield* made.current(), first)
      yield* TestClock.adjust("50 seconds")
      const failure = yield* Effect.flip(made.current())
      assert.strictEqual(failure.error.reason, "Unreachable")
      assert.notStrictEqual(yield* made.current(), first)
      assert.strictEqual(exchanges(), 4)
    }).pipe(Effect.scoped))

  it.effect("that are refused for good end the old one's service too", () =>
    Effect.gen(function*() {
      const { made } = yield* tokens((number) => number > 1 ? [401, JSON.stringify({ code: "390144" })] : undefined)
      yield* made.current()
      yield* TestClock.adjust("550 seconds")
      assert.strictEqual((yield* Effect.flip(made.current())).error.reason, "Unauthorized")
    }).pipe(Effect.scoped))
})
