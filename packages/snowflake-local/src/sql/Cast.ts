/**
 * CAST to Snowflake's types.
 */
import type { SnowflakeType } from "./SnowflakeType.ts"
import * as Types from "./SnowflakeType.ts"

/** A CAST to a Snowflake type, as Snowflake does it. */
export const cast = (sql: string, type: SnowflakeType, attempt = false): string => {
  const castTo = (duckdb: string) => attempt ? `TRY_CAST(${sql} AS ${duckdb})` : `CAST(sf_plain(${sql}) AS ${duckdb})`
  switch (type.kind) {
    case "TEXT":
      return `sf_check_text(sf_to_varchar(${sql}), ${type.length})`
    case "FIXED":
    case "REAL":
    case "BOOLEAN":
      return castTo(Types.duckdbType(type))
    case "DATE":
      return attempt ? `sf_check_date(TRY_CAST(sf_try_instant_text(${sql}) AS DATE))` : `sf_to_date(${sql})`
    case "TIME":
      return attempt ? `sf_check_time(${castTo("TIME")})` : `sf_to_time(${sql})`
    case "TIMESTAMP_NTZ":
      return attempt
        ? `sf_check_ntz(TRY_CAST(sf_try_instant_text(${sql}) AS TIMESTAMP))`
        : cut(`sf_to_ntz(${sql})`, "ntz", type.scale)
    case "TIMESTAMP_LTZ":
    case "TIMESTAMP_TZ":
      return attempt
        ? `sf_check_tz(TRY_CAST(sf_try_instant_text(${sql}) AS TIMESTAMPTZ))`
        : cut(`sf_to_tz(${sql})`, "tz", type.scale)
    case "BINARY":
      return attempt
        ? `sf_try_to_binary(${sql}, 'HEX')`
        : `sf_check_binary(sf_to_binary(${sql}, 'HEX'), ${type.length})`
    case "VARIANT":
      return `sf_to_variant(${sql})`
    case "ARRAY":
      return `sf_check_array(sf_to_variant(${sql}))`
    case "OBJECT":
      return `sf_check_object(sf_to_variant(${sql}))`
  }
}

/** Fractions of a second beyond a type's scale are cut off. */
export const cut = (sql: string, kind: "ntz" | "tz", scale: number): string =>
  scale >= 6 ? sql : `sf_cut_${kind}(${sql}, ${10 ** (6 - scale)})`
