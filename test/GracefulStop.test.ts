/**
 * SIGTERM: the runner stops reading, brings what it has into place, and ends well.
 */
import { assert, describe, it } from "@effect/vitest"
import * as MirrorState from "@etl-stream/testkit/MirrorState"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Landscape from "./Landscape.ts"

describe("a graceful stop", () => {
  it.live("merges everything read, confirms it, frees the slot and exits with 0", () =>
    Effect.gen(function*() {
      const landscape = yield* Landscape.make()
      const { postgres } = landscape
      yield* postgres.query("CREATE TABLE items (id int PRIMARY KEY, v text)")
      // A merge interval that the test doesn't live to see: only the stop can merge.
      const file = landscape.write(landscape.configuration({ sink: { merge: { every: "10 minutes" } } }))
      const runner = yield* landscape.run(file)
      const mirror = yield* landscape.mirror
      yield* Effect.repeat(MirrorState.tables(mirror), {
        schedule: Schedule.spaced("100 millis"),
        until: (states) => states.length === 1 && states.every(({ copied }) => copied !== null)
      }).pipe(Effect.timeout("30 seconds"))

      yield* postgres.query("INSERT INTO items SELECT i, 'v' || i FROM generate_series(1, 20000) i")
      yield* Effect.repeat(MirrorState.journalState(mirror, "items"), {
        schedule: Schedule.spaced("100 millis"),
        until: ({ changes }) => changes === 20_000
      }).pipe(Effect.timeout("30 seconds"))

      const ended = yield* runner.kill("SIGTERM", 40_000)
      assert.deepStrictEqual(ended, { code: 0, signal: null }, runner.output())
      yield* Landscape.assertSame(landscape, mirror, ["items"])
      const [slot] = yield* postgres.query("SELECT active, confirmed_flush_lsn::text AS lsn FROM pg_replication_slots")
      assert.strictEqual(slot?.["active"], false)

      // The next run has nothing to repeat.
      yield* postgres.query("DELETE FROM items WHERE id <= 10; INSERT INTO items VALUES (1, 'back')")
      const again = yield* landscape.run(landscape.write(landscape.configuration()))
      yield* Landscape.caughtUp(landscape, mirror, ["items"])
      yield* Landscape.assertSame(landscape, mirror, ["items"])
      assert.strictEqual((yield* MirrorState.journalState(mirror, "items")).changes, 20_011)
      assert.isTrue(again.isRunning())
    }), 120_000)
})
