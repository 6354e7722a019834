/**
 * What a channel makes of committed offsets that no request of its own ended with.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Redacted from "effect/Redacted"
import { Channel } from "../src/Channel.ts"
import * as KeyPair from "../src/KeyPair.ts"
import * as StreamingClient from "../src/StreamingClient.ts"
import * as Layout from "../src/TableLayout.ts"
import * as Batches from "./Batches.ts"
import { privateKeyPem } from "./Local.ts"
import { configOf, stub } from "./StreamingStub.ts"

const at = (ordinal: number): string => Sequence.format(Sequence.make(20n, BigInt(ordinal)))

/** A channel of a server that says what is committed as a test wants it. */
const opened = Effect.fnUntraced(function*(said: { committed: string | null }) {
  const status = () => ({ channel_status_code: "SUCCESS", last_committed_offset_token: said.committed })
  let appends = 0
  const { config } = yield* stub((path, host) => {
    if (path === "/v2/streaming/hostname") return [200, host]
    if (path === "/oauth/token") return [200, "raw"]
    if (path.includes("/rows?")) return [200, JSON.stringify({ next_continuation_token: `c${++appends}` })]
    if (path.includes(":bulk-channel-status")) return [200, JSON.stringify({ channel_statuses: { ch: status() } })]
    return [200, JSON.stringify({ next_continuation_token: "c0", channel_status: status() })]
  })
  const client = StreamingClient.make(config, {
    _tag: "KeyPair",
    keyPair: yield* KeyPair.parse(Redacted.make(privateKeyPem), undefined, "auth.privateKey")
  })
  const table = Batches.table("t", { id: { _tag: "Int32" } }, { _tag: "Key", columns: [0] })
  const layout = yield* Layout.make(configOf("http://localhost"), "p", table)
  let reports = 0
  const channel = new Channel(
    layout,
    "ch",
    client,
    Latch.makeUnsafe(false),
    Effect.sync(() => {
      reports++
    })
  )
  yield* channel.open()
  const append = (from: number, to: number) =>
    channel.append({ body: Buffer.from("x"), encoding: "gzip", rawBytes: 1, startOffset: at(from), endOffset: at(to) })
  const observe = Effect.flatMap(
    client.statuses(layout.journal, ["ch"]),
    (statuses) => channel.observe(statuses.get("ch"))
  )
  return { channel, append, observe, reports: () => reports }
})

describe("Committed offsets", () => {
  it.live("that end a request count, also when several requests were committed at once", () =>
    Effect.gen(function*() {
      const said: { committed: string | null } = { committed: null }
      const { append, channel, observe, reports } = yield* opened(said)
      for (const from of [0, 10, 20]) yield* append(from, from + 9)
      yield* observe
      assert.deepStrictEqual([channel.committed, channel.inFlight, reports()], [undefined, true, 0])
      said.committed = at(19)
      yield* observe
      yield* observe
      assert.deepStrictEqual([channel.committed, channel.inFlight, reports()], [at(19), true, 1])
      said.committed = at(29)
      yield* observe
      assert.deepStrictEqual([channel.committed, channel.inFlight, reports()], [at(29), false, 2])
    }).pipe(Effect.scoped))

  it.live("in the midst of a request, or between two, end the run, and the next one goes on after that very change", () =>
    Effect.gen(function*() {
      for (const within of [at(4), at(14), `${"0".repeat(15)}1/${"0".repeat(16)}`]) {
        const said: { committed: string | null } = { committed: null }
        const first = yield* opened(said)
        yield* first.append(0, 9)
        yield* first.append(12, 19)
        said.committed = within
        const failure = yield* Effect.flip(first.observe)
        assert.deepStrictEqual([failure._tag === "ConnectorError" ? failure.reason : failure._tag, first.reports()], [
          "Fenced",
          0
        ])
        const second = yield* opened(said)
        assert.strictEqual(second.channel.committed, within)
      }
    }).pipe(Effect.scoped))

  it.live("that go back, or aren't sequences, are never believed", () =>
    Effect.gen(function*() {
      const said: { committed: string | null } = { committed: at(9) }
      const { append, observe } = yield* opened(said)
      yield* append(10, 19)
      said.committed = at(8)
      const back = yield* Effect.flip(observe)
      assert.strictEqual(back._tag === "ConnectorError" ? back.reason : back._tag, "Fenced")
      const foreign = yield* Effect.flip(opened({ committed: "somebody-elses" }))
      assert.strictEqual(foreign._tag === "ConnectorError" ? foreign.reason : foreign._tag, "Protocol")
    }).pipe(Effect.scoped))
})
