/**
 * A table whose columns change again and again under load, and a runner that is killed while it follows: every row is the server's in the end,
 * no change is in the journal twice, and only what has to be is copied again.
 */
import { assert, describe, it } from "@effect/vitest"
import * as MirrorState from "@etl-stream/testkit/MirrorState"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as Landscape from "./Landscape.ts"

interface Step {
  readonly title: string
  readonly sql: string
  /** Whether the table has to be copied again. */
  readonly copies?: boolean
  /** The runner is killed while it follows. */
  readonly kill?: boolean
}

const steps: ReadonlyArray<Step> = [
  { title: "added", sql: "ALTER TABLE shaped ADD COLUMN c int; UPDATE shaped SET c = id WHERE id % 3 = 0" },
  {
    title: "renamed",
    sql: "ALTER TABLE shaped RENAME COLUMN b TO note; UPDATE shaped SET note = 'renamed' WHERE id % 7 = 0",
    kill: true
  },
  {
    title: "widened",
    sql:
      "ALTER TABLE shaped ALTER COLUMN a TYPE numeric(20,2); UPDATE shaped SET a = 123456789012345678.25 WHERE id = 5"
  },
  {
    title: "renamed twice and dropped",
    sql: `ALTER TABLE shaped RENAME COLUMN note TO x; UPDATE shaped SET x = 'between' WHERE id % 11 = 0;
      ALTER TABLE shaped RENAME COLUMN x TO "Note"; ALTER TABLE shaped DROP COLUMN c; UPDATE shaped SET "Note" = 'after' WHERE id = 6`,
    kill: true
  },
  {
    title: "retyped",
    sql: `ALTER TABLE shaped ALTER COLUMN a TYPE text USING 'about ' || a; UPDATE shaped SET a = 'text' WHERE id = 8`,
    copies: true
  }
]

describe("schema evolution", () => {
  it.live("a table changes its columns under load while the runner is killed", () =>
    Effect.gen(function*() {
      const landscape = yield* Landscape.make()
      const { postgres } = landscape
      yield* postgres.query(
        `CREATE TABLE shaped (id int PRIMARY KEY, n int, a numeric(10,2), b varchar(20));
         INSERT INTO shaped SELECT i, 0, i + 0.5, 'row ' || i FROM generate_series(1, 500) i;
         CREATE TABLE steady (id int PRIMARY KEY, n int); INSERT INTO steady SELECT i, 0 FROM generate_series(1, 500) i`
      )
      const file = landscape.write(landscape.configuration({ source: { tables: ["public.shaped", "public.steady"] } }))
      const mirror = yield* landscape.mirror
      let runner = yield* landscape.run(file)
      const settled = Effect.gen(function*() {
        yield* Landscape.caughtUp(landscape, mirror, ["shaped", "steady"])
        yield* Landscape.assertSame(landscape, mirror, ["shaped", "steady"])
      })
      const copies = Effect.map(
        MirrorState.tables(mirror),
        (states) => Object.fromEntries(states.map(({ copied, table }) => [table, copied]))
      )
      let n = 0
      const change = Effect.suspend(() => {
        n++
        return postgres.query(
          `UPDATE shaped SET n = n + 1 WHERE id % 50 = ${n % 50}; INSERT INTO shaped (id, n) VALUES (${1000 + n}, ${n});
           UPDATE shaped SET id = -id WHERE id = ${100 + n}; UPDATE steady SET n = n + 1 WHERE id % 50 = ${n % 50}`
        )
      })
      /** Waits until the writer has done some more. */
      const moreChanges = Effect.suspend(() => {
        const enough = n + 5
        return Effect.repeat(Effect.sync(() => n >= enough), {
          schedule: Schedule.spaced("20 millis"),
          until: (done) => done
        })
      })
      yield* settled
      for (const { copies: again, kill, sql, title } of steps) {
        const before = yield* copies
        const writer = yield* Effect.forkChild(Effect.forever(Effect.andThen(change, Effect.sleep(50))))
        yield* moreChanges
        yield* postgres.query(sql)
        if (kill === true) {
          // It may also be killed before it has seen anything of it.
          yield* runner.waitFor(/the shape of table public\.shaped changed/)
          yield* runner.kill("SIGKILL", 10_000)
          runner = yield* landscape.run(file)
        }
        yield* moreChanges
        yield* Fiber.interrupt(writer)
        yield* settled
        const after = yield* copies
        assert.strictEqual(after["public.steady"], before["public.steady"], title)
        if (again === true) assert.notStrictEqual(after["public.shaped"], before["public.shaped"], title)
        else assert.strictEqual(after["public.shaped"], before["public.shaped"], title)
      }
      assert.deepStrictEqual(yield* runner.kill("SIGTERM", 40_000), { code: 0, signal: null }, runner.output())
    }), 240_000)
})
