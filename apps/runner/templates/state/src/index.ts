/**
 * The plugin: its name, options and how to make the store of them.
 */
import * as Plugin from "@etl-stream/core/Plugin"
import { resolve } from "node:path"
import { Config } from "./Config.ts"
import * as Store from "./Store.ts"

export { Config }

export const plugin = Plugin.state({
  name: Store.pluginName,
  version: "0.1.0",
  summary: "Keeps state in a database of one file",
  stability: "experimental",
  description:
    "Documents are rows of a table `state`, each with the version that its last change gave it. Several processes of one machine may share the file.",
  examples: [{ title: "A file beside the configuration", options: { file: "./state.db" } }],
  config: Config,
  make: (config, { directory }) => Store.make(resolve(directory, config.file), config)
})
