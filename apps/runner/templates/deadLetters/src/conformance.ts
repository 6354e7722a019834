/**
 * What `@etl-stream/testkit` has to know to try the store against its contract. `npm test` and `etl-stream plugin test` run it.
 *
 * It is in the published package, so that whoever installs the plugin can try it in their own surroundings; the testkit is theirs to install.
 */
import * as DeadLetterStoreConformance from "@etl-stream/testkit/DeadLetterStoreConformance"
import * as Effect from "effect/Effect"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { extname, join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { plugin } from "./index.ts"

const options = { file: "./letters.db", patience: "2 seconds" }

export const conformance = DeadLetterStoreConformance.make({
  plugin,
  prepare: Effect.gen(function*() {
    const directory = yield* Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "letters-"))),
      (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
    )
    let blocker: DatabaseSync | undefined
    yield* Effect.addFinalizer(() => Effect.sync(() => blocker?.close()))
    return {
      options,
      directory,
      limited: (limit: number) => ({ ...options, limit }),
      // The same lock that a stuck process would hold.
      gone: Effect.sync(() => {
        blocker = new DatabaseSync(join(directory, "letters.db"))
        blocker.exec("BEGIN EXCLUSIVE")
      })
    }
  }),
  // Other processes open the store, too: from the sources or from what was built of them, as this module.
  module: new URL(`index${extname(import.meta.url)}`, import.meta.url).href,
  patience: "20 seconds",
  valid: options,
  refused: [
    { what: "no file", options: {}, path: "file" },
    { what: "a limit of none", options: { file: "./letters.db", limit: 0 }, path: "limit" }
  ]
})
