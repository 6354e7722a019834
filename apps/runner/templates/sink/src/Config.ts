/**
 * Options of the sink: what stands under `sink.options` in a configuration.
 *
 * From this schema come the validation of configurations, completion in editors, `etl-stream plugin docs` and the reference pages: each option has a description, and a
 * default wherever there is a good one.
 */
import * as ConfigOption from "@etl-stream/core/ConfigOption"
import * as Schema from "effect/Schema"

export const Config = Schema.Struct({
  file: ConfigOption.Path.pipe(
    ConfigOption.withExamples("./warehouse.db"),
    ConfigOption.describe("The database file, relative to the configuration file's folder; it is created when missing")
  )
})
export type Config = typeof Config.Type
