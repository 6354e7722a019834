/**
 * Encoding in workers when something goes wrong: workers that can't be started, that break or answer nonsense, calls that are interrupted, batches that aren't what they
 * say. No call hangs, no memory is used by two, and what isn't in trouble goes on.
 */
import { assert, describe, it } from "@effect/vitest"
import * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import * as LogicalType from "@etl-stream/core/LogicalType"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as fc from "fast-check"
import { pbkdf2 } from "node:crypto"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { availableParallelism, tmpdir } from "node:os"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import { promisify } from "node:util"
import type { Worker } from "node:worker_threads"
import { zstdDecompressSync } from "node:zlib"
import { ChunkFiles, pieces } from "../src/ChunkFiles.ts"
import { CopyProgress } from "../src/CopyProgress.ts"
import { EncodingPool } from "../src/EncodingPool.ts"
import type { Request } from "../src/EncodingProtocol.ts"
import { NdjsonEncoder } from "../src/NdjsonEncoder.ts"
import { NdjsonRows } from "../src/NdjsonRows.ts"
import type { PackedBatch } from "../src/PackedBatch.ts"
import { SharedBuffers } from "../src/SharedBuffers.ts"
import type { Stage } from "../src/Stage.ts"
import { StagingMemory } from "../src/StagingMemory.ts"
import * as Batches from "./Batches.ts"
import { batchOf, chunks, configOf, keyed, large, layoutOf, many, values } from "./EncodedRows.ts"
import { until, watching } from "./WatchedWorkers.ts"

const code = (source: string): URL => new URL(`data:text/javascript,${encodeURIComponent(source)}`)

/** Tells when a worker that is held isn't any more. */
const release = (worker: Worker): { readonly done: () => boolean } => {
  let released = false
  const unref = worker.unref.bind(worker)
  worker.unref = () => {
    released = true
    unref()
  }
  return { done: () => released }
}

const file = (pool: EncodingPool, batch: ChangeBatch.ChangeBatch) =>
  Effect.scoped(Effect.gen(function*() {
    const rows = yield* pool.parquet({
      layout: layoutOf(keyed),
      purpose: "journal",
      outOfRange: "fail",
      noting: false
    })
    yield* rows.append(batch, 1)
    return yield* rows.finish
  }))

