/**
 * The options that hold for one table: its own, and the sink's where it has none.
 */
import type { TableId } from "@etl-stream/core/TableSchema"
import type { Config } from "./Config.ts"
import type { OverrideType } from "./TypeOverride.ts"
import * as TypeOverride from "./TypeOverride.ts"

export interface TableOptions {
  readonly mode: Config["mode"]
  readonly channels: number
  readonly deletes: Config["deletes"]
  readonly keyless: Config["keyless"]
  readonly merge: Pick<Config["merge"], "every">
  readonly schemaEvolution: Config["schemaEvolution"]
  /** Types that were chosen for columns, by the source's names. */
  readonly types: ReadonlyMap<string, OverrideType>
}

/** Where a table's option is in the sink's configuration, for messages. */
export const path = (table: TableId, ...keys: ReadonlyArray<string>): string =>
  ["tables", ...[table, ...keys].map((key) => /^[A-Za-z_]\w*$/.test(key) ? key : JSON.stringify(key))].join(".")

export const of = (config: Config, table: TableId): TableOptions => {
  const own = config.tables[table]
  const types = Object.entries(own?.columns ?? {}).flatMap(([column, { type }]) => {
    const parsed = type === undefined ? undefined : TypeOverride.parse(type)
    return parsed === undefined ? [] : [[column, parsed] as const]
  })
  return {
    mode: own?.mode ?? config.mode,
    channels: own?.channels ?? 1,
    deletes: own?.deletes ?? config.deletes,
    keyless: own?.keyless ?? config.keyless,
    merge: { every: own?.merge?.every ?? config.merge.every },
    schemaEvolution: { ...config.schemaEvolution, ...own?.schemaEvolution },
    types: new Map(types)
  }
}
