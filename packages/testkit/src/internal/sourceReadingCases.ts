/** Cases of what a source reads: tables, copies, changes, shapes and values. */
import { tableId, type TableName } from "@etl-stream/core/TableSchema"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import type { Case } from "../Conformance.ts"
import type { Subject } from "../SourceSubject.ts"
import { type Kit, scenario } from "./sourceKit.ts"
import { mark } from "./workload.ts"

/** Notes that text gets lost by, each in another way. */
const oddNotes: ReadonlyArray<string | null> = [
  null,
  "",
  " ",
  "null",
  "NULL",
  "\\N",
  "'single' \"double\" `back`",
  "a\tb\nc\r\nd",
  "back\\slash \\n \\u0041",
  "ünïcödé ß ﬀ Ω Å",
  "e\u0301 is not \u00e9",
  "🌊👩‍👩‍👧",
  "שלום العربية",
  "\u0001\u001f\u007f\u0085\u2028\ufeff",
  "0",
  "true",
  "{\"a\": [1, null]}",
  "<a href=\"x\">&amp;</a>",
  ", ; | $$ % _ ? :name ${env:HOME}"
]

const secondTable = ({ world }: Kit): TableName => {
  const [, second] = world.tables
  assert.ok(second !== undefined, "The place has one table, and `cannot` doesn't say why")
  return second
}

