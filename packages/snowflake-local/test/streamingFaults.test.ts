/**
 * Faults of the streaming endpoints, each seen by a plain client.
 */
import { assert, describe, it } from "@effect/vitest"
import { keyPairJwt, withServer } from "./streaming/Client.ts"
import { events, ids, numbered } from "./streaming/Events.ts"

describe("a fault", () => {
  it("answers with the status and body that a test asks for, in every shape, as often as asked", () =>
    withServer({}, async (client) => {
      await client.table(events)
      await client.fault({
        kind: "status",
        endpoint: "open",
        count: 2,
        status: 500,
        body: "ERR_GENERAL_EXCEPTION_RETRY_REQUEST"
      })
      await client.fault({ kind: "status", endpoint: "status", status: 503, body: { error_code: "ERR_X" } })
      await client.fault({ kind: "status", endpoint: "open" })
      const first = await client.open("EVENTS", "c")
      assert.deepStrictEqual([first.status, first.text], [500, `"ERR_GENERAL_EXCEPTION_RETRY_REQUEST"`])
      assert.strictEqual((await client.open("EVENTS", "c")).status, 500)
      const third = await client.open("EVENTS", "c")
      assert.deepStrictEqual([third.status, third.body.code], [503, "ERR_GENERAL_EXCEPTION_RETRY_REQUEST"])
      assert.strictEqual((await client.open("EVENTS", "c")).status, 200)
      assert.deepStrictEqual(JSON.parse((await client.bulk("EVENTS", ["c"])).text), { error_code: "ERR_X" })
    }))

  it("answers late when asked to", () =>
    withServer({}, async (client) => {
      await client.table(events)
      await client.fault({ kind: "delay", endpoint: "open", millis: 200 })
      const started = performance.now()
      assert.strictEqual((await client.open("EVENTS", "c")).status, 200)
      assert.isAtLeast(performance.now() - started, 190)
    }))

  it("drops the connection before or after it stored the rows", () =>
    withServer({}, async (client) => {
      await client.table(events)
      const opened = (await client.open("EVENTS", "c")).body.next_continuation_token
      await client.fault({ kind: "dropBeforeStore", endpoint: "append" })
      await client.append("EVENTS", "c", opened, numbered(1, 1), { single: "1" }).then(
        () => assert.fail("answered"),
        () => {}
      )
      await client.fault({ kind: "dropAfterStore", endpoint: "append" })
      await client.append("EVENTS", "c", opened, numbered(1, 1), { single: "1" }).then(
        () => assert.fail("answered"),
        () => {}
      )
      const repeated = await client.append("EVENTS", "c", opened, numbered(1, 1), { single: "1" })
      assert.strictEqual(repeated.body.code, "STALE_CONTINUATION_TOKEN_SEQUENCER")
      await client.committed("EVENTS", "c", "1")
      assert.deepStrictEqual(await client.sql(ids), [["1"]])
    }))

  it("skips a row silently and only counts it", () =>
    withServer({}, async (client) => {
      await client.table(events)
      const opened = (await client.open("EVENTS", "c")).body.next_continuation_token
      await client.fault({ kind: "rejectRowSilently", endpoint: "append" })
      await client.append("EVENTS", "c", opened, numbered(1, 3), { single: "3" })
      const status = await client.committed("EVENTS", "c", "3")
      assert.deepStrictEqual([status.rows_parsed, status.rows_inserted, status.rows_error_count], [3, 2, 1])
      assert.deepStrictEqual(await client.sql(ids), [["2"], ["3"]])
      const [error] = await client.sql(`SELECT message, offset_upper_bound, error_data FROM "_local".streaming_errors`)
      assert.deepStrictEqual(error, ["The row was skipped by an injected fault", "3", `{"id":1,"name":"n1"}`])
    }))

  it("skips the first good row behind a bad one", () =>
    withServer({}, async (client) => {
      await client.table(events)
      const opened = (await client.open("EVENTS", "c")).body.next_continuation_token
      await client.fault({ kind: "rejectRowSilently", endpoint: "append" })
      const body = `{"id":1,"nobody":1}\n{"id":2}\n{"id":3}\n`
      await client.append("EVENTS", "c", opened, body, { single: "3" })
      const status = await client.committed("EVENTS", "c", "3")
      assert.deepStrictEqual([status.rows_inserted, status.rows_error_count], [1, 2])
      const errors = await client.sql(`SELECT error_data FROM "_local".streaming_errors ORDER BY rowid`)
      assert.deepStrictEqual(errors, [[`{"id":1,"nobody":1}`], [`{"id":2}`]])
    }))

  it("answers an error after it stored the rows, with headers of the test's choice", () =>
    withServer({}, async (client) => {
      await client.table(events)
      const opened = (await client.open("EVENTS", "c")).body.next_continuation_token
      for (const status of [408, 429, 500, 503]) {
        await client.fault({ kind: "status", endpoint: "append", status, headers: { "retry-after": "1" } })
        const refused = await client.append("EVENTS", "c", opened, numbered(1, 1), { single: "1" })
        assert.strictEqual(refused.status, status)
      }
      await client.fault({ kind: "statusAfterStore", endpoint: "append", status: 500 })
      const failed = await client.append("EVENTS", "c", opened, numbered(1, 1), { single: "1" })
      assert.strictEqual(failed.status, 500)
      await client.committed("EVENTS", "c", "1")
      assert.deepStrictEqual(await client.sql(ids), [["1"]])
    }))

  it("strikes the nth request, and as often as it says", () =>
    withServer({}, async (client) => {
      await client.table(events)
      await client.fault({ kind: "status", endpoint: "open", status: 500, skip: 2, count: 1 })
      const seen: Array<number> = []
      for (let n = 0; n < 4; n++) seen.push((await client.open("EVENTS", "c")).status)
      assert.deepStrictEqual(seen, [200, 200, 500, 200])
      await client.fault({ kind: "status", endpoint: "open", status: 429, count: "always" })
      for (let n = 0; n < 3; n++) assert.strictEqual((await client.open("EVENTS", "c")).status, 429)
      await client.clearFaults()
      assert.strictEqual((await client.open("EVENTS", "c")).status, 200)
    }))

  it("makes the access token expire until another one is exchanged, within the same second too", () =>
    withServer({}, async (client) => {
      await client.table(events)
      await client.fault({ kind: "expireToken", endpoint: "open" })
      for (let n = 0; n < 2; n++) {
        const refused = await client.open("EVENTS", "c")
        assert.deepStrictEqual([refused.status, refused.body.code], [401, "390318"])
      }
      client.token = (await client.exchange(new URL(client.base).host, keyPairJwt())).text
      assert.strictEqual((await client.open("EVENTS", "c")).status, 200)
    }))

  it("loses acknowledged rows that are uncommitted when the channel is opened, even if that was to fail then", () =>
    withServer({}, async (client) => {
      await client.table(events)
      const opened = (await client.open("EVENTS", "c")).body.next_continuation_token
      await client.fault({ kind: "holdCommits" })
      await client.append("EVENTS", "c", opened, numbered(1, 2), { single: "2" })
      const flag = { fail_on_uncommitted_rows: true }
      assert.strictEqual((await client.open("EVENTS", "c", flag)).status, 409)
      await client.fault({ kind: "loseUncommitted" })
      const again = await client.open("EVENTS", "c", flag)
      assert.deepStrictEqual(
        [again.status, again.body.channel_status.last_committed_offset_token, again.body.channel_status.rows_inserted],
        [200, null, 0]
      )
      await client.clearFaults()
      await client.append("EVENTS", "c", again.body.next_continuation_token, numbered(1, 2), { single: "2" })
      await client.committed("EVENTS", "c", "2")
      assert.deepStrictEqual(await client.sql(ids), [["1"], ["2"]])
    }))

  it("commits late, for the channel that it names", () =>
    withServer({}, async (client) => {
      await client.table(events)
      await client.fault({ kind: "slowCommits", channel: "slow", millis: 400 })
      // So late that it isn't waited for.
      await client.fault({ kind: "slowCommits", channel: "slowest", millis: 600_000 })
      const started = performance.now()
      for (const channel of ["slow", "slowest", "quick"]) {
        const opened = (await client.open("EVENTS", channel)).body.next_continuation_token
        await client.append("EVENTS", channel, opened, numbered(1, 1), { single: "1" })
      }
      await client.committed("EVENTS", "quick", "1")
      await client.committed("EVENTS", "slow", "1")
      assert.strictEqual((await client.status("EVENTS", "slowest")).last_committed_offset_token, null)
      assert.isAtLeast(performance.now() - started, 400)
    }))

  it("reports rows as committed before they show, for the channel that it names", () =>
    withServer({}, async (client) => {
      await client.table(events)
      await client.fault({ kind: "lateRows", channel: "late" })
      for (const [index, channel] of ["late", "prompt"].entries()) {
        const opened = (await client.open("EVENTS", channel)).body.next_continuation_token
        await client.append("EVENTS", channel, opened, numbered(index + 1, index + 1), { single: "1" })
        await client.committed("EVENTS", channel, "1")
      }
      assert.deepStrictEqual(await client.sql(ids), [["2"]])
      assert.strictEqual((await client.open("EVENTS", "late", { fail_on_uncommitted_rows: true })).status, 409)
      await client.clearFaults()
      while ((await client.sql(ids)).length < 2) await new Promise((resolve) => setTimeout(resolve, 5))
      assert.deepStrictEqual(await client.sql(ids), [["1"], ["2"]])
      // Rows show a moment before the status has them.
      assert.strictEqual((await client.committed("EVENTS", "late", "1")).rows_inserted, 1)
    }))

  it("forgets a channel and its offset token, as after thirty idle days", () =>
    withServer({}, async (client) => {
      await client.table(events)
      const opened = (await client.open("EVENTS", "c")).body.next_continuation_token
      const other = (await client.open("EVENTS", "other")).body.next_continuation_token
      const first = await client.append("EVENTS", "c", opened, numbered(1, 1), { single: "1" })
      await client.committed("EVENTS", "c", "1")
      assert.strictEqual((await client.request("DELETE", "/_local/streaming/channels?channel=c")).status, 200)
      assert.isUndefined(await client.find("EVENTS", "c"))
      const refused = await client.append("EVENTS", "c", first.body.next_continuation_token, numbered(2, 2))
      assert.deepStrictEqual(
        [refused.status, refused.body.code],
        [404, "ERR_CHANNEL_DOES_NOT_EXIST_OR_IS_NOT_AUTHORIZED"]
      )
      const again = await client.open("EVENTS", "c")
      assert.isNull(again.body.channel_status.last_committed_offset_token)
      assert.strictEqual((await client.append("EVENTS", "other", other, numbered(3, 3))).status, 200)
    }))

  it("invalidates a channel until it is opened again", () =>
    withServer({}, async (client) => {
      await client.table(events)
      const opened = (await client.open("EVENTS", "c")).body.next_continuation_token
      await client.fault({
        kind: "invalidateChannel",
        endpoint: "append",
        channel: "c",
        code: "ERR_CHANNEL_HAS_INVALID_ROW_SEQUENCER"
      })
      const refused = await client.append("EVENTS", "c", opened, numbered(1, 1))
      assert.deepStrictEqual([refused.status, refused.body.code], [400, "ERR_CHANNEL_HAS_INVALID_ROW_SEQUENCER"])
      assert.strictEqual(
        (await client.status("EVENTS", "c")).channel_status_code,
        "ERR_CHANNEL_HAS_INVALID_ROW_SEQUENCER"
      )
      const again = await client.open("EVENTS", "c")
      assert.strictEqual(again.body.channel_status.channel_status_code, "SUCCESS")
    }))

  it("refuses a fault that it does not know", () =>
    withServer({}, async (client) => {
      for (const body of [`{"kind":"magic"}`, `{"kind":"status","often":3}`, "no json"]) {
        assert.strictEqual((await client.request("POST", "/_local/streaming/faults", { body })).status, 400)
      }
      const { body } = await client.request("GET", "/_local/streaming/channels")
      assert.deepStrictEqual(body.channels, [])
    }))
})
