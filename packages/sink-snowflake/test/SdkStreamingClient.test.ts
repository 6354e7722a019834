/**
 * Streaming through the official SDK, which a stand-in of its documented interface takes the place of: it can't be installed here.
 */
import { assert, describe, it, layer } from "@effect/vitest"
import { Operation } from "@etl-stream/core/ChangeBatch"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { cp, mkdir } from "node:fs/promises"
import { createRequire } from "node:module"
import { join } from "node:path"
import { plugin } from "../src/index.ts"
import * as SdkStreamingClient from "../src/SdkStreamingClient.ts"
import * as StreamingClient from "../src/StreamingClient.ts"
import { entries } from "../src/StreamingErrorCodes.ts"
import * as StreamingErrors from "../src/StreamingErrors.ts"
import * as StreamingSdk from "../src/StreamingSdk.ts"
import * as Batches from "./Batches.ts"
import * as Local from "./Local.ts"
import { configOf } from "./StreamingStub.ts"

/** What the stand-in lets tests set and look at. */
interface Control {
  readonly failures: Array<readonly [code: string, status: number]>
  appends: number
  clients: number
  closed: number
}

/** Puts the package where a user would install it, beside the configuration file. */
const install = async (directory: string): Promise<Control> => {
  const folder = join(directory, "node_modules", StreamingSdk.packageName)
  await mkdir(folder, { recursive: true })
  await cp(new URL("./snowpipe-streaming", import.meta.url).pathname, folder, { recursive: true })
  const installed: unknown = createRequire(join(directory, "x.cjs"))(StreamingSdk.packageName)
  // Its own object, not a decoded copy: tests change it.
  return (installed as { readonly control: Control }).control
}

class Server extends Context.Service<Server, Local.Local & { readonly control: Control }>()("test/Server") {
  static readonly layer = Layer.effect(
    Server,
    Effect.gen(function*() {
      const local = yield* Local.start()
      const control = yield* Effect.promise(() => install(local.directory))
      return { ...local, control }
    })
  )
}

const token = { auth: { token: "a-programmatic-access-token" } }
const named = (name: string) =>
  Batches.table(name, {
    id: { _tag: "Int64" },
    note: { _tag: "Text", maxLength: undefined },
    doc: { _tag: "Json" }
  }, { _tag: "Key", columns: [0] })
const at = (ordinal: number) => Sequence.make(20n, BigInt(ordinal))
const inserts = (name: string, from: number, to: number) =>
  Batches.batch(
    named(name),
    Array.from({ length: to - from }, (_, index): Batches.Row => ({
      op: Operation.Insert,
      sequence: at(from + index),
      values: [9_007_199_254_740_993n + BigInt(from + index), "note\n\"é\"", "{\"n\":12345678901234567890.5}"]
    }))
  )
const options = (name: string, channels = 1) => ({
  ...token,
  streaming: { client: "sdk" },
  merge: { every: "1 hour" },
  tables: { [`public.${name}`]: { channels } }
})
const open = Effect.fnUntraced(function*(local: Local.Local, name: string, more: object, copied = false) {
  const running = yield* Local.run(local, more, name)
  const table = yield* running.open(named(name))
  if (!copied) yield* Local.copy(table, named(name), 10n, [])
  return { running, table }
})
const exactly = (local: Local.Local, name: string, rows: number) =>
  Effect.gen(function*() {
    const count = (of: string, column: string) =>
      Effect.map(local.query(`SELECT COUNT(*) AS "n", COUNT(DISTINCT "${column}") AS "d" FROM ${of}`), ([row]) => row)
    const expected = { n: String(rows), d: String(rows) }
    assert.deepStrictEqual(yield* count(`RAW.ETL_STREAM.SHOP__${name.toUpperCase()}__JOURNAL`, "_ETL_SEQ"), expected)
    assert.deepStrictEqual(yield* count(`RAW.SHOP.${name.toUpperCase()}`, "ID"), expected)
  })

