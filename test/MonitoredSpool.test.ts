/**
 * The WAL monitor has a pipeline spool: the warehouse is down, the slot keeps more log than it may, the monitor asks for spooling, the slot moves on, and when
 * the warehouse is back everything arrives once and the spool is over.
 */
import { assert, it } from "@effect/vitest"
import type * as MirrorState from "@etl-stream/testkit/MirrorState"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { readdirSync } from "node:fs"
import { join } from "node:path"
import * as Landscape from "./Landscape.ts"

const tables = ["orders", "lines"]
const copied = /The copy of a table is complete[^]*The copy of a table is complete/

/** WAL that the slot may keep before the monitor acts; a slot that moves keeps far less. */
const limit = 12 << 20

it.live(
  "a slot that keeps more log than the monitor allows is let go by a spool that nothing else asked for, and all of it is played on",
  () =>
    Effect.gen(function*() {
      const landscape = yield* Landscape.make()
      const { folder, postgres, warehouse } = landscape
      yield* postgres.query(
        `CREATE TABLE orders (id int PRIMARY KEY, v int, large text);
         ALTER TABLE orders ALTER COLUMN large SET STORAGE EXTERNAL;
         INSERT INTO orders SELECT i, 0, repeat('x', 3000) FROM generate_series(1, 200) i;
         CREATE TABLE lines (id int, v int); ALTER TABLE lines REPLICA IDENTITY FULL;
         INSERT INTO lines SELECT i % 10, 0 FROM generate_series(1, 50) i`
      )
      const configuration = landscape.configuration({
        pipeline: { spool: { directory: "./spool", when: "asked" } }
      })
      const file = landscape.write({
        ...configuration,
        monitors: {
          main: {
            plugin: "@etl-stream/monitor-wal",
            options: {
              url: postgres.url,
              every: "500 millis",
              budget: "10GiB",
              // Time for the slot to confirm all of it, before spooling is over because it recovers.
              thresholds: { sustained: "10 seconds" },
              actions: [{ at: `${limit >> 20} MiB`, do: "spool" }]
            }
          }
        }
      })
      const folderOfSpool = join(folder, "spool", Landscape.pipeline)
      const files = () => readdirSync(folderOfSpool).filter((name) => name.endsWith(".segment"))

      const endOfLog = Effect.map(
        postgres.query("SELECT pg_current_wal_insert_lsn()::text AS lsn"),
        ([row]) => String(row?.["lsn"])
      )
      const slot = (lsn: string) =>
        Effect.map(
          postgres.query(
            `SELECT confirmed_flush_lsn >= '${lsn}' AS confirmed, restart_lsn >= '${lsn}' AS released,
             pg_wal_lsn_diff(pg_current_wal_insert_lsn(), restart_lsn)::float8 AS retained
             FROM pg_replication_slots WHERE slot_name = '${Landscape.pipeline}'`
          ),
          ([row]) => ({
            confirmed: row?.["confirmed"],
            released: row?.["released"],
            retained: Number(row?.["retained"])
          })
        )
      let n = 0
      /** Half a megabyte of log, with values that aren't sent, changes of keys, and rows without one. */
      const change = Effect.suspend(() => {
        n++
        return postgres.query(
          `INSERT INTO orders SELECT 1000 * ${n} + i, ${n}, repeat('${n % 10}', 3000) FROM generate_series(1, 150) i;
           UPDATE orders SET v = v + 1 WHERE id % 7 = ${n % 7};
           UPDATE orders SET id = -id WHERE id = ${n};
           DELETE FROM orders WHERE id = ${100 + n};
           UPDATE lines SET v = v + 1 WHERE id = ${n % 10}; INSERT INTO lines VALUES (${n % 10}, ${n})`
        )
      })

      const runner = yield* landscape.run(file)
      const until = <E>(what: string, holds: Effect.Effect<boolean, E>) =>
        holds.pipe(
          Effect.repeat({ schedule: Schedule.spaced("100 millis"), until: (done) => done }),
          Effect.timeout("90 seconds"),
          Effect.catchTag(
            "TimeoutError",
            () => Effect.die(new Error(`it did not come that ${what}:\n${runner.output()}`))
          )
        )
      const says = (pattern: RegExp) =>
        until(`the runner says ${pattern}`, Effect.sync(() => pattern.test(runner.output())))
      /** Waits until what is written now is in the targets: what the slot confirms may be in the spool alone. */
      const arrived = Effect.fnUntraced(function*({ database, session }: MirrorState.Mirror) {
        const mark = -1_000_000 - ++n
        yield* postgres.query(`INSERT INTO orders VALUES (${mark}); INSERT INTO lines VALUES (${mark})`)
        for (const table of tables) {
          const came = Effect.map(
            session.query(
              `SELECT COUNT(*) FROM ${database}.${Landscape.schema}.${table.toUpperCase()} WHERE ID = ${mark}`
            ),
            ([row]) => Number(row?.[0]) === 1
          )
          yield* until(`a row of ${table} arrives`, came)
        }
      })
      yield* runner.waitFor(copied)
      const mirror = yield* landscape.mirror
      yield* Landscape.caughtUp(landscape, mirror, tables)

      yield* warehouse.kill
      yield* change
      const stopped = yield* endOfLog
      while ((yield* slot(stopped)).retained < limit / 2) yield* change
      yield* says(/Appending rows .* trying again/)
      // Well below the limit nothing is confirmed: nobody has asked for a spool.
      assert.isFalse((yield* slot(stopped)).confirmed)
      assert.notMatch(runner.output(), /condition=(spooling|wal-action-spool)/)

      while ((yield* slot(stopped)).retained < limit + (2 << 20)) yield* change
      yield* says(/condition=wal-action-spool/)
      yield* says(/condition=spooling/)
      yield* change
      const written = yield* endOfLog
      yield* until(
        "the slot confirms what was written",
        Effect.map(slot(written), ({ confirmed }) => confirmed === true)
      )
      yield* until(
        "the server may forget what was written",
        Effect.map(slot(stopped), ({ released }) => released === true)
      )
      assert.isBelow((yield* slot(stopped)).retained, limit)
      assert.isAbove(files().length, 0)
      yield* change

      yield* warehouse.restart
      yield* change
      const back = yield* landscape.mirror
      yield* arrived(back)
      yield* Landscape.assertSame(landscape, back, tables)
      yield* says(/A condition is over.*condition=wal-action-spool/)
      yield* says(/A condition is over.*condition=spooling/)
      yield* until("the spool's files are gone", Effect.sync(() => files().length === 0))
      // Without a spool again: what comes is confirmed because it is in place.
      yield* change
      yield* arrived(back)
      yield* Landscape.caughtUp(landscape, back, tables)
      yield* Landscape.assertSame(landscape, back, tables)
      assert.isTrue(runner.isRunning(), runner.output())
      assert.strictEqual([...runner.output().matchAll(/The copy of a table is complete/g)].length, tables.length)
    }),
  300_000
)
