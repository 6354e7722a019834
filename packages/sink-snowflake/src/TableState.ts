/**
 * What Snowflake knows of one table, as it is read from the table's row in the state table.
 */
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import type { Quarantine } from "@etl-stream/core/Quarantine"
import type * as Sequence from "@etl-stream/core/Sequence"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as ChunkTable from "./ChunkTable.ts"
import { failure } from "./ErrorPolicy.ts"
import * as QuarantineMark from "./QuarantineMark.ts"

type Failed = ConnectorError.ConnectorError

/** A copy that can go on. */
export interface Resumable {
  readonly copy: string
  readonly position: bigint
  readonly plan: string
  readonly chunks: ChunkTable.Chunks
}

/** A copy that isn't finished: the run that it is under way in, or was. */
export interface Unfinished {
  readonly run: string
  readonly resumable: Resumable | undefined
}

export interface TableState {
  /** The target that all of this is about, as SQL; empty for a table that never had one. */
  readonly target: string
  /** The journal beside it. */
  readonly journal: string
  /** Position of the finished copy. */
  readonly copied: bigint | undefined
  /** Position of the latest snapshot that it was read in; undefined when a version without resumable copies made it. */
  readonly copiedTo: bigint | undefined
  readonly settled: bigint | undefined
  readonly copying: Unfinished | undefined
  /** Sequence up to which the journal is merged; in mode changelog where the copy ends. */
  readonly merged: Sequence.SequenceText | undefined
  /** The source's text about the history that the copy belongs to. */
  readonly origin: string | undefined
  /** What the target was given as columns, see `KnownColumns`. */
  readonly columns: string | undefined
  /** What its metadata columns are called, see `MetadataColumns`. */
  readonly metadata: string | undefined
  /** The token of the task that merges the table; empty when there is one that is not in charge. */
  readonly task: string | undefined
  /** Why the table is in quarantine; undefined when it isn't. */
  readonly quarantined: Quarantine | undefined
}

const Position = Schema.NullOr(Schema.String.check(Schema.isPattern(/^\d{1,20}$/u)))
export const Row = Schema.Struct({
  SOURCE_TABLE: Schema.String,
  TARGET: Schema.String,
  JOURNAL: Schema.String,
  COPYING: Schema.NullOr(Schema.String),
  COPY: Schema.NullOr(Schema.String),
  COPY_POSITION: Position,
  COPY_PLAN: Schema.NullOr(Schema.String),
  COPIED: Position,
  COPIED_TO: Position,
  SETTLED: Position,
  MERGED: Schema.NullOr(Schema.String),
  ORIGIN: Schema.NullOr(Schema.String),
  COLUMNS: Schema.NullOr(Schema.String),
  METADATA: Schema.NullOr(Schema.String),
  TASK: Schema.NullOr(Schema.String),
  ...QuarantineMark.fields
})

/** The columns that a state is read from. */
export const columns = [
  "SOURCE_TABLE",
  "TARGET",
  "JOURNAL",
  "COPYING",
  "COPY",
  "COPY_POSITION",
  "COPY_PLAN",
  "COPIED",
  "COPIED_TO",
  "SETTLED",
  "MERGED",
  "ORIGIN",
  "COLUMNS",
  "METADATA",
  "TASK",
  ...QuarantineMark.columns
]

const positionOf = (text: string | null): bigint | undefined => text === null ? undefined : BigInt(text)

const none: ChunkTable.Chunks = new Map()

const unfinished = (
  row: typeof Row.Type,
  chunks: ReadonlyMap<string, ChunkTable.Chunks>
): Unfinished | undefined => {
  const { COPY: copy, COPYING: run, COPY_PLAN: plan } = row
  if (run === null) return undefined
  const position = positionOf(row.COPY_POSITION)
  return {
    run,
    resumable: copy === null || plan === null || position === undefined
      ? undefined
      : { copy, position, plan, chunks: chunks.get(copy) ?? none }
  }
}

/** Rows of a query on the state table. */
export const decode = <A>(
  schema: Schema.ConstraintDecoder<A>,
  rows: ReadonlyArray<unknown>
): Effect.Effect<ReadonlyArray<A>, Failed> =>
  Effect.forEach(
    rows,
    (row) =>
      Schema.decodeUnknownEffect(schema)(row).pipe(Effect.mapError(() =>
        failure(
          "Protocol",
          "The state table TABLES in Snowflake has another form than expected",
          "Check whether something else created or changed it."
        )
      ))
  )

/** What a row says; `chunks` are those of unfinished copies, by copy. */
export const parse = (row: typeof Row.Type, chunks: ReadonlyMap<string, ChunkTable.Chunks>): TableState => ({
  target: row.TARGET,
  journal: row.JOURNAL,
  copied: positionOf(row.COPIED),
  copiedTo: positionOf(row.COPIED_TO),
  settled: positionOf(row.SETTLED),
  copying: unfinished(row, chunks),
  merged: row.MERGED ?? undefined,
  origin: row.ORIGIN ?? undefined,
  columns: row.COLUMNS ?? undefined,
  metadata: row.METADATA ?? undefined,
  task: row.TASK ?? undefined,
  quarantined: QuarantineMark.parse(row)
})
