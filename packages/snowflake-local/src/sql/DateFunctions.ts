/**
 * Functions on dates and times.
 */
import { datePart } from "./DateFormat.ts"
import type { Build, FunctionTable } from "./FunctionBuilders.ts"
import { fn } from "./FunctionBuilders.ts"

const part = (name: string): Build => ([x]) => `date_part('${name}', ${x})`

export const functions: FunctionTable = {
  DATEADD: fn(3, 3, ([name, n, x]) => `(${x} + to_${datePart(name ?? "")}s(CAST(${n} AS INTEGER)))`),
  TIMEADD: fn(3, 3, ([name, n, x]) => `(${x} + to_${datePart(name ?? "")}s(CAST(${n} AS INTEGER)))`),
  TIMESTAMPADD: fn(3, 3, ([name, n, x]) => `(${x} + to_${datePart(name ?? "")}s(CAST(${n} AS INTEGER)))`),
  DATEDIFF: fn(3, 3, ([name, x, y]) => `date_diff('${datePart(name ?? "")}', ${x}, ${y})`),
  TIMEDIFF: fn(3, 3, ([name, x, y]) => `date_diff('${datePart(name ?? "")}', ${x}, ${y})`),
  TIMESTAMPDIFF: fn(3, 3, ([name, x, y]) => `date_diff('${datePart(name ?? "")}', ${x}, ${y})`),
  DATE_TRUNC: fn(2, 2, ([name, x]) => `date_trunc('${datePart(name ?? "")}', ${x})`),
  DATE_PART: fn(2, 2, ([name, x]) => `CAST(floor(date_part('${datePart(name ?? "")}', ${x})) AS BIGINT)`),
  YEAR: fn(1, 1, part("year")),
  QUARTER: fn(1, 1, part("quarter")),
  MONTH: fn(1, 1, part("month")),
  WEEK: fn(1, 1, part("week")),
  DAY: fn(1, 1, part("day")),
  DAYOFMONTH: fn(1, 1, part("day")),
  DAYOFWEEK: fn(1, 1, part("dow")),
  DAYOFYEAR: fn(1, 1, part("doy")),
  HOUR: fn(1, 1, part("hour")),
  MINUTE: fn(1, 1, part("minute")),
  SECOND: fn(1, 1, part("second")),
  LAST_DAY: fn(1, 1, "last_day"),
  DATE_FROM_PARTS: fn(3, 3, "make_date"),
  TIMESTAMP_NTZ_FROM_PARTS: fn(6, 6, "make_timestamp"),
  CONVERT_TIMEZONE: fn(2, 3, (args) =>
    args.length === 2
      ? `timezone(${args[0]}, CAST(${args[1]} AS TIMESTAMPTZ))`
      : `timezone(${args[1]}, timezone(${args[0]}, CAST(${args[2]} AS TIMESTAMP)))`)
}
