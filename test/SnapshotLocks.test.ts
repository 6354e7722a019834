/**
 * The copy holds its tables against DDL; that must never become a lock that waits for itself.
 */
import { assert, describe, it } from "@effect/vitest"
import * as HeldStatements from "@etl-stream/testkit/HeldStatements"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as Landscape from "./Landscape.ts"

const tables = ["a_large", "b_small", "c_truncated"]

describe("a copy with several connections", () => {
  it.live(
    "is not stopped by a TRUNCATE that waits for a table that has yet to be copied",
    () =>
      Effect.gen(function*() {
        const landscape = yield* Landscape.make()
        const { postgres } = landscape
        yield* postgres.query(`
        CREATE TABLE a_large (id int PRIMARY KEY, v text);
        CREATE TABLE b_small (id int PRIMARY KEY);
        CREATE TABLE c_truncated (id int PRIMARY KEY);
        INSERT INTO a_large SELECT i, repeat(md5(i::text), 8) FROM generate_series(1, 20000) i;
        INSERT INTO b_small SELECT generate_series(1, 5000);
        INSERT INTO c_truncated SELECT generate_series(1, 100)`)
        // Both connections are at the tables before, and stay there until the TRUNCATE has been asked for.
        const held = Promise.withResolvers<void>()
        const goOn = Promise.withResolvers<void>()
        const port = yield* HeldStatements.start(postgres, (sent) => {
          if (!/COPY .*"(?:a_large|b_small)"/s.test(sent)) return undefined
          held.resolve()
          return goOn.promise
        })
        const runner = yield* landscape.run(landscape.write(landscape.configuration({
          through: { host: "127.0.0.1", port },
          source: { snapshot: { parallel: 2, fetchRows: 1000 } }
        })))
        yield* Effect.promise(() => held.promise).pipe(Effect.timeout("60 seconds"))
        // Waits behind the copy, and everybody who asks for the table after it waits behind it.
        const truncate = yield* Effect.forkChild(
          postgres.query("TRUNCATE c_truncated; INSERT INTO c_truncated VALUES (1000)"),
          { startImmediately: true }
        )
        yield* postgres.query(
          "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'c_truncated'::regclass"
        ).pipe(
          Effect.repeat({ schedule: Schedule.spaced("50 millis"), until: (waiting) => waiting.length > 0 }),
          Effect.timeout("30 seconds")
        )
        goOn.resolve()
        const mirror = yield* landscape.mirror
        yield* Fiber.join(truncate).pipe(Effect.timeout("60 seconds"))
        yield* Landscape.caughtUp(landscape, mirror, tables)
        yield* Landscape.assertSame(landscape, mirror, tables)
        assert.isTrue(runner.isRunning())
      }),
    150_000
  )
})
