/**
 * Names: Snowflake's case rules on top of DuckDB's.
 *
 * Snowflake folds an unquoted name to upper case and keeps a quoted one exactly, so `"a"` and `"A"` are two names. DuckDB compares names without
 * case, so a name with lower-case letters is stored under an encoded name that holds which letters are lower case: `Id` becomes `Id#2`. Names without
 * lower-case letters, which is nearly all of them, are stored as they are.
 */

/** Quotes a name for SQL. */
export const quote = (name: string): string => `"${name.replaceAll("\"", "\"\"")}"`

/** What an unquoted name means. */
export const fold = (name: string): string => name.toUpperCase()

/** Whether a name can be written without quotes. */
export const isPlain = (name: string): boolean => /^[A-Z_][A-Z0-9_$]*$/.test(name)

/** How Snowflake prints a name in messages: quoted only when it has to be. */
export const print = (name: string): string => isPlain(name) ? name : quote(name)

const lowerCase = /[a-z]/

/** The name that DuckDB stores for a Snowflake name (not yet quoted). */
export const encode = (name: string): string => {
  if (!lowerCase.test(name) && !name.includes("#")) return name
  let mask = 0n
  for (let at = 0; at < name.length; at++) {
    const code = name.charCodeAt(at)
    if (code >= 97 && code <= 122) mask |= 1n << BigInt(at)
  }
  const escaped = name.replaceAll("#", "##")
  return mask === 0n ? escaped : `${escaped}#${mask.toString(16)}`
}

/** The Snowflake name behind a DuckDB name; a name that was not made by `encode` is returned as it is. */
export const decode = (stored: string): string => {
  if (!stored.includes("#")) return stored
  return stored.replace(/(?<!#)((?:##)*)#[0-9a-f]+$/, "$1").replaceAll("##", "#")
}

/** The quoted DuckDB name of a column. */
export const column = (name: string): string => quote(encode(name))

/** The DuckDB name of a Snowflake schema (not yet quoted). */
export const schemaName = (database: string, schema: string): string => `${encode(database)}.${encode(schema)}`

/** The quoted DuckDB name of a table, view or file-backed object. */
export const qualified = (database: string, schema: string, name: string): string =>
  `${quote(schemaName(database, schema))}.${quote(encode(name))}`
