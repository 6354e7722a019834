/**
 * The plugin: its name, options and how to make the monitor of them.
 */
import * as Plugin from "@etl-stream/core/Plugin"
import * as Effect from "effect/Effect"
import { resolve } from "node:path"
import { Config } from "./Config.ts"
import * as Monitor from "./Monitor.ts"

export { Config }

export const plugin = Plugin.monitor({
  name: Monitor.pluginName,
  version: "0.1.0",
  summary: "Tells when a folder becomes too large, and has copies of tables wait meanwhile",
  stability: "experimental",
  description:
    "Raises the conditions `folder-large`, as long as the files in the folder are larger together than `limit`, and `folder-unreadable`, while it can't be looked at.",
  examples: [{ title: "A folder that may have 10 GiB", options: { directory: "./spool", limit: "10GiB" } }],
  config: Config,
  make: (config, { directory }) => Effect.succeed(Monitor.make(resolve(directory, config.directory), config))
})
