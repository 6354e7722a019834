/**
 * Encoding in workers: the same bytes as without, in order, bounded, and nothing hangs or is left over when a worker or a scope ends.
 */
import { assert, describe, it } from "@effect/vitest"
import * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import * as ConnectorError from "@etl-stream/core/ConnectorError"
import * as Arrow from "apache-arrow"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as fc from "fast-check"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { EncodingPool } from "../src/EncodingPool.ts"
import type { Answer, Request } from "../src/EncodingProtocol.ts"
import { NdjsonEncoder } from "../src/NdjsonEncoder.ts"
import * as PackedBatch from "../src/PackedBatch.ts"
import type { Options } from "../src/ParquetRows.ts"
import type { Refusal } from "../src/ValueWriter.ts"
import { Unwritable } from "../src/ValueWriter.ts"
import { batchOf, chunks, keyed, keyless, large, layoutOf, many, values } from "./EncodedRows.ts"
import { silence, until, watching } from "./WatchedWorkers.ts"

/** A batch as it is written without a worker. */
const written = (batch: ChangeBatch.ChangeBatch) => {
  const refused: Array<Refusal> = []
  const { bytes } = new NdjsonEncoder(layoutOf(keyed), "null").encode(batch, 0, 1 << 20, refused)
  return { text: Buffer.from(bytes).toString(), refused: refused.map(({ row, why }) => ({ row, why })) }
}

/** A file of pieces with what was said of them, or the value that can't be written. */
const file = (pool: EncodingPool, options: Options, pieces: ReadonlyArray<ChangeBatch.ChangeBatch>) =>
  Effect.gen(function*() {
    const rows = yield* pool.parquet(options)
    const said = []
    let copies = 1
    for (const piece of pieces) {
      const { filled, refused } = yield* rows.append(piece, copies)
      said.push({ filled, refused })
      copies += piece.rows
    }
    return { said, content: Array.from(yield* rows.finish) }
  }).pipe(
    Effect.scoped,
    Effect.catch((error) =>
      error instanceof Unwritable
        ? Effect.succeed({ said: [error.column, error.message], content: [] })
        : Effect.die(error)
    )
  )

describe("PackedBatch", () => {
  it("holds every value of a batch and of any slice of it", () => {
    fc.assert(
      fc.property(fc.array(values, { minLength: 1, maxLength: 40 }), fc.nat(39), fc.nat(39), (rows, a, b) => {
        const batch = batchOf(keyed, rows)
        const from = Math.min(a, rows.length - 1)
        const to = Math.min(rows.length, from + 1 + b)
        const slice = ChangeBatch.make(keyed, batch.records.slice(from, to))
        const packed = PackedBatch.pack(slice, (bytes) => new SharedArrayBuffer(bytes + 1000))
        assert.deepStrictEqual(written(PackedBatch.unpack(structuredClone(packed))), written(slice))
      }),
      { numRuns: 100 }
    )
  })
})

