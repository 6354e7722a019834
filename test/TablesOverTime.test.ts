/**
 * Tables that come, go, come back and are copied again while the runner runs: nothing else is copied again or interrupted.
 */
import { assert, describe, it } from "@effect/vitest"
import type * as ChildProcess from "@etl-stream/testkit/ChildProcess"
import * as MirrorState from "@etl-stream/testkit/MirrorState"
import * as RowComparison from "@etl-stream/testkit/RowComparison"
import { quoted } from "@etl-stream/testkit/SnowflakeSession"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import { writeFileSync } from "node:fs"
import * as path from "node:path"
import * as Landscape from "./Landscape.ts"

/** A second pipeline of the same database and schema, with a slot of its own. */
const neighbour = "neighbour"

/** Two pipelines: one whose tables change over time, and one that is to be left alone. */
const make = Effect.gen(function*() {
  const landscape = yield* Landscape.make()
  const { postgres } = landscape
  for (const table of ["a", "b", "c"]) {
    yield* postgres.query(
      `CREATE TABLE ${table} (id int PRIMARY KEY, v text);
       INSERT INTO ${table} SELECT i, 'v' || i FROM generate_series(1, 2000) i`
    )
  }
  const file = path.join(landscape.folder, "pipelines.yaml")
  const configure = (tables: ReadonlyArray<string>) => {
    const pipelineOf = (tables: ReadonlyArray<string>) => {
      // Made by Landscape: one pipeline under this name.
      const { pipelines } = landscape.configuration({ source: { tables } }) as { pipelines: Record<string, unknown> }
      return pipelines[Landscape.pipeline]
    }
    const pipelines = {
      [Landscape.pipeline]: pipelineOf(tables.map((name) => `public.${name}`)),
      [neighbour]: pipelineOf(["public.c"])
    }
    writeFileSync(file, JSON.stringify({ ...landscape.configuration(), pipelines }))
  }
  const mirror = yield* landscape.mirror
  const neighbourMirror: MirrorState.Mirror = { ...mirror, pipeline: neighbour }

  /** Waits until everything committed is in place, also at the neighbour's, and compares. */
  const settled = Effect.fnUntraced(function*(tables: ReadonlyArray<string>) {
    yield* Landscape.caughtUp(landscape, mirror, tables)
    yield* MirrorState.caughtUp({ postgres, slot: neighbour, mirror: neighbourMirror, tables: ["c"], millis: 60_000 })
    yield* Landscape.assertSame(landscape, mirror, [...tables, "c"])
  })

  /** Changes all tables again and again while `effect` runs. */
  const changing = Effect.fnUntraced(function*<A, E, R>(effect: Effect.Effect<A, E, R>) {
    let n = 0
    const change = Effect.suspend(() => {
      n++
      return postgres.query(
        ["a", "b", "c"].map((table) =>
          `UPDATE ${table} SET v = v || '+' WHERE id % 97 = ${n % 97};
           DELETE FROM ${table} WHERE id = ${n * 7 % 1000 + 1000};
           INSERT INTO ${table} VALUES (${n % 50 + 10_000}, 'new') ON CONFLICT (id) DO UPDATE SET v = ${table}.v || '*'`
        ).join(";")
      )
    })
    const writer = yield* Effect.forkChild(Effect.forever(Effect.andThen(change, Effect.sleep(100))))
    const result = yield* effect
    yield* Fiber.interrupt(writer)
    return result
  })

  /** Positions of the complete copies, by the tables' bare names. */
  const copies = Effect.gen(function*() {
    const states = [...yield* MirrorState.tables(mirror), ...yield* MirrorState.tables(neighbourMirror)]
    return Object.fromEntries(states.map(({ copied, table }) => [table.split(".").at(-1) ?? "", copied]))
  })

  const copied = (table: string) =>
    Effect.repeat(copies, {
      schedule: Schedule.spaced("100 millis"),
      until: (copies) => typeof copies[table] === "string"
    }).pipe(Effect.timeout("60 seconds"))

  /** The neighbour's walsender: another one after every interruption. */
  const sender = Effect.map(
    postgres.query(`SELECT active_pid FROM pg_replication_slots WHERE slot_name = '${neighbour}'`),
    ([row]) => Number(row?.["active_pid"])
  )

  let reloads = 0
  const reload = Effect.fnUntraced(function*(runner: ChildProcess.ChildProcess, tables: ReadonlyArray<string>) {
    configure(tables)
    reloads++
    yield* runner.signal("SIGHUP")
    yield* runner.waitFor(new RegExp(`(?:The reload is complete[^]*){${reloads}}`))
  })
  return { landscape, mirror, file, configure, settled, changing, copies, copied, sender, reload }
})

