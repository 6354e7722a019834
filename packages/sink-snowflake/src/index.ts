/**
 * The Snowflake sink of etl-stream: Snowpipe Streaming into journals, stage and COPY for snapshots, MERGE into mirrored tables.
 */
import * as Plugin from "@etl-stream/core/Plugin"
import { Config } from "./Config.ts"
import * as DeadLetterReplay from "./DeadLetterReplay.ts"
import * as Doctor from "./Doctor.ts"
import * as ErrorPolicy from "./ErrorPolicy.ts"
import * as SnowflakeSink from "./SnowflakeSink.ts"

/** The plugin, `@etl-stream/sink-snowflake` in configurations. */
export const plugin = Plugin.sink({
  name: ErrorPolicy.plugin,
  version: "0.1.0",
  summary:
    "Mirrors tables into Snowflake, or keeps a changelog there: Snowpipe Streaming, COPY and MERGE, exactly once",
  description:
    "Changes are streamed into journal tables at once, and merged from there into the tables (mode mirror), or kept as they are (changelog, history). Missing schemas, " +
    "tables and columns are created. What each mode does, and how the user and its key pair are made: docs/snowflake.md.",
  examples: [
    {
      title: "Tables as they are at the source, merged every five minutes",
      options: {
        account: "EXAMPLE-ACCOUNT",
        user: "LOADER",
        auth: { privateKeyFile: "./keys/loader.p8", passphrase: "${env:LOADER_KEY_PASSPHRASE}" },
        role: "LOADER",
        warehouse: "LOADING",
        database: "RAW",
        schema: "SHOP",
        merge: { every: "5 minutes" }
      }
    },
    {
      title:
        "Rows that are deleted stay with a mark, one table keeps every version, and values that Snowflake can't hold go to files",
      options: {
        account: "EXAMPLE-ACCOUNT",
        user: "LOADER",
        auth: { token: "${file:/run/secrets/snowflake}" },
        warehouse: "LOADING",
        database: "RAW",
        deletes: "soft",
        tables: { "public.prices": { mode: "history" } },
        deadLetters: { directory: "./dead-letters" }
      }
    }
  ],
  config: Config,
  make: SnowflakeSink.make,
  // Channels and journals are the pipeline's own, by its name; targets follow from the tables, which sources claim.
  claims: () => [],
  check: Doctor.check,
  deadLetters: DeadLetterReplay.make
})

export * as SnowflakeConfig from "./Config.ts"
export * as SnowflakeDoctor from "./Doctor.ts"
export * as SnowflakeSink from "./SnowflakeSink.ts"
