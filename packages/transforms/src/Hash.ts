/**
 * The transform `hash`: values as keyed hashes (HMAC-SHA-256), equal ones for equal values.
 *
 * The hash is of the value's text (of a binary column's bytes), whatever table or column it is in, so hashed columns can still be joined. It can't be turned
 * back; who has the key can try out values. Keys of tables may be hashed: two values don't come to one hash.
 */
import { BytesColumn } from "@etl-stream/core/ColumnBuilder"
import * as ConfigOption from "@etl-stream/core/ConfigOption"
import * as Plugin from "@etl-stream/core/Plugin"
import type { ColumnSchema, TableSchema } from "@etl-stream/core/TableSchema"
import { Utf8 } from "apache-arrow/type"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { KeyObject } from "node:crypto"
import * as CellBytes from "./CellBytes.ts"
import * as Cells from "./Cells.ts"
import * as CellValue from "./CellValue.ts"
import * as ColumnChange from "./ColumnChange.ts"
import * as ColumnPattern from "./ColumnPattern.ts"
import * as Secret from "./Secret.ts"
import * as TablePlan from "./TablePlan.ts"

export const pluginName = "@etl-stream/transforms:hash"

export const Config = Schema.Struct({
  columns: ColumnPattern.ColumnPatterns.annotateKey({
    description: "Columns whose values are hashed, by name or by a pattern with `*`. NULL stays NULL"
  }),
  key: Secret.Key.annotateKey({
    description:
      "The key, at least 32 characters: a secret. With another key all hashes are others, so the tables have to be copied again"
  }),
  encoding: Schema.Literals(["hex", "base64"]).pipe(ConfigOption.withDefault("hex"))
    .annotateKey({ description: "How hashes are written: 64 hexadecimal digits, or 44 characters. Default: hex" })
})
export type Config = typeof Config.Type

const convert = (column: ColumnSchema, key: KeyObject, encoding: Config["encoding"]): ColumnChange.ColumnChange => ({
  column: { ...column, type: { _tag: "Text", maxLength: encoding === "hex" ? 64 : 44 } },
  convert: (data, rows) => {
    const read = CellBytes.reader(column.type, data)
    const builder = new BytesColumn(new Utf8())
    for (let row = 0; row < rows; row++) {
      if (Cells.isNull(data, row)) builder.appendNull()
      else CellValue.appendText(builder, Secret.mac(key, read(row)).toString(encoding))
    }
    return builder.finish()
  }
})

export const make = (config: Config) => {
  const patterns = config.columns.map(ColumnPattern.parse)
  const key = Secret.keyOf(config.key)
  return TablePlan.transform((table: TableSchema) =>
    ColumnChange.plan(
      table,
      new Map(
        ColumnPattern.indexesOf(pluginName, table, patterns).flatMap((index) => {
          const column = table.columns[index]
          return column === undefined ? [] : [[index, convert(column, key, config.encoding)] as const]
        })
      )
    )
  )
}

export const hash = Plugin.transform({
  name: pluginName,
  version: "0.1.0",
  summary: "Replaces values by keyed hashes (HMAC-SHA-256), equal ones for equal values",
  stability: "beta",
  description:
    "The hash is of the value's text as UTF-8 (of a binary column's bytes), whatever table or column it is in, so hashed columns can still be joined. " +
    "It can't be turned back, but who has the key can try out values. Columns of a table's key may be hashed.",
  examples: [{
    title: "Hash what identifies people",
    options: { columns: ["email", "*_phone"], key: "${env:HASH_KEY}" }
  }],
  config: Config,
  make: (config) => Effect.sync(() => make(config))
})
