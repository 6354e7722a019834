import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { spawnServer, startServer, until, withDataDir } from "./streaming/Client.ts"
import { events, ids, numbered } from "./streaming/Events.ts"

type Server = Awaited<ReturnType<typeof spawnServer>>

const upTo = (last: number) => Array.from({ length: last }, (_, index) => [String(index + 1)])

describe("a killed server", () => {
  it("keeps what was committed, loses exactly what was not, and tells that the channel must be opened again", () =>
    withDataDir(async (dataDir) => {
      const first = await spawnServer(dataDir)
      await first.client.table(events)
      const opened = (await first.client.open("EVENTS", "c")).body.next_continuation_token
      const bad = [...numbered(1, 100), { id: "x" }]
      const appended = await first.client.append("EVENTS", "c", opened, bad, { single: "100" })
      const before = await first.client.committed("EVENTS", "c", "100")
      await first.client.fault({ kind: "holdCommits" })
      const lost = await first.client.append("EVENTS", "c", appended.body.next_continuation_token, numbered(101, 200), {
        single: "200"
      })
      assert.strictEqual(lost.status, 200)
      await first.kill()

      const second = await spawnServer(dataDir)
      try {
        assert.deepStrictEqual(await second.client.sql(ids), upTo(100))
        const status = await second.client.status("EVENTS", "c")
        assert.deepStrictEqual(status, {
          ...before,
          channel_status_code: "ERR_CHANNEL_MUST_BE_REOPENED_DUE_TO_ROW_SEQ_GAP"
        })
        const next = await second.client.append("EVENTS", "c", lost.body.next_continuation_token, numbered(201, 300), {
          single: "300"
        })
        assert.strictEqual(next.status, 400)
        const reopened = await second.client.open("EVENTS", "c")
        assert.strictEqual(reopened.body.channel_status.last_committed_offset_token, "100")
        assert.strictEqual(reopened.body.channel_status.rows_error_count, 1)
        await second.client.append("EVENTS", "c", reopened.body.next_continuation_token, numbered(101, 300), {
          single: "300"
        })
        await second.client.committed("EVENTS", "c", "300")
        assert.deepStrictEqual(await second.client.sql(ids), upTo(300))
      } finally {
        await second.kill()
      }
    }))

  it("goes on with the same continuation token when nothing was uncommitted", () =>
    withDataDir(async (dataDir) => {
      const first = await spawnServer(dataDir)
      await first.client.table(events)
      const opened = (await first.client.open("EVENTS", "c")).body.next_continuation_token
      const appended = await first.client.append("EVENTS", "c", opened, numbered(1, 10), { single: "10" })
      await first.client.committed("EVENTS", "c", "10")
      await first.kill()
      const second = await spawnServer(dataDir)
      try {
        assert.strictEqual((await second.client.append("EVENTS", "c", opened, numbered(1, 10))).status, 400)
        const next = await second.client.append(
          "EVENTS",
          "c",
          appended.body.next_continuation_token,
          numbered(11, 20),
          { single: "20" }
        )
        assert.strictEqual(next.status, 200)
        await second.client.committed("EVENTS", "c", "20")
        assert.deepStrictEqual(await second.client.sql(ids), upTo(20))
      } finally {
        await second.kill()
      }
    }))

  it("commits what is buffered when it is stopped in order", () =>
    withDataDir(async (dataDir) => {
      const first = await startServer(dataDir, { commitDelayMillis: { min: 60_000, max: 60_000 } })
      await first.client.table(events)
      const opened = (await first.client.open("EVENTS", "c")).body.next_continuation_token
      await first.client.append("EVENTS", "c", opened, numbered(1, 10), { single: "10" })
      await first.close()
      const second = await startServer(dataDir)
      const status = await second.client.status("EVENTS", "c")
      const rows = await second.client.sql(ids)
      await second.close()
      assert.deepStrictEqual([status.channel_status_code, status.last_committed_offset_token], ["SUCCESS", "10"])
      assert.deepStrictEqual(rows, upTo(10))
    }))
})

