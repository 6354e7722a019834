import { assert, describe, it, vi } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Scope from "effect/Scope"
import {
  appendFileSync,
  cpSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync
} from "node:fs"
import { type FileHandle, open as openFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Condition from "../src/Condition.ts"
import type { Element } from "../src/Element.ts"
import * as Progress from "../src/Progress.ts"
import * as Spool from "../src/Spool.ts"
import * as SpoolFiles from "../src/SpoolFiles.ts"
import * as SpoolRecord from "../src/SpoolRecord.ts"
import type { TableSchema } from "../src/TableSchema.ts"
import { batch, plain } from "./doubles/Tables.ts"

const [a, b] = [plain("a"), plain("b")] as const

const rows = (table: TableSchema, commit: number, size = 10): Element => ({
  _tag: "Rows",
  batch: batch(table, [{ commit: BigInt(commit), ordinal: 1n, values: [commit, "x".repeat(size)] }])
})
const mark = (position: number): Element => ({ _tag: "Watermark", position: BigInt(position), commitTime: undefined })
/** What identifies an element. */
const named = (element: Element): string =>
  element._tag === "Rows"
    ? `${element.batch.table.table.name}${element.batch.last.commit}`
    : element._tag === "Watermark"
    ? `|${element.position}`
    : element._tag

const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "etl-stream-spool-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
)
const eventually = (condition: () => boolean) =>
  Effect.gen(function*() {
    while (!condition()) yield* Effect.sleep(1)
  }).pipe(Effect.timeout("5 seconds"), Effect.orDie)

/** A spool in `directory` until `close` or `crash`. */
const open = Effect.fnUntraced(function*(directory: string, more: Partial<Spool.Settings> = {}) {
  const scope = yield* Scope.make()
  const progress = Progress.make("shop")
  const sink = { acknowledged: 0n, asked: false }
  const told: Array<boolean> = []
  const spool = yield* Scope.provide(
    Spool.open({
      pipeline: "shop",
      settings: { directory, maxBytes: 1 << 20, when: "asked", after: "1 hour", every: 1, ...more },
      conditions: Condition.make("shop", progress),
      acknowledged: () => sink.acknowledged,
      asked: () => sink.asked,
      spooling: (now) => void told.push(now)
    }),
    scope
  )
  const tending = yield* Effect.forkChild(spool.run)
  return {
    spool,
    sink,
    told,
    progress,
    takes: (count: number) => Effect.replicateEffect(Effect.map(spool.take, ({ element }) => named(element)), count),
    puts: (...elements: ReadonlyArray<Element>) => Effect.forEach(elements, spool.put, { discard: true }),
    close: Effect.andThen(Fiber.interrupt(tending), Scope.close(scope, Exit.void)),
    /** Puts what is on the disk now aside, closes, and brings it back. */
    crash: Effect.gen(function*() {
      yield* Fiber.interrupt(tending)
      const image = `${directory}-image`
      cpSync(directory, image, { recursive: true })
      yield* Scope.close(scope, Exit.void)
      rmSync(directory, { recursive: true, force: true })
      cpSync(image, directory, { recursive: true })
      rmSync(image, { recursive: true, force: true })
    })
  }
})

/** Has the disk take names of files, and nothing in them, until the scope closes. */
const fullDisk = Effect.acquireRelease(
  Effect.promise(async () => {
    const handle = await openFile(tmpdir(), "r")
    const prototype: FileHandle = Object.getPrototypeOf(handle)
    await handle.close()
    return vi.spyOn(prototype, "writev").mockRejectedValue(Object.assign(new Error("no room"), { code: "ENOSPC" }))
  }),
  (spy) => Effect.sync(() => spy.mockRestore())
)

const segments = (directory: string) => readdirSync(directory).filter((name) => name.endsWith(".segment")).sort()
const silent = Effect.provide(Logger.layer([]))

/** A spool of three segments with watermarks 20, 30 and 40 that positions were confirmed by, as a crash leaves it. */
const left = Effect.fnUntraced(function*(directory: string) {
  const run = yield* open(directory, { maxBytes: 20_000 })
  run.sink.asked = true
  for (const at of [10, 20, 30]) yield* run.puts(rows(a, at, 1000), rows(b, at + 1, 1000), mark(at + 10))
  yield* eventually(() => run.spool.kept() === 40n)
  yield* run.crash
  return run.spool.id
})

