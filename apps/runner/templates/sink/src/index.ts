/**
 * The plugin: its name, options and how to make the sink of them.
 */
import * as Plugin from "@etl-stream/core/Plugin"
import { resolve } from "node:path"
import { Config } from "./Config.ts"
import * as Sink from "./Sink.ts"

export { Config }

export const plugin = Plugin.sink({
  name: Sink.pluginName,
  version: "0.1.0",
  summary: "Keeps tables in a file of SQLite in step with their source",
  stability: "experimental",
  description:
    "Each table of the source is a table of the file, called `schema.table`. Rows and how far the table is are written in one transaction.",
  examples: [{ title: "A file beside the configuration", options: { file: "./warehouse.db" } }],
  config: Config,
  make: Sink.make,
  // Pipelines that write to the same file wait for each other's end; all others don't.
  claims: ({ file }, { directory }) => [`${Sink.pluginName}/${resolve(directory, file)}`]
})
