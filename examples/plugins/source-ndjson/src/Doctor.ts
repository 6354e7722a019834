/**
 * What `etl-stream doctor` looks at: the folder, and whether its files have one order.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Finding from "@etl-stream/core/Finding"
import type { PluginContext } from "@etl-stream/core/Plugin"
import * as Effect from "effect/Effect"
import { resolve } from "node:path"
import type { Config } from "./Config.ts"
import * as Failure from "./Failure.ts"
import * as LogFiles from "./LogFiles.ts"

export const check = (
  config: Config,
  { directory }: PluginContext
): Effect.Effect<ReadonlyArray<Finding.Finding>, ConnectorError> =>
  Effect.tryPromise({
    try: () => LogFiles.list(resolve(directory, config.directory), LogFiles.matchers(config)),
    catch: (cause) => Failure.fromFileSystem(config.directory, cause)
  }).pipe(
    Effect.map((files) => {
      const ok: Finding.Finding = {
        check: "ndjson-files",
        severity: "ok",
        message: "the files can be read and have one order",
        remedy: "",
        sql: []
      }
      const without = Object.keys(config.tables).filter((id) => !files.some(({ table }) => table === id))
      return without.length === 0 ? [ok] : without.map((table): Finding.Finding => ({
        check: "ndjson-files",
        ...Finding.warning(
          `No file matches the pattern of ${table}`,
          "Check the option files of the table, unless its files are still to come.",
          { table }
        )
      }))
    }),
    Effect.catch((error) =>
      error.reason === "Unreachable" ? Effect.fail(error) : Effect.succeed([
        { check: "ndjson-files", ...Finding.critical(error.reason, error.message, error.hint) }
      ])
    )
  )
