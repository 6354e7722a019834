/**
 * The transform `rename`: other names for columns.
 */
import * as ConfigOption from "@etl-stream/core/ConfigOption"
import * as Plugin from "@etl-stream/core/Plugin"
import type { TableSchema } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Cells from "./Cells.ts"
import * as ColumnPattern from "./ColumnPattern.ts"
import { failure } from "./Failure.ts"
import * as TablePlan from "./TablePlan.ts"

export const pluginName = "@etl-stream/transforms:rename"

export const Config = Schema.Struct({
  columns: Schema.optionalKey(Schema.Record(ColumnPattern.ColumnName, ColumnPattern.ColumnName)).annotateKey({
    description: "The new name of each column, by its name at the source"
  }),
  patterns: Schema.optionalKey(
    Schema.NonEmptyArray(Schema.Struct({
      columns: ColumnPattern.ColumnPattern.annotateKey({
        description: "Columns that get a new name, by a pattern with `*`; those named in `columns` don't"
      }),
      to: Schema.NonEmptyString.annotateKey({
        description:
          "The new name, in which `{name}` stands for the old one and `{1}`, `{2}` … for what the pattern's `*`s stand for"
      })
    }))
  ).annotateKey({ description: "New names by patterns; the first that matches counts" }),
  case: Schema.Literals(["keep", "lower", "upper"]).pipe(ConfigOption.withDefault("keep"))
    .annotateKey({
      description: "Letters of all other columns' names: as they are, lower or upper case"
    })
})
export type Config = typeof Config.Type

const escape = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&")

interface Pattern {
  readonly matcher: RegExp
  readonly to: string
}

/** Stars are matched lazily: a pattern of the configuration is short, and so are columns' names. */
const patternOf = ({ columns, to }: { readonly columns: string; readonly to: string }): Pattern => ({
  matcher: new RegExp(`^${columns.split("*").map(escape).join("(.*?)")}$`, "s"),
  to
})

const newName = (name: string, config: Config, patterns: ReadonlyArray<Pattern>): string => {
  const given = config.columns !== undefined && Object.hasOwn(config.columns, name) ? config.columns[name] : undefined
  if (given !== undefined) return given
  for (const { matcher, to } of patterns) {
    const match = matcher.exec(name)
    if (match !== null) {
      return to.replace(/\{(name|\d+)\}/g, (whole, key: string) => key === "name" ? name : match[Number(key)] ?? whole)
    }
  }
  return config.case === "lower" ? name.toLowerCase() : config.case === "upper" ? name.toUpperCase() : name
}

export const make = (config: Config) => {
  const patterns = config.patterns?.map(patternOf) ?? []
  return TablePlan.transform((table: TableSchema) => {
    for (const name of Object.keys(config.columns ?? {})) ColumnPattern.indexOf(pluginName, table, name)
    const owners = new Map<string, string>()
    const columns = table.columns.map((column) => {
      const name = newName(column.name, config, patterns)
      const owner = owners.get(name)
      if (owner !== undefined || name === "") {
        throw failure(
          pluginName,
          table.table,
          name === ""
            ? `The column ${column.name} would have no name`
            : `The columns ${owner} and ${column.name} would both be named ${name}`,
          "Give every column a name of its own."
        )
      }
      owners.set(name, column.name)
      return name === column.name ? column : { ...column, name }
    })
    if (columns.every((column, index) => column === table.columns[index])) return undefined
    const target = { ...table, columns }
    return { target, apply: (batch) => Cells.renamed(batch, target) }
  })
}

export const rename = Plugin.transform({
  name: pluginName,
  version: "0.1.0",
  summary: "Gives columns other names",
  stability: "beta",
  description: "Transforms that come after this one, and a sink's options, go by the new names.",
  examples: [
    { title: "Single columns", options: { columns: { fname: "first_name" } } },
    { title: "By pattern", options: { patterns: [{ columns: "cust_*", to: "customer_{1}" }], case: "lower" } }
  ],
  config: Config,
  make: (config) => Effect.sync(() => make(config))
})
