/**
 * What `@etl-stream/testkit` has to know to try the store against its contract. `npm test` and `etl-stream plugin test` run it.
 *
 * It is in the published package, so that whoever installs the plugin can try it in their own surroundings; the testkit is theirs to install.
 */
import * as StateStoreConformance from "@etl-stream/testkit/StateStoreConformance"
import * as Effect from "effect/Effect"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { plugin } from "./index.ts"

export const conformance = StateStoreConformance.make({
  plugin,
  prepare: Effect.gen(function*() {
    const directory = yield* Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "state-"))),
      (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
    )
    // The same lock that a stuck process would hold.
    let blocker: DatabaseSync | undefined
    return {
      options: { file: "./state.db", patience: "1 second" },
      directory,
      gone: Effect.sync(() => {
        blocker = new DatabaseSync(join(directory, "state.db"))
        blocker.exec("BEGIN EXCLUSIVE")
      }),
      back: Effect.sync(() => blocker?.close())
    }
  }),
  patience: "5 seconds",
  valid: { file: "./state.db" },
  refused: [
    { what: "no file", options: {}, path: "file" },
    { what: "a patience that is no duration", options: { file: "./state.db", patience: "long" }, path: "patience" }
  ]
})
