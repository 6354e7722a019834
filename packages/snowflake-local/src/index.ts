/**
 * A Snowflake-compatible server on DuckDB, for development, demo and tests.
 */
export * as Accounts from "./Accounts.ts"
export * as Catalog from "./Catalog.ts"
export * as Server from "./Server.ts"
export * as Storage from "./Storage.ts"
