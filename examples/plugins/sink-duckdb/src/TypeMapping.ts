/**
 * What each logical type becomes in DuckDB: one table in one module, lossless or text.
 *
 * A value takes two steps. Its Arrow column is copied into a column of the `carrier` type, which has the same layout, so that nothing is converted in
 * JavaScript. Where the target's type is another one (decimals, UUIDs and JSON travel as text), SQL casts it, after `refused` has shown that no value
 * would be changed or refused by that.
 */
import { DuckDBTypeId } from "@duckdb/node-api"
import type { LogicalType } from "@etl-stream/core/LogicalType"

/** How values of a column come into DuckDB. */
export interface ColumnType {
  /** DuckDB's type with the layout of the Arrow column. */
  readonly carrier: DuckDBTypeId
  /** The target column's type, as `ALTER TABLE` takes it. */
  readonly sql: string
  /** SQL that is true for a text that `sql` can't hold exactly; undefined where every value fits. */
  readonly refused: ((value: string) => string) | undefined
}

const exact = (carrier: DuckDBTypeId, sql: string): ColumnType => ({ carrier, sql, refused: undefined })

const text = exact(DuckDBTypeId.VARCHAR, "VARCHAR")

/** Digits that DuckDB's DECIMAL holds. */
const mostDigits = 38

/** A cast rounds digits that don't fit and refuses what is no number: neither may happen. */
const decimal = (precision: number, scale: number): ColumnType => {
  const sql = `DECIMAL(${precision},${scale})`
  return {
    carrier: DuckDBTypeId.VARCHAR,
    sql,
    refused: (value) =>
      `(try_cast(${value} AS ${sql}) IS NULL OR length(rtrim(split_part(${value}, '.', 2), '0')) > ${scale})`
  }
}

/** The type of a column, or VARCHAR for one that the options name in `text`. */
export const of = (type: LogicalType, asText: boolean): ColumnType => {
  switch (type._tag) {
    case "Boolean":
      return exact(DuckDBTypeId.BOOLEAN, "BOOLEAN")
    case "Int16":
      return exact(DuckDBTypeId.SMALLINT, "SMALLINT")
    case "Int32":
      return exact(DuckDBTypeId.INTEGER, "INTEGER")
    case "Int64":
      return exact(DuckDBTypeId.BIGINT, "BIGINT")
    case "Float32":
      return exact(DuckDBTypeId.FLOAT, "FLOAT")
    case "Float64":
      return exact(DuckDBTypeId.DOUBLE, "DOUBLE")
    case "Binary":
      return exact(DuckDBTypeId.BLOB, "BLOB")
    case "Date":
      return exact(DuckDBTypeId.DATE, "DATE")
    case "Time":
      return exact(DuckDBTypeId.TIME, "TIME")
    case "Timestamp":
      return type.utc
        ? exact(DuckDBTypeId.TIMESTAMP_TZ, "TIMESTAMP WITH TIME ZONE")
        : exact(DuckDBTypeId.TIMESTAMP, "TIMESTAMP")
    case "Decimal": {
      const { precision, scale = 0 } = type
      if (asText || precision === undefined || precision > mostDigits || scale < 0 || scale > precision) return text
      return decimal(precision, scale)
    }
    case "Uuid":
      return asText ? text : {
        carrier: DuckDBTypeId.VARCHAR,
        sql: "UUID",
        refused: (value) => `try_cast(${value} AS UUID) IS NULL`
      }
    case "Json":
      return asText ? text : {
        carrier: DuckDBTypeId.VARCHAR,
        sql: "JSON",
        refused: (value) => `NOT json_valid(${value})`
      }
    case "Text":
    case "Array":
    case "Interval":
    case "Other":
      return text
  }
}

const digits = (sql: string): readonly [precision: number, scale: number] | undefined => {
  const match = /^DECIMAL\((\d+),(\d+)\)$/.exec(sql)
  return match === null ? undefined : [Number(match[1]), Number(match[2])]
}

const integers = ["SMALLINT", "INTEGER", "BIGINT"]
const wholeDigits: Readonly<Record<string, number>> = { SMALLINT: 5, INTEGER: 10, BIGINT: 19 }

/** Whether every value of the type `from` is the same value in the type `to`: then a column can be changed from one to the other in place. */
export const widens = (from: string, to: string): boolean => {
  if (from === to) return true
  const before = integers.indexOf(from)
  if (before >= 0 && integers.indexOf(to) > before) return true
  if (from === "FLOAT" && to === "DOUBLE") return true
  if (to === "VARCHAR") return from === "JSON" || from === "UUID" || before >= 0 || digits(from) !== undefined
  const [precision, scale] = digits(to) ?? [0, 0]
  if (before >= 0) return precision - scale >= (wholeDigits[from] ?? Infinity)
  const old = digits(from)
  return old !== undefined && scale >= old[1] && precision - scale >= old[0] - old[1]
}
