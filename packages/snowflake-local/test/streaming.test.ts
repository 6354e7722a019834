import { assert, describe, it } from "@effect/vitest"
import { get } from "node:http"
import { gzipSync, zstdCompressSync } from "node:zlib"
import { keyPairJwt, startServer, until, withDataDir, withServer } from "./streaming/Client.ts"
import { events, ids, numbered } from "./streaming/Events.ts"

describe("hostname and token", () => {
  it("answers the ingest host and the scoped token as plain text", () =>
    withServer({ tokenTtlMillis: 120_000 }, async (client) => {
      const jwt = keyPairJwt()
      const host = await client.request("GET", "/v2/streaming/hostname", {
        headers: { authorization: `Bearer ${jwt}` }
      })
      assert.strictEqual(host.status, 200)
      assert.strictEqual(`http://${host.text}`, client.base)
      const token = await client.exchange(host.text, jwt)
      assert.strictEqual(token.status, 200)
      const claims = JSON.parse(Buffer.from(token.text.split(".")[1] ?? "", "base64url").toString())
      assert.approximately(claims.exp, Date.now() / 1000 + 120, 5)
    }))

  it("takes the key-pair JWT as bearer too, a role, and no scope at all", () =>
    withServer({}, async (client) => {
      await client.table(events)
      for (const scope of [`${client.base.slice(7)} session:role:SYSADMIN`, undefined]) {
        const answer = await client.request("POST", "/oauth/token", {
          headers: { authorization: `Bearer ${keyPairJwt()}`, "content-type": "application/x-www-form-urlencoded" },
          body: new URLSearchParams({
            grant_type: "urn:ietf:params:oauth:grant-type:jwt-bearer",
            ...(scope === undefined ? {} : { scope })
          }).toString()
        })
        assert.strictEqual(answer.status, 200)
        client.token = answer.text
        assert.strictEqual((await client.open("EVENTS", "c")).status, 200)
      }
    }))

  it("refuses a foreign scope, a role that is not granted, and JWTs that prove nothing", () =>
    withServer({}, async (client) => {
      const host = client.base.slice(7)
      assert.strictEqual((await client.exchange("elsewhere.example", keyPairJwt())).status, 400)
      assert.strictEqual((await client.exchange(`${host} session:role:ACCOUNTADMIN`, keyPairJwt())).status, 403)
      const old = Math.floor(Date.now() / 1000) - 4000
      for (
        const jwt of [
          "",
          "a.b.c",
          keyPairJwt({ iat: old, exp: old + 60 }),
          keyPairJwt({ iss: "ORG-ACCT.LOADER.SHA256:AAAA" })
        ]
      ) {
        const answer = await client.exchange(host, jwt)
        assert.strictEqual(answer.status, 401)
        assert.strictEqual(answer.body.code, "390144")
      }
      const { status } = await client.request("GET", "/v2/streaming/hostname")
      assert.strictEqual(status, 401)
    }))

  it("refuses an expired, a changed and a missing token with 401 on ingest calls", () =>
    withServer({ tokenTtlMillis: 2000 }, async (client) => {
      await client.table(events)
      assert.strictEqual((await client.open("EVENTS", "c")).status, 200)
      const expired = await until(async () => {
        const answer = await client.open("EVENTS", "c")
        return answer.status === 200 ? undefined : answer
      })
      assert.deepStrictEqual([expired.status, expired.body.code], [401, "390318"])
      await client.login()
      const good = client.token
      client.token = `${good.slice(0, -3)}AAA`
      assert.strictEqual((await client.open("EVENTS", "c")).status, 401)
      client.token = keyPairJwt()
      assert.strictEqual((await client.open("EVENTS", "c")).status, 401)
      // The status of channels is what Snowflake answers to a key-pair JWT too.
      assert.strictEqual((await client.bulk("EVENTS", ["c"])).status, 200)
    }))

  it("keeps tokens valid over a restart", () =>
    withDataDir(async (dataDir) => {
      const options = { ingestHost: "ingest.local" }
      const first = await startServer(dataDir, options)
      await first.client.table(events)
      await first.close()
      const second = await startServer(dataDir, options)
      second.client.token = first.client.token
      const answer = await second.client.open("EVENTS", "c")
      await second.close()
      assert.strictEqual(answer.status, 200)
    }))

  it("refuses a request without an Accept header and paths that lead nowhere", () =>
    withServer({}, async (client) => {
      const bare = await new Promise<string>((resolve, reject) => {
        get(`${client.base}/v2/streaming/hostname`, (response) => {
          response.setEncoding("utf8").on("data", resolve)
        }).on("error", reject)
      })
      assert.strictEqual(JSON.parse(bare).code, "391902")
      assert.strictEqual((await client.request("GET", "/v2/streaming/nowhere")).status, 404)
      assert.strictEqual(
        (await client.request("GET", "/v2/streaming/databases/%E0%A4%A/schemas/S/pipes/P")).status,
        400
      )
      assert.strictEqual(
        (await client.request("POST", "/v2/streaming/databases/DB/schemas/S/pipes/P/channels/C")).status,
        404
      )
    }))
})

