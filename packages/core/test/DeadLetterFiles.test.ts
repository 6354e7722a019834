/**
 * The store of dead letters in files: what survives, and what is left of a file that was cut short.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { execFile } from "node:child_process"
import { appendFile, mkdtemp, readdir, rm, stat, truncate } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"
import { type DeadLetter, decodeType, encodeType, idOf } from "../src/DeadLetter.ts"
import * as DeadLetterFiles from "../src/DeadLetterFiles.ts"
import type { LogicalType } from "../src/LogicalType.ts"

const folder = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "dead-letters-"))),
  (directory) => Effect.promise(() => rm(directory, { recursive: true, force: true }))
)

const letter = (table: string, ordinal: number, column = "c", pipeline = "p"): DeadLetter => {
  const identified = {
    pipeline,
    table,
    sequence: `0000000000000001/${ordinal.toString(16).padStart(16, "0")}`,
    row: `["${ordinal}"]`,
    column: { name: column, target: column.toUpperCase(), type: encodeType({ _tag: "Text", maxLength: undefined }) }
  }
  return {
    id: idOf(identified),
    ...identified,
    operation: "insert",
    commitTime: "2026-01-02T03:04:05.678901Z",
    identity: "Key",
    key: [{ name: "id", target: "ID", type: encodeType({ _tag: "Int64" }) }],
    reason: "is too long",
    values: { id: String(ordinal), [column]: "line\nend\u2028\u2029\r \"quoted\" \\ \u0000 😀", none: null },
    unsent: ["other"],
    at: "2026-01-02T03:04:06.000Z"
  }
}

const store = (directory: string, limit = 100) => DeadLetterFiles.make({ directory, limit, plugin: "test" })

const collect = (of: ReturnType<typeof store>, table?: string, pipeline = "p", column?: string) =>
  Effect.map(Stream.runCollect(of.list({ pipeline, table, column })), (letters) => [...letters])

describe("DeadLetterFiles", () => {
  it.live("give every letter back as it was put, once, to any process", () =>
    Effect.gen(function*() {
      const directory = yield* folder
      const letters = [letter("public.a", 1), letter("public.a", 2), letter("public.a", 2, "d"), letter("public.b", 1)]
      assert.strictEqual(yield* store(directory).put(letters), 4)
      assert.strictEqual(yield* store(directory).put(letters), 0)
      const other = store(directory)
      assert.deepStrictEqual(yield* collect(other, "public.a"), letters.slice(0, 3))
      assert.deepStrictEqual(yield* collect(other, "public.a", "p", "d"), letters.slice(2, 3))
      assert.deepStrictEqual(yield* collect(other), letters)
      assert.deepStrictEqual(yield* collect(other, undefined, "another"), [])
      assert.deepStrictEqual(yield* other.get("p", letters[1]?.id ?? ""), letters[1])
    }).pipe(Effect.scoped))

  it.live("forget what is removed, by whichever process, and nothing else", () =>
    Effect.gen(function*() {
      const directory = yield* folder
      const writing = store(directory)
      const [first, second, third] = [letter("t.a", 1), letter("t.a", 2), letter("t.a", 3)]
      yield* writing.put([first, second])
      yield* store(directory).remove([first])
      yield* writing.put([third])
      assert.deepStrictEqual(yield* collect(store(directory)), [second, third])
      yield* store(directory).put([first])
      assert.deepStrictEqual(yield* collect(store(directory)), [second, third, first])
    }).pipe(Effect.scoped))

  it.live("survive a crash at any byte: whole letters stay, half of one doesn't count and spoils none after it", () =>
    Effect.gen(function*() {
      const directory = yield* folder
      const [first, second, third] = [letter("t.a", 1), letter("t.a", 2), letter("t.a", 3)]
      yield* store(directory).put([first])
      const path = join(directory, "p", "t.a.ndjson")
      const before = (yield* Effect.promise(() => stat(path))).size
      yield* store(directory).put([second])
      const after = (yield* Effect.promise(() => stat(path))).size
      for (let size = after; size > before; size -= 17) {
        yield* Effect.promise(() => truncate(path, size))
        // Its last line end may be missing: then the letter is whole all the same.
        const whole = size >= after - 1
        assert.deepStrictEqual(yield* collect(store(directory)), whole ? [first, second] : [first])
      }
      assert.strictEqual(yield* store(directory).put([second, third]), 2)
      assert.deepStrictEqual(yield* collect(store(directory)), [first, second, third])
      yield* Effect.promise(() => appendFile(path, "{\"letter\":{}}\nnonsense\n{\"removed\":"))
      assert.deepStrictEqual(yield* collect(store(directory)), [first, second, third])
      yield* store(directory).remove([second])
      assert.deepStrictEqual(yield* collect(store(directory)), [first, third])
    }).pipe(Effect.scoped))

  it.live("are only kept when all of a letter is on the disk: a write that ends early is an error", () =>
    Effect.gen(function*() {
      const directory = yield* folder
      const large = letter("t.a", 1, "c".repeat(20_000))
      const program = `
        import * as Effect from "effect/Effect"
        import * as DeadLetterFiles from ${JSON.stringify(new URL("../src/DeadLetterFiles.ts", import.meta.url).href)}
        const store = DeadLetterFiles.make({ directory: ${JSON.stringify(directory)}, limit: 9, plugin: "test" })
        const put = await Effect.runPromiseExit(store.put([${JSON.stringify(large)}]))
        console.log(put._tag)`
      // Files can't grow beyond a few kilobytes: the system takes what fits and refuses the rest.
      const script = `ulimit -f 8; exec "$0" --input-type=module -e "$1"`
      const { stdout } = yield* Effect.promise(() =>
        promisify(execFile)("sh", ["-c", script, process.execPath, program], { cwd: import.meta.dirname })
      )
      assert.strictEqual(stdout.trim(), "Failure")
      assert.deepStrictEqual(yield* collect(store(directory)), [])
      assert.strictEqual(yield* store(directory).put([large]), 1)
      assert.deepStrictEqual(yield* collect(store(directory)), [large])
    }).pipe(Effect.scoped))

  it.live("are for their owner's eyes, in files that any table's name can have", () =>
    Effect.gen(function*() {
      const directory = join(yield* folder, "made")
      const names = [
        "public.a",
        "\"..\".\"/etc\"",
        "x.é",
        `x.${"ü".repeat(63)}`,
        `x.${"ü".repeat(62)}u`,
        "x.(a)",
        "x._a_"
      ]
      const odd = names.map((table) => letter(table, 1, "c", "../p"))
      assert.strictEqual(yield* store(directory).put(odd), names.length)
      assert.strictEqual((yield* collect(store(directory), undefined, "../p")).length, names.length)
      for (const of of odd) assert.deepStrictEqual(yield* collect(store(directory), of.table, "../p"), [of])
      const [pipeline = ""] = yield* Effect.promise(() => readdir(directory))
      const files = yield* Effect.promise(() => readdir(join(directory, pipeline)))
      assert.strictEqual(files.length, names.length)
      for (const file of files) {
        const { mode } = yield* Effect.promise(() => stat(join(directory, pipeline, file)))
        assert.strictEqual(mode & 0o777, 0o600)
      }
    }).pipe(Effect.scoped))

  it.live("take no more of a table than their limit, and those that are forgotten make room", () =>
    Effect.gen(function*() {
      const directory = yield* folder
      const few = store(directory, 2)
      yield* few.put([letter("t.a", 1), letter("t.a", 2)])
      const error = yield* Effect.flip(few.put([letter("t.a", 3)]))
      assert.strictEqual(error.reason, "Rejected")
      assert.strictEqual(error.table, "t.a")
      assert.strictEqual(yield* few.put([letter("t.a", 2), letter("t.b", 1)]), 1)
      yield* few.remove([letter("t.a", 1)])
      assert.strictEqual(yield* few.put([letter("t.a", 3)]), 1)
    }).pipe(Effect.scoped))
})

describe("DeadLetter", () => {
  it("keeps every logical type", () => {
    const types: ReadonlyArray<LogicalType> = [
      { _tag: "Boolean" },
      { _tag: "Int16" },
      { _tag: "Float64" },
      { _tag: "Decimal", precision: 10, scale: 2 },
      { _tag: "Decimal", precision: undefined, scale: undefined },
      { _tag: "Text", maxLength: 5 },
      { _tag: "Timestamp", utc: true },
      { _tag: "Timestamp", utc: false },
      { _tag: "Array", element: { _tag: "Array", element: { _tag: "Json" } } },
      { _tag: "Other" }
    ]
    for (const type of types) assert.deepStrictEqual(decodeType(encodeType(type)), type)
    for (const none of ["", "{}", "{\"_tag\":\"Nope\"}", "{\"_tag\":\"Array\"}"]) assert.isUndefined(decodeType(none))
  })
})