export const cases = <A>(subject: Subject<A>): ReadonlyArray<Case> => [
  scenario(subject, "tells its tables, each once and the same each time it is asked", (kit) =>
    Effect.gen(function*() {
      const [once, again] = yield* Effect.forEach([1, 2], () =>
        Effect.scoped(Effect.flatMap(kit.open, ({ tables }) => tables)))
      assert.deepEqual(once, again)
      const ids = (once ?? []).map(({ table }) =>
        tableId(table)
      )
      assert.equal(new Set(ids).size, ids.length, "A table is listed twice")
      for (const table of kit.world.tables) {
        const schema = once?.find((candidate) => tableId(candidate.table) === tableId(table))
        assert.ok(schema !== undefined, `${tableId(table)} isn't among the source's tables: ${ids.join(", ")}`)
        const names = schema.columns.map(({ name }) => name.toLowerCase())
        assert.ok(names.includes("id") && names.includes("note"), `${tableId(table)} lacks the columns id and note`)
      }
    })),

  scenario(
    subject,
    "tells where it is by a watermark, also when there is nothing to read",
    (kit) =>
      Effect.gen(function*() {
        const run = yield* kit.start()
        yield* run.until("a watermark", () => run.watermark() !== undefined)
        yield* run.stop
        yield* kit.judge
      })
  ),

  scenario(
    subject,
    "gives what is there, then every change, in elements that keep to the contract",
    (kit) =>
      Effect.gen(function*() {
        for (const table of kit.world.tables) yield* kit.workload.insert(table, 25)
        const run = yield* kit.start()
        yield* kit.caughtUp(run)
        yield* kit.workload.steps(30)
        yield* kit.caughtUp(run)
        yield* run.stop
        yield* kit.judge
      })
  ),

  scenario(
    subject,
    "reads what is changed while a table is copied neither too little nor twice",
    (kit) =>
      Effect.gen(function*() {
        for (const table of kit.world.tables) yield* kit.workload.insert(table, 25)
        // Every element takes a while, so that something changes in between.
        const run = yield* kit.start({ each: (_element, count) => count > 12 ? Effect.void : Effect.sleep(2) })
        yield* kit.workload.steps(12)
        // A copy that meets a truncate may end the run by something that passes.
        yield* kit.persist(run)
        yield* kit.judge
      })
  ),

  scenario(subject, "keeps every character of a text, and tells empty from null", (kit) =>
    Effect.gen(function*() {
      const notes = oddNotes.map((note) => note === null || note === "" ? note : `${note} ${mark}`)
      const insert = Effect.suspend(() => {
        const rest = [...notes]
        return kit.workload.change(kit.first, [
          { _tag: "Insert", rows: kit.workload.fresh(notes.length, () => rest.shift() ?? null) }
        ])
      })
      yield* insert
      const run = yield* kit.start()
      yield* kit.caughtUp(run)
      yield* insert
      yield* kit.caughtUp(run)
      yield* run.stop
      yield* kit.judge
    })),

  scenario(
    subject,
    "reads tables with odd names, each for itself",
    (kit) =>
      Effect.gen(function*() {
        const { addTable } = kit.world
        assert.ok(addTable !== undefined, "The place has no addTable, and `cannot` doesn't say why")
        const added = yield* Effect.forEach(["Odd Näme", "odd.näme", "odd \"quoted\" näme", "select"], addTable)
        const world = { ...kit.world, tables: [...kit.world.tables, ...added] }
        for (const table of world.tables) yield* kit.workload.insert(table, 3)
        const run = yield* kit.start()
        yield* kit.caughtUp(run)
        for (const table of world.tables) yield* kit.workload.insert(table, 2)
        yield* kit.caughtUp(run)
        yield* run.stop
        for (const table of added) {
          assert.equal(kit.sink.mirror.rows(table).length, 5, `rows of ${tableId(table)}`)
        }
        yield* kit.judge
      }),
    "AddTable"
  ),

  scenario(subject, "reads rows of a megabyte, and thousands of rows", (kit) =>
    Effect.gen(function*() {
      const large = (): string => `${mark} ${"0123456789abcdef".repeat(1 << 16)}`
      const insert = Effect.gen(function*() {
        yield* kit.workload.change(kit.first, [{ _tag: "Insert", rows: kit.workload.fresh(3, large) }])
        yield* kit.workload.insert(kit.first, 3000)
      })
      yield* insert
      const run = yield* kit.start()
      yield* kit.caughtUp(run)
      yield* insert
      yield* kit.caughtUp(run)
      yield* run.stop
      yield* kit.judge
    })),

  scenario(
    subject,
    "says that a table's shape changes before anything of the new shape comes",
    (kit) =>
      Effect.gen(function*() {
        const { first, workload } = kit
        yield* workload.insert(first, 3)
        const run = yield* kit.start()
        yield* kit.caughtUp(run)
        yield* workload.insert(first, 3)
        yield* workload.addColumn(first)
        yield* workload.steps(5)
        yield* kit.persist(run)
        yield* kit.judge
        // Changed while nobody looks.
        yield* workload.addColumn(first)
        yield* workload.steps(5)
        yield* kit.persist(yield* kit.start())
        yield* kit.judge
      }),
    "AddColumn"
  ),

  scenario(
    subject,
    "gives no more of a column that is dropped, and all others their own values",
    (kit) =>
      Effect.gen(function*() {
        const { first, workload } = kit
        yield* workload.insert(first, 5)
        const columns = yield* Effect.forEach([1, 2, 3], () => workload.addColumn(first))
        for (const column of columns) yield* workload.setColumn(first, column)
        const [gone = "", later = "", stays = ""] = columns
        const run = yield* kit.start()
        yield* kit.caughtUp(run)
        yield* workload.change(first, [{ _tag: "DropColumn", name: gone }])
        yield* workload.insert(first, 2)
        yield* workload.setColumn(first, stays)
        yield* kit.persist(run)
        yield* kit.judge
        // Dropped while nobody looks.
        yield* workload.change(first, [{ _tag: "DropColumn", name: later }])
        yield* workload.insert(first, 2)
        yield* workload.setColumn(first, stays)
        yield* kit.persist(yield* kit.start())
        yield* kit.judge
      }),
    "AddColumn",
    "SetColumn",
    "DropColumn"
  ),

  scenario(
    subject,
    "gives a column that is renamed its values, also in rows that nobody writes again",
    (kit) =>
      Effect.gen(function*() {
        const { first, workload } = kit
        yield* workload.insert(first, 5)
        const old = yield* workload.addColumn(first)
        yield* workload.setColumn(first, old)
        const run = yield* kit.start()
        yield* kit.caughtUp(run)
        yield* workload.insert(first, 2)
        const renamed = yield* workload.renameColumn(first, old)
        yield* workload.insert(first, 2)
        yield* kit.persist(run)
        yield* kit.judge
        // Renamed while nobody looks.
        yield* workload.renameColumn(first, renamed)
        yield* workload.insert(first, 2)
        yield* kit.persist(yield* kit.start())
        yield* kit.judge
      }),
    "AddColumn",
    "SetColumn",
    "RenameColumn"
  ),

  scenario(subject, "gives nothing of tables that transforms leave out", (kit) =>
    Effect.gen(function*() {
      const second = secondTable(kit)
      const unwanted = new Set([tableId(second)])
      yield* kit.workload.insert(second, 3)
      const run = yield* kit.start({ unwanted })
      yield* kit.workload.insert(second, 3)
      yield* kit.caughtUp(run)
      yield* run.stop
      assert.deepEqual(kit.rules.flatMap(({ problems }) => problems), [])
    }), "SecondTable"),

  scenario(
    subject,
    "doesn't copy a table that is in quarantine, and goes on with the others",
    (kit) =>
      Effect.gen(function*() {
        const { first } = kit
        const second = secondTable(kit)
        const why = { reason: "Rejected", message: "a test", hint: "none", since: 0 } as const
        yield* kit.workload.insert(second, 3)
        yield* kit.workload.insert(first, 3)
        const run = yield* kit.start({ quarantined: new Map([[tableId(second), why]]) })
        yield* kit.caughtUp(run)
        assert.ok(!run.kinds.includes(`SnapshotBegin ${tableId(second)}`), `${tableId(second)} was copied`)
        yield* run.stop
      }),
    "SecondTable"
  ),

  scenario(subject, "is never silent for longer than it promises", (kit) =>
    Effect.gen(function*() {
      const source = yield* Effect.scoped(kit.open)
      const { heartbeat } = source
      assert.ok(heartbeat !== undefined, "The source has no heartbeat, and `cannot` doesn't say why")
      const promised = Duration.toMillis(heartbeat)
      let last = Date.now()
      let longest = 0
      const run = yield* kit.start({
        each: () =>
          Effect.sync(() => {
            longest = Math.max(longest, Date.now() - last)
            last = Date.now()
          })
      })
      yield* kit.caughtUp(run)
      longest = 0
      const before = run.count()
      yield* run.until("two elements while nothing changes", () => run.count() >= before + 2)
      yield* run.stop
      // A machine that has much to do may be a little late.
      assert.ok(
        longest <= promised * 1.5 + 1000,
        `${longest} ms of silence, when no more than ${promised} are promised`
      )
    }), "Heartbeat"),

  scenario(subject, "copies a table again when it is asked to, beside all others", (kit) =>
    Effect.gen(function*() {
      for (const table of kit.world.tables) yield* kit.workload.insert(table, 5)
      const run = yield* kit.start()
      const { resync } = run.source
      assert.ok(resync !== undefined, "The source has no resync, and `cannot` doesn't say why")
      yield* kit.caughtUp(run)
      const begun = `SnapshotBegin ${tableId(kit.first)}`
      const before = run.kinds.filter((kind) => kind === begun).length
      yield* kit.workload.steps(5)
      yield* resync(tableId(kit.first))
      assert.equal(
        run.kinds.filter((kind) => kind === begun).length,
        before + 1,
        "resync was over before the copy began"
      )
      yield* kit.workload.steps(5)
      yield* kit.caughtUp(run)
      const missing = yield* Effect.flip(resync("kit.there is no such table"))
      assert.equal(missing.reason, "Missing")
      yield* run.stop
      yield* kit.judge
    }), "Resync")
]
