/**
 * Snowflake's functions, each with the DuckDB expression that does the same.
 *
 * The table is closed: what isn't in it is an unknown function, as in Snowflake, even where DuckDB has one of that name. Each entry tells how many
 * arguments the function takes.
 */
import * as SnowflakeError from "../SnowflakeError.ts"
import { datePart, timeFormat } from "./DateFormat.ts"
import * as Literal from "./Literal.ts"

/** Arguments are DuckDB SQL. */
export type Build = (args: ReadonlyArray<string>) => string

export interface Function {
  readonly min: number
  readonly max: number
  readonly build: Build
}

/** A window function that reads a frame: Snowflake's default frame is the whole partition, DuckDB's ends at the current row. */
export const readsWholePartition = new Set(["FIRST_VALUE", "LAST_VALUE", "NTH_VALUE"])

/** Functions that take DISTINCT and may be used as aggregates. */
export const aggregates = new Set([
  "COUNT",
  "SUM",
  "AVG",
  "MIN",
  "MAX",
  "MEDIAN",
  "STDDEV",
  "STDDEV_SAMP",
  "STDDEV_POP",
  "VARIANCE",
  "VAR_SAMP",
  "VAR_POP",
  "ANY_VALUE",
  "COUNT_IF",
  "LISTAGG",
  "ARRAY_AGG",
  "BOOLAND_AGG",
  "BOOLOR_AGG",
  "BITAND_AGG",
  "BITOR_AGG",
  "BITXOR_AGG",
  "MAX_BY",
  "MIN_BY",
  "APPROX_COUNT_DISTINCT",
  "MODE",
  "OBJECT_AGG"
])

/** Functions that Snowflake doesn't allow in VALUES. */
export const notInValues = new Set([
  "PARSE_JSON",
  "TRY_PARSE_JSON",
  "TO_VARIANT",
  "TO_ARRAY",
  "TO_OBJECT",
  "ARRAY_CONSTRUCT",
  "OBJECT_CONSTRUCT",
  "OBJECT_CONSTRUCT_KEEP_NULL"
])

const named = (name: string): Build => (args) => `${name}(${args.join(", ")})`
const fn = (min: number, max: number, build: string | Build): Function => ({
  min,
  max,
  build: typeof build === "string" ? named(build) : build
})
const many = Number.POSITIVE_INFINITY
const arg = (args: ReadonlyArray<string>, index: number, otherwise = "NULL"): string => args[index] ?? otherwise
const cast = (type: string): Build => ([x]) => `CAST(sf_plain(${x}) AS ${type})`
const tryCast = (type: string): Build => ([x]) => `TRY_CAST(${x} AS ${type})`
const part = (name: string): Build => ([x]) => `date_part('${name}', ${x})`

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

const nullIfAnyIsNull = (name: string): Build => (args) =>
  `CASE WHEN ${args.map((value) => `(${value}) IS NULL`).join(" OR ")} THEN NULL ELSE ${name}(${args.join(", ")}) END`

const objectConstruct = (keepNulls: boolean): Build => (args) => {
  if (args.length % 2 !== 0) throw SnowflakeError.invalidArguments("OBJECT_CONSTRUCT takes pairs of a key and a value")
  const pairs: Array<string> = []
  for (let at = 0; at < args.length; at += 2) pairs.push(`${args[at]}, sf_to_variant(${args[at + 1]})`)
  const object = `json_object(${pairs.join(", ")})`
  // RFC 7396: a merge patch takes out the keys that are null, which is what OBJECT_CONSTRUCT leaves out.
  return keepNulls ? object : `CAST(json_merge_patch('{}', ${object}) AS JSON)`
}

const pathOf = (object: string, key: string): string => {
  const literal = Literal.stringValue(key)
  if (literal !== undefined) return `sf_path(${object}, ${Literal.string(`$."${literal.replaceAll("\"", "\\\"")}"`)})`
  if (/^-?[0-9]+$/.test(key)) return `sf_path(${object}, '$[${key}]')`
  return `sf_path(${object}, sf_key(CAST(${key} AS VARCHAR)))`
}

