/**
 * The DuckDB macros that give Snowflake's functions their meaning. They are (re)created when the database is opened.
 */

export const definitions: ReadonlyArray<string> = []
