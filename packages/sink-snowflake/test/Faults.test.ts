/**
 * The sink against a server that misbehaves, refuses or limits.
 */
import { assert, describe, it, layer } from "@effect/vitest"
import { Operation } from "@etl-stream/core/ChangeBatch"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import { isRetryable } from "@etl-stream/core/ConnectorError"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { generateKeyPairSync } from "node:crypto"
import { Config } from "../src/Config.ts"
import * as Credentials from "../src/Credentials.ts"
import { plugin } from "../src/index.ts"
import * as SqlClient from "../src/SqlClient.ts"
import * as Batches from "./Batches.ts"
import * as Local from "./Local.ts"

class Server extends Context.Service<Server, Local.Local>()("test/Server") {
  static readonly layer = Layer.effect(Server, Local.start())
}

const named = (name: string) =>
  Batches.table(name, { id: { _tag: "Int64" }, note: { _tag: "Text", maxLength: undefined } }, {
    _tag: "Key",
    columns: [0]
  })
const at = (ordinal: number) => Sequence.make(20n, BigInt(ordinal))
const inserts = (name: string, from: number, to: number) =>
  Batches.batch(
    named(name),
    Array.from({ length: to - from }, (_, index): Batches.Row => ({
      op: Operation.Insert,
      sequence: at(from + index),
      values: [BigInt(from + index), "note"]
    }))
  )

/** Opens a table with an empty copy. */
const opened = Effect.fnUntraced(function*(local: Local.Local, name: string) {
  const running = yield* Local.run(local, {}, name)
  const table = yield* running.open(named(name))
  yield* Local.copy(table, named(name), 10n, [])
  return { running, table }
})

const exactly = (local: Local.Local, name: string, rows: number) =>
  Effect.gen(function*() {
    const count = (of: string, column: string) =>
      Effect.map(
        local.query(`SELECT COUNT(*) AS "n", COUNT(DISTINCT "${column}") AS "d" FROM ${of}`),
        ([found]) => found
      )
    const expected = { n: String(rows), d: String(rows) }
    assert.deepStrictEqual(yield* count(`RAW.ETL_STREAM.SHOP__${name.toUpperCase()}__JOURNAL`, "_ETL_SEQ"), expected)
    assert.deepStrictEqual(yield* count(`RAW.SHOP.${name.toUpperCase()}`, "ID"), expected)
  })

