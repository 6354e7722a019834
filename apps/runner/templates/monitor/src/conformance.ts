/**
 * What `@etl-stream/testkit` has to know to try the monitor against its contract. `npm test` and `etl-stream plugin test` run it.
 *
 * It is in the published package, so that whoever installs the plugin can try it in their own surroundings; the testkit is theirs to install.
 */
import * as MonitorConformance from "@etl-stream/testkit/MonitorConformance"
import * as Effect from "effect/Effect"
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { plugin } from "./index.ts"

export const conformance = MonitorConformance.make({
  plugin,
  prepare: Effect.gen(function*() {
    const directory = yield* Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "monitor-"))),
      (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
    )
    const [watched, elsewhere] = [join(directory, "watched"), join(directory, "elsewhere")]
    mkdirSync(watched)
    return {
      options: { directory: "./watched", limit: "1KiB", every: "20 millis" },
      directory,
      worsen: Effect.sync(() => writeFileSync(join(watched, "large"), "x".repeat(2000))),
      mend: Effect.sync(() => rmSync(join(watched, "large"))),
      gone: Effect.sync(() => renameSync(watched, elsewhere)),
      back: Effect.sync(() => renameSync(elsewhere, watched))
    }
  }),
  raises: "folder-large",
  asks: ["pauseCopies"],
  patience: "5 seconds",
  valid: { directory: "./spool", limit: "10GiB" },
  refused: [
    { what: "no folder", options: { limit: "10GiB" }, path: "directory" },
    { what: "a limit that is no size", options: { directory: "./spool", limit: "large" }, path: "limit" },
    { what: "a period that is none", options: { directory: "./spool", limit: "10GiB", every: "often" }, path: "every" }
  ]
})
