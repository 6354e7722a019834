/**
 * How each logical type is kept in Snowflake: one table of target type, journal type, and the expressions between them.
 *
 * The rule is that nothing is lost: what Snowflake's type can't hold exactly becomes text. Columns that end as VARIANT are
 * VARCHAR in the journal, so that NULL and JSON's null stay apart, and are parsed by the MERGE. In files most types travel as
 * text, because a Parquet column goes through a VARIANT in `COPY … SELECT`, where dates, times and bytes change their form.
 */
import type { LogicalType } from "@etl-stream/core/LogicalType"
import type { ColumnSchema } from "@etl-stream/core/TableSchema"
import type { ElementForm } from "./ArrayLiteral.ts"
import * as ArrayLiteral from "./ArrayLiteral.ts"

/** How values are written as text or JSON. `number` is text for a NUMBER; `json` and `array` are JSON text. */
export type Form =
  | "boolean"
  | "int16"
  | "int32"
  | "int64"
  | "float"
  | "number"
  | "text"
  | "binary"
  | "date"
  | "time"
  | "timestamp"
  | "timestampUtc"
  | "json"
  | "array"

export interface TypeMapping {
  readonly form: Form
  /** Type of the column in the target, as SQL and as DESCRIBE TABLE prints its beginning. */
  readonly target: string
  /** Type of the column in the journal. */
  readonly journal: string
  /** Only for arrays. */
  readonly element: ElementForm
  /** Whether numbers and booleans are written as text, too, where the form would have a type of its own for them. */
  readonly quoted?: boolean
  /** Converts the journal's value (an SQL expression) to the target's type. */
  readonly fromJournal: (expression: string) => string
  /** Converts a file's value (`$1:c0`) to the target's or the journal's type. */
  readonly fromFile: (expression: string, journal: boolean) => string
}

const same = (expression: string): string => expression

const plain = (form: Form, type: string): TypeMapping => ({
  form,
  target: type,
  journal: type,
  element: "text",
  fromJournal: same,
  fromFile: (expression) => `${expression}::${type}`
})

const binary: TypeMapping = {
  ...plain("binary", "BINARY"),
  fromFile: (expression) => `TO_BINARY(${expression}::VARCHAR, 'BASE64')`
}

/**
 * JSON that PARSE_JSON refuses although the source took it (duplicate keys in `json`, for example) lands as a VARIANT string: it must neither
 * be lost nor stop the table. COPY knows fewer functions than SELECT, hence the two spellings.
 */
const variant = (form: "json" | "array", element: ElementForm): TypeMapping => ({
  form,
  target: "VARIANT",
  journal: "VARCHAR",
  element,
  fromJournal: (expression) => `COALESCE(TRY_PARSE_JSON(${expression}), TO_VARIANT(${expression}))`,
  fromFile: (expression, journal) => {
    const text = `${expression}::VARCHAR`
    return journal ? text : `IFF(CHECK_JSON(${text}) IS NULL, PARSE_JSON(${text}), TO_VARIANT(${text}))`
  }
})

const text = plain("text", "VARCHAR")

/** Snowflake's NUMBER has up to 38 digits, 37 of them after the point. */
const decimal = (precision: number | undefined, scale: number | undefined): TypeMapping => {
  const digits = scale ?? 0
  return precision !== undefined && precision >= 1 && precision <= 38 && digits >= 0 && digits <= 37 &&
      digits <= precision
    ? plain("number", `NUMBER(${precision},${digits})`)
    : text
}

const logical = (type: LogicalType): TypeMapping => {
  switch (type._tag) {
    case "Boolean":
      return plain("boolean", "BOOLEAN")
    case "Int16":
      return plain("int16", "NUMBER(38,0)")
    case "Int32":
      return plain("int32", "NUMBER(38,0)")
    case "Int64":
      return plain("int64", "NUMBER(38,0)")
    case "Float32":
    case "Float64":
      return plain("float", "FLOAT")
    case "Decimal":
      return decimal(type.precision, type.scale)
    case "Binary":
      return binary
    case "Date":
      return plain("date", "DATE")
    case "Time":
      return plain("time", "TIME(6)")
    case "Timestamp":
      return type.utc ? plain("timestampUtc", "TIMESTAMP_TZ(6)") : plain("timestamp", "TIMESTAMP_NTZ(6)")
    case "Json":
      return variant("json", "text")
    case "Array":
      return variant("array", ArrayLiteral.elementForm(type.element))
    case "Text":
    case "Uuid":
    case "Interval":
    case "Other":
      return text
  }
}

/** The mapping of a column. Key columns are never VARIANT, whose values can't be joined on: theirs stay the source's text. */
export const of = (column: ColumnSchema, isKey: boolean): TypeMapping => {
  const mapping = logical(column.type)
  return isKey && mapping.target === "VARIANT" ? text : mapping
}

/** The mapping of a column whose values are to be text whatever their type is. They have the form that they have in files. */
export const asText = (mapping: TypeMapping): TypeMapping => ({
  ...mapping,
  target: text.target,
  journal: text.journal,
  quoted: true,
  fromJournal: same,
  fromFile: text.fromFile
})

/** Most characters and bytes of types without a length of their own. */
const unlimited: Readonly<Record<string, number>> = { VARCHAR: 16_777_216, BINARY: 8_388_608 }

interface Parsed {
  readonly kind: string
  /** Length, precision or digits, as far as the kind has them. */
  readonly size: number
  readonly scale: number
}

const parse = (type: string): Parsed => {
  const [, kind = type, size, scale] = /^([A-Z_]+)(?:\((\d+)(?:,\s*(\d+))?\))?/.exec(type.toUpperCase()) ?? []
  const standard = kind === "NUMBER" ? 38 : kind === "TIME" || kind.startsWith("TIMESTAMP") ? 9 : unlimited[kind] ?? 0
  return { kind, size: size === undefined ? standard : Number(size), scale: scale === undefined ? 0 : Number(scale) }
}

/**
 * How an existing column's type `existing` (as DESCRIBE TABLE prints it) stands to the one that is `wanted`: it `fits`, all values of the
 * wanted type being among its own; it `widens` in place; or it `differs`.
 */
export const compare = (existing: string, wanted: string): "fits" | "widens" | "differs" => {
  const have = parse(existing)
  const want = parse(wanted)
  if (have.kind !== want.kind || have.scale !== want.scale) return "differs"
  if (have.size >= want.size) return "fits"
  return have.kind === "NUMBER" || have.kind in unlimited ? "widens" : "differs"
}

/** Whether a column of this type takes every text. */
export const isText = (existing: string): boolean => compare(existing, text.target) === "fits"
