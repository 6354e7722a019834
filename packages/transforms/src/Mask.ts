/**
 * The transform `mask`: values with their characters covered, wholly or in part.
 *
 * The column becomes text, whatever type it had. Different values become the same, so columns of a key are refused unless that is allowed.
 */
import { BytesColumn } from "@etl-stream/core/ColumnBuilder"
import * as ConfigOption from "@etl-stream/core/ConfigOption"
import * as Plugin from "@etl-stream/core/Plugin"
import type { ColumnSchema } from "@etl-stream/core/TableSchema"
import { Utf8 } from "apache-arrow/type"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Cells from "./Cells.ts"
import * as CellValue from "./CellValue.ts"
import * as ColumnChange from "./ColumnChange.ts"
import * as ColumnPattern from "./ColumnPattern.ts"
import { failure } from "./Failure.ts"
import * as TablePlan from "./TablePlan.ts"

export const pluginName = "@etl-stream/transforms:mask"

const Length = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 1000 }))

export const Config = Schema.Struct({
  columns: ColumnPattern.ColumnPatterns.annotateKey({
    description: "Columns whose values are masked, by name or by a pattern with `*`. NULL stays NULL"
  }),
  mode: Schema.Literals(["full", "characters", "keepFirst", "keepLast", "email", "null"]).pipe(
    ConfigOption.withDefault("full")
  ).annotateKey({
    description:
      "`full`: a fixed text, whatever the value; `characters`: each character covered, so the length shows; `keepFirst`, `keepLast`: all but the first or last `keep` characters covered; " +
      "`email`: the first character and the domain stay (`a****@example.com`); `null`: NULL, and the column keeps its type"
  }),
  keep: Length.pipe(ConfigOption.withDefault(4)).annotateKey({
    description:
      "Number of characters that `keepFirst` and `keepLast` leave. A value of no more than twice as many is covered wholly"
  }),
  with: Schema.String.check(
    Schema.makeFilter((text: string) => [...text].length === 1 && text.isWellFormed(), { expected: "one character" })
  ).pipe(ConfigOption.withDefault("*")).annotateKey({
    description: "The character that covers others"
  }),
  keys: Schema.Literals(["refuse", "allow"]).pipe(ConfigOption.withDefault("refuse"))
    .annotateKey({
      description:
        "Whether columns of a table's key may be masked. `allow`: rows whose masked keys are the same become one at a mirror"
    })
})
export type Config = typeof Config.Type

/** What follows the last `@` of an address. Of a text that only has an `@` somewhere nothing may be left to be read. */
const domain = /^(?:[\p{L}\p{M}\p{N}-]+\.)+\p{L}[\p{L}\p{M}\p{N}-]*$/u

/** Characters that `full` writes, and that stand for the covered part of an address: no length shows. */
const fixed = 4

/** The masked text of a value. */
export const masked = (config: Config): (text: string) => string => {
  const { keep, mode, with: cover } = config
  switch (mode) {
    case "full":
    case "null":
      return () => cover.repeat(fixed)
    case "characters":
      return (text) => cover.repeat([...text].length)
    case "keepFirst":
    case "keepLast":
      return (text) => {
        const characters = [...text]
        const covered = characters.length - keep
        // Of a short value what stays would be most of it.
        if (covered <= keep) return cover.repeat(characters.length)
        return mode === "keepFirst"
          ? characters.slice(0, keep).join("") + cover.repeat(covered)
          : cover.repeat(covered) + characters.slice(covered).join("")
      }
    case "email":
      return (text) => {
        const at = text.lastIndexOf("@")
        const [first = ""] = text
        // What is no address may be anything.
        return at < 1 || !domain.test(text.slice(at + 1))
          ? cover.repeat(fixed)
          : `${at <= first.length ? "" : first}${cover.repeat(fixed)}${text.slice(at)}`
      }
  }
}

const nulls = (column: ColumnSchema): ColumnChange.ColumnChange => ({
  column: { ...column, nullable: true },
  convert: (_, rows) => {
    const { builder } = CellValue.writer(column.type)
    for (let row = 0; row < rows; row++) builder.appendNull()
    return builder.finish()
  }
})

const covered = (column: ColumnSchema, config: Config): ColumnChange.ColumnChange => {
  const mask = masked(config)
  return {
    column: { ...column, type: { _tag: "Text", maxLength: undefined } },
    convert: (data, rows) => {
      const read = CellValue.textReader(column.type, data)
      const builder = new BytesColumn(new Utf8())
      for (let row = 0; row < rows; row++) {
        if (Cells.isNull(data, row)) builder.appendNull()
        else CellValue.appendText(builder, mask(read(row)))
      }
      return builder.finish()
    }
  }
}

export const make = (config: Config) => {
  const patterns = config.columns.map(ColumnPattern.parse)
  return TablePlan.transform((table) => {
    const changes = new Map<number, ColumnChange.ColumnChange>()
    for (const index of ColumnPattern.indexesOf(pluginName, table, patterns)) {
      const column = table.columns[index]
      if (column === undefined) continue
      if (config.mode === "null" && TablePlan.isKey(table, index)) {
        throw failure(
          pluginName,
          table.table,
          `The column ${column.name} is part of the key and can't be NULL`,
          "Use the transform hash for it: equal keys stay equal, and different ones different."
        )
      }
      if (config.keys === "refuse") {
        const remedy = "Use the transform hash for it, or set the option keys to allow if rows may become one."
        ColumnChange.refuseKey(pluginName, table, index, "masked", remedy)
      }
      changes.set(index, config.mode === "null" ? nulls(column) : covered(column, config))
    }
    return ColumnChange.plan(table, changes)
  })
}

export const mask = Plugin.transform({
  name: pluginName,
  version: "0.1.0",
  summary: "Covers the characters of values, wholly or in part",
  stability: "beta",
  description:
    "The column becomes text, whatever type it had. The masked values of a column that wasn't sent stay not sent. Masking isn't anonymising: what stays may be enough to recognise somebody.",
  examples: [
    { title: "Cover wholly", options: { columns: ["password", "*_token"] } },
    { title: "Leave the last four characters", options: { columns: ["card_number"], mode: "keepLast", keep: 4 } },
    { title: "Leave the domains of addresses", options: { columns: ["email"], mode: "email" } }
  ],
  config: Config,
  make: (config) => Effect.sync(() => make(config))
})
