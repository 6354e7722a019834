/**
 * The plugin: its name, options and how to make the store of them.
 */
import * as Plugin from "@etl-stream/core/Plugin"
import { resolve } from "node:path"
import { Config } from "./Config.ts"
import * as Store from "./Store.ts"

export { Config }

export const plugin = Plugin.deadLetters({
  name: Store.pluginName,
  version: "0.1.0",
  summary: "Keeps dead letters in a database of one file",
  stability: "experimental",
  description:
    "Letters are rows of a table `letters`, each with the whole change as JSON. Several processes of one machine may share the file, which only its owner may read.",
  examples: [{ title: "A file beside the configuration", options: { file: "./letters.db" } }],
  config: Config,
  make: (config, { directory }) => Store.make(resolve(directory, config.file), config)
})
