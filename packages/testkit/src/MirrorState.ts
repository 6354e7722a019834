/**
 * How far a mirror is, as the warehouse and PostgreSQL themselves say: copies, merges, journals and the replication slot.
 *
 * Reads the sink's state table and journals by their documented names, as an operator would, and PostgreSQL's slot. `caughtUp`
 * is the definite condition that everything committed before it was asked has reached the target tables.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { EmbeddedPostgres, EmbeddedPostgresError } from "./EmbeddedPostgres.ts"
import { warehouseName } from "./RowComparison.ts"
import { quoted, type SnowflakeSession, type SnowflakeSessionError } from "./SnowflakeSession.ts"

export class MirrorStateError extends Schema.TaggedError<MirrorStateError>("@etl-stream/testkit/MirrorStateError")(
  "MirrorStateError",
  { message: Schema.String }
) {}

/** Where a pipeline keeps its tables. */
export interface Mirror {
  readonly session: SnowflakeSession
  readonly pipeline: string
  readonly database: string
  /** Schema of the target tables. */
  readonly schema: string
  /** Schema of journals and state. Default: ETL_STREAM. */
  readonly journalSchema?: string
}

/** One row of the state table. Positions are the sink's text. */
export interface TableState {
  /** `schema.name` at the source. */
  readonly table: string
  readonly copying: string | null
  /** Set once the copy is complete. */
  readonly copied: string | null
  /** Sequence up to which the journal has been merged. */
  readonly merged: string | null
}

const inJournals = (mirror: Mirror, name: string): string =>
  [mirror.database, mirror.journalSchema ?? "ETL_STREAM", name].map(quoted).join(".")

/** Qualified name of a table's journal. `table` is the bare name at the source. */
export const journal = (mirror: Mirror, table: string): string =>
  inJournals(mirror, `${mirror.schema}__${warehouseName(table)}__JOURNAL`)

/** States of the pipeline's tables; none while the state table does not exist. */
export const tables = (mirror: Mirror): Effect.Effect<ReadonlyArray<TableState>, SnowflakeSessionError> =>
  Effect.gen(function*() {
    const exists = yield* mirror.session.query(
      `SELECT COUNT(*) FROM ${quoted(mirror.database)}.INFORMATION_SCHEMA.TABLES
       WHERE TABLE_SCHEMA = '${mirror.journalSchema ?? "ETL_STREAM"}' AND TABLE_NAME = 'TABLES'`
    )
    if (exists[0]?.[0] === "0") return []
    const rows = yield* mirror.session.query(
      `SELECT SOURCE_TABLE, COPYING, COPIED, MERGED FROM ${inJournals(mirror, "TABLES")}
       WHERE PIPELINE = '${mirror.pipeline.replaceAll("'", "''")}' ORDER BY SOURCE_TABLE`
    )
    return rows.map(([table, copying, copied, merged]) => ({
      table: table ?? "",
      copying: copying ?? null,
      copied: copied ?? null,
      merged: merged ?? null
    }))
  })

/** Changes in a journal, how many of them carry a sequence that another one has too, and the last sequence. */
export interface JournalState {
  readonly changes: number
  readonly duplicates: number
  readonly last: string | null
}

export const journalState = (mirror: Mirror, table: string): Effect.Effect<JournalState, SnowflakeSessionError> =>
  Effect.map(
    mirror.session.query(
      `SELECT COUNT(*), COUNT(*) - COUNT(DISTINCT _ETL_SEQ), MAX(_ETL_SEQ) FROM ${
        journal(mirror, table)
      } WHERE _ETL_OP <> 'read'`
    ),
    ([row]) => ({ changes: Number(row?.[0] ?? 0), duplicates: Number(row?.[1] ?? 0), last: row?.[2] ?? null })
  )

export interface CaughtUp {
  readonly postgres: EmbeddedPostgres
  readonly slot: string
  readonly mirror: Mirror
  /** Bare names of the tables at the source. */
  readonly tables: ReadonlyArray<string>
  /** Gives up after this many milliseconds. Default: 120,000. */
  readonly millis?: number
  /** Called with what is still open, at every look. */
  readonly onWaiting?: (reason: string) => void
}

/** Milliseconds between two looks, at least. Until the slot is confirmed a look is one small query. */
const lookEvery = 100

/** What the mirror still lacks, or undefined. */
const lacking = (options: CaughtUp, target: string) =>
  Effect.gen(function*() {
    const [slot] = yield* options.postgres.query(
      `SELECT confirmed_flush_lsn >= $1::pg_lsn AS confirmed, confirmed_flush_lsn::text AS at
       FROM pg_replication_slots WHERE slot_name = $2`,
      [target, options.slot]
    )
    if (slot === undefined) return `the slot ${options.slot} doesn't exist`
    if (slot["confirmed"] !== true) {
      return `the slot ${options.slot} is confirmed up to ${slot["at"]}, not yet ${target}`
    }
    const states = new Map((yield* tables(options.mirror)).map((state) => [state.table, state]))
    for (const table of options.tables) {
      const state = [...states.values()].find((candidate) => candidate.table.split(".").at(-1) === table)
      if (state === undefined) return `${table} has no row in the state table`
      if (state.copied === null) return `the copy of ${table} is not complete`
      const { last } = yield* journalState(options.mirror, table)
      if (last !== null && (state.merged === null || state.merged < last)) {
        return `${table} is merged up to ${state.merged}, not yet ${last}`
      }
    }
    return undefined
  })

/**
 * Waits until everything that was committed before the call has been merged into the target tables and confirmed to
 * PostgreSQL. The workload should have stopped; a logical message is written so that the log has an end to reach.
 */
export const caughtUp = (
  options: CaughtUp
): Effect.Effect<void, MirrorStateError | SnowflakeSessionError | EmbeddedPostgresError> =>
  Effect.gen(function*() {
    yield* options.postgres.query("SELECT pg_logical_emit_message(true, 'etl-stream testkit', 'end')")
    const [end] = yield* options.postgres.query("SELECT pg_current_wal_lsn()::text AS lsn")
    const target = String(end?.["lsn"])
    const until = performance.now() + (options.millis ?? 120_000)
    for (;;) {
      const before = performance.now()
      const reason = yield* lacking(options, target)
      if (reason === undefined) return
      options.onWaiting?.(reason)
      const now = performance.now()
      if (now > until) return yield* new MirrorStateError({ message: `the mirror did not catch up: ${reason}` })
      // A look that takes long takes it from what is waited for.
      yield* Effect.sleep(Math.max(lookEvery, now - before))
    }
  })
