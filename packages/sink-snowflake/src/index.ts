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
