/**
 * Options of the source: what stands under `source.options` in a configuration.
 *
 * From this schema come the validation of configurations, completion in editors, `etl-stream plugin docs` and the reference pages: each option has a description, and a
 * default wherever there is a good one.
 */
import * as ConfigOption from "@etl-stream/core/ConfigOption"
import * as Schema from "effect/Schema"

export const Config = Schema.Struct({
  file: ConfigOption.Path.pipe(
    ConfigOption.withExamples("./notes.ndjson"),
    ConfigOption.describe("The file that is followed, relative to the configuration file's folder")
  ),
  every: ConfigOption.Period.pipe(
    ConfigOption.withDefault("1 second"),
    ConfigOption.describe("How often the file is looked at once everything in it has been read")
  )
})
export type Config = typeof Config.Type
