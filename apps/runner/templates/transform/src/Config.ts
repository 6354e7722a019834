/**
 * Options of the transform: what stands under its `options` in a configuration.
 *
 * From this schema come the validation of configurations, completion in editors, `etl-stream plugin docs` and the reference pages: each option has a description, and a
 * default wherever there is a good one.
 */
import * as ConfigOption from "@etl-stream/core/ConfigOption"
import * as Schema from "effect/Schema"

export const Config = Schema.Struct({
  column: Schema.NonEmptyString.pipe(
    ConfigOption.withExamples("email"),
    ConfigOption.describe("The column of text that has the address")
  ),
  into: Schema.NonEmptyString.pipe(
    ConfigOption.withDefault("email_domain"),
    ConfigOption.describe("The column that gets its domain; it is added, or takes the place of one that is there")
  )
})
export type Config = typeof Config.Type
