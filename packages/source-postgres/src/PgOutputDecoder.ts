/**
 * Decodes what a `WalStream` pulls into elements: batches of columns, barriers, watermarks.
 *
 * The decoder keeps what lies between two views: the relations that were announced, the transaction that is open, and
 * where each table's copy ends. It must be given every view of a stream in order, and a new one is made for a new stream.
 */
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { Element } from "@etl-stream/core/Element"
import * as Quarantine from "@etl-stream/core/Quarantine"
import { type TableId, tableId, type TableSchema } from "@etl-stream/core/TableSchema"
import * as Effect from "effect/Effect"
import type { Frames } from "./internal/frameBuffer.ts"
import type { IncompleteChange } from "./internal/incompleteChange.ts"
import { MalformedMessage } from "./internal/malformedMessage.ts"
import { Decoder } from "./internal/pgoutput.ts"
import type { Relation } from "./internal/relation.ts"
import { ValueError } from "./internal/valueDecoder.ts"
import * as Lsn from "./Lsn.ts"
import * as PostgresError from "./PostgresError.ts"
import * as PostgresType from "./PostgresType.ts"

export type { IncompleteChange } from "./internal/incompleteChange.ts"
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
   * Names that the columns of a relation of the past have in the shape that `resolveRelation` has just given for it: undefined for a column
   * that is gone; columns of the shape that aren't among them came later and are null. Default: the relation's own, and none may lack.
   */
  readonly namesNow?: (relation: Relation) => ReadonlyArray<string | undefined> | undefined
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
  /**
   * Whether a change of key of a table, in a transaction that commits at this position, has to come with all of its row's values,
   * and how to get those that weren't sent: text by column name, undefined when the row is there no more. Default: never.
   */
  readonly completion?: {
    readonly isNeeded: (table: TableId, commit: Lsn.Lsn) => boolean
    readonly complete: (
      change: IncompleteChange
    ) => Effect.Effect<ReadonlyMap<string, string | null> | undefined, ConnectorError>
  }
  /** A table's batch is cut at so many rows; default 16,384. */
  readonly maxRows?: number
  /** A table's batch is cut at so many bytes, roughly; default 4 MiB. */
  readonly maxBytes?: number
}

export interface PgOutputDecoder {
  /**
   * The elements of a view. Rows come at once, those of an unfinished transaction too; a `Watermark` only for the last
   * transaction that ended; a `TableFailed` for a table with a change that can't be represented, and then nothing more of it until `track`. Fails with `Protocol` on bytes that break the protocol, and must not be used after that.
   */
  readonly decode: (frames: Frames) => Effect.Effect<ReadonlyArray<Element>, ConnectorError>
  /**
   * Takes the changes of one more table (or of one that is copied again) between two views. Returns the position, at least
   * `floor`, from which on every commit's changes come. `resolveRelation` must know the table by now.
   */
  readonly track: (table: TableSchema, floor: Lsn.Lsn) => Effect.Effect<Lsn.Lsn, ConnectorError>
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
  const { completion } = options
  const decoder: Decoder = new Decoder({
    tables: options.tables,
    resolveRelation: options.resolveRelation,
    namesNow: options.namesNow ?? (() => undefined),
    truncates: options.truncates ?? (() => true),
    takesMessage: options.takesMessage ?? (() => true),
    types: options.types ?? PostgresType.emptyCatalog,
    copied: options.copied,
    mustBeComplete: completion?.isNeeded ?? (() => false),
    tableError: (cause) => {
      const error = errorAt(decoder, cause)
      // What breaks the protocol may be wrong with all that follows.
      return error.reason === "Unsupported" && error.table !== undefined ? error : undefined
    },
    maxRows: options.maxRows ?? defaultMaxRows,
    maxBytes: options.maxBytes ?? defaultMaxBytes
  })
  const attempt = (decode: () => Array<Element>) =>
    Effect.try({ try: decode, catch: (cause) => errorAt(decoder, cause) })

  /** Completes the change at which the decoder stopped, and every other up to the end of the view. */
  const completed = Effect.fnUntraced(function*(before: ReadonlyArray<Element>) {
    const elements = [...before]
    for (let change = decoder.incomplete; change !== undefined; change = decoder.incomplete) {
      const { table } = change
      const values = yield* (completion?.complete(change) ?? Effect.undefined).pipe(
        // The message itself goes on with what it has, to be counted.
        Effect.catchIf(Quarantine.concernsTable, (error) =>
          Effect.sync(() => {
            decoder.giveUp(table, error)
            return undefined
          }))
      )
      elements.push(...(yield* attempt(() => decoder.resume(values))))
    }
    return elements
  })

  return {
    track: (table, floor) =>
      Effect.try({ try: () => decoder.track(table, floor), catch: (cause) => errorAt(decoder, cause) }),
    decode: (frames) =>
      Effect.flatMap(
        attempt(() => decoder.decode(frames)),
        (elements) => decoder.incomplete === undefined ? Effect.succeed(elements) : completed(elements)
      )
  }
}
