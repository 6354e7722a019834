/**
 * A source for etl-stream that follows NDJSON files: the plugin `etl-stream-source-ndjson`.
 */
import * as Plugin from "@etl-stream/core/Plugin"
import * as Effect from "effect/Effect"
import { resolve } from "node:path"
import { Config } from "./Config.ts"
import * as Doctor from "./Doctor.ts"
import { pluginName } from "./Failure.ts"
import * as Line from "./Line.ts"
import * as NdjsonSource from "./NdjsonSource.ts"

export { Config }

export const plugin = Plugin.source({
  name: pluginName,
  version: "0.1.0",
  summary: "Follows NDJSON files of a folder, exactly once",
  stability: "experimental",
  description:
    "The files of a folder, in the order of the numbers in their names, are one log that is only appended to: each line is a row, or, with `op`, a change of one. " +
    "Tables are told apart by the files' names. A line's identity is its place (the file's number and the offset of its end), so whatever crashes, each line comes once. " +
    "Files may be compressed with gzip when a newer one exists.",
  examples: [
    {
      title: "Lines that are new rows",
      options: {
        directory: "./events",
        tables: {
          "app.events": { files: "events-*.ndjson", columns: { id: "int64", at: "timestamptz", data: "json?" } }
        }
      }
    },
    {
      title: "Lines that are changes; bad ones are kept aside",
      options: {
        directory: "./changes",
        tables: {
          "shop.orders": {
            files: "orders-*.ndjson",
            columns: { id: "int64", total: "decimal(12,2)", note: "text?" },
            key: ["id"],
            op: "op"
          }
        },
        badLines: { directory: "./bad-lines" }
      }
    }
  ],
  config: Config,
  make: (config, context) => Effect.succeed(NdjsonSource.make(config, context)),
  check: Doctor.check,
  // Reading a folder disturbs nobody: but two pipelines that write the same tables do, which is for their sinks to see.
  claims: (config, { directory }) =>
    Object.keys(config.tables).map((id) => `ndjson:${resolve(directory, config.directory)}:${id}`),
  tables: (config) => Effect.succeed(Object.entries(config.tables).map(([id, table]) => Line.tableOf(id, table).schema))
})
