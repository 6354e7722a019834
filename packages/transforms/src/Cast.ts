/**
 * The transform `cast`: columns of other types, with values that mean exactly the same.
 *
 * A value that doesn't fit fails the table, or becomes NULL where that is chosen; nothing is ever rounded, cut or guessed.
 */
import * as ConfigOption from "@etl-stream/core/ConfigOption"
import type { LogicalType } from "@etl-stream/core/LogicalType"
import * as Plugin from "@etl-stream/core/Plugin"
import type { ColumnSchema, TableSchema } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { canBecome, keepsApart } from "./Castable.ts"
import * as Cells from "./Cells.ts"
import * as CellValue from "./CellValue.ts"
import * as ColumnChange from "./ColumnChange.ts"
import * as ColumnPattern from "./ColumnPattern.ts"
import { failure } from "./Failure.ts"
import * as TablePlan from "./TablePlan.ts"
import { nameOf, TypeName, typeOf } from "./TypeName.ts"

export const pluginName = "@etl-stream/transforms:cast"

export const Config = Schema.Struct({
  columns: Schema.Record(ColumnPattern.ColumnName, TypeName).annotateKey({
    description:
      "The new type of each column, by its name: boolean, int16, int32, int64, float32, float64, decimal, decimal(p,s), text, text(n), binary, uuid, date, time, timestamp, timestamptz or json"
  }),
  onMisfit: Schema.Literals(["fail", "null"]).pipe(ConfigOption.withDefault("fail"))
    .annotateKey({
      description:
        "What becomes of a value that the new type can't hold exactly: `fail` sets the table aside, `null` makes it NULL (not in columns of the key)"
    })
})
export type Config = typeof Config.Type

const convert = (
  table: TableSchema,
  column: ColumnSchema,
  type: LogicalType,
  onMisfit: Config["onMisfit"]
): ColumnChange.ColumnChange => ({
  column: { ...column, type, nullable: column.nullable || onMisfit === "null" },
  convert: (data, rows) => {
    const read = type._tag === "Text" ? CellValue.textReader(column.type, data) : CellValue.reader(column.type, data)
    const { append, builder } = CellValue.writer(type)
    for (let row = 0; row < rows; row++) {
      if (Cells.isNull(data, row)) builder.appendNull()
      else if (!append(read(row))) {
        if (onMisfit === "fail") {
          throw failure(
            pluginName,
            table.table,
            `The column ${column.name} has a value that ${nameOf(type)} can't hold exactly`,
            "Choose a type that holds all of the column's values, or set onMisfit to null if such values may be lost."
          )
        }
        builder.appendNull()
      }
    }
    return builder.finish()
  }
})

export const make = (config: Config) => {
  const wanted = Object.entries(config.columns)
  return TablePlan.transform((table) => {
    const changes = new Map<number, ColumnChange.ColumnChange>()
    for (const [name, typeName] of wanted) {
      const index = ColumnPattern.indexOf(pluginName, table, name)
      const column = table.columns[index]
      if (column === undefined) continue
      const type = typeOf(typeName)
      if (!canBecome(column.type, type)) {
        throw failure(
          pluginName,
          table.table,
          `The column ${name} is of the type ${nameOf(column.type)}, which can't become ${nameOf(type)}`,
          "Cast to another type; text holds everything."
        )
      }
      if (TablePlan.isKey(table, index) && config.onMisfit === "null") {
        throw failure(
          pluginName,
          table.table,
          `The column ${name} is part of the key and can't become NULL`,
          "Set onMisfit to fail for it, in a transform of its own if need be."
        )
      }
      if (!keepsApart(column.type, type)) {
        ColumnChange.refuseKey(pluginName, table, index, `as ${nameOf(type)}`, "Leave it as text.")
      }
      changes.set(index, convert(table, column, type, config.onMisfit))
    }
    return ColumnChange.plan(table, changes)
  })
}

export const cast = Plugin.transform({
  name: pluginName,
  version: "0.1.0",
  summary: "Gives columns other types, without changing what their values mean",
  stability: "beta",
  description:
    "Numbers from text and text from anything, wider and narrower numbers, days and timestamps from ISO 8601 text, a timestamp at midnight as a date. " +
    "A float becomes an integer only if it is one, a decimal a float only if the float's shortest text is that decimal.",
  examples: [
    {
      title: "An amount with two decimals, and a code as a number",
      options: { columns: { amount: "decimal(12,2)", code: "int32" } }
    },
    { title: "NULL for what is no date", options: { columns: { imported_on: "date" }, onMisfit: "null" } }
  ],
  config: Config,
  make: (config) => Effect.sync(() => make(config))
})
