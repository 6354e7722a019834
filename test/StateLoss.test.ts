/**
 * State is a cache of what the warehouse knows: without it, or with an old copy of it, nothing is lost and nothing is doubled.
 */
import { describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { copyFileSync, existsSync, rmSync } from "node:fs"
import * as Landscape from "./Landscape.ts"

const tables = ["accounts", "postings"]

const prepare = (landscape: Landscape.Landscape) =>
  landscape.postgres.query(`
    CREATE TABLE accounts (id int PRIMARY KEY, balance numeric(12, 2), note text);
    CREATE TABLE postings (account int, amount numeric(12, 2), at timestamptz);
    ALTER TABLE postings REPLICA IDENTITY FULL;
    INSERT INTO accounts SELECT i, i / 4.0, 'account ' || i FROM generate_series(1, 5000) i;
    INSERT INTO postings SELECT i % 100, 1, '2024-01-01' FROM generate_series(1, 5000) i`)

/** Changes of every kind; `round` makes them differ. */
const change = (landscape: Landscape.Landscape, round: number) =>
  landscape.postgres.query(`
    UPDATE accounts SET balance = balance + ${round} WHERE id % 7 = ${round};
    DELETE FROM accounts WHERE id % 100 = ${round};
    UPDATE accounts SET id = id + ${round} * 100000 WHERE id % 50 = 1;
    INSERT INTO postings SELECT ${round}, 2, '2024-01-02' FROM generate_series(1, 500);
    DELETE FROM postings WHERE account = ${round} + 10;
    UPDATE postings SET amount = amount + 1 WHERE account = ${round} + 20`)

/** Runs until the mirror has caught up, then kills the runner. */
const round = (landscape: Landscape.Landscape, file: string) =>
  Effect.scoped(Effect.gen(function*() {
    const runner = yield* landscape.run(file)
    const mirror = yield* landscape.mirror
    yield* Landscape.caughtUp(landscape, mirror, tables).pipe(
      Effect.raceFirst(Effect.flatMap(runner.ended(Infinity), () => Effect.die(new Error(runner.output()))))
    )
    yield* runner.kill("SIGKILL")
  }))

describe("the state file", () => {
  it.live("may be deleted, or replaced by an old copy, between two runs", () =>
    Effect.gen(function*() {
      const landscape = yield* Landscape.make()
      yield* prepare(landscape)
      const file = landscape.write(landscape.configuration())
      const oldCopy = `${landscape.stateFile}.old`

      yield* round(landscape, file)
      if (existsSync(landscape.stateFile)) copyFileSync(landscape.stateFile, oldCopy)

      yield* change(landscape, 1)
      yield* round(landscape, file)
      yield* Effect.scoped(
        Effect.flatMap(landscape.mirror, (mirror) => Landscape.assertSame(landscape, mirror, tables))
      )

      for (const suffix of ["", "-wal", "-shm", "-journal"]) rmSync(landscape.stateFile + suffix, { force: true })
      yield* change(landscape, 2)
      yield* round(landscape, file)
      yield* Effect.scoped(
        Effect.flatMap(landscape.mirror, (mirror) => Landscape.assertSame(landscape, mirror, tables))
      )

      for (const suffix of ["", "-wal", "-shm", "-journal"]) rmSync(landscape.stateFile + suffix, { force: true })
      if (existsSync(oldCopy)) copyFileSync(oldCopy, landscape.stateFile)
      yield* change(landscape, 3)
      yield* round(landscape, file)
      yield* Effect.scoped(
        Effect.flatMap(landscape.mirror, (mirror) => Landscape.assertSame(landscape, mirror, tables))
      )
    }), 180_000)
})