describe("EncodingPool", () => {
  for (
    const [why, entry] of [
      ["whose file is missing", new URL("./NoSuchWorker.ts", import.meta.url)],
      ["that fails as it starts", code("throw new Error('no')")],
      ["that the system refuses", new URL("https://example.com/worker.js")]
    ] as const
  ) {
    it.live(`encodes where it is asked to instead of in a worker ${why}, and doesn't try again`, () =>
      watching((started) =>
        Effect.gen(function*() {
          const pool = yield* EncodingPool.make(2, entry)
          yield* pool.prepare
          const batch = large(many(300))
          const expected = yield* chunks(yield* EncodingPool.make(0), { batch, limit: 3000 })
          const found = yield* Effect.forEach([1, 2, 3], () => chunks(pool, { batch, limit: 3000 }), {
            concurrency: "unbounded"
          })
          assert.deepStrictEqual(found, [expected, expected, expected])
          const tried = started.length
          assert.deepStrictEqual(yield* chunks(pool, { batch, limit: 3000 }), expected)
          assert.strictEqual(Buffer.from(yield* file(pool, batch)).subarray(0, 4).toString(), "PAR1")
          assert.lengthOf(started, tried)
        }).pipe(Effect.scoped)
      ))
  }

  it.live("goes on with the workers that there are when another can't be started", () =>
    watching((started) =>
      Effect.gen(function*() {
        const folder = yield* Effect.acquireRelease(
          Effect.promise(() => mkdtemp(join(tmpdir(), "etl-stream-"))),
          (folder) => Effect.promise(() => rm(folder, { recursive: true }))
        )
        const entry = join(folder, "worker.mjs")
        const own = new URL("../src/EncodingWorker.ts", import.meta.url).href
        yield* Effect.promise(() => writeFile(entry, `import ${JSON.stringify(own)}`))
        const pool = yield* EncodingPool.make(2, pathToFileURL(entry))
        const batch = large(many(300))
        const expected = yield* chunks(pool, { batch, limit: 3000 })
        yield* Effect.promise(() => rm(entry))
        for (let round = 0; round < 2; round++) {
          const found = yield* Effect.forEach([1, 2, 3], () => chunks(pool, { batch, limit: 3000 }), {
            concurrency: "unbounded"
          })
          assert.deepStrictEqual(found, [expected, expected, expected])
          assert.lengthOf(started, 2)
        }
      }).pipe(Effect.scoped)
    ))

  it.live("fails a call whose answer can't be read, and starts another worker for the next", () =>
    watching((started) =>
      Effect.gen(function*() {
        const silent = code(`
          import { parentPort } from "node:worker_threads"
          parentPort.on("message", () => {})
          parentPort.postMessage({ _tag: "Ready" })
        `)
        const pool = yield* EncodingPool.make(1, silent)
        const batch = large(many(10))
        const job = yield* Effect.forkChild(chunks(pool, { batch }))
        yield* until(() => started.length === 1)
        const [worker] = started
        yield* Effect.promise(() => new Promise((resolve) => worker?.once("message", resolve)))
        worker?.emit("messageerror", new Error("unreadable"))
        const exit = yield* Fiber.await(job)
        assert.include(String(Exit.isFailure(exit) && Cause.squash(exit.cause)), "A thread that encodes rows has ended")
        const other = yield* Effect.forkChild(chunks(pool, { batch }))
        yield* until(() => started.length === 2)
        yield* Effect.promise(async () => started[1]?.terminate())
        assert.isTrue(Exit.isFailure(yield* Fiber.await(other)))
      }).pipe(Effect.scoped)
    ))

  it.live("lets go of a worker that fails at everything, even at ending a session", () =>
    watching((started) =>
      Effect.gen(function*() {
        const broken = code(`
          import { parentPort } from "node:worker_threads"
          parentPort.on("message", ({ id }) => {
            if (id !== undefined) parentPort.postMessage({ _tag: "Failed", id, cause: new Error("broken") })
          })
          parentPort.postMessage({ _tag: "Ready" })
        `)
        const pool = yield* EncodingPool.make(1, broken)
        let released = { done: () => false }
        // It is held already when it can be seen.
        process.once("worker", (worker) => released = release(worker))
        const exit = yield* Effect.exit(chunks(pool, { batch: large(many(10)) }))
        assert.include(String(Exit.isFailure(exit) && Cause.squash(exit.cause)), "broken")
        assert.lengthOf(started, 1)
        assert.isTrue(released.done())
      }).pipe(Effect.scoped)
    ))

  it.live("lets go of a worker that it can't tell about a batch, and goes on with others", () =>
    Effect.gen(function*() {
      const pool = yield* EncodingPool.make(1)
      let released = { done: () => false }
      process.once("worker", (worker) => released = release(worker))
      const batch = large(many(10))
      // What a source adds to its tables that isn't data.
      const odd = { ...batch, table: { ...batch.table, describe: () => "a table" } }
      const exit = yield* Effect.exit(chunks(pool, { batch: odd }))
      assert.include(String(Exit.isFailure(exit) && Cause.squash(exit.cause)), "could not be cloned")
      assert.isTrue(released.done())
      assert.lengthOf(yield* chunks(pool, { batch }), 1)
    }).pipe(Effect.scoped))

  it.live("answers for a batch whose memory is not what it says, and goes on with others", () =>
    watching((started) =>
      Effect.gen(function*() {
        const pool = yield* EncodingPool.make(1)
        const sound = large(many(50))
        const expected = yield* chunks(pool, { batch: sound })
        const [worker] = started
        if (worker === undefined) return assert.fail("no worker was started")
        const post = worker.postMessage.bind(worker)
        let spoil: ((batch: PackedBatch) => PackedBatch) | undefined
        worker.postMessage = (request: Request, ...more) => {
          const { work } = request._tag === "Open" ? request : {}
          if (request._tag !== "Open" || work?._tag !== "Ndjson" || spoil === undefined) return post(request, ...more)
          post({ ...request, work: { ...work, batch: spoil(work.batch) } }, ...more)
        }
        const spoils = fc.oneof(
          fc.nat(2000).map((bytes) => (batch: PackedBatch): PackedBatch => ({
            ...batch,
            memory: batch.memory.slice(0, Math.min(bytes, batch.memory.byteLength))
          })),
          fc.tuple(fc.nat(17), fc.integer({ min: -64, max: 1 << 21 }), fc.integer({ min: -64, max: 1 << 21 })).map(
            ([place, at, bytes]) => (batch: PackedBatch): PackedBatch => ({
              ...batch,
              columns: batch.columns.map((column, index) =>
                index === place ? { ...column, values: { at, bytes } } : column
              )
            })
          ),
          fc.nat(17).map((columns) => (batch: PackedBatch): PackedBatch => ({
            ...batch,
            columns: batch.columns.slice(0, columns)
          }))
        )
        yield* Effect.promise(() =>
          fc.assert(
            fc.asyncProperty(fc.array(values, { minLength: 1, maxLength: 10 }), spoils, async (rows, how) => {
              spoil = how
              // It may be rows or an error, but something comes.
              await Effect.runPromiseExit(chunks(pool, { batch: large(batchOf(keyed, rows)) }))
              spoil = undefined
              assert.deepStrictEqual(await Effect.runPromise(chunks(pool, { batch: sound })), expected)
            }),
            { numRuns: 60 }
          )
        )
      }).pipe(Effect.scoped)
    ))

  it.live("writes what it should while others are interrupted at any moment, and gives no memory away that is read", () =>
    Effect.gen(function*() {
      const pool = yield* EncodingPool.make(2)
      const batches = [40, 700, 3000, 9000].map((rows) => large(many(rows)))
      const expected = yield* Effect.forEach(batches, (batch) => chunks(pool, { batch, limit: 60_000 }))
      yield* Effect.promise(() =>
        fc.assert(
          fc.asyncProperty(
            fc.array(fc.tuple(fc.nat(3), fc.boolean(), fc.nat(12)), { minLength: 8, maxLength: 16 }),
            (jobs) =>
              Effect.runPromise(Effect.forEach(jobs, ([which, stays, millis]) =>
                Effect.gen(function*() {
                  const batch = batches[which]
                  if (batch === undefined) return
                  const job = chunks(pool, { batch, limit: 60_000 })
                  if (stays) return assert.deepStrictEqual(yield* job, expected[which])
                  const fiber = yield* Effect.forkChild(job)
                  yield* Effect.sleep(millis)
                  yield* Fiber.interrupt(fiber)
                }), { concurrency: "unbounded", discard: true }))
          ),
          { numRuns: 12 }
        )
      )
    }).pipe(Effect.scoped))

  it.live("writes the files that it should while others are given up at any moment", () =>
    Effect.gen(function*() {
      const pool = yield* EncodingPool.make(2)
      const inline = yield* EncodingPool.make(0)
      const batches = [40, 700, 9000].map(many)
      const expected = yield* Effect.forEach(batches, (batch) => file(inline, batch))
      yield* Effect.promise(() =>
        fc.assert(
          fc.asyncProperty(
            fc.array(fc.tuple(fc.nat(2), fc.boolean(), fc.nat(40)), { minLength: 6, maxLength: 12 }),
            (jobs) =>
              Effect.runPromise(Effect.forEach(jobs, ([which, stays, millis]) =>
                Effect.gen(function*() {
                  const batch = batches[which]
                  if (batch === undefined) return
                  if (stays) return assert.deepStrictEqual(yield* file(pool, batch), expected[which])
                  const fiber = yield* Effect.forkChild(file(pool, batch))
                  yield* Effect.sleep(millis)
                  yield* Fiber.interrupt(fiber)
                }), { concurrency: "unbounded", discard: true }))
          ),
          { numRuns: 8 }
        )
      )
    }).pipe(Effect.scoped))

  it.live("goes on for one pipeline while another that shares it is stopped amid its work, and ends with the last", () =>
    watching((started) =>
      Effect.gen(function*() {
        const [stopped, other] = [yield* Scope.make(), yield* Scope.make()]
        const [first, second] = [
          yield* Scope.provide(EncodingPool.shared, stopped),
          yield* Scope.provide(EncodingPool.shared, other)
        ]
        const batch = large(many(20_000))
        const expected = yield* chunks(yield* EncodingPool.make(0), { batch, limit: 400_000 })
        const left = yield* Effect.forkChild(
          Effect.forEach([1, 2, 3, 4], () => chunks(first, { batch, limit: 64 << 20 }), { concurrency: "unbounded" })
        )
        const going = yield* Effect.forkChild(chunks(second, { batch, limit: 400_000 }))
        if (availableParallelism() > 1) yield* until(() => started.length > 0)
        yield* Fiber.interrupt(left)
        yield* Scope.close(stopped, Exit.void)
        assert.deepStrictEqual(yield* Fiber.join(going), expected)
        assert.deepStrictEqual(yield* chunks(second, { batch, limit: 400_000 }), expected)
        assert.isTrue(started.every(({ threadId }) => threadId !== -1))
        yield* Scope.close(other, Exit.void)
        assert.isTrue(started.every(({ threadId }) => threadId === -1))
      }).pipe(Effect.scoped)
    ))

  it.live("packs no more pieces of files than are appended at a time", () =>
    Effect.gen(function*() {
      const pool = yield* EncodingPool.make(1)
      const { give, take } = SharedBuffers.prototype
      let taken = 0
      let most = 0
      SharedBuffers.prototype.take = function(bytes) {
        most = Math.max(most, ++taken)
        return take.call(this, bytes)
      }
      SharedBuffers.prototype.give = function(buffer) {
        taken--
        give.call(this, buffer)
      }
      yield* Effect.addFinalizer(() => Effect.sync(() => Object.assign(SharedBuffers.prototype, { give, take })))
      yield* Effect.forEach(Array.from({ length: 12 }), () => file(pool, many(2000)), { concurrency: "unbounded" })
      assert.strictEqual(taken, 0)
      assert.isAtMost(most, 3)
    }).pipe(Effect.scoped))
})

