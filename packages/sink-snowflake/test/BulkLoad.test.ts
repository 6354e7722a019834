/**
 * The bulk path: how rows of a copy become files of the stage, and what is checked once they are loaded.
 */
import { assert, describe, it } from "@effect/vitest"
import { Operation } from "@etl-stream/core/ChangeBatch"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import { randomBytes } from "node:crypto"
import { availableParallelism } from "node:os"
import { StagingMemory } from "../src/StagingMemory.ts"
import * as Batches from "./Batches.ts"
import * as Local from "./Local.ts"
import { watching } from "./WatchedWorkers.ts"

const position = 10n
const table = (name: string) =>
  Batches.table(name, { id: { _tag: "Int64" }, note: { _tag: "Text", maxLength: undefined } }, {
    _tag: "Key",
    columns: [0]
  })

/** Rows with notes that hardly compress; every tenth has none. */
const rows = (name: string, from: number, to: number, noteBytes: number) =>
  Batches.batch(
    table(name),
    Array.from({ length: to - from }, (_, index) => ({
      op: Operation.Read,
      sequence: Sequence.make(position, 0n),
      values: [BigInt(from + index), index % 10 === 0 ? null : randomBytes(noteBytes / 2).toString("hex")]
    }))
  )

/** Names of the files that COPY statements listed, in order. */
const copied = (statements: ReadonlyArray<{ readonly sql: string }>) =>
  statements.flatMap(({ sql }) => sql.startsWith("COPY INTO") ? [sql.match(/chunk-\d+-\d+\.parquet/g) ?? []] : [])

describe("BulkLoad", () => {
  it.live("writes files that grow over many batches, uploads each when it is large enough, and leaves nothing at the stage", () =>
    Effect.gen(function*() {
      const local = yield* Local.start()
      const running = yield* Local.run(local, { copy: { fileBytes: "1MB", every: "0 seconds" } })
      const opened = yield* running.open(table("large"))
      yield* Local.begin(opened.writer, table("large"), position, "plan")
      yield* local.clearStatements
      // Random hexadecimal digits take half their size: two files of a megabyte, and what is left.
      const batches = Array.from({ length: 25 }, (_, index) => rows("large", index * 100, index * 100 + 100, 2_000))
      yield* Local.chunk(opened.writer, table("large"), position, 0, batches)
      yield* Local.chunk(opened.writer, table("large"), position, 1, [rows("large", 2500, 2600, 20)])
      yield* Local.chunk(opened.writer, table("large"), position, 2, [])
      const files = copied(yield* local.statements)
      assert.deepStrictEqual(files, [
        ["chunk-0-000000.parquet", "chunk-0-000001.parquet", "chunk-0-000002.parquet"],
        ["chunk-1-000000.parquet"]
      ])
      assert.deepStrictEqual(yield* local.query("LIST @RAW.ETL_STREAM.LOADS"), [], "what is loaded is removed at once")
      yield* opened.writer.write({ _tag: "SnapshotEnd", table: table("large"), position, chunks: 3, settled: position })
      const [counted] = yield* local.query(
        `SELECT COUNT(*) AS "rows", COUNT(DISTINCT "ID") AS "ids", COUNT("NOTE") AS "notes" FROM RAW.SHOP."LARGE"`
      )
      assert.deepStrictEqual(counted, { rows: "2600", ids: "2600", notes: "2340" })
    }))

  it.live("ends files early when those of all tables take the memory that there is for them", () =>
    Effect.gen(function*() {
      const local = yield* Local.start()
      const running = yield* Local.run(local, { copy: { memory: "1MiB", every: "0 seconds" } })
      const names = ["one", "two"]
      yield* Effect.forEach(names, (name) =>
        Effect.gen(function*() {
          const opened = yield* running.open(table(name))
          const batches = Array.from({ length: 20 }, (_, index) => rows(name, index * 100, index * 100 + 100, 2_000))
          yield* Local.copy(opened, table(name), position, batches.slice(0, 1), "plan")
          yield* Local.begin(opened.writer, table(name), position, "again")
          yield* Local.chunk(opened.writer, table(name), position, 0, batches)
          yield* opened.writer.write({
            _tag: "SnapshotEnd",
            table: table(name),
            position,
            chunks: 1,
            settled: position
          })
        }), { concurrency: 2 })
      const most = Math.max(...copied(yield* local.statements).map((files) => files.length))
      assert.isAbove(most, 3)
      for (const name of names) {
        const [counted] = yield* local.query(
          `SELECT COUNT(*) AS "rows", COUNT(DISTINCT "ID") AS "ids" FROM RAW.SHOP.${name}`
        )
        assert.deepStrictEqual(counted, { rows: "2000", ids: "2000" }, name)
      }
    }))

  it.live("doesn't call a copy complete in which a column has fewer values than were written, and names the column", () =>
    Effect.gen(function*() {
      const local = yield* Local.start()
      const running = yield* Local.run(local, { copy: { every: "0 seconds" } })
      const opened = yield* running.open(table("counted"))
      yield* Local.begin(opened.writer, table("counted"), position, "plan")
      yield* Local.chunk(opened.writer, table("counted"), position, 0, [rows("counted", 0, 100, 20)])
      yield* local.query(`UPDATE RAW.SHOP.COUNTED SET "NOTE" = NULL WHERE "ID" = 7`)
      const end = { _tag: "SnapshotEnd", table: table("counted"), position, chunks: 1, settled: position } as const
      const error = yield* Effect.flip(opened.writer.write(end))
      assert.strictEqual(error.reason, "Fenced")
      assert.match(error.message, /column NOTE of the copy of public\.counted has 90 values at the source and 89 in/)
    }))

  it.live("counts columns of chunks that an earlier run has loaded, too", () =>
    Effect.gen(function*() {
      const local = yield* Local.start()
      yield* Effect.scoped(Effect.gen(function*() {
        const running = yield* Local.run(local, { copy: { every: "0 seconds" } })
        const opened = yield* running.open(table("resumed"))
        yield* Local.begin(opened.writer, table("resumed"), position, "plan")
        yield* Local.chunk(opened.writer, table("resumed"), position, 0, [rows("resumed", 0, 100, 20)])
      }))
      const running = yield* Local.run(local)
      const opened = yield* running.open(table("resumed"))
      assert.deepStrictEqual([...opened.writer.position.copying?.chunks.keys() ?? []], [0])
      yield* Local.begin(opened.writer, table("resumed"), position, "plan", true)
      yield* Local.chunk(opened.writer, table("resumed"), position, 1, [rows("resumed", 100, 150, 20)])
      yield* local.query(`UPDATE RAW.SHOP.RESUMED SET "NOTE" = NULL WHERE "ID" = 7`)
      const end = { _tag: "SnapshotEnd", table: table("resumed"), position, chunks: 2, settled: position } as const
      const error = yield* Effect.flip(opened.writer.write(end))
      assert.match(error.message, /column NOTE .* has 135 values at the source and 134 in/)
    }))

  it.live("starts a worker when a copy begins, before it has rows, but none for an empty table", () =>
    watching((started) =>
      Effect.gen(function*() {
        const local = yield* Local.start()
        const running = yield* Local.run(local)
        const begin = {
          _tag: "SnapshotBegin",
          position,
          plan: undefined,
          resumed: false,
          estimatedRows: undefined
        } as const
        const empty = yield* running.open(table("empty"))
        yield* empty.writer.write({ ...begin, table: table("empty"), estimatedBytes: 0 })
        assert.lengthOf(started, 0)
        const full = yield* running.open(table("full"))
        yield* full.writer.write({ ...begin, table: table("full"), estimatedBytes: 8192 })
        // With one processor there are no workers.
        assert.lengthOf(started, availableParallelism() > 1 ? 1 : 0)
      })
    ))
})

