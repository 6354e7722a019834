/**
 * Copies tables in one exported snapshot, several connections at a time.
 *
 * Each connection imports the snapshot into a long read-only transaction and then takes chunk after chunk of the tables' plans, also of
 * copies that an earlier snapshot began: of those only what is missing. Chunks come in any order. Batches wait in a queue of one until
 * they are pulled, so memory is bounded by a few batches per connection.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type * as Element from "@etl-stream/core/Element"
import * as Quarantine from "@etl-stream/core/Quarantine"
import type { UnfinishedCopy } from "@etl-stream/core/Sink"
import { type TableId, tableId } from "@etl-stream/core/TableSchema"
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as BinaryValues from "./BinaryValues.ts"
import type * as Catalog from "./Catalog.ts"
import * as Connections from "./Connections.ts"
import * as CopyPlan from "./CopyPlan.ts"
import * as CopyReader from "./CopyReader.ts"
import * as Lsn from "./Lsn.ts"
import * as PostgresError from "./PostgresError.ts"
import * as PostgresType from "./PostgresType.ts"
import type { ExportedSnapshot } from "./Slot.ts"
import * as Sql from "./Sql.ts"
import * as TableLocks from "./TableLocks.ts"
import * as TextValues from "./TextValues.ts"

/** A copy whose beginning came before its snapshot was taken. */
export interface Announced {
  readonly position: Lsn.Lsn
  readonly plan: CopyPlan.CopyPlan
}

/** A table to copy. */
export interface Copy {
  readonly table: Catalog.CatalogTable
  /** The copy that goes on; undefined when a new one begins. */
  readonly unfinished: UnfinishedCopy | undefined
  readonly announced?: Announced
}

/** A copy that is under way. */
interface OpenCopy {
  readonly id: TableId
  readonly catalog: Catalog.CatalogTable
  readonly target: CopyReader.CopyTarget
  readonly plan: CopyPlan.CopyPlan
  readonly begin: Element.SnapshotBegin
  /** Expressions of the SELECT. */
  readonly expressions: string
  missing: number
  /** The highest snapshot that a chunk was read in. */
  latest: Lsn.Lsn
  /** Nothing more comes of it. */
  givenUp: boolean
}

