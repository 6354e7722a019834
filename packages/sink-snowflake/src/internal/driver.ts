/**
 * The npm driver `snowflake-sdk`, loaded at first use and made quiet: no log files, no console output, no probing of cloud
 * metadata addresses, no telemetry.
 */
import * as Effect from "effect/Effect"
import type * as Snowflake from "snowflake-sdk"

/** What the driver's own types leave out. */
export interface StatementOptions extends Snowflake.StatementOption {
  readonly fileStream?: Buffer
}

const silent = { error: () => {}, warn: () => {}, info: () => {}, debug: () => {}, trace: () => {} }

export const load: Effect.Effect<typeof Snowflake.default> = Effect.runSync(Effect.cached(Effect.promise(async () => {
  // Both are read by the driver when it is imported and when it logs in; nothing else in the process uses them.
  process.env["SNOWFLAKE_DISABLE_PLATFORM_DETECTION"] ??= "true"
  process.env["SF_TELEMETRY_DISABLE_CONNECTION_SHAPE"] ??= "true"
  const { default: snowflake } = await import("snowflake-sdk")
  snowflake.configure({ logLevel: "OFF", customLogger: silent, additionalLogToConsole: false })
  return snowflake
})))
