/**
 * Maps PostgreSQL's types to logical types.
 *
 * A column's type comes as an OID and a type modifier (from `pg_attribute` or a Relation message). Built-in types have
 * fixed OIDs and are known here; anything that was created in the database (domains, enums, extension types, their
 * arrays) is looked up in a `TypeCatalog`, which the source fills from `pg_type` with `typeQuery`. A type that neither
 * knows is carried as text.
 */
import type { LogicalType } from "@etl-stream/core/LogicalType"

/** One row of `pg_type`, as `typeQuery` selects it. */
export interface TypeInfo {
  readonly oid: number
  /** `typname`. */
  readonly name: string
  /** The type's schema (`nspname`). */
  readonly schema: string
  /** `typtype`: `b` base, `c` composite, `d` domain, `e` enum, `m` multirange, `p` pseudo, `r` range. */
  readonly kind: string
  /** For domains the type below (`typbasetype`), otherwise 0. */
  readonly baseType: number
  /** For domains the type modifier that applies to `baseType` (`typtypmod`), otherwise -1. */
  readonly baseTypmod: number
  /** For true arrays (those written by `array_out` with commas) the element's OID, otherwise 0. */
  readonly element: number
}

/** Types by OID; a `Map` is one. */
export interface TypeCatalog {
  readonly get: (oid: number) => TypeInfo | undefined
}

/** Selects every type as a `TypeInfo`. OIDs come as `int8` text or numbers, as the client's parser has it: convert them. */
export const typeQuery =
  `SELECT t.oid::int8 AS "oid", t.typname AS "name", n.nspname AS "schema", t.typtype::text AS "kind",
  t.typbasetype::int8 AS "baseType", t.typtypmod AS "baseTypmod",
  CASE WHEN t.typoutput = 'pg_catalog.array_out'::regproc AND t.typdelim = ',' THEN t.typelem::int8 ELSE 0 END AS "element"
FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace`

/** A catalog of built-in types only. */
export const emptyCatalog: TypeCatalog = new Map()

/** What a column holds. */
export interface PostgresType {
  readonly type: LogicalType
  /** The type as `format_type` writes it, for example `numeric(12,2)`; for messages and type overrides. */
  readonly sourceType: string
  /** OID of the type whose input and output functions apply: a domain's base type, otherwise the type itself. */
  readonly wireType: number
}

/** OIDs of built-in types by their names in `pg_type`, where that of an array begins with an underscore. */
export const Oid = {
  bool: 16,
  bytea: 17,
  char: 18,
  name: 19,
  int8: 20,
  int2: 21,
  int4: 23,
  text: 25,
  json: 114,
  xml: 142,
  float4: 700,
  float8: 701,
  _char: 1002,
  bpchar: 1042,
  varchar: 1043,
  date: 1082,
  time: 1083,
  timestamp: 1114,
  timestamptz: 1184,
  interval: 1186,
  timetz: 1266,
  bit: 1560,
  varbit: 1562,
  numeric: 1700,
  uuid: 2950,
  jsonb: 3802
} as const

interface BuiltIn {
  readonly name: string
  readonly type: (typmod: number) => LogicalType
  /** The type modifier as `format_type` shows it; the name itself when there is none. */
  readonly format?: (typmod: number) => string
}

const constant = (name: string, type: LogicalType, format?: (typmod: number) => string): BuiltIn =>
  format === undefined ? { name, type: () => type } : { name, type: () => type, format }

const limited = (name: string): BuiltIn => ({
  name,
  type: (typmod) => ({ _tag: "Text", maxLength: typmod < 4 ? undefined : typmod - 4 }),
  format: (typmod) => typmod < 4 ? name : `${name}(${typmod - 4})`
})

const precise = (name: string, suffix = "") => (typmod: number): string =>
  typmod < 0 ? `${name}${suffix}` : `${name}(${typmod})${suffix}`

const text: LogicalType = { _tag: "Text", maxLength: undefined }
const other: LogicalType = { _tag: "Other" }

const numericPrecision = (typmod: number): number => ((typmod - 4) >> 16) & 0xffff
/** Eleven bits, signed since PostgreSQL 15. */
const numericScale = (typmod: number): number => (((typmod - 4) & 0x7ff) ^ 1024) - 1024

