/**
 * Memory is bounded by the budget, whatever the size of a transaction or of a row.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Landscape from "./Landscape.ts"

/** Highest resident memory that the runner may reach at its default budget. */
const limit = 700 * 1024 * 1024

const megabytes = (bytes: number): string => `${Math.round(bytes / 1024 / 1024)} MiB`

describe("memory", () => {
  it.live("stays below 700 MB through a transaction of 1,000,000 rows and a row of 5 MB", () =>
    Effect.gen(function*() {
      const landscape = yield* Landscape.make()
      const { postgres } = landscape
      // 5 MB that doesn't compress, and a row before and after it in each transaction: its place in the order counts.
      const noise = "(SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 163840))"
      yield* postgres.query(`
        CREATE TABLE readings (id bigint PRIMARY KEY, at timestamptz NOT NULL, sensor text, value numeric(12, 4));
        CREATE TABLE documents (id int PRIMARY KEY, body text, note text);
        INSERT INTO documents VALUES (1, 'short', 'before'), (2, ${noise}, 'large in the snapshot'), (3, 'short', 'after')`)
      const runner = yield* landscape.run(landscape.write(landscape.configuration()))
      const mirror = yield* landscape.mirror
      const alive = <A, E, R>(work: Effect.Effect<A, E, R>) =>
        Effect.raceFirst(
          work,
          Effect.flatMap(runner.ended(Infinity), () => Effect.die(new Error(`the runner ended: ${runner.output()}`)))
        )
      const tables = ["readings", "documents"]
      yield* alive(Landscape.caughtUp(landscape, mirror, tables))

      yield* postgres.query(`
        INSERT INTO readings SELECT i, '2024-01-01'::timestamptz + i * interval '1 second', 'sensor ' || i % 100, i / 8.0
        FROM generate_series(1, 1000000) i`)
      yield* postgres.query(`
        INSERT INTO documents VALUES (4, 'short', 'before'), (5, ${noise}, 'large in the stream'), (6, 'short', 'after');
        UPDATE documents SET note = 'changed, the body is not sent' WHERE id IN (2, 5);
        UPDATE documents SET body = ${noise} WHERE id = 1;
        UPDATE documents SET body = NULL WHERE id = 3`)
      yield* alive(Landscape.caughtUp(landscape, mirror, tables, 200_000))
      yield* Landscape.assertSame(landscape, mirror, tables, 1_000_000)

      const peak = runner.peakMemory()
      assert.isAbove(peak, 0)
      assert.isBelow(peak, limit, `the runner's peak was ${megabytes(peak)}`)
    }), 300_000)
})
