/**
 * The transform `enrich`: columns looked up in a table of the user's by the value of a column.
 *
 * What is looked up is what the table says when a row passes; rows that have passed aren't looked up again. So after a change of the table, the target's rows follow with
 * their next change. Where the looked-up column isn't sent, nothing is looked up, and the new columns aren't sent either.
 */
import * as ByteSize from "@etl-stream/core/ByteSize"
import type { ChangeBatch } from "@etl-stream/core/ChangeBatch"
import * as ConfigOption from "@etl-stream/core/ConfigOption"
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Plugin from "@etl-stream/core/Plugin"
import type { ColumnSchema, TableSchema } from "@etl-stream/core/TableSchema"
import type { Transform } from "@etl-stream/core/Transform"
import type * as Arrow from "apache-arrow"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { resolve } from "node:path"
import * as Cells from "./Cells.ts"
import * as CellValue from "./CellValue.ts"
import * as ColumnPattern from "./ColumnPattern.ts"
import { failure } from "./Failure.ts"
import * as JsonText from "./JsonText.ts"
import * as LookupTable from "./LookupTable.ts"
import * as TablePlan from "./TablePlan.ts"
import { nameOf, TypeName, typeOf } from "./TypeName.ts"

export const pluginName = "@etl-stream/transforms:enrich"

const Column = Schema.Struct({
  field: Schema.optionalKey(Schema.NonEmptyString).annotateKey({
    description: "The field of the lookup table. Default: the column's name"
  }),
  type: TypeName.annotateKey({ description: "The column's type (see the transform cast)" })
})

const Scalar = Schema.Union([Schema.String, Schema.Finite, Schema.Boolean, Schema.Null])

export const Config = Schema.Struct({
  column: ColumnPattern.ColumnName.annotateKey({ description: "The column whose value is looked up" }),
  key: Schema.NonEmptyString.annotateKey({
    description: "The field of the lookup table that it is compared with, as text. Each entry has another key"
  }),
  columns: Schema.Record(ColumnPattern.ColumnName, Column).annotateKey({
    description: "The new columns by their names"
  }),
  file: Schema.optionalKey(Schema.NonEmptyString).annotateKey({
    description: "The lookup table as a file: CSV with a header, NDJSON, or JSON (a list of objects)"
  }),
  format: Schema.optionalKey(Schema.Literals(["csv", "ndjson", "json"])).annotateKey({
    description: "The file's format. Default: by its ending"
  }),
  reload: Schema.DurationFromString.pipe(
    ConfigOption.withDefault("5 seconds")
  ).annotateKey({
    description:
      "How often the file is looked at for changes. A file that can't be read any more leaves what was read before"
  }),
  maxSize: ByteSize.ByteSize.pipe(ConfigOption.withDefault("64MiB")).annotateKey({
    description: "Largest size of the file, which is kept in memory"
  }),
  table: Schema.optionalKey(Schema.NonEmptyArray(Schema.Record(Schema.String, Scalar))).annotateKey({
    description: "The lookup table itself, as a list of mappings"
  }),
  missing: Schema.Literals(["null", "fail"]).pipe(ConfigOption.withDefault("null"))
    .annotateKey({
      description:
        "What becomes of a value that isn't in the table: its new columns are NULL, or the table is set aside"
    })
}).check(
  Schema.makeFilter(
    ({ file, table }: { readonly file?: unknown; readonly table?: unknown }) =>
      (file === undefined) !== (table === undefined),
    { expected: "exactly one of file and table" }
  )
)
export type Config = typeof Config.Type

interface Made {
  readonly column: ColumnSchema
  readonly field: string
}

const lookUp = (
  table: TableSchema,
  source: ColumnSchema,
  made: ReadonlyArray<Made>,
  config: Config,
  data: Arrow.Data,
  rows: number,
  entries: LookupTable.Entries
): ReadonlyArray<Arrow.Data> => {
  const read = CellValue.textReader(source.type, data)
  const writers = made.map(({ column }) => CellValue.writer(column.type))
  for (let row = 0; row < rows; row++) {
    const isNull = Cells.isNull(data, row)
    const entry = isNull ? undefined : entries.get(read(row))
    if (!isNull && entry === undefined && config.missing === "fail") {
      throw failure(
        pluginName,
        table.table,
        `The column ${source.name} has a value that isn't in the lookup table`,
        "Add it there, or set missing to null. Then have the table copied again."
      )
    }
    for (const [index, { column, field }] of made.entries()) {
      const writer = writers[index] as CellValue.Writer // one per new column
      const found = entry !== undefined && Object.hasOwn(entry, field) ? entry[field] : undefined
      // An empty field of a CSV file is none.
      if (found === undefined || found === null || (found === "" && column.type._tag !== "Text")) {
        writer.builder.appendNull()
        continue
      }
      const value = JsonText.cell(found, column.type._tag === "Json" && typeof found !== "string")
      if (value !== undefined && writer.append(value)) continue
      throw failure(
        pluginName,
        table.table,
        `The lookup table has a value in the field ${field} that ${nameOf(column.type)} can't hold exactly`,
        "Correct the lookup table, or the type of the column. Then have the table copied again."
      )
    }
  }
  return writers.map(({ builder }) => builder.finish())
}

