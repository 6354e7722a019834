/**
 * Mode history: every version of each row, through kills of the runner, and kept when the table is copied again.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Landscape from "./Landscape.ts"

describe("mode history", () => {
  it.live("keeps each version of a row once, through a kill and a new copy", () =>
    Effect.gen(function*() {
      const landscape = yield* Landscape.make()
      const { postgres } = landscape
      yield* postgres.query(`
        CREATE TABLE items (id int PRIMARY KEY, v text, big text);
        ALTER TABLE items ALTER COLUMN big SET STORAGE EXTERNAL;
        INSERT INTO items VALUES (1, 'one', repeat('x', 10000)), (2, 'two', repeat('y', 9000))`)
      const file = landscape.write(landscape.configuration({ sink: { mode: "history" } }))
      const mirror = yield* landscape.mirror
      const target = `${mirror.database}.${Landscape.schema}.ITEMS`
      const { query } = mirror.session
      const versions = query(
        `SELECT ID, V, LENGTH(BIG), IFF(_ETL_VALID_TO IS NULL, 'now', 'past') FROM ${target} ORDER BY _ETL_VALID_FROM, _ETL_SEQ, ID`
      )
      const until = (wanted: ReadonlyArray<ReadonlyArray<unknown>>) =>
        Effect.gen(function*() {
          const found = yield* Effect.repeat(versions, {
            schedule: Schedule.max([Schedule.spaced("100 millis"), Schedule.recurs(300)]),
            until: (rows) => JSON.stringify(rows) === JSON.stringify(wanted)
          }).pipe(Effect.retry(Schedule.max([Schedule.spaced("200 millis"), Schedule.recurs(150)])))
          assert.deepStrictEqual(found, wanted)
        })
      const first = yield* landscape.run(file)
      yield* until([["1", "one", "10000", "now"], ["2", "two", "9000", "now"]])
      yield* postgres.query("UPDATE items SET v = 'uno' WHERE id = 1")
      yield* postgres.query(
        "BEGIN; UPDATE items SET v = 'unseen' WHERE id = 2; UPDATE items SET v = 'due' WHERE id = 2; COMMIT"
      )
      yield* postgres.query(
        "BEGIN; INSERT INTO items VALUES (3, 'never', NULL); DELETE FROM items WHERE id = 3; COMMIT"
      )
      const known = [["1", "one", "10000", "past"], ["2", "two", "9000", "past"], ["1", "uno", "10000", "now"]]
      yield* until([...known, ["2", "due", "9000", "now"]])
      yield* first.kill("SIGKILL")
      yield* postgres.query("UPDATE items SET id = 4 WHERE id = 2")
      yield* postgres.query("DELETE FROM items WHERE id = 1")
      yield* postgres.query("INSERT INTO items VALUES (1, 'again', NULL)")
      const second = yield* landscape.run(file)
      const moved = [
        ...known.slice(0, 2),
        ["1", "uno", "10000", "past"],
        ["2", "due", "9000", "past"],
        ["4", "due", "9000", "now"],
        ["1", "again", null, "now"]
      ]
      yield* until(moved)
      // Versions follow each other without gaps.
      const followed = yield* query(
        `SELECT COUNT(*) FROM ${target} AS a JOIN ${target} AS b ON a._ETL_VALID_TO = b._ETL_VALID_FROM WHERE a.V IN ('one', 'two', 'due')`
      )
      assert.deepStrictEqual(followed, [["3"]])

      // Somebody meddles with one row; the other keeps its version when the table is copied again.
      const kept = query(`SELECT _ETL_VALID_FROM::VARCHAR, _ETL_SEQ FROM ${target} WHERE V = 'again'`)
      const before = yield* kept
      yield* query(`UPDATE ${target} SET V = 'meddled' WHERE ID = 4`)
      const resync = yield* Landscape.resync(file, "public.items")
      assert.deepStrictEqual(yield* resync.ended(), { code: 0, signal: null }, second.output())
      assert.deepStrictEqual(yield* kept, before)
      const copied = [
        ...moved.slice(0, 4),
        ["4", "meddled", "9000", "past"],
        ["1", "again", null, "now"],
        ["4", "due", "9000", "now"]
      ]
      yield* until(copied)
      yield* postgres.query("TRUNCATE items")
      yield* until(copied.map(([id, v, big]) => [id, v, big, "past"]))
      const left = yield* query(
        `SELECT TABLE_NAME FROM ${mirror.database}.INFORMATION_SCHEMA.TABLES WHERE TABLE_NAME LIKE '%ITEMS%COPY'`
      )
      assert.deepStrictEqual(left, [], "the table of the copy is gone")
      assert.deepStrictEqual(yield* second.kill("SIGTERM", 40_000), { code: 0, signal: null }, second.output())
    }), 180_000)
})
