/**
 * State store of etl-stream in one local SQLite file: the plugin `@etl-stream/state-sqlite`.
 */
import * as Plugin from "@etl-stream/core/Plugin"
import { resolve } from "node:path"
import { Config } from "./Config.ts"
import * as SqliteStateStore from "./SqliteStateStore.ts"

export { Config, SqliteStateStore }

export const plugin = Plugin.state({
  name: SqliteStateStore.pluginName,
  version: "0.1.0",
  summary: "Keeps state in one local SQLite file",
  examples: [{ title: "Beside the configuration", options: { file: "./.etl-stream/state.sqlite" } }],
  config: Config,
  make: (config, context) => SqliteStateStore.make(resolve(context.directory, config.file))
})