describe("EncodingPool", () => {
  it.live("writes the same chunks in a worker as without, refusals and selections among them", () =>
    Effect.gen(function*() {
      const workers = yield* EncodingPool.make(2)
      const inline = yield* EncodingPool.make(0)
      yield* Effect.promise(() =>
        fc.assert(
          fc.asyncProperty(
            fc.constantFrom(keyed, keyless),
            fc.array(values, { minLength: 1, maxLength: 30 }),
            fc.constantFrom("mirror", "changelog"),
            fc.constantFrom("fail" as const, "null" as const, "clamp" as const),
            fc.boolean(),
            fc.constantFrom(1, 500, 2000, 1 << 20),
            fc.option(fc.nat(2), { nil: undefined }),
            async (table, rows, mode, outOfRange, noting, limit, channel) => {
              const batch = large(batchOf(table, rows))
              const selection = channel === undefined
                ? undefined
                : { channel, routes: Uint8Array.from(rows, (_, row) => (row * 7) % 3) }
              const job = { batch, mode, outOfRange, noting, limit, selection }
              assert.deepStrictEqual(
                await Effect.runPromise(chunks(workers, job)),
                await Effect.runPromise(chunks(inline, job))
              )
            }
          ),
          { numRuns: 200 }
        )
      )
    }).pipe(Effect.scoped))

  it.live("keeps every batch's rows in order while many are encoded at a time", () =>
    Effect.gen(function*() {
      const pool = yield* EncodingPool.make(2)
      const batches = Array.from({ length: 12 }, (_, index) => large(many(500 + index)))
      const found = yield* Effect.forEach(batches, (batch) => chunks(pool, { batch, limit: 3000 }), {
        concurrency: "unbounded"
      })
      for (const [index, of] of found.entries()) {
        const ids = of.flatMap((chunk) =>
          typeof chunk === "string" ? [] : chunk.text.trimEnd().split("\n").map((line) => JSON.parse(line).ID)
        )
        assert.deepStrictEqual(ids, Array.from({ length: 500 + index }, (_, id) => id))
      }
    }).pipe(Effect.scoped))

  it.live("starts no worker for small batches, on one processor, and before there is work", () =>
    watching((started) =>
      Effect.gen(function*() {
        const pool = yield* EncodingPool.make(2)
        const none = yield* EncodingPool.make(0)
        const small = many(100)
        const [expected] = yield* chunks(pool, { batch: small })
        assert.deepStrictEqual(yield* chunks(none, { batch: large(small) }), [expected])
        yield* Effect.sleep("1 millis")
        assert.lengthOf(started, 0)
        assert.deepStrictEqual(yield* chunks(pool, { batch: large(small) }), [expected])
        assert.lengthOf(started, 1)
      }).pipe(Effect.scoped)
    ))

  it.live("has one worker ready for all copies that are announced, which their files find, and none on one processor", () =>
    watching((started) =>
      Effect.gen(function*() {
        const pool = yield* EncodingPool.make(2)
        const none = yield* EncodingPool.make(0)
        yield* none.prepare
        yield* pool.prepare
        yield* pool.prepare
        yield* until(() => started.length > 0)
        const options: Options = {
          layout: layoutOf(keyed),
          purpose: "target",
          outOfRange: "null",
          noting: false
        }
        const pieces = [many(100)]
        assert.deepStrictEqual(yield* file(pool, options, pieces), yield* file(none, options, pieces))
        assert.lengthOf(started, 1)
      }).pipe(Effect.scoped)
    ))

  it.live("has no more workers and calls under way than it may, however many ask", () =>
    watching((started) =>
      Effect.gen(function*() {
        const pool = yield* EncodingPool.make(1)
        // The worker is there, so that all that follows is seen.
        yield* chunks(pool, { batch: large(many(10)) })
        const [worker] = started
        if (worker === undefined) return assert.fail("no worker was started")
        const post = worker.postMessage.bind(worker)
        const underWay = new Set<number>()
        let most = 0
        worker.postMessage = (request: Request, ...more) => {
          if (request._tag === "Call" && request.call._tag !== "Close") underWay.add(request.id)
          most = Math.max(most, underWay.size)
          post(request, ...more)
        }
        worker.on("message", (answer: Answer) => answer._tag !== "Ready" && underWay.delete(answer.id))
        const batch = large(many(2000))
        yield* Effect.forEach(Array.from({ length: 16 }), () => chunks(pool, { batch, limit: 20_000 }), {
          concurrency: "unbounded"
        })
        assert.strictEqual(most, 3)
        assert.lengthOf(started, 1)
      }).pipe(Effect.scoped)
    ))

  it.live("fails what a worker that dies was to do, as a trouble that passes, and starts another for the next", () =>
    watching((started) =>
      Effect.gen(function*() {
        const pool = yield* EncodingPool.make(1)
        const batch = large(many(60_000))
        const job = yield* Effect.forkChild(chunks(pool, { batch, limit: 64 << 20 }))
        yield* until(() => started.length === 1)
        const held = silence(started[0])
        yield* until(() => held() > 0)
        yield* Effect.promise(async () => started[0]?.terminate())
        const exit = yield* Fiber.await(job)
        assert.isTrue(Exit.isFailure(exit))
        assert.include(String(Exit.isFailure(exit) && Cause.squash(exit.cause)), "A thread that encodes rows has ended")
        assert.lengthOf(yield* chunks(pool, { batch, limit: 64 << 20 }), 1)
        assert.lengthOf(started, 2)
      }).pipe(Effect.scoped)
    ))

  it.live("ends calls that are under way when its scope closes, and goes on after one that was interrupted", () =>
    watching((started) =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        const pool = yield* Scope.provide(EncodingPool.make(1), scope)
        const batch = large(many(30_000))
        const left = yield* Effect.forkChild(chunks(pool, { batch, limit: 64 << 20 }))
        yield* Effect.sleep("5 millis")
        yield* Fiber.interrupt(left)
        assert.lengthOf(yield* chunks(pool, { batch, limit: 64 << 20 }), 1)
        const held = silence(started[0])
        const job = yield* Effect.forkChild(chunks(pool, { batch, limit: 64 << 20 }))
        yield* until(() => held() > 0)
        yield* Scope.close(scope, Exit.void)
        assert.isTrue(Exit.isFailure(yield* Fiber.await(job)))
      })
    ))

  it.live("writes the same files in a worker as without, of slices and refused values, too", () =>
    Effect.gen(function*() {
      const workers = yield* EncodingPool.make(2)
      const inline = yield* EncodingPool.make(0)
      yield* Effect.promise(() =>
        fc.assert(
          fc.asyncProperty(
            fc.constantFrom(keyed, keyless),
            fc.array(values, { minLength: 1, maxLength: 30 }),
            fc.constantFrom("target" as const, "journal" as const),
            fc.constantFrom("fail" as const, "null" as const, "clamp" as const),
            fc.boolean(),
            fc.nat(30),
            async (table, rows, purpose, outOfRange, noting, cut) => {
              const batch = batchOf(table, rows)
              const parts = [[0, Math.min(cut, rows.length)], [Math.min(cut, rows.length), rows.length]] as const
              const pieces = parts.flatMap(([from, to]) =>
                from === to ? [] : [ChangeBatch.make(table, batch.records.slice(from, to))]
              )
              const layout = layoutOf(table)
              const options = { layout, purpose, outOfRange, noting }
              assert.deepStrictEqual(
                await Effect.runPromise(file(workers, options, pieces)),
                await Effect.runPromise(file(inline, options, pieces))
              )
            }
          ),
          { numRuns: 60 }
        )
      )
    }).pipe(Effect.scoped))

  it.live("puts all rows of a file's pieces into it, in their order", () =>
    Effect.gen(function*() {
      const pool = yield* EncodingPool.make(1)
      const batch = many(5000)
      const pieces = [0, 7, 1000, 1003, 4999].map((from, index, cuts) =>
        ChangeBatch.make(keyed, batch.records.slice(from, cuts[index + 1] ?? 5000))
      )
      const layout = layoutOf(keyed)
      const options = { layout, purpose: "target", outOfRange: "fail", noting: false } as const
      const { content } = yield* file(pool, options, pieces)
      const parquet = yield* Effect.promise(() => import("parquet-wasm"))
      const table = Arrow.tableFromIPC(parquet.readParquet(new Uint8Array(content)).intoIPCStream())
      const name = layout.columns.findIndex(({ source }) => source === "name")
      assert.deepStrictEqual(
        Array.from(table.getChild(`c${name}`) ?? []),
        Array.from({ length: 5000 }, (_, row) => `row ${row}`)
      )
    }).pipe(Effect.scoped))

  it.live("gives up a file that is left, and its worker goes on with others", () =>
    watching((started) =>
      Effect.gen(function*() {
        const pool = yield* EncodingPool.make(1)
        const options = { layout: layoutOf(keyed), purpose: "journal", outOfRange: "fail", noting: false } as const
        const batch = many(1000)
        const left = yield* Scope.make()
        const leaving = yield* Scope.provide(pool.parquet(options), left)
        yield* leaving.append(batch, 0)
        const pieces = [batch, batch]
        const alone = yield* file(yield* EncodingPool.make(0), options, pieces)
        assert.deepStrictEqual(yield* file(pool, options, pieces), alone)
        yield* Scope.close(left, Exit.void)
        assert.isTrue(Exit.isFailure(yield* Effect.exit(leaving.append(batch, 0))))
        assert.deepStrictEqual(yield* file(pool, options, pieces), alone)
        assert.lengthOf(started, 1)
      }).pipe(Effect.scoped)
    ))

  it.live("fails the next piece of a file when its worker has died", () =>
    watching((started) =>
      Effect.gen(function*() {
        const pool = yield* EncodingPool.make(1)
        const batch = many(1000)
        const file = yield* pool.parquet({
          layout: layoutOf(keyed),
          purpose: "journal",
          outOfRange: "fail",
          noting: false
        })
        yield* file.append(batch, 0)
        yield* Effect.promise(async () => started[0]?.terminate())
        const error = yield* Effect.flip(file.append(batch, 0))
        assert.strictEqual(error instanceof ConnectorError.ConnectorError && error.reason, "Unreachable")
        assert.strictEqual((yield* Effect.flip(file.finish)).reason, "Unreachable")
      }).pipe(Effect.scoped)
    ))

  it.live("is one for all sinks of a process", () =>
    Effect.gen(function*() {
      const both = Effect.scoped(Effect.all([EncodingPool.shared, EncodingPool.shared]))
      const [first, second] = yield* both
      assert.strictEqual(first, second)
      const [later] = yield* both
      assert.notStrictEqual(first, later)
    }))

  it.live("keeps no process from ending, not even when nobody ends it", () =>
    Effect.gen(function*() {
      const program = `
        import * as Effect from "effect/Effect"
        import * as Scope from "effect/Scope"
        import { EncodingPool } from "${new URL("../src/EncodingPool.ts", import.meta.url).href}"
        import { chunks, many, large } from "${new URL("./EncodedRows.ts", import.meta.url).href}"
        process.once("worker", () => console.log("started"))
        const pool = await Effect.runPromise(Scope.provide(EncodingPool.make(1), Scope.makeUnsafe()))
        const found = await Effect.runPromise(chunks(pool, { batch: large(many(10)) }))
        console.log(found.length)
      `
      const child = spawn(process.execPath, ["--input-type=module", "-e", program], {
        cwd: new URL("..", import.meta.url),
        stdio: ["ignore", "pipe", "inherit"]
      })
      let printed = ""
      child.stdout.on("data", (data: Buffer) => void (printed += data.toString()))
      const [code] = yield* Effect.promise(() => once(child, "exit"))
      assert.strictEqual(code, 0)
      assert.strictEqual(printed, "started\n1\n")
    }))
})
