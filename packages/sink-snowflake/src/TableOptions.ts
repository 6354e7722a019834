/**
 * The options that hold for one table: its own, and the sink's where it has none.
 */
import type { TableId } from "@etl-stream/core/TableSchema"
import type { Config } from "./Config.ts"

export interface TableOptions {
  readonly mode: Config["mode"]
  readonly schemaEvolution: Config["schemaEvolution"]
}

export const of = (config: Config, table: TableId): TableOptions => {
  const own = config.tables[table]
  return {
    mode: own?.mode ?? config.mode,
    schemaEvolution: { ...config.schemaEvolution, ...own?.schemaEvolution }
  }
}
