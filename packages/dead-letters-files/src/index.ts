/**
 * Dead-letter store of etl-stream in local files: the plugin `@etl-stream/dead-letters-files`.
 */
import * as DeadLetterFiles from "@etl-stream/core/DeadLetterFiles"
import * as Plugin from "@etl-stream/core/Plugin"
import * as Effect from "effect/Effect"
import { resolve } from "node:path"
import { Config } from "./Config.ts"

export { Config }

const name = "@etl-stream/dead-letters-files"

export const plugin = Plugin.deadLetters({
  name,
  version: "0.1.0",
  summary: "Keeps dead letters in local files, a JSON line per letter",
  stability: "beta",
  description:
    "A folder per pipeline, in it a file per table that is only ever appended to. A letter is on the disk when its row may go on, and a crash in the midst of a line spoils no other. " +
    "Files hold values of rows and are readable by their owner only.",
  examples: [{ title: "A folder beside the configuration file", options: { directory: "./dead-letters" } }],
  config: Config,
  make: ({ directory, limit }, context) =>
    Effect.sync(() => DeadLetterFiles.make({ directory: resolve(context.directory, directory), limit, plugin: name }))
})
