import { assert, describe, it } from "@effect/vitest"
import { isRetryable } from "@etl-stream/core/ConnectorError"
import type { StateStoreShape } from "@etl-stream/core/StateStore"
import { plugin, SqliteStateStore } from "@etl-stream/state-sqlite"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"

const folder = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(join(tmpdir(), "state-sqlite-"))),
  (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true, force: true }))
)

/** The error of opening `file`. */
const refusal = (file: string) => Effect.flip(Effect.scoped(SqliteStateStore.make(file)))

describe("SqliteStateStore", () => {
  it.live("writes only when the expected version is the stored one", () =>
    Effect.gen(function*() {
      const store = yield* SqliteStateStore.make(join(yield* folder, "state.sqlite"))
      assert.deepStrictEqual(yield* store.get("a"), Option.none())
      const first = Option.getOrThrow(yield* store.compareAndSet("a", "1", undefined))
      assert.deepStrictEqual(yield* store.compareAndSet("a", "2", undefined), Option.none())
      assert.deepStrictEqual(yield* store.compareAndSet("a", "2", "stale"), Option.none())
      assert.deepStrictEqual(yield* store.compareAndSet("b", "2", first), Option.none())
      const second = Option.getOrThrow(yield* store.compareAndSet("a", "2", first))
      assert.notStrictEqual(second, first)
      assert.deepStrictEqual(yield* store.compareAndSet("a", "3", first), Option.none())
      assert.deepStrictEqual(yield* store.get("a"), Option.some({ value: "2", version: second }))
    }))

  it.live("never gives a version again, not even after a removal", () =>
    Effect.gen(function*() {
      const store = yield* SqliteStateStore.make(join(yield* folder, "state.sqlite"))
      const first = Option.getOrThrow(yield* store.compareAndSet("a", "1", undefined))
      yield* store.remove("a")
      yield* store.remove("a")
      assert.deepStrictEqual(yield* store.compareAndSet("a", "1", first), Option.none())
      assert.notStrictEqual(Option.getOrThrow(yield* store.compareAndSet("a", "1", undefined)), first)
    }))

  it.live("lists by prefix in the order of keys, taking wildcards and quotes literally", () =>
    Effect.gen(function*() {
      const store = yield* SqliteStateStore.make(join(yield* folder, "state.sqlite"))
      for (const key of ["p%/x", "p/b", "p/a", "P/a", "q/a", "p'; DROP TABLE state; --", "p/é🦀"]) {
        yield* store.compareAndSet(key, `value of ${key}`, undefined)
      }
      const keys = (prefix: string) => Effect.map(store.list(prefix), (entries) => entries.map(([key]) => key))
      assert.deepStrictEqual(yield* keys("p/"), ["p/a", "p/b", "p/é🦀"])
      assert.deepStrictEqual(yield* keys("p%"), ["p%/x"])
      assert.deepStrictEqual(yield* keys("none"), [])
      assert.strictEqual((yield* keys("")).length, 7)
      assert.strictEqual((yield* store.list("p/é"))[0]?.[1].value, "value of p/é🦀")
    }))

  it.live("keeps everything across a restart, creates its folder and lets nobody else read the file", () =>
    Effect.gen(function*() {
      const file = join(yield* folder, "deep", "er", "state.sqlite")
      yield* Effect.scoped(
        Effect.gen(function*() {
          const store = yield* SqliteStateStore.make(file)
          yield* store.compareAndSet("a", "1", undefined)
          for (const name of [file, `${file}-wal`, `${file}-shm`]) {
            assert.strictEqual(Fs.statSync(name).mode & 0o777, 0o600, name)
          }
        })
      )
      const store = yield* SqliteStateStore.make(file)
      assert.strictEqual(Option.getOrThrow(yield* store.get("a")).value, "1")
    }))

  it.live("closes a file that others could read", () =>
    Effect.gen(function*() {
      const file = join(yield* folder, "state.sqlite")
      Fs.writeFileSync(file, "", { mode: 0o644 })
      yield* SqliteStateStore.make(file)
      assert.strictEqual(Fs.statSync(file).mode & 0o777, 0o600)
    }))

  it.live("lets one of two stores on the same file win each race", () =>
    Effect.gen(function*() {
      const file = join(yield* folder, "state.sqlite")
      const stores = [yield* SqliteStateStore.make(file), yield* SqliteStateStore.make(file)]
      const increment = (store: StateStoreShape): Effect.Effect<void, unknown> =>
        Effect.gen(function*() {
          const entry = Option.getOrUndefined(yield* store.get("n"))
          const written = yield* store.compareAndSet("n", String(Number(entry?.value ?? 0) + 1), entry?.version)
          if (Option.isNone(written)) yield* increment(store)
        })
      yield* Effect.forEach(
        Array.from({ length: 40 }, (_, index) => stores[index % 2]),
        (store) => store === undefined ? Effect.void : increment(store),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(Option.getOrThrow(yield* (yield* SqliteStateStore.make(file)).get("n")).value, "40")
    }))

  it.live("waits for another process that has the file locked", () =>
    Effect.gen(function*() {
      const file = join(yield* folder, "state.sqlite")
      const store = yield* SqliteStateStore.make(file)
      const other = new DatabaseSync(file)
      other.exec("BEGIN IMMEDIATE")
      yield* Effect.forkChild(Effect.sync(() => other.exec("COMMIT")).pipe(Effect.delay("300 millis")))
      assert.isTrue(Option.isSome(yield* store.compareAndSet("a", "1", undefined)))
      other.close()
    }))

  for (
    const [what, content] of [
      ["text", Buffer.from("this is not a database at all, but it is long enough to be looked at ".repeat(20))],
      ["noise", Buffer.alloc(8192, 0x5a)]
    ] as const
  ) {
    it.live(`refuses a file of ${what}, leaves it alone and says that deleting it is safe`, () =>
      Effect.gen(function*() {
        const file = join(yield* folder, "state.sqlite")
        Fs.writeFileSync(file, content)
        const error = yield* refusal(file)
        assert.strictEqual(error.reason, "Misconfigured")
        assert.include(error.message, "corrupted")
        assert.include(error.message, file)
        assert.include(error.hint, "no data is lost")
        assert.deepStrictEqual(Fs.readFileSync(file), content)
      }))
  }

  it.live("refuses a damaged database", () =>
    Effect.gen(function*() {
      const file = join(yield* folder, "state.sqlite")
      yield* Effect.scoped(
        Effect.gen(function*() {
          const store = yield* SqliteStateStore.make(file)
          for (let n = 0; n < 200; n++) yield* store.compareAndSet(`key ${n}`, "x".repeat(500), undefined)
        })
      )
      const bytes = Fs.readFileSync(file)
      bytes.fill(0xff, 4096, 20_000)
      Fs.writeFileSync(file, bytes)
      const error = yield* refusal(file)
      assert.strictEqual(error.reason, "Misconfigured")
      assert.include(error.hint, "delete")
      assert.isFalse(isRetryable(error))
    }))

  it.live("refuses a database of a later layout", () =>
    Effect.gen(function*() {
      const file = join(yield* folder, "state.sqlite")
      const database = new DatabaseSync(file)
      database.exec("PRAGMA user_version = 99")
      database.close()
      assert.strictEqual((yield* refusal(file)).reason, "Misconfigured")
    }))

  it.live("refuses a path that is a folder, or that goes through a file", () =>
    Effect.gen(function*() {
      const path = yield* folder
      assert.strictEqual((yield* refusal(path)).reason, "Misconfigured")
      Fs.writeFileSync(join(path, "file"), "")
      const error = yield* refusal(join(path, "file", "state.sqlite"))
      assert.strictEqual(error.reason, "Misconfigured")
      assert.include(error.hint, "state.options.file")
    }))

  it.live("is the plugin's store, with its file relative to the configuration's folder", () =>
    Effect.gen(function*() {
      const directory = yield* folder
      const store = yield* plugin.make({ file: "./state.sqlite" }, { pipeline: "shop", directory })
      yield* store.compareAndSet("a", "1", undefined)
      assert.isTrue(Fs.existsSync(join(directory, "state.sqlite")))
      assert.strictEqual(plugin.kind, "state")
    }))
})