describe("open", () => {
  it("creates the default pipe of a table on demand and answers the channel's status", () =>
    withServer({}, async (client) => {
      await client.table(events)
      const { body, status } = await client.open("EVENTS", "Ch-1")
      assert.strictEqual(status, 200)
      assert.isString(body.next_continuation_token)
      const { created_on_ms, ...rest } = body.channel_status
      assert.approximately(created_on_ms, Date.now(), 10_000)
      assert.deepStrictEqual(rest, {
        database_name: "DB",
        schema_name: "PUBLIC",
        pipe_name: "EVENTS-STREAMING",
        channel_name: "Ch-1",
        channel_status_code: "SUCCESS",
        last_committed_offset_token: null,
        rows_inserted: 0,
        rows_parsed: 0,
        rows_error_count: 0,
        last_error_offset_upper_bound: null,
        last_error_message: null,
        last_error_timestamp: null,
        snowflake_avg_processing_latency_ms: 0
      })
    }))

  it("finds quoted tables by a quoted pipe name only, and folds names without quotes", () =>
    withServer({}, async (client) => {
      await client.table({ name: "Mixed Case", columns: [{ name: "a", type: "VARCHAR" }] })
      await client.table(events)
      assert.strictEqual((await client.open("Mixed Case", "c")).status, 200)
      const path = (pipe: string) => `/v2/streaming/databases/db/schemas/public/pipes/${pipe}/channels/c`
      const put = (pipe: string) =>
        client.request("PUT", path(pipe), { headers: { authorization: `Bearer ${client.token}` }, body: "{}" })
      assert.strictEqual((await put("events-streaming")).status, 200)
      assert.strictEqual((await put("Mixed%20Case-STREAMING")).status, 404)
    }))

  it("tells apart what is missing", () =>
    withServer({}, async (client) => {
      await client.table(events)
      const put = async (path: string) => {
        const answer = await client.request("PUT", `/v2/streaming/${path}/channels/c`, {
          headers: { authorization: `Bearer ${client.token}` },
          body: "{}"
        })
        return [answer.status, answer.body.code]
      }
      assert.deepStrictEqual(await put("databases/NO/schemas/PUBLIC/pipes/EVENTS-STREAMING"), [
        404,
        "ERR_DATABASE_DOES_NOT_EXIST_OR_NOT_AUTHORIZED"
      ])
      assert.deepStrictEqual(await put("databases/DB/schemas/PUBLIC/pipes/NO-STREAMING"), [
        404,
        "ERR_TABLE_DOES_NOT_EXIST_NOT_AUTHORIZED"
      ])
      assert.deepStrictEqual(await put("databases/DB/schemas/PUBLIC/pipes/EVENTS"), [
        404,
        "ERR_PIPE_DOES_NOT_EXIST_OR_NOT_AUTHORIZED"
      ])
      const append = await client.append("EVENTS", "never-opened", "1_1_0", [{ id: 1 }])
      assert.deepStrictEqual([append.status, append.body.code], [
        404,
        "ERR_CHANNEL_DOES_NOT_EXIST_OR_IS_NOT_AUTHORIZED"
      ])
    }))

  it("takes a pipe that matches by column name, and refuses one that transforms", () =>
    withServer({}, async (client) => {
      await client.table(events)
      const pipe = async (name: string, select?: string) => {
        await client.request("POST", "/_test/pipe", { body: JSON.stringify({ name, table: "EVENTS", select }) })
        const path = `databases/DB/schemas/PUBLIC/pipes/${name}/channels/c`
        const headers = { authorization: `Bearer ${client.token}`, "content-type": "application/x-ndjson" }
        const opened = await client.request("PUT", `/v2/streaming/${path}`, { headers, body: "{}" })
        if (opened.status !== 200) return opened
        const query = `continuationToken=${opened.body.next_continuation_token}&offsetToken=1`
        return await client.request("POST", `/v2/streaming/data/${path}/rows?${query}`, { headers, body: `{"id":1}\n` })
      }
      assert.strictEqual((await pipe("ALL_COLUMNS")).status, 200)
      await until(async () => (await client.sql(ids)).length === 1 ? true : undefined)
      const refused = await pipe("TRANSFORMING", "SELECT $1:id")
      assert.deepStrictEqual([refused.status, refused.body.code], [409, "ERR_PIPE_IN_INVALID_STATE"])
    }))

  it("discards uncommitted rows, or refuses with 409 when asked to", () =>
    withServer({ commitDelayMillis: { min: 60_000, max: 60_000 } }, async (client) => {
      await client.table(events)
      const { body } = await client.open("EVENTS", "c")
      assert.strictEqual(
        (await client.append("EVENTS", "c", body.next_continuation_token, numbered(1, 3), { single: "3" })).status,
        200
      )
      const refused = await client.open("EVENTS", "c", { fail_on_uncommitted_rows: true })
      assert.deepStrictEqual([refused.status, refused.body.code], [409, "ERR_CHANNEL_HAS_UNCOMMITTED_DATA"])
      const dropped = await client.drop("EVENTS", "c", { fail_on_uncommitted_rows: true })
      assert.deepStrictEqual([dropped.status, dropped.body.code], [409, "ERR_CHANNEL_HAS_UNCOMMITTED_DATA"])
      const reopened = await client.open("EVENTS", "c")
      assert.strictEqual(reopened.body.channel_status.last_committed_offset_token, null)
      assert.strictEqual((await client.open("EVENTS", "c", { fail_on_uncommitted_rows: true })).status, 200)
    }))

  it("sets the offset token that the body gives", () =>
    withServer({}, async (client) => {
      await client.table(events)
      const { body } = await client.open("EVENTS", "c", { offset_token: "42" })
      assert.strictEqual(body.channel_status.last_committed_offset_token, "42")
      assert.strictEqual((await client.status("EVENTS", "c")).last_committed_offset_token, "42")
    }))

  it("lets one of two concurrent opens through at a time", () =>
    withServer({}, async (client) => {
      await client.table(events)
      const answers = await Promise.all(Array.from({ length: 8 }, () => client.open("EVENTS", "c")))
      const opened = answers.filter((answer) => answer.status === 200)
      assert.isAbove(opened.length, 0)
      for (const answer of answers) {
        if (answer.status !== 200) {
          assert.deepStrictEqual([answer.status, answer.body.code], [409, "ERR_OPEN_CHANNEL_IN_PROGRESS"])
        }
      }
      const tokens = new Set(opened.map((answer) => answer.body.next_continuation_token))
      assert.strictEqual(tokens.size, opened.length)
      const appends = await Promise.all([...tokens].map((token) => client.append("EVENTS", "c", token, numbered(1, 1))))
      assert.strictEqual(appends.filter((answer) => answer.status === 200).length, 1)
    }))
})

