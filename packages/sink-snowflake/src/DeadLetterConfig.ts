/**
 * The options of dead letters: where they are kept, and how many.
 */
import * as ConfigOption from "@etl-stream/core/ConfigOption"
import * as Schema from "effect/Schema"

export const DeadLetterFormat = Schema.Literals(["ndjson", "parquet"])
export type DeadLetterFormat = typeof DeadLetterFormat.Type

export const DeadLetterConfig = Schema.Struct({
  directory: Schema.optionalKey(ConfigOption.Path).annotate({
    description: "Directory of files, one per table; relative to the configuration file, and readable by its owner only"
  }),
  format: Schema.optionalKey(DeadLetterFormat).annotate({
    description:
      "What files are: ndjson (default), a file of JSON lines per table; or parquet, a folder of files per table. Files of the other format that are there still count"
  }),
  table: Schema.optionalKey(Schema.Boolean).annotate({
    description: "true: the table DEAD_LETTERS in the journal schema"
  }),
  limit: Schema.Int.check(Schema.isGreaterThan(0)).pipe(ConfigOption.withDefault(10_000)).annotate(
    {
      description: "Most letters of a table; one more stops the table, because more than single values is wrong then"
    }
  )
}).check(Schema.makeFilter(({ directory, format, table }) =>
  (directory !== undefined) === (table === true)
    ? `either a directory or table: true is needed, ${table === true ? "both are" : "neither is"} given`
    : format !== undefined && table === true
    ? "a format is of files in a directory, not of a table"
    : undefined
))
export type DeadLetterConfig = typeof DeadLetterConfig.Type
