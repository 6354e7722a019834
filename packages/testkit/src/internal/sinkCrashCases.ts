/** Cases of crashes: at every element and within every write, what was durable is there and what wasn't comes again, once. */
import { Operation } from "@etl-stream/core/ChangeBatch"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import assert from "node:assert/strict"
import * as BatchOf from "../BatchOf.ts"
import type { Case } from "../Conformance.ts"
import type { Subject } from "../SinkSubject.ts"
import { seeded } from "./random.ts"
import { type Kit, type Play, scenario } from "./sinkKit.ts"
import { giveAll, type SinkRun } from "./sinkRun.ts"
import { within } from "./waiting.ts"

/** How many elements there are of a play when nothing goes wrong. */
const lengthOf = (kit: Kit, play: Play): number =>
  [...kit.items({ ...play, memory: { read: 0, copy: undefined } }, {
    position: { copied: undefined, committed: undefined }
  }, 0)]
    .length

const openAll = (kit: Kit, plays: ReadonlyArray<Play>) =>
  Effect.gen(function*() {
    const run = yield* kit.start(plays.map(kit.shape))
    return { run, tables: yield* Effect.forEach(plays, (play) => run.open(kit.shape(play))) }
  })

/**
 * A table for each element to crash at, all with the same history: the first run gives the first table one element, the second two, and so on, and crashes; so does the
 * second run, from the end; the third completes all.
 */
const crashing = (
  kit: Kit,
  name: string,
  seed: number,
  keyless: boolean,
  crash: (run: SinkRun, inFlight: ReadonlyArray<Effect.Effect<unknown, unknown>>) => Effect.Effect<void>
) =>
  Effect.gen(function*() {
    const length = lengthOf(kit, kit.play(name, seed, { keyless }))
    const stops = Math.min(length, kit.rounds * 5)
    const plays = Array.from({ length: stops }, (_, index) => kit.play(`${name}_${index}`, seed, { keyless }))
    for (const round of [0, 1]) {
      yield* Effect.scoped(Effect.gen(function*() {
        const { run, tables } = yield* openAll(kit, plays)
        const inFlight: Array<Effect.Effect<unknown, unknown>> = []
        yield* Effect.forEach(tables, (table, index) => {
          const play = plays[index]
          if (play === undefined) return Effect.void
          const stop = Math.round((round === 0 ? index + 1 : stops - index) * length / stops)
          const items = kit.items(play, table, round)
          return Effect.map(giveAll(table, items, stop - 1), () => {
            inFlight.push(giveAll(table, items, 1))
          })
        }, { concurrency: 4, discard: true })
        yield* crash(run, inFlight)
      }))
    }
    yield* kit.complete(plays, 3)
    yield* kit.judge(plays)
  })

/** The last element is accepted. */
const between = (run: SinkRun, inFlight: ReadonlyArray<Effect.Effect<unknown, unknown>>): Effect.Effect<void> =>
  Effect.andThen(Effect.orDie(Effect.forEach(inFlight, (write) => write, { discard: true })), run.crash)

/** The last element is being written. */
const amid = (kit: Kit, seed: number) => {
  const random = seeded(seed)
  return (run: SinkRun, inFlight: ReadonlyArray<Effect.Effect<unknown, unknown>>): Effect.Effect<void> =>
    Effect.gen(function*() {
      const fibers = yield* Effect.forEach(inFlight, (write) => Effect.forkDetach(write, { startImmediately: true }))
      yield* Effect.forEach(fibers, (fiber) =>
        Effect.gen(function*() {
          for (let turns = random.below(40); turns > 0; turns--) yield* Effect.yieldNow
          if (random.below(2) === 0) yield* Effect.sleep(random.below(15))
          yield* within("A write that is interrupted", Fiber.interrupt(fiber), kit.patience)
        }), { concurrency: "unbounded", discard: true })
      yield* run.crash
    })
}

