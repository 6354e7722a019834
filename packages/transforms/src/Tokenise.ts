/**
 * The transform `tokenise`: values replaced by tokens of a chosen shape, equal ones for equal values.
 *
 * Shapes `digits` and `characters` are keyed permutations of the values of one layout (a Feistel network over mixed radixes, its round function
 * HMAC-SHA-256), so different values get different tokens; the others are cut off HMACs of at least 120 bits. This is not NIST's FF1, and there is no way back in this program.
 */
import { BytesColumn } from "@etl-stream/core/ColumnBuilder"
import * as ConfigOption from "@etl-stream/core/ConfigOption"
import type { LogicalType } from "@etl-stream/core/LogicalType"
import * as Plugin from "@etl-stream/core/Plugin"
import type { ColumnSchema, TableSchema } from "@etl-stream/core/TableSchema"
import { Utf8 } from "apache-arrow/type"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { KeyObject } from "node:crypto"
import * as Cells from "./Cells.ts"
import * as CellValue from "./CellValue.ts"
import * as ColumnChange from "./ColumnChange.ts"
import * as ColumnPattern from "./ColumnPattern.ts"
import { failure } from "./Failure.ts"
import * as FormatPreserving from "./FormatPreserving.ts"
import * as Secret from "./Secret.ts"
import * as TablePlan from "./TablePlan.ts"
import { nameOf } from "./TypeName.ts"

export const pluginName = "@etl-stream/transforms:tokenise"

export const Config = Schema.Struct({
  columns: ColumnPattern.ColumnPatterns.annotateKey({
    description: "Columns whose values are replaced, by name or by a pattern with `*`. NULL stays NULL"
  }),
  key: Secret.Key.annotateKey({
    description:
      "The key, at least 32 characters: a secret. With another key all tokens are others, so the tables have to be copied again"
  }),
  format: Schema.Literals(["text", "uuid", "email", "digits", "characters"]).pipe(
    ConfigOption.withDefault("text")
  ).annotateKey({
    description:
      "`text`: `prefix` and 26 letters and digits; `uuid`: a UUID, and the column becomes one; `email`: an address at example.invalid; `digits`: other digits in place of digits, all else as it is; " +
      "`characters`: also other letters in place of the letters A to Z and a to z. `digits` and `characters` only for text"
  }),
  prefix: Schema.String.check(Schema.isMaxLength(32)).pipe(ConfigOption.withDefault("tok_"))
    .annotateKey({ description: "For the format text: what tokens begin with. Default: `tok_`" })
})
export type Config = typeof Config.Type

const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"

/** The first 130 bits as 26 characters of Crockford's base 32. */
const letters = (digest: Buffer): string => {
  let text = ""
  let bits = 0
  let held = 0
  for (let at = 0; text.length < 26; at++) {
    held = ((held << 8) | (digest[at] ?? 0)) & 0xffff
    for (bits += 8; bits >= 5 && text.length < 26; bits -= 5) text += alphabet[(held >> (bits - 5)) & 31]
  }
  return text
}

/** The first 122 bits as a UUID of version 8, which is for such. */
const uuidOf = (digest: Buffer): string => {
  const bytes = Buffer.from(digest.subarray(0, 16))
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x80
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80
  return bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-")
}

/** The token of a value's text. */
export const tokenOf = (config: Config): (text: string) => string => {
  const key: KeyObject = Secret.keyOf(config.key)
  switch (config.format) {
    case "text":
      return (text) => config.prefix + letters(Secret.mac(key, text))
    case "uuid":
      return (text) => uuidOf(Secret.mac(key, text))
    case "email":
      return (text) => `${letters(Secret.mac(key, text))}@example.invalid`
    case "digits":
    case "characters":
      return FormatPreserving.make(key, config.format === "characters")
  }
}

const typeAfter = (column: ColumnSchema, { format }: Config): LogicalType =>
  format === "uuid"
    ? { _tag: "Uuid" }
    : format === "digits" || format === "characters"
    ? column.type
    : { _tag: "Text", maxLength: undefined }

/** The time that a permutation takes grows with the square of a value's length. */
const longest = 1000

const convert = (
  table: TableSchema,
  column: ColumnSchema,
  config: Config,
  token: (text: string) => string
): ColumnChange.ColumnChange => ({
  column: { ...column, type: typeAfter(column, config) },
  convert: (data, rows) => {
    const isPermuted = config.format === "digits" || config.format === "characters"
    const read = CellValue.textReader(column.type, data)
    const builder = new BytesColumn(new Utf8())
    for (let row = 0; row < rows; row++) {
      if (Cells.isNull(data, row)) {
        builder.appendNull()
        continue
      }
      const text = read(row)
      if (isPermuted && text.length > longest) {
        throw failure(
          pluginName,
          table.table,
          `The column ${column.name} has a value of more than ${longest} characters, for which there are no tokens of the format ${config.format}`,
          "Choose the format text for it."
        )
      }
      CellValue.appendText(builder, token(text))
    }
    return builder.finish()
  }
})

export const make = (config: Config) => {
  const patterns = config.columns.map(ColumnPattern.parse)
  const token = tokenOf(config)
  return TablePlan.transform((table: TableSchema) => {
    const changes = new Map<number, ColumnChange.ColumnChange>()
    for (const index of ColumnPattern.indexesOf(pluginName, table, patterns)) {
      const column = table.columns[index]
      if (column === undefined) continue
      if ((config.format === "digits" || config.format === "characters") && column.type._tag !== "Text") {
        throw failure(
          pluginName,
          table.table,
          `The column ${column.name} is of the type ${
            nameOf(column.type)
          }, and tokens of the format ${config.format} are only for text`,
          "Choose the format text or uuid for it, or cast it to text before."
        )
      }
      changes.set(index, convert(table, column, config, token))
    }
    return ColumnChange.plan(table, changes)
  })
}

export const tokenise = Plugin.transform({
  name: pluginName,
  version: "0.1.0",
  summary: "Replaces values by tokens of a chosen shape, equal ones for equal values",
  stability: "beta",
  description:
    "Without the key a token says nothing but that two values are equal, and, for `digits` and `characters`, how a value is laid out: its length, and everything that isn't replaced. " +
    "Short values have few possible tokens: four digits have ten thousand. Tokens keep no checksum (a card number's). " +
    "There is no way back in this program, and no vault. Columns of a table's key may be tokenised.",
  examples: [
    { title: "Tokens in place of names", options: { columns: ["name"], key: "${env:TOKEN_KEY}" } },
    {
      title: "Card numbers that still look like such",
      options: { columns: ["card_number"], format: "digits", key: "${env:TOKEN_KEY}" }
    }
  ],
  config: Config,
  make: (config) => Effect.sync(() => make(config))
})
