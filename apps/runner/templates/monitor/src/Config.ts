/**
 * Options of the monitor: what stands under its `options` in a configuration.
 *
 * From this schema come the validation of configurations, completion in editors, `etl-stream plugin docs` and the reference pages: each option has a description, and a
 * default wherever there is a good one.
 */
import { ByteSize } from "@etl-stream/core/ByteSize"
import * as ConfigOption from "@etl-stream/core/ConfigOption"
import * as Schema from "effect/Schema"

export const Config = Schema.Struct({
  directory: ConfigOption.Path.pipe(
    ConfigOption.withExamples("./spool"),
    ConfigOption.describe("The folder that is watched, relative to the configuration file's folder")
  ),
  limit: ByteSize.pipe(
    ConfigOption.withExamples("10GiB"),
    ConfigOption.describe("How large the files in it may be together before that is told")
  ),
  every: ConfigOption.Period.pipe(
    ConfigOption.withDefault("10 seconds"),
    ConfigOption.describe("How often it is looked at")
  ),
  pauseCopies: Schema.Boolean.pipe(
    ConfigOption.withDefault(true),
    ConfigOption.describe("Whether copies of tables are held up as long as it is too large; changes go on either way")
  )
})
export type Config = typeof Config.Type
