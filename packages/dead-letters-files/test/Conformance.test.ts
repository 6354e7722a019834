import { plugin } from "@etl-stream/dead-letters-files"
import * as Conformance from "@etl-stream/testkit/Conformance"
import * as DeadLetterStoreConformance from "@etl-stream/testkit/DeadLetterStoreConformance"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { describe, it } from "vitest"

const folder = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(join(tmpdir(), "dead-letters-files-"))),
  (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true, force: true }))
)

export const conformance = DeadLetterStoreConformance.make({
  plugin,
  prepare: Effect.map(folder, (directory) => ({
    options: { directory: "./letters" },
    directory,
    limited: (limit: number) => ({ directory: "./letters", limit }),
    gone: Effect.sync(() => {
      // What was a folder is a file now: no name below it leads anywhere.
      Fs.rmSync(join(directory, "letters"), { recursive: true })
      Fs.writeFileSync(join(directory, "letters"), "")
    })
  })),
  module: import.meta.resolve("@etl-stream/dead-letters-files"),
  valid: { directory: "./letters" },
  refused: [
    { what: "options without a directory", options: {}, path: "directory" },
    { what: "a limit of none", options: { directory: "./letters", limit: 0 }, path: "limit" }
  ]
})

// A case that the subject says it can't do (`cannot`) is reported as skipped, with the reason in its name, instead of passing silently.
Conformance.register(conformance, { describe, it: (name, run) => it(`${name}`, run, 120_000), skip: it.skip })