describe("tables over time", () => {
  it.live(
    "a reload adds and removes a table of one pipeline; its others aren't copied again, its neighbour isn't interrupted",
    () =>
      Effect.gen(function*() {
        const { changing, configure, copied, copies, file, landscape, mirror, reload, sender, settled } = yield* make
        configure(["a"])
        const runner = yield* landscape.run(file)
        yield* settled(["a"])
        const first = yield* copies
        const firstSender = yield* sender
        assert.isAbove(firstSender, 0)

        yield* changing(Effect.andThen(reload(runner, ["a", "b"]), copied("b")))
        yield* settled(["a", "b"])
        const added = yield* copies
        assert.strictEqual(added["a"], first["a"])
        assert.strictEqual(added["c"], first["c"])

        yield* changing(reload(runner, ["a"]))
        yield* settled(["a"])
        const target = [mirror.database, mirror.schema, RowComparison.warehouseName("b")].map(quoted).join(".")
        const count = Effect.map(mirror.session.query(`SELECT COUNT(*) FROM ${target}`), ([row]) => Number(row?.[0]))
        const left = yield* count
        assert.isAbove(left, 1000)
        yield* landscape.postgres.query("DELETE FROM b WHERE id < 500")
        yield* settled(["a"])
        assert.strictEqual(yield* count, left, "what is no longer read stays as it was")
        assert.isNull((yield* copies)["b"], "and counts as a copy no more")

        yield* changing(reload(runner, ["a", "b"]))
        yield* settled(["a", "b"])
        const back = yield* copies
        assert.strictEqual(back["a"], first["a"])
        assert.strictEqual(back["c"], first["c"])
        assert.notStrictEqual(back["b"], added["b"])
        assert.strictEqual(yield* sender, firstSender)
        assert.deepStrictEqual(yield* runner.kill("SIGTERM", 40_000), { code: 0, signal: null }, runner.output())
      }),
    240_000
  )

  it.live("a resync repairs one table while changes come, and copies no other", () =>
    Effect.gen(function*() {
      const { changing, configure, copies, file, landscape, mirror, sender, settled } = yield* make
      configure(["a", "b"])
      const runner = yield* landscape.run(file)
      yield* settled(["a", "b"])
      const before = yield* copies
      const firstSender = yield* sender

      // Somebody meddles with the target.
      const target = [mirror.database, mirror.schema, RowComparison.warehouseName("a")].map(quoted).join(".")
      yield* mirror.session.query(`DELETE FROM ${target} WHERE ${quoted("ID")} BETWEEN 100 AND 300`)
      const differences = yield* Landscape.compare(landscape, mirror, ["a"])
      assert.isFalse(differences.every(RowComparison.isSame))

      const resync = Landscape.resync(file, "public.\"a\"")
      const asked = yield* changing(Effect.flatMap(resync, (process) => process.ended()))
      assert.deepStrictEqual(asked, { code: 0, signal: null }, runner.output())
      yield* settled(["a", "b"])
      const after = yield* copies
      assert.notStrictEqual(after["a"], before["a"])
      assert.deepStrictEqual([after["b"], after["c"]], [before["b"], before["c"]])
      assert.strictEqual(yield* sender, firstSender)
      assert.deepStrictEqual(yield* runner.kill("SIGTERM", 40_000), { code: 0, signal: null }, runner.output())
    }), 180_000)

  it.live(
    "a resync of a table that was altered, and not written since, brings its new column's values",
    () =>
      Effect.gen(function*() {
        const { configure, file, landscape, settled } = yield* make
        configure(["a", "b"])
        const runner = yield* landscape.run(file)
        yield* settled(["a", "b"])
        // No change of the table says what it looks like now, and a constant default isn't written to its rows.
        yield* landscape.postgres.query(`ALTER TABLE "a" ADD COLUMN added int DEFAULT 7`)
        const resync = yield* Landscape.resync(file, "public.\"a\"")
        assert.deepStrictEqual(yield* resync.ended(), { code: 0, signal: null }, runner.output())
        yield* landscape.postgres.query(`UPDATE "a" SET added = 8 WHERE id % 10 = 0`)
        yield* settled(["a", "b"])
        assert.deepStrictEqual(yield* runner.kill("SIGTERM", 40_000), { code: 0, signal: null }, runner.output())
      }),
    180_000
  )
})