/** The lookup table as it is now: a file is looked at from time to time. */
const follow = Effect.fnUntraced(function*(options: LookupTable.FileOptions, every: Duration.Duration) {
  let version = yield* LookupTable.version(options)
  let entries = yield* LookupTable.read(options)
  let looked = yield* Clock.currentTimeMillis
  const reload = Effect.gen(function*() {
    const now = yield* LookupTable.version(options)
    if (now === version) return
    entries = yield* LookupTable.read(options)
    version = now
    yield* Effect.logInfo(`The lookup file ${options.path} has changed and was read again: ${entries.size} entries`)
  }).pipe(
    Effect.catch((error) => Effect.logWarning(`${error.message}; what was read before stays in use. ${error.hint}`))
  )
  return Effect.gen(function*() {
    const now = yield* Clock.currentTimeMillis
    if (now - looked >= Duration.toMillis(every)) {
      looked = now
      yield* reload
    }
    return entries
  })
})

export const make = Effect.fnUntraced(function*(config: Config, directory: string) {
  const made: ReadonlyArray<Made> = Object.entries(config.columns).map(([name, { field, type }]) => ({
    column: { name, type: typeOf(type), sourceType: type, nullable: true },
    field: field ?? name
  }))
  let current: Effect.Effect<LookupTable.Entries>
  if (config.file === undefined) {
    const found = LookupTable.index(config.table ?? [], config.key)
    if (typeof found === "string") {
      return yield* failureOfOptions(`The option table ${found}`)
    }
    current = Effect.succeed(found)
  } else {
    const path = resolve(directory, config.file)
    current = yield* follow(
      { plugin: pluginName, path, format: config.format, key: config.key, largest: config.maxSize },
      config.reload
    )
  }
  let entries = yield* current
  const inner: Transform = TablePlan.transform((table) => {
    const index = ColumnPattern.indexOf(pluginName, table, config.column)
    const source = table.columns[index]
    if (source === undefined) return undefined
    if (table.identity._tag === "Full") {
      throw failure(
        pluginName,
        table.table,
        "Tables without a key can't be enriched: their rows are found again by all of their values, and what is looked up may have changed since",
        "Give the table a key at the source."
      )
    }
    const twice = made.find(({ column }) => table.columns.some(({ name }) => name === column.name))
    if (twice !== undefined) {
      throw failure(
        pluginName,
        table.table,
        `There is a column ${twice.column.name} already`,
        "Give the new column another name."
      )
    }
    const target: TableSchema = { ...table, columns: [...table.columns, ...made.map(({ column }) => column)] }
    return {
      target,
      apply: (batch: ChangeBatch) =>
        Cells.withColumns(batch, target, [
          ...table.columns.map((_, at) => ({ data: Cells.column(batch, at), follows: at })),
          ...lookUp(table, source, made, config, Cells.column(batch, index), batch.rows, entries).map((data) => ({
            data,
            follows: index
          }))
        ])
    }
  })
  const transform: Transform = {
    schema: inner.schema,
    apply: (batch) =>
      Effect.flatMap(current, (found) => {
        entries = found
        return inner.apply(batch)
      })
  }
  return transform
})

const failureOfOptions = (message: string): ConnectorError =>
  new ConnectorError({ reason: "Misconfigured", plugin: pluginName, message, hint: "Correct the transform's options." })

export const enrich = Plugin.transform({
  name: pluginName,
  version: "0.1.0",
  summary: "Adds columns that are looked up in a file or a list by the value of a column",
  stability: "beta",
  description:
    "A row gets what the lookup table says when the row passes: after a change of the table, rows follow with their next change, or when their table is copied again. " +
    "Deletes of tables with a key look up nothing that matters. Tables without a key can't be enriched.",
  examples: [
    {
      title: "From a file",
      options: {
        column: "country",
        file: "./countries.csv",
        key: "code",
        columns: { country_name: { field: "name", type: "text" }, in_eu: { type: "boolean" } }
      }
    },
    {
      title: "From the configuration",
      options: {
        column: "status",
        key: "code",
        table: [{ code: 1, label: "open" }, { code: 2, label: "closed" }],
        columns: { status_label: { field: "label", type: "text" } }
      }
    }
  ],
  config: Config,
  make: (config, { directory }) => make(config, directory)
})