describe("append and commit", () => {
  it("makes rows visible together with their offset token, later than the answer", () =>
    withServer({ commitDelayMillis: { min: 300, max: 300 } }, async (client) => {
      await client.table(events)
      const { body } = await client.open("EVENTS", "c")
      await client.fault({ kind: "holdCommits" })
      const first = await client.append("EVENTS", "c", body.next_continuation_token, numbered(1, 2), {
        start: "1",
        end: "2"
      })
      assert.strictEqual(first.status, 200)
      const second = await client.append("EVENTS", "c", first.body.next_continuation_token, numbered(3, 3), {
        start: "3",
        end: "3"
      })
      assert.strictEqual(second.status, 200)
      assert.deepStrictEqual(await client.sql(ids), [])
      assert.strictEqual((await client.status("EVENTS", "c")).last_committed_offset_token, null)
      // The delay begins now.
      await client.clearFaults()
      const status = await client.committed("EVENTS", "c", "3")
      assert.deepStrictEqual(await client.sql(ids), [["1"], ["2"], ["3"]])
      assert.deepStrictEqual([status.rows_inserted, status.rows_parsed, status.rows_error_count], [3, 3, 0])
      assert.isAtLeast(status.snowflake_avg_processing_latency_ms, 300)
    }))

  it("fences the older writer when the channel is opened again", () =>
    withServer({}, async (client) => {
      await client.table(events)
      const older = (await client.open("EVENTS", "c")).body.next_continuation_token
      const newer = (await client.open("EVENTS", "c")).body.next_continuation_token
      const fenced = await client.append("EVENTS", "c", older, numbered(1, 1), { single: "1" })
      assert.deepStrictEqual([fenced.status, fenced.body.code], [400, "STALE_CONTINUATION_TOKEN_SEQUENCER"])
      assert.strictEqual((await client.append("EVENTS", "c", newer, numbered(2, 2), { single: "2" })).status, 200)
      await client.committed("EVENTS", "c", "2")
      assert.deepStrictEqual(await client.sql(ids), [["2"]])
    }))

  it("takes each continuation token once, in order, also from concurrent appends", () =>
    withServer({}, async (client) => {
      await client.table(events)
      const first = (await client.open("EVENTS", "c")).body.next_continuation_token
      const answers = await Promise.all(
        [1, 2, 3, 4].map((id) => client.append("EVENTS", "c", first, numbered(id, id), { single: String(id) }))
      )
      const taken = answers.filter((answer) => answer.status === 200)
      assert.strictEqual(taken.length, 1)
      for (const answer of answers) {
        if (answer.status !== 200) assert.strictEqual(answer.body.code, "STALE_CONTINUATION_TOKEN_SEQUENCER")
      }
      for (const wrong of [first, "", "1_1_7", "nonsense"]) {
        assert.strictEqual((await client.append("EVENTS", "c", wrong, numbered(9, 9))).status, 400)
      }
      await until(async () => (await client.sql(ids)).length === 1 ? true : undefined)
    }))

  it("decodes gzip and zstd, and refuses other codings and broken bodies", () =>
    withServer({}, async (client) => {
      await client.table(events)
      let next = (await client.open("EVENTS", "c")).body.next_continuation_token
      const ndjson = (id: number) => Buffer.from(`{"id":${id}}\n`)
      for (
        const [coding, body] of [["gzip", gzipSync(ndjson(1))], ["zstd", zstdCompressSync(ndjson(2))], [
          "identity",
          ndjson(3)
        ]] as const
      ) {
        const headers = { "content-encoding": coding, "x-snowflake-uncompressed-content-length": "9" }
        const answer = await client.append("EVENTS", "c", next, body, { single: coding }, headers)
        assert.strictEqual(answer.status, 200, coding)
        next = answer.body.next_continuation_token
      }
      const refusals = [
        await client.append("EVENTS", "c", next, ndjson(4), {}, { "content-encoding": "br" }),
        await client.append("EVENTS", "c", next, ndjson(4), {}, { "content-encoding": "gzip" }),
        await client.append("EVENTS", "c", next, gzipSync(ndjson(4)).subarray(0, 12), {}, {
          "content-encoding": "gzip"
        }),
        await client.append("EVENTS", "c", next, ndjson(4), {}, { "x-snowflake-uncompressed-content-length": "8" }),
        await client.append("EVENTS", "c", next, ndjson(4), {}, { "content-type": "application/json" }),
        await client.append("EVENTS", "c", next, ndjson(4), { start: "4" }),
        await client.append("EVENTS", "c", next, ndjson(4), { start: "4", end: "4", single: "4" })
      ]
      assert.deepStrictEqual(refusals.map((answer) => answer.status), [415, 400, 400, 400, 415, 400, 400])
      await client.committed("EVENTS", "c", "identity")
      assert.deepStrictEqual(await client.sql(ids), [["1"], ["2"], ["3"]])
    }))

  it("refuses a body that is no NDJSON as a whole", () =>
    withServer({}, async (client) => {
      await client.table(events)
      const next = (await client.open("EVENTS", "c")).body.next_continuation_token
      const bodies = [
        "",
        "\n",
        `{"id":1}`,
        `{"id":1}\n\n`,
        `{"id":1}\n{"id":}\n`,
        `{"id":01}\n`,
        `{"id":1.}\n`,
        `{"id":+1}\n`,
        `{"id":NaN}\n`,
        `{"id":1,}\n`,
        `{'id':1}\n`,
        `{"name":"a\tb"}\n`,
        `{"name":"\\x"}\n`,
        `{"name":"\\u12g4"}\n`,
        `{"id":1} {"id":2}\n`,
        `{"id":1}{"id":2}\n`,
        `\uFEFF{"id":1}\n`,
        `{"id":1,"name":{"a":[1,2}}\n`,
        `{"name":${"[".repeat(5000)}${"]".repeat(5000)}}\n`,
        Buffer.concat([Buffer.from(`{"name":"`), Buffer.from([0xff]), Buffer.from(`"}\n`)])
      ]
      for (const body of bodies) {
        const answer = await client.append("EVENTS", "c", next, body, { single: "x" })
        assert.deepStrictEqual(
          [answer.status, answer.body.code],
          [400, "ERR_MALFORMED_ROWS"],
          String(body).slice(0, 40)
        )
      }
      // Nothing was taken: the same continuation token is still good.
      assert.strictEqual(
        (await client.append("EVENTS", "c", next, ` { "id" : 7 , "x\\u0041":1}\r\n`, { single: "7" })).status,
        200
      )
      const status = await client.committed("EVENTS", "c", "7")
      assert.deepStrictEqual([status.rows_parsed, status.rows_error_count], [1, 1])
    }))
})

