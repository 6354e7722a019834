/**
 * Tables that can't go on, end to end: the others stay equal and fresh, the slot is confirmed, and each is repaired by `resync` once its cause is mended.
 */
import { assert, describe, it } from "@effect/vitest"
import * as ChildProcess from "@etl-stream/testkit/ChildProcess"
import * as RowComparison from "@etl-stream/testkit/RowComparison"
import { quoted } from "@etl-stream/testkit/SnowflakeSession"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as path from "node:path"
import * as Landscape from "./Landscape.ts"

/** PostgreSQL can hold it, 64 bits of microseconds since 1970 can't. */
const unrepresentable = "294276-12-31 23:59:59"

const resync = (landscape: Landscape.Landscape, file: string, ...args: ReadonlyArray<string>) =>
  ChildProcess.start({
    name: "resync",
    command: process.execPath,
    args: [Landscape.command, "resync", file, ...args],
    cwd: path.dirname(file),
    logFile: path.join(landscape.folder, "resync.log")
  }).pipe(Effect.flatMap((process) => process.ended(90_000)))

describe("quarantine", () => {
  it.live(
    "tables that fail in their copy, by a value in the stream and by a meddled target don't stop the others, not after a SIGKILL either, and are repaired",
    () =>
      Effect.gen(function*() {
        const landscape = yield* Landscape.make()
        const { postgres } = landscape
        yield* postgres.query(
          `CREATE TABLE early (id int PRIMARY KEY, at timestamp);
           INSERT INTO early SELECT i, '2026-01-01'::timestamp + i * interval '1 minute' FROM generate_series(1, 3000) i;
           UPDATE early SET at = '${unrepresentable}' WHERE id = 1500;
           CREATE TABLE late (id int PRIMARY KEY, at timestamp);
           INSERT INTO late SELECT i, '2026-01-01' FROM generate_series(1, 500) i;
           CREATE TABLE meddled (id int PRIMARY KEY, note text, v int);
           INSERT INTO meddled SELECT i, 'note ' || i, i FROM generate_series(1, 500) i;
           CREATE TABLE good (id int PRIMARY KEY, v text);
           INSERT INTO good SELECT i, 'v' || i FROM generate_series(1, 2000) i`
        )
        const mirror = yield* landscape.mirror
        const file = landscape.write(landscape.configuration({ source: { snapshot: { parallel: 2 } } }))
        const quarantined = Effect.map(
          mirror.session.query(
            `SELECT "SOURCE_TABLE" FROM ${
              [mirror.database, "ETL_STREAM", "TABLES"].map(quoted).join(".")
            } WHERE "QUARANTINED_AT" IS NOT NULL ORDER BY 1`
          ),
          (rows) => rows.map(([table]) => String(table))
          // Before the sink has made it.
        ).pipe(Effect.orElseSucceed(() => [""]))
        const reaches = (tables: ReadonlyArray<string>) =>
          quarantined.pipe(
            Effect.repeat({
              schedule: Schedule.spaced("200 millis"),
              until: (now) => JSON.stringify(now) === JSON.stringify(tables)
            }),
            Effect.timeout("60 seconds")
          )
        let n = 0
        /** Every table changes. */
        const change = Effect.suspend(() => {
          n++
          return postgres.query(
            `UPDATE good SET v = v || '+' WHERE id % 7 = ${n}; INSERT INTO good VALUES (${
              10_000 + n
            }, 'new'); DELETE FROM good WHERE id = ${n};
             INSERT INTO early VALUES (${10_000 + n}, now()); INSERT INTO late VALUES (${10_000 + n}, now());
             UPDATE meddled SET v = v + 1 WHERE id % 5 = 0; INSERT INTO meddled VALUES (${10_000 + n}, 'new', 1)`
          )
        })
        /** Every table changes; the given ones are the same on both sides, and the slot is confirmed. */
        const settled = Effect.fnUntraced(function*(tables: ReadonlyArray<string>) {
          yield* change
          yield* Landscape.caughtUp(landscape, mirror, tables)
          yield* Landscape.assertSame(landscape, mirror, tables)
        })

        const first = yield* landscape.run(file)
        yield* reaches(["public.early"])
        yield* settled(["good", "late", "meddled"])
        assert.match(first.output(), /table public\.early is in quarantine.*column at/)

        // Two at once.
        const target = [mirror.database, mirror.schema, RowComparison.warehouseName("meddled")].map(quoted).join(".")
        yield* mirror.session.query(`ALTER TABLE ${target} DROP COLUMN "NOTE"`)
        yield* postgres.query(
          `UPDATE late SET at = '${unrepresentable}' WHERE id = 7; UPDATE meddled SET note = 'other' WHERE id = 7`
        )
        yield* reaches(["public.early", "public.late", "public.meddled"])
        assert.deepStrictEqual(yield* first.kill("SIGKILL"), { code: null, signal: "SIGKILL" })
        yield* change

        const second = yield* landscape.run(file)
        yield* settled(["good"])
        assert.deepStrictEqual(yield* quarantined, ["public.early", "public.late", "public.meddled"])
        // Nobody mended it.
        const refused = yield* resync(landscape, file, "--wait", "complete", "public.early")
        assert.strictEqual(refused.code, 1)
        yield* settled(["good"])

        yield* postgres.query(
          `UPDATE early SET at = now() WHERE at > '3000-01-01'; UPDATE late SET at = now() WHERE at > '3000-01-01'`
        )
        const tables = ["public.early", "public.late", "public.meddled"]
        const repaired = yield* resync(landscape, file, "--wait", "complete", ...tables)
        assert.strictEqual(repaired.code, 0, second.output())
        yield* settled(["good", "early", "late", "meddled"])
        assert.deepStrictEqual(yield* quarantined, [])
        assert.notMatch(`${first.output()}${second.output()}`, /294276/)

        // Stopping is no failure while one is in quarantine, but it is told.
        yield* postgres.query(`INSERT INTO late VALUES (0, '${unrepresentable}')`)
        yield* reaches(["public.late"])
        assert.deepStrictEqual(yield* second.kill("SIGTERM", 40_000), { code: 0, signal: null }, second.output())
        assert.match(second.output(), /etl-stream: the table public\.late of the pipeline e2e is in quarantine: /)
        yield* Landscape.assertSame(landscape, mirror, ["good", "early", "meddled"])
      }),
    240_000
  )

  it.live(
    "with onTableError stop a table that can't go on ends the pipeline, and nothing is confirmed past it",
    () =>
      Effect.gen(function*() {
        const landscape = yield* Landscape.make()
        const { postgres } = landscape
        yield* postgres.query("CREATE TABLE t (id int PRIMARY KEY, at timestamp); INSERT INTO t VALUES (1, now())")
        const mirror = yield* landscape.mirror
        const text = JSON.stringify(landscape.configuration())
        const file = landscape.write(text.replace(`"sink":`, `"onTableError":"stop","sink":`))
        const runner = yield* landscape.run(file, ["--json"])
        yield* Landscape.caughtUp(landscape, mirror, ["t"])
        yield* postgres.query(`INSERT INTO t VALUES (2, '${unrepresentable}')`)
        const ended = yield* runner.ended(60_000)
        assert.strictEqual(ended.code, 1, runner.output())
        assert.match(runner.output(), /"ok":false.*column at of table public\.t/)
        yield* postgres.query("UPDATE t SET at = now()")
        // The value is still in the log, and met again.
        const again = yield* landscape.run(file, ["--json"])
        assert.strictEqual((yield* again.ended(60_000)).code, 1, again.output())
      }),
    120_000
  )
})
