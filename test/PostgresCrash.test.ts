/**
 * PostgreSQL crashes and recovers: the pipeline waits for it and goes on by itself.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Landscape from "./Landscape.ts"

describe("a crash of PostgreSQL", () => {
  it.live("in the middle of a transaction leaves nothing of it, and everything else", () =>
    Effect.gen(function*() {
      const landscape = yield* Landscape.make()
      const { postgres } = landscape
      yield* postgres.query("CREATE TABLE items (id int PRIMARY KEY, v text)")
      yield* postgres.query("INSERT INTO items SELECT i, 'copied' FROM generate_series(1, 1000) i")
      const runner = yield* landscape.run(landscape.write(landscape.configuration()))
      const mirror = yield* landscape.mirror
      yield* Landscape.caughtUp(landscape, mirror, ["items"])

      for (const round of [1, 2]) {
        yield* postgres.query(`INSERT INTO items SELECT ${round} * 10000 + i, 'kept' FROM generate_series(1, 2000) i`)
        // Its 20,000 rows are in the log when the server dies, its commit is not.
        const open = yield* Effect.forkChild(
          Effect.ignore(
            postgres.query(`BEGIN; UPDATE items SET v = 'lost';
              INSERT INTO items SELECT ${round} * 100000 + i, 'lost' FROM generate_series(1, 20000) i;
              SELECT pg_sleep(60); COMMIT`)
          ),
          { startImmediately: true }
        )
        yield* Effect.repeat(
          postgres.query("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"),
          { until: (sleeping) => sleeping.length === 1 }
        )
        yield* postgres.kill
        yield* Effect.sleep(500)
        yield* postgres.restart()
        yield* Effect.asVoid(Effect.exit(Fiber.join(open)))
        yield* postgres.query(`UPDATE items SET v = 'changed ${round}' WHERE id % 3 = ${round}`)
      }
      yield* Landscape.caughtUp(landscape, mirror, ["items"])
      yield* Landscape.assertSame(landscape, mirror, ["items"])
      const lost = yield* postgres.query("SELECT 1 FROM items WHERE v = 'lost'")
      assert.deepStrictEqual(lost, [])
      assert.isTrue(runner.isRunning(), runner.output())
    }), 150_000)
})
