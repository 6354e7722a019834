/**
 * The tables as a run would find them now, read from the catalog alone: no slot, publication or replication session is needed, and nothing is changed.
 *
 * Where there is a publication already, they have the columns that it publishes.
 */
import { evaluate } from "@etl-stream/core/Check"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { TableSchema } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Catalog from "./Catalog.ts"
import type { Settings } from "./Config.ts"
import * as Connections from "./Connections.ts"
import * as Preflight from "./Preflight.ts"
import * as Facts from "./preflight/Facts.ts"
import * as TableChecks from "./preflight/TableChecks.ts"
import * as Publication from "./Publication.ts"

/** Fails, as a run does, with `Missing` when a pattern of `tables` matches none. */
export const read = Effect.fn("PostgresSource.tables")(
  function*(settings: Settings): Effect.fn.Return<ReadonlyArray<TableSchema>, ConnectorError, Scope.Scope> {
    const connections = yield* Connections.make(settings)
    const { version } = yield* Facts.readServer(connections)
    const publication = yield* Publication.read(connections, settings.publication.name, version)
    const catalog = yield* Catalog.read(connections, settings.tables, publication, version)
    const unmatched = Preflight.errorOf(evaluate([TableChecks.tablePatterns], { catalog }))
    return unmatched === undefined ? catalog.tables.map(({ schema }) => schema) : yield* unmatched
  }
)
