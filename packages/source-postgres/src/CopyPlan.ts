/**
 * How a table's copy is cut into chunks, each read by one COPY.
 *
 * A table with a key is cut at values of its key, found by sampling pages: every row belongs to one chunk for as long as it lives, whatever
 * happens to it, so chunks may be read in different snapshots, and the plan is kept with the unfinished copy at the sink. Where an extension
 * orders the key, the whole relation is one chunk. A table
 * without a key is cut at pages; an update may move a row to another page, so all of its chunks belong to one snapshot and such a
 * copy can't be resumed. Partitions are cut each for itself.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { Client } from "pg"
import type { CatalogTable, Heap } from "./Catalog.ts"
import * as Connections from "./Connections.ts"
import * as Sql from "./Sql.ts"

/** What one COPY reads of a table: the relation, and the conditions for its rows. */
export interface Chunk {
  readonly from: string
  readonly conditions: ReadonlyArray<string>
}

export interface CopyPlan {
  readonly chunks: ReadonlyArray<Chunk>
  /** Text by which the same chunks are found again; undefined when the copy can't be resumed. */
  readonly text: string | undefined
}

/** A relation that is cut for itself: a heap, or the root of partitions that can only be read by way of it. */
interface Relation {
  readonly oid: number
  readonly from: string
  readonly bytes: number
  readonly pages: number
  /** Rights to single columns don't cover `ctid`. */
  readonly pageRanges: boolean
  /** The publication's condition for its rows. */
  readonly filter: string | undefined
}

/** Text of one key value per key column. */
type Bound = ReadonlyArray<string>

const Stored = Schema.fromJsonString(Schema.Struct({
  version: Schema.Literal(1),
  key: Schema.Array(Schema.String),
  relations: Schema.Array(Schema.Struct({
    oid: Schema.Number,
    bounds: Schema.Array(Schema.Array(Schema.String))
  }))
}))

/** More chunks than this are not worth their while; they grow instead. */
const maxChunks = 1000
const maxTextLength = 200_000
/** Pages that are sampled for each chunk, and at least. */
const sampledPages = 8
const leastSampledPages = 400
/** Below this correlation of key and place every chunk reads pages from all over the table. */
const scattered = 0.5

/**
 * Partitions that may not be read directly are read by way of their root, unless others are foreign tables: those are not
 * replicated, and the root would give their rows, too.
 */
const relationsOf = (table: CatalogTable): ReadonlyArray<Relation> => {
  const local = table.heaps.filter((heap) => !heap.foreign)
  const byRoot = table.partitioned && local.length === table.heaps.length &&
    local.every(({ rowFilter }) => rowFilter === undefined) && !local.every((heap) => heap.readable)
  const sum = (size: (heap: Heap) => number): number => local.reduce((total, heap) => total + size(heap), 0)
  if (byRoot) {
    return [{
      oid: table.oid,
      from: Sql.table(table.schema.table),
      bytes: sum(({ bytes }) => bytes),
      pages: sum(({ pages }) => pages),
      pageRanges: false,
      filter: undefined
    }]
  }
  return local.map(({ bytes, oid, pages, readable, rowFilter, table }) => ({
    oid,
    from: `ONLY ${Sql.table(table)}`,
    bytes,
    pages,
    pageRanges: readable,
    filter: rowFilter
  }))
}

/** A partitioned table may have no partition, or only foreign ones: an empty copy is a copy, too. */
const emptyChunk = (table: CatalogTable): Chunk => ({
  from: `ONLY ${Sql.table(table.schema.table)}`,
  conditions: []
})

const planOf = (table: CatalogTable, chunks: ReadonlyArray<Chunk>, text: string | undefined): CopyPlan => ({
  chunks: chunks.length === 0 ? [emptyChunk(table)] : chunks,
  text
})

const withFilter = (conditions: ReadonlyArray<string>, filter: string | undefined): ReadonlyArray<string> =>
  filter === undefined ? conditions : [...conditions, filter]

