/**
 * One canonical text per value, whichever side it was read from: the comparer's own idea of what "the same value" means.
 *
 * Written from PostgreSQL's output formats and the documented types of the warehouse, not from the sink's code. Exact wherever both
 * sides can be: numerics keep their scale, JSON numbers are compared as decimals of any length, floats as IEEE numbers.
 */
import { parseArray } from "./arrayLiteral.ts"

/** How values of a PostgreSQL type are selected on both sides and compared. */
export type Kind =
  | "plain"
  | "boolean"
  | "float4"
  | "float8"
  | "bytea"
  | "date"
  | "time"
  | "timestamp"
  | "timestamptz"
  | "json"
  | { readonly array: "integer" | "boolean" | "float4" | "float8" | "text" }

/** A number of JSON text, as it was written. */
class JsonNumber {
  readonly source: string
  constructor(source: string) {
    this.source = source
  }
}

/** `-12.50e3` as `-125e2`: sign, digits without zeros at either end, power of ten. Equal numbers have equal text. */
export const canonicalDecimal = (source: string): string => {
  const match = /^([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d+))?$/.exec(source)
  if (match === null) return source
  const [, sign, whole = "", fraction = "", exponent = "0"] = match
  const digits = `${whole}${fraction}`.replace(/^0+/, "")
  const trimmed = digits.replace(/0+$/, "")
  if (trimmed === "") return "0"
  const power = Number(exponent) - fraction.length + (digits.length - trimmed.length)
  return `${sign === "-" ? "-" : ""}${trimmed}e${power}`
}

/** The number nearest to the text in the given width. Text of both sides' infinities and NaN is understood. */
export const canonicalFloat = (text: string, width: "float4" | "float8"): string => {
  const lower = text.toLowerCase()
  if (lower === "nan") return "NaN"
  const infinity = /^([+-]?)inf(inity)?$/.exec(lower)
  if (infinity !== null) return infinity[1] === "-" ? "-Infinity" : "Infinity"
  const value = width === "float4" ? Math.fround(Number(text)) : Number(text)
  return Object.is(value, -0) ? "-0" : String(value)
}

const withMicroseconds = (text: string): string => {
  const match = /^(.*:\d\d)(?:\.(\d{1,9}))?$/.exec(text)
  if (match === null) return text
  const fraction = (match[2] ?? "").padEnd(6, "0")
  return `${match[1]}.${fraction.slice(0, 6)}${fraction.slice(6).replace(/0+$/, "")}`
}

type Reviver = (key: string, value: unknown, context?: { readonly source?: string }) => unknown

const keepNumbers: Reviver = (_key, value, context) =>
  typeof value === "number" ? new JsonNumber(context?.source ?? String(value)) : value

/** Parses JSON without rounding its numbers. */
const parseJson = (text: string): unknown => JSON.parse(text, keepNumbers)

const canonicalJson = (value: unknown, number: (source: string) => string): string => {
  if (value instanceof JsonNumber) return number(value.source)
  if (Array.isArray(value)) return `[${value.map((item) => canonicalJson(item, number)).join(",")}]`
  if (typeof value === "object" && value !== null) {
    const entries = Object.entries(value).sort(([a], [b]) => a < b ? -1 : a > b ? 1 : 0)
    return `{${entries.map(([key, item]) => `${JSON.stringify(key)}:${canonicalJson(item, number)}`).join(",")}}`
  }
  return JSON.stringify(value)
}

type Element = Exclude<Kind, string>["array"]

const numberOf = (element: Element): (source: string) => string =>
  element === "float4" || element === "float8" ? (source) => canonicalFloat(source, element) : canonicalDecimal

type Nested = ReadonlyArray<string | null | Nested>

