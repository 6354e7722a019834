/**
 * Storing a value in a column: which types Snowflake converts by itself, and the checks that DuckDB wouldn't make.
 *
 * DuckDB converts almost anything to anything when it stores. Snowflake doesn't, so each value is cast here by what it is and what it is to become, or
 * refused.
 */
import type { DuckDBType } from "@duckdb/node-api"
import { DuckDBTypeId } from "@duckdb/node-api"
import type { Column } from "../Catalog.ts"
import * as ResultRows from "../ResultRows.ts"
import * as SnowflakeError from "../SnowflakeError.ts"
import * as Cast from "../sql/Cast.ts"
import { failure } from "../sql/Macros.ts"
import type { SnowflakeType } from "../sql/SnowflakeType.ts"
import * as Types from "../sql/SnowflakeType.ts"

type Kind = SnowflakeType["kind"]

/** The kinds that Snowflake turns into the key's kind by itself. VARIANT turns into everything (its content decides). */
const coerced: Readonly<Record<Kind, ReadonlyArray<Kind>>> = {
  FIXED: ["FIXED", "REAL", "TEXT", "BOOLEAN", "VARIANT"],
  REAL: ["FIXED", "REAL", "TEXT", "BOOLEAN", "VARIANT"],
  TEXT: [
    "TEXT",
    "FIXED",
    "REAL",
    "BOOLEAN",
    "DATE",
    "TIME",
    "TIMESTAMP_NTZ",
    "TIMESTAMP_LTZ",
    "TIMESTAMP_TZ",
    "VARIANT"
  ],
  BINARY: ["BINARY"],
  BOOLEAN: ["BOOLEAN", "TEXT", "FIXED", "VARIANT"],
  DATE: ["DATE", "TEXT", "TIMESTAMP_NTZ", "TIMESTAMP_LTZ", "TIMESTAMP_TZ", "VARIANT"],
  TIME: ["TIME", "TEXT", "TIMESTAMP_NTZ", "TIMESTAMP_LTZ", "TIMESTAMP_TZ", "VARIANT"],
  TIMESTAMP_NTZ: ["TIMESTAMP_NTZ", "TIMESTAMP_LTZ", "TIMESTAMP_TZ", "DATE", "TEXT", "VARIANT"],
  TIMESTAMP_LTZ: ["TIMESTAMP_NTZ", "TIMESTAMP_LTZ", "TIMESTAMP_TZ", "DATE", "TEXT", "VARIANT"],
  TIMESTAMP_TZ: ["TIMESTAMP_NTZ", "TIMESTAMP_LTZ", "TIMESTAMP_TZ", "DATE", "TEXT", "VARIANT"],
  VARIANT: ["VARIANT", "ARRAY", "OBJECT"],
  ARRAY: ["ARRAY", "VARIANT"],
  OBJECT: ["OBJECT", "VARIANT"]
}

/** DuckDB SQL that makes `sql`, of type `source`, storable in the column; throws when Snowflake would refuse the types. */
export const assign = (column: Column, sql: string, source: DuckDBType): string => {
  if (source.typeId === DuckDBTypeId.SQLNULL) return `CAST(${sql} AS ${column.duckdbType})`
  const given = ResultRows.typeOf(source)
  const { type } = column
  if (!coerced[type.kind].includes(given.kind)) {
    const error = SnowflakeError.typeMismatch(Types.print(type), `${Types.print(given)} for column ${column.name}`)
    // DuckDB types a column of nothing but NULLs as INTEGER; Snowflake lets such a column through.
    if (source.typeId !== DuckDBTypeId.INTEGER) throw error
    const refused = failure(error.code, error.sqlState, error.message.replaceAll("\n", " "))
    return `CAST(CASE WHEN ${sql} IS NOT NULL THEN ${refused} END AS ${column.duckdbType})`
  }
  return fit(type, sql, given)
}

const fit = (type: SnowflakeType, sql: string, given: SnowflakeType): string => {
  switch (type.kind) {
    case "TEXT":
      return `sf_check_text(${given.kind === "TEXT" ? sql : `sf_to_varchar(${sql})`}, ${type.length})`
    case "BINARY":
      return `sf_check_binary(${sql}, ${type.length})`
    case "VARIANT":
      return `sf_check_variant(${sql})`
    default:
      return Cast.cast(sql, type)
  }
}
