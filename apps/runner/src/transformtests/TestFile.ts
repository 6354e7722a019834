/**
 * The file of `etl-stream test`: tables as they come to a pipeline's transforms, changes of them, and what is to come of these.
 *
 * Values are written as the types of their columns suggest: integers and decimals as numbers or text, dates and times as ISO 8601, binary as `\x` and
 * hexadecimal digits, JSON as YAML. See `docs/transform-tests.md`.
 */
import * as LogicalTypeText from "@etl-stream/core/LogicalTypeText"
import * as TableSchema from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

/** A table's name as text: `schema.name`. */
const TableText = Schema.String.check(
  Schema.makeFilter((text) => TableSchema.parseTableId(text) !== undefined, {
    expected: "a table, such as `public.orders`; parts with dots in double quotes"
  })
)

/** A type, and `not null` behind it when it is not to be null. */
const ColumnText = Schema.String.check(
  Schema.makeFilter((text) => LogicalTypeText.parse(text.replace(/\s+not null$/, "")) !== undefined, {
    expected: `a type, with \`not null\` behind it or not: ${
      LogicalTypeText.names.join(", ")
    }, decimal(12,2), text(80), int32[]`
  })
)

const Columns = Schema.Record(Schema.String, ColumnText)

const Row = Schema.Record(Schema.String, Schema.Json)

const noColumns: ReadonlyArray<string> = []

/** `unsent`: columns that the source did not send, because they are unchanged. */
const Unsent = Schema.Array(Schema.String).pipe(Schema.withDecodingDefaultKey(Effect.succeed(noColumns))).annotateKey({
  description:
    "Columns that were not sent, being unchanged (large values of PostgreSQL): they are neither null nor in the row"
})

/** One change. A change of the key comes as two: the row as it was, then as it is. */
export const Change = Schema.Union([
  Schema.Struct({ read: Row, unsent: Unsent }),
  Schema.Struct({ insert: Row, unsent: Unsent }),
  Schema.Struct({ update: Row, unsent: Unsent }),
  Schema.Struct({ delete: Row, unsent: Unsent }),
  Schema.Struct({ keyChangeOld: Row, unsent: Unsent }),
  Schema.Struct({ keyChangeNew: Row, unsent: Unsent })
])
export type Change = typeof Change.Type

const Given = Schema.Struct({
  table: TableText.annotateKey({ description: "The table as it comes to the first transform: `public.orders`" }),
  columns: Columns.annotateKey({ description: "Its columns in order, each with its type: `id: int64 not null`" }),
  key: Schema.Array(Schema.String).pipe(Schema.withDecodingDefaultKey(Effect.succeed(noColumns))).annotateKey({
    description: "Columns of its key; without any, rows are identified as a whole (REPLICA IDENTITY FULL)"
  }),
  changes: Schema.Array(Change).annotateKey({ description: "What comes, in order" })
})
export type Given = typeof Given.Type

const Expected = Schema.Struct({
  leftOut: Schema.optionalKey(Schema.Literal(true)).annotateKey({ description: "The table is left out as a whole" }),
  error: Schema.optionalKey(Schema.NonEmptyString).annotateKey({
    description: "The transforms refuse the table or its changes with an error whose message holds this text"
  }),
  table: Schema.optionalKey(TableText).annotateKey({ description: "The name that the table has in the end" }),
  columns: Schema.optionalKey(Columns).annotateKey({ description: "All columns that it has in the end, in order" }),
  key: Schema.optionalKey(Schema.Array(Schema.String)).annotateKey({ description: "Columns of its key in the end" }),
  changes: Schema.optionalKey(Schema.Array(Change)).annotateKey({
    description: "All changes in the end, in order, each with all columns but those that were not sent"
  })
}).check(
  Schema.makeFilter(({ changes, columns, error, key, leftOut, table }) => {
    const about = [columns, key, table, changes].filter((part) => part !== undefined).length
    return (error === undefined ? 0 : 1) + (leftOut === undefined ? 0 : 1) + (about > 0 ? 1 : 0) === 1
      ? undefined
      : "either `leftOut`, or `error`, or any of `table`, `columns`, `key` and `changes`"
  })
)
export type Expected = typeof Expected.Type

export const Test = Schema.Struct({
  name: Schema.NonEmptyString.annotateKey({ description: "What is to be so, in a sentence" }),
  pipeline: Schema.optionalKey(Schema.NonEmptyString).annotateKey({
    description: "Whose transforms; needed when the configuration has several pipelines"
  }),
  given: Given.annotateKey({ description: "What comes to the transforms" }),
  expect: Expected.annotateKey({ description: "What is to come of it" })
})
export type Test = typeof Test.Type

const noEnvironment: Readonly<Record<string, string>> = {}

export const TestFile = Schema.Struct({
  apiVersion: Schema.Literal(1).annotateKey({ description: "Version of this file's format: 1" }),
  configuration: Schema.optionalKey(Schema.NonEmptyString).annotateKey({
    description: "The configuration file, relative to this one; default: `shop.yaml` of `shop.test.yaml`"
  }),
  environment: Schema.Record(Schema.String, Schema.String).pipe(
    Schema.withDecodingDefaultKey(Effect.succeed(noEnvironment))
  ).annotateKey({
    description:
      "What `${env:NAME}` stands for in the transforms' options; names that are not here are taken from the real environment"
  }),
  tests: Schema.NonEmptyArray(Test).annotateKey({ description: "The tests" })
})
export type TestFile = typeof TestFile.Type