const canonicalArray = (literal: string, element: Element): string => {
  const parsed = parseArray(literal)
  // An array with its own lower bounds can't be a JSON array: it travels as the literal.
  if (parsed === undefined) return JSON.stringify(literal)
  const number = numberOf(element)
  const item = (value: string | null): string => {
    if (value === null) return "null"
    switch (element) {
      case "integer":
        return number(value)
      case "boolean":
        return value === "t" ? "true" : "false"
      case "float4":
      case "float8":
        return /^-?\d/.test(value) ? number(value) : JSON.stringify(value)
      case "text":
        return JSON.stringify(value)
    }
  }
  const list = (values: Nested): string =>
    `[${values.map((value) => typeof value === "object" && value !== null ? list(value) : item(value)).join(",")}]`
  return list(parsed)
}

/** Canonical text of a value as PostgreSQL prints it (`bytea` as hex digits). */
export const fromPostgres = (kind: Kind, text: string): string => {
  switch (kind) {
    case "boolean":
      return text === "t" ? "true" : "false"
    case "plain":
    case "bytea":
    case "date":
      return text
    case "float4":
    case "float8":
      return canonicalFloat(text, kind)
    case "time":
    case "timestamp":
      return withMicroseconds(text)
    case "timestamptz":
      return withMicroseconds(text.replace(/\+00$/, ""))
    case "json":
      return canonicalJson(parseJson(text), canonicalDecimal)
    default:
      return canonicalArray(text, kind.array)
  }
}

/** Canonical text of a value as `warehouseExpression` selects it. */
export const fromWarehouse = (kind: Kind, text: string): string => {
  switch (kind) {
    case "plain":
    case "boolean":
    case "date":
      return text
    case "bytea":
      return text.toLowerCase()
    case "float4":
    case "float8":
      return canonicalFloat(text, kind)
    case "time":
    case "timestamp":
    case "timestamptz":
      return withMicroseconds(text)
    case "json":
      return canonicalJson(parseJson(text), canonicalDecimal)
    default:
      return canonicalJson(parseJson(text), numberOf(kind.array))
  }
}

/** SQL that selects a column at the warehouse, with formats spelled out so that no session setting matters. */
export const warehouseExpression = (kind: Kind, column: string): string => {
  switch (kind) {
    case "plain":
    case "boolean":
      return `TO_VARCHAR(${column})`
    case "float4":
    case "float8":
      // TO_VARCHAR of a float rounds; the driver hands the server's digits through.
      return column
    case "bytea":
      return `TO_VARCHAR(${column}, 'HEX')`
    case "date":
      return `TO_VARCHAR(${column}, 'YYYY-MM-DD')`
    case "time":
      return `TO_VARCHAR(${column}, 'HH24:MI:SS.FF6')`
    case "timestamp":
      return `TO_VARCHAR(${column}, 'YYYY-MM-DD HH24:MI:SS.FF6')`
    case "timestamptz":
      return `TO_VARCHAR(CONVERT_TIMEZONE('UTC', ${column}), 'YYYY-MM-DD HH24:MI:SS.FF6')`
    default:
      return `TO_JSON(${column})`
  }
}

/** SQL that selects a column at PostgreSQL: the output function's text. A cast to text differs for some types (inet). */
export const postgresExpression = (kind: Kind, column: string): string =>
  kind === "bytea" ? `encode(${column}, 'hex')` : column

const scalarKinds: Readonly<Record<string, Kind>> = {
  bool: "boolean",
  float4: "float4",
  float8: "float8",
  bytea: "bytea",
  date: "date",
  time: "time",
  timestamp: "timestamp",
  timestamptz: "timestamptz",
  json: "json",
  jsonb: "json"
}

const elementKinds: Readonly<Record<string, Element>> = {
  int2: "integer",
  int4: "integer",
  int8: "integer",
  bool: "boolean",
  float4: "float4",
  float8: "float8"
}

/** The kind of a type by its name in `pg_type`; `element` names the element's type when it is an array. */
export const kindOf = (type: string, element: string | null): Kind =>
  element === null ? scalarKinds[type] ?? "plain" : { array: elementKinds[element] ?? "text" }
