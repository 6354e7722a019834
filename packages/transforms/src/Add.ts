/**
 * The transform `add`: new columns, constant or computed from others.
 *
 * A computed value belongs to the values that it is computed from. Where all of those weren't sent they are what they were, and so is the computed one: it isn't sent either.
 * Where one was sent and another was not, it can't be told, and the table is set aside.
 */
import * as ChangeBatches from "@etl-stream/core/ChangeBatch"
import type { ChangeBatch } from "@etl-stream/core/ChangeBatch"
import * as ConfigOption from "@etl-stream/core/ConfigOption"
import type { LogicalType } from "@etl-stream/core/LogicalType"
import * as Plugin from "@etl-stream/core/Plugin"
import type { ColumnSchema, TableSchema } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { canBecome } from "./Castable.ts"
import * as Dialect from "./cel/Dialect.ts"
import * as Expression from "./cel/Expression.ts"
import * as ExpressionText from "./cel/ExpressionText.ts"
import * as Result from "./cel/Result.ts"
import * as Cells from "./Cells.ts"
import * as CellValue from "./CellValue.ts"
import * as ColumnPattern from "./ColumnPattern.ts"
import { failure } from "./Failure.ts"
import * as TablePlan from "./TablePlan.ts"
import { nameOf, TypeName, typeOf } from "./TypeName.ts"

const { Operation } = ChangeBatches

export const pluginName = "@etl-stream/transforms:add"

const Constant = Schema.Union([Schema.String, Schema.Finite, Schema.Boolean])

const Column = Schema.Struct({
  value: Schema.optionalKey(Constant).annotateKey({ description: "A constant: text, a number, true or false" }),
  expression: Schema.optionalKey(ExpressionText.ExpressionText).annotateKey({
    description: "A CEL expression over the table's columns. Where it meets a NULL it comes to NULL"
  }),
  type: Schema.optionalKey(TypeName).annotateKey({
    description:
      "The column's type (see the transform cast). Without it the expression's: bool is boolean, int int64, double float64, string text, bytes binary, timestamp timestamptz, decimal decimal"
  }),
  onError: Schema.Literals(["fail", "null"]).pipe(ConfigOption.withDefault("fail"))
    .annotateKey({
      description:
        "What becomes of a value that can't be computed, or that the type can't hold exactly: `fail` sets the table aside, `null` makes it NULL"
    })
}).check(
  Schema.makeFilter(
    ({ expression, value }: { readonly value?: unknown; readonly expression?: unknown }) =>
      (value === undefined) !== (expression === undefined),
    { expected: "exactly one of value and expression" }
  )
)

export const Config = Schema.Struct({
  columns: Schema.Record(ColumnPattern.ColumnName, Column).annotateKey({
    description:
      "The new columns by their names. All expressions see the columns as they come, not those that are added here"
  }),
  replace: Schema.Boolean.pipe(ConfigOption.withDefault(false)).annotateKey({
    description:
      "Whether a column of the same name may be there already, whose values are then replaced (not of columns of the key)"
  })
})
export type Config = typeof Config.Type
type Column = typeof Column.Type

const constantType = (value: typeof Constant.Type): LogicalType =>
  typeof value === "boolean"
    ? { _tag: "Boolean" }
    : typeof value === "string"
    ? { _tag: "Text", maxLength: undefined }
    : Number.isSafeInteger(value)
    ? { _tag: "Int64" }
    : { _tag: "Float64" }

interface Added {
  readonly column: ColumnSchema
  /** Index of the column that it replaces. */
  readonly replaces: number | undefined
  readonly make: (batch: ChangeBatch) => Cells.NewColumn
}

/** Whether a row has nothing but its key, so that there is nothing to compute from. */
const isKeyOnly = (table: TableSchema, operation: number | undefined): boolean =>
  table.identity._tag === "Key" && (operation === Operation.Delete || operation === Operation.KeyChangeOld)

const constant = (table: TableSchema, name: string, value: typeof Constant.Type, type: LogicalType) => {
  const converted: CellValue.CellValue = Number.isSafeInteger(value) ? BigInt(Number(value)) : value
  if (!CellValue.writer(type).append(converted)) {
    throw failure(
      pluginName,
      table.table,
      `The constant for the column ${name} is none of the type ${nameOf(type)}`,
      "Correct the constant or the type."
    )
  }
  return (batch: ChangeBatch): Cells.NewColumn => {
    const operations = Cells.operations(batch)
    const { append, builder } = CellValue.writer(type)
    for (let row = 0; row < batch.rows; row++) {
      if (isKeyOnly(table, operations[row])) builder.appendNull()
      else append(converted)
    }
    return { data: builder.finish(), follows: undefined }
  }
}

const partly = (table: TableSchema, name: string) =>
  failure(
    pluginName,
    table.table,
    `The column ${name} can't be computed for a change that sends some of the columns that it is computed from, and others not`,
    "Give the table REPLICA IDENTITY FULL at the source, so that updates send every column. Then have the table copied again."
  )

const valueless = (table: TableSchema, name: string, type: LogicalType) =>
  failure(
    pluginName,
    table.table,
    `The column ${name} can't be computed for a row, or comes to what ${nameOf(type)} can't hold exactly`,
    "Correct the expression or the type, or set onError to null. Then have the table copied again."
  )