/** One COPY: all rows of a chunk. */
interface Piece {
  readonly copy: OpenCopy
  readonly chunk: number
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

const copyStatement = (
  expressions: string,
  { conditions, from }: CopyPlan.Chunk,
  filter: string | undefined
): string => {
  const all = [...conditions, ...filter === undefined ? [] : [filter]]
  const where = all.length === 0 ? "" : ` WHERE ${all.map((condition) => `(${condition})`).join(" AND ")}`
  return `COPY (SELECT ${expressions} FROM ${from}${where}) TO STDOUT (FORMAT binary)`
}

const doing = "beginning the copy"

/** A connection inside the snapshot. */
const enter = Effect.fn("PostgresSource.enterSnapshot")(function*(
  connections: Connections.Connections,
  snapshot: ExportedSnapshot
) {
  const client = yield* connections.client("copy")
  yield* Connections.run(client, doing, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
  yield* Connections.run(client, doing, `SET TRANSACTION SNAPSHOT ${Sql.literal(snapshot.name)}`).pipe(
    // It lives as long as the session that exported it, which may be lost while nobody looks: 42704, 22023 before PostgreSQL 17, or 55000 at the last moment.
    Effect.mapError((error) =>
      ["42704", "22023", "55000"].includes(PostgresError.sqlStateOf(error) ?? "")
        ? PostgresError.make(
          "Unreachable",
          `${error.message}: the session that exported the snapshot was lost`,
          "The pipeline starts again by itself and takes another snapshot."
        )
        : error
    )
  )
  return client
})

/** A snapshot whose connections are open and whose tables are locked: it no longer needs the slot that exported it. */
export interface OpenSnapshot {
  readonly position: Lsn.Lsn
  /** The beginning of each copy: to come before anything else of its table. */
  readonly begins: ReadonlyArray<Element.SnapshotBegin>
  /** The rest of the copies. */
  readonly elements: Stream.Stream<Element.Element, ConnectorError>
}

const Now = Schema.Struct({ micros: Schema.String })

/** The plan and beginning of a copy, which goes on when there is an unfinished one whose plan still fits. */
const openCopy = Effect.fnUntraced(function*(
  connections: Connections.Connections,
  client: Parameters<typeof CopyPlan.make>[0],
  snapshot: ExportedSnapshot,
  { announced, table: catalog, unfinished }: Copy,
  types: PostgresType.TypeCatalog
) {
  const stored = unfinished === undefined ? undefined : CopyPlan.resume(catalog, unfinished.plan)
  const plan = announced?.plan ?? stored ?? (yield* CopyPlan.make(client, catalog, connections.settings.snapshot))
  const resumed = stored === undefined ? undefined : unfinished
  const { decoders, expressions } = projection(catalog, types)
  const pieces = plan.chunks.flatMap((_, chunk) => resumed?.chunks.has(chunk) === true ? [] : [chunk])
  const copy: OpenCopy = {
    id: tableId(catalog.schema.table),
    catalog,
    target: { schema: catalog.schema, decoders },
    plan,
    begin: {
      _tag: "SnapshotBegin",
      table: catalog.schema,
      position: announced?.position ?? resumed?.position ?? snapshot.position,
      plan: plan.text,
      resumed: resumed !== undefined,
      estimatedRows: catalog.estimatedRows,
      estimatedBytes: catalog.estimatedBytes
    },
    expressions,
    missing: pieces.length,
    latest: [...resumed?.chunks.values() ?? []].reduce((a, b) => a > b ? a : b, 0n),
    givenUp: false
  }
  return { copy, pieces: pieces.map((chunk): Piece => ({ copy, chunk })) }
})

/**
 * Opens the connections of a copy within the scope. `readTables` reads the catalog again; it must find the tables
 * unchanged. `settle` is asked at the end of each table's copy from where on its changes need no completion, given the
 * highest position of its chunks. `isUnwanted` says whether a table can't go on; what is left of its copy isn't read. `goesOn` is awaited
 * before each chunk: meanwhile the connections stay in their transactions, whose snapshot keeps the server from removing dead rows.
 */
export const open = (
  connections: Connections.Connections,
  snapshot: ExportedSnapshot,
  copies: ReadonlyArray<Copy>,
  readTables: Effect.Effect<Catalog.Catalog, ConnectorError>,
  types: PostgresType.TypeCatalog,
  settle: (table: TableId, latest: Lsn.Lsn) => Lsn.Lsn,
  isUnwanted: (table: TableId) => boolean,
  goesOn: Effect.Effect<void> = Effect.void
): Effect.Effect<OpenSnapshot, ConnectorError, Scope.Scope> =>
  Effect.gen(function*() {
    const { fetchRows, parallel } = connections.settings.snapshot
    const first = yield* enter(connections, snapshot)
    const held = yield* TableLocks.hold(first, copies.map(({ table }) => table), readTables)
    const [now] = yield* Connections.decodeRows(
      doing,
      Now,
      yield* Connections.run(first, doing, "SELECT (extract(epoch FROM now()) * 1000000)::int8::text AS micros")
    )
    const stamp: CopyReader.CopyStamp = { position: snapshot.position, time: BigInt(now?.micros ?? "0") }
    const opened = yield* Effect.forEach(
      copies,
      (copy, index) =>
        openCopy(connections, first, snapshot, { ...copy, table: held[index] as Catalog.CatalogTable }, types) // one per copy
    )
    const pieces = opened.flatMap(({ pieces }) => pieces)
    const clients = [first]
    while (clients.length < Math.min(parallel, pieces.length)) {
      clients.push(yield* TableLocks.share(yield* enter(connections, snapshot), held))
    }
    const readers = yield* Effect.forEach(clients, (client) => CopyReader.make(client, fetchRows))
    yield* Effect.logInfo("copying tables", {
      tables: held.length,
      resumed: opened.filter(({ copy }) => copy.begin.resumed).length,
      chunks: pieces.length,
      connections: readers.length,
      position: Lsn.format(snapshot.position)
    })
    return {
      position: snapshot.position,
      begins: opened.map(({ copy }) => copy.begin),
      elements: copyAll(readers, opened.map(({ copy }) => copy), pieces, stamp, settle, isUnwanted, goesOn)
    }
  }).pipe(Effect.withSpan("PostgresSource.openSnapshot", { attributes: { tables: copies.length } }))

/** Copies the pieces, each reader taking the next one when it is free. */
const copyAll = (
  readers: ReadonlyArray<CopyReader.CopyReader>,
  copies: ReadonlyArray<OpenCopy>,
  pieces: ReadonlyArray<Piece>,
  stamp: CopyReader.CopyStamp,
  settle: (table: TableId, latest: Lsn.Lsn) => Lsn.Lsn,
  isUnwanted: (table: TableId) => boolean,
  goesOn: Effect.Effect<void>
): Stream.Stream<Element.Element, ConnectorError> =>
  Stream.unwrap(Effect.gen(function*() {
    const queue = yield* Queue.bounded<Element.Element, ConnectorError | Cause.Done>(1)
    const { position } = stamp

    const end = ({ begin, givenUp, id, latest, plan, target }: OpenCopy) =>
      Effect.suspend(() => {
        const settled = settle(id, latest > begin.position ? latest : begin.position)
        return givenUp
          ? Effect.void
          : Queue.offer(queue, {
            _tag: "SnapshotEnd",
            table: target.schema,
            position: begin.position,
            chunks: plan.chunks.length,
            settled
          })
      })

    const isGivenUp = (copy: OpenCopy): boolean => {
      copy.givenUp ||= isUnwanted(copy.id)
      return copy.givenUp
    }
    /** Nothing of a copy that was given up is offered. */
    const offer = (copy: OpenCopy, element: Element.Element) =>
      Effect.suspend(() => isGivenUp(copy) ? Effect.void : Queue.offer(queue, element))

    const read = Effect.fnUntraced(function*(reader: CopyReader.CopyReader, { chunk, copy }: Piece) {
      const { catalog, expressions, plan, target } = copy
      reader.start(copyStatement(expressions, plan.chunks[chunk] as CopyPlan.Chunk, catalog.rowFilter), target, stamp) // one of the plan's
      let rows = 0
      for (;;) {
        const batch = yield* reader.next
        if (batch === undefined) break
        rows += batch.rows
        yield* offer(copy, { _tag: "SnapshotRows", batch, position, chunk })
      }
      yield* offer(copy, { _tag: "SnapshotChunk", table: target.schema, position, chunk, rows })
    })

    const copyPiece = Effect.fnUntraced(function*(reader: CopyReader.CopyReader, piece: Piece) {
      const { copy } = piece
      if (!isGivenUp(copy)) {
        yield* read(reader, piece).pipe(
          // The connection goes on with other tables.
          Effect.catchIf(Quarantine.concernsTable, (error) =>
            Effect.andThen(
              reader.skip,
              Effect.suspend(() => {
                if (isGivenUp(copy)) return Effect.void
                copy.givenUp = true
                return Queue.offer(queue, { _tag: "TableFailed", table: copy.target.schema, error })
              })
            ))
        )
      }
      copy.latest = position
      if (--copy.missing === 0) yield* end(copy)
    })

    let taken = 0
    const work = Effect.fnUntraced(function*(reader: CopyReader.CopyReader) {
      while (true) {
        yield* goesOn
        const piece = pieces[taken++]
        if (piece === undefined) return
        yield* copyPiece(reader, piece)
      }
    })
    // Only the end may have been missing of a copy that goes on.
    yield* Effect.forEach(copies.filter(({ missing }) => missing === 0), end, { discard: true }).pipe(
      Effect.andThen(Effect.forEach(readers, work, { concurrency: "unbounded", discard: true })),
      Effect.matchCauseEffect({
        onFailure: (cause) => Queue.failCause(queue, cause),
        onSuccess: () => Queue.end(queue)
      }),
      Effect.forkScoped
    )
    return Stream.fromQueue(queue)
  }))
