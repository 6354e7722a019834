import { SqliteStateStore } from "@etl-stream/state-sqlite"
import { suite } from "@etl-stream/testkit/StateStoreConformance"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

suite(
  "@etl-stream/state-sqlite",
  Effect.acquireRelease(
    Effect.sync(() => Fs.mkdtempSync(join(tmpdir(), "state-sqlite-"))),
    (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true, force: true }))
  ).pipe(Effect.map((path) => SqliteStateStore.make(join(path, "state.sqlite"))))
)
