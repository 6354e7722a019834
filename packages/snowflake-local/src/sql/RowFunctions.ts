/**
 * Aggregates, window functions and conditions.
 */
import type { Build, FunctionTable } from "./FunctionBuilders.ts"
import { fn, many } from "./FunctionBuilders.ts"

const nullIfAnyIsNull = (name: string): Build => (args) =>
  `CASE WHEN ${args.map((value) => `(${value}) IS NULL`).join(" OR ")} THEN NULL ELSE ${name}(${args.join(", ")}) END`

const decodeCase: Build = ([x, ...rest]) => {
  let out = "CASE"
  let at = 0
  for (; at + 1 < rest.length; at += 2) out += ` WHEN (${x}) IS NOT DISTINCT FROM (${rest[at]}) THEN ${rest[at + 1]}`
  return `${out}${at < rest.length ? ` ELSE ${rest[at]}` : ""} END`
}

export const functions: FunctionTable = {
  // Aggregates; ARRAY_AGG, LISTAGG and OBJECT_AGG are written by Expression, which knows their order.
  COUNT: fn(0, many, (args) => `count(${args.join(", ")})`),
  SUM: fn(1, 1, "sum"),
  AVG: fn(1, 1, "avg"),
  MIN: fn(1, 1, "min"),
  MAX: fn(1, 1, "max"),
  MEDIAN: fn(1, 1, "median"),
  MODE: fn(1, 1, "mode"),
  STDDEV: fn(1, 1, "stddev_samp"),
  STDDEV_SAMP: fn(1, 1, "stddev_samp"),
  STDDEV_POP: fn(1, 1, "stddev_pop"),
  VARIANCE: fn(1, 1, "var_samp"),
  VAR_SAMP: fn(1, 1, "var_samp"),
  VAR_POP: fn(1, 1, "var_pop"),
  ANY_VALUE: fn(1, 1, "any_value"),
  COUNT_IF: fn(1, 1, "count_if"),
  BOOLAND_AGG: fn(1, 1, "bool_and"),
  BOOLOR_AGG: fn(1, 1, "bool_or"),
  BITAND_AGG: fn(1, 1, ([x]) => `bit_and(sf_bits(${x}))`),
  BITOR_AGG: fn(1, 1, ([x]) => `bit_or(sf_bits(${x}))`),
  BITXOR_AGG: fn(1, 1, ([x]) => `bit_xor(sf_bits(${x}))`),
  APPROX_COUNT_DISTINCT: fn(1, 1, "approx_count_distinct"),
  // Rows whose ordering value is NULL are ignored; a NULL in the first argument is kept.
  MAX_BY: fn(2, 2, "arg_max_null"),
  MIN_BY: fn(2, 2, "arg_min_null"),

  // Window functions.
  ROW_NUMBER: fn(0, 0, "row_number"),
  RANK: fn(0, 0, "rank"),
  DENSE_RANK: fn(0, 0, "dense_rank"),
  PERCENT_RANK: fn(0, 0, "percent_rank"),
  CUME_DIST: fn(0, 0, "cume_dist"),
  NTILE: fn(1, 1, "ntile"),
  LAG: fn(1, 3, "lag"),
  LEAD: fn(1, 3, "lead"),
  FIRST_VALUE: fn(1, 1, "first_value"),
  LAST_VALUE: fn(1, 1, "last_value"),
  NTH_VALUE: fn(2, 2, "nth_value"),
  SEQ1: fn(0, 1, () => "(row_number() OVER () - 1)"),
  SEQ2: fn(0, 1, () => "(row_number() OVER () - 1)"),
  SEQ4: fn(0, 1, () => "(row_number() OVER () - 1)"),
  SEQ8: fn(0, 1, () => "(row_number() OVER () - 1)"),

  // Conditions.
  IFF: fn(3, 3, ([condition, yes, no]) => `CASE WHEN ${condition} THEN ${yes} ELSE ${no} END`),
  NVL: fn(2, 2, "coalesce"),
  IFNULL: fn(2, 2, "coalesce"),
  NVL2: fn(3, 3, ([x, yes, no]) => `CASE WHEN (${x}) IS NOT NULL THEN ${yes} ELSE ${no} END`),
  COALESCE: fn(2, many, "coalesce"),
  NULLIF: fn(2, 2, "nullif"),
  NULLIFZERO: fn(1, 1, ([x]) => `nullif(${x}, 0)`),
  ZEROIFNULL: fn(1, 1, ([x]) => `coalesce(${x}, 0)`),
  EQUAL_NULL: fn(2, 2, ([x, y]) => `((${x}) IS NOT DISTINCT FROM (${y}))`),
  DECODE: fn(3, many, decodeCase),
  GREATEST: fn(1, many, nullIfAnyIsNull("greatest")),
  LEAST: fn(1, many, nullIfAnyIsNull("least")),
  GREATEST_IGNORE_NULLS: fn(1, many, "greatest"),
  LEAST_IGNORE_NULLS: fn(1, many, "least"),
  BOOLAND: fn(2, 2, ([x, y]) => `((${x}) AND (${y}))`),
  BOOLOR: fn(2, 2, ([x, y]) => `((${x}) OR (${y}))`),
  BOOLNOT: fn(1, 1, ([x]) => `(NOT (${x}))`)
}
