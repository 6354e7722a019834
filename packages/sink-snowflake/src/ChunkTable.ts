/**
 * The table of chunks: which chunks of an unfinished copy are durable, so that a later run copies the others only. One row per chunk.
 *
 * A row is written in the transaction that loads its chunk's rows into the target, and all of a table's are removed when its copy is complete
 * or void. `COPY` is the copy's identity: rows of another copy, which some accident may have left, don't count.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import type { TableId } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Collation from "./Collation.ts"
import { failure } from "./ErrorPolicy.ts"
import { literal, qualified } from "./Identifier.ts"
import type { Session, SqlClient } from "./SqlClient.ts"
import type { TableLayout } from "./TableLayout.ts"

type Failed = ConnectorError.ConnectorError

export interface Chunk {
  /** Position of the snapshot that it was read in. */
  readonly position: bigint
  readonly rows: number
  /** How many of its rows have a value, by column of the layout; undefined when a version recorded it that didn't count. */
  readonly filled?: ReadonlyArray<number> | undefined
}

/** Chunks by their numbers. */
export type Chunks = ReadonlyMap<number, Chunk>

/** Whether the same chunks are recorded, of the same rows. */
export const sameChunks = (a: Chunks, b: Chunks): boolean =>
  a.size === b.size &&
  [...a].every(([chunk, { position, rows }]) => {
    const other = b.get(chunk)
    return other !== undefined && other.position === position && other.rows === rows
  })

/** How many values each column has in all chunks; undefined when some weren't counted. */
export const summedFilled = (chunks: Chunks, { columns }: TableLayout): ReadonlyArray<number> | undefined => {
  const sums = columns.map(() => 0)
  for (const { filled, rows } of chunks.values()) {
    if (filled === undefined) return undefined
    // A chunk without rows has no counts.
    if (rows > 0) filled.forEach((values, index) => sums[index] = (sums[index] ?? 0) + values)
  }
  return sums
}

/** What is recorded of a copy. `highest` is the number of a chunk, -1 when there is none; numbers begin at 0. */
export interface Summary {
  readonly chunks: number
  readonly different: number
  readonly highest: number
  readonly rows: number
}

const Row = Schema.Struct({
  SOURCE_TABLE: Schema.String,
  COPY: Schema.String,
  CHUNK: Schema.FiniteFromString,
  POSITION: Schema.String.check(Schema.isPattern(/^\d{1,20}$/u)),
  ROWS: Schema.FiniteFromString,
  FILLED: Schema.NullOr(Schema.fromJsonString(Schema.Array(Schema.Finite)))
})
const Summed = Schema.Struct({
  chunks: Schema.FiniteFromString,
  different: Schema.FiniteFromString,
  highest: Schema.FiniteFromString,
  rows: Schema.FiniteFromString
})

/** Rows per INSERT: a statement stays far below what Snowflake takes. */
const rowsPerStatement = 1000

export interface ChunkTable {
  /** Chunks of the pipeline's unfinished copies, by the copy's identity; of one table when `id` is given. */
  readonly load: (id?: TableId) => Effect.Effect<ReadonlyMap<string, Chunks>, Failed>
  /** Records chunks as durable when the session's transaction commits. */
  readonly record: (session: Session, layout: TableLayout, copy: string, chunks: Chunks) => Effect.Effect<void, Failed>
  readonly summary: (session: Session, layout: TableLayout, copy: string) => Effect.Effect<Summary, Failed>
  /** Removes what is recorded of any copy of a table. */
  readonly clear: (session: Session, layout: Pick<TableLayout, "id">) => Effect.Effect<void, Failed>
  readonly abandon: (tables: ReadonlyArray<TableId>) => Effect.Effect<void, Failed>
}

/** The SQL that creates the table in `schema`. */
export const create = (database: string, schema: string): string =>
  `CREATE TABLE IF NOT EXISTS ${qualified(database, schema, "CHUNKS")} ("PIPELINE" VARCHAR, "SOURCE_TABLE" VARCHAR, ` +
  `"COPY" VARCHAR, "CHUNK" NUMBER(38,0), "POSITION" NUMBER(20,0), "ROWS" NUMBER(38,0), "FILLED" VARCHAR) ${Collation.none}`