layer(Server.layer, { timeout: 120_000, excludeTestServices: true })("Streaming by the SDK", (it) => {
  for (const channels of [1, 3]) {
    it.effect(`brings each change into the journal exactly once, over runs, by ${channels} channels`, () =>
      Effect.gen(function*() {
        const { control, ...local } = yield* Server
        const name = `bysdk${channels}`
        const before = control.appends
        yield* Effect.scoped(Effect.gen(function*() {
          const { table } = yield* open(local, name, options(name, channels))
          yield* table.rows(inserts(name, 0, 50))
          yield* table.durable(at(49))
          // Taken by the SDK, perhaps never sent.
          yield* table.rows(inserts(name, 50, 70))
        }))
        const { running, table } = yield* open(local, name, options(name, channels), true)
        const held = Number(table.writer.position.committed?.ordinal)
        assert.isAtLeast(held, 40)
        yield* table.rows(inserts(name, held + 1, 90))
        yield* table.writer.write({
          _tag: "Truncate",
          table: named(name),
          sequence: at(90),
          commitTime: Batches.commitTime
        })
        yield* table.rows(inserts(name, 91, 100))
        yield* table.durable(at(99))
        yield* running.sink.settle
        assert.isAbove(control.appends, before)
        assert.deepStrictEqual(
          yield* local.query(
            `SELECT COUNT(*) AS "n", COUNT(DISTINCT "_ETL_SEQ") AS "d" FROM RAW.ETL_STREAM.SHOP__${name.toUpperCase()}__JOURNAL`
          ),
          [{ n: "100", d: "100" }]
        )
        const rows = yield* local.query(
          `SELECT "ID", "NOTE", "DOC"::VARCHAR AS "DOC" FROM RAW.SHOP.${name.toUpperCase()} ORDER BY "ID"`
        )
        assert.deepStrictEqual([rows.length, rows[0]?.["ID"], rows[0]?.["NOTE"]], [
          9,
          "9007199254741084",
          "note\n\"é\""
        ])
      }))
  }

  it.effect("waits while the SDK says that it is full", () =>
    Effect.gen(function*() {
      const { control, ...local } = yield* Server
      const { running, table } = yield* open(local, "full", options("full"))
      control.failures.push(["ReceiverSaturated", 429], ["MemoryThresholdExceeded", 429], [
        "HttpRetryableClientError",
        503
      ])
      yield* table.rows(inserts("full", 0, 20))
      yield* table.durable(at(19))
      yield* running.sink.settle
      yield* exactly(local, "full", 20)
    }))

  it.effect("is fenced by another runner, and by one over REST as well", () =>
    Effect.gen(function*() {
      const { control: _, ...local } = yield* Server
      const stale = yield* open(local, "fencedsdk", options("fencedsdk"))
      yield* stale.table.rows(inserts("fencedsdk", 0, 10))
      yield* stale.table.durable(at(9))
      const next = yield* open(local, "fencedsdk", { ...options("fencedsdk"), streaming: { client: "rest" } }, true)
      yield* next.table.rows(inserts("fencedsdk", 10, 20))
      yield* next.table.durable(at(19))
      // The SDK takes the rows into its memory; that they go nowhere shows when their commit is asked for.
      yield* stale.table.rows(inserts("fencedsdk", 10, 20))
      const error = (yield* Effect.flip(Deferred.await(stale.running.failure))) as ConnectorError // the sink's only error type
      assert.strictEqual(error.reason, "Fenced")
      yield* next.running.sink.settle
      yield* exactly(local, "fencedsdk", 20)
    }))

  it.effect("does about each of the SDK's errors what the table of errors says, and passes on nothing of their messages", () =>
    Effect.gen(function*() {
      const { control, ...local } = yield* Server
      const config = local.config(token)
      const credentials = { _tag: "Token", token: Redacted.make("a-programmatic-access-token") } as const
      yield* local.query("CREATE SCHEMA IF NOT EXISTS RAW.ERRORS")
      yield* local.query("CREATE TABLE RAW.ERRORS.T (A NUMBER)")
      const { client } = yield* SdkStreamingClient.choose(
        StreamingClient.make(config, credentials),
        local.config({ ...token, streaming: { client: "auto" } }),
        credentials,
        { clientName: "test", directory: local.directory }
      )
      const table = { database: "RAW", schema: "ERRORS", name: "T" }
      yield* client.open(table, "c", { failOnUncommittedRows: true })
      for (const { code, policy } of entries) {
        // Those that are waited out, and codes of the REST API.
        if (policy.action === "retry" || /^[A-Z0-9_]+$/.test(code)) continue
        control.failures.push([code, 400])
        const failed = yield* Effect.flip(client.append(table, "c", {
          continuationToken: "",
          startOffset: "a",
          endOffset: "b",
          body: Buffer.from("{\"A\":1}\n"),
          rawBytes: 8,
          encoding: "identity",
          before: Effect.void
        }))
        assert.deepStrictEqual([failed.code, failed.action], [code, StreamingErrors.refusal(400, code).action])
        assert.notInclude(JSON.stringify(failed), "secret")
      }
      assert.strictEqual(control.failures.length, 0)
    }))
})

describe("StreamingSdk", () => {
  it.live("is asked to be installed when the options want it, and not missed when they don't", () =>
    Effect.gen(function*() {
      const local = yield* Local.start()
      const context = { pipeline: "absent", directory: local.directory }
      const error = yield* Effect.flip(plugin.make(local.config({ streaming: { client: "sdk" } }), context))
      assert.strictEqual(error.reason, "Misconfigured")
      assert.include(error.hint, "npm install snowpipe-streaming")
      const running = yield* Local.run(local, { streaming: { client: "auto" } }, "absent")
      const table = yield* running.open(named("absent"))
      yield* Local.copy(table, named("absent"), 10n, [])
      yield* table.rows(inserts("absent", 0, 10))
      yield* table.durable(at(9))
    }).pipe(Effect.scoped))

  it.effect("is given the key without its frame, and refuses OAuth tokens, which it couldn't renew", () =>
    Effect.gen(function*() {
      const config = configOf("https://acct.example")
      const refused = yield* Effect.flip(
        StreamingSdk.properties(config, { _tag: "OAuth", token: Redacted.make("secret") })
      )
      assert.strictEqual(refused.reason, "Misconfigured")
      assert.notInclude(JSON.stringify(refused), "secret")
      assert.deepStrictEqual(
        yield* StreamingSdk.properties(config, { _tag: "Token", token: Redacted.make("pat") }),
        {
          account: "MYORG-ACCT",
          user: "LOADER",
          role: "loader",
          url: "https://acct.example:443",
          authorization_type: "PAT",
          personal_access_token: "pat"
        }
      )
    }))

  it("is given rows exactly as they were written, or not at all", () => {
    const rows = (text: string) => SdkStreamingClient.rowsOf(Buffer.from(text))
    assert.deepStrictEqual(rows("{\"A\":1,\"B\":\"x\\ny\"}\n{\"A\":null,\"B\":[1.5,-2e3]}\n"), [
      { A: 1, B: "x\ny" },
      { A: null, B: [1.5, -2000] }
    ])
    assert.deepStrictEqual(rows("{\"A\":9007199254740993}\n"), [{ A: 9007199254740993n }])
    for (const number of ["12345678901234567890.5", "0.1234567890123456789", "1e400"]) {
      assert.isUndefined(rows(`{"A":${number}}\n`), number)
    }
  })
})
