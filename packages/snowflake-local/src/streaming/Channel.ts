/**
 * A named channel: who it is, what of it is committed, and the continuation token that orders its appends.
 *
 * A continuation token carries the channel's client sequencer (raised by each open, so that an older writer is fenced) and its row sequencer (raised by
 * each append, so that appends can't be repeated, skipped or reordered).
 */
import type * as Catalog from "../Catalog.ts"

/** A pipe together with the table it loads. */
export interface PipeTarget {
  readonly database: string
  readonly schema: string
  readonly pipe: string
  readonly table: Catalog.Table
}

/** What is on disk of a channel, and changes only in the transaction that commits its rows. */
export interface ChannelRecord {
  /** Numbers channels in the order of their creation; a channel that is created again gets a new one. */
  readonly id: number
  readonly database: string
  readonly schema: string
  readonly pipe: string
  readonly channel: string
  readonly tableDatabase: string
  readonly tableSchema: string
  readonly table: string
  /** The identity of the table that the rows went to: a table created again invalidates the channel. */
  readonly tableId: string
  readonly clientSequencer: number
  /** The row sequencer after the last committed append. */
  readonly rowSequencer: number
  /** `SUCCESS`, or why the channel must be opened again. */
  readonly statusCode: string
  readonly offsetToken: string | null
  readonly createdOnMs: number
  readonly rowsParsed: number
  readonly rowsInserted: number
  readonly rowsErrorCount: number
  readonly lastErrorOffsetUpperBound: string | null
  readonly lastErrorMessage: string | null
  readonly lastErrorTimestamp: number | null
  readonly averageLatencyMs: number
}

export const success = "SUCCESS"
/** Rows that had been accepted are gone (a crash), so what follows them may not be appended. */
export const rowSequencerGap = "ERR_CHANNEL_MUST_BE_REOPENED_DUE_TO_ROW_SEQ_GAP"
/** The table was created again, or a commit can't succeed. */
export const mustBeReopened = "ERR_CHANNEL_MUST_BE_REOPENED"
export const tableGone = "ERR_TABLE_DOES_NOT_EXIST_NOT_AUTHORIZED"

/** One key per channel within its pipe; names are exact. */
export const keyOf = (pipe: Pick<ChannelRecord, "database" | "schema" | "pipe">, channel: string): string =>
  JSON.stringify([pipe.database, pipe.schema, pipe.pipe, channel])

/** The token that the next append of this state has to bring. Opaque to clients. */
export const continuationToken = (id: number, clientSequencer: number, rowSequencer: number): string =>
  `${id}_${clientSequencer}_${rowSequencer}`

/** A channel's status as the endpoints print it. */
export const status = (record: ChannelRecord) => ({
  database_name: record.database,
  schema_name: record.schema,
  pipe_name: record.pipe,
  channel_name: record.channel,
  channel_status_code: record.statusCode,
  last_committed_offset_token: record.offsetToken,
  created_on_ms: record.createdOnMs,
  rows_inserted: record.rowsInserted,
  rows_parsed: record.rowsParsed,
  rows_error_count: record.rowsErrorCount,
  last_error_offset_upper_bound: record.lastErrorOffsetUpperBound,
  last_error_message: record.lastErrorMessage,
  last_error_timestamp: record.lastErrorTimestamp,
  snowflake_avg_processing_latency_ms: record.averageLatencyMs
})

/** A channel that was never opened. */
export const fresh = (id: number, pipe: PipeTarget, channel: string, now: number): ChannelRecord => ({
  id,
  database: pipe.database,
  schema: pipe.schema,
  pipe: pipe.pipe,
  channel,
  tableDatabase: pipe.table.database,
  tableSchema: pipe.table.schema,
  table: pipe.table.name,
  tableId: pipe.table.id,
  clientSequencer: 0,
  rowSequencer: 0,
  statusCode: success,
  offsetToken: null,
  createdOnMs: now,
  rowsParsed: 0,
  rowsInserted: 0,
  rowsErrorCount: 0,
  lastErrorOffsetUpperBound: null,
  lastErrorMessage: null,
  lastErrorTimestamp: null,
  averageLatencyMs: 0
})