describe("limits", () => {
  it("refuses more than 4 MB as sent with 413 and stores none of it, however small it unpacks", () =>
    withServer({}, async (client) => {
      await client.table({
        name: "EVENTS",
        columns: [{ name: "ID", type: "NUMBER" }, { name: "NAME", type: "VARCHAR" }]
      })
      const next = (await client.open("EVENTS", "c")).body.next_continuation_token
      const row = (id: number, size: number) => `{"id":${id},"name":"${"x".repeat(size)}"}\n`
      const over = await client.append("EVENTS", "c", next, row(1, 4_000_000), { single: "1" })
      assert.deepStrictEqual([over.status, typeof over.body.code], [413, "string"])
      const packed = await client.append("EVENTS", "c", next, gzipSync(row(2, 5_000_000)), { single: "2" }, {
        "content-encoding": "gzip"
      })
      assert.strictEqual(packed.status, 200)
      await client.committed("EVENTS", "c", "2")
      assert.deepStrictEqual(await client.sql(`SELECT "ID", length("NAME") FROM "DB.PUBLIC"."EVENTS"`), [[
        "2",
        "5000000"
      ]])
    }))

  it("refuses a body that unpacks beyond the bound", () =>
    withServer({ maxUncompressedBytes: 1_000_000 }, async (client) => {
      await client.table(events)
      const next = (await client.open("EVENTS", "c")).body.next_continuation_token
      const bomb = Buffer.alloc(50_000_000, 0x20)
      for (const [coding, body] of [["gzip", gzipSync(bomb)], ["zstd", zstdCompressSync(bomb)]] as const) {
        assert.strictEqual(
          (await client.append("EVENTS", "c", next, body, {}, { "content-encoding": coding })).status,
          413
        )
      }
    }))

  it("refuses with 429 what is over the requests per second of the channel, and takes it later", () =>
    withServer({ requestsPerSecond: 10 }, async (client) => {
      await client.table(events)
      let next = (await client.open("EVENTS", "c")).body.next_continuation_token
      const statuses: Array<number> = []
      const started = Date.now()
      let id = 1
      // A slow machine may not be over the rate with these already.
      while (id <= 15 || !statuses.includes(429)) {
        const answer = await client.append("EVENTS", "c", next, numbered(id, id), { single: String(id) })
        statuses.push(answer.status)
        if (answer.status === 200) {
          next = answer.body.next_continuation_token
          id++
        } else {
          await new Promise((resolve) => setTimeout(resolve, 20))
        }
      }
      assert.isAtLeast(Date.now() - started, 400)
      await client.committed("EVENTS", "c", String(id - 1))
      assert.strictEqual((await client.sql(ids)).length, id - 1)
    }))

  it("refuses with 429 what is over the bytes per second of the channel", () =>
    withServer({ bytesPerSecond: 10 }, async (client) => {
      await client.table(events)
      const opened = (await client.open("EVENTS", "c")).body.next_continuation_token
      const first = await client.append("EVENTS", "c", opened, numbered(1, 100))
      assert.strictEqual(first.status, 200)
      const second = await client.append("EVENTS", "c", first.body.next_continuation_token, numbered(101, 101))
      assert.deepStrictEqual([second.status, second.body.code], [429, "ReceiverSaturated"])
      // Another channel has a rate of its own.
      const other = (await client.open("EVENTS", "d")).body.next_continuation_token
      assert.strictEqual((await client.append("EVENTS", "d", other, numbered(102, 102))).status, 200)
    }))

  it("refuses with 429 when too much is uncommitted", () =>
    withServer({ maxBufferedBytes: 1000 }, async (client) => {
      await client.table(events)
      await client.fault({ kind: "holdCommits" })
      const opened = (await client.open("EVENTS", "c")).body.next_continuation_token
      const first = await client.append("EVENTS", "c", opened, numbered(1, 100), { single: "100" })
      const second = await client.append("EVENTS", "c", first.body.next_continuation_token, numbered(101, 101), {
        single: "101"
      })
      assert.strictEqual(second.status, 429)
      await client.clearFaults()
      await client.committed("EVENTS", "c", "100")
      const third = await client.append("EVENTS", "c", first.body.next_continuation_token, numbered(101, 101), {
        single: "101"
      })
      assert.strictEqual(third.status, 200)
    }))
})

