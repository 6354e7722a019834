/**
 * SQL identifiers of Snowflake: the one quoting function, and how names of a source become names there.
 *
 * Every identifier in a statement goes through `quote`, so a name is always exactly what it says. A source's name that is
 * plain in PostgreSQL (lower case) becomes plain in Snowflake (upper case), so that people need no quotes in either;
 * any other name is kept as it is.
 */

/** `name` as a quoted SQL identifier. */
export const quote = (name: string): string => `"${name.replaceAll("\"", "\"\"")}"`

/** Several parts as one qualified name: `"DB"."SCHEMA"."TABLE"`. */
export const qualified = (...parts: ReadonlyArray<string>): string => parts.map(quote).join(".")

/** The parts of a name that `qualified` wrote. */
export const parts = (name: string): ReadonlyArray<string> =>
  [...name.matchAll(/"((?:[^"]|"")*)"/g)].map(([, part = ""]) => part.replaceAll("\"\"", "\""))

/** `value` as an SQL string literal. Snowflake reads backslashes in literals as escapes. */
export const literal = (value: string): string => `'${value.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`

const plainSource = /^[a-z_][a-z0-9_$]*$/
const plainTarget = /^[A-Z_][A-Z0-9_$]*$/
const plainConfigured = /^[A-Za-z_][A-Za-z0-9_$]*$/

/** The name in Snowflake for a schema, table or column of the source. */
export const fromSource = (name: string): string => plainSource.test(name) ? name.toUpperCase() : name

/**
 * A name from the configuration, read as Snowflake reads identifiers in SQL: without quotes it is folded to upper case,
 * in double quotes it is exact.
 */
export const fromConfig = (text: string): string => {
  if (plainConfigured.test(text)) return text.toUpperCase()
  if (text.length > 2 && text.startsWith("\"") && text.endsWith("\"")) return text.slice(1, -1).replaceAll("\"\"", "\"")
  return text
}

/** Whether `name` means itself in SQL without quotes. */
export const isPlain = (name: string): boolean => plainTarget.test(name)

/** A path segment of the streaming API: SQL's notation of the identifier, percent-encoded. */
export const pathSegment = (name: string, plain = isPlain(name)): string =>
  encodeURIComponent(plain ? name : quote(name))
