/**
 * The options of the NDJSON source. What is wrong with them is said when they are decoded, with the path of the option; nothing is opened for that.
 */
import { ByteSize } from "@etl-stream/core/ByteSize"
import * as LogicalTypeText from "@etl-stream/core/LogicalTypeText"
import { parseTableId } from "@etl-stream/core/TableSchema"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

/** Types without a JSON form of their own that would be clear. */
const unsupported = new Set(["Array", "Interval", "Other"])

const ColumnType = Schema.String.check(Schema.makeFilter((text) => {
  const type = LogicalTypeText.parse(text.replace(/\?$/, ""))
  if (type === undefined) {
    return "must be a type such as int64, decimal(12,2), text, timestamptz or json, with a ? at its end when it may be null"
  }
  return unsupported.has(type._tag) ? "must be another type: use json for arrays and text for the rest" : undefined
}))

const Pattern = Schema.String.check(
  Schema.makeFilter((text) =>
    /^[^*/\\]*\*[^*/\\]*$/.test(text)
      ? undefined
      : "must be a file name with one * in it, which stands for the file's number: orders-*.ndjson"
  )
)

const Table = Schema.Struct({
  files: Pattern.annotate({
    description:
      "Files that hold the table's lines, also with .gz at their end; the digits that * stands for are a file's number",
    examples: ["orders-*.ndjson"]
  }),
  columns: Schema.Record(Schema.NonEmptyString, ColumnType).annotate({
    description: "Fields of the lines and their types, each with a ? when it may be null or missing",
    examples: [{ id: "int64", total: "decimal(12,2)", note: "text?", at: "timestamptz" }]
  }),
  key: Schema.Array(Schema.String).pipe(Schema.withDecodingDefaultKey(Effect.succeed([]))).annotate({
    description: "Columns that identify a row; without them lines are only ever new rows"
  }),
  op: Schema.optionalKey(Schema.NonEmptyString).annotate({
    description:
      "Field that says what a line is: insert, update, delete or truncate; without this option each line is a new row"
  })
}).check(Schema.makeFilter(({ columns, key, op }) => {
  if (Object.keys(columns).length === 0) return "columns are needed"
  const unknown = key.find((name) => columns[name] === undefined)
  if (unknown !== undefined) return `key names ${unknown}, which isn't among columns`
  const nullable = key.find((name) => columns[name]?.endsWith("?") === true)
  if (nullable !== undefined) return `the column ${nullable} of the key must not be nullable`
  return op !== undefined && columns[op] !== undefined ? "op must be a field that isn't among columns" : undefined
}))

export const Config = Schema.Struct({
  directory: Schema.NonEmptyString.annotate({
    description: "Folder of the files, relative to the configuration file's folder",
    examples: ["./events"]
  }),
  tables: Schema.Record(
    Schema.String.check(
      Schema.makeFilter((text) => parseTableId(text) === undefined ? "must be schema.table" : undefined)
    ),
    Table
  ).check(Schema.makeFilter((tables) => Object.keys(tables).length === 0 ? "at least one table is needed" : undefined))
    .annotate({ description: "The tables, by their names (schema.table)" }),
  poll: Schema.DurationFromString.check(
    Schema.makeFilter((duration) => Duration.toMillis(duration) > 0 ? undefined : "must be longer than zero")
  ).pipe(Schema.withDecodingDefaultKey(Effect.succeed("1 second"))).annotate({
    description: "How often the folder is looked at when there was nothing new"
  }),
  maxLineBytes: ByteSize.pipe(Schema.withDecodingDefaultKey(Effect.succeed("16MiB"))).annotate({
    description: "A longer line is a bad one; as much memory may be needed for each line that is read"
  }),
  otherFields: Schema.Literals(["fail", "ignore"]).pipe(Schema.withDecodingDefaultKey(Effect.succeed("fail" as const)))
    .annotate({
      description:
        "What a line is that has fields which aren't among columns: a bad one, or one of which they are left out"
    }),
  removedFiles: Schema.Literals(["fail", "skip"]).pipe(Schema.withDecodingDefaultKey(Effect.succeed("fail" as const)))
    .annotate({
      description:
        "What happens when the file that was read last isn't there any more and newer ones are: the run fails, since lines may be missing, or it goes on with the newer ones (when files are only ever removed after they were read)"
    }),
  badLines: Schema.optionalKey(Schema.Struct({
    directory: Schema.NonEmptyString.annotate({
      description: "Folder that keeps bad lines, a file for each, relative to the configuration file's folder"
    }),
    atMost: Schema.Int.check(Schema.isGreaterThan(0)).pipe(Schema.withDecodingDefaultKey(Effect.succeed(100))).annotate(
      {
        description: "A table with more bad lines than this in one run stops"
      }
    )
  })).annotate({
    description:
      "Keeps bad lines in files and goes on, with a condition that says how many; without it a bad line stops its table"
  })
})
export type Config = typeof Config.Type
export type TableConfig = Config["tables"][string]
