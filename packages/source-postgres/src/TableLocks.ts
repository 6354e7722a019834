/**
 * Keeps DDL and TRUNCATE away from tables while they are copied, and notices what happened to them just before.
 *
 * A snapshot shows rows as they were, but a table that was rewritten or truncated since looks empty in it. So the copy's
 * transactions hold the weakest lock on each table, which conflicts with nothing but DDL, TRUNCATE and the like. A table to which something
 * happens before all of them hold it is disturbed: it steps back, for a snapshot of later, and the others go on without it.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Client } from "pg"
import * as Catalog from "./Catalog.ts"
import * as Connections from "./Connections.ts"
import * as Partition from "./Partition.ts"
import * as Sql from "./Sql.ts"

const doing = "beginning the copy"
const locking = "locking the tables to copy"

/** Whatever has a table for longer is waited for by that table alone. */
const patience = "3s"

const savepoint = "locks"

/** To be called before the first lock: what it takes from then on can be given back. */
export const prepare = (client: Client): Effect.Effect<unknown, ConnectorError> =>
  Connections.run(client, locking, `SAVEPOINT ${savepoint}`)

/** Gives all locks back. */
export const giveBack = (client: Client): Effect.Effect<unknown, ConnectorError> =>
  Connections.run(client, locking, `ROLLBACK TO SAVEPOINT ${savepoint}`)

/** Keeps the locks until the transaction ends. */
export const keep = (client: Client): Effect.Effect<unknown, ConnectorError> =>
  Connections.run(client, locking, `RELEASE SAVEPOINT ${savepoint}`)

/**
 * Keeps DDL and TRUNCATE away from a table, and from its partitions, until the transaction ends. A SELECT takes the lock of
 * LOCK TABLE … IN ACCESS SHARE MODE, and is content with rights to the published columns. As in the copy, foreign
 * partitions are left alone.
 */
const lock = Effect.fnUntraced(function*(client: Client, table: Catalog.CatalogTable) {
  const columns = table.columns.map((column) => Sql.identifier(column.name)).join(", ")
  const root = Sql.table(table.schema.table)
  const local = table.heaps.filter((heap) => !heap.foreign)
  const names = !table.partitioned
    ? [`ONLY ${root}`]
    : local.length === table.heaps.length
    ? [root]
    : [root, ...local.map((heap) => Sql.table(heap.table))].map((name) => `ONLY ${name}`)
  for (const name of names) yield* Connections.run(client, locking, `SELECT ${columns} FROM ${name} LIMIT 0`)
})

/** Locks tables until one can't be: it is gone, or somebody waits to alter or truncate it, or does so for long. Returns that one. */
const lockAll = Effect.fnUntraced(function*(client: Client, tables: ReadonlyArray<Catalog.CatalogTable>) {
  yield* Connections.run(client, locking, `SET LOCAL lock_timeout = '${patience}'`)
  for (const table of tables) {
    const locked = yield* Effect.result(lock(client, table))
    if (locked._tag === "Success") continue
    if (locked.failure.reason === "Missing" || locked.failure.reason === "Throttled") return table
    return yield* locked.failure
  }
  yield* Connections.run(client, locking, "SET LOCAL lock_timeout = 0")
  return undefined
})

/**
 * Gives another connection of the copy the locks that the first one holds, before it needs them. Later it would wait behind
 * a TRUNCATE or ALTER TABLE that itself waits for the first connection, which is a deadlock that the server can't see. Here, too, one may have
 * come in between: the table that it is about is returned, and nothing can be done with the connection before `giveBack`.
 */
export const share: (
  client: Client,
  tables: ReadonlyArray<Catalog.CatalogTable>
) => Effect.Effect<Catalog.CatalogTable | undefined, ConnectorError> = Effect.fn("PostgresSource.shareLocks")(lockAll)

const Rewritten = Schema.Struct({ oid: Schema.Number })

export interface Held {
  /** The tables with their heaps as they are under the lock. */
  readonly held: ReadonlyArray<Catalog.CatalogTable>
  /** Those of the tables that something happened to. When there are any, only `giveBack` may follow. */
  readonly disturbed: ReadonlyArray<Catalog.CatalogTable>
}

/**
 * Locks the tables against DDL for the time of the copy and makes sure that nothing happened to them since the catalog was
 * read and the snapshot was taken. A rewritten or truncated table looks empty in an older snapshot, whatever it held.
 */
export const hold = Effect.fn("PostgresSource.holdTables")(function*(
  client: Client,
  tables: ReadonlyArray<Catalog.CatalogTable>,
  readTables: Effect.Effect<Catalog.Catalog, ConnectorError>
): Effect.fn.Return<Held, ConnectorError> {
  const unlocked = yield* lockAll(client, tables)
  if (unlocked !== undefined) return { held: [], disturbed: [unlocked] }
  const now = new Map((yield* readTables).tables.map((table) => [table.oid, table]))
  const held: Array<Catalog.CatalogTable> = []
  const disturbed = new Set<Catalog.CatalogTable>()
  for (const table of tables) {
    const fresh = now.get(table.oid)
    if (fresh === undefined || !Catalog.sameShape(table, fresh)) disturbed.add(table)
    else held.push(fresh)
  }
  const oids = held.flatMap((table) => table.heaps.map((heap) => heap.oid))
  // pg_class is read in the snapshot, pg_relation_filenode answers for the present.
  const rewritten = new Set(
    (yield* Connections.decodeRows(
      doing,
      Rewritten,
      yield* Connections.run(
        client,
        doing,
        `SELECT c.oid FROM pg_class c WHERE c.oid IN (${["0", ...oids].join(", ")}) AND c.relkind = 'r'
           AND c.relfilenode IS DISTINCT FROM coalesce(pg_relation_filenode(c.oid), 0)`
      )
    )).map(({ oid }) => oid)
  )
  // A partition that was attached after the snapshot was taken may hold rows that are neither in it nor in the log; a lock doesn't keep it away.
  const links = yield* Connections.decodeRows(
    doing,
    Partition.Link,
    yield* Connections.run(client, doing, Partition.linksQuery(held.map(({ oid }) => oid)))
  )
  for (const table of held) {
    const seen = links.filter(({ root }) => root === table.oid)
    const moved = table.heaps.some(({ oid }) => rewritten.has(oid))
    if (moved || !Partition.sameLinks(seen, table.origin.partitions ?? [])) disturbed.add(table)
  }
  return { held, disturbed: [...disturbed] }
})