describe("status, drop and tables that change", () => {
  it("answers the channels that exist, names being case-sensitive", () =>
    withServer({}, async (client) => {
      await client.table(events)
      await client.open("EVENTS", "a")
      await client.open("EVENTS", "b")
      const { body } = await client.bulk("EVENTS", ["a", "A", "b", "nobody"])
      assert.deepStrictEqual(Object.keys(body.channel_statuses).sort(), ["a", "b"])
      assert.strictEqual((await client.bulk("EVENTS", [])).status, 200)
    }))

  it("forgets a dropped channel and its offset token", () =>
    withServer({}, async (client) => {
      await client.table(events)
      const opened = (await client.open("EVENTS", "c")).body.next_continuation_token
      const { body } = await client.append("EVENTS", "c", opened, numbered(1, 1), { single: "1" })
      await client.committed("EVENTS", "c", "1")
      assert.strictEqual((await client.drop("EVENTS", "c")).status, 200)
      assert.strictEqual(await client.find("EVENTS", "c"), undefined)
      assert.strictEqual((await client.drop("EVENTS", "c")).status, 404)
      const again = await client.open("EVENTS", "c")
      assert.strictEqual(again.body.channel_status.last_committed_offset_token, null)
      assert.strictEqual((await client.append("EVENTS", "c", body.next_continuation_token, numbered(2, 2))).status, 400)
    }))

  it("invalidates a channel whose table was created again; opened anew it starts from nothing", () =>
    withServer({}, async (client) => {
      await client.table(events)
      const opened = (await client.open("EVENTS", "c")).body.next_continuation_token
      const first = await client.append("EVENTS", "c", opened, numbered(1, 1), { single: "1" })
      await client.committed("EVENTS", "c", "1")
      await client.fault({ kind: "holdCommits" })
      await client.append("EVENTS", "c", first.body.next_continuation_token, numbered(2, 2), { single: "2" })
      await client.table(events)
      await client.clearFaults()
      assert.strictEqual((await client.status("EVENTS", "c")).channel_status_code, "ERR_CHANNEL_MUST_BE_REOPENED")
      const refused = await client.append("EVENTS", "c", first.body.next_continuation_token, numbered(3, 3))
      assert.deepStrictEqual([refused.status, refused.body.code], [400, "ERR_CHANNEL_MUST_BE_REOPENED"])
      const again = await client.open("EVENTS", "c")
      assert.strictEqual(again.body.channel_status.last_committed_offset_token, null)
      await client.append("EVENTS", "c", again.body.next_continuation_token, numbered(4, 4), { single: "4" })
      await client.committed("EVENTS", "c", "4")
      assert.deepStrictEqual(await client.sql(ids), [["4"]])
    }))

  it("answers ERR_TABLE_DOES_NOT_EXIST_NOT_AUTHORIZED once the table is dropped", () =>
    withServer({}, async (client) => {
      await client.table(events)
      const opened = (await client.open("EVENTS", "c")).body.next_continuation_token
      await client.request("POST", "/_test/drop", { body: "EVENTS" })
      const answers = [await client.append("EVENTS", "c", opened, numbered(1, 1)), await client.open("EVENTS", "c")]
      for (const answer of answers) {
        assert.deepStrictEqual([answer.status, answer.body.code], [404, "ERR_TABLE_DOES_NOT_EXIST_NOT_AUTHORIZED"])
      }
    }))
})
