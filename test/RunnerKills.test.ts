/**
 * The runner is killed, or PostgreSQL crashes, at steps of a copy by chunks while rows change: the copy goes on where it was, and every row arrives
 * once.
 */
import { assert, describe, it } from "@effect/vitest"
import type * as ChildProcess from "@etl-stream/testkit/ChildProcess"
import * as HeldStatements from "@etl-stream/testkit/HeldStatements"
import * as MirrorState from "@etl-stream/testkit/MirrorState"
import { quoted } from "@etl-stream/testkit/SnowflakeSession"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as Landscape from "./Landscape.ts"

const tables = ["big", "keyless", "other"]

const make = Effect.gen(function*() {
  const landscape = yield* Landscape.make()
  const { postgres } = landscape
  yield* postgres.query(
    `CREATE TABLE big (id int PRIMARY KEY, v int, filler text, large text);
     ALTER TABLE big ALTER COLUMN large SET STORAGE EXTERNAL;
     INSERT INTO big SELECT i, 0, repeat(md5(i::text), 8), CASE WHEN i % 200 = 0 THEN repeat('x', 3000) END FROM generate_series(1, 8000) i;
     CREATE TABLE keyless (id int, v int); ALTER TABLE keyless REPLICA IDENTITY FULL;
     INSERT INTO keyless SELECT i % 100, 0 FROM generate_series(1, 500) i;
     CREATE TABLE other (id int PRIMARY KEY)`
  )
  /** How many more chunks are copied before the rest has to wait. */
  let chunks = Infinity
  /** The statements that the latest runner sent for chunks of `big`: each names its chunk. */
  let reads: ReadonlyArray<string> = []
  const port = yield* HeldStatements.start(postgres, (sent) => {
    const [read] = /COPY .*"big".*/s.exec(sent) ?? []
    if (read === undefined) return undefined
    reads = [...reads, read]
    if (chunks-- > 0) return undefined
    // Until its client is gone.
    return new Promise(() => {})
  })
  const file = landscape.write(landscape.configuration({
    through: { host: "127.0.0.1", port },
    source: { snapshot: { chunkBytes: 262_144, parallel: 1 } },
    // Each chunk is loaded as soon as it has ended.
    sink: { copy: { every: "0 seconds" } }
  }))
  const mirror = yield* landscape.mirror
  const start = (chunksOfBig = Infinity) =>
    Effect.suspend(() => {
      chunks = chunksOfBig
      reads = []
      return landscape.run(file)
    })

  /** Nothing has to wait any more. */
  const letGo = Effect.sync(() => {
    chunks = Infinity
  })

  let n = 0
  /** Key changes with values out of line, deletions, rows without a key, and several tables in one transaction. */
  const change = Effect.suspend(() => {
    n++
    return postgres.query(
      `UPDATE big SET v = v + 1 WHERE id % 997 = ${n};
       UPDATE big SET id = -id WHERE id = ${200 * n}; UPDATE big SET id = id + 100000 WHERE id = ${8000 - 200 * n};
       DELETE FROM big WHERE id IN (${n * 7}, ${8000 - n * 7});
       UPDATE keyless SET v = v + 1 WHERE id = ${n % 100}; INSERT INTO keyless VALUES (${n}, -1), (${n}, -1);
       INSERT INTO other VALUES (${n})`
    )
  })
  /** Changes rows while `effect` runs; a server that is down changes none. */
  const changing = Effect.fnUntraced(function*<A, E, R>(effect: Effect.Effect<A, E, R>) {
    const writer = yield* Effect.forkChild(Effect.forever(Effect.andThen(Effect.ignore(change), Effect.sleep(100))))
    const result = yield* effect
    yield* Fiber.interrupt(writer)
    return result
  })

  /** Numbers of the finished chunks that the sink holds of an unfinished copy of `big`. */
  const durable = mirror.session.query(
    `SELECT "CHUNK" FROM ${
      [mirror.database, "ETL_STREAM", "CHUNKS"].map(quoted).join(".")
    } WHERE "SOURCE_TABLE" = 'public.big'`
  ).pipe(
    Effect.map((rows) => rows.length),
    // The sink makes the table when it begins.
    Effect.orElseSucceed(() => 0)
  )
  const until = <E, R>(condition: Effect.Effect<boolean, E, R>, every: Duration.Input = "100 millis") =>
    Effect.repeat(condition, { schedule: Schedule.spaced(every), until: (holds) => holds }).pipe(
      Effect.timeout("60 seconds")
    )
  const copied = Effect.map(
    MirrorState.tables(mirror),
    (states) => states.some(({ copied, table }) => table === "public.big" && copied !== null)
  )
  const same = Effect.gen(function*() {
    for (let i = 0; i < 3; i++) yield* change
    yield* Landscape.caughtUp(landscape, mirror, tables)
    yield* Landscape.assertSame(landscape, mirror, tables)
  })
  return { landscape, mirror, start, letGo, change, changing, durable, until, copied, same, reads: () => reads }
})

