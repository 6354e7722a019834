/**
 * The DuckDB macros that give Snowflake's functions their meaning.
 *
 * They are created again whenever the database is opened. `typeof` of a macro's argument is known when DuckDB plans a query, so a macro that does one
 * thing for JSON and another for text costs nothing at run time. A macro that refuses a value calls `error` with `SF|code|SQLSTATE|message`, which
 * DuckdbError turns into Snowflake's error.
 */

import * as Types from "./SnowflakeType.ts"

/** The message that makes DuckDB fail with a Snowflake error. */
export const failure = (code: string, sqlState: string, message: string): string =>
  `error('SF|${code}|${sqlState}|${message.replaceAll("'", "''")}')`

const timePattern = String.raw`'\s*\d{1,2}:\d{2}(:\d{2}(\.\d{0,9})?)?\s*'`
const instantPattern = String
  .raw`'\s*\d{4}-\d{1,2}-\d{1,2}([ T]\d{1,2}:\d{2}(:\d{2}(\.\d{0,9})?)?\s*(Z|[+-]\d{1,2}(:?\d{2})?)?)?\s*'`
const instantText = (text: string): string =>
  String.raw`regexp_replace(trim(${text}), '\s*([+-]\d{2}):?(\d{2})$', '\1:\2')`
const instantTypes = `'VARCHAR', 'JSON', 'DATE', 'TIMESTAMP', 'TIMESTAMP WITH TIME ZONE', '"NULL"'`

/**
 * `body` over the argument, which it calls `v`, once. DuckDB writes a macro's argument out wherever it is used: a few macros inside each other would otherwise be
 * planned as thousands of expressions.
 */
const once = (argument: string, body: string): string => `list_transform([${argument}], lambda v: ${body})[1]`

