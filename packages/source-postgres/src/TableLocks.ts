/**
 * Keeps DDL and TRUNCATE away from tables while they are copied, and notices what happened to them just before.
 *
 * A snapshot shows rows as they were, but a table that was rewritten or truncated since looks empty in it. So the copy's
 * transactions hold the weakest lock on each table, which conflicts with nothing but DDL, TRUNCATE and the like.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import { tableId } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Client } from "pg"
import * as Catalog from "./Catalog.ts"
import * as Connections from "./Connections.ts"
import * as Partition from "./Partition.ts"
import * as PostgresError from "./PostgresError.ts"
import * as Sql from "./Sql.ts"

const doing = "beginning the copy"
const locking = "locking the tables to copy"

const again = "The pipeline starts again by itself with the tables as they are now."

const changed = (table: string): ConnectorError =>
  PostgresError.make(
    "Fenced",
    `table ${table} was altered, rewritten, truncated or dropped just when its copy began`,
    again,
    table
  )

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

/**
 * Gives another connection of the copy the locks that the first one holds, before it needs them. Later it would wait behind
 * a TRUNCATE or ALTER TABLE that itself waits for the first connection, which is a deadlock that the server can't see. Here, too, one may have
 * come in between: then the copy gives way and starts again.
 */
export const share = Effect.fn("PostgresSource.shareLocks")(function*(
  client: Client,
  tables: ReadonlyArray<Catalog.CatalogTable>
) {
  yield* Connections.run(client, locking, "SET LOCAL lock_timeout = '3s'")
  yield* Effect.forEach(tables, (table) => lock(client, table), { discard: true }).pipe(
    Effect.mapError(() =>
      PostgresError.make("Fenced", "a table is about to be altered or truncated just when its copy begins", again)
    )
  )
  yield* Connections.run(client, locking, "SET LOCAL lock_timeout = 0")
  return client
})

const Rewritten = Schema.Struct({ schema: Schema.String, name: Schema.String })

/**
 * Locks the tables against DDL for the time of the copy and makes sure that nothing happened to them since the catalog was
 * read and the snapshot was taken. A rewritten or truncated table looks empty in an older snapshot, whatever it held.
 *
 * @returns the tables with their heaps as they are under the lock.
 */
export const hold = Effect.fn("PostgresSource.holdTables")(function*(
  client: Client,
  tables: ReadonlyArray<Catalog.CatalogTable>,
  readTables: Effect.Effect<Catalog.Catalog, ConnectorError>
) {
  for (const table of tables) {
    yield* lock(client, table).pipe(
      Effect.mapError((error) => error.reason === "Missing" ? changed(tableId(table.schema.table)) : error)
    )
  }
  const now = new Map((yield* readTables).tables.map((table) => [table.oid, table]))
  const current: Array<Catalog.CatalogTable> = []
  for (const table of tables) {
    const fresh = now.get(table.oid)
    if (fresh === undefined || !Catalog.sameShape(table, fresh)) return yield* changed(tableId(table.schema.table))
    current.push(fresh)
  }
  const oids = current.flatMap((table) => table.heaps.map((heap) => heap.oid))
  // pg_class is read in the snapshot, pg_relation_filenode answers for the present.
  const rewritten = yield* Connections.run(
    client,
    doing,
    `SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid IN (${["0", ...oids].join(", ")}) AND c.relkind = 'r'
       AND c.relfilenode IS DISTINCT FROM coalesce(pg_relation_filenode(c.oid), 0)`
  )
  const [first] = yield* Connections.decodeRows(doing, Rewritten, rewritten)
  if (first !== undefined) return yield* changed(tableId(first))
  // A partition that was attached after the snapshot was taken may hold rows that are neither in it nor in the log; a lock doesn't keep it away.
  const links = yield* Connections.decodeRows(
    doing,
    Partition.Link,
    yield* Connections.run(client, doing, Partition.linksQuery(current.map(({ oid }) => oid)))
  )
  for (const { oid, origin, schema } of current) {
    const seen = links.filter(({ root }) => root === oid)
    if (!Partition.sameLinks(seen, origin.partitions ?? [])) return yield* changed(tableId(schema.table))
  }
  return current
})