describe("a spool", () => {
  it.live("paces the source by the sink while it isn't wanted, and counts for nothing", () =>
    Effect.gen(function*() {
      const directory = yield* folder
      const run = yield* open(directory)
      yield* run.puts(rows(a, 10))
      const second = yield* Effect.forkChild(run.puts(rows(a, 11)))
      yield* Effect.sleep(20)
      assert.isUndefined(second.pollUnsafe(), "an element is put before the one before it was given on")
      assert.deepStrictEqual(yield* run.takes(1), ["a10"])
      const third = yield* Effect.forkChild(run.takes(1))
      yield* Fiber.join(second)
      assert.deepStrictEqual(yield* Fiber.join(third), ["a11"])
      yield* run.puts(mark(20)).pipe(Effect.forkChild)
      assert.deepStrictEqual(yield* run.takes(1), ["|20"])
      assert.strictEqual(run.spool.kept(), 0n)
      yield* run.close
      assert.deepStrictEqual(segments(directory), [], "values of rows stay behind that nothing stands on")
    }).pipe(Effect.scoped, silent))

  it.live("counts what is on the disk once it is wanted, at once and in whole transactions, and gives all on in order", () =>
    Effect.gen(function*() {
      const directory = yield* folder
      const run = yield* open(directory)
      // On its way to a sink that never says that it is durable.
      yield* run.puts(rows(a, 10)).pipe(Effect.forkChild)
      assert.deepStrictEqual(yield* run.takes(1), ["a10"])
      run.sink.asked = true
      run.spool.look()
      yield* run.puts(rows(b, 11), mark(20), rows(a, 21), rows(b, 22))
      yield* eventually(() => run.spool.kept() === 20n)
      assert.deepStrictEqual(run.told, [true])
      assert.include([...run.progress.conditions.values()].map(({ name }) => name), Spool.spoolingCondition)
      assert.strictEqual(statSync(directory).mode & 0o777, 0o700)
      for (const name of readdirSync(directory)) assert.strictEqual(statSync(join(directory, name)).mode & 0o777, 0o600)
      assert.deepStrictEqual(yield* run.takes(4), ["b11", "|20", "a21", "b22"])
      yield* run.close
    }).pipe(Effect.scoped, silent))

  it.live("never counts more than what is durable in it, and removes what the sink has, with its last element first", () =>
    Effect.gen(function*() {
      const directory = yield* folder
      const run = yield* open(directory, { maxBytes: 20_000 })
      run.sink.asked = true
      for (const at of [10, 20, 30]) yield* run.puts(rows(a, at, 1000), rows(b, at + 1, 1000), mark(at + 10))
      yield* eventually(() => run.spool.kept() === 40n)
      const all = segments(directory).length
      assert.isAbove(all, 2)
      // The sink has it, but it wasn't given on: nobody may say so, and nothing is removed.
      assert.deepStrictEqual(yield* run.takes(4), ["a10", "b11", "|20", "a20"])
      run.sink.acknowledged = 20n
      yield* eventually(() => segments(directory).length < all)
      const some = segments(directory).length
      assert.deepStrictEqual(yield* run.takes(5), ["b21", "|30", "a30", "b31", "|40"])
      assert.strictEqual(segments(directory).length, some)
      run.sink.acknowledged = 40n
      const waiting = yield* Effect.forkChild(run.takes(1))
      yield* eventually(() => segments(directory).length === 0)
      yield* run.puts(rows(a, 50))
      assert.deepStrictEqual(yield* Fiber.join(waiting), ["a50"])
      yield* run.close
    }).pipe(Effect.scoped, silent))

  it.live("begins by itself while the sink makes no progress, and ends when it has caught up", () =>
    Effect.gen(function*() {
      const run = yield* open(yield* folder, { when: "stalled", after: 30 })
      const put = yield* Effect.forkChild(run.puts(rows(a, 10), mark(20), rows(a, 21), mark(30)))
      yield* Fiber.join(put)
      yield* eventually(() => run.spool.kept() === 30n)
      assert.isTrue(run.spool.isSpooling())
      run.sink.acknowledged = 20n
      assert.deepStrictEqual(yield* run.takes(4), ["a10", "|20", "a21", "|30"])
      run.sink.acknowledged = 30n
      const waiting = yield* Effect.forkChild(run.takes(1))
      yield* eventually(() => !run.spool.isSpooling())
      yield* eventually(() => run.progress.conditions.size === 0)
      assert.deepStrictEqual(run.told, [true, false])
      yield* Fiber.interrupt(waiting)
      yield* run.close
    }).pipe(Effect.scoped, silent))

  it.live(
    "takes no more than its limit: the source waits, and goes on when the sink has taken something",
    () =>
      Effect.gen(function*() {
        const directory = yield* folder
        const maxBytes = 8000
        const run = yield* open(directory, { maxBytes })
        run.sink.asked = true
        const putting = yield* Effect.forkChild(
          Effect.forEach(
            Array.from({ length: 20 }, (_, i) => i),
            (i) => run.puts(rows(a, i * 10, 800), mark(i * 10 + 5))
          )
        )
        const onDisk = () => segments(directory).reduce((sum, name) => sum + statSync(join(directory, name)).size, 0)
        yield* eventually(() => [...run.progress.conditions.values()].some(({ name }) => name === Spool.fullCondition))
        yield* Effect.sleep(20)
        assert.isUndefined(putting.pollUnsafe())
        assert.isAtMost(onDisk(), maxBytes + 4096)
        const taken: Array<string> = []
        while (taken.length < 40) {
          const [next = ""] = yield* run.takes(1)
          taken.push(next)
          if (next.startsWith("|")) run.sink.acknowledged = BigInt(next.slice(1))
        }
        // The last one may still wait for the next to be asked for.
        yield* Fiber.interrupt(putting)
        assert.deepStrictEqual(taken, Array.from({ length: 20 }, (_, i) => [`a${i * 10}`, `|${i * 10 + 5}`]).flat())
        yield* run.close
      }).pipe(Effect.scoped, silent),
    30_000
  )

  it.live("lets a transaction pass beside it that is larger than its limit, and counts again only after it", () =>
    Effect.gen(function*() {
      const directory = yield* folder
      const run = yield* open(directory, { maxBytes: 4000 })
      run.sink.asked = true
      const big = Array.from({ length: 20 }, (_, i) => rows(a, 10 + i, 500))
      yield* Effect.forkChild(run.puts(rows(b, 1), mark(5), ...big, mark(50)))
      const taken = yield* run.takes(23)
      assert.deepStrictEqual(taken, ["b1", "|5", ...big.map(named), "|50"])
      assert.isAtMost(Number(run.spool.kept()), 5)
      yield* Effect.sleep(20)
      assert.isAtMost(Number(run.spool.kept()), 5, "what passed beside it counts")
      const began = Date.now()
      for (let at = 60; run.spool.kept() < 60n; at += 10) {
        // What the sink has by now is all that came before.
        run.sink.acknowledged = BigInt(at - 10)
        yield* Effect.forkChild(run.puts(rows(b, at), mark(at + 5)))
        assert.deepStrictEqual(yield* run.takes(2), [`b${at}`, `|${at + 5}`])
        yield* Effect.sleep(5)
        if (Date.now() - began > 30_000) assert.fail("nothing counts any more")
      }
      assert.isFalse([...run.progress.conditions.values()].some(({ name }) => name === Spool.fullCondition))
      yield* run.close
    }).pipe(Effect.scoped, silent))

  it.live("passes everything beside it while the disk is full, and begins anew when it has room", () =>
    Effect.gen(function*() {
      const directory = yield* folder
      const run = yield* open(directory)
      const next = yield* Effect.scoped(Effect.gen(function*() {
        yield* fullDisk
        const put = yield* Effect.forkChild(run.puts(rows(a, 10), mark(20)))
        assert.deepStrictEqual(yield* run.takes(2), ["a10", "|20"])
        const next = yield* Effect.forkChild(run.takes(1))
        yield* Fiber.join(put)
        return next
      }))
      assert.deepStrictEqual(segments(directory), [])
      run.sink.acknowledged = 20n
      yield* run.puts(rows(a, 30))
      assert.deepStrictEqual(yield* Fiber.join(next), ["a30"])
      assert.strictEqual(segments(directory).length, 1)
      yield* run.close
    }).pipe(silent))

  it.live("gives what an earlier run left on after the beginning of the source's stream, and before the rest", () =>
    Effect.gen(function*() {
      const directory = yield* folder
      const id = yield* left(directory)
      const run = yield* open(directory)
      assert.strictEqual(run.spool.id, id)
      assert.strictEqual(run.spool.found.upTo, 40n)
      assert.strictEqual(run.spool.kept(), 40n)
      assert.deepStrictEqual([...run.spool.found.commits], [["public.a", 30n], ["public.b", 31n]])
      const prologue: Element = { _tag: "Schema", table: plain("a", 2), sequence: { commit: 0n, ordinal: 0n } }
      const putting = yield* Effect.forkChild(run.puts(prologue, rows(b, 31), mark(40), rows(a, 41), mark(50)))
      assert.deepStrictEqual(
        yield* run.takes(13),
        ["Schema", "a10", "b11", "|20", "a20", "b21", "|30", "a30", "b31", "|40", "b31", "|40", "a41"]
      )
      yield* Fiber.interrupt(putting)
      yield* run.close
    }).pipe(Effect.scoped, silent))

  it.live("gives it once more from its beginning, but not when something passed beside it", () =>
    Effect.gen(function*() {
      const run = yield* open(yield* folder)
      run.sink.asked = true
      yield* run.puts(rows(a, 10), mark(20), rows(b, 21))
      assert.deepStrictEqual(yield* run.takes(2), ["a10", "|20"])
      assert.isTrue(yield* run.spool.rewind)
      assert.deepStrictEqual(yield* run.takes(3), ["a10", "|20", "b21"])
      yield* run.puts({ _tag: "Schema", table: plain("b", 2), sequence: { commit: 22n, ordinal: 0n } })
      assert.isFalse(yield* run.spool.rewind, "a table had another shape before")
      yield* run.close
      const copying = yield* open(yield* folder)
      copying.sink.asked = true
      yield* copying.puts(mark(20), { _tag: "SnapshotEnd", table: a, position: 9n, chunks: 1, settled: 9n })
      assert.isFalse(yield* copying.spool.rewind, "a copy is under way")
      yield* copying.close
    }).pipe(Effect.scoped, silent))
})

