/**
 * Options of the dead-letter store in files.
 */
import * as ConfigOption from "@etl-stream/core/ConfigOption"
import * as Schema from "effect/Schema"

export const Config = Schema.Struct({
  directory: ConfigOption.Path.annotate({
    description:
      "Folder of the files, relative to the configuration file: a folder per pipeline, a file of JSON lines per table, readable by its owner only",
    examples: ["./dead-letters"]
  }),
  limit: Schema.Int.check(Schema.isGreaterThan(0)).pipe(ConfigOption.withDefault(10_000)).annotate(
    {
      description: "Most letters of a table; one more stops the table, because more than single values is wrong then"
    }
  )
})
export type Config = typeof Config.Type