/** Columns that tables of earlier versions lack, all of them text. */
export const addedColumns = ["FILLED"] as const

const decode = <A>(schema: Schema.ConstraintDecoder<A>, row: unknown): Effect.Effect<A, Failed> =>
  Schema.decodeUnknownEffect(schema)(row).pipe(Effect.mapError(() =>
    failure(
      "Protocol",
      "The table CHUNKS in Snowflake has another form than expected",
      "Check whether something else created or changed it."
    )
  ))

export const make = (sql: SqlClient, pipeline: string, database: string, schema: string): ChunkTable => {
  const table = qualified(database, schema, "CHUNKS")
  const rowsOf = (id: TableId): string => `"PIPELINE" = ${literal(pipeline)} AND "SOURCE_TABLE" = ${literal(id)}`
  return {
    load: Effect.fnUntraced(function*(id) {
      const { rows } = yield* sql.execute({
        what: "Reading the table of chunks",
        sql: `SELECT "SOURCE_TABLE", "COPY", "CHUNK", "POSITION", "ROWS", "FILLED" FROM ${table} WHERE ${
          id === undefined ? `"PIPELINE" = ${literal(pipeline)}` : rowsOf(id)
        }`,
        ...(id === undefined ? {} : { table: id })
      })
      const copies = new Map<string, Map<number, Chunk>>()
      for (const row of rows) {
        const { CHUNK, COPY, FILLED, POSITION, ROWS } = yield* decode(Row, row)
        let chunks = copies.get(COPY)
        if (chunks === undefined) {
          chunks = new Map()
          copies.set(COPY, chunks)
        }
        chunks.set(CHUNK, { position: BigInt(POSITION), rows: ROWS, filled: FILLED ?? undefined })
      }
      return copies
    }),
    record: Effect.fnUntraced(function*(session, layout, copy, chunks) {
      const values = [...chunks].map(([chunk, { filled, position, rows }]) => {
        const counts = filled === undefined ? "NULL" : literal(JSON.stringify(filled))
        return `(${[literal(pipeline), literal(layout.id), literal(copy), chunk, position, rows, counts].join(", ")})`
      })
      for (let from = 0; from < values.length; from += rowsPerStatement) {
        yield* session.execute({
          what: `Recording chunks of ${layout.id}`,
          sql:
            `INSERT INTO ${table} ("PIPELINE", "SOURCE_TABLE", "COPY", "CHUNK", "POSITION", "ROWS", "FILLED") VALUES ${
              values.slice(from, from + rowsPerStatement).join(", ")
            }`,
          table: layout.id
        })
      }
    }),
    summary: Effect.fnUntraced(function*(session, layout, copy) {
      const { rows } = yield* session.execute({
        what: `Counting chunks of ${layout.id}`,
        sql: `SELECT COUNT(*) AS "chunks", COUNT(DISTINCT "CHUNK") AS "different", ` +
          `COALESCE(MAX("CHUNK"), -1) AS "highest", COALESCE(SUM("ROWS"), 0) AS "rows" FROM ${table} WHERE ${
            rowsOf(layout.id)
          } AND "COPY" = ${literal(copy)}`,
        table: layout.id
      })
      return yield* decode(Summed, rows[0])
    }),
    clear: (session, layout) =>
      Effect.asVoid(session.execute({
        what: `Forgetting chunks of ${layout.id}`,
        sql: `DELETE FROM ${table} WHERE ${rowsOf(layout.id)}`,
        table: layout.id
      })),
    abandon: (tables) =>
      Effect.asVoid(sql.execute({
        what: "Forgetting chunks of tables that left the pipeline",
        sql: `DELETE FROM ${table} WHERE "PIPELINE" = ${literal(pipeline)} AND "SOURCE_TABLE" IN (${
          tables.map(literal).join(", ")
        })`
      }))
  }
}
