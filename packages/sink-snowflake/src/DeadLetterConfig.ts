/**
 * The options of dead letters: where they are kept, and how many.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

export const DeadLetterConfig = Schema.Struct({
  directory: Schema.optionalKey(Schema.NonEmptyString).annotate({
    description: "Directory of files, one per table; relative to the configuration file, and readable by its owner only"
  }),
  table: Schema.optionalKey(Schema.Boolean).annotate({
    description: "true: the table DEAD_LETTERS in the journal schema"
  }),
  limit: Schema.Int.check(Schema.isGreaterThan(0)).pipe(Schema.withDecodingDefaultKey(Effect.succeed(10_000))).annotate(
    {
      description: "Most letters of a table; one more stops the table, because more than single values is wrong then"
    }
  )
}).check(Schema.makeFilter(({ directory, table }) =>
  (directory !== undefined) === (table === true)
    ? `either a directory or table: true is needed, ${table === true ? "both are" : "neither is"} given`
    : undefined
))
export type DeadLetterConfig = typeof DeadLetterConfig.Type