const rowOf = (expressions: ReadonlyArray<string>): string =>
  expressions.length === 1 ? expressions[0] ?? "" : `(${expressions.join(", ")})`

/** The chunks of a relation between bounds, which are in the order of its key. */
const keyRanges = (
  { filter, from }: Relation,
  key: ReadonlyArray<string>,
  bounds: ReadonlyArray<Bound>
): ReadonlyArray<Chunk> => {
  const columns = rowOf(key.map(Sql.identifier))
  // Literals of no type: the server takes them for values of the columns' types.
  const values = bounds.map((bound) => rowOf(bound.map(Sql.literal)))
  return Array.from({ length: bounds.length + 1 }, (_, index) => {
    const conditions = [
      ...(index === 0 ? [] : [`${columns} >= ${values[index - 1]}`]),
      ...(index === bounds.length ? [] : [`${columns} < ${values[index]}`])
    ]
    return { from, conditions: withFilter(conditions, filter) }
  })
}

/** Chunks for so many bytes: where there are several, connections that take turns end together. */
const chunksFor = (bytes: number, { chunkBytes, parallel }: Options): number => {
  const count = Math.ceil(bytes / chunkBytes)
  return Math.min(maxChunks, count <= 1 ? count : Math.ceil(count / parallel) * parallel)
}

/** The last range is open: rows may lie beyond the size that was read. */
const pageRanges = (
  { bytes, filter, from, pageRanges, pages }: Relation,
  options: Options
): ReadonlyArray<Chunk> => {
  const count = pageRanges ? Math.min(chunksFor(bytes, options), pages) : 1
  if (count <= 1) return [{ from, conditions: withFilter([], filter) }]
  const size = Math.ceil(pages / count)
  return Array.from({ length: count }, (_, index) => {
    const first = `ctid >= '(${index * size},0)'`
    const last = index === count - 1 ? [] : [`ctid < '(${(index + 1) * size},0)'`]
    return { from, conditions: withFilter([first, ...last], filter) }
  })
}

const doing = "cutting a table into chunks"

const Correlation = Schema.Struct({ correlation: Schema.NullOr(Schema.Number) })

/** Number of chunks for a relation: fewer when its rows don't lie in the order of the key, since each reads most of its pages. */
const chunkCount = Effect.fnUntraced(function*(
  client: Client,
  relation: Relation,
  key: ReadonlyArray<string>,
  options: Options
) {
  const count = chunksFor(relation.bytes, options)
  const few = 4 * options.parallel
  if (count <= few) return count
  const rows = yield* Connections.run(
    client,
    doing,
    `SELECT max(s.correlation)::float8 AS correlation FROM pg_stats s JOIN pg_class c ON c.relname = s.tablename
     JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = s.schemaname
     WHERE c.oid = ${relation.oid} AND s.attname = ${Sql.literal(key[0] ?? "")}`
  )
  const [found] = yield* Connections.decodeRows(doing, Correlation, rows)
  const correlation = found?.correlation ?? 1
  return Math.abs(correlation) < scattered ? few : count
})

const OwnOrder = Schema.Struct({ own: Schema.Boolean })

/**
 * Whether a column of the key is of a type that an extension orders (citext, ltree), itself or below domains. Its operators aren't in
 * our search path: conditions would fail, or compare by the order of another type, in which the bounds don't ascend and rows belong to
 * two chunks.
 */
const hasOwnOrder = Effect.fnUntraced(function*(client: Client, relation: Relation, key: ReadonlyArray<string>) {
  const rows = yield* Connections.run(
    client,
    doing,
    `WITH RECURSIVE types (oid) AS (
       SELECT a.atttypid FROM pg_attribute a WHERE a.attrelid = ${relation.oid} AND a.attname IN (${
      key.map(Sql.literal).join(", ")
    })
       UNION SELECT t.typbasetype FROM types JOIN pg_type t ON t.oid = types.oid WHERE t.typtype = 'd'
     )
     SELECT EXISTS (
       SELECT FROM types JOIN pg_opclass c ON c.opcintype = types.oid JOIN pg_am m ON m.oid = c.opcmethod
       WHERE m.amname = 'btree' AND c.opcdefault AND c.opcnamespace <> 'pg_catalog'::regnamespace
     ) AS own`
  )
  const [found] = yield* Connections.decodeRows(doing, OwnOrder, rows)
  return found?.own ?? true
})

