/**
 * Dead letters in Parquet files: what survives, what is never read, and directories where the format was changed.
 */
import { assert, describe, it } from "@effect/vitest"
import * as AppendedLines from "@etl-stream/core/AppendedLines"
import { type DeadLetter, encodeType, idOf } from "@etl-stream/core/DeadLetter"
import type { DeadLetterStore } from "@etl-stream/core/DeadLetterStore"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as fc from "fast-check"
import { execFile } from "node:child_process"
import { chown, mkdtemp, open, readdir, readFile, rm, stat, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"
import { DeadLetterConfig, type DeadLetterFormat } from "../src/DeadLetterConfig.ts"
import * as DeadLetterDirectory from "../src/DeadLetterDirectory.ts"

const folder = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "dead-letters-"))),
  (directory) => Effect.promise(() => rm(directory, { recursive: true, force: true }))
)

const letter = (table: string, ordinal: number, value = "line\nend\u2028 \"quoted\" \\ \u0000 😀"): DeadLetter => {
  const identified = {
    pipeline: "p",
    table,
    sequence: `0000000000000001/${ordinal.toString(16).padStart(16, "0")}`,
    row: `["${ordinal}"]`,
    column: { name: "c", target: "C", type: encodeType({ _tag: "Text", maxLength: undefined }) }
  }
  return {
    id: idOf(identified),
    ...identified,
    operation: "insert",
    commitTime: "2026-01-02T03:04:05.678901Z",
    identity: "Key",
    key: [{ name: "id", target: "ID", type: encodeType({ _tag: "Int64" }) }],
    reason: "is too long",
    values: { id: String(ordinal), c: value, none: null, "": "" },
    unsent: ["other"],
    at: "2026-01-02T03:04:06.000Z"
  }
}

/** A store as another process would have it. */
const store = (directory: string, format: DeadLetterFormat = "parquet", limit = 100): DeadLetterStore =>
  DeadLetterDirectory.make({ directory, limit, plugin: "test" }, format)

const collect = (of: DeadLetterStore, table?: string, column?: string) =>
  Effect.map(
    Stream.runCollect(of.list({ pipeline: "p", table, column })),
    (letters) => [...letters].sort((a, b) => `${a.table} ${a.sequence}` < `${b.table} ${b.sequence}` ? -1 : 1)
  )

const files = (directory: string, table: string) =>
  Effect.promise(async () =>
    (await readdir(join(directory, "p", `${table}.parquet`))).filter((name) => name.endsWith(".parquet")).sort()
  )

/** A disk on which one of the next syncs fails, though what was written can be read. Tells how many went well since. */
const failingSync = (which: number) =>
  Effect.gen(function*() {
    const probe = yield* Effect.promise(() => open(import.meta.filename, "r"))
    const handles = Object.getPrototypeOf(probe) as { sync: () => Promise<void> } // what all handles of files have
    yield* Effect.promise(() => probe.close())
    const { sync } = handles
    let asked = 0
    let synced = 0
    yield* Effect.acquireRelease(
      Effect.sync(() => {
        handles.sync = async function() {
          if (++asked === which) throw Object.assign(new Error("the disk"), { code: "EIO" })
          await Reflect.apply(sync, this, [])
          synced++
        }
      }),
      () =>
        Effect.sync(() => {
          handles.sync = sync
        })
    )
    return () => synced
  })