const computed = (
  table: TableSchema,
  name: string,
  expression: Expression.Expression,
  type: LogicalType,
  onError: Column["onError"]
) => {
  const { identity } = table
  const keyColumns = new Set(identity._tag === "Key" ? identity.columns : [])
  const others = expression.columns.filter((index) => !keyColumns.has(index))
  return (batch: ChangeBatch): Cells.NewColumn => {
    const operations = Cells.operations(batch)
    const unsent = new Cells.Unsent(batch)
    const evaluate = expression.over(batch)
    const { append, builder } = CellValue.writer(type)
    const convert = Result.converter(type)
    let bits: Uint8Array | undefined
    /** Whether everything that the value is computed from is what it was: an update doesn't change the key. */
    const isUnchanged = (row: number): boolean =>
      (operations[row] === Operation.Update ? others : expression.columns).every((index) => unsent.has(row, index))
    for (let row = 0; row < batch.rows; row++) {
      if (isKeyOnly(table, operations[row])) {
        builder.appendNull()
        continue
      }
      const outcome = evaluate(row)
      if (outcome === Expression.Null) builder.appendNull()
      else if (outcome === Expression.Unsent) {
        if (!isUnchanged(row)) throw partly(table, name)
        bits ??= new Uint8Array((batch.rows + 7) >> 3)
        bits[row >> 3] = (bits[row >> 3] ?? 0) | (1 << (row & 7))
        builder.appendNull()
      } else {
        const value = outcome === Expression.Failed ? undefined : convert(outcome)
        if (value !== undefined && append(value)) continue
        if (onError === "fail") throw valueless(table, name, type)
        builder.appendNull()
      }
    }
    return { data: builder.finish(), follows: undefined, unsent: bits }
  }
}

/** The type of a column with an expression: the one that is named, if the expression's values can become it. */
const typeFor = (table: TableSchema, name: string, options: Column, expression: Expression.Expression): LogicalType => {
  const own = Result.typeOf(expression.type)
  const type = options.type === undefined ? own : typeOf(options.type)
  if (type === undefined) {
    throw failure(
      pluginName,
      table.table,
      `The expression for the column ${name} comes to ${expression.type}, which is no column's type`,
      "Name a type for the column, or have the expression come to text, a number or the like."
    )
  }
  const fits = own === undefined ? Result.isOpen(expression.type) : canBecome(own, type)
  if (!fits) {
    throw failure(
      pluginName,
      table.table,
      `The expression for the column ${name} comes to ${expression.type}, which can't become ${nameOf(type)}`,
      "Correct the expression or the type."
    )
  }
  return type
}

const added = (table: TableSchema, name: string, options: Column, replace: boolean): Added => {
  const existing = table.columns.findIndex((column) => column.name === name)
  if (existing >= 0 && (!replace || TablePlan.isKey(table, existing))) {
    throw failure(
      pluginName,
      table.table,
      replace
        ? `The column ${name} is part of the key and can't be replaced`
        : `There is a column ${name} already`,
      replace ? "Give the new column another name." : "Give the new column another name, or set replace to true."
    )
  }
  const of = (type: LogicalType): ColumnSchema => ({ name, type, sourceType: nameOf(type), nullable: true })
  const replaces = existing < 0 ? undefined : existing
  if (options.value !== undefined) {
    const type = options.type === undefined ? constantType(options.value) : typeOf(options.type)
    return { column: of(type), replaces, make: constant(table, name, options.value, type) }
  }
  const text = options.expression ?? ""
  const expression = Expression.compile(ExpressionText.parse(text), table)
  if (Dialect.isProblem(expression)) throw ExpressionText.misfit(pluginName, table, text, expression)
  const type = typeFor(table, name, options, expression)
  return { column: of(type), replaces, make: computed(table, name, expression, type, options.onError) }
}

export const make = (config: Config) =>
  TablePlan.transform((table) => {
    const all = Object.entries(config.columns).map(([name, options]) => added(table, name, options, config.replace))
    if (all.length === 0) return undefined
    const replacing = new Map(all.flatMap((one) => one.replaces === undefined ? [] : [[one.replaces, one] as const]))
    const appended = all.filter(({ replaces }) => replaces === undefined)
    const target: TableSchema = {
      ...table,
      columns: [
        ...table.columns.map((column, index) => replacing.get(index)?.column ?? column),
        ...appended.map(({ column }) => column)
      ]
    }
    return {
      target,
      apply: (batch) =>
        Cells.withColumns(batch, target, [
          ...table.columns.map((_, index) =>
            replacing.get(index)?.make(batch) ?? { data: Cells.column(batch, index), follows: index }
          ),
          ...appended.map((one) => one.make(batch))
        ])
    }
  })

export const add = Plugin.transform({
  name: pluginName,
  version: "0.1.0",
  summary: "Adds columns: constants, or computed from others by an expression",
  stability: "beta",
  description:
    "Expressions are CEL and know the columns' types: what doesn't fit is found before anything runs. Rows that carry nothing but their key (deletes of tables with a key) have no computed values.",
  examples: [
    { title: "A constant", options: { columns: { region: { value: "eu" } } } },
    {
      title: "Computed",
      options: {
        columns: {
          total: { expression: "price * quantity", type: "decimal(14,2)" },
          domain: { expression: "email.split(\"@\")[1].lowerAscii()", onError: "null" }
        }
      }
    }
  ],
  config: Config,
  make: (config) => Effect.sync(() => make(config))
})
