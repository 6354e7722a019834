/** Cases of what a sink does when something is wrong: options, connections, tables that can't go on; and what it does to its process. */
import { Operation } from "@etl-stream/core/ChangeBatch"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Quarantine from "@etl-stream/core/Quarantine"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Effect from "effect/Effect"
import assert from "node:assert/strict"
import * as BatchOf from "../BatchOf.ts"
import type { Case } from "../Conformance.ts"
import * as ResourceCensus from "../ResourceCensus.ts"
import type { Subject } from "../SinkSubject.ts"
import * as Histories from "./history.ts"
import * as Opening from "./opening.ts"
import * as Refusals from "./refusals.ts"
import { type Kit, scenario } from "./sinkKit.ts"
import { giveAll, type OpenTable } from "./sinkRun.ts"
import { interrupted, within } from "./waiting.ts"
import { mark } from "./workload.ts"

/** What the process has open when the sink isn't, once whatever it makes for good is there. */
const closed = (kit: Kit, name: string) =>
  Effect.gen(function*() {
    const play = kit.play(name, 41, { transactions: 6 })
    yield* kit.complete([play], 0)
    yield* kit.complete([play], 0)
    // What is being closed is gone soon; what is made for good stays.
    yield* Effect.sleep(100)
    const before = yield* ResourceCensus.take
    return { play, before }
  })

const nothingLeft = (kit: Kit, before: ResourceCensus.Census, when: string) =>
  Effect.map(
    ResourceCensus.released(before, kit.patience),
    (left) => assert.deepEqual(left, [], `Left open after ${when}`)
  )

/** A batch of changes of about so many bytes. */
const bulk = (table: Histories.History["table"], commit: bigint, bytes: number) => {
  const note = `${mark} ${"0123456789abcdef".repeat(512)}`
  return BatchOf.make(
    table,
    Array.from({ length: Math.ceil(bytes / note.length) }, (_, index) => ({
      operation: Operation.Insert,
      sequence: Sequence.make(commit, BigInt(index + 1)),
      values: [commit * 10_000n + BigInt(index), note, 1]
    }))
  )
}

const emptyCopy = (table: OpenTable) =>
  Effect.gen(function*() {
    const { schema } = table
    const position = 100n
    const nothing = { plan: undefined, resumed: false, estimatedRows: undefined, estimatedBytes: undefined }
    yield* table.give({ _tag: "SnapshotBegin", table: schema, position, ...nothing })
    yield* table.give({ _tag: "SnapshotEnd", table: schema, position, chunks: 0, settled: position })
  })

