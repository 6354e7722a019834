/**
 * The REST client against answers in every form that documentation and other clients know.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as KeyPair from "../src/KeyPair.ts"
import * as StreamingClient from "../src/StreamingClient.ts"
import { privateKeyPem } from "./Local.ts"
import { stub } from "./StreamingStub.ts"

const journal = { database: "RAW", schema: "ETL_STREAM", name: "T__JOURNAL" }
const status = { channel_status_code: "ACTIVE", last_committed_offset_token: null, rows_errors: 3 }
const opening = JSON.stringify({ next_continuation_token: "c1", channel_status: status })
const keyPair = KeyPair.parse(Redacted.make(privateKeyPem), undefined, "auth.privateKey")
const open = (client: StreamingClient.StreamingClient) => client.open(journal, "c", { failOnUncommittedRows: true })

describe("StreamingClient", () => {
  it.live("takes host and token as JSON too, and asks for the token by host and role", () =>
    Effect.gen(function*() {
      const { asked, config } = yield* stub((path, host) =>
        path === "/v2/streaming/hostname"
          ? [200, JSON.stringify({ hostname: host })]
          : path === "/oauth/token"
          ? [200, JSON.stringify({ token: "opaque" })]
          : [200, opening]
      )
      const opened = yield* open(StreamingClient.make(config, { _tag: "KeyPair", keyPair: yield* keyPair }))
      assert.deepStrictEqual(opened, {
        continuationToken: "c1",
        status: { code: "ACTIVE", committed: undefined, errors: 3, lastError: undefined }
      })
      assert.deepStrictEqual(asked.map(({ path, type }) => [path.split("?")[0], type]), [
        ["/v2/streaming/hostname", "KEYPAIR_JWT"],
        ["/oauth/token", "KEYPAIR_JWT"],
        ["/v2/streaming/databases/RAW/schemas/ETL_STREAM/pipes/T__JOURNAL-STREAMING/channels/c", "OAUTH"]
      ])
      assert.strictEqual(
        new URLSearchParams(asked[1]?.body).get("scope"),
        `${new URL(config.url ?? "").host} session:role:LOADER`
      )
      assert.strictEqual(asked[2]?.authorization, "Bearer opaque")
    }).pipe(Effect.scoped))

  it.live("presents a token as it is when it can't be exchanged", () =>
    Effect.gen(function*() {
      for (const refusal of [400, 401, 403]) {
        const { asked, config } = yield* stub((path, host) =>
          path === "/v2/streaming/hostname"
            ? [200, `${host}\n`]
            : path === "/oauth/token"
            ? [refusal, "unsupported"]
            : [200, opening]
        )
        yield* open(StreamingClient.make(config, { _tag: "Token", token: Redacted.make("pat") }))
        assert.deepStrictEqual([asked[2]?.authorization, asked[2]?.type], ["Bearer pat", "PROGRAMMATIC_ACCESS_TOKEN"])
      }
    }).pipe(Effect.scoped))

  it.live("gets a new token once when one is refused, and then gives up", () =>
    Effect.gen(function*() {
      const { asked, config } = yield* stub((path, host) =>
        path === "/v2/streaming/hostname"
          ? [200, host]
          : path === "/oauth/token"
          ? [200, "raw"]
          : [401, ""]
      )
      const failure = yield* Effect.flip(
        open(StreamingClient.make(config, { _tag: "KeyPair", keyPair: yield* keyPair }))
      )
      assert.strictEqual(failure.error.reason, "Unauthorized")
      assert.strictEqual(asked.filter(({ path }) => path === "/oauth/token").length, 2)
    }).pipe(Effect.scoped))

  it.live("calls answers of another form a breach of protocol, and passes on nothing of them", () =>
    Effect.gen(function*() {
      for (const answer of ["", "null", "[]", "{\"next_continuation_token\":1}", "secret row"]) {
        const { config } = yield* stub((path, host) =>
          path === "/v2/streaming/hostname"
            ? [200, host]
            : path === "/oauth/token"
            ? [200, "raw"]
            : [200, answer]
        )
        const failure = yield* Effect.flip(
          open(StreamingClient.make(config, { _tag: "KeyPair", keyPair: yield* keyPair }))
        )
        assert.strictEqual(failure.error.reason, "Protocol")
        assert.notInclude(JSON.stringify(failure), "secret row")
      }
      const { config } = yield* stub(() => [200, "not a host / at all"])
      const failure = yield* Effect.flip(
        open(StreamingClient.make(config, { _tag: "KeyPair", keyPair: yield* keyPair }))
      )
      assert.strictEqual(failure.error.reason, "Protocol")
    }).pipe(Effect.scoped))

  it.live("reads codes of refusals in every form they come in", () =>
    Effect.gen(function*() {
      const stale = "STALE_CONTINUATION_TOKEN_SEQUENCER"
      for (
        const body of [
          JSON.stringify({ code: stale, message: "row 'x'" }),
          JSON.stringify({ error_code: stale }),
          JSON.stringify(stale)
        ]
      ) {
        const { config } = yield* stub((path, host) =>
          path === "/v2/streaming/hostname"
            ? [200, host]
            : path === "/oauth/token"
            ? [200, "raw"]
            : [400, body]
        )
        const client = StreamingClient.make(config, { _tag: "KeyPair", keyPair: yield* keyPair })
        const failure = yield* Effect.flip(
          client.append(journal, "c", {
            continuationToken: "c",
            startOffset: "a",
            endOffset: "b",
            body: Buffer.from("{}"),
            rawBytes: 2,
            encoding: "zstd",
            before: Effect.void
          })
        )
        assert.deepStrictEqual([failure.action, failure.code, failure.error.reason], ["reopen", stale, "Fenced"])
        assert.notInclude(failure.error.message, "row 'x'")
      }
    }).pipe(Effect.scoped))
})
