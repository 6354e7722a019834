/**
 * The pipeline of the demo: its configuration file, as a user would write it, and the runner that runs it as a process of its own.
 */
import * as ChildProcess from "@etl-stream/testkit/ChildProcess"
import type { EmbeddedPostgres } from "@etl-stream/testkit/EmbeddedPostgres"
import type { Warehouse } from "@etl-stream/testkit/Warehouse"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { writeFileSync } from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"

export const name = "shop"
export const schema = "SHOP"

const configuration = (warehouse: Warehouse): string =>
  `apiVersion: 1
state: { plugin: "@etl-stream/state-sqlite", options: { file: ./state.sqlite } }
pipelines:
  ${name}:
    source:
      plugin: "@etl-stream/source-postgres"
      options:
        url: "\${env:SHOP_DATABASE_URL}"
        tables: ["public.*"]
        snapshot: { parallel: 2 }
    sink:
      plugin: "@etl-stream/sink-snowflake"
      options:
        account: ${warehouse.account}
        url: ${warehouse.url}
        user: ${warehouse.user}
        auth: { privateKeyFile: ${JSON.stringify(warehouse.privateKeyFile)} }
        role: ${warehouse.role}
        warehouse: ${warehouse.warehouse}
        database: ${warehouse.database}
        schema: ${schema}
        mode: mirror
        merge: { every: 2 seconds }
      batch: { every: 500 millis }
`

/** Writes the configuration file and returns its name. */
export const writeConfiguration = (folder: string, warehouse: Warehouse): string => {
  const file = path.join(folder, "shop.yaml")
  writeFileSync(file, configuration(warehouse))
  return file
}

/** The command line of the runner. */
const command = fileURLToPath(import.meta.resolve("@etl-stream/runner/main"))

export interface Options {
  readonly postgres: EmbeddedPostgres
  readonly file: string
  readonly logFile: string
  /** Whether the runner has the terminal, for its live view. */
  readonly onTerminal?: boolean
}

export const run = (
  options: Options
): Effect.Effect<ChildProcess.ChildProcess, ChildProcess.ChildProcessError, Scope.Scope> => {
  const onTerminal = options.onTerminal === true
  return ChildProcess.start({
    name: "the runner",
    command: process.execPath,
    args: [command, "run", options.file, ...onTerminal ? [] : ["--no-view", "--progress-every", "1 second"]],
    cwd: path.dirname(options.file),
    env: { SHOP_DATABASE_URL: options.postgres.url },
    output: onTerminal ? "terminal" : "kept",
    logFile: options.logFile,
    patience: onTerminal ? 15_000 : 0
  })
}
