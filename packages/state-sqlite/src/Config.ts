/**
 * Options of the SQLite state store.
 */
import * as ConfigOption from "@etl-stream/core/ConfigOption"
import * as Schema from "effect/Schema"

export const Config = Schema.Struct({
  file: ConfigOption.Path.annotate({
    description: "The database file, relative to the configuration file's folder; it is created when missing",
    examples: ["./state.sqlite"]
  })
})
export type Config = typeof Config.Type
