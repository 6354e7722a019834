/**
 * Options of the dead-letter store: what stands under `deadLetters.options` in a configuration.
 *
 * From this schema come the validation of configurations, completion in editors, `etl-stream plugin docs` and the reference pages: each option has a description, and a
 * default wherever there is a good one.
 */
import * as ConfigOption from "@etl-stream/core/ConfigOption"
import * as Schema from "effect/Schema"

export const Config = Schema.Struct({
  file: ConfigOption.Path.pipe(
    ConfigOption.withExamples("./letters.db"),
    ConfigOption.describe("The database file, relative to the configuration file's folder; it is created when missing")
  ),
  limit: Schema.Int.check(Schema.isGreaterThan(0)).pipe(
    ConfigOption.withDefault(10_000),
    ConfigOption.describe(
      "Most letters of a table: one more stops it, as something is wrong with more than single values"
    )
  ),
  patience: ConfigOption.Period.pipe(
    ConfigOption.withDefault("10 seconds"),
    ConfigOption.describe("How long an operation waits while another process has the file locked")
  )
})
export type Config = typeof Config.Type
