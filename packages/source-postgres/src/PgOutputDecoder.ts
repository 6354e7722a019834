/**
 * Decodes what a `WalStream` pulls into elements: batches of columns, barriers, watermarks.
 *
 * The decoder keeps what lies between two views: the relations that were announced, the transaction that is open, and
 * where each table's copy ends. It must be given every view of a stream in order, and a new one is made for a new stream.
 */
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { Element } from "@etl-stream/core/Element"
import { type TableId, tableId, type TableSchema } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import type { Frames } from "./internal/frameBuffer.ts"
import { MalformedMessage } from "./internal/malformedMessage.ts"
import { Decoder } from "./internal/pgoutput.ts"
import type { Relation } from "./internal/relation.ts"
import { ValueError } from "./internal/valueDecoder.ts"
import * as Lsn from "./Lsn.ts"
import * as PostgresError from "./PostgresError.ts"
import * as PostgresType from "./PostgresType.ts"

export type { Relation, RelationColumn } from "./internal/relation.ts"

export interface Options {
  /** The tables in the shapes that the sink was opened with. A relation of another shape begins with a `Schema` element. */
  readonly tables: ReadonlyArray<TableSchema>
  /**
   * The shape of a relation's table, or undefined when it isn't replicated: its changes are then skipped, but counted.
   * Called for every Relation message, also for one that repeats an earlier, with the commit LSN of the transaction that it
   * comes in. Its columns must be among the relation's.
   */
  readonly resolveRelation: (relation: Relation, commit: Lsn.Lsn) => TableSchema | undefined
  /**
   * Whether the truncation of these relations, all of them resolved to one table, empties it; otherwise nothing is emitted. Called with the
   * commit LSN of the transaction. Default: it does.
   */
  readonly truncates?: (relations: ReadonlyArray<number>, commit: Lsn.Lsn) => boolean
  /** Whether messages with this prefix become elements. Default: all do. */
  readonly takesMessage?: (prefix: string) => boolean
  /** Types by OID, only needed for values in binary format. Default: the built-in ones. */
  readonly types?: PostgresType.TypeCatalog
  /**
   * Position of each table's snapshot. Its changes with a commit LSN below it are part of the copy and are left out; a
   * table that is absent has all its changes decoded.
   */
  readonly copied: ReadonlyMap<TableId, bigint>
  /** A table's batch is cut at so many rows; default 16,384. */
  readonly maxRows?: number
  /** A table's batch is cut at so many bytes, roughly; default 4 MiB. */
  readonly maxBytes?: number
}

export interface PgOutputDecoder {
  /**
   * The elements of a view. Rows come at once, those of an unfinished transaction too; a `Watermark` only for the last
   * transaction that ended. Fails with `Protocol` on bytes that break the protocol, and must not be used after that.
   */
  readonly decode: (frames: Frames) => Effect.Effect<ReadonlyArray<Element>, ConnectorError>
}

const defaultMaxRows = 16_384
const defaultMaxBytes = 4 * 1024 * 1024

const report =
  "This should not happen between a supported server and this version: please report it with the server's version."

/** What went wrong at the place where the decoder stands. */
const errorAt = (decoder: Decoder, cause: unknown): ConnectorError => {
  if (cause instanceof ConnectorError) return cause
  const { plan } = decoder
  const table = plan === undefined ? undefined : tableId(plan.schema.table)
  const column = plan?.relation.columns[decoder.progress.column]?.name
  const lsn = Lsn.format(BigInt(decoder.messageHigh) << 32n | BigInt(decoder.messageLow))
  const where = `${column === undefined ? "" : `column ${column} of `}${table === undefined ? "" : `table ${table} `}`
  if (cause instanceof ValueError) {
    return cause.reason === "Malformed"
      ? PostgresError.make(
        "Protocol",
        `Replication stream at ${lsn}: ${where}has a value that is ${cause.message}`,
        report,
        table
      )
      : PostgresError.make(
        "Unsupported",
        `Replication stream at ${lsn}: ${where}has ${cause.message}`,
        "Correct the value in the source, or leave the column out of the publication.",
        table
      )
  }
  if (cause instanceof MalformedMessage) {
    return PostgresError.make(
      "Protocol",
      `Replication stream at ${lsn}: ${where}${where === "" ? "" : "has "}${cause.message}`,
      report,
      table
    )
  }
  if (cause instanceof RangeError) {
    return PostgresError.make(
      "Unsupported",
      `Replication stream at ${lsn}: ${where}is too large for one batch`,
      "Lower the size of the values in the source.",
      table
    )
  }
  throw cause
}

/** A decoder for one stream. */
export const make = (options: Options): PgOutputDecoder => {
  const decoder = new Decoder({
    tables: options.tables,
    resolveRelation: options.resolveRelation,
    truncates: options.truncates ?? (() => true),
    takesMessage: options.takesMessage ?? (() => true),
    types: options.types ?? PostgresType.emptyCatalog,
    copied: options.copied,
    maxRows: options.maxRows ?? defaultMaxRows,
    maxBytes: options.maxBytes ?? defaultMaxBytes
  })
  return {
    decode: (frames) =>
      Effect.try({
        try: () => decoder.decode(frames),
        catch: (cause) => errorAt(decoder, cause)
      })
  }
}
