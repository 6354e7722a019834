/**
 * Values as DuckDB literals.
 */

/** A string literal. */
export const string = (text: string): string => `'${text.replaceAll("'", "''")}'`

/** The text of a string literal that `string` made; undefined for any other SQL. */
export const stringValue = (sql: string): string | undefined =>
  /^'(?:[^']|'')*'$/.test(sql) ? sql.slice(1, -1).replaceAll("''", "'") : undefined

/** A list of string literals as DuckDB's list. */
export const strings = (texts: ReadonlyArray<string>): string => `[${texts.map(string).join(", ")}]`
