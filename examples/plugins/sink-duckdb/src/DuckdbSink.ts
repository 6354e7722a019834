/**
 * The sink: opens the file, takes tables over from older runs, and remembers which are in quarantine.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { PluginContext } from "@etl-stream/core/Plugin"
import type { Quarantine } from "@etl-stream/core/Quarantine"
import type { Sink } from "@etl-stream/core/Sink"
import { tableId } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { randomUUID } from "node:crypto"
import { resolve } from "node:path"
import type { Config } from "./Config.ts"
import * as Database from "./Database.ts"
import * as MirroredTable from "./MirroredTable.ts"
import * as Names from "./Names.ts"
import * as TableState from "./TableState.ts"

export const make = Effect.fn("DuckdbSink.make")(function*(
  config: Config,
  { directory, pipeline }: PluginContext
): Effect.fn.Return<Sink, ConnectorError, Scope.Scope> {
  const database = yield* Database.make(resolve(directory, config.file), config)

  /** Nothing of a table counts any more; what a copy had gathered is dropped, the target stays. */
  const abandon = async (session: Database.Session, key: TableState.Key, why?: Quarantine): Promise<void> => {
    const state = await TableState.read(session, key)
    if (state === undefined) return
    await session.run(
      `DROP TABLE IF EXISTS ${Names.copyOf(state.target)}; DROP TABLE IF EXISTS ${Names.changesOf(state.target)}`
    )
    await TableState.forget(session, key, why)
  }

  return {
    begin: (tables) =>
      database.transaction(undefined, async (session) => {
        const present = new Set(tables.map(({ table }) => tableId(table)))
        for (const table of await TableState.list(session, pipeline)) {
          if (!present.has(table)) await abandon(session, { pipeline, table })
        }
      }),
    open: Effect.fnUntraced(function*(table, durable) {
      const key = { pipeline, table: tableId(table.table) }
      const writer = randomUUID()
      const { position, state } = yield* database.transaction(key.table, async (session) => {
        const state = await TableState.take(session, key, writer, Names.targetOf(config, table))
        return { state, position: await TableState.positionOf(session, key, state) }
      })
      return MirroredTable.make({ database, config, key, writer, state, position, durable })
    }),
    quarantine: (table, why) => {
      const key = { pipeline, table: tableId(table.table) }
      return database.transaction(undefined, async (session) => {
        // A table that could not be opened has no row yet.
        if (await TableState.read(session, key) === undefined) {
          await TableState.insert(session, key, Names.targetOf(config, table))
        }
        await abandon(session, key, why)
      })
    },
    // Every write is durable when it returns: there is nothing to watch.
    run: Effect.never,
    settle: database.checkpoint
  }
})
