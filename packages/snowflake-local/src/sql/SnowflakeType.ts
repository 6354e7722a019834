/**
 * Snowflake's data types: their model, their DuckDB column types and how Snowflake prints them.
 *
 * VARIANT, ARRAY and OBJECT are DuckDB's JSON (text that keeps its digits); TIMESTAMP_LTZ and TIMESTAMP_TZ are both TIMESTAMPTZ, so a TIMESTAMP_TZ
 * keeps its instant and loses its offset. Fractions of a second are kept to microseconds.
 */

export type SnowflakeType =
  | { readonly kind: "FIXED"; readonly precision: number; readonly scale: number }
  | { readonly kind: "REAL" | "BOOLEAN" | "DATE" | "VARIANT" | "ARRAY" | "OBJECT" }
  | { readonly kind: "TEXT"; readonly length: number }
  | { readonly kind: "BINARY"; readonly length: number }
  | { readonly kind: "TIME" | "TIMESTAMP_NTZ" | "TIMESTAMP_LTZ" | "TIMESTAMP_TZ"; readonly scale: number }

/** Characters of a VARCHAR without a length. */
export const defaultTextLength = 16_777_216
/** Characters of the longest VARCHAR that can be declared, and bytes of the longest text in any VARCHAR. */
export const maxTextLength = 134_217_728
/** Bytes of the longest VARIANT, OBJECT or ARRAY, as JSON text. */
export const maxVariantLength = 134_217_728
/** Bytes of a BINARY without a length. */
export const defaultBinaryLength = 8_388_608
/** Bytes of the longest BINARY that can be declared. */
export const maxBinaryLength = 67_108_864

export const number38: SnowflakeType = { kind: "FIXED", precision: 38, scale: 0 }
export const text: SnowflakeType = { kind: "TEXT", length: defaultTextLength }

/** Whether the type is one of the three semi-structured ones. */
export const isSemiStructured = (type: SnowflakeType): boolean =>
  type.kind === "VARIANT" || type.kind === "ARRAY" || type.kind === "OBJECT"

/** The DuckDB type of a column of this type. */
export const duckdbType = (type: SnowflakeType): string => {
  switch (type.kind) {
    case "FIXED":
      return `DECIMAL(${type.precision},${type.scale})`
    case "REAL":
      return "DOUBLE"
    case "TEXT":
      return "VARCHAR"
    case "BINARY":
      return "BLOB"
    case "BOOLEAN":
    case "DATE":
    case "TIME":
      return type.kind
    case "TIMESTAMP_NTZ":
      return "TIMESTAMP"
    case "TIMESTAMP_LTZ":
    case "TIMESTAMP_TZ":
      return "TIMESTAMP WITH TIME ZONE"
    case "VARIANT":
    case "ARRAY":
    case "OBJECT":
      return "JSON"
  }
}

/** As DESCRIBE TABLE and messages print it, e.g. `NUMBER(38,0)`. */
export const print = (type: SnowflakeType): string => {
  switch (type.kind) {
    case "FIXED":
      return `NUMBER(${type.precision},${type.scale})`
    case "REAL":
      return "FLOAT"
    case "TEXT":
      return `VARCHAR(${type.length})`
    case "BINARY":
      return `BINARY(${type.length})`
    case "TIME":
    case "TIMESTAMP_NTZ":
    case "TIMESTAMP_LTZ":
    case "TIMESTAMP_TZ":
      return `${type.kind}(${type.scale})`
    default:
      return type.kind
  }
}

const integers = new Set(["INT", "INTEGER", "BIGINT", "SMALLINT", "TINYINT", "BYTEINT"])
const decimals = new Set(["NUMBER", "DECIMAL", "NUMERIC", "DEC"])
const floats = new Set(["FLOAT", "FLOAT4", "FLOAT8", "DOUBLE", "DOUBLE PRECISION", "REAL"])
const texts = new Set(["VARCHAR", "STRING", "TEXT", "NVARCHAR", "NVARCHAR2", "CHAR VARYING", "NCHAR VARYING"])
const characters = new Set(["CHAR", "CHARACTER", "NCHAR"])
const timestamps: Readonly<Record<string, "TIMESTAMP_NTZ" | "TIMESTAMP_LTZ" | "TIMESTAMP_TZ">> = {
  TIMESTAMP: "TIMESTAMP_NTZ",
  DATETIME: "TIMESTAMP_NTZ",
  TIMESTAMP_NTZ: "TIMESTAMP_NTZ",
  TIMESTAMPNTZ: "TIMESTAMP_NTZ",
  "TIMESTAMP WITHOUT TIME ZONE": "TIMESTAMP_NTZ",
  TIMESTAMP_LTZ: "TIMESTAMP_LTZ",
  TIMESTAMPLTZ: "TIMESTAMP_LTZ",
  "TIMESTAMP WITH LOCAL TIME ZONE": "TIMESTAMP_LTZ",
  TIMESTAMP_TZ: "TIMESTAMP_TZ",
  TIMESTAMPTZ: "TIMESTAMP_TZ",
  "TIMESTAMP WITH TIME ZONE": "TIMESTAMP_TZ"
}

/** The type a (folded) type name with its arguments means; undefined when there is no such type or its arguments are out of range. */
export const fromName = (name: string, args: ReadonlyArray<number>): SnowflakeType | undefined => {
  const [first, second] = args
  const between = (value: number, low: number, high: number) => value >= low && value <= high
  if (integers.has(name)) return args.length === 0 ? number38 : undefined
  if (decimals.has(name)) {
    const precision = first ?? 38
    const scale = second ?? 0
    const valid = args.length <= 2 && between(precision, 1, 38) && between(scale, 0, Math.min(37, precision))
    return valid ? { kind: "FIXED", precision, scale } : undefined
  }
  if (floats.has(name)) return args.length === 0 ? { kind: "REAL" } : undefined
  if (texts.has(name) || characters.has(name)) {
    const length = first ?? (characters.has(name) ? 1 : defaultTextLength)
    return args.length <= 1 && between(length, 1, maxTextLength) ? { kind: "TEXT", length } : undefined
  }
  if (name === "BINARY" || name === "VARBINARY") {
    const length = first ?? defaultBinaryLength
    return args.length <= 1 && between(length, 1, maxBinaryLength) ? { kind: "BINARY", length } : undefined
  }
  const timestamp = timestamps[name] ?? (name === "TIME" ? "TIME" : undefined)
  if (timestamp !== undefined) {
    const scale = first ?? 9
    return args.length <= 1 && between(scale, 0, 9) ? { kind: timestamp, scale } : undefined
  }
  switch (name) {
    case "BOOLEAN":
    case "DATE":
    case "VARIANT":
    case "ARRAY":
    case "OBJECT":
      return args.length === 0 ? { kind: name } : undefined
    default:
      return undefined
  }
}
