import { plugin } from "@etl-stream/state-sqlite"
import * as Conformance from "@etl-stream/testkit/Conformance"
import * as StateStoreConformance from "@etl-stream/testkit/StateStoreConformance"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { describe, it } from "vitest"

const folder = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(join(tmpdir(), "state-sqlite-"))),
  (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true, force: true }))
)

/** Somebody who has the file locked for writing. */
const locking = (file: string) => {
  let database: DatabaseSync | undefined
  return {
    lock: Effect.sync(() => {
      database = new DatabaseSync(file)
      database.exec("BEGIN EXCLUSIVE")
    }),
    unlock: Effect.sync(() => {
      database?.close()
      database = undefined
    })
  }
}

export const conformance = StateStoreConformance.make({
  plugin,
  prepare: Effect.gen(function*() {
    const directory = yield* folder
    const { lock, unlock } = locking(join(directory, "state.sqlite"))
    yield* Effect.addFinalizer(() => unlock)
    return { options: { file: "./state.sqlite" }, directory, gone: lock, back: unlock }
  }),
  patience: "15 seconds",
  valid: { file: "./state.sqlite" },
  refused: [
    { what: "a file without a name", options: { file: "" }, path: "file" },
    { what: "options without a file", options: {}, path: "file" }
  ]
})

// A case that the subject says it can't do (`cannot`) is reported as skipped, with the reason in its name, instead of passing silently.
Conformance.register(conformance, { describe, it: (name, run) => it(`${name}`, run, 120_000), skip: it.skip })
