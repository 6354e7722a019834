/**
 * Files that several processes append lines to: every line stays whole, on the disk, and where it belongs.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { mkdtemp, readdir, rm, stat, symlink, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as AppendedLines from "../src/AppendedLines.ts"
import * as DurableFolder from "../src/DurableFolder.ts"
import * as FailingSync from "./doubles/FailingSync.ts"

const folder = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "appended-lines-"))),
  (directory) => Effect.promise(() => rm(directory, { recursive: true, force: true }))
)

const lines = (path: string) =>
  Effect.promise(async () => {
    const all: Array<unknown> = []
    for await (const [, line] of AppendedLines.read(path, Option.liftThrowable(JSON.parse))) all.push(line)
    return all
  })

const failure = (body: () => Promise<unknown>) =>
  Effect.promise(() => body().then(() => undefined, (cause: NodeJS.ErrnoException) => cause.code))

describe("lines that are appended", () => {
  it.live("stay whole however long they are and whoever appends beside", () =>
    Effect.gen(function*() {
      const path = join(yield* folder, "lines")
      const long = (name: string) => ({ name, text: name.repeat(4 << 20) })
      for (let round = 0; round < 4; round++) {
        yield* Effect.promise(() =>
          Promise.all([
            AppendedLines.append(path, [long("a")]),
            AppendedLines.append(path, [long("b")]),
            ...Array.from({ length: 5 }, (_, index) => AppendedLines.append(path, [{ index }]))
          ])
        )
      }
      assert.lengthOf(yield* lines(path), 4 * 7)
    }).pipe(Effect.scoped))

  it.live("don't go where a link leads", () =>
    Effect.gen(function*() {
      const at = yield* folder
      const elsewhere = join(at, "elsewhere")
      yield* Effect.promise(() => symlink(elsewhere, join(at, "lines")))
      assert.strictEqual(yield* failure(() => AppendedLines.append(join(at, "lines"), [{}])), "ELOOP")
      assert.deepStrictEqual(yield* Effect.promise(() => readdir(at)), ["lines"])
      yield* Effect.promise(() => writeFile(elsewhere, ""))
      assert.strictEqual(yield* failure(() => AppendedLines.append(join(at, "lines"), [{}])), "ELOOP")
      assert.strictEqual((yield* Effect.promise(() => stat(elsewhere))).size, 0)
    }).pipe(Effect.scoped))
})

describe("a folder that outlasts a crash", () => {
  it.live("is not there for certain when that failed, until it was done", () =>
    Effect.gen(function*() {
      const at = join(yield* folder, "a", "b")
      const synced = yield* FailingSync.failing(2)
      assert.strictEqual(yield* failure(() => DurableFolder.make(at)), "EIO")
      const before = synced()
      yield* Effect.promise(() => DurableFolder.make(at))
      // Its own name, and that of the one above.
      assert.isAtLeast(synced() - before, 2)
      const done = synced()
      yield* Effect.promise(() => DurableFolder.make(at))
      assert.strictEqual(synced(), done)
      yield* Effect.promise(() => rm(at, { recursive: true }))
      yield* Effect.promise(() => DurableFolder.make(at))
      assert.isAbove(synced(), done)
    }).pipe(Effect.scoped))

  it.live("is made certain when somebody else made it, who may not have come to that", () =>
    Effect.gen(function*() {
      const at = yield* folder
      const synced = yield* FailingSync.failing(0)
      yield* Effect.promise(() => DurableFolder.make(at))
      assert.isAbove(synced(), 0)
    }).pipe(Effect.scoped))
})
