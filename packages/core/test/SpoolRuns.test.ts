import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import { cpSync, mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as MemoryBudget from "../src/MemoryBudget.ts"
import * as Pipeline from "../src/Pipeline.ts"
import * as PipelineControl from "../src/PipelineControl.ts"
import * as Progress from "../src/Progress.ts"
import type * as Spool from "../src/Spool.ts"
import { tableId } from "../src/TableSchema.ts"
import * as Chance from "./doubles/Chance.ts"
import { chunkOf, LogServer, randomLog } from "./doubles/LogServer.ts"
import { MemoryState } from "./doubles/MemoryState.ts"
import { broken, PrefixSink } from "./doubles/PrefixSink.ts"
import { SpoolingLog } from "./doubles/SpoolingLog.ts"
import { plain } from "./doubles/Tables.ts"

const tables = [plain("a"), plain("b"), plain("c")] as const

const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "etl-stream-spool-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
)

/** Copies a folder as it is now. A call under way in another thread may take a file away meanwhile: then it is over, and nothing else can begin. */
const copyNow = (from: string, to: string): void => {
  for (let attempt = 0;; attempt++) {
    rmSync(to, { recursive: true, force: true })
    try {
      return cpSync(from, to, { recursive: true })
    } catch (error) {
      if (attempt > 3) throw error
    }
  }
}

/** Every change is in the copy or among the changes exactly once, in order, at every table. */
const compare = (server: LogServer, sink: PrefixSink, what: string) => {
  for (const table of tables) {
    const held = sink.held(tableId(table.table))
    const { changes, chunks, copied } = held
    if (copied === undefined) return assert.fail(`${what}: ${table.table.name} has no copy`)
    const all = server.log.flatMap(({ changes, commit }) =>
      changes.filter((change) => change.table === table).map((change) => ({ ...change, commit }))
    )
    const streamed = all.filter(({ commit }) => commit >= copied)
    assert.deepStrictEqual(changes.map(([, id]) => id), streamed.map(({ id }) => id), `${what}: ${table.table.name}`)
    for (const [chunk, { ids, position }] of chunks) {
      const expected = all.filter(({ commit, id }) => commit < position && chunkOf(id) === chunk).map(({ id }) => id)
      assert.deepStrictEqual([...ids], expected, `${what}: chunk ${chunk} of ${table.table.name}`)
    }
  }
  assert.deepStrictEqual(sink.breaches, [], what)
}

describe("a pipeline with a spool", () => {
  it.live(
    "loses and doubles nothing, whatever fails, however often it is killed, and wherever the sink is",
    () =>
      Effect.gen(function*() {
        let ahead = 0n
        let replayed = 0
        let reopened = 0
        // Outages are by the clock, so how often it comes to something depends on the machine.
        const hasComeToThat = () => ahead > 100n && replayed > 10 && reopened > 0
        for (let seed = 1; seed <= 20 || (seed <= 200 && !hasComeToThat()); seed++) {
          const directory = yield* folder
          const chance = Chance.make(seed)
          const server = new LogServer(tables, randomLog(chance, tables, 40), chance)
          const log = new SpoolingLog(server)
          const sink = new PrefixSink()
          sink.commits = (n) => chance.below(n + 1)
          sink.reports = () => !chance.oneIn(3)
          const state = new MemoryState()
          let outage = false
          let calm = false
          let runs = 0
          sink.at = (point) =>
            outage && !calm
              ? Effect.fail(broken(point))
              : chance.oneIn(3)
              ? Effect.yieldNow
              : Effect.void
          while (true) {
            runs++
            calm = runs > 25
            log.frozen = false
            outage = false
            const spool: Spool.Settings = {
              directory,
              maxBytes: chance.oneIn(4) ? 1 + chance.below(20_000) : 1 << 24,
              when: chance.oneIn(2) ? "asked" : "stalled",
              after: chance.below(10),
              every: 1
            }
            const control = PipelineControl.make({ pipeline: "shop", spool: true })
            const progress = Progress.make("shop")
            const fiber = yield* Pipeline.run({
              name: "shop",
              source: log.source(),
              sink: sink.sink,
              transforms: [],
              progress,
              state,
              control,
              spool,
              stop: Effect.never,
              drain: "5 seconds",
              batch: { rows: 1 + chance.below(15), bytes: 1 << 16, every: 1 }
            }).pipe(
              Effect.provide([
                MemoryBudget.MemoryBudget.layer(chance.oneIn(2) ? 1 << 28 : 1 + chance.below(30_000)),
                Logger.layer([])
              ]),
              Effect.exit,
              Effect.forkChild
            )
            const weather = yield* Effect.forkChild(Effect.forever(Effect.gen(function*() {
              yield* Effect.sleep(1 + chance.below(4))
              sink.wake()
              if (calm) return
              outage = chance.oneIn(outage ? 3 : 20) ? !outage : outage
              if (chance.oneIn(6)) yield* Effect.ignore(control.spool(chance.oneIn(2)))
            })))
            if (!calm && chance.oneIn(2)) {
              // Killed: what is on the disk, confirmed and durable stays as it is at this moment.
              yield* Effect.timeoutOption(Fiber.await(fiber), chance.below(60))
              const image = join(directory, "..", `image-${process.pid}-${seed}-${runs}`)
              copyNow(directory, image)
              log.frozen = true
              sink.at = () => Effect.never
              sink.commits = () => 0
              yield* Fiber.interrupt(fiber)
              rmSync(directory, { recursive: true, force: true })
              cpSync(image, directory, { recursive: true })
              rmSync(image, { recursive: true, force: true })
              sink.commits = (n) => chance.below(n + 1)
              sink.at = (point) =>
                outage && !calm ? Effect.fail(broken(point)) : chance.oneIn(3) ? Effect.yieldNow : Effect.void
            }
            const outer = yield* Fiber.await(fiber)
            yield* Fiber.interrupt(weather)
            reopened += Math.max(0, progress.deliveries - 1)
            sink.crash()
            /** Undefined when it was killed. */
            const exit = Exit.isSuccess(outer) ? outer.value : undefined
            if (exit !== undefined && Exit.isFailure(exit)) {
              const error = exit.cause.reasons.find(Cause.isFailReason)?.error
              assert.strictEqual(error?.reason, "Unreachable", `seed ${seed}: ${String(exit.cause)}`)
            }
            if (runs > 200) assert.fail(`seed ${seed}: it never comes to an end`)
            if (chance.oneIn(4)) state.entries.clear()
            const complete = tables.every(({ table }) => sink.held(tableId(table)).copied !== undefined)
            if (complete && server.confirmed === server.end && exit !== undefined && Exit.isSuccess(exit)) break
          }
          compare(server, sink, `seed ${seed}, ${runs} runs`)
          assert.strictEqual(server.open, 0)
          if (log.ahead > ahead) ahead = log.ahead
          replayed += log.ahead > 0n ? 1 : 0
        }
        // Positions were confirmed that only a spool stood behind, and sinks were opened again in mid-run.
        assert.isTrue(hasComeToThat(), `${ahead} ahead, ${replayed} replayed, ${reopened} opened again`)
      }).pipe(Effect.scoped, Effect.provide(Logger.layer([]))),
    180_000
  )
})