const macros: Readonly<Record<string, string>> = {
  // VARIANT -> VARCHAR takes a JSON string out of its quotes and turns JSON null into NULL; everything else keeps its digits.
  "sf_json_text(t)": `CASE WHEN t = 'null' THEN NULL WHEN t LIKE '"%' THEN json_extract_string(t, '$') ELSE t END`,
  "sf_to_varchar(x)": once(
    "x",
    `CASE typeof(v)
    WHEN 'JSON' THEN sf_json_text(CAST(v AS VARCHAR))
    WHEN 'BLOB' THEN hex(CAST(CAST(v AS VARCHAR) AS BLOB))
    WHEN 'TIMESTAMP' THEN strftime(CAST(CAST(v AS VARCHAR) AS TIMESTAMP), '%Y-%m-%d %H:%M:%S.%g')
    WHEN 'TIMESTAMP WITH TIME ZONE' THEN sf_tz_text(CAST(CAST(v AS VARCHAR) AS TIMESTAMPTZ))
    WHEN 'TIME' THEN left(CAST(v AS VARCHAR), 8)
    WHEN 'DOUBLE' THEN regexp_replace(CAST(v AS VARCHAR), '\\.0$', '')
    ELSE CAST(v AS VARCHAR) END`
  ),
  // strftime knows no TIME, so it gets one on some day.
  "sf_format(x, f)": `CASE typeof(x)
    WHEN 'TIME' THEN strftime(CAST('1970-01-01 ' || CAST(x AS VARCHAR) AS TIMESTAMP), f)
    WHEN 'TIMESTAMP WITH TIME ZONE' THEN strftime(CAST(CAST(x AS VARCHAR) AS TIMESTAMPTZ), f)
    ELSE strftime(CAST(CAST(x AS VARCHAR) AS TIMESTAMP), f) END`,
  "sf_tz_text(t)":
    `strftime(t, '%Y-%m-%d %H:%M:%S.%g ') || regexp_replace(rpad(replace(strftime(t, '%z'), ':', ''), 5, '0'), '^$', '+0000')`,
  "sf_to_variant(x)": once(
    "x",
    `CASE typeof(v)
    WHEN 'JSON' THEN CAST(CAST(v AS VARCHAR) AS JSON)
    WHEN 'VARCHAR' THEN to_json(CAST(v AS VARCHAR))
    WHEN 'BLOB' THEN to_json(sf_to_varchar(v))
    WHEN 'DATE' THEN to_json(CAST(v AS VARCHAR))
    WHEN 'TIME' THEN to_json(CAST(v AS VARCHAR))
    WHEN 'TIMESTAMP' THEN to_json(sf_to_varchar(v))
    WHEN 'TIMESTAMP WITH TIME ZONE' THEN to_json(sf_to_varchar(v))
    WHEN 'DOUBLE' THEN CAST(sf_to_varchar(v) AS JSON)
    ELSE CASE WHEN typeof(v) LIKE '%[]' OR typeof(v) LIKE 'STRUCT%' OR typeof(v) LIKE 'MAP%' THEN to_json(v)
      ELSE CAST(CAST(v AS VARCHAR) AS JSON) END
    END`
  ),
  "sf_parse_json(x)": once(
    "sf_to_varchar(x)",
    `CASE WHEN trim(v) = '' THEN NULL
    WHEN NOT json_valid(v) OR sf_lax_json(v) THEN ${failure("100069", "22P02", "Error parsing JSON")}
    ELSE sf_check_variant(CAST(v AS JSON)) END`
  ),
  "sf_try_parse_json(x)": once(
    "sf_to_varchar(x)",
    `CASE WHEN trim(v) = '' THEN NULL WHEN strlen(v) > ${Types.maxVariantLength} OR sf_lax_json(v) THEN NULL ELSE TRY_CAST(v AS JSON) END`
  ),
  // DuckDB's JSON takes these as numbers; Snowflake doesn't know them.
  "sf_lax_json(t)": `regexp_matches(t, '^\\s*-?(nan|inf|infinity)\\s*$', 'i')`,
  "sf_path(x, p)": `CASE WHEN typeof(x) IN ('JSON', '"NULL"') THEN json_extract(CAST(x AS VARCHAR), p)
    ELSE ${
    failure("001044", "42P13", "Invalid argument types for function GET: only VARIANT, ARRAY and OBJECT have elements")
  } END`,
  "sf_key(k)": `'$."' || replace(k, '"', '\\"') || '"'`,
  "sf_is_null_value(x)": `CASE WHEN x IS NULL THEN NULL ELSE CAST(x AS VARCHAR) = 'null' END`,
  "sf_typeof(x)": `CASE typeof(x) WHEN 'JSON' THEN CASE json_type(CAST(x AS VARCHAR))
      WHEN 'NULL' THEN 'NULL_VALUE' WHEN 'BIGINT' THEN 'INTEGER' WHEN 'UBIGINT' THEN 'INTEGER' WHEN 'HUGEINT' THEN 'INTEGER'
      ELSE json_type(CAST(x AS VARCHAR)) END
    ELSE ${failure("001044", "42P13", "Invalid argument types for function TYPEOF")} END`,

  // Storing: a value that doesn't fit its column is refused.
  // Counting bytes is cheap, and no text has more characters than bytes.
  "sf_check_text(t, n)": once(
    "t",
    `CASE WHEN strlen(v) > ${Types.maxTextLength} OR (strlen(v) > n AND length(v) > n) THEN
    error('SF|100078|22000|String is too long and would be truncated: the column holds ' || n || ' characters') ELSE v END`
  ),
  "sf_check_variant(j)": `CASE WHEN strlen(CAST(j AS VARCHAR)) > ${Types.maxVariantLength} THEN ${
    failure("100069", "22P02", `Error parsing JSON: document is too large, max size ${Types.maxVariantLength} bytes`)
  } ELSE j END`,
  "sf_check_binary(b, n)": `CASE WHEN octet_length(b) > n THEN
    error('SF|100145|22000|Binary value is too long and would be truncated: the column holds ' || n || ' bytes') ELSE b END`,
  "sf_check_date(d)": once(
    "d",
    `CASE WHEN v < DATE '0001-01-01' OR v > DATE '9999-12-31' THEN
    error('SF|100040|22007|Date ''' || CAST(v AS VARCHAR) || ''' is not recognized') ELSE v END`
  ),
  "sf_check_time(t)": once(
    "t",
    `CASE WHEN v >= TIME '24:00:00' THEN error('SF|100108|22007|Time ''24:00:00'' is not recognized') ELSE v END`
  ),
  "sf_check_ntz(t)": once(
    "t",
    `CASE WHEN v < TIMESTAMP '0001-01-01' OR v >= TIMESTAMP '9999-12-31 23:59:59.999999' + INTERVAL 1 MICROSECOND THEN
    error('SF|100035|22007|Timestamp ''' || CAST(v AS VARCHAR) || ''' is not recognized') ELSE v END`
  ),
  "sf_check_tz(t)": once(
    "t",
    `CASE WHEN v < TIMESTAMPTZ '0001-01-01 00:00:00+00' OR v >= TIMESTAMPTZ '10000-01-01 00:00:00+00' THEN
    error('SF|100035|22007|Timestamp ''' || CAST(v AS VARCHAR) || ''' is not recognized') ELSE v END`
  ),
  "sf_check_array(j)": `CASE WHEN json_type(CAST(j AS VARCHAR)) <> 'ARRAY' THEN
    ${failure("100071", "22000", "Failed to cast variant value to ARRAY")} ELSE j END`,
  "sf_check_object(j)": `CASE WHEN json_type(CAST(j AS VARCHAR)) <> 'OBJECT' THEN
    ${failure("100071", "22000", "Failed to cast variant value to OBJECT")} ELSE j END`,
  "sf_cut_ntz(t, micros)": `make_timestamp((epoch_us(t) // micros) * micros)`,
  "sf_cut_tz(t, micros)": `make_timestamptz((epoch_us(t) // micros) * micros)`,
  "sf_nonzero(x)": `CASE WHEN x = 0 THEN ${failure("100051", "22012", "Division by zero")} ELSE x END`,

  // Converting.
  // 'null' of a VARIANT is NULL in every other type.
  "sf_plain(x)": `CASE WHEN typeof(x) = 'JSON' AND CAST(x AS VARCHAR) = 'null' THEN NULL ELSE x END`,
  "sf_epoch_ntz(x, scale)":
    `make_timestamp(CAST(round(CAST(CAST(x AS VARCHAR) AS DECIMAL(38, 9)) * CAST(1000000 AS DECIMAL(18, 0)) / CAST(10 ** scale AS BIGINT)) AS BIGINT))`,
  // Text of a date or timestamp, as DuckDB reads it: ISO 8601 only, an offset without the space before it. DuckDB would also take infinity, BC and
  // names of zones.
  "sf_instant_text(t, code, kind)": once(
    "t",
    `CASE WHEN v IS NULL THEN NULL
    WHEN regexp_full_match(v, ${instantPattern}) THEN ${instantText("v")}
    ELSE error('SF|' || code || '|22007|' || kind || ' ''' || v || ''' is not recognized') END`
  ),
  "sf_try_instant_text(x)": `CASE WHEN regexp_full_match(CAST(x AS VARCHAR), ${instantPattern}) THEN ${
    instantText("CAST(x AS VARCHAR)")
  } END`,
  "sf_text_of(x)": `CASE typeof(x) WHEN 'JSON' THEN sf_json_text(CAST(x AS VARCHAR)) ELSE CAST(x AS VARCHAR) END`,
  "sf_to_ntz(x)": `CASE WHEN typeof(x) IN (${instantTypes})
      THEN sf_check_ntz(CAST(sf_instant_text(sf_text_of(x), '100035', 'Timestamp') AS TIMESTAMP))
      ELSE sf_epoch_ntz(x, 0) END`,
  "sf_to_tz(x)": `CASE WHEN typeof(x) IN (${instantTypes})
      THEN sf_check_tz(CAST(sf_instant_text(sf_text_of(x), '100035', 'Timestamp') AS TIMESTAMPTZ))
      ELSE make_timestamptz(epoch_us(sf_epoch_ntz(x, 0))) END`,
  "sf_to_date(x)": `sf_check_date(${
    once(
      "sf_instant_text(sf_text_of(x), '100040', 'Date')",
      "CASE WHEN length(v) <= 10 THEN CAST(v AS DATE) ELSE CAST(CAST(v AS TIMESTAMP) AS DATE) END"
    )
  })`,
  "sf_to_time(x)": `sf_check_time(CASE
    WHEN typeof(x) LIKE 'TIMESTAMP%' THEN CAST(CAST(CAST(x AS VARCHAR) AS TIMESTAMP) AS TIME)
    WHEN sf_text_of(x) IS NULL OR regexp_full_match(sf_text_of(x), ${timePattern}) THEN CAST(sf_text_of(x) AS TIME)
    ELSE error('SF|100108|22007|Time ''' || sf_text_of(x) || ''' is not recognized') END)`,
  "sf_to_binary(x, f)": `CASE WHEN typeof(x) = 'BLOB' THEN CAST(CAST(x AS VARCHAR) AS BLOB)
    WHEN upper(f) = 'HEX' THEN CASE WHEN regexp_full_match(CAST(x AS VARCHAR), '([0-9A-Fa-f]{2})*') THEN unhex(CAST(x AS VARCHAR))
      WHEN x IS NULL THEN NULL ELSE ${
    failure("100115", "22000", "The following string is not a legal hex-encoded value")
  } END
    WHEN upper(f) = 'BASE64' THEN CASE
      WHEN x IS NULL THEN NULL
      WHEN regexp_full_match(CAST(x AS VARCHAR), '([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?') THEN from_base64(CAST(x AS VARCHAR))
      ELSE ${failure("100115", "22000", "The following string is not a legal base64-encoded value")} END
    WHEN upper(f) IN ('UTF-8', 'UTF8') THEN encode(CAST(x AS VARCHAR))
    ELSE ${failure("100096", "22023", "Bad binary format: HEX, BASE64 or UTF-8")} END`,
  "sf_try_to_binary(x, f)":
    `CASE WHEN upper(f) = 'HEX' AND NOT regexp_full_match(CAST(x AS VARCHAR), '([0-9A-Fa-f]{2})*') THEN NULL
    WHEN upper(f) = 'BASE64'
      AND NOT regexp_full_match(CAST(x AS VARCHAR), '([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?') THEN NULL
    ELSE sf_to_binary(x, f) END`,
  "sf_base64(x)":
    `CASE WHEN typeof(x) = 'BLOB' THEN base64(CAST(CAST(x AS VARCHAR) AS BLOB)) ELSE base64(encode(CAST(x AS VARCHAR))) END`,
  "sf_hex(x)":
    `CASE WHEN typeof(x) = 'BLOB' THEN hex(CAST(CAST(x AS VARCHAR) AS BLOB)) ELSE hex(encode(CAST(x AS VARCHAR))) END`,
  "sf_octets(x)":
    `CASE WHEN typeof(x) = 'BLOB' THEN octet_length(CAST(CAST(x AS VARCHAR) AS BLOB)) ELSE strlen(sf_to_varchar(x)) END`,
  "sf_length(x)":
    `CASE WHEN typeof(x) = 'BLOB' THEN octet_length(CAST(CAST(x AS VARCHAR) AS BLOB)) ELSE length(sf_to_varchar(x)) END`,
  "sf_hash(x)": `CAST(hash(x) // 2 AS BIGINT)`,
  "sf_bits(x)": `CAST(x AS BIGINT)`,

  // Semi-structured values.
  "sf_array_size(x)":
    `CASE WHEN json_type(CAST(x AS VARCHAR)) = 'ARRAY' THEN json_array_length(CAST(x AS VARCHAR)) END`,
  "sf_elements(x)": `json_extract(CAST(x AS VARCHAR), '$[*]')`,
  "sf_array_contains(v, a)":
    `list_contains(list_transform(sf_elements(a), lambda e: CAST(e AS VARCHAR)), CAST(sf_to_variant(v) AS VARCHAR))`,
  "sf_array_position(v, a)":
    `list_position(list_transform(sf_elements(a), lambda e: CAST(e AS VARCHAR)), CAST(sf_to_variant(v) AS VARCHAR)) - 1`,
  "sf_array_append(a, v)": `to_json(list_append(sf_elements(a), sf_to_variant(v)))`,
  "sf_array_cat(a, b)": `to_json(list_concat(sf_elements(a), sf_elements(b)))`,
  "sf_array_distinct(a)": `to_json(list_distinct(sf_elements(a)))`,
  "sf_array_to_string(a, s)":
    `array_to_string(list_transform(sf_elements(a), lambda e: sf_json_text(CAST(e AS VARCHAR))), s)`,
  "sf_array_slice(a, f, t)": `to_json(list_slice(sf_elements(a), f + 1, t))`,
  "sf_object_keys(x)": `to_json(json_keys(CAST(x AS VARCHAR)))`,
  "sf_strip_null_value(x)": `CASE WHEN CAST(x AS VARCHAR) = 'null' THEN NULL ELSE x END`
}

const nameOf = (head: string): string => head.slice(0, head.indexOf("("))

/** DuckDB looks up what a macro uses when it is created: used ones come first. */
const inOrder = (): ReadonlyArray<readonly [head: string, body: string]> => {
  const ordered = new Map<string, string>()
  const add = (head: string, body: string) => {
    if (ordered.has(head)) return
    for (const [other, otherBody] of Object.entries(macros)) {
      if (other !== head && body.includes(`${nameOf(other)}(`)) add(other, otherBody)
    }
    ordered.set(head, body)
  }
  for (const [head, body] of Object.entries(macros)) add(head, body)
  return [...ordered]
}

export const definitions: ReadonlyArray<string> = inOrder().map(([head, body]) =>
  `CREATE OR REPLACE MACRO ${head} AS ${body}`
)
