/**
 * Options of the dead-letter store in files.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

export const Config = Schema.Struct({
  directory: Schema.NonEmptyString.annotate({
    description:
      "Folder of the files, relative to the configuration file: a folder per pipeline, a file of JSON lines per table, readable by its owner only",
    examples: ["./dead-letters"]
  }),
  limit: Schema.Int.check(Schema.isGreaterThan(0)).pipe(Schema.withDecodingDefaultKey(Effect.succeed(10_000))).annotate(
    {
      description:
        "Most letters of a table (default: 10000); one more stops the table, because more than single values is wrong then"
    }
  )
})
export type Config = typeof Config.Type