const decodeCase: Build = ([x, ...rest]) => {
  let out = "CASE"
  let at = 0
  for (; at + 1 < rest.length; at += 2) out += ` WHEN (${x}) IS NOT DISTINCT FROM (${rest[at]}) THEN ${rest[at + 1]}`
  return `${out}${at < rest.length ? ` ELSE ${rest[at]}` : ""} END`
}

const binary = (name: string): Build => (args) => `${name}(${args[0]}, ${arg(args, 1, "'HEX'")})`

const sha2: Build = ([x, bits = "256"]) => {
  if (bits !== "256") throw SnowflakeError.unsupported("SHA2 of another size than 256")
  return `sha256(${x})`
}

export const functions: Readonly<Record<string, Function>> = {
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
  BOOLNOT: fn(1, 1, ([x]) => `(NOT (${x}))`),

  // Text.
  UPPER: fn(1, 1, "upper"),
  LOWER: fn(1, 1, "lower"),
  INITCAP: fn(
    1,
    1,
    ([x]) =>
      `array_to_string(list_transform(string_split(${x}, ' '), lambda w: upper(left(w, 1)) || lower(substr(w, 2))), ' ')`
  ),
  LENGTH: fn(1, 1, "sf_length"),
  LEN: fn(1, 1, "sf_length"),
  OCTET_LENGTH: fn(1, 1, "sf_octets"),
  TRIM: fn(1, 2, "trim"),
  LTRIM: fn(1, 2, "ltrim"),
  RTRIM: fn(1, 2, "rtrim"),
  SUBSTR: fn(2, 3, "substr"),
  SUBSTRING: fn(2, 3, "substr"),
  LEFT: fn(2, 2, ([x, n]) => `left(${x}, CAST(${n} AS BIGINT))`),
  RIGHT: fn(2, 2, ([x, n]) => `right(${x}, CAST(${n} AS BIGINT))`),
  LPAD: fn(2, 3, (args) => `lpad(sf_to_varchar(${args[0]}), CAST(${args[1]} AS INTEGER), ${arg(args, 2, "' '")})`),
  RPAD: fn(2, 3, (args) => `rpad(sf_to_varchar(${args[0]}), CAST(${args[1]} AS INTEGER), ${arg(args, 2, "' '")})`),
  CONCAT: fn(1, many, (args) => `CAST(${args.map((value) => `sf_to_varchar(${value})`).join(" || ")} AS VARCHAR)`),
  CONCAT_WS: fn(
    2,
    many,
    (args) => `(${args.slice(1).map((value) => `sf_to_varchar(${value})`).join(` || ${args[0]} || `)})`
  ),
  SPLIT_PART: fn(
    3,
    3,
    ([x, by, n]) => `split_part(${x}, ${by}, CASE WHEN (${n}) = 0 THEN 1 ELSE CAST(${n} AS BIGINT) END)`
  ),
  SPLIT: fn(2, 2, ([x, by]) => `to_json(string_split(${x}, ${by}))`),
  REPLACE: fn(2, 3, (args) => `replace(${args[0]}, ${args[1]}, ${arg(args, 2, "''")})`),
  TRANSLATE: fn(3, 3, "translate"),
  REVERSE: fn(1, 1, "reverse"),
  REPEAT: fn(2, 2, ([x, n]) => `repeat(${x}, CAST(${n} AS BIGINT))`),
  SPACE: fn(1, 1, ([n]) => `repeat(' ', CAST(${n} AS BIGINT))`),
  CONTAINS: fn(2, 2, "contains"),
  STARTSWITH: fn(2, 2, "starts_with"),
  ENDSWITH: fn(2, 2, "ends_with"),
  POSITION: fn(2, 2, ([needle, x]) => `strpos(${x}, ${needle})`),
  CHARINDEX: fn(2, 2, ([needle, x]) => `strpos(${x}, ${needle})`),
  ASCII: fn(1, 1, "ascii"),
  UNICODE: fn(1, 1, "unicode"),
  CHR: fn(1, 1, ([n]) => `chr(CAST(${n} AS INTEGER))`),
  CHAR: fn(1, 1, ([n]) => `chr(CAST(${n} AS INTEGER))`),
  REGEXP_LIKE: fn(2, 3, "regexp_full_match"),
  RLIKE: fn(2, 3, "regexp_full_match"),
  REGEXP_REPLACE: fn(2, 3, (args) => `regexp_replace(${args[0]}, ${args[1]}, ${arg(args, 2, "''")}, 'g')`),
  REGEXP_SUBSTR: fn(2, 2, ([x, pattern]) => `nullif(regexp_extract(${x}, ${pattern}), '')`),
  REGEXP_COUNT: fn(2, 2, ([x, pattern]) => `len(regexp_extract_all(${x}, ${pattern}))`),
  MD5: fn(1, 1, "md5"),
  MD5_HEX: fn(1, 1, "md5"),
  SHA1: fn(1, 1, "sha1"),
  SHA1_HEX: fn(1, 1, "sha1"),
  SHA2: fn(1, 2, sha2),
  SHA2_HEX: fn(1, 2, sha2),
  HASH: fn(1, many, (args) => args.length === 1 ? `sf_hash(${args[0]})` : `sf_hash(row(${args.join(", ")}))`),
  UUID_STRING: fn(0, 0, () => "CAST(uuid() AS VARCHAR)"),
  HEX_ENCODE: fn(1, 2, ([x, upper = "1"]) => upper === "0" ? `lower(sf_hex(${x}))` : `sf_hex(${x})`),
  HEX_DECODE_BINARY: fn(1, 1, ([x]) => `sf_to_binary(${x}, 'HEX')`),
  HEX_DECODE_STRING: fn(1, 1, ([x]) => `decode(sf_to_binary(${x}, 'HEX'))`),
  BASE64_ENCODE: fn(1, 1, "sf_base64"),
  BASE64_DECODE_BINARY: fn(1, 1, ([x]) => `sf_to_binary(${x}, 'BASE64')`),
  BASE64_DECODE_STRING: fn(1, 1, ([x]) => `decode(sf_to_binary(${x}, 'BASE64'))`),
  COLLATE: fn(2, 2, () => {
    throw SnowflakeError.unsupported("COLLATE")
  }),

  // Numbers.
  ABS: fn(1, 1, "abs"),
  CEIL: fn(1, 1, "ceil"),
  FLOOR: fn(1, 1, "floor"),
  ROUND: fn(1, 2, "round"),
  TRUNC: fn(1, 1, "trunc"),
  TRUNCATE: fn(1, 1, "trunc"),
  MOD: fn(2, 2, ([x, y]) => `((${x}) % sf_nonzero(${y}))`),
  SIGN: fn(1, 1, "sign"),
  SQRT: fn(1, 1, "sqrt"),
  POWER: fn(2, 2, "pow"),
  POW: fn(2, 2, "pow"),
  EXP: fn(1, 1, "exp"),
  LN: fn(1, 1, "ln"),
  LOG: fn(2, 2, ([base, x]) => `(ln(${x}) / ln(${base}))`),
  PI: fn(0, 0, "pi"),
  DIV0: fn(2, 2, ([x, y]) => `CASE WHEN (${y}) = 0 THEN 0 ELSE (${x}) / (${y}) END`),
  DIV0NULL: fn(2, 2, ([x, y]) => `CASE WHEN coalesce(${y}, 0) = 0 THEN 0 ELSE (${x}) / (${y}) END`),
  BITAND: fn(2, 2, ([x, y]) => `(sf_bits(${x}) & sf_bits(${y}))`),
  BITOR: fn(2, 2, ([x, y]) => `(sf_bits(${x}) | sf_bits(${y}))`),
  BITXOR: fn(2, 2, ([x, y]) => `xor(sf_bits(${x}), sf_bits(${y}))`),
  BITNOT: fn(1, 1, ([x]) => `(~sf_bits(${x}))`),
  BITSHIFTLEFT: fn(2, 2, ([x, n]) => `(sf_bits(${x}) << sf_bits(${n}))`),
  BITSHIFTRIGHT: fn(2, 2, ([x, n]) => `(sf_bits(${x}) >> sf_bits(${n}))`),
  GETBIT: fn(2, 2, ([x, n]) => `((sf_bits(${x}) >> sf_bits(${n})) & 1)`),
  RANDOM: fn(0, 1, () => "CAST((random() - 0.5) * 18446744073709551615 AS BIGINT)"),

  // Conversions.
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
  TRY_TO_BINARY: fn(1, 2, binary("sf_try_to_binary")),

  // Semi-structured values.
  TO_VARIANT: fn(1, 1, "sf_to_variant"),
  TO_JSON: fn(1, 1, ([x]) => `CAST(sf_to_variant(${x}) AS VARCHAR)`),
  PARSE_JSON: fn(1, 1, "sf_parse_json"),
  TRY_PARSE_JSON: fn(1, 1, "sf_try_parse_json"),
  CHECK_JSON: fn(1, 1, ([x]) => `CASE WHEN json_valid(${x}) THEN NULL ELSE 'invalid JSON' END`),
  STRIP_NULL_VALUE: fn(1, 1, "sf_strip_null_value"),
  GET: fn(2, 2, ([x, key]) => pathOf(arg([x ?? ""], 0), key ?? "")),
  GET_PATH: fn(2, 2, ([x, path]) => {
    const literal = Literal.stringValue(path ?? "")
    if (literal === undefined) throw SnowflakeError.unsupported("GET_PATH with a path that isn't a literal")
    return `sf_path(${x}, ${Literal.string(`$.${literal}`)})`
  }),
  TYPEOF: fn(1, 1, "sf_typeof"),
  IS_NULL_VALUE: fn(1, 1, "sf_is_null_value"),
  IS_ARRAY: fn(1, 1, ([x]) => `(sf_typeof(${x}) = 'ARRAY')`),
  IS_OBJECT: fn(1, 1, ([x]) => `(sf_typeof(${x}) = 'OBJECT')`),
  IS_VARCHAR: fn(1, 1, ([x]) => `(sf_typeof(${x}) = 'VARCHAR')`),
  IS_INTEGER: fn(1, 1, ([x]) => `(sf_typeof(${x}) = 'INTEGER')`),
  IS_BOOLEAN: fn(1, 1, ([x]) => `(sf_typeof(${x}) = 'BOOLEAN')`),
  AS_VARCHAR: fn(1, 1, ([x]) => `CASE WHEN sf_typeof(${x}) = 'VARCHAR' THEN sf_to_varchar(${x}) END`),
  ARRAY_CONSTRUCT: fn(
    0,
    many,
    (args) =>
      args.length === 0
        ? "CAST('[]' AS JSON)"
        : `to_json([${args.map((value) => `coalesce(sf_to_variant(${value}), CAST('null' AS JSON))`).join(", ")}])`
  ),
  ARRAY_SIZE: fn(1, 1, "sf_array_size"),
  ARRAY_CONTAINS: fn(2, 2, "sf_array_contains"),
  ARRAY_POSITION: fn(2, 2, "sf_array_position"),
  ARRAY_APPEND: fn(2, 2, "sf_array_append"),
  ARRAY_CAT: fn(2, 2, "sf_array_cat"),
  ARRAY_DISTINCT: fn(1, 1, "sf_array_distinct"),
  ARRAY_SLICE: fn(3, 3, "sf_array_slice"),
  ARRAY_TO_STRING: fn(2, 2, "sf_array_to_string"),
  ARRAY_GENERATE_RANGE: fn(
    2,
    3,
    (args) => `to_json(range(${args.map((value) => `CAST(${value} AS BIGINT)`).join(", ")}))`
  ),
  OBJECT_CONSTRUCT: fn(0, many, objectConstruct(false)),
  OBJECT_CONSTRUCT_KEEP_NULL: fn(0, many, objectConstruct(true)),
  OBJECT_KEYS: fn(1, 1, "sf_object_keys"),
  TO_ARRAY: fn(
    1,
    1,
    ([x]) =>
      `CASE WHEN typeof(${x}) = 'JSON' THEN sf_check_array(sf_to_variant(${x})) ELSE to_json([sf_to_variant(${x})]) END`
  ),
  TO_OBJECT: fn(1, 1, ([x]) => `sf_check_object(sf_to_variant(${x}))`),

  // Dates and times.
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