const Value = Schema.Struct({ bound: Schema.Array(Schema.String) })

/** Values of the key that cut a relation into about `count` equal parts. */
const sampleBounds = Effect.fnUntraced(function*(
  client: Client,
  relation: Relation,
  key: ReadonlyArray<string>,
  count: number
) {
  if (count <= 1 || (yield* hasOwnOrder(client, relation, key))) return []
  const columns = key.map(Sql.identifier)
  const pages = Math.max(leastSampledPages, count * sampledPages)
  const percent = Math.min(100, 100 * pages / Math.max(1, relation.pages))
  const order = columns.join(", ")
  // Domains and others may have a text form that a cast to text doesn't give: concat uses the type's output function.
  const texts = columns.map((column) => `pg_catalog.concat(${column})`).join(", ")
  const rows = yield* Connections.run(
    client,
    doing,
    `SELECT ARRAY[${texts}] AS bound FROM (
       SELECT ${order}, row_number() OVER (ORDER BY ${order}) - 1 AS n, count(*) OVER () AS total
       FROM ${relation.from} TABLESAMPLE SYSTEM (${percent}) REPEATABLE (1)
     ) s WHERE n > 0 AND n * ${count} / total <> (n - 1) * ${count} / total ORDER BY ${order}`
  )
  return (yield* Connections.decodeRows(doing, Value, rows)).map(({ bound }) => bound)
})

export interface Options {
  /** Size of a chunk in bytes of the table, about. */
  readonly chunkBytes: number
  readonly parallel: number
}

/** Cuts a table, by a client that may read it. */
export const make = Effect.fn("PostgresSource.planCopy")(function*(
  client: Client,
  table: CatalogTable,
  options: Options
): Effect.fn.Return<CopyPlan, ConnectorError> {
  const relations = relationsOf(table)
  const key = table.keyColumns
  if (key.length === 0) {
    return planOf(table, relations.flatMap((relation) => pageRanges(relation, options)), undefined)
  }
  const cut = yield* Effect.forEach(relations, (relation) =>
    Effect.gen(function*() {
      const count = yield* chunkCount(client, relation, key, options)
      return { relation, bounds: yield* sampleBounds(client, relation, key, count) }
    }))
  // A key may be some kilobytes long; the plan is to be a text that any sink can keep.
  for (let every = 1;; every *= 2) {
    const thinned = cut.map(({ bounds, relation }) => ({
      relation,
      bounds: bounds.filter((_, index) => index % every === 0)
    }))
    const text = Schema.encodeSync(Stored)({
      version: 1,
      key,
      relations: thinned.map(({ bounds, relation }) => ({ oid: relation.oid, bounds }))
    })
    if (text.length > maxTextLength && thinned.some(({ bounds }) => bounds.length > 1)) continue
    return planOf(table, thinned.flatMap(({ bounds, relation }) => keyRanges(relation, key, bounds)), text)
  }
})

/** The plan that `text` keeps, for the table as it is now; undefined when it doesn't fit it any more. */
export const resume = (table: CatalogTable, text: string): CopyPlan | undefined => {
  const stored = Option.getOrUndefined(Schema.decodeUnknownOption(Stored)(text))
  const relations = relationsOf(table)
  if (stored === undefined || stored.key.join("\0") !== table.keyColumns.join("\0")) return undefined
  if (stored.relations.length !== relations.length) return undefined
  const chunks: Array<Chunk> = []
  for (const [index, { bounds, oid }] of stored.relations.entries()) {
    const relation = relations[index]
    if (relation?.oid !== oid || bounds.some((bound) => bound.length !== stored.key.length)) return undefined
    chunks.push(...keyRanges(relation, stored.key, bounds))
  }
  return planOf(table, chunks, text)
}