describe("ChunkFiles", () => {
  it.live("leaves no file behind in a worker when its chunk is given up before the worker is ready", () =>
    watching((started) =>
      Effect.gen(function*() {
        const pool = yield* EncodingPool.make(1, code("setInterval(() => {}, 1000)"))
        const config = configOf()
        const files = new ChunkFiles(
          {} as Stage, // nothing is uploaded
          config,
          new StagingMemory(config.copy.memory),
          yield* Effect.scope,
          undefined,
          pool
        )
        const copy = new CopyProgress({ id: "a", run: "a", folder: "a", position: 1n, plan: undefined }, new Map())
        const chunk = copy.chunk(0, 1n, false)
        if (chunk === undefined) return assert.fail("the copy takes no chunk")
        const job = yield* Effect.forkChild(files.append(layoutOf(keyed), copy, chunk, many(10)))
        yield* until(() => started.length === 1)
        const [worker] = started
        if (worker === undefined) return assert.fail("no worker was started")
        const released = release(worker)
        yield* Fiber.interrupt(job)
        yield* files.abandon(copy)
        assert.isTrue(released.done())
      }).pipe(Effect.scoped)
    ))
})

describe("refused values", () => {
  const columns = 40
  const rows = 20_000
  const table = Batches.table(
    "refused",
    Object.fromEntries([
      ["id", { _tag: "Int64" } as const],
      ...Array.from({ length: columns }, (_, index) => [`day${index}`, { _tag: "Date" } as const] as const)
    ]),
    { _tag: "Key", columns: [0] }
  )
  const values = Array.from({ length: columns }, () => LogicalType.dateInfinity)
  const batch = batchOf(table, Array.from({ length: rows }, (_, id) => [BigInt(id), ...values]))

  it.live("are told of in parts that a thread has memory for, each of them once", () =>
    Effect.gen(function*() {
      const pool = yield* EncodingPool.make(1)
      const seen = new Uint8Array(rows)
      let next = 0
      for (const chunk of yield* chunks(pool, { batch, limit: 1 << 30 })) {
        if (typeof chunk === "string") return assert.fail(chunk)
        assert.strictEqual(chunk.first, next)
        assert.isAtMost(chunk.refused.length, 10_000 + columns)
        for (const { row } of chunk.refused) seen[row] = (seen[row] ?? 0) + 1
        next = chunk.last + 1
      }
      assert.strictEqual(next, rows)
      assert.isTrue(seen.every((times) => times === columns))
    }).pipe(Effect.scoped))

  it("are few enough in a piece of a file, though all of it is refused", () => {
    const cut = pieces(batch)
    let next = 0n
    for (const piece of cut) {
      assert.isAtMost(piece.rows * columns, 500_000)
      assert.strictEqual(piece.rows, piece.records.numRows)
      assert.strictEqual(ChangeBatch.sequenceAt(piece.records, 0).ordinal, next)
      next += BigInt(piece.rows)
    }
    assert.strictEqual(next, BigInt(rows))
    assert.lengthOf(pieces({ ...batch, records: batch.records.slice(0, 0), rows: 0 }), 0)
  })
})

describe("NdjsonRows", () => {
  it("keeps rows as they are until they are compressed, though nobody waits for them any more", async () => {
    const layout = layoutOf(keyed)
    const encoder = new NdjsonEncoder(layout, "fail")
    const rows = new NdjsonRows(encoder, many(200), true, undefined)
    // Compression has to wait for a thread.
    const busy = Array.from({ length: 8 }, () => promisify(pbkdf2)("", "", 50_000, 64, "sha512"))
    const left = rows.next(0, 1 << 20, "zstd")
    await rows.release()
    const other = new NdjsonRows(encoder, batchOf(keyed, [[7n]]), true, undefined)
    await other.next(0, 1 << 20, "zstd")
    await Promise.all(busy)
    const text = zstdDecompressSync((await left)?.body ?? new Uint8Array()).toString()
    assert.deepStrictEqual(
      text.trimEnd().split("\n").map((line) => JSON.parse(line).ID),
      Array.from({ length: 200 }, (_, id) => id)
    )
  })
})
