/**
 * Conversions from type to type.
 */
import * as SnowflakeError from "../SnowflakeError.ts"
import { timeFormat } from "./DateFormat.ts"
import type { Build, FunctionTable } from "./FunctionBuilders.ts"
import { arg, fn } from "./FunctionBuilders.ts"
import * as Literal from "./Literal.ts"

const cast = (type: string): Build => ([x]) => `CAST(sf_plain(${x}) AS ${type})`

const tryCast = (type: string): Build => ([x]) => `TRY_CAST(${x} AS ${type})`

const isAuto = (sql: string | undefined): boolean =>
  sql === undefined || Literal.stringValue(sql)?.toUpperCase() === "AUTO"

const timestamp = (kind: "ntz" | "tz", attempt: boolean): Build => (args) => {
  const x = arg(args, 0)
  const format = args[1]
  if (format !== undefined && /^[0-9]+$/.test(format)) {
    const epoch = `sf_epoch_ntz(${x}, ${format})`
    return kind === "ntz" ? epoch : `make_timestamptz(epoch_us(${epoch}))`
  }
  const type = kind === "ntz" ? "TIMESTAMP" : "TIMESTAMPTZ"
  if (isAuto(format)) {
    return attempt
      ? `sf_check_${kind}(TRY_CAST(sf_try_instant_text(${x}) AS ${type}))`
      : `sf_to_${kind}(${x})`
  }
  const parse = `${attempt ? "try_" : ""}strptime(${x}, ${timeFormat(format ?? "")})`
  return `sf_check_${kind}(CAST(${parse} AS ${type}))`
}

const date = (attempt: boolean): Build => (args) => {
  const x = arg(args, 0)
  if (isAuto(args[1])) {
    return attempt
      ? `sf_check_date(TRY_CAST(sf_try_instant_text(${x}) AS DATE))`
      : `sf_to_date(${x})`
  }
  return `sf_check_date(CAST(${attempt ? "try_" : ""}strptime(${x}, ${timeFormat(args[1] ?? "")}) AS DATE))`
}

const number = (attempt: boolean): Build => (args) => {
  const [x, ...rest] = args
  const digits = rest.filter((value) => /^[0-9]+$/.test(value))
  if (digits.length !== rest.length) throw SnowflakeError.unsupported("TO_NUMBER with a format")
  const type = `DECIMAL(${digits[0] ?? "38"}, ${digits[1] ?? "0"})`
  return attempt ? `TRY_CAST(${x} AS ${type})` : `CAST(sf_plain(${x}) AS ${type})`
}

const text: Build = (args) => {
  const [x, format] = args
  if (format === undefined) return `sf_to_varchar(${x})`
  switch (Literal.stringValue(format)?.toUpperCase()) {
    case "HEX":
      return `sf_hex(${x})`
    case "BASE64":
      return `sf_base64(${x})`
    case "UTF-8":
    case "UTF8":
      return `decode(${x})`
    default:
      return `sf_format(${x}, ${timeFormat(format)})`
  }
}

const binary = (name: string): Build => (args) => `${name}(${args[0]}, ${arg(args, 1, "'HEX'")})`

export const functions: FunctionTable = {
  TO_VARCHAR: fn(1, 2, text),
  TO_CHAR: fn(1, 2, text),
  TO_NUMBER: fn(1, 4, number(false)),
  TO_DECIMAL: fn(1, 4, number(false)),
  TO_NUMERIC: fn(1, 4, number(false)),
  TRY_TO_NUMBER: fn(1, 4, number(true)),
  TRY_TO_DECIMAL: fn(1, 4, number(true)),
  TRY_TO_NUMERIC: fn(1, 4, number(true)),
  TO_DOUBLE: fn(1, 1, cast("DOUBLE")),
  TRY_TO_DOUBLE: fn(1, 1, tryCast("DOUBLE")),
  TO_BOOLEAN: fn(1, 1, cast("BOOLEAN")),
  TRY_TO_BOOLEAN: fn(1, 1, tryCast("BOOLEAN")),
  TO_DATE: fn(1, 2, date(false)),
  DATE: fn(1, 2, date(false)),
  TRY_TO_DATE: fn(1, 2, date(true)),
  TO_TIME: fn(1, 1, "sf_to_time"),
  TIME: fn(1, 1, "sf_to_time"),
  TRY_TO_TIME: fn(1, 1, ([x]) => `sf_check_time(TRY_CAST(${x} AS TIME))`),
  TO_TIMESTAMP: fn(1, 2, timestamp("ntz", false)),
  TO_TIMESTAMP_NTZ: fn(1, 2, timestamp("ntz", false)),
  TO_TIMESTAMP_LTZ: fn(1, 2, timestamp("tz", false)),
  TO_TIMESTAMP_TZ: fn(1, 2, timestamp("tz", false)),
  TRY_TO_TIMESTAMP: fn(1, 2, timestamp("ntz", true)),
  TRY_TO_TIMESTAMP_NTZ: fn(1, 2, timestamp("ntz", true)),
  TRY_TO_TIMESTAMP_LTZ: fn(1, 2, timestamp("tz", true)),
  TRY_TO_TIMESTAMP_TZ: fn(1, 2, timestamp("tz", true)),
  TO_BINARY: fn(1, 2, binary("sf_to_binary")),
  TRY_TO_BINARY: fn(1, 2, binary("sf_try_to_binary"))
}
