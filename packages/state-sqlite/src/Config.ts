/**
 * Options of the SQLite state store.
 */
import * as Schema from "effect/Schema"

export const Config = Schema.Struct({
  file: Schema.NonEmptyString.annotate({
    description: "The database file, relative to the configuration file's folder; it is created when missing",
    examples: ["./state.sqlite"]
  })
})
export type Config = typeof Config.Type
