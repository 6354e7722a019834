/**
 * Copies tables in one exported snapshot, several connections at a time.
 *
 * Each connection imports the snapshot into a long read-only transaction and then takes piece after piece: a whole table, or
 * a range of pages of a large one (for a partitioned table: of each partition). The pieces of a table may come in any
 * order; `SnapshotBegin` precedes and `SnapshotEnd` follows all of them. Batches wait in a queue of one until they are
 * pulled, so memory is bounded by a few batches per connection.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type * as Element from "@etl-stream/core/Element"
import { tableId } from "@etl-stream/core/TableSchema"
import type * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Client } from "pg"
import * as BinaryValues from "./BinaryValues.ts"
import * as Catalog from "./Catalog.ts"
import * as Connections from "./Connections.ts"
import * as CopyReader from "./CopyReader.ts"
import * as Lsn from "./Lsn.ts"
import * as Partition from "./Partition.ts"
import * as PostgresError from "./PostgresError.ts"
import * as PostgresType from "./PostgresType.ts"
import type { ExportedSnapshot } from "./Slot.ts"
import * as Sql from "./Sql.ts"
import * as TextValues from "./TextValues.ts"

/** 64 MiB of a table at the usual page size: large enough to be read sequentially, small enough to share work evenly. */
const pagesPerRange = 8192

/** One COPY: all rows of the piece. */
interface Piece {
  readonly table: TableCopy
  readonly sql: string
}

/** The progress of one table's copy. */
interface TableCopy {
  readonly catalog: Catalog.CatalogTable
  readonly target: CopyReader.CopyTarget
  /** Completed when `SnapshotBegin` is out. */
  readonly begun: Deferred.Deferred<void>
  state: "waiting" | "begun"
  piecesLeft: number
  parts: number
  rows: number
}

/** How each column is selected and decoded: binary where we can, otherwise the text of the type's output function. */
const projection = (table: Catalog.CatalogTable, types: PostgresType.TypeCatalog) => {
  const columns = table.columns.map((column) => {
    const type = PostgresType.resolve(types, column.typeOid, column.typmod)
    const name = Sql.identifier(column.name)
    const binary = BinaryValues.decoder(type)
    // A cast to text differs from the output function for some types (inet) and says NULL for a composite of NULLs.
    return binary === undefined
      ? {
        expression: `CASE WHEN ${name} IS DISTINCT FROM NULL THEN pg_catalog.concat(${name}) END`,
        decode: TextValues.decoderOf(type)
      }
      : { expression: name, decode: binary }
  })
  return {
    expressions: columns.map(({ expression }) => expression).join(", "),
    decoders: columns.map(({ decode }) => decode)
  }
}

const copyStatement = (expressions: string, from: string, conditions: ReadonlyArray<string>): string => {
  const where = conditions.length === 0 ? "" : ` WHERE ${conditions.map((condition) => `(${condition})`).join(" AND ")}`
  return `COPY (SELECT ${expressions} FROM ${from}${where}) TO STDOUT (FORMAT binary)`
}

/**
 * Conditions for ranges of pages, where the whole table may be read: rights to single columns don't cover `ctid`. The last
 * one is open: rows may lie beyond the size that was read.
 */
const pageRanges = ({ pages, readable }: Catalog.Heap): ReadonlyArray<string | undefined> => {
  const count = readable ? Math.max(1, Math.ceil(pages / pagesPerRange)) : 1
  if (count === 1) return [undefined]
  return Array.from({ length: count }, (_, index) => {
    const from = `ctid >= '(${index * pagesPerRange},0)'`
    return index === count - 1 ? from : `${from} AND ctid < '(${(index + 1) * pagesPerRange},0)'`
  })
}

/**
 * The statements that copy a table. Partitions that may not be read directly are read by way of their root, unless others
 * are foreign tables: those are not replicated, and the root would give their rows, too.
 */
const statements = (table: Catalog.CatalogTable, expressions: string): ReadonlyArray<string> => {
  const filter = table.rowFilter === undefined ? [] : [table.rowFilter]
  const heaps = table.heaps.filter((heap) => !heap.foreign)
  const root = table.partitioned && heaps.length === table.heaps.length &&
    heaps.every(({ rowFilter }) => rowFilter === undefined)
  if (root && !heaps.every((heap) => heap.readable)) {
    return [copyStatement(expressions, Sql.table(table.schema.table), filter)]
  }
  return heaps.flatMap((heap) =>
    pageRanges(heap).map((range) =>
      copyStatement(
        expressions,
        `ONLY ${Sql.table(heap.table)}`,
        [range, heap.rowFilter].flatMap((condition) => condition ?? []).concat(filter)
      )
    )
  )
}

const doing = "beginning the copy"
const locking = "locking the tables to copy"

