/**
 * A sink for etl-stream that mirrors tables into a DuckDB file: the plugin `etl-stream-sink-duckdb`.
 */
import * as Plugin from "@etl-stream/core/Plugin"
import { Config } from "./Config.ts"
import * as Doctor from "./Doctor.ts"
import * as DuckdbSink from "./DuckdbSink.ts"
import { pluginName } from "./Failure.ts"

export { Config }

export const plugin = Plugin.sink({
  name: pluginName,
  version: "0.1.0",
  summary: "Mirrors tables into a DuckDB file, exactly once",
  stability: "experimental",
  description:
    "Each table of the source is a table of the file, as it is now: inserts, updates, deletes, key changes and truncates are applied in one DuckDB transaction with the " +
    "position that they belong to, so a crash loses and doubles nothing. What the sink knows of its tables is in the schema `etl_stream` of the same file. " +
    "Types that DuckDB can't hold exactly are text.",
  examples: [
    { title: "Tables go to schemas named as at the source", options: { file: "./warehouse.duckdb" } },
    {
      title: "All tables in one schema, a decimal that may be NaN as text",
      options: { file: "./warehouse.duckdb", schema: "shop", text: ["public.orders.rate"], memory: "2GiB", threads: 4 }
    }
  ],
  config: Config,
  make: DuckdbSink.make,
  check: Doctor.check,
  // Pipelines of one process may share the file; which tables are whose is written in it, and other processes are locked out.
  claims: () => []
})
