/**
 * The warehouse is down while rows change: with a spool the slot moves on, and everything arrives once when the warehouse is back, also when the
 * runner is killed in between.
 */
import { assert, describe, it } from "@effect/vitest"
import type * as MirrorState from "@etl-stream/testkit/MirrorState"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { readdirSync, renameSync, rmSync, statSync } from "node:fs"
import { join } from "node:path"
import * as Landscape from "./Landscape.ts"

const tables = ["orders", "lines"]
/** What the runner has said when the copies of both are complete. */
const copied = /The copy of a table is complete[^]*The copy of a table is complete/

const make = Effect.fnUntraced(function*(sink: Readonly<Record<string, unknown>> = {}) {
  const landscape = yield* Landscape.make()
  const { folder, postgres, warehouse } = landscape
  yield* postgres.query(
    `CREATE TABLE orders (id int PRIMARY KEY, v int, note text, large text);
     ALTER TABLE orders ALTER COLUMN large SET STORAGE EXTERNAL;
     INSERT INTO orders SELECT i, 0, 'note ' || i, repeat('x', 3000) FROM generate_series(1, 200) i;
     CREATE TABLE lines (id int, v int); ALTER TABLE lines REPLICA IDENTITY FULL;
     INSERT INTO lines SELECT i % 10, 0 FROM generate_series(1, 50) i`
  )
  const write = (source: Readonly<Record<string, unknown>> = {}, spool: object = {}): string => {
    const configuration = JSON.parse(JSON.stringify(landscape.configuration({
      source,
      sink
    })))
    configuration.pipelines[Landscape.pipeline].spool = { directory: "./spool", after: "1 second", ...spool }
    return landscape.write(configuration)
  }
  const spool = join(folder, "spool", Landscape.pipeline)
  let n = 0
  /** Every kind of change, with values that aren't sent, and a truncation now and then. */
  const change = Effect.suspend(() => {
    n++
    return postgres.query(
      `INSERT INTO orders VALUES (${1000 + n}, ${n}, NULL, NULL);
       UPDATE orders SET v = v + 1 WHERE id % 7 = ${n % 7};
       UPDATE orders SET id = -id WHERE id = ${n};
       DELETE FROM orders WHERE id = ${100 + n};
       UPDATE lines SET v = v + 1 WHERE id = ${n % 10};
       ${n % 10 === 0 ? "TRUNCATE lines;" : ""} INSERT INTO lines VALUES (${n % 10}, ${n})`
    )
  })
  const changes = (count: number) => Effect.replicateEffect(change, count, { discard: true })
  /** Waits until the slot has confirmed what is written now. */
  const confirmed = Effect.gen(function*() {
    const [end] = yield* postgres.query("SELECT pg_current_wal_insert_lsn()::text AS end")
    yield* postgres.query(
      `SELECT confirmed_flush_lsn >= '${
        String(end?.["end"])
      }'::pg_lsn AS done FROM pg_replication_slots WHERE slot_name = '${Landscape.pipeline}'`
    ).pipe(
      Effect.repeat({ schedule: Schedule.spaced("100 millis"), until: ([row]) => row?.["done"] === true }),
      Effect.timeout("60 seconds")
    )
  })
  /** Waits until what is written now has arrived at the target tables. */
  const arrived = Effect.fnUntraced(function*(mirror: MirrorState.Mirror) {
    const mark = 1_000_000 + n++
    yield* postgres.query(`INSERT INTO orders VALUES (${mark}); INSERT INTO lines VALUES (${mark})`)
    for (const table of tables) {
      yield* mirror.session.query(
        `SELECT COUNT(*) AS N FROM ${mirror.database}.${Landscape.schema}.${table.toUpperCase()} WHERE ID = ${mark}`
      ).pipe(
        Effect.repeat({ schedule: Schedule.spaced("200 millis"), until: ([row]) => Number(row?.[0]) === 1 }),
        // The sink makes the tables when it begins.
        Effect.retry(Schedule.spaced("200 millis")),
        Effect.timeout("60 seconds")
      )
    }
  })
  const segments = () => readdirSync(spool).filter((name) => name.endsWith(".segment"))
  return { landscape, postgres, warehouse, folder, spool, write, changes, confirmed, arrived, segments }
})