/** A connection inside the snapshot. */
const enter = Effect.fn("PostgresSource.enterSnapshot")(function*(
  connections: Connections.Connections,
  snapshot: ExportedSnapshot
) {
  const client = yield* connections.client("copy")
  yield* Connections.run(client, doing, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
  yield* Connections.run(client, doing, `SET TRANSACTION SNAPSHOT ${Sql.literal(snapshot.name)}`)
  return client
})

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
const share = Effect.fn("PostgresSource.shareLocks")(function*(
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
const hold = Effect.fn("PostgresSource.holdTables")(function*(
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

/** A snapshot whose connections are open and whose tables are locked: it no longer needs the slot that exported it. */
export interface OpenSnapshot {
  readonly position: Lsn.Lsn
  readonly elements: Stream.Stream<Element.Element, ConnectorError>
}

const Now = Schema.Struct({ micros: Schema.String })

/**
 * Opens the connections of a copy within the scope. `readTables` reads the catalog again; it must find the `tables`
 * unchanged.
 */
export const open = (
  connections: Connections.Connections,
  snapshot: ExportedSnapshot,
  tables: ReadonlyArray<Catalog.CatalogTable>,
  readTables: Effect.Effect<Catalog.Catalog, ConnectorError>,
  types: PostgresType.TypeCatalog
): Effect.Effect<OpenSnapshot, ConnectorError, Scope.Scope> =>
  Effect.gen(function*() {
    const { fetchRows, parallel } = connections.settings.snapshot
    const first = yield* enter(connections, snapshot)
    const held = yield* hold(first, tables, readTables)
    const [now] = yield* Connections.decodeRows(
      doing,
      Now,
      yield* Connections.run(first, doing, "SELECT (extract(epoch FROM now()) * 1000000)::int8::text AS micros")
    )
    const stamp: CopyReader.CopyStamp = { position: snapshot.position, time: BigInt(now?.micros ?? "0") }
    const pieces: Array<Piece> = []
    for (const catalog of held) {
      const { decoders, expressions } = projection(catalog, types)
      const sql = statements(catalog, expressions)
      const table: TableCopy = {
        catalog,
        target: { schema: catalog.schema, decoders },
        begun: yield* Deferred.make<void>(),
        state: "waiting",
        piecesLeft: sql.length,
        parts: 0,
        rows: 0
      }
      // A partitioned table may have no partition, or only foreign ones: an empty copy is a copy, too.
      if (sql.length === 0) {
        table.piecesLeft = 1
        pieces.push({ table, sql: copyStatement(expressions, `ONLY ${Sql.table(catalog.schema.table)}`, []) })
      }
      for (const statement of sql) pieces.push({ table, sql: statement })
    }
    const clients = [first]
    while (clients.length < Math.min(parallel, pieces.length)) {
      clients.push(yield* share(yield* enter(connections, snapshot), held))
    }
    const readers = yield* Effect.forEach(clients, (client) => CopyReader.make(client, fetchRows))
    yield* Effect.logInfo("copying tables", {
      tables: held.length,
      pieces: pieces.length,
      connections: readers.length,
      position: Lsn.format(snapshot.position)
    })
    return { position: snapshot.position, elements: copyAll(readers, pieces, stamp) }
  }).pipe(Effect.withSpan("PostgresSource.openSnapshot", { attributes: { tables: tables.length } }))

/** Copies the pieces, each reader taking the next one when it is free. */
const copyAll = (
  readers: ReadonlyArray<CopyReader.CopyReader>,
  pieces: ReadonlyArray<Piece>,
  stamp: CopyReader.CopyStamp
): Stream.Stream<Element.Element, ConnectorError> =>
  Stream.unwrap(Effect.gen(function*() {
    const queue = yield* Queue.bounded<Element.Element, ConnectorError | Cause.Done>(1)
    const { position } = stamp

    const copyPiece = Effect.fnUntraced(function*(reader: CopyReader.CopyReader, { sql, table }: Piece) {
      if (table.state === "waiting") {
        table.state = "begun"
        yield* Queue.offer(queue, {
          _tag: "SnapshotBegin",
          table: table.target.schema,
          position,
          estimatedRows: table.catalog.estimatedRows,
          estimatedBytes: table.catalog.estimatedBytes
        })
        yield* Deferred.succeed(table.begun, undefined)
      } else yield* Deferred.await(table.begun)
      reader.start(sql, table.target, stamp)
      for (;;) {
        const batch = yield* reader.next
        if (batch === undefined) break
        table.rows += batch.rows
        yield* Queue.offer(queue, { _tag: "SnapshotRows", batch, position, part: table.parts++ })
      }
      table.piecesLeft--
      if (table.piecesLeft > 0) return
      yield* Queue.offer(queue, { _tag: "SnapshotEnd", table: table.target.schema, position, rows: table.rows })
    })

    let taken = 0
    const work = Effect.fnUntraced(function*(reader: CopyReader.CopyReader) {
      for (let piece = pieces[taken++]; piece !== undefined; piece = pieces[taken++]) yield* copyPiece(reader, piece)
    })
    yield* Effect.forEach(readers, work, { concurrency: "unbounded", discard: true }).pipe(
      Effect.matchCauseEffect({
        onFailure: (cause) => Queue.failCause(queue, cause),
        onSuccess: () => Queue.end(queue)
      }),
      Effect.forkScoped
    )
    return Stream.fromQueue(queue)
  }))