layer(Server.layer, { timeout: 120_000, excludeTestServices: true })("Faults", (it) => {
  it.effect("outlasts refusals and broken connections before a row was taken, in every call", () =>
    Effect.gen(function*() {
      const local = yield* Server
      yield* local.fault("streaming", { kind: "status", endpoint: "hostname", status: 503 })
      yield* local.fault("streaming", { kind: "dropBeforeStore", endpoint: "token" })
      yield* local.fault("streaming", { kind: "dropBeforeStore", endpoint: "open" })
      const { running, table } = yield* opened(local, "outlasts")
      yield* local.fault("streaming", {
        kind: "status",
        endpoint: "append",
        status: 429,
        body: { code: "ReceiverSaturated" }
      })
      yield* local.fault("streaming", {
        kind: "status",
        endpoint: "append",
        status: 500,
        body: "ERR_GENERAL_EXCEPTION_RETRY_REQUEST"
      })
      yield* local.fault("streaming", { kind: "dropBeforeStore", endpoint: "append" })
      yield* local.fault("streaming", {
        kind: "status",
        endpoint: "status",
        status: 500,
        body: { error_code: "SOMETHING" }
      })
      yield* table.rows(inserts("outlasts", 0, 50))
      yield* table.durable(at(49))
      yield* running.sink.settle
      yield* exactly(local, "outlasts", 50)
    }))

  it.effect("ends the run when it can't know whether rows were taken, and the next run neither loses nor doubles them", () =>
    Effect.gen(function*() {
      const local = yield* Server
      yield* Effect.scoped(Effect.gen(function*() {
        const { table } = yield* opened(local, "unknown")
        yield* table.rows(inserts("unknown", 0, 10))
        yield* local.fault("streaming", { kind: "dropAfterStore", endpoint: "append" })
        const error = (yield* Effect.flip(table.rows(inserts("unknown", 10, 20)))) as ConnectorError // the sink's only error type
        assert.strictEqual(error.reason, "Fenced")
        assert.isTrue(isRetryable(error))
      }))
      const running = yield* Local.run(local, {}, "unknown")
      const table = yield* running.open(named("unknown"))
      const held = Number(table.writer.position.committed?.ordinal)
      assert.strictEqual(held, 19)
      yield* table.rows(inserts("unknown", 20, 30))
      yield* table.durable(at(29))
      yield* running.sink.settle
      yield* exactly(local, "unknown", 30)
    }))

  it.effect("ends the run when its channel is invalidated", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const { table } = yield* opened(local, "invalid")
      yield* local.fault("streaming", { kind: "invalidateChannel", endpoint: "append" })
      const error = (yield* Effect.flip(table.rows(inserts("invalid", 0, 10)))) as ConnectorError // the sink's only error type
      assert.strictEqual(error.reason, "Fenced")
    }))

  it.effect("repeats statements and uploads whose answers were lost, without effect", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const running = yield* Local.run(local, {}, "lostanswers")
      const table = yield* running.open(named("lostanswers"))
      for (const match of ["COPY INTO", "MERGE INTO .*LOSTANSWERS", "COMMIT"]) {
        yield* local.fault("driver", { endpoint: "query", kind: "dropAfter", count: 1, match })
      }
      yield* local.fault("driver", { endpoint: "upload", kind: "status", count: 1, status: 503 })
      yield* Local.copy(table, named("lostanswers"), 10n, [
        Batches.batch(named("lostanswers"), [{
          op: Operation.Read,
          sequence: Sequence.make(10n, 0n),
          values: [1000n, "copied"]
        }])
      ])
      yield* table.rows(inserts("lostanswers", 0, 10))
      yield* table.durable(at(9))
      yield* running.sink.settle
      yield* local.clearFaults
      assert.deepStrictEqual(
        yield* local.query(`SELECT COUNT(*) AS "n", COUNT(DISTINCT "ID") AS "d" FROM RAW.SHOP.LOSTANSWERS`),
        [{ n: "11", d: "11" }]
      )
    }), 120_000)

  it.effect("sends a request in halves when it is refused as too large, and single rows another way", () =>
    Effect.gen(function*() {
      const local = yield* Server
      const { running, table } = yield* opened(local, "halved")
      yield* local.fault("streaming", { kind: "status", endpoint: "append", status: 413, count: 2 })
      yield* table.rows(inserts("halved", 0, 20))
      yield* table.durable(at(19))
      yield* local.clearStatements
      // Twenty rows are halved five times: the first one is alone then, and refused as well.
      yield* local.fault("streaming", { kind: "status", endpoint: "append", status: 413, count: 6 })
      yield* table.rows(inserts("halved", 20, 40))
      yield* table.durable(at(39))
      assert.isTrue((yield* local.statements).some(({ sql }) => sql.startsWith("COPY INTO")))
      yield* running.sink.settle
      yield* exactly(local, "halved", 40)
    }))

  it.effect("changes to gzip when zstd is refused, once and only before any was taken", () =>
    Effect.gen(function*() {
      const local = yield* Server
      for (const [status, body] of [[415, { code: "ERR_UNSUPPORTED_MEDIA_TYPE" }], [400, "<html></html>"]] as const) {
        const name = `coding${status}`
        const { running, table } = yield* opened(local, name)
        yield* local.fault("streaming", { kind: "status", endpoint: "append", status, body })
        yield* table.rows(inserts(name, 0, 20))
        yield* table.rows(inserts(name, 20, 30))
        yield* table.durable(at(29))
        yield* running.sink.settle
        yield* exactly(local, name, 30)
        yield* local.fault("streaming", { kind: "status", endpoint: "append", status: 415, body: {} })
        const error = (yield* Effect.flip(table.rows(inserts(name, 30, 40)))) as ConnectorError // the sink's only error type
        assert.strictEqual(error.reason, "Protocol")
        assert.isUndefined(error.table)
      }
      const { table } = yield* opened(local, "codingproven")
      yield* table.rows(inserts("codingproven", 0, 10))
      yield* local.fault("streaming", { kind: "status", endpoint: "append", status: 415, body: {} })
      const error = (yield* Effect.flip(table.rows(inserts("codingproven", 10, 20)))) as ConnectorError // the sink's only error type
      assert.strictEqual(error.reason, "Protocol")
    }))

  it.effect("finds the row that a request is refused for, and names its position and table", () =>
    Effect.gen(function*() {
      const local = yield* Server
      yield* Effect.scoped(Effect.gen(function*() {
        const { table } = yield* opened(local, "refusedrow")
        // Twenty rows are halved five times, and then the first one is alone.
        yield* local.fault("streaming", {
          kind: "status",
          endpoint: "append",
          status: 400,
          body: { code: "ERR_MALFORMED_ROWS", message: "Row 1: 'note'" },
          count: 6
        })
        const error = (yield* Effect.flip(table.rows(inserts("refusedrow", 0, 20)))) as ConnectorError // the sink's only error type
        assert.strictEqual(error.reason, "Rejected")
        assert.strictEqual(error.table, "public.refusedrow")
        assert.include(error.message, Sequence.format(at(0)))
        assert.notInclude(JSON.stringify(error), "note")
        assert.deepStrictEqual(table.reported, [])
      }))
      yield* local.clearFaults
      const running = yield* Local.run(local, {}, "refusedrow")
      const table = yield* running.open(named("refusedrow"))
      assert.strictEqual(table.writer.position.committed?.commit, 9n)
      yield* table.rows(inserts("refusedrow", 0, 20))
      yield* table.durable(at(19))
      yield* running.sink.settle
      yield* exactly(local, "refusedrow", 20)
    }))

  it.effect(
    "repeats uploads that the stage's storage refuses, and ends the run as unreachable when it goes on",
    () =>
      Effect.gen(function*() {
        const local = yield* Server
        const { table } = yield* opened(local, "uploads")
        const read = Batches.batch(named("uploads"), [{
          op: Operation.Read,
          sequence: Sequence.make(30n, 0n),
          values: [1n, "copied"]
        }])
        // The driver itself gives up at a broken connection.
        yield* local.fault("driver", { endpoint: "upload", kind: "dropBefore", count: 2 })
        yield* Local.copy(table, named("uploads"), 30n, [read])
        yield* local.clearFaults
        yield* local.fault("driver", { endpoint: "upload", kind: "status", count: 1000, status: 403 })
        const error = (yield* Effect.flip(Local.copy(table, named("uploads"), 40n, [read]))) as ConnectorError // the sink's only error type
        yield* local.clearFaults
        assert.strictEqual(error.reason, "Unreachable")
        assert.isTrue(isRetryable(error))
      }),
    120_000
  )

  it.effect("doesn't take a table that it may not see for one that is gone", () =>
    Effect.gen(function*() {
      const local = yield* Server
      yield* Effect.scoped(opened(local, "unseen"))
      yield* local.fault("driver", {
        endpoint: "query",
        kind: "error",
        count: 2,
        match: "DESCRIBE TABLE .*SHOP.*UNSEEN",
        code: "002003",
        sqlState: "42S02",
        message: "Table does not exist or not authorized."
      })
      yield* Effect.scoped(Effect.gen(function*() {
        const running = yield* Local.run(local, {}, "unseen")
        const error = (yield* Effect.flip(running.open(named("unseen")))) as ConnectorError // the sink's only error type
        assert.strictEqual(error.reason, "Forbidden")
        assert.include(error.hint, "grant")
      }))
      yield* local.clearFaults
      const again = yield* (yield* Local.run(local, {}, "unseen")).open(named("unseen"))
      assert.strictEqual(again.writer.position.copied, 10n)
    }))

  it.effect(
    "says what is wrong with the login, the role, the warehouse and the database",
    () =>
      Effect.gen(function*() {
        const local = yield* Server
        const wrongKey = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey.export({
          type: "pkcs8",
          format: "pem"
        }).toString()
        const cases = [
          [{ auth: { privateKey: wrongKey } }, "Unauthorized", "LOADER"],
          [{ auth: { password: "not the password" } }, "Unauthorized", "LOADER"],
          [{ auth: { token: "not-a-token" } }, "Unauthorized", "LOADER"],
          [{ auth: { privateKeyFile: "./nowhere.p8" } }, "Misconfigured", "nowhere.p8"],
          [{ role: "NOBODY" }, "Forbidden", "NOBODY"],
          [{ warehouse: "NO_WH" }, "Missing", "NO_WH"],
          [{ database: "NO_DB" }, "Missing", "NO_DB"],
          [{ url: "http://127.0.0.1:1" }, "Unreachable", "ECONNREFUSED"]
        ] as const
        for (const [options, reason, named] of cases) {
          const error = yield* Effect.flip(
            plugin.make(local.config(options), { pipeline: "wrong", directory: local.directory })
          )
          assert.strictEqual(error.reason, reason, JSON.stringify(options).slice(0, 40))
          assert.include(error.message, named)
          assert.notInclude(JSON.stringify(error), "not the password")
          assert.notInclude(JSON.stringify(error), "PRIVATE KEY")
        }
      }),
    120_000
  )

  it.effect("logs in by key, encrypted key, token and password", () =>
    Effect.gen(function*() {
      const local = yield* Server
      for (const auth of [{ token: "a-programmatic-access-token" }, { password: Local.password }]) {
        yield* Effect.scoped(plugin.make(local.config({ auth }), { pipeline: "auth", directory: local.directory }))
      }
      // A programmatic access token serves the streaming API too.
      const running = yield* Local.run(local, { auth: { token: "a-programmatic-access-token" } }, "token")
      const table = yield* running.open(named("bytoken"))
      yield* Local.copy(table, named("bytoken"), 10n, [])
      yield* table.rows(inserts("bytoken", 0, 5))
      yield* table.durable(at(4))
    }))
})

