/**
 * What `etl-stream doctor` looks at: whether the file can be opened, and whether what is in it is ours.
 *
 * A check changes nothing, so a file that is missing isn't made, and one that is there is opened to be read only.
 */
import { DuckDBInstance } from "@duckdb/node-api"
import * as Finding from "@etl-stream/core/Finding"
import type { PluginContext } from "@etl-stream/core/Plugin"
import * as Effect from "effect/Effect"
import { accessSync, constants, existsSync, statSync } from "node:fs"
import { dirname, resolve } from "node:path"
import type { Config } from "./Config.ts"

const ok = (check: string, message: string): Finding.Finding => ({
  check,
  severity: "ok",
  message,
  remedy: "",
  sql: []
})

const isWritable = (path: string): boolean => {
  try {
    accessSync(path, constants.W_OK)
    return true
  } catch {
    return false
  }
}

export const check = (config: Config, { directory }: PluginContext): Effect.Effect<ReadonlyArray<Finding.Finding>> =>
  Effect.promise(async () => {
    const file = resolve(directory, config.file)
    const folder = dirname(file)
    if (!existsSync(folder) || !statSync(folder).isDirectory()) {
      return [{
        check: "duckdb-folder",
        ...Finding.critical(
          "Missing",
          `The folder ${folder} of the DuckDB file doesn't exist`,
          `Make it: mkdir -p ${folder}`
        )
      }]
    }
    if (!isWritable(existsSync(file) ? file : folder)) {
      return [{
        check: "duckdb-folder",
        ...Finding.critical(
          "Forbidden",
          `The DuckDB file ${file} can't be written`,
          "Give the runner's user the right to write it."
        )
      }]
    }
    const findings = [ok("duckdb-folder", "the DuckDB file can be written")]
    if (!existsSync(file)) return [...findings, ok("duckdb-file", "the DuckDB file will be created")]
    try {
      const instance = await DuckDBInstance.create(file, { access_mode: "READ_ONLY" })
      instance.closeSync()
      return [...findings, ok("duckdb-file", "the DuckDB file can be opened")]
    } catch (cause) {
      // DuckDB's message about a file has its path, nothing of its rows.
      const isLocked = cause instanceof Error && /lock/i.test(cause.message)
      return [...findings, {
        check: "duckdb-file",
        ...(isLocked
          ? Finding.warning(
            `The DuckDB file ${file} is in use by another process`,
            "If that isn't this pipeline's own runner, end it: DuckDB lets one process at a time write to a file."
          )
          : Finding.critical(
            "Misconfigured",
            `The DuckDB file ${file} can't be opened`,
            "It is no DuckDB file, or one of a newer version: name another one."
          ))
      }]
    }
  })