describe("a pipeline with a spool", () => {
  it.live(
    "lets the slot move on while the warehouse is down, and loses and doubles nothing when it is back, through kills in between",
    () =>
      Effect.gen(function*() {
        const { arrived, changes, confirmed, landscape, segments, spool, warehouse, write } = yield* make()
        const file = write()
        const first = yield* landscape.run(file)
        yield* first.waitFor(copied)
        yield* warehouse.kill
        // Far more than what would be confirmed without a spool: nothing.
        for (let round = 0; round < 3; round++) {
          yield* changes(20)
          yield* confirmed
        }
        assert.isAbove(segments().length, 0)
        assert.strictEqual(statSync(spool).mode & 0o777, 0o700)
        for (const name of segments()) assert.strictEqual(statSync(join(spool, name)).mode & 0o777, 0o600)
        assert.match(first.output(), /condition=spooling/)
        yield* first.kill()
        yield* changes(5)
        yield* warehouse.restart

        // The second run is killed while it drains what the first one kept.
        const second = yield* landscape.run(file)
        yield* second.waitFor(/The pipeline runs/)
        yield* changes(5)
        yield* second.kill()

        yield* landscape.run(file)
        yield* changes(5)
        const mirror = yield* landscape.mirror
        yield* arrived(mirror)
        yield* Landscape.assertSame(landscape, mirror, tables)
        yield* Effect.sync(() => segments().length).pipe(
          Effect.repeat({ schedule: Schedule.spaced("100 millis"), until: (count) => count === 0 }),
          Effect.timeout("30 seconds")
        )
      }),
    180_000
  )

  it.live(
    "goes on in the same run when the warehouse comes back, each change once in a changelog",
    () =>
      Effect.gen(function*() {
        const { arrived, changes, confirmed, landscape, warehouse, write } = yield* make({ mode: "changelog" })
        const runner = yield* landscape.run(write())
        const counted = (mirror: MirrorState.Mirror, table: string) =>
          Effect.map(
            mirror.session.query(
              `SELECT COUNT(*) AS N, COUNT(DISTINCT _ETL_SEQ) AS D FROM ${mirror.database}.${Landscape.schema}.${table} WHERE _ETL_OP <> 'read'`
            ),
            ([row]) => [Number(row?.[0]), Number(row?.[1])] as const
          )
        yield* runner.waitFor(copied)
        yield* changes(3)
        yield* confirmed
        yield* warehouse.kill
        yield* changes(30)
        yield* confirmed
        yield* warehouse.restart
        yield* changes(3)
        const mirror = yield* landscape.mirror
        yield* arrived(mirror)
        const [all, distinct] = yield* counted(mirror, "ORDERS")
        assert.strictEqual(all, distinct)
        const [inserted] = yield* mirror.session.query(
          `SELECT COUNT(*) FROM ${mirror.database}.${Landscape.schema}.ORDERS WHERE _ETL_OP = 'insert'`
        )
        assert.strictEqual(Number(inserted?.[0]), 37)
        assert.isTrue(runner.isRunning(), runner.output())
      }),
    180_000
  )

  it.live(
    "brings what it kept to tables whose columns were added, renamed and dropped meanwhile",
    () =>
      Effect.gen(function*() {
        const { arrived, changes, confirmed, landscape, warehouse, write } = yield* make()
        const { postgres } = landscape
        const file = write()
        const first = yield* landscape.run(file)
        yield* first.waitFor(copied)
        yield* warehouse.kill
        yield* changes(12)
        yield* confirmed
        yield* first.kill()
        yield* postgres.query(
          `ALTER TABLE orders ADD COLUMN extra int; ALTER TABLE orders RENAME COLUMN note TO remark;
         ALTER TABLE orders DROP COLUMN v`
        )
        yield* postgres.query("UPDATE orders SET extra = 1, remark = 'new' WHERE id % 3 = 0")
        yield* warehouse.restart
        const second = yield* landscape.run(file)
        const mirror = yield* landscape.mirror
        yield* arrived(mirror)
        yield* Landscape.assertSame(landscape, mirror, tables)
        assert.notMatch(second.output(), /public\.orders is copied again/)
      }),
    180_000
  )

  it.live(
    "recognises a spool that is gone, and halts or copies again as slot.onLost says",
    () =>
      Effect.gen(function*() {
        const { arrived, changes, confirmed, folder, landscape, spool, warehouse, write } = yield* make()
        const file = write()
        const first = yield* landscape.run(file)
        yield* first.waitFor(copied)
        yield* warehouse.kill
        yield* changes(10)
        yield* confirmed
        yield* first.kill()
        yield* warehouse.restart
        const aside = join(folder, "aside")
        renameSync(spool, aside)

        const halted = yield* landscape.run(file)
        assert.strictEqual((yield* halted.ended()).code, 1)
        assert.match(halted.output(), /only kept in the spool/)
        // Nothing was changed: with the spool in its place the pipeline goes on.
        rmSync(spool, { recursive: true, force: true })
        renameSync(aside, spool)
        const second = yield* landscape.run(file)
        const mirror = yield* landscape.mirror
        yield* changes(2)
        yield* arrived(mirror)
        yield* Landscape.assertSame(landscape, mirror, tables)
        yield* second.kill("SIGTERM")

        const third = yield* landscape.run(file)
        yield* arrived(mirror)
        yield* warehouse.kill
        yield* changes(10)
        yield* confirmed
        yield* third.kill()
        yield* warehouse.restart
        rmSync(spool, { recursive: true, force: true })
        const fourth = yield* landscape.run(write({ slot: { onLost: "resnapshot" } }))
        yield* fourth.waitFor(/copying tables/)
        const again = yield* landscape.mirror
        yield* changes(2)
        yield* arrived(again)
        yield* Landscape.assertSame(landscape, again, tables)
      }),
    240_000
  )
})
