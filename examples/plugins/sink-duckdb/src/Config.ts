/**
 * The options of the DuckDB sink.
 *
 * Decoding is pure: the file is opened when the sink is made. Every option has a description, from which `etl-stream plugin docs` and the editor's
 * completion are made.
 */
import { ByteSize } from "@etl-stream/core/ByteSize"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

const column = Schema.String.check(
  Schema.makeFilter((text) =>
    /^[^.]+(\.[^.]+)+$/.test(text) ? undefined : "must be schema.table.column, such as public.orders.amount"
  )
)

export const Config = Schema.Struct({
  file: Schema.NonEmptyString.annotate({
    description:
      "The DuckDB file, relative to the configuration file's folder; it is created when missing. DuckDB lets one process at a time write to a file",
    examples: ["./warehouse.duckdb"]
  }),
  schema: Schema.optionalKey(Schema.NonEmptyString).annotate({
    description: "Schema of all target tables; without it each goes to a schema named as at the source"
  }),
  text: Schema.Array(column).pipe(Schema.withDecodingDefaultKey(Effect.succeed([]))).annotate({
    description:
      "Columns (schema.table.column) that become VARCHAR: those of decimals with NaN, or whatever else DuckDB's own type can't hold",
    examples: [["public.orders.amount"]]
  }),
  dropColumn: Schema.Literals(["keep", "drop"]).pipe(Schema.withDecodingDefaultKey(Effect.succeed("keep" as const)))
    .annotate({
      description:
        "What becomes of a column that the source drops: it is kept with the values that it has (later rows have NULL there), or dropped"
    }),
  memory: ByteSize.pipe(Schema.withDecodingDefaultKey(Effect.succeed("512MiB"))).annotate({
    description: "Memory that DuckDB may use (memory_limit); what needs more goes to temporary files beside the file"
  }),
  threads: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 64 })).pipe(
    Schema.withDecodingDefaultKey(Effect.succeed(2))
  ).annotate({ description: "Threads that DuckDB may use" })
})
export type Config = typeof Config.Type
