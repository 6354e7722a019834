/**
 * Mode changelog: every change is a row, in order, and nothing is ever changed.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Landscape from "./Landscape.ts"

describe("mode changelog", () => {
  it.live("appends the snapshot and each change once, through a kill", () =>
    Effect.gen(function*() {
      const landscape = yield* Landscape.make()
      const { postgres } = landscape
      yield* postgres.query(`
        CREATE TABLE items (id int PRIMARY KEY, v text, big text);
        ALTER TABLE items ALTER COLUMN big SET STORAGE EXTERNAL;
        INSERT INTO items VALUES (1, 'one', repeat('x', 10000)), (2, 'two', NULL)`)
      const file = landscape.write(landscape.configuration({ sink: { mode: "changelog" } }))
      const mirror = yield* landscape.mirror
      const rows = mirror.session.query(
        `SELECT _ETL_OP, ID, V, LENGTH(BIG), _ETL_UNSENT FROM ${mirror.database}.${Landscape.schema}.ITEMS ORDER BY _ETL_SEQ, ID`
      )
      const until = (count: number) =>
        Effect.repeat(rows, { schedule: Schedule.spaced("100 millis"), until: (found) => found.length >= count }).pipe(
          Effect.retry(Schedule.spaced("200 millis")),
          Effect.timeout("30 seconds")
        )
      const first = yield* landscape.run(file)
      yield* until(2)
      yield* postgres.query(`
        INSERT INTO items VALUES (3, 'three', NULL);
        UPDATE items SET v = 'uno' WHERE id = 1;
        UPDATE items SET id = 4 WHERE id = 2`)
      yield* until(6)
      yield* first.kill("SIGKILL")
      yield* postgres.query("DELETE FROM items WHERE id = 3")
      yield* postgres.query("TRUNCATE items")
      yield* landscape.run(file)
      const found = yield* until(8)
      assert.deepStrictEqual(found, [
        ["read", "1", "one", "10000", null],
        ["read", "2", "two", null, null],
        ["insert", "3", "three", null, null],
        ["update", "1", "uno", null, "[\"BIG\"]"],
        ["key_old", "2", null, null, null],
        ["key_new", "4", "two", null, null],
        ["delete", "3", null, null, null],
        ["truncate", null, null, null, null]
      ])
    }), 120_000)
})
