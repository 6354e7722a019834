/**
 * The source: what the options declare, as a row-wise source over the log.
 *
 * `RowSource` does what every source has to do (batches, watermarks, beginning where the sink is, skipping what it has, new copies); this plugin gives pieces with positions.
 */
import type { Condition, Conditions } from "@etl-stream/core/Condition"
import type { PluginContext } from "@etl-stream/core/Plugin"
import * as RowSource from "@etl-stream/core/RowSource"
import type { Source } from "@etl-stream/core/Source"
import type { TableId } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import { resolve } from "node:path"
import { BadLines } from "./BadLines.ts"
import type { Config } from "./Config.ts"
import * as Failure from "./Failure.ts"
import * as Follower from "./Follower.ts"
import * as Line from "./Line.ts"
import * as LogFiles from "./LogFiles.ts"

const none: Conditions = { raise: (_condition: Condition) => Effect.void, clear: () => Effect.void }

export const make = (config: Config, { directory }: PluginContext): Source => {
  const folder = resolve(directory, config.directory)
  const tables = new Map<TableId, Follower.FollowedTable>()
  for (const [id, options] of Object.entries(config.tables)) {
    const table = Line.tableOf(id, options)
    tables.set(id, { table, decode: Line.decoder(table, options, config.otherFields) })
  }
  let conditions = none
  const source = RowSource.make({
    plugin: Failure.pluginName,
    // Whether the folder can be read and its files have an order: before anything is copied or written.
    tables: Effect.as(
      Effect.tryPromise({
        try: () => LogFiles.list(folder, LogFiles.matchers(config)),
        catch: (cause) => Failure.fromFileSystem(folder, cause)
      }),
      [...tables.values()].map(({ table }) => table)
    ),
    // Files stay: so a table needs no copy of its own, and is read again from the beginning when somebody asks for it.
    history: "kept",
    read: (from) =>
      Follower.follow({
        config,
        directory: folder,
        tables,
        from,
        badLines: new BadLines({
          directory: config.badLines === undefined ? undefined : resolve(directory, config.badLines.directory),
          atMost: config.badLines?.atMost ?? 0
        }, conditions)
      })
  })
  return {
    ...source,
    // A row-wise source is a source like any other: what it is given may be looked at on the way.
    stream: (context) => {
      conditions = context.conditions
      return source.stream(context)
    }
  }
}