/** How many copies the runner resumed at its latest start. */
const resumed = (runner: ChildProcess.ChildProcess): number =>
  Number([...runner.output().matchAll(/message="copying tables" .*resumed=(\d+)/g)].at(-1)?.[1])

/** Of the chunks that runners before began to read, the latest reads again what was not finished, one at least, and nothing else. */
const assertResumed = (reads: ReadonlyArray<string>, before: ReadonlySet<string>, finished: number) => {
  const again = reads.filter((read) => before.has(read)).length
  assert.isAtLeast(again, 1)
  assert.isAtMost(again, before.size - finished, "finished chunks are not copied again")
}

describe("a copy by chunks", () => {
  it.live(
    "goes on with the missing chunks when the runner is killed in the middle of it, twice",
    () =>
      Effect.gen(function*() {
        const { changing, copied, durable, reads, same, start, until } = yield* make
        const first = yield* start(3)
        yield* changing(until(Effect.map(durable, (chunks) => chunks >= 2)))
        yield* first.kill()
        assert.isFalse(yield* copied)
        const readFirst = new Set(reads())
        const kept = yield* durable

        const second = yield* start(3)
        yield* changing(until(Effect.map(durable, (chunks) => chunks >= kept + 2)))
        yield* second.kill()
        assert.isFalse(yield* copied)
        assert.isAtLeast(resumed(second), 1)
        assertResumed(reads(), readFirst, kept)
        const readSecond = new Set([...readFirst, ...reads()])
        const more = yield* durable

        const third = yield* start()
        yield* changing(until(copied))
        assert.isAtLeast(resumed(third), 1)
        assertResumed(reads(), readSecond, more)
        yield* same
      }),
    150_000
  )

  it.live(
    "keeps what streamed beside it when the runner is killed before it is complete",
    () =>
      Effect.gen(function*() {
        const { changing, copied, durable, mirror, same, start, until } = yield* make
        const first = yield* start(3)
        const journaled = MirrorState.journalState(mirror, "big").pipe(
          Effect.map(({ changes }) => changes > 0),
          // The sink makes the journal when it begins.
          Effect.orElseSucceed(() => false)
        )
        yield* changing(until(Effect.zipWith(journaled, durable, (streamed, chunks) => streamed && chunks > 0)))
        yield* first.kill()
        assert.isFalse(yield* copied)
        yield* start()
        yield* changing(until(copied))
        yield* same
      }),
    150_000
  )

  it.live("is not made again when the runner is killed as soon as it is complete", () =>
    Effect.gen(function*() {
      const { change, changing, copied, reads, same, start, until } = yield* make
      const first = yield* start()
      yield* changing(until(copied, "20 millis"))
      yield* first.kill()
      yield* change
      assert.isNotEmpty(reads())
      yield* start()
      yield* same
      assert.deepStrictEqual(reads(), [], "the table is copied again")
    }), 150_000)

  it.live("goes on by itself when PostgreSQL crashes in the middle of it", () =>
    Effect.gen(function*() {
      const { changing, copied, landscape: { postgres }, letGo, reads, same, start, until } = yield* make
      const runner = yield* start(3)
      yield* until(Effect.sync(() => reads().length > 3))
      yield* postgres.kill
      yield* letGo
      assert.notInclude(runner.output(), "copied tables")
      assert.isFalse(yield* copied)
      yield* postgres.restart()
      yield* changing(until(copied))
      assert.isTrue(runner.isRunning(), runner.output())
      assert.strictEqual(runner.output().match(/message="copying tables"/g)?.length, 2)
      yield* same
    }), 150_000)
})
