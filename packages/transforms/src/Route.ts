/**
 * The transform `route`: other names and schemas for tables.
 *
 * Two tables can't be written to one: their keys and orders of changes are their own.
 */
import { Operation } from "@etl-stream/core/ChangeBatch"
import { ChangeBatchBuilder } from "@etl-stream/core/ChangeBatchBuilder"
import type { BytesColumn } from "@etl-stream/core/ColumnBuilder"
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Plugin from "@etl-stream/core/Plugin"
import * as TablePattern from "@etl-stream/core/TablePattern"
import { tableId, type TableName, type TableSchema } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Dialect from "./cel/Dialect.ts"
import * as Expression from "./cel/Expression.ts"
import * as ExpressionText from "./cel/ExpressionText.ts"
import { describe } from "./cel/Problem.ts"
import * as Cells from "./Cells.ts"
import * as CellValue from "./CellValue.ts"
import * as TablePlan from "./TablePlan.ts"

export const pluginName = "@etl-stream/transforms:route"

/** The table that expressions here are over: its columns are a table's names. */
const names: TableSchema = {
  table: { schema: "", name: "names" },
  version: 0,
  columns: ["schema", "name"].map((name) => ({
    name,
    type: { _tag: "Text", maxLength: undefined },
    sourceType: "text",
    nullable: false
  })),
  identity: { _tag: "None" }
}

const compile = (text: string) => {
  const parsed = Dialect.parse(text)
  return Dialect.isProblem(parsed) ? parsed : Expression.compile(parsed, names)
}

const NameExpression = ExpressionText.ExpressionText.check(
  Schema.makeFilter((text: string) => {
    const compiled = compile(text)
    if (Dialect.isProblem(compiled)) return `${describe(text, compiled)}. ${compiled.hint}`
    return compiled.type === "string" ? undefined : `The expression comes to ${compiled.type}, not to a string`
  })
)

const Pattern = Schema.String.check(
  Schema.makeFilter((text: string) => TablePattern.parse(text) !== undefined, {
    expected: "a table as schema.table, with * for any characters"
  })
)

const Rule = Schema.Struct({
  tables: Pattern.annotateKey({ description: "Tables that the rule is for, such as `public.order_*`" }),
  schema: Schema.optionalKey(Schema.NonEmptyString).annotateKey({
    description: "The new schema, in which `{schema}` and `{name}` stand for the old schema and name"
  }),
  name: Schema.optionalKey(Schema.NonEmptyString).annotateKey({
    description: "The new name, in which `{schema}` and `{name}` stand for the old schema and name"
  }),
  schemaExpression: Schema.optionalKey(NameExpression).annotateKey({
    description: "The new schema by a CEL expression over `schema` and `name`"
  }),
  nameExpression: Schema.optionalKey(NameExpression).annotateKey({
    description: "The new name by a CEL expression over `schema` and `name`"
  })
}).check(
  Schema.makeFilter(
    (
      rule: {
        readonly schema?: string
        readonly name?: string
        readonly schemaExpression?: string
        readonly nameExpression?: string
      }
    ) =>
      !(rule.schema !== undefined && rule.schemaExpression !== undefined) &&
      !(rule.name !== undefined && rule.nameExpression !== undefined) &&
      [rule.schema, rule.name, rule.schemaExpression, rule.nameExpression].some((part) => part !== undefined),
    { expected: "a new schema, a new name or both, each either as text or as an expression" }
  )
)
type Rule = typeof Rule.Type

export const Config = Schema.Struct({
  rules: Schema.NonEmptyArray(Rule).annotateKey({
    description: "The first rule that is for a table counts; a table without one keeps its name"
  })
})
export type Config = typeof Config.Type

/** Fails without naming a table: which one is written where isn't known, so none can be set aside. */
const refuse = (message: string, hint: string): ConnectorError =>
  new ConnectorError({ reason: "Misconfigured", plugin: pluginName, message, hint })

const fill = (template: string, table: TableName): string =>
  template.replace(/\{(schema|name)\}/g, (_, part: "schema" | "name") => table[part])

const evaluated = (text: string, table: TableName): string => {
  const compiled = compile(text)
  if (Dialect.isProblem(compiled)) throw refuse(describe(text, compiled), compiled.hint)
  const builder = new ChangeBatchBuilder(names)
  builder.begin(Operation.Insert, 0, 0, 0, 0, 0)
  for (const [index, value] of [table.schema, table.name].entries()) {
    CellValue.appendText(builder.columns[index] as BytesColumn, value) // both columns are text
  }
  const outcome = compiled.over(builder.finish())(0)
  if (typeof outcome === "string" && outcome !== "") return outcome
  throw refuse(`The expression ${text} gives the table ${tableId(table)} no name`, "Correct the expression of route.")
}

const part = (table: TableName, old: string, template: string | undefined, expression: string | undefined): string =>
  template !== undefined ? fill(template, table) : expression !== undefined ? evaluated(expression, table) : old

export const make = (config: Config) => {
  const rules = config.rules.map((rule) => ({ rule, matches: TablePattern.parse(rule.tables)?.matches }))
  /** Source table that owns a target. */
  const owners = new Map<string, string>()
  return TablePlan.transform((table) => {
    const { rule } = rules.find(({ matches }) => matches?.(table.table)) ?? {}
    const name: TableName = rule === undefined ? table.table : {
      schema: part(table.table, table.table.schema, rule.schema, rule.schemaExpression),
      name: part(table.table, table.table.name, rule.name, rule.nameExpression)
    }
    const id = tableId(table.table)
    const targetId = tableId(name)
    const owner = owners.get(targetId) ?? id
    if (owner !== id) {
      throw refuse(
        `The tables ${owner} and ${id} would both be written to ${targetId}`,
        "Give each table a name of its own in the rules of route, for example with {schema} or {name} in it."
      )
    }
    owners.set(targetId, id)
    if (targetId === id) return undefined
    const target = { ...table, table: name }
    return { target, apply: (batch) => Cells.renamed(batch, target) }
  })
}

export const route = Plugin.transform({
  name: pluginName,
  version: "0.1.0",
  summary: "Gives tables other names and schemas",
  stability: "beta",
  description:
    "Two tables can't be written to one: that ends the run at its start, naming both. Transforms that come after this one go by the new names; `tables` of a pipeline's source and `etl-stream resync` go by those at the source. " +
    "A table that gets another name in a pipeline that runs already is a new table to the sink, and is copied.",
  examples: [
    { title: "A schema for all", options: { rules: [{ tables: "public.*", schema: "shop" }] } },
    {
      title: "A prefix, and shards by an expression",
      options: {
        rules: [
          { tables: "audit.*", schema: "public", name: "audit_{name}" },
          { tables: "tenant_*.*", schema: "tenants", nameExpression: "schema + \"_\" + name.lowerAscii()" }
        ]
      }
    }
  ],
  config: Config,
  make: (config) => Effect.sync(() => make(config))
})