export const cases = <A>(subject: Subject<A>): ReadonlyArray<Case> => [
  scenario(
    subject,
    "loses and doubles nothing when it dies after any element",
    (kit) => crashing(kit, "killed", 21, false, between)
  ),

  scenario(
    subject,
    "loses and doubles nothing when it dies while any element is being written",
    (kit) => crashing(kit, "interrupted", 22, false, amid(kit, 1))
  ),

  scenario(
    subject,
    "loses and doubles no row of a table without a key when it dies",
    (kit) => crashing(kit, "keyless", 23, true, amid(kit, 2)),
    "Keyless"
  ),

  scenario(subject, "has a copy when SnapshotEnd returns, whatever happens then", (kit) =>
    Effect.gen(function*() {
      const play = kit.play("copied", 24)
      yield* Effect.scoped(Effect.gen(function*() {
        const { run, tables: [table] } = yield* openAll(kit, [play])
        if (table === undefined) return
        for (const item of kit.items(play, table, 0, 0)) yield* table.give(item)
        yield* run.crash
      }))
      const { run, tables: [table] } = yield* openAll(kit, [play])
      assert.equal(table?.position.copied, play.memory.copy?.base)
      yield* run.crash
      yield* kit.complete([play], 1)
      yield* kit.judge([play])
    })),

  scenario(
    subject,
    "tells after a crash what it reported durable, and no change that it was never given",
    (kit) =>
      Effect.gen(function*() {
        const play = kit.play("reported", 25)
        for (let upTo = 2; upTo <= 14; upTo += 4) {
          yield* Effect.scoped(Effect.gen(function*() {
            const { run, tables: [table] } = yield* openAll(kit, [play])
            if (table === undefined) return
            for (const item of kit.items(play, table, upTo, upTo)) yield* table.give(item)
            yield* table.allDurable
            yield* run.crash
          }))
        }
        yield* kit.complete([play], 1)
        yield* kit.judge([play])
      })
  ),

  scenario(
    subject,
    "goes on with a copy that was cut off: chunks are there wholly or not at all, and none is needed twice",
    (kit) =>
      Effect.gen(function*() {
        const play = kit.play("resumed", 26)
        yield* Effect.scoped(Effect.gen(function*() {
          const { run, tables: [table] } = yield* openAll(kit, [play])
          if (table === undefined) return
          let ended = 0
          for (const item of kit.items(play, table, 0)) {
            yield* table.give(item)
            if (item._tag === "SnapshotChunk") ended++
            // Two chunks have ended, and of the third some rows were given.
            if (ended === 2 && item._tag === "SnapshotRows") break
          }
          yield* run.finish
        }))
        yield* Effect.scoped(Effect.gen(function*() {
          const { run, tables: [table] } = yield* openAll(kit, [play])
          const copying = table?.position.copying
          assert.ok(
            copying !== undefined,
            "The copy can't go on, though two of its chunks had ended and the sink had settled"
          )
          assert.equal(copying.position, play.memory.copy?.base)
          assert.equal(copying.chunks.size, 2)
          const known = [...copying.chunks].map(([chunk]) => play.memory.copy?.chunks.get(chunk)?.length ?? -1)
          assert.equal(copying.rows, known.reduce((sum, rows) => sum + rows, 0))
          yield* run.crash
        }))
        yield* kit.complete([play], 1)
        yield* kit.judge([play])
      }),
    "Resume"
  ),

  scenario(
    subject,
    "makes an older writer fail when a newer one opens the table, and takes nothing from it any more",
    (kit) =>
      Effect.gen(function*() {
        const play = kit.play("shared", 27)
        const { run: older, tables: [first] } = yield* openAll(kit, [play])
        if (first === undefined) return
        for (const item of kit.items(play, first, 0, 6)) yield* first.give(item)
        yield* first.allDurable
        const { run: newer, tables: [second] } = yield* openAll(kit, [play])
        if (second === undefined) return
        const table = kit.shape(play)
        // What the older one gives now must never be at the place.
        const stray = BatchOf.make(table, [{
          operation: Operation.Insert,
          sequence: Sequence.make(999_999n, 1n),
          values: [999_999n, "stray", 1]
        }])
        // What the older one is told isn't a promise of the newer.
        const error = yield* within(
          "A writer that another one has overtaken",
          Effect.flip(Effect.andThen(
            first.write({ _tag: "Rows", batch: stray }),
            Effect.raceFirst(first.allDurable, older.background)
          )),
          kit.patience
        )
        assert.equal(error.reason, "Fenced")
        kit.promised("kit.shared").given = second.position.committed
        yield* older.crash
        // What the older one was about when it was overtaken may have fenced the newer one, too: that passes.
        const gone = yield* Effect.result(giveAll(second, kit.items(play, second, 0)))
        if (gone._tag === "Failure") assert.equal(gone.failure.reason, "Fenced")
        yield* newer.crash
        yield* kit.persist([play], 2)
        yield* kit.judge([play])
      }),
    "Fence"
  ),

  scenario(
    subject,
    "keeps what it held of a table that leaves, and doesn't count it as a copy any more",
    (kit) =>
      Effect.gen(function*() {
        const [left, passed, stays] = ["left", "passed_over", "stays"].map((name, index) =>
          kit.play(name, 30 + index, { transactions: 6 })
        )
        if (left === undefined || passed === undefined || stays === undefined) return
        const plays = [left, passed, stays]
        yield* kit.complete(plays, 0)
        yield* Effect.scoped(Effect.gen(function*() {
          // One leaves in the middle of a run, one isn't among the tables of the run.
          const { run, tables: [table] } = yield* openAll(kit, [left, stays])
          yield* table?.give({ _tag: "TableLeft", table: kit.shape(left) }) ?? Effect.void
          kit.promised("kit.passed_over").copied = undefined
          yield* run.finish
        }))
        yield* kit.judge(plays)
        const { run, tables } = yield* openAll(kit, plays)
        assert.deepEqual(tables.map(({ position }) => position.copied !== undefined), [false, false, true])
        yield* run.crash
        // And they can come back.
        yield* kit.complete(plays, 2)
        yield* kit.judge(plays)
      })
  )
]