describe("a spool that isn't as it was left", () => {
  const found = (directory: string) => Effect.promise(() => SpoolFiles.find(directory, "shop"))

  it.live("ends before a tail that was cut short or overwritten, wherever that is", () =>
    Effect.gen(function*() {
      const directory = yield* folder
      yield* left(directory)
      const last = join(directory, segments(directory).at(-1) ?? "")
      const { size } = statSync(last)
      // What no watermark covers changes nothing.
      appendFileSync(last, Uint8Array.of(200, 0, 0, 0, 1, 2, 3, 4, 5))
      assert.strictEqual((yield* found(directory)).upTo, 40n)
      for (let cut = 1; cut < size; cut += 23) {
        truncateSync(last, size - cut)
        const { upTo } = yield* found(directory)
        assert.isBelow(Number(upTo), 40, `${cut} bytes are missing`)
      }
      assert.strictEqual((yield* found(directory)).upTo >= 20n, true)
    }).pipe(Effect.scoped, silent))

  it.live("ends before the first byte that isn't what was written", () =>
    Effect.gen(function*() {
      const directory = yield* folder
      yield* left(directory)
      for (const name of segments(directory)) {
        const path = join(directory, name)
        const whole = readFileSync(path)
        for (let at = 0; at < whole.length; at += 61) {
          const damaged = Uint8Array.from(whole)
          damaged[at] = (damaged[at] ?? 0) ^ 0x40
          writeFileSync(path, damaged)
          const { upTo } = yield* found(directory)
          assert.isBelow(Number(upTo), 40, `byte ${at} of ${name} is another`)
        }
        writeFileSync(path, whole)
      }
      assert.strictEqual((yield* found(directory)).upTo, 40n)
    }).pipe(Effect.scoped, silent))

  it.live("ends before a segment that is missing, and is another one without its front, or as another pipeline's", () =>
    Effect.gen(function*() {
      const directory = yield* folder
      const id = yield* left(directory)
      const [first = "", second = ""] = segments(directory)
      const whole = readFileSync(join(directory, second))
      rmSync(join(directory, second))
      const gap = yield* found(directory)
      assert.isBelow(Number(gap.upTo), 40)
      assert.match(gap.damage ?? "", /is missing/)
      writeFileSync(join(directory, second), whole)
      assert.strictEqual((yield* found(directory)).upTo, 40n)
      const begin = readFileSync(join(directory, first))
      rmSync(join(directory, first))
      assert.strictEqual((yield* found(directory)).upTo, 0n)
      writeFileSync(join(directory, first), begin)
      assert.notStrictEqual((yield* Effect.promise(() => SpoolFiles.find(directory, "other"))).front.spool, id)
      rmSync(join(directory, "front.json"))
      const strange = yield* found(directory)
      assert.notStrictEqual(strange.front.spool, id)
      assert.strictEqual(strange.upTo, 0n)
      assert.match(strange.damage ?? "", /front\.json/)
    }).pipe(Effect.scoped, silent))

  it.live("goes on where its front says, when a crash left a segment without its beginning there", () =>
    Effect.gen(function*() {
      const directory = yield* folder
      const id = yield* left(directory)
      for (const name of segments(directory)) rmSync(join(directory, name))
      const front = JSON.parse(readFileSync(join(directory, "front.json"), "utf8"))
      writeFileSync(join(directory, "front.json"), JSON.stringify({ ...front, first: 9, durable: "40" }))
      writeFileSync(join(directory, "000000000009.segment"), "etls")
      const run = yield* open(directory)
      assert.strictEqual(run.spool.found.upTo, 40n)
      run.sink.asked = true
      yield* run.puts(rows(a, 41), mark(50))
      yield* eventually(() => run.spool.kept() === 50n)
      yield* run.crash
      const { front: kept, upTo } = yield* found(directory)
      assert.deepStrictEqual([kept.spool, upTo], [id, 50n])
    }).pipe(Effect.scoped, silent))

  it.live("doesn't take for its own what another run appended that didn't know that it was over", () =>
    Effect.gen(function*() {
      const directory = yield* folder
      yield* left(directory)
      const last = join(directory, segments(directory).at(-1) ?? "")
      const run = yield* open(directory)
      run.sink.asked = true
      yield* Effect.forkChild(run.puts(rows(a, 41), mark(50)))
      yield* run.takes(9)
      yield* eventually(() => run.spool.kept() === 50n)
      yield* run.crash
      const late = SpoolRecord.element(mark(99), 0, undefined)
      for (const part of late.parts) appendFileSync(last, part)
      const { damage, upTo } = yield* found(directory)
      assert.deepStrictEqual([damage, upTo], [undefined, 50n])
    }).pipe(Effect.scoped, silent))

  it.live("is recognised as cut short although a later run went on after it", () =>
    Effect.gen(function*() {
      const directory = yield* folder
      yield* left(directory)
      const last = join(directory, segments(directory).at(-1) ?? "")
      const size = statSync(last).size
      const run = yield* open(directory)
      run.sink.asked = true
      const putting = yield* Effect.forkChild(run.puts(rows(a, 41), mark(50)))
      yield* run.takes(9)
      yield* Fiber.join(putting)
      yield* eventually(() => run.spool.kept() === 50n)
      yield* run.crash
      assert.strictEqual((yield* found(directory)).upTo, 50n)
      truncateSync(last, size - 3)
      const { damage, upTo } = yield* found(directory)
      assert.isBelow(Number(upTo), 40)
      assert.match(damage ?? "", /isn't as long any more/)
    }).pipe(Effect.scoped, silent))
})