describe("a server killed in the midst of commits", () => {
  it(
    "has for each channel exactly the rows up to its committed offset",
    () =>
      withDataDir(async (dataDir) => {
        const channels = ["a", "b", "c", "d"]
        const options = { commitDelayMillis: { min: 0, max: 2 } }
        const committed = async ({ client }: Server) => {
          const { body } = await client.bulk("EVENTS", channels)
          return channels.map((channel) => Number(body.channel_statuses[channel]?.last_committed_offset_token ?? "0"))
        }
        const stored = async ({ client }: Server) => {
          const rows = await client.sql(`SELECT "NAME", count(*), max("ID") FROM "DB.PUBLIC"."EVENTS" GROUP BY 1`)
          return channels.map((channel) => rows.find(([name]) => name === channel) ?? [channel, "0", null])
        }
        /** Appends to a channel, one row in each, until the server is gone. */
        const write = async ({ client }: Server, channel: string) => {
          const { body } = await client.open("EVENTS", channel)
          let id = Number(body.channel_status.last_committed_offset_token ?? "0")
          for (let next = body.next_continuation_token;;) {
            id++
            const answer = await client.append("EVENTS", channel, next, [{ id, name: channel }], { single: String(id) })
            next = answer.body.next_continuation_token
          }
        }
        let server = await spawnServer(dataDir, options)
        await server.client.table(events)
        for (let kill = 0; kill < 6; kill++) {
          const writers = channels.map((channel) => write(server, channel).catch(() => undefined))
          const before = await committed(server)
          await until(async () =>
            (await committed(server)).every((offset, index) => offset > (before[index] ?? 0)) ? true : undefined
          )
          // Not in step with the answer that was just read.
          await new Promise((resolve) => setTimeout(resolve, Math.random() * 40))
          await server.kill()
          await Promise.all(writers)
          server = await spawnServer(dataDir, options)
          const offsets = await committed(server)
          const expected = channels.map((channel, index) => [channel, String(offsets[index]), String(offsets[index])])
          assert.deepStrictEqual(await stored(server), expected)
        }
        await server.kill()
      }),
    120_000
  )
})

const quick = { commitDelayMillis: { min: 0, max: 40 } }

type Step =
  | { readonly kind: "append"; readonly rows: number }
  | { readonly kind: "open" | "commit" | "kill" }
  | { readonly kind: "wait"; readonly millis: number }

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("append" as const), rows: fc.integer({ min: 1, max: 400 }) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("wait" as const), millis: fc.integer({ min: 0, max: 60 }) }) },
  { weight: 2, arbitrary: fc.constant({ kind: "open" as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: "commit" as const }) },
  { weight: 2, arbitrary: fc.constant({ kind: "kill" as const }) }
)

describe("a client that resumes after the committed offset", () => {
  it(
    "finds each row once and every committed offset with its rows, however appends, opens, commits and kills interleave",
    () =>
      fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 4, maxLength: 14 }), (steps) =>
          withDataDir(async (dataDir) => {
            let server = await spawnServer(dataDir, quick)
            try {
              await server.client.table(events)
              let sent = 0
              let highest = 0
              let continuation = ""
              const reopen = async () => {
                const { body } = await server.client.open("EVENTS", "c")
                continuation = body.next_continuation_token
                sent = Number(body.channel_status.last_committed_offset_token ?? "0")
                assert.isAtLeast(sent, highest)
                highest = sent
              }
              const append = async (rows: number) => {
                const answer = await server.client.append(
                  "EVENTS",
                  "c",
                  continuation,
                  numbered(sent + 1, sent + rows),
                  {
                    start: String(sent + 1),
                    end: String(sent + rows)
                  }
                )
                if (answer.status !== 200) return await reopen()
                continuation = answer.body.next_continuation_token
                sent += rows
              }
              const commit = async () => {
                if (sent > highest) await server.client.committed("EVENTS", "c", String(sent))
                highest = sent
              }
              await reopen()
              for (const next of steps) {
                if (next.kind === "append") await append(next.rows)
                else if (next.kind === "open") await reopen()
                else if (next.kind === "commit") await commit()
                else if (next.kind === "wait") await new Promise((resolve) => setTimeout(resolve, next.millis))
                else {
                  await server.kill()
                  server = await spawnServer(dataDir, quick)
                  // Nothing commits between the start and this look: rows and offset must agree exactly.
                  const status = await server.client.status("EVENTS", "c")
                  assert.deepStrictEqual(
                    await server.client.sql(ids),
                    upTo(Number(status.last_committed_offset_token ?? "0"))
                  )
                  if (status.channel_status_code !== "SUCCESS") await reopen()
                }
              }
              await append(1)
              if (sent === highest) await append(1)
              await commit()
              assert.deepStrictEqual(await server.client.sql(ids), upTo(sent))
              const status = await server.client.status("EVENTS", "c")
              assert.deepStrictEqual([status.rows_inserted, status.rows_error_count], [sent, 0])
            } finally {
              await server.kill()
            }
          })),
        { numRuns: 5, endOnFailure: true }
      ),
    120_000
  )
})