describe("Limits", () => {
  it.live(
    "renews tokens that end, waits for an earlier writer's rows, and keeps to the channel's rates",
    () =>
      Effect.gen(function*() {
        const local = yield* Local.start({
          streaming: {
            tokenTtlMillis: 2000,
            maxRequestBytes: 4_000_000,
            requestsPerSecond: 10,
            commitDelayMillis: { min: 600, max: 700 }
          }
        })
        yield* Effect.scoped(Effect.gen(function*() {
          const { table } = yield* opened(local, "limits")
          for (let chunk = 0; chunk < 15; chunk++) yield* table.rows(inserts("limits", chunk * 10, chunk * 10 + 10))
        }))
        // The last rows are accepted and not committed; opening waits for them.
        const running = yield* Local.run(local, {}, "limits")
        const table = yield* running.open(named("limits"))
        assert.deepStrictEqual(table.writer.position.committed, at(149))
        yield* table.rows(inserts("limits", 150, 160))
        yield* table.durable(at(159))
        yield* running.sink.settle
        yield* exactly(local, "limits", 160)
      }).pipe(Effect.scoped),
    60_000
  )
})

describe("SqlClient", () => {
  it.live(
    "renews its session, and opens another one when that can't be renewed any more",
    () =>
      Effect.gen(function*() {
        const local = yield* Local.start()
        const session = (): Effect.Effect<unknown> =>
          Effect.map(local.query(`SELECT CURRENT_SESSION() AS "s"`), ([row]) => row?.["s"])
        const first = yield* session()
        const expired = (endpoint: string) => local.fault("driver", { endpoint, kind: "expireSession" })
        yield* expired("query")
        assert.strictEqual(yield* session(), first)
        assert.deepStrictEqual(yield* local.faults, [])
        // The session's token, and the one that it would be renewed by.
        yield* expired("query")
        yield* expired("token")
        assert.notStrictEqual(yield* session(), first)
        assert.deepStrictEqual(yield* local.faults, [])
      }).pipe(Effect.scoped),
    60_000
  )

  it.live(
    "doesn't wait for ever for an answer, not even to COMMIT, and goes on in another session",
    () =>
      Effect.gen(function*() {
        const local = yield* Local.start()
        const config = local.config()
        const sql = yield* SqlClient.make(config, yield* Credentials.make(config.auth, local.directory), "limits", {
          login: "20 seconds",
          control: "500 millis",
          upload: "500 millis",
          statement: "20 seconds"
        })
        const session = sql.execute({ what: "test", sql: `SELECT CURRENT_SESSION() AS "s"` }).pipe(
          Effect.map(({ rows }) => rows[0]?.["s"])
        )
        const before = yield* session
        yield* local.query("CREATE SCHEMA RAW.SHOP")
        yield* local.query("CREATE TABLE RAW.SHOP.T (ID NUMBER)")
        yield* local.query("CREATE STAGE RAW.SHOP.S")
        const hang = (match: string) =>
          local.fault("driver", { endpoint: "query", kind: "delay", count: 1, millis: 3000, match })
        let told = false
        const commit = sql.use((lent) =>
          lent.transaction(
            { what: "Testing" },
            Effect.asVoid(lent.execute({ what: "test", sql: "INSERT INTO RAW.SHOP.T VALUES (1)" })),
            () => {
              told = true
            }
          )
        )
        const upload = sql.execute({ what: "Testing", sql: "PUT file://f @RAW.SHOP.S", file: Buffer.from("x") })
        for (const [hung, match] of [[commit, "COMMIT"], [upload, "PUT"]] as const) {
          yield* hang(match)
          const error = yield* Effect.flip(hung)
          assert.strictEqual(error.reason, "Unreachable", match)
          assert.include(error.message, "no answer")
        }
        assert.isFalse(told)
        assert.notStrictEqual(yield* session, before)
      }).pipe(Effect.scoped),
    60_000
  )

  it.live("rolls back what is interrupted, and a later merge does it once", () =>
    Effect.gen(function*() {
      const local = yield* Local.start()
      const { running, table } = yield* opened(local, "interrupted")
      yield* table.rows(inserts("interrupted", 0, 5))
      yield* table.durable(at(4))
      yield* local.fault("driver", {
        endpoint: "query",
        kind: "delay",
        count: 1,
        millis: 600,
        match: "MERGE INTO .*INTERRUPTED"
      })
      yield* Effect.timeoutOption(running.sink.settle, "300 millis")
      yield* running.sink.settle
      yield* exactly(local, "interrupted", 5)
    }).pipe(Effect.scoped), 60_000)
})

describe("plugin", () => {
  it("describes its options", () => {
    assert.strictEqual(plugin.name, "@etl-stream/sink-snowflake")
    const document = JSON.stringify(Schema.toJsonSchemaDocument(Config))
    for (const option of ["journalSchema", "privateKeyFile", "outOfRange", "warehouse"]) {
      assert.include(document, option)
    }
  })
})