describe("StagingMemory", () => {
  it.effect("lets an upload begin when there is room for it, and one that is larger than all room alone", () =>
    Effect.scoped(Effect.gen(function*() {
      const scope = yield* Effect.scope
      const memory = new StagingMemory(200 << 10)
      const gate = Latch.makeUnsafe(false)
      const begun: Array<string> = []
      const upload = (name: string) => Effect.andThen(Effect.sync(() => begun.push(name)), gate.await)
      const first = yield* memory.start(scope, 60 << 10, upload("first"))
      const second = yield* Effect.forkChild(memory.start(scope, 60 << 10, upload("second")), {
        startImmediately: true
      })
      const large = yield* Effect.forkChild(memory.start(scope, 1 << 20, upload("large")), { startImmediately: true })
      yield* Effect.yieldNow
      assert.deepStrictEqual(begun, ["first"])
      yield* gate.open
      yield* Fiber.join(first)
      yield* Fiber.join(yield* Fiber.join(second))
      yield* Fiber.join(yield* Fiber.join(large))
      assert.deepStrictEqual(begun, ["first", "second", "large"])
    })))

  it.effect("gives room back when an upload fails", () =>
    Effect.scoped(Effect.gen(function*() {
      const scope = yield* Effect.scope
      const memory = new StagingMemory(200 << 10)
      const failed = yield* memory.start(scope, 1 << 20, Effect.fail("no"))
      assert.isTrue(Exit.isFailure(yield* Fiber.await(failed)))
      yield* Fiber.join(yield* memory.start(scope, 1 << 20, Effect.void))
    })))
})
