/**
 * Pauses by the HTTP API: what they leave at PostgreSQL, and that nothing is lost or doubled by them.
 */
import { assert, describe, it } from "@effect/vitest"
import type * as ChildProcess from "@etl-stream/testkit/ChildProcess"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Landscape from "./Landscape.ts"

/** The API's URL, once the runner has logged it. */
const urlOf = (runner: ChildProcess.ChildProcess) =>
  Effect.map(runner.waitFor(/The HTTP API is served.* url=(\S+)/), ([, url]) => url ?? "")

const put = (url: string, verb: string) =>
  Effect.tryPromise(async () => {
    const answer = await fetch(`${url}/v1/pipelines/${Landscape.pipeline}/${verb}`, { method: "PUT" })
    return { status: answer.status, body: await answer.text() }
  })

describe("a pause", () => {
  it.live(
    "leaves the slot to keep the log, survives the death of the process, and goes on where it was",
    () =>
      Effect.gen(function*() {
        const landscape = yield* Landscape.make()
        const { postgres } = landscape
        yield* postgres.query("CREATE TABLE items (id int PRIMARY KEY, v text)")
        yield* postgres.query("INSERT INTO items SELECT i, 'v' || i FROM generate_series(1, 1000) i")
        const file = landscape.write({ ...landscape.configuration(), http: { port: 0 } })
        const runner = yield* landscape.run(file)
        const mirror = yield* landscape.mirror
        yield* Landscape.caughtUp(landscape, mirror, ["items"])

        yield* postgres.query("INSERT INTO items SELECT i, 'v' || i FROM generate_series(1001, 9000) i")
        const paused = yield* put(yield* urlOf(runner), "pause?wait=true")
        assert.strictEqual(paused.status, 200, paused.body)
        assert.include(paused.body, "\"kept\":true")
        assert.include(paused.body, "\"activity\":\"paused\"")
        const slot = () =>
          Effect.map(
            postgres.query("SELECT active, confirmed_flush_lsn::text AS lsn FROM pg_replication_slots"),
            ([slot]) => slot
          )
        const held = yield* slot()
        assert.strictEqual(held?.["active"], false)

        yield* postgres.query("DELETE FROM items WHERE id % 3 = 0; UPDATE items SET v = 'w' WHERE id % 5 = 0")
        yield* runner.kill("SIGKILL", 10_000)
        const again = yield* landscape.run(file)
        const url = yield* urlOf(again)
        yield* Effect.tryPromise(async () => (await fetch(`${url}/v1/pipelines`)).text()).pipe(
          Effect.repeat({
            schedule: Schedule.spaced("50 millis"),
            until: (text) => text.includes("\"activity\":\"paused\"")
          }),
          Effect.timeout("30 seconds")
        )
        assert.deepStrictEqual(yield* slot(), held, "nobody reads it")
        assert.strictEqual((yield* put(url, "resume")).status, 200)
        yield* Landscape.caughtUp(landscape, mirror, ["items"])
        yield* Landscape.assertSame(landscape, mirror, ["items"])
      }),
    180_000
  )
})
