/**
 * Requests that fail for the moment: when and how they are sent again.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import { failure } from "../src/ErrorPolicy.ts"
import * as KeyPair from "../src/KeyPair.ts"
import * as StreamingClient from "../src/StreamingClient.ts"
import { patience, retryAfter, StreamingFailure, uncommittedData } from "../src/StreamingTransport.ts"
import { privateKeyPem } from "./Local.ts"
import type { Answer } from "./StreamingStub.ts"
import { stub } from "./StreamingStub.ts"

const transient = (more: { readonly retryAfterMillis?: number; readonly code?: string } = {}) =>
  new StreamingFailure({
    action: "retry",
    code: more.code,
    error: failure("Unreachable", "x", "y"),
    ...(more.retryAfterMillis === undefined ? {} : { retryAfterMillis: more.retryAfterMillis })
  })

/** The delays in milliseconds before each further attempt, when every one fails in the same way. */
const delays = (failed: StreamingFailure) =>
  Effect.gen(function*() {
    const step = yield* Schedule.toStep(patience)
    const found: Array<number> = []
    let now = 0
    for (;;) {
      const next = yield* Effect.exit(step(now, failed))
      if (Exit.isFailure(next)) return found
      const millis = Duration.toMillis(next.value[1])
      found.push(millis)
      now += millis
    }
  })

const journal = { database: "RAW", schema: "ETL_STREAM", name: "T__JOURNAL" }
const append = {
  continuationToken: "c",
  startOffset: "a",
  endOffset: "b",
  body: Buffer.from("{}"),
  rawBytes: 2,
  encoding: "zstd",
  before: Effect.void
} as const

/** A client of a server that answers appends one after the other as given. */
const appending = Effect.fnUntraced(function*(answers: ReadonlyArray<Answer>) {
  const left = [...answers]
  const { asked, config } = yield* stub((path, host) =>
    path === "/v2/streaming/hostname"
      ? [200, host]
      : path === "/oauth/token"
      ? [200, "raw"]
      : left.shift() ?? [200, JSON.stringify({ next_continuation_token: "next" })]
  )
  const keyPair = yield* KeyPair.parse(Redacted.make(privateKeyPem), undefined, "auth.privateKey")
  return {
    client: StreamingClient.make(config, { _tag: "KeyPair", keyPair }),
    appends: () => asked.filter(({ path }) => path.includes("/rows?"))
  }
})

describe("StreamingTransport", () => {
  it.effect("waits longer each time up to five seconds, with jitter, for two minutes", () =>
    Effect.gen(function*() {
      const found = yield* delays(transient())
      const base = [250, 500, 1000, 2000, 4000]
      for (const [index, millis] of found.entries()) {
        const expected = base[index] ?? 5000
        assert.isTrue(millis >= 0.8 * expected && millis <= 1.2 * expected, `${index}: ${millis}`)
      }
      const total = found.reduce((sum, millis) => sum + millis, 0)
      assert.isTrue(total > 100_000 && total < 130_000, String(total))
      assert.notDeepEqual(yield* delays(transient()), found)
    }))

  it.effect("waits as long as the server asks, and not at all when that is too long", () =>
    Effect.gen(function*() {
      for (const millis of yield* delays(transient({ retryAfterMillis: 7000 }))) assert.strictEqual(millis, 7000)
      assert.deepStrictEqual(yield* delays(transient({ retryAfterMillis: 600_000 })), [])
      assert.deepStrictEqual(yield* delays(transient({ code: uncommittedData })), [])
    }))

  it("reads Retry-After as seconds and as a date", () => {
    const now = Date.parse("2026-01-02T03:04:05Z")
    assert.strictEqual(retryAfter("7", now), 7000)
    assert.strictEqual(retryAfter(" 0 ", now), 0)
    assert.strictEqual(retryAfter("Fri, 02 Jan 2026 03:04:35 GMT", now), 30_000)
    assert.strictEqual(retryAfter("Fri, 02 Jan 2026 03:04:00 GMT", now), 0)
    for (const header of [null, "", "soon", "99999999999999"]) {
      assert.isUndefined(retryAfter(header, now), String(header))
    }
  })

  it.live("sends the very same append again, under one request id, no earlier than the server asks", () =>
    Effect.gen(function*() {
      const { appends, client } = yield* appending([
        [503, "", { "retry-after": "1" }],
        [500, JSON.stringify("ERR_GENERAL_EXCEPTION_RETRY_REQUEST")],
        [401, JSON.stringify({ code: "390318" })],
        [200, JSON.stringify({ status_code: 10, message: "retry" })]
      ])
      let turns = 0
      const before = Effect.sync(() => {
        turns++
      })
      assert.strictEqual(yield* client.append(journal, "c", { ...append, before }), "next")
      const sent = appends()
      assert.strictEqual(sent.length, 5)
      assert.strictEqual(new Set(sent.map(({ body, path }) => `${path} ${body}`)).size, 1)
      assert.isAtLeast(sent[1]?.atMillis ?? 0, (sent[0]?.atMillis ?? 0) + 990)
      // Each attempt waited for its turn.
      assert.strictEqual(turns, 5)
      assert.deepStrictEqual([sent[0]?.encoding, sent[0]?.rawBytes], ["zstd", "2"])
      yield* client.append(journal, "c", append)
      assert.notStrictEqual(appends()[5]?.path, sent[0]?.path)
    }).pipe(Effect.scoped))

  it.live("doesn't take an unreadable answer to an append for one that took nothing", () =>
    Effect.gen(function*() {
      for (const answer of ["", "<html>", "null", "{}", JSON.stringify({ next_continuation_token: null })]) {
        const { client } = yield* appending([[200, answer]])
        const failed = yield* Effect.flip(client.append(journal, "c", append))
        assert.deepStrictEqual([failed.action, failed.error.reason], ["reopen", "Fenced"], answer)
      }
      const { client } = yield* appending([[200, JSON.stringify({ status_code: 4, next_continuation_token: "n" })]])
      assert.strictEqual((yield* Effect.flip(client.append(journal, "c", append))).action, "reopen")
    }).pipe(Effect.scoped))
})
