/**
 * One cache of compiled modules for all processes of a run of the tests.
 *
 * Tests start the runner and the local Snowflake from their sources some hundred times, and a third of what a start costs is compiling
 * the same modules again. Node does it once when this names a folder for what it made of them. The folder goes with the run: sources
 * that tests copy or install elsewhere would fill a lasting one.
 */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"

/** Inherited by the test runner's workers, and by what they start. */
const variable = "NODE_COMPILE_CACHE"

/** Whoever runs the tests may have named a folder. */
export const setup = (): void => {
  if (process.env[variable] !== undefined) return
  const folder = mkdtempSync(path.join(tmpdir(), "etl-stream-compiled-"))
  process.env[variable] = folder
  process.once("exit", () => {
    try {
      rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
    } catch {
      // A process that is about to end may still write there: no reason for a run to fail.
    }
  })
}
