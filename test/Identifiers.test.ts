/**
 * Names that are legal at PostgreSQL are names at the warehouse, and no name is mistaken for another.
 */
import { assert, describe, it } from "@effect/vitest"
import * as MirrorState from "@etl-stream/testkit/MirrorState"
import * as RowComparison from "@etl-stream/testkit/RowComparison"
import { quoted } from "@etl-stream/testkit/SnowflakeSession"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Landscape from "./Landscape.ts"

const names = ["select", "Mixed Case", "quote\"d", "ümlaut", "with.dot", "dollar$1", "semi;colon", "per%cent"]

describe("identifiers", () => {
  it.live("of every kind are mirrored as tables and as columns", () =>
    Effect.gen(function*() {
      const landscape = yield* Landscape.make()
      const { postgres } = landscape
      const columns = names.map((name) => `${quoted(name)} text`).join(", ")
      for (const name of names) {
        yield* postgres.query(`CREATE TABLE ${quoted(name)} ("Key Column" int PRIMARY KEY, ${columns})`)
        yield* postgres.query(`INSERT INTO ${quoted(name)} ("Key Column", ${names.map(quoted).join(", ")})
          VALUES (1, ${names.map((_unused, index) => `'${index}'`).join(", ")}), (2, ${
          names.map(() => "NULL").join(", ")
        })`)
      }
      yield* landscape.run(landscape.write(landscape.configuration()))
      const mirror = yield* landscape.mirror
      const copied = (): Effect.Effect<boolean, unknown> =>
        Effect.map(
          MirrorState.tables(mirror),
          (states) => states.length === names.length && states.every((state) => state.copied !== null)
        )
      yield* Effect.repeat(Effect.suspend(copied), { schedule: Schedule.spaced("200 millis"), until: (done) => done })
        .pipe(Effect.timeout("40 seconds"))
      const same = Landscape.compare(landscape, mirror, names)
      assert.deepStrictEqual((yield* same).filter((table) => !RowComparison.isSame(table)), [])
      for (const name of names) {
        yield* postgres.query(
          `UPDATE ${quoted(name)} SET ${quoted(name)} = 'changed', "Key Column" = 7 WHERE "Key Column" = 1;
          DELETE FROM ${quoted(name)} WHERE "Key Column" = 2; INSERT INTO ${quoted(name)} ("Key Column") VALUES (3)`
        )
      }
      const found = yield* Effect.repeat(same, {
        schedule: Schedule.spaced("500 millis"),
        until: (tables) => tables.every(RowComparison.isSame)
      }).pipe(Effect.timeout("40 seconds"))
      assert.strictEqual(found.length, names.length)
    }), 120_000)

  it.live(
    "that would meet at the warehouse put one of the tables in quarantine, and the other is mirrored alone",
    () =>
      Effect.gen(function*() {
        const landscape = yield* Landscape.make()
        yield* landscape.postgres.query(
          `CREATE TABLE orders (id int PRIMARY KEY); CREATE TABLE "ORDERS" (id int PRIMARY KEY);
         INSERT INTO orders VALUES (1), (2); INSERT INTO "ORDERS" VALUES (3), (4), (5)`
        )
        const runner = yield* landscape.run(landscape.write(landscape.configuration()))
        const mirror = yield* landscape.mirror
        const states = yield* Effect.repeat(MirrorState.tables(mirror), {
          schedule: Schedule.spaced("200 millis"),
          until: (tables) => tables.some(({ copied }) => copied !== null)
        }).pipe(Effect.timeout("30 seconds"))
        const [mirrored, ...others] = states.flatMap(({ copied, table }) => copied === null ? [] : [table])
        assert.deepStrictEqual(others, [])
        assert.include(["public.orders", "public.ORDERS"], mirrored)
        assert.match(runner.output(), /public\.orders and public\.ORDERS of the pipeline e2e would both be written to/)
        assert.match(runner.output(), /Give one of them another schema or name/)
        yield* landscape.postgres.query(`INSERT INTO orders VALUES (6); INSERT INTO "ORDERS" VALUES (7)`)
        yield* Effect.repeat(
          Landscape.compare(landscape, mirror, [mirrored === "public.orders" ? "orders" : "ORDERS"]),
          { schedule: Schedule.spaced("500 millis"), until: (tables) => tables.every(RowComparison.isSame) }
        ).pipe(Effect.timeout("30 seconds"))
      }),
    60_000
  )
})
