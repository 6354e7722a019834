/**
 * When tables are merged: on a real server, with the time that passes between merges in the test's hands.
 */
import { assert, layer } from "@effect/vitest"
import { Operation } from "@etl-stream/core/ChangeBatch"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Batches from "./Batches.ts"
import { handClock } from "./HandClock.ts"
import * as Local from "./Local.ts"

class Server extends Context.Service<Server, Local.Local>()("test/Server") {
  static readonly layer = Layer.effect(Server, Local.start())
}

/** A pipeline with empty tables, of which `every` is 1 day, or 2, 3... by their place in the list. */
const start = Effect.fnUntraced(function*(pipeline: string, names: ReadonlyArray<string>, merge: object = {}) {
  const local = yield* Server
  const { clock, pass } = yield* handClock
  const own = names.map((name, index) => [`public.${name}`, { merge: { every: `${index + 1} days` } }] as const)
  const running = yield* Effect.provideService(
    Local.run(local, { merge: { every: "1 day", ...merge }, tables: Object.fromEntries(own) }, pipeline),
    Clock.Clock,
    clock
  )
  const tables = yield* Effect.forEach(names, (name) =>
    Effect.gen(function*() {
      const table = Batches.table(name, { id: { _tag: "Int32" } }, { _tag: "Key", columns: [0] })
      const opened = yield* running.open(table)
      yield* Local.copy(opened, table, 10n, [])
      let written = 0
      /** Writes so many rows more, and waits until they are durable. */
      const insert = Effect.fnUntraced(function*(rows = 1) {
        const added = Array.from({ length: rows }, () => {
          written++
          return {
            op: Operation.Insert,
            sequence: Sequence.make(20n, BigInt(written)),
            values: [written]
          }
        })
        yield* opened.rows(Batches.batch(table, added))
        yield* opened.durable(Sequence.make(20n, BigInt(written)))
      })
      const count = Effect.map(
        local.query(`SELECT COUNT(*) AS "n" FROM RAW.SHOP.${name.toUpperCase()}`),
        ([row]) => Number(row?.["n"])
      )
      /** Waits until the target has so many rows. */
      const shows = (rows: number) =>
        count.pipe(
          Effect.repeat({ until: (found) => found === rows, schedule: Schedule.spaced("10 millis") }),
          Effect.timeout("20 seconds")
        )
      return { insert, count, shows }
    }))
  const at = (index: number) => {
    const table = tables[index]
    return table === undefined ? Effect.die("no such table") : Effect.succeed(table)
  }
  return { local, running, pass, first: yield* at(0), at }
})

layer(Server.layer, { timeout: 60_000, excludeTestServices: true })("The runner merges", (it) => {
  it.effect("the first change of a table at rest at once, and the ones right after it when `every` has passed", () =>
    Effect.gen(function*() {
      const { at, first, pass } = yield* start("rest", ["quiet", "other"])
      const other = yield* at(1)
      // Nothing was merged meanwhile: both are at rest.
      yield* pass(1)
      yield* pass(2)
      yield* first.insert()
      yield* first.shows(1)
      yield* first.insert()
      // What is committed later of a table at rest is merged, and this isn't.
      yield* other.insert()
      yield* other.shows(1)
      assert.strictEqual(yield* first.count, 1)
      yield* pass(1)
      assert.strictEqual(yield* first.count, 2)
      // That was a merge: not at rest yet.
      yield* first.insert()
      yield* pass(2)
      yield* other.insert()
      yield* pass(2)
      yield* pass(2)
      yield* other.insert()
      yield* other.shows(3)
      assert.strictEqual(yield* first.count, 2)
      yield* pass(1)
      assert.strictEqual(yield* first.count, 3)
      // At rest again.
      yield* pass(1)
      yield* first.insert()
      yield* first.shows(4)
    }))

  it.effect("what a table has changed since the start when `every` has passed", () =>
    Effect.gen(function*() {
      const { at, first, pass } = yield* start("started", ["early", "witness"])
      const witness = yield* at(1)
      yield* pass(2)
      yield* first.insert()
      yield* witness.insert()
      yield* witness.shows(1)
      assert.strictEqual(yield* first.count, 0)
      yield* pass(1)
      assert.strictEqual(yield* first.count, 1)
    }))

  it.effect("more changes than `merge.immediateRows` when `every` has passed", () =>
    Effect.gen(function*() {
      const { at, first, pass } = yield* start("large", ["large", "small"], { immediateRows: 2 })
      const small = yield* at(1)
      yield* pass(1)
      yield* pass(2)
      yield* first.insert(3)
      yield* small.insert(2)
      yield* small.shows(2)
      assert.strictEqual(yield* first.count, 0)
      yield* pass(1)
      assert.strictEqual(yield* first.count, 3)
    }))

  it.effect("nothing at once when `merge.immediateRows` is 0", () =>
    Effect.gen(function*() {
      const { first, local, pass, running } = yield* start("never", ["patient"], { immediateRows: 0 })
      yield* pass(1)
      yield* local.clearStatements
      yield* first.insert()
      // The watcher's next rounds, with other statements of the same pool between.
      for (let round = 0; round < 20; round++) assert.strictEqual(yield* first.count, 0)
      yield* pass(1)
      assert.strictEqual(yield* first.count, 1)
      yield* first.insert()
      yield* running.sink.settle
      assert.strictEqual(yield* first.count, 2)
    }))

  it.effect("no more than `merge.parallel` tables at a time", () =>
    Effect.gen(function*() {
      const names = ["one", "two", "three", "four"]
      const { at, local, pass, running } = yield* start("single", names, { parallel: 1 })
      const tables = yield* Effect.forEach(names, (_, index) => at(index))
      /** The tables of the merges' statements, each as often as it takes turns with others. */
      const turns = Effect.map(local.statements, (statements) =>
        statements.flatMap(({ tag }) =>
          tag.includes(`"pipeline":"single"`) && tag.includes(`"purpose":"merge"`)
            ? [/public\.\w+/.exec(tag)?.[0]]
            : []
        ).filter((table, index, all) =>
          table !== all[index - 1]
        ))
      for (
        const merge of [
          Effect.forEach(names, (_, index) => pass(index + 1), { concurrency: "unbounded" }),
          running.sink.settle
        ]
      ) {
        yield* Effect.forEach(tables, ({ insert }) => insert(), { concurrency: "unbounded" })
        yield* local.clearStatements
        yield* merge
        assert.deepStrictEqual([...yield* turns].sort(), names.map((name) => `public.${name}`).sort())
      }
    }))
})
