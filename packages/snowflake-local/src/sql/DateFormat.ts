/**
 * Snowflake's names of date parts and its date formats, as DuckDB's.
 *
 * Both lists are closed: a part or a format element that isn't on them is refused rather than guessed at.
 */
import * as SnowflakeError from "../SnowflakeError.ts"
import * as Literal from "./Literal.ts"

/** Snowflake's date parts that DuckDB knows by the same meaning. */
const dateParts: Readonly<Record<string, string>> = {
  YEAR: "year",
  YYYY: "year",
  YY: "year",
  Y: "year",
  YEARS: "year",
  QUARTER: "quarter",
  Q: "quarter",
  MONTH: "month",
  MM: "month",
  MON: "month",
  MONTHS: "month",
  WEEK: "week",
  W: "week",
  WEEKS: "week",
  DAY: "day",
  D: "day",
  DD: "day",
  DAYS: "day",
  HOUR: "hour",
  H: "hour",
  HH: "hour",
  HOURS: "hour",
  MINUTE: "minute",
  M: "minute",
  MI: "minute",
  MIN: "minute",
  MINUTES: "minute",
  SECOND: "second",
  S: "second",
  SEC: "second",
  SECONDS: "second",
  MILLISECOND: "millisecond",
  MS: "millisecond",
  MILLISECONDS: "millisecond",
  MICROSECOND: "microsecond",
  US: "microsecond",
  MICROSECONDS: "microsecond",
  DAYOFWEEK: "dow",
  DAYOFYEAR: "doy",
  WEEKISO: "week",
  DAYOFWEEKISO: "isodow",
  EPOCH_SECOND: "epoch",
  EPOCH: "epoch"
}

/** The DuckDB date part that an argument (a word or a string) names. */
export const datePart = (sql: string): string => {
  const name = (Literal.stringValue(sql) ?? sql.replaceAll("\"", "")).toUpperCase()
  const found = dateParts[name]
  if (found === undefined) throw SnowflakeError.invalidArguments(`'${name}' is not a valid date/time component`)
  return found
}

/** A Snowflake format as one of strptime's. */
export const timeFormat = (sql: string): string => {
  const format = Literal.stringValue(sql)
  if (format === undefined) throw SnowflakeError.unsupported("a date format that isn't a literal")
  const parts: ReadonlyArray<readonly [RegExp, string]> = [
    [/^YYYY/i, "%Y"],
    [/^MM/i, "%m"],
    [/^DD/i, "%d"],
    [/^HH24/i, "%H"],
    [/^MI/i, "%M"],
    [/^SS/i, "%S"],
    [/^FF[0-9]?/i, "%f"],
    [/^TZH:?TZM/i, "%z"],
    [/^"([^"]*)"/, ""],
    [/^[-/:. TZ,]/i, ""]
  ]
  let rest = format
  let out = ""
  while (rest !== "") {
    const found = parts.find(([pattern]) => pattern.test(rest))
    const match = found?.[0].exec(rest)
    if (found === undefined || match == null) throw SnowflakeError.unsupported(`the date format ${format}`)
    out += found[1] === "" ? (match[1] ?? match[0]) : found[1]
    rest = rest.slice(match[0].length)
  }
  return Literal.string(out)
}
