/**
 * The transform `flatten`: values inside of a JSON column as columns of their own, at declared paths and of declared types.
 *
 * The columns have to be declared, because a table's shape must be known before its rows. They are sent when the JSON is, and NULL where there is nothing at the path.
 */
import * as ConfigOption from "@etl-stream/core/ConfigOption"
import * as Plugin from "@etl-stream/core/Plugin"
import type { ColumnSchema, TableSchema } from "@etl-stream/core/TableSchema"
import type * as Arrow from "apache-arrow"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Cells from "./Cells.ts"
import * as CellValue from "./CellValue.ts"
import * as ColumnPattern from "./ColumnPattern.ts"
import { failure } from "./Failure.ts"
import * as JsonText from "./JsonText.ts"
import * as TablePlan from "./TablePlan.ts"
import { nameOf, TypeName, typeOf } from "./TypeName.ts"

export const pluginName = "@etl-stream/transforms:flatten"

const Path = Schema.NonEmptyArray(Schema.String)

const Column = Schema.Struct({
  path: Schema.optionalKey(Path).annotateKey({
    description:
      "The keys on the way to the value, outermost first; a number is an index into a list. Default: the column's name alone"
  }),
  type: TypeName.annotateKey({
    description: "The column's type (see the transform cast); json for lists and objects"
  })
})

export const Config = Schema.Struct({
  column: ColumnPattern.ColumnName.annotateKey({ description: "The column with the JSON, of the type json or text" }),
  columns: Schema.Record(ColumnPattern.ColumnName, Column).annotateKey({
    description: "The new columns by their names"
  }),
  prefix: Schema.String.pipe(ConfigOption.withDefault("")).annotateKey({
    description: "What goes before the names of all new columns"
  }),
  keep: Schema.Boolean.pipe(ConfigOption.withDefault(false)).annotateKey({
    description: "Whether the column with the JSON stays"
  }),
  onMisfit: Schema.Literals(["fail", "null"]).pipe(ConfigOption.withDefault("fail"))
    .annotateKey({
      description:
        "What becomes of a value that its type can't hold exactly, and of text that is no JSON: `fail` sets the table aside, `null` makes it NULL"
    })
})
export type Config = typeof Config.Type

interface Made {
  readonly column: ColumnSchema
  readonly path: ReadonlyArray<string>
}

const extract = (
  table: TableSchema,
  source: ColumnSchema,
  made: ReadonlyArray<Made>,
  onMisfit: Config["onMisfit"]
) =>
(data: Arrow.Data, rows: number): ReadonlyArray<Arrow.Data> => {
  const read = CellValue.textReader(source.type, data)
  const writers = made.map(({ column }) => CellValue.writer(column.type))
  const misfit = (message: string) =>
    failure(
      pluginName,
      table.table,
      message,
      "Choose a type that holds all values (json holds any), or set onMisfit to null if such values may be lost. Then have the table copied again."
    )
  for (let row = 0; row < rows; row++) {
    const document = Cells.isNull(data, row) ? null : JsonText.parse(read(row))
    if (document === undefined && onMisfit === "fail") {
      throw misfit(`The column ${source.name} has a value that is no JSON`)
    }
    for (const [index, { column, path }] of made.entries()) {
      const writer = writers[index] as CellValue.Writer // one per new column
      const found = JsonText.at(document, path)
      if (found === undefined || found === null) {
        writer.builder.appendNull()
        continue
      }
      const value = JsonText.cell(found, column.type._tag === "Json")
      if (value !== undefined && writer.append(value)) continue
      if (onMisfit === "fail") {
        throw misfit(
          `The column ${column.name} has a value in ${source.name} that ${nameOf(column.type)} can't hold exactly`
        )
      }
      writer.builder.appendNull()
    }
  }
  return writers.map(({ builder }) => builder.finish())
}

export const make = (config: Config) => {
  const made: ReadonlyArray<Made> = Object.entries(config.columns).map(([name, { path, type }]) => ({
    column: { name: config.prefix + name, type: typeOf(type), sourceType: type, nullable: true },
    path: path ?? [name]
  }))
  return TablePlan.transform((table) => {
    const index = ColumnPattern.indexOf(pluginName, table, config.column)
    const source = table.columns[index]
    if (source === undefined) return undefined
    if (source.type._tag !== "Json" && source.type._tag !== "Text") {
      throw failure(
        pluginName,
        table.table,
        `The column ${source.name} is of the type ${nameOf(source.type)}, not json or text`,
        "Name the column with the JSON."
      )
    }
    if (!config.keep && TablePlan.isKey(table, index)) {
      throw failure(
        pluginName,
        table.table,
        `The column ${source.name} is part of the key and has to stay`,
        "Set keep to true."
      )
    }
    const kept = table.columns.flatMap((_, at) => at === index && !config.keep ? [] : [at])
    const names = new Set(kept.map((at) => table.columns[at]?.name))
    const twice = made.find(({ column }) => names.has(column.name))
    if (twice !== undefined) {
      throw failure(
        pluginName,
        table.table,
        `There is a column ${twice.column.name} already`,
        "Give the new column another name, or set a prefix."
      )
    }
    const { identity } = table
    const target: TableSchema = {
      ...table,
      columns: [...kept.flatMap((at) => table.columns[at] ?? []), ...made.map(({ column }) => column)],
      identity: identity._tag === "Key"
        ? { _tag: "Key", columns: identity.columns.map((at) => kept.indexOf(at)) }
        : identity
    }
    const values = extract(table, source, made, config.onMisfit)
    return {
      target,
      apply: (batch) =>
        Cells.withColumns(batch, target, [
          ...kept.map((at) => ({ data: Cells.column(batch, at), follows: at })),
          ...values(Cells.column(batch, index), batch.rows).map((data) => ({ data, follows: index }))
        ])
    }
  })
}

export const flatten = Plugin.transform({
  name: pluginName,
  version: "0.1.0",
  summary: "Makes columns of values inside of a JSON column",
  stability: "beta",
  description:
    "Numbers are taken as they are written, with all their digits. A key that is missing and one that is null both give NULL. Of a key that is there twice the last counts.",
  examples: [{
    title: "Two values of an address",
    options: {
      column: "address",
      prefix: "address_",
      keep: true,
      columns: { city: { type: "text" }, latitude: { path: ["position", "lat"], type: "float64" } }
    }
  }],
  config: Config,
  make: (config) => Effect.sync(() => make(config))
})
