/**
 * Functions on text, bytes and numbers.
 */
import * as SnowflakeError from "../SnowflakeError.ts"
import type { Build, FunctionTable } from "./FunctionBuilders.ts"
import { arg, fn, many } from "./FunctionBuilders.ts"

const sha2: Build = ([x, bits = "256"]) => {
  if (bits !== "256") throw SnowflakeError.unsupported("SHA2 of another size than 256")
  return `sha256(${x})`
}

export const functions: FunctionTable = {
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
  RANDOM: fn(0, 1, () => "CAST((random() - 0.5) * 18446744073709551615 AS BIGINT)")
}
