/**
 * The transform `select`: only some columns, or all but some.
 *
 * Columns of the key can't be left out. A list of what stays (`include`) leaves out columns that come later; a list of what goes (`exclude`) lets them through.
 */
import * as Plugin from "@etl-stream/core/Plugin"
import type { TableSchema } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Cells from "./Cells.ts"
import * as ColumnPattern from "./ColumnPattern.ts"
import { failure } from "./Failure.ts"
import * as TablePlan from "./TablePlan.ts"

export const pluginName = "@etl-stream/transforms:select"

export const Config = Schema.Struct({
  include: Schema.optionalKey(ColumnPattern.ColumnPatterns).annotateKey({
    description:
      "Columns that stay, by name or by a pattern with `*`; columns that are added to the table later don't come unless a pattern matches them"
  }),
  exclude: Schema.optionalKey(ColumnPattern.ColumnPatterns).annotateKey({
    description: "Columns that go, by name or by a pattern with `*`, out of those that would stay"
  })
}).check(
  Schema.makeFilter(
    ({ exclude, include }: { readonly include?: unknown; readonly exclude?: unknown }) =>
      include !== undefined || exclude !== undefined,
    { expected: "include, exclude or both" }
  )
)
export type Config = typeof Config.Type

/** The plan that keeps the columns at `kept` (ascending). */
const planOf = (table: TableSchema, kept: ReadonlyArray<number>): TablePlan.Plan | undefined => {
  const { identity } = table
  if (kept.length === table.columns.length) return undefined
  if (kept.length === 0) {
    throw failure(pluginName, table.table, "No column is left", "Let at least one column stay.")
  }
  if (identity._tag === "Key") {
    const missing = identity.columns.find((index) => !kept.includes(index))
    if (missing !== undefined) {
      throw failure(
        pluginName,
        table.table,
        `The column ${
          table.columns[missing]?.name
        } is part of the key and can't be left out: rows could not be found again`,
        "Let it stay; hash it if its values must not be seen."
      )
    }
  }
  const target: TableSchema = {
    ...table,
    columns: kept.flatMap((index) => table.columns[index] ?? []),
    identity: identity._tag === "Key"
      ? { _tag: "Key", columns: identity.columns.map((index) => kept.indexOf(index)) }
      : identity
  }
  return {
    target,
    apply: (batch) =>
      Cells.withColumns(
        batch,
        target,
        kept.map((index) => ({ data: Cells.column(batch, index), follows: index }))
      )
  }
}

export const make = ({ exclude, include }: Config) => {
  const stay = include?.map(ColumnPattern.parse)
  const go = exclude?.map(ColumnPattern.parse) ?? []
  return TablePlan.transform((table) => {
    const staying = stay === undefined
      ? table.columns.map((_, index) => index)
      : ColumnPattern.indexesOf(pluginName, table, stay)
    const going = new Set(ColumnPattern.indexesOf(pluginName, table, go))
    return planOf(table, staying.filter((index) => !going.has(index)))
  })
}

export const select = Plugin.transform({
  name: pluginName,
  version: "0.1.0",
  summary: "Keeps only some columns, or all but some",
  stability: "beta",
  description:
    "Columns of the table's key can't be left out. Changes of columns that are left out still come, as updates that change nothing.",
  examples: [
    { title: "All but some", options: { exclude: ["password_hash", "*_internal"] } },
    { title: "Only these", options: { include: ["id", "name", "address_*"] } }
  ],
  config: Config,
  make: (config) => Effect.sync(() => make(config))
})