describe("Dead letters in Parquet files", () => {
  it.live("come back as they were put, once, to any process, whatever they hold", () =>
    Effect.gen(function*() {
      const directory = yield* folder
      const letters = [letter("public.a", 1), letter("public.a", 2), letter("public.\"a.b\"", 1)]
      assert.strictEqual(yield* store(directory).put(letters), 3)
      assert.strictEqual(yield* store(directory).put([...letters, ...letters]), 0)
      const other = store(directory)
      assert.sameDeepMembers(yield* collect(other), letters)
      assert.deepStrictEqual(yield* collect(other, "public.a"), letters.slice(0, 2))
      assert.deepStrictEqual(yield* collect(other, "public.a", "none"), [])
      assert.deepStrictEqual(yield* other.get("p", letters[1]?.id ?? ""), letters[1])
      assert.isUndefined(yield* other.get("p", "none"))
      let ordinal = 10
      yield* Effect.promise(() =>
        fc.assert(
          fc.asyncProperty(fc.array(fc.string({ unit: "binary" }), { minLength: 1, maxLength: 5 }), (values) =>
            Effect.runPromise(Effect.gen(function*() {
              const some = values.map((value) => letter("public.any", ordinal++, value))
              yield* store(directory).put(some)
              const back = new Map((yield* collect(store(directory), "public.any")).map((of) => [of.id, of]))
              for (const of of some) {
                assert.deepStrictEqual(back.get(of.id), of)
              }
            }))),
          { numRuns: 20 }
        )
      )
    }).pipe(Effect.scoped))

  it.live("are forgotten when they are removed, by whichever process, and nothing else is", () =>
    Effect.gen(function*() {
      const directory = yield* folder
      const writing = store(directory)
      const [first, second, third] = [letter("t.a", 1), letter("t.a", 2), letter("t.a", 3)]
      yield* writing.put([first, second])
      yield* store(directory).remove([first])
      yield* writing.put([third])
      assert.deepStrictEqual(yield* collect(store(directory)), [second, third])
      assert.strictEqual(yield* store(directory).put([first]), 1)
      assert.deepStrictEqual(yield* collect(store(directory)), [first, second, third])
      yield* store(directory).remove([first, second, third, letter("t.b", 1)])
      assert.deepStrictEqual(yield* collect(store(directory)), [])
      assert.deepStrictEqual(yield* files(directory, "t.a"), [])
    }).pipe(Effect.scoped))

  it.live("stay forgotten when a slow process puts in a file's place what it read before", () =>
    Effect.gen(function*() {
      const directory = yield* folder
      const [first, second, third] = [letter("t.a", 1), letter("t.a", 2), letter("t.a", 3)]
      yield* store(directory).put([first, second, third])
      const [name = ""] = yield* files(directory, "t.a")
      const path = join(directory, "p", "t.a.parquet", name)
      const before = yield* Effect.promise(() => readFile(path))
      const putBack = Effect.promise(() => writeFile(path, before))
      yield* store(directory).remove([first])
      yield* putBack
      assert.deepStrictEqual(yield* collect(store(directory)), [second, third])
      assert.isUndefined(yield* store(directory).get("p", first.id))
      // Put again it is one of another file.
      assert.strictEqual(yield* store(directory).put([first, second]), 1)
      assert.deepStrictEqual(yield* collect(store(directory)), [first, second, third])
      yield* store(directory).remove([second])
      const size = yield* Effect.promise(async () => (await readFile(path)).length)
      assert.isBelow(size, before.length, "the file still has what was forgotten before")
      yield* store(directory).remove([first, third])
      yield* putBack
      assert.deepStrictEqual(yield* collect(store(directory)), [])
    }).pipe(Effect.scoped))

  it.live("are taken out of their files with the next letter when a command was cut off after it had said that they are forgotten", () =>
    Effect.gen(function*() {
      const directory = yield* folder
      const [first, second, third] = [letter("t.a", 1), letter("t.a", 2), letter("t.a", 3)]
      yield* store(directory).put([first, second])
      yield* store(directory).put([third])
      const at = join(directory, "p", "t.a.parquet")
      const names = yield* files(directory, "t.a")
      const sizes = Effect.promise(() => Promise.all(names.map(async (name) => (await stat(join(at, name))).size)))
      const before = yield* sizes
      yield* Effect.promise(() =>
        AppendedLines.append(join(at, "_forgotten.ndjson"), names.map((file) => ({ file, id: first.id })))
      )
      assert.deepStrictEqual(yield* collect(store(directory)), [second, third])
      yield* store(directory).put([first])
      const after = yield* sizes
      assert.strictEqual(after.filter((size, index) => size < (before[index] ?? 0)).length, 1)
      assert.deepStrictEqual(yield* collect(store(directory)), [first, second, third])
    }).pipe(Effect.scoped))

  // The folder's sync is the second of a Parquet file, that has its name by then.
  for (const [format, which] of [["ndjson", 1], ["parquet", 2]] as const) {
    it.live(`are written again when their writing failed though they can be read (${format})`, () =>
      Effect.gen(function*() {
        const directory = yield* folder
        const one = store(directory, format)
        yield* one.put([letter("t.a", 1)])
        const synced = yield* failingSync(which)
        assert.strictEqual((yield* Effect.flip(one.put([letter("t.a", 2)]))).reason, "Unreachable")
        assert.lengthOf(yield* collect(store(directory, format)), 2)
        const before = synced()
        // The error ended the run: the next one has a store of its own.
        assert.strictEqual(yield* store(directory, format).put([letter("t.a", 2)]), 1)
        assert.isAbove(synced(), before)
        assert.deepStrictEqual(yield* collect(one), [letter("t.a", 1), letter("t.a", 2)])
        yield* one.remove([letter("t.a", 2)])
        assert.deepStrictEqual(yield* collect(store(directory, format)), [letter("t.a", 1)])
      }).pipe(Effect.scoped))
  }

  it.live.skipIf(process.getuid?.() !== 0)(
    "belong to whom their folder belongs, whoever drops some",
    () =>
      Effect.gen(function*() {
        const directory = yield* folder
        yield* store(directory).put([letter("t.a", 1), letter("t.a", 2)])
        const at = join(directory, "p", "t.a.parquet")
        yield* Effect.promise(() => chown(at, 12345, 12345))
        yield* store(directory).remove([letter("t.a", 1)])
        for (const name of yield* Effect.promise(() => readdir(at))) {
          assert.strictEqual((yield* Effect.promise(() => stat(join(at, name)))).uid, 12345, name)
        }
      }).pipe(Effect.scoped)
  )

  it.live("are on the disk whole or not at all: what a write leaves that ended early is never read", () =>
    Effect.gen(function*() {
      const directory = yield* folder
      const text = Array.from({ length: 40_000 }, (_, index) => index.toString(36)).join(" ")
      const small = letter("t.a", 1)
      const large = { ...small, values: { ...small.values, c: text } }
      const program = `
        import * as Effect from "effect/Effect"
        import * as Directory from ${JSON.stringify(new URL("../src/DeadLetterDirectory.ts", import.meta.url).href)}
        const store = Directory.make({ directory: ${JSON.stringify(directory)}, limit: 9, plugin: "test" }, "parquet")
        const letter = ${JSON.stringify(small)}
        letter.values.c = Array.from({ length: 40_000 }, (_, index) => index.toString(36)).join(" ")
        const put = await Effect.runPromiseExit(store.put([letter]))
        console.log(put._tag)`
      // Files can't grow beyond a few kilobytes: the system takes what fits and refuses the rest.
      const script = `ulimit -f 8; exec "$0" --input-type=module -e "$1"`
      const { stdout } = yield* Effect.promise(() =>
        promisify(execFile)("sh", ["-c", script, process.execPath, program], { cwd: import.meta.dirname })
      )
      assert.strictEqual(stdout.trim(), "Failure")
      assert.deepStrictEqual(yield* files(directory, "t.a"), [])
      assert.strictEqual(yield* store(directory).put([large]), 1)
      const [name = ""] = yield* files(directory, "t.a")
      const path = join(directory, "p", "t.a.parquet", name)
      const whole = yield* Effect.promise(() => readFile(path))
      // As a process that was killed leaves it.
      yield* Effect.promise(() => writeFile(`${path}.1.tmp`, whole.subarray(0, whole.length / 2)))
      assert.deepStrictEqual(yield* collect(store(directory)), [large])
      const { mode } = yield* Effect.promise(() => stat(path))
      assert.strictEqual(mode & 0o777, 0o600)
      // Damaged by something else: an error that names it, since letters would be missing.
      yield* Effect.promise(() => writeFile(path, whole.subarray(0, whole.length - 10)))
      const error = yield* Effect.flip(collect(store(directory)))
      assert.strictEqual(error.reason, "Protocol")
      assert.include(error.message, path)
    }).pipe(Effect.scoped))

  for (const [from, to] of [["ndjson", "parquet"], ["parquet", "ndjson"]] as const) {
    it.live(`stand beside those of before when ${from} became ${to}, and all are one store`, () =>
      Effect.gen(function*() {
        const directory = yield* folder
        const [first, second, third] = [letter("t.a", 1), letter("t.a", 2), letter("t.a", 3)]
        yield* store(directory, from).put([first, second, letter("t.b", 1)])
        const mixed = store(directory, to)
        assert.strictEqual(yield* mixed.put([second, third]), 1)
        assert.deepStrictEqual(yield* collect(mixed, "t.a"), [first, second, third])
        assert.deepStrictEqual(yield* mixed.get("p", first.id), first)
        assert.deepStrictEqual(yield* mixed.get("p", third.id), third)
        yield* store(directory, to).remove([first, third])
        assert.deepStrictEqual(yield* collect(store(directory, to)), [second, letter("t.b", 1)])
        // Forgotten, it may come again.
        assert.strictEqual(yield* store(directory, to).put([first]), 1)
        assert.deepStrictEqual(yield* collect(store(directory, from), "t.a"), [first, second])
      }).pipe(Effect.scoped))
  }

  it.live("are no more per table than the limit", () =>
    Effect.gen(function*() {
      const few = store(yield* folder, "parquet", 2)
      yield* few.put([letter("t.a", 1), letter("t.a", 2)])
      const error = yield* Effect.flip(few.put([letter("t.a", 3)]))
      assert.strictEqual(error.reason, "Rejected")
      assert.strictEqual(error.table, "t.a")
      assert.strictEqual(yield* few.put([letter("t.a", 2), letter("t.b", 1)]), 1)
      yield* few.remove([letter("t.a", 1)])
      assert.strictEqual(yield* few.put([letter("t.a", 3)]), 1)
    }).pipe(Effect.scoped))

  it("are an option of directories alone", () => {
    const decode = Schema.decodeUnknownSync(DeadLetterConfig)
    assert.strictEqual(decode({ directory: "d", format: "parquet" }).format, "parquet")
    assert.throws(() => decode({ table: true, format: "parquet" }), /format/)
    assert.throws(() => decode({ directory: "d", format: "csv" }))
  })
})
