/** Cases of what a source does to its process: interruption, leaks, memory. */
import * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Stream from "effect/Stream"
import assert from "node:assert/strict"
import * as CanonicalCell from "../CanonicalCell.ts"
import type { Case } from "../Conformance.ts"
import * as ResourceCensus from "../ResourceCensus.ts"
import type { Subject } from "../SourceSubject.ts"
import { type Kit, scenario } from "./sourceKit.ts"
import { eventually, interrupted } from "./waiting.ts"
import { mark } from "./workload.ts"

/** What the source has open when it is closed, once whatever it makes for good is there. */
const closed = (kit: Kit) =>
  Effect.gen(function*() {
    yield* kit.catchUp()
    yield* kit.catchUp()
    // What is being closed is gone soon; what is made for good stays.
    yield* Effect.sleep(100)
    return yield* ResourceCensus.take
  })

const nothingLeft = (kit: Kit, before: ResourceCensus.Census, when: string) =>
  Effect.map(
    ResourceCensus.released(before, kit.patience),
    (left) => assert.deepEqual(left, [], `Left open after ${when}`)
  )

/** Size of the notes of the backlog. */
const noteBytes = 16_384

export const cases = <A>(subject: Subject<A>): ReadonlyArray<Case> => [
  scenario(
    subject,
    "is over soon when it is interrupted at any point, and leaves nothing open",
    (kit) =>
      Effect.gen(function*() {
        for (const table of kit.world.tables) yield* kit.workload.insert(table, 10)
        const before = yield* closed(kit)
        // While it is opened: after so many turns of everything that is under way.
        for (const turns of [0, 1, 3, 10, 30, 100, 300]) {
          const fiber = yield* Effect.forkDetach(
            Effect.scoped(Effect.andThen(kit.start(), Effect.never)),
            { startImmediately: true }
          )
          for (let turn = 0; turn < turns; turn++) yield* Effect.yieldNow
          yield* interrupted(`Opening, interrupted after ${turns} turns,`, fiber, kit.patience)
          yield* nothingLeft(kit, before, `opening was interrupted after ${turns} turns`)
        }
        // While it reads, and while nobody pulls.
        for (const stop of [1, 2, 3, 5, 8]) {
          yield* kit.workload.step()
          let reached = false
          const run = yield* kit.start({
            each: (_element, count) => {
              reached = count >= stop
              return reached ? Effect.never : Effect.void
            }
          })
          yield* kit.workload.tail(kit.first)
          yield* Effect.raceFirst(eventually(() => `element ${stop}`, () => reached, kit.patience), Effect.sleep(200))
          yield* run.stop
          yield* nothingLeft(kit, before, `element ${stop}`)
        }
        yield* kit.catchUp()
        yield* kit.judge
      })
  ),

  scenario(subject, "holds no more after many openings than after one", (kit) =>
    Effect.gen(function*() {
      yield* kit.workload.insert(kit.first, 10)
      const before = yield* closed(kit)
      const held = ResourceCensus.memory()
      const openings = 10
      for (let opening = 0; opening < openings; opening++) yield* kit.catchUp()
      yield* nothingLeft(kit, before, `${openings} openings`)
      const allowed = openings << 20
      const grown = (yield* ResourceCensus.memoryBelow(held + allowed, kit.patience)) - held
      assert.ok(grown <= allowed, `${grown} bytes more are held after ${openings} openings`)
    })),

  scenario(
    subject,
    "doesn't read on while nobody pulls, and holds a bounded part of a long backlog",
    (kit) =>
      Effect.gen(function*() {
        yield* kit.catchUp()
        const backlog = subject.backlog ?? 64 << 20
        const rows = Math.ceil(backlog / noteBytes)
        const note = `${mark} ${"0123456789abcdef".repeat(noteBytes / 16)}`
        for (let written = 0; written < rows; written += 100) {
          const fresh = kit.workload.fresh(Math.min(100, rows - written), () => note)
          yield* kit.workload.change(kit.first, [{ _tag: "Insert", rows: fresh }])
        }
        const tail = yield* kit.workload.tail(kit.first)
        const before = ResourceCensus.memory()
        let most = 0
        const measure = (): void => {
          most = Math.max(most, ResourceCensus.memory() - before)
        }
        let seen = 0
        let unmeasured = 0
        let ended = false
        let goes = false
        let holding = false
        const leave = Latch.makeUnsafe(false)
        // The sink takes the rows and keeps none of them.
        const source = yield* kit.open
        yield* source.tables
        const reading = yield* source.stream({
          positions: kit.sink.mirror.positions,
          unwanted: new Set(),
          quarantined: () => undefined,
          acknowledged: () => 0n,
          conditions: { raise: () => Effect.void, clear: () => Effect.void }
        }).pipe(
          Stream.runForEach((element) =>
            Effect.suspend(() => {
              if (element._tag !== "Rows") return Effect.void
              const { batch } = element
              const index = batch.table.columns.findIndex(({ name }) => name.toLowerCase() === "id")
              const type = batch.table.columns[index]?.type ?? { _tag: "Int64" }
              const data = ChangeBatch.child(batch.records, ChangeBatch.metadataColumns + index)
              for (let row = 0; row < batch.rows; row++) {
                if (Number(CanonicalCell.ofColumn(type, data, row)) === tail) ended = true
              }
              seen += batch.rows
              unmeasured += batch.bytes
              if (unmeasured > backlog / 20) {
                unmeasured = 0
                measure()
              }
              if (goes) return Effect.void
              holding = true
              return leave.await
            })
          ),
          Effect.scoped,
          Effect.tapError((error) => Effect.sync(() => kit.heard(error))),
          Effect.forkScoped({ startImmediately: true })
        )
        yield* eventually(() => "a batch of the backlog", () => holding, kit.patience)
        // It has had time to read more than it may when this has gone on for a while.
        for (let look = 0; look < 20; look++) {
          yield* Effect.sleep(25)
          measure()
        }
        const bound = backlog / 4
        assert.ok(most <= bound, `${most} bytes are held while nobody pulls, of a backlog of ${backlog}`)
        goes = true
        yield* leave.open
        yield* eventually(() => "the end of the backlog", () => ended, kit.patience * 5)
        measure()
        assert.ok(most <= bound, `${most} bytes are held while a backlog of ${backlog} is read`)
        assert.ok(seen > rows, `${seen} of ${rows + 1} rows came`)
        yield* interrupted("Reading", reading, kit.patience)
      })
  )
]
