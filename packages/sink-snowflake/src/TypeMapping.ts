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

/**
 * How values are written as text or JSON. `number` is text for a NUMBER; `json` and `array` are JSON text; `sourceText` is the source's text of values
 * that travel in another form.
 */
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
  | "sourceText"

/**
 * What a value must fit besides, when the column's type was chosen and may be narrower than the source's: so many digits, a double that holds
 * it exactly, a fraction of a second in multiples of `micros`. What doesn't fit is refused, because Snowflake would round it.
 */
export type Narrowing =
  | { readonly _tag: "Digits"; readonly integer: number; readonly scale: number }
  | { readonly _tag: "Double" }
  | { readonly _tag: "Step"; readonly micros: number }

export interface TypeMapping {
  readonly form: Form
  /** Type of the column in the target, as SQL and as DESCRIBE TABLE prints its beginning. */
  readonly target: string
  /** Type of the column in the journal. */
  readonly journal: string
  /** Only for arrays. */
  readonly element: ElementForm
  /** Converts the journal's value (an SQL expression) to the target's type. */
  readonly fromJournal: (expression: string) => string
  /** Converts a file's value (`$1:c0`) to the target's or the journal's type. */
  readonly fromFile: (expression: string, journal: boolean) => string
  /** Most characters (bytes of a BINARY) of a value. */
  readonly maxLength: number
  readonly narrowing: Narrowing | undefined
}

/** Most characters of a VARCHAR, and bytes of a BINARY, that is declared without a length; journals keep a VARIANT's text in the former. */
export const defaultTextLength = 16_777_216
export const defaultBinaryLength = 8_388_608
/** The longest that can be declared. A VARCHAR has no more bytes either, however many characters they are. */
export const maxTextLength = 134_217_728
export const maxBinaryLength = 67_108_864

const same = (expression: string): string => expression

/** A type that the journal and the target share. */
export const plain = (
  form: Form,
  type: string,
  { maxLength = defaultTextLength, narrowing }: {
    readonly maxLength?: number
    readonly narrowing?: Narrowing | undefined
  } = {}
): TypeMapping => ({
  form,
  target: type,
  journal: type,
  element: "text",
  fromJournal: same,
  fromFile: (expression) => `${expression}::${type}`,
  maxLength,
  narrowing
})

export const binary = (type: string, maxLength: number): TypeMapping => ({
  ...plain("binary", type, { maxLength }),
  fromFile: (expression) => `TO_BINARY(${expression}::VARCHAR, 'BASE64')`
})

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
  },
  maxLength: defaultTextLength,
  narrowing: undefined
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

/** The type that a column has when none was chosen for it. */
export const standard = (type: LogicalType): TypeMapping => {
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
      return binary("BINARY", defaultBinaryLength)
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

/** The standard mapping of a column. Key columns are never VARIANT, whose values can't be joined on: theirs stay the source's text. */
export const of = (column: ColumnSchema, isKey: boolean): TypeMapping => {
  const mapping = standard(column.type)
  return isKey && mapping.target === "VARIANT" ? text : mapping
}

/** The mapping of a column whose values are to be the source's text whatever their type is. */
export const asText = (type: LogicalType, target: string = text.target, maxLength = defaultTextLength): TypeMapping => {
  switch (standard(type).form) {
    case "text":
    case "number":
    case "json":
    case "array":
      return plain("text", target, { maxLength })
    default:
      return plain("sourceText", target, { maxLength })
  }
}

/** Most characters and bytes of types without a length of their own. */
const unlimited: Readonly<Record<string, number>> = { VARCHAR: defaultTextLength, BINARY: defaultBinaryLength }

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
