/**
 * Types that the configuration gives single columns: which texts name one, and which values can be written to it.
 *
 * A type may be narrower than the source's. Then each value is checked when it is written, and one that Snowflake would round or cut is
 * refused. VARCHAR takes every type's values, as the source's text.
 */
import type { LogicalType } from "@etl-stream/core/LogicalType"
import type { Narrowing, TypeMapping } from "./TypeMapping.ts"
import * as Type from "./TypeMapping.ts"

/** A type of Snowflake, as far as columns can be given one. */
export type OverrideType =
  | { readonly kind: "NUMBER"; readonly precision: number; readonly scale: number }
  | { readonly kind: "VARCHAR" | "BINARY"; readonly length: number }
  | { readonly kind: "TIME" | "TIMESTAMP_NTZ" | "TIMESTAMP_LTZ" | "TIMESTAMP_TZ"; readonly precision: number }
  | { readonly kind: "FLOAT" | "BOOLEAN" | "DATE" | "VARIANT" }

const synonyms: Readonly<Record<string, OverrideType["kind"]>> = {
  NUMBER: "NUMBER",
  DECIMAL: "NUMBER",
  NUMERIC: "NUMBER",
  FLOAT: "FLOAT",
  DOUBLE: "FLOAT",
  VARCHAR: "VARCHAR",
  STRING: "VARCHAR",
  TEXT: "VARCHAR",
  BINARY: "BINARY",
  BOOLEAN: "BOOLEAN",
  DATE: "DATE",
  TIME: "TIME",
  TIMESTAMP_NTZ: "TIMESTAMP_NTZ",
  TIMESTAMP_LTZ: "TIMESTAMP_LTZ",
  TIMESTAMP_TZ: "TIMESTAMP_TZ",
  VARIANT: "VARIANT"
}

/** What `parse` takes, for messages. */
export const expected =
  "a type of Snowflake: NUMBER(p,s), FLOAT, VARCHAR(n), BINARY(n), BOOLEAN, DATE, TIME(p), TIMESTAMP_NTZ(p), TIMESTAMP_LTZ(p), TIMESTAMP_TZ(p) or VARIANT"

const between = (value: number, low: number, high: number): boolean => value >= low && value <= high

/** The type that `text` names, or undefined when it names none. */
export const parse = (text: string): OverrideType | undefined => {
  const [, name = "", first, second] =
    /^\s*([A-Z_]+)\s*(?:\(\s*(\d{1,9})\s*(?:,\s*(\d{1,9})\s*)?\))?\s*$/i.exec(text) ?? []
  const kind = synonyms[name.toUpperCase()]
  switch (kind) {
    case undefined:
      return undefined
    case "NUMBER": {
      const precision = Number(first ?? 38)
      const scale = Number(second ?? 0)
      return between(precision, 1, 38) && between(scale, 0, Math.min(37, precision))
        ? { kind, precision, scale }
        : undefined
    }
    case "VARCHAR":
    case "BINARY": {
      const [standard, most] = kind === "VARCHAR"
        ? [Type.defaultTextLength, Type.maxTextLength]
        : [Type.defaultBinaryLength, Type.maxBinaryLength]
      const length = Number(first ?? standard)
      return second === undefined && between(length, 1, most) ? { kind, length } : undefined
    }
    case "TIME":
    case "TIMESTAMP_NTZ":
    case "TIMESTAMP_LTZ":
    case "TIMESTAMP_TZ": {
      const precision = Number(first ?? 6)
      return second === undefined && between(precision, 0, 9) ? { kind, precision } : undefined
    }
    default:
      return first === undefined ? { kind } : undefined
  }
}

/** As in DDL. */
export const print = (type: OverrideType): string => {
  switch (type.kind) {
    case "NUMBER":
      return `NUMBER(${type.precision},${type.scale})`
    case "VARCHAR":
    case "BINARY":
      return `${type.kind}(${type.length})`
    case "TIME":
    case "TIMESTAMP_NTZ":
    case "TIMESTAMP_LTZ":
    case "TIMESTAMP_TZ":
      return `${type.kind}(${type.precision})`
    default:
      return type.kind
  }
}

const step = (precision: number): Narrowing | undefined =>
  precision >= 6 ? undefined : { _tag: "Step", micros: 10 ** (6 - precision) }

const double: Narrowing = { _tag: "Double" }

const digits = (precision: number, scale: number): Narrowing => ({ _tag: "Digits", integer: precision - scale, scale })

/** How values of `type` are kept in `override`; undefined when they can't be. */
export const mapping = (type: LogicalType, override: OverrideType, isKey: boolean): TypeMapping | undefined => {
  const sql = print(override)
  if (override.kind === "VARCHAR") return Type.asText(type, sql, override.length)
  switch (type._tag) {
    case "Boolean":
      return override.kind === "BOOLEAN" ? Type.plain("boolean", sql) : undefined
    case "Int16":
    case "Int32":
    case "Int64": {
      const form = type._tag === "Int16" ? "int16" : type._tag === "Int32" ? "int32" : "int64"
      if (override.kind === "FLOAT") {
        return Type.plain(form, sql, { narrowing: form === "int64" ? double : undefined })
      }
      return override.kind === "NUMBER"
        ? Type.plain(form, sql, { narrowing: digits(override.precision, override.scale) })
        : undefined
    }
    case "Float32":
    case "Float64":
      return override.kind === "FLOAT" ? Type.plain("float", sql) : undefined
    case "Decimal":
      if (override.kind === "FLOAT") return Type.plain("number", sql, { narrowing: double })
      return override.kind === "NUMBER"
        ? Type.plain("number", sql, { narrowing: digits(override.precision, override.scale) })
        : undefined
    case "Binary":
      return override.kind === "BINARY" ? Type.binary(sql, override.length) : undefined
    case "Date":
      return override.kind === "DATE" ? Type.plain("date", sql) : undefined
    case "Time":
      return override.kind === "TIME" ? Type.plain("time", sql, { narrowing: step(override.precision) }) : undefined
    case "Timestamp":
      switch (override.kind) {
        case "TIMESTAMP_NTZ":
          return Type.plain("timestamp", sql, { narrowing: step(override.precision) })
        case "TIMESTAMP_LTZ":
        case "TIMESTAMP_TZ":
          return type.utc ? Type.plain("timestampUtc", sql, { narrowing: step(override.precision) }) : undefined
        default:
          return undefined
      }
    case "Json":
    case "Array":
      return override.kind === "VARIANT" && !isKey ? Type.standard(type) : undefined
    case "Text":
    case "Uuid":
    case "Interval":
    case "Other":
      return undefined
  }
}
