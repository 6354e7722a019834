/**
 * The plugin: its name, options and how to make the source of them.
 */
import * as Plugin from "@etl-stream/core/Plugin"
import * as Effect from "effect/Effect"
import { Config } from "./Config.ts"
import * as Source from "./Source.ts"

export { Config }

export const plugin = Plugin.source({
  name: Source.pluginName,
  version: "0.1.0",
  summary: "Follows a file to which changes are appended, one JSON object a line",
  stability: "experimental",
  description:
    "Lines are `{\"insert\": {\"id\": 1, \"note\": \"…\"}}`, the same with `update`, and `{\"remove\": {\"id\": 1}}`. They are changes of the table `files.notes`, whose key is `id`.",
  examples: [{ title: "A file beside the configuration", options: { file: "./notes.ndjson" } }],
  config: Config,
  make: (config, { directory }) => Effect.succeed(Source.make(config, directory))
})