const builtIns: ReadonlyMap<number, BuiltIn> = new Map<number, BuiltIn>([
  [Oid.bool, constant("boolean", { _tag: "Boolean" })],
  [Oid.bytea, constant("bytea", { _tag: "Binary" })],
  [Oid.char, constant("\"char\"", text)],
  [Oid.name, constant("name", text)],
  [Oid.int8, constant("bigint", { _tag: "Int64" })],
  [Oid.int2, constant("smallint", { _tag: "Int16" })],
  [Oid.int4, constant("integer", { _tag: "Int32" })],
  [Oid.text, constant("text", text)],
  [Oid.json, constant("json", { _tag: "Json" })],
  [Oid.xml, constant("xml", other)],
  [Oid.float4, constant("real", { _tag: "Float32" })],
  [Oid.float8, constant("double precision", { _tag: "Float64" })],
  [Oid.bpchar, limited("character")],
  [Oid.varchar, limited("character varying")],
  [Oid.date, constant("date", { _tag: "Date" })],
  [Oid.time, constant("time without time zone", { _tag: "Time" }, precise("time", " without time zone"))],
  [
    Oid.timestamp,
    constant(
      "timestamp without time zone",
      { _tag: "Timestamp", utc: false },
      precise("timestamp", " without time zone")
    )
  ],
  [
    Oid.timestamptz,
    constant("timestamp with time zone", { _tag: "Timestamp", utc: true }, precise("timestamp", " with time zone"))
  ],
  [Oid.interval, constant("interval", { _tag: "Interval" })],
  [Oid.timetz, constant("time with time zone", other, precise("time", " with time zone"))],
  [Oid.bit, constant("bit", other, precise("bit"))],
  [Oid.varbit, constant("bit varying", other, precise("bit varying"))],
  [Oid.numeric, {
    name: "numeric",
    type: (typmod) =>
      typmod < 4
        ? { _tag: "Decimal", precision: undefined, scale: undefined }
        : { _tag: "Decimal", precision: numericPrecision(typmod), scale: numericScale(typmod) },
    format: (typmod) => typmod < 4 ? "numeric" : `numeric(${numericPrecision(typmod)},${numericScale(typmod)})`
  }],
  [Oid.uuid, constant("uuid", { _tag: "Uuid" })],
  [Oid.jsonb, constant("jsonb", { _tag: "Json" })]
])

/** Array types of the built-in types above. */
const builtInArrays: ReadonlyMap<number, number> = new Map([
  [143, Oid.xml],
  [199, Oid.json],
  [1000, Oid.bool],
  [1001, Oid.bytea],
  [Oid._char, Oid.char],
  [1003, Oid.name],
  [1005, Oid.int2],
  [1007, Oid.int4],
  [1009, Oid.text],
  [1014, Oid.bpchar],
  [1015, Oid.varchar],
  [1016, Oid.int8],
  [1021, Oid.float4],
  [1022, Oid.float8],
  [1115, Oid.timestamp],
  [1182, Oid.date],
  [1183, Oid.time],
  [1185, Oid.timestamptz],
  [1187, Oid.interval],
  [1231, Oid.numeric],
  [1270, Oid.timetz],
  [1561, Oid.bit],
  [1563, Oid.varbit],
  [2951, Oid.uuid],
  [3807, Oid.jsonb]
])

const identifier = (name: string): string =>
  /^[a-z_][a-z0-9_$]*$/.test(name) ? name : `"${name.replaceAll("\"", "\"\"")}"`

const qualified = (info: TypeInfo): string =>
  info.schema === "pg_catalog" || info.schema === "public"
    ? identifier(info.name)
    : `${identifier(info.schema)}.${identifier(info.name)}`

/** Domains may be made over domains; PostgreSQL allows no cycle, a wrong catalog must not make us loop. */
const maxDepth = 64

const resolveAt = (catalog: TypeCatalog, oid: number, typmod: number, depth: number): PostgresType => {
  const builtIn = builtIns.get(oid)
  if (builtIn !== undefined) {
    return { type: builtIn.type(typmod), sourceType: builtIn.format?.(typmod) ?? builtIn.name, wireType: oid }
  }
  const info = catalog.get(oid)
  const element = builtInArrays.get(oid) ?? info?.element ?? 0
  if (element !== 0 && depth < maxDepth) {
    const inner = resolveAt(catalog, element, typmod, depth + 1)
    return { type: { _tag: "Array", element: inner.type }, sourceType: `${inner.sourceType}[]`, wireType: oid }
  }
  if (info === undefined) return { type: other, sourceType: `type with OID ${oid}`, wireType: oid }
  const sourceType = qualified(info)
  if (info.kind === "d" && depth < maxDepth) {
    const base = resolveAt(catalog, info.baseType, info.baseTypmod, depth + 1)
    return { type: base.type, sourceType, wireType: base.wireType }
  }
  return { type: info.kind === "e" ? text : other, sourceType, wireType: oid }
}

/**
 * The type of a column with type `oid` and modifier `typmod` (-1 = none). Domains have the logical type of their base;
 * enums are `Text`; types without a logical type of their own, and OIDs that the catalog doesn't have, are `Other`.
 */
export const resolve = (catalog: TypeCatalog, oid: number, typmod: number): PostgresType =>
  resolveAt(catalog, oid, typmod, 0)
