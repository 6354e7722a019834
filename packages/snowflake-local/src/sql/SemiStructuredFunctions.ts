/**
 * Functions on VARIANT, ARRAY and OBJECT.
 */
import * as SnowflakeError from "../SnowflakeError.ts"
import type { Build, FunctionTable } from "./FunctionBuilders.ts"
import { arg, fn, many } from "./FunctionBuilders.ts"
import * as Literal from "./Literal.ts"

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

export const functions: FunctionTable = {
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
  TO_OBJECT: fn(1, 1, ([x]) => `sf_check_object(sf_to_variant(${x}))`)
}
