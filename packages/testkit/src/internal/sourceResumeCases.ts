/** Cases of what a source gives after a restart: nothing is lost and nothing is doubled, wherever it was stopped and whatever the sink holds. */
import { tableId } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import type { Case } from "../Conformance.ts"
import type { Subject } from "../SourceSubject.ts"
import { seeded } from "./random.ts"
import { judged, type Kit, prepare, scenario } from "./sourceKit.ts"
import type { RunOptions } from "./sourceRun.ts"

/** A run that is stopped when so many elements have come, or everything has. */
const stopAt = (kit: Kit, stop: number, options: RunOptions = {}) =>
  Effect.gen(function*() {
    let reached = false
    const run = yield* kit.start({
      ...options,
      each: (_element, count) => {
        if (count < stop) return Effect.void
        // The last one is taken; the one after it never is.
        if (count > stop) return Effect.never
        reached = true
        return Effect.void
      }
    })
    const tail = yield* kit.workload.tail(kit.first)
    yield* run.until(`element ${stop}, or the last row`, () => reached || run.at(kit.first, tail) !== undefined)
    return run
  })

/** Restarts at one element after another, with changes while the source runs and while it doesn't. */
const restarts = (kit: Kit, options: (round: number) => RunOptions, beforeStop: (round: number) => void) =>
  Effect.gen(function*() {
    for (const table of kit.world.tables) yield* kit.workload.insert(table, 10)
    const { prompt } = kit.sink
    kit.sink.prompt = true
    yield* kit.catchUp()
    kit.sink.prompt = prompt
    for (let round = 0; round < kit.restarts; round++) {
      yield* kit.workload.steps(2)
      const run = yield* stopAt(kit, 1 + round % 9 + Math.floor(round / 9), options(round))
      yield* kit.beside(1, Effect.andThen(Effect.sync(() => beforeStop(round)), run.stop))
    }
    kit.sink.prompt = true
    yield* kit.catchUp()
    yield* kit.judge
  })

const firstDifference = (expected: ReadonlyArray<string>, actual: ReadonlyArray<string>): string => {
  const at = expected.findIndex((line, index) => line !== actual[index])
  return `${actual[at]?.slice(0, 200)}\ninstead of\n${expected[at]?.slice(0, 200)}`
}

export const cases = <A>(subject: Subject<A>): ReadonlyArray<Case> => [
  scenario(
    subject,
    "gives what wasn't durable again after a restart: the same changes with the same sequences",
    (kit) =>
      Effect.gen(function*() {
        yield* kit.catchUp()
        const first = yield* kit.start()
        yield* kit.caughtUp(first)
        // From here on nothing becomes durable.
        kit.sink.prompt = false
        const known = first.changes.length
        const before = kit.sink.acknowledged
        yield* kit.workload.steps(15)
        yield* kit.caughtUp(first)
        const given = first.changes.slice(known)
        yield* first.stop
        for (let reading = 0; reading < 2; reading++) {
          const run = yield* kit.start({ acknowledged: () => before })
          yield* kit.caughtUp(run)
          for (const table of kit.world.tables) {
            const of = (lines: ReadonlyArray<string>) => lines.filter((line) => line.startsWith(`${tableId(table)} `))
            const expected = of(given)
            // It may begin earlier, with changes that are durable.
            const at = of(run.changes).indexOf(expected[0] ?? "")
            const again = of(run.changes).slice(at, at + expected.length)
            assert.ok(
              JSON.stringify(again) === JSON.stringify(expected),
              `Another reading of ${tableId(table)} gives other changes:\n${firstDifference(expected, again)}`
            )
          }
          yield* run.stop
        }
        kit.sink.prompt = true
        yield* kit.catchUp()
        yield* kit.judge
      })
  ),

  judged(subject, "goes on wherever a copy was cut off", (secrecy) =>
    Effect.gen(function*() {
      // Each stop needs a place where nothing was copied yet.
      for (let stop = 1; stop <= Math.max(4, (subject.restarts ?? 30) / 2); stop++) {
        const copied = yield* Effect.scoped(Effect.gen(function*() {
          const kit = yield* prepare(subject, secrecy.heard, stop)
          for (const table of kit.world.tables) yield* kit.workload.insert(table, 20)
          const run = yield* stopAt(kit, stop)
          const copied = kit.world.tables.every((table) => kit.sink.mirror.isCopied(table)) && run.count() < stop
          yield* kit.beside(4, run.stop)
          yield* kit.workload.steps(4)
          const second = yield* stopAt(kit, stop)
          yield* second.stop
          yield* kit.workload.steps(2)
          yield* kit.catchUp()
          yield* kit.judge
          return copied
        }))
        if (copied) return
      }
    })),

  scenario(
    subject,
    "goes on after a stop at any element, when all of it is durable",
    (kit) => restarts(kit, () => ({}), () => {})
  ),

  scenario(
    subject,
    "goes on after a stop at any element, when only a part of it is durable, of one table more than of another",
    (kit) => {
      const random = seeded(2)
      return Effect.suspend(() => {
        kit.sink.prompt = false
        return restarts(kit, () => ({}), () => kit.sink.commit((_table, pending) => random.below(pending + 1)))
      })
    }
  ),

  scenario(subject, "goes on when more is durable than was ever acknowledged", (kit) => {
    let acknowledged = 0n
    return restarts(
      kit,
      // Now and then the engine gets round to telling.
      (round) => ({ acknowledged: () => round % 5 === 4 ? acknowledged = kit.sink.acknowledged : acknowledged }),
      () => {}
    )
  }),

  scenario(subject, "goes on when nothing is acknowledged for a long time", (kit) =>
    Effect.gen(function*() {
      for (const table of kit.world.tables) yield* kit.workload.insert(table, 5)
      const silent = yield* kit.start({ acknowledged: () => 0n })
      for (let part = 0; part < 4; part++) {
        yield* kit.workload.steps(8)
        yield* kit.caughtUp(silent)
      }
      yield* silent.stop
      yield* kit.workload.steps(4)
      yield* kit.catchUp()
      yield* kit.judge
    })),

  scenario(
    subject,
    "takes a table that was added, and its rows of before",
    (kit) =>
      Effect.gen(function*() {
        yield* kit.workload.insert(kit.first, 3)
        yield* kit.catchUp()
        const { addTable } = kit.world
        assert.ok(addTable !== undefined, "The place has no addTable, and `cannot` doesn't say why")
        const added = yield* addTable("added_later")
        yield* kit.workload.insert(added, 5)
        yield* kit.catchUp()
        const run = yield* kit.start()
        yield* kit.workload.insert(added, 5)
        yield* kit.caughtUp(run)
        yield* run.stop
        assert.equal(kit.sink.mirror.rows(added).length, 10, `rows of ${tableId(added)}`)
        yield* kit.judge
      }),
    "AddTable"
  )
]
