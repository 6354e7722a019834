/**
 * Loads a table's copy: Parquet parts to the stage, COPY INTO the target, and the state when it is complete.
 *
 * Each copy has an identity of its own, recorded in the state table before its first row is loaded: what an earlier, unfinished copy left in
 * the target is removed then, and a runner that works on an older copy can't load into this one. The end is only recorded when the
 * target holds exactly as many rows as the source sent.
 */
import type * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { randomUUID } from "node:crypto"
import { unwritable } from "./Channel.ts"
import type { OutOfRange } from "./Config.ts"
import { failure } from "./ErrorPolicy.ts"
import { literal, quote } from "./Identifier.ts"
import * as ParquetEncoder from "./ParquetEncoder.ts"
import type { SqlClient } from "./SqlClient.ts"
import type { Stage } from "./Stage.ts"
import type { StateTable } from "./StateTable.ts"
import type { TableLayout } from "./TableLayout.ts"
import { Metadata, sqlName } from "./TableLayout.ts"

type Failed = ConnectorError.ConnectorError

/** A COPY is run for about this much (Snowflake recommends files of 100 to 250 MB; many small ones in one statement come next to it). */
const copyBytes = 128 << 20
/** Most file names that a COPY may list. */
const copyFiles = 1000
/** Arrow bytes per Parquet file: parquet-wasm needs several times as much, and keeps it. */
const fileBytes = 16 << 20

interface Copy {
  readonly id: string
  readonly folder: string
  readonly position: bigint
  readonly files: Array<string>
  bytes: number
  written: number
  rows: number
}

export class SnapshotLoader {
  private readonly sql: SqlClient
  private readonly state: StateTable
  private readonly stage: Stage
  private readonly policy: OutOfRange
  private layout: TableLayout
  private copy: Copy | undefined

  constructor(sql: SqlClient, state: StateTable, stage: Stage, policy: OutOfRange, layout: TableLayout) {
    this.sql = sql
    this.state = state
    this.stage = stage
    this.policy = policy
    this.layout = layout
  }

  /** Begins a copy at `position`: what a mirror and its journal hold is void, and of a changelog what an earlier copy left there. */
  begin(layout: TableLayout, position: bigint): Effect.Effect<void, Failed> {
    return Effect.gen({ self: this }, function*() {
      this.layout = layout
      const id = randomUUID().replaceAll("-", "")
      const copy: Copy = {
        id,
        folder: this.stage.folder(layout, id),
        position,
        files: [],
        bytes: 0,
        written: 0,
        rows: 0
      }
      const what = `Emptying ${sqlName(layout.target)} for a new copy`
      yield* this.sql.use((session) =>
        session.transaction(
          what,
          Effect.gen({ self: this }, function*() {
            const voided = layout.mode === "mirror"
              ? [`DELETE FROM ${sqlName(layout.target)}`, `DELETE FROM ${sqlName(layout.journal)}`]
              : [`DELETE FROM ${sqlName(layout.target)} WHERE ${quote(Metadata.op)} = 'read'`]
            for (const sql of voided) yield* session.execute({ what, sql, table: layout.id })
            yield* this.state.beginCopy(session, layout, id)
          })
        )
      )
      this.copy = copy
    })
  }

  /** Stages the rows of one part. */
  write(batch: ChangeBatch.ChangeBatch): Effect.Effect<void, Failed> {
    return Effect.gen({ self: this }, function*() {
      const { copy, layout } = this
      if (copy === undefined) return yield* this.outOfPlace("rows")
      const rowsPerFile = Math.max(1, Math.floor(batch.rows * fileBytes / Math.max(batch.bytes, fileBytes)))
      for (let from = 0; from < batch.rows; from += rowsPerFile) {
        const piece = rowsPerFile >= batch.rows
          ? batch
          : {
            ...batch,
            records: batch.records.slice(from, from + rowsPerFile),
            rows: Math.min(rowsPerFile, batch.rows - from)
          }
        const purpose = layout.mode === "mirror" ? "target" : "journal"
        const content = yield* ParquetEncoder.encode(layout, piece, purpose, this.policy, copy.rows + 1).pipe(
          Effect.mapError((error) => unwritable(layout, error))
        )
        const file = `${String(copy.written++).padStart(6, "0")}.parquet`
        yield* this.stage.upload(layout, copy.folder, file, content)
        copy.files.push(file)
        copy.bytes += content.length
        copy.rows += piece.rows
        if (copy.bytes >= copyBytes || copy.files.length >= copyFiles) yield* this.load(copy)
      }
    })
  }

  private load(copy: Copy): Effect.Effect<void, Failed> {
    return Effect.gen({ self: this }, function*() {
      if (copy.files.length === 0) return
      const { layout } = this
      const mirror = layout.mode === "mirror"
      const syncedAt = new Date(yield* Clock.currentTimeMillis).toISOString()
      const constants = mirror
        ? [
          { name: Metadata.sequence, expression: literal(Sequence.format(Sequence.make(copy.position, 0n))) },
          { name: Metadata.syncedAt, expression: `${literal(syncedAt)}::TIMESTAMP_TZ(6)` }
        ]
        : []
      yield* this.sql.use((session) =>
        session.transaction(
          `Copying rows of ${layout.id}`,
          Effect.gen({ self: this }, function*() {
            yield* this.stage.copy(session, layout, mirror ? "target" : "journal", copy.folder, copy.files, constants)
            yield* this.state.confirmCopy(session, layout, copy.id)
          })
        )
      )
      copy.files.length = 0
      copy.bytes = 0
    })
  }

  /** Loads what is staged, checks that nothing is missing, and records the copy as complete. */
  end(position: bigint, rows: number): Effect.Effect<void, Failed> {
    return Effect.gen({ self: this }, function*() {
      const { copy, layout } = this
      if (copy === undefined || copy.position !== position) return yield* this.outOfPlace("end")
      yield* this.load(copy)
      const what = `Completing the copy of ${layout.id}`
      yield* this.sql.use((session) =>
        session.transaction(
          what,
          Effect.gen({ self: this }, function*() {
            const counted = yield* session.execute({
              what,
              sql: `SELECT COUNT(*) AS "rows" FROM ${sqlName(layout.target)}` +
                (layout.mode === "mirror" ? "" : ` WHERE ${quote(Metadata.op)} = 'read'`),
              table: layout.id
            })
            const held = Number(counted.rows[0]?.["rows"])
            if (held !== rows) {
              return yield* failure(
                "Fenced",
                `The copy of ${layout.id} has ${rows} rows at the source and ${held} in ${sqlName(layout.target)}`,
                "The table is copied again. If it happens again, look for something else that writes to the target.",
                { table: layout.id }
              )
            }
            yield* this.state.endCopy(session, layout, copy.id, position)
          })
        )
      )
      this.copy = undefined
      // Leftovers cost storage, not correctness: the next copy has a folder of its own.
      yield* Effect.ignore(this.stage.remove(layout, copy.folder))
    })
  }

  private outOfPlace(what: string): Effect.Effect<never, Failed> {
    return Effect.fail(
      failure(
        "Protocol",
        `Snapshot ${what} of ${this.layout.id} came outside of a copy`,
        "Report it; the source broke the order of elements.",
        {
          table: this.layout.id
        }
      )
    )
  }
}