export const cases = <A>(subject: Subject<A>): ReadonlyArray<Case> => [
  ...Refusals.cases(subject.plugin, subject.refused, subject.secrets ?? []),

  ...subject.useless.map(({ options, reason, what }) =>
    scenario(subject, `fails with ${reason} and a hint when ${what}`, (kit) =>
      Effect.gen(function*() {
        const table = Histories.keyedTable("useless")
        const open = Effect.gen(function*() {
          const sink = yield* Opening.open(subject.plugin, { ...kit.place, options: options(kit.place) })
          yield* sink.begin([table], { raise: () => Effect.void, clear: () => Effect.void })
          yield* sink.open(table, () => Effect.void, () => Effect.void, () => undefined)
        })
        const error = yield* within("Refusing the options", Effect.flip(Effect.scoped(open)), kit.patience)
        Refusals.judge(subject.plugin.name, error, reason)
        kit.heard(error)
      }))
  ),

  scenario(
    subject,
    "is over soon when it is interrupted at any point, and leaves nothing open",
    (kit) =>
      Effect.gen(function*() {
        const { before, play } = yield* closed(kit, "interrupted_anywhere")
        const table = kit.shape(play)
        for (const turns of [0, 1, 3, 10, 30, 100, 300]) {
          const fiber = yield* Effect.forkDetach(
            Effect.scoped(Effect.gen(function*() {
              const run = yield* kit.start([table])
              const opened = yield* run.open(table)
              yield* opened.give({ _tag: "Rows", batch: bulk(table, 2000n + BigInt(turns), 200_000) })
              return yield* Effect.never
            })),
            { startImmediately: true }
          )
          for (let turn = 0; turn < turns; turn++) yield* Effect.yieldNow
          yield* interrupted(`The sink, interrupted after ${turns} turns,`, fiber, kit.patience)
          yield* nothingLeft(kit, before, `an interruption after ${turns} turns`)
        }
        // The place can be opened again.
        const other = kit.play("opened_again", 42)
        yield* kit.complete([other], 0)
        yield* kit.judge([other])
      })
  ),

  scenario(subject, "holds no more after many openings than after one", (kit) =>
    Effect.gen(function*() {
      const { before, play } = yield* closed(kit, "opened_often")
      const held = ResourceCensus.memory()
      const openings = 10
      for (let opening = 0; opening < openings; opening++) {
        yield* Effect.scoped(kit.complete([play], 0))
        yield* nothingLeft(kit, before, "an opening")
      }
      const allowed = openings << 20
      const grown = (yield* ResourceCensus.memoryBelow(held + allowed, kit.patience)) - held
      assert.ok(grown <= allowed, `${grown} bytes more are held after ${openings} openings`)
    })),

  scenario(
    subject,
    "takes much more than it may hold",
    (kit) =>
      Effect.gen(function*() {
        const volume = subject.volume ?? 64 << 20
        const piece = 1 << 20
        const table = Histories.keyedTable("bulk")
        const run = yield* kit.start([table])
        const opened = yield* run.open(table)
        yield* emptyCopy(opened)
        const before = ResourceCensus.memory()
        let most = 0
        for (let written = 0; written < volume; written += piece) {
          yield* opened.give({ _tag: "Rows", batch: bulk(table, 1000n + BigInt(written / piece), piece) })
          if ((written / piece) % 4 === 0) most = Math.max(most, ResourceCensus.memory() - before)
        }
        assert.ok(most <= volume / 2, `${most} bytes are held of ${volume} that were written`)
        yield* opened.allDurable
        yield* run.finish
        const rows = yield* kit.place.rows(table)
        assert.equal(rows.length, Math.ceil(piece / 8_206) * (volume / piece))
      }),
    "Bounded"
  ),

  scenario(
    subject,
    "goes on with all other tables when the place refuses one, and names that one in its error",
    (kit) =>
      Effect.gen(function*() {
        const { spoil } = kit.place
        assert.ok(spoil !== undefined, "The place has no spoil, and `cannot` doesn't say why")
        const [bad, good] = [kit.play("spoilt", 43), kit.play("sound", 44)]
        const run = yield* kit.start([bad.history.table, good.history.table])
        const [broken, sound] = [yield* run.open(bad.history.table), yield* run.open(good.history.table)]
        for (const item of kit.items(bad, broken, 0, 4)) yield* broken.give(item)
        for (const item of kit.items(good, sound, 0, 4)) yield* sound.give(item)
        yield* broken.allDurable
        yield* spoil(bad.history.table)
        const error = yield* within(
          "A table that the place refuses",
          Effect.flip(
            Effect.gen(function*() {
              yield* giveAll(broken, kit.items(bad, broken, 0))
              yield* broken.allDurable
              // What is durable may have to get to its place yet.
              yield* run.sink.settle
              yield* Effect.raceFirst(Effect.sleep(kit.patience), run.background)
            }).pipe(Effect.raceFirst(failing(broken)))
          ),
          kit.patience * 2
        )
        assert.ok(
          Quarantine.concernsTable(error),
          `${error.reason} of ${error.table} ends the whole run: ${error.message}`
        )
        assert.equal(error.table, "kit.spoilt")
        yield* broken.close
        if (run.sink.quarantine !== undefined) yield* run.sink.quarantine(bad.history.table, Quarantine.of(error, 1))
        assert.equal(run.failure(), undefined)
        for (const item of kit.items(good, sound, 0)) yield* sound.give(item)
        yield* sound.allDurable
        yield* run.finish
        yield* kit.judge([good])
      }),
    "Spoil"
  ),

  scenario(
    subject,
    "remembers a quarantine until a new copy begins, and leaves other tables alone",
    (kit) =>
      Effect.gen(function*() {
        const [bad, good] = [kit.play("set_aside", 45), kit.play("beside", 46)]
        yield* kit.complete([bad, good], 0)
        const why = {
          reason: "Rejected",
          message: "It is a test",
          hint: "Nothing is to be done",
          since: 1_767_323_045_678
        } as const
        const shapes = () => [kit.shape(bad), kit.shape(good)]
        yield* Effect.scoped(Effect.gen(function*() {
          const run = yield* kit.start(shapes())
          const table = yield* run.open(kit.shape(bad))
          yield* run.open(kit.shape(good))
          yield* table.close
          assert.ok(run.sink.quarantine !== undefined, "The sink has no quarantine, and `cannot` doesn't say why")
          yield* run.sink.quarantine(kit.shape(bad), why)
          yield* run.crash
        }))
        kit.promised("kit.set_aside").copied = undefined
        for (let look = 0; look < 2; look++) {
          yield* Effect.scoped(Effect.gen(function*() {
            const run = yield* kit.start(shapes())
            const { position } = yield* run.open(kit.shape(bad))
            assert.deepEqual(position.quarantined, why)
            assert.equal(position.copied, undefined)
            assert.notEqual((yield* run.open(kit.shape(good))).position.copied, undefined)
            yield* run.crash
          }))
        }
        // A new copy ends it.
        yield* kit.complete([bad, good], 2)
        yield* kit.judge([bad, good])
        const run = yield* kit.start(shapes())
        const { position } = yield* run.open(kit.shape(bad))
        assert.equal(position.quarantined, undefined)
        assert.notEqual(position.copied, undefined)
        yield* run.crash
      }),
    "Quarantine"
  ),

  scenario(
    subject,
    "loses and doubles nothing when its connections are cut at any point",
    (kit) =>
      Effect.gen(function*() {
        const { cut } = kit.place
        assert.ok(cut !== undefined, "The place has no cut, and `cannot` doesn't say why")
        for (const pieces of [1, 3, 6, 10, 15, 22, 30, 45].slice(0, kit.rounds)) {
          const play = kit.play(`cut_${pieces}`, 50 + pieces)
          yield* cut(pieces)
          yield* kit.persist([play], pieces)
          yield* cut(0)
          yield* kit.persist([play], pieces + 100)
          yield* kit.judge([play])
        }
      }),
    "Cut"
  )
]

/** Fails with what goes wrong with the table in the background. */
const failing = (table: OpenTable): Effect.Effect<never, ConnectorError> =>
  Effect.gen(function*() {
    for (;;) {
      const error = table.failure()
      if (error !== undefined) return yield* error
      yield* Effect.sleep(5)
    }
  })
