/**
 * Makes dead letters of refused values, and keeps them before the rows that lack them go on their way.
 *
 * Refusals are rare: only for their rows are texts made. Letters are kept in pieces, so that a batch of them needs no more memory than one piece.
 */
import * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import type { Conditions } from "@etl-stream/core/Condition"
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import type { Column, DeadLetter } from "@etl-stream/core/DeadLetter"
import { encodeType, idOf } from "@etl-stream/core/DeadLetter"
import type { DeadLetterStore } from "@etl-stream/core/DeadLetterStore"
import type { PluginContext } from "@etl-stream/core/Plugin"
import * as Sequence from "@etl-stream/core/Sequence"
import type { TableId } from "@etl-stream/core/TableSchema"
import * as Telemetry from "@etl-stream/core/Telemetry"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import { resolve } from "node:path"
import { ByteBuffer } from "./ByteBuffer.ts"
import type { Config } from "./Config.ts"
import * as DeadLetterDirectory from "./DeadLetterDirectory.ts"
import * as DeadLetterTable from "./DeadLetterTable.ts"
import { failure, plugin } from "./ErrorPolicy.ts"
import * as Identifier from "./Identifier.ts"
import { operations } from "./NdjsonEncoder.ts"
import type { RefusedValue } from "./NdjsonRows.ts"
import * as RowKey from "./RowKey.ts"
import * as SourceText from "./SourceText.ts"
import type { SqlClient } from "./SqlClient.ts"
import type { TableLayout } from "./TableLayout.ts"
import type { ColumnValues } from "./ValueLayout.ts"
import { halvesOf, isNull } from "./ValueWriter.ts"

type Failed = ConnectorError.ConnectorError

/** The condition that is raised for a table from its first letter of a run on. */
export const condition = "dead-letters"

/** Most characters of letters that are kept at once, a single larger one aside. */
const pieceLength = 8 << 20

/** The store that the pipeline names or the sink's own; undefined when there is none. */
export const storeOf = (
  config: Config,
  context: PluginContext,
  sql: SqlClient
): Effect.Effect<DeadLetterStore | undefined, Failed> => {
  const { deadLetters } = config
  if (deadLetters === undefined) return Effect.succeed(context.deadLetters)
  if (context.deadLetters !== undefined) {
    return Effect.fail(
      failure(
        "Misconfigured",
        "Dead letters have two stores: that of the pipeline and that of the sink's options",
        "Remove `deadLetters` from the pipeline or from the sink's options."
      )
    )
  }
  const { directory, format, limit } = deadLetters
  return Effect.succeed(
    directory === undefined
      ? DeadLetterTable.make(
        sql,
        Identifier.fromConfig(config.database),
        Identifier.fromConfig(config.journalSchema),
        limit
      )
      : DeadLetterDirectory.make(
        { directory: resolve(context.directory, directory), limit, plugin },
        format ?? "ndjson"
      )
  )
}

const columnOf = ({ name, source, type }: ColumnValues): Column => ({
  name: source,
  target: name,
  type: encodeType(type)
})

const scratch = new ByteBuffer(1024)

/** Makes letters of a batch's refusals, one by one. */
const letterOf = (layout: TableLayout, pipeline: string, { records }: ChangeBatch.ChangeBatch, at: string) => {
  const ops = ChangeBatch.child(records, ChangeBatch.MetadataColumns.op).values as Uint8Array // uint8 by the batch's layout
  const times = halvesOf(ChangeBatch.child(records, ChangeBatch.MetadataColumns.commitTime))
  const masks = ChangeBatch.child(records, ChangeBatch.MetadataColumns.unsent)
  const rowKey = layout.keys.length > 0 ? undefined : RowKey.make(layout, records)
  const columns = layout.columns.map((column) => {
    const data = ChangeBatch.child(records, ChangeBatch.metadataColumns + column.index)
    return { column, data, write: SourceText.writer(column.type, data) }
  })
  const textOf = (write: () => void): string => {
    scratch.shrink()
    write()
    return Buffer.from(scratch.view()).toString()
  }
  const isUnsent = ({ index }: ColumnValues, row: number): boolean => {
    if (isNull(masks, row)) return false
    const bits = masks.values as Uint8Array // a binary column
    const start = masks.valueOffsets[row] as number // in range
    return ((bits[start + (index >> 3)] as number) & (1 << (index & 7))) !== 0 // the mask covers every column
  }
  return ({ column: place, row, why }: RefusedValue): DeadLetter => {
    const column = layout.columns[place] as ColumnValues // values are refused of the layout's columns
    const values: Array<readonly [string, string | null]> = []
    const unsent: Array<string> = []
    for (const { column, data, write } of columns) {
      if (isUnsent(column, row)) unsent.push(column.source)
      else values.push([column.source, isNull(data, row) ? null : textOf(() => write(row, scratch))])
    }
    const byName = new Map(values)
    const commitTime = textOf(() => {
      scratch.timestamp(times[row * 2 + 1] as number, times[row * 2] as number) // in range
      scratch.byte(0x5a)
    })
    const identified = {
      pipeline,
      table: layout.id,
      sequence: Sequence.format(ChangeBatch.sequenceAt(records, row)),
      row: rowKey?.(row) ?? JSON.stringify(layout.keys.map(({ source }) => byName.get(source) ?? null)),
      column: columnOf(column)
    }
    return {
      id: idOf(identified),
      ...identified,
      operation: operations[ops[row] as number] as string, // operations are those
      commitTime,
      identity: layout.table.identity._tag,
      key: layout.keys.map(columnOf),
      reason: why,
      values: Object.fromEntries(values),
      unsent,
      at
    }
  }
}

const lengthOf = ({ values }: DeadLetter): number =>
  Object.values(values).reduce((sum, value) => sum + (value?.length ?? 0), 1000)

export class DeadLetterWriter {
  private readonly pipeline: string
  private readonly store: DeadLetterStore
  /** Where the run's conditions are raised, once there is a run. */
  conditions: Conditions | undefined
  /** Letters of this run, per table. */
  private readonly counts = new Map<TableId, number>()

  constructor(pipeline: string, store: DeadLetterStore) {
    this.pipeline = pipeline
    this.store = store
  }

  /** Keeps what was refused of `batch`: durable on return. */
  keep(
    layout: TableLayout,
    batch: ChangeBatch.ChangeBatch,
    refused: ReadonlyArray<RefusedValue>
  ): Effect.Effect<void, Failed> {
    if (refused.length === 0) return Effect.void
    return Effect.gen({ self: this }, function*() {
      const at = new Date(yield* Clock.currentTimeMillis).toISOString()
      const letterFor = letterOf(layout, this.pipeline, batch, at)
      let piece: Array<DeadLetter> = []
      let length = 0
      let added = 0
      for (const refusal of refused) {
        const letter = letterFor(refusal)
        if (piece.length > 0 && length + lengthOf(letter) > pieceLength) {
          added += yield* this.store.put(piece)
          piece = []
          length = 0
        }
        piece.push(letter)
        length += lengthOf(letter)
      }
      added += yield* this.store.put(piece)
      if (added > 0) yield* this.tell(layout.id, added)
    })
  }

  private tell(table: TableId, added: number): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      const count = (this.counts.get(table) ?? 0) + added
      this.counts.set(table, count)
      yield* Metric.update(
        Metric.withAttributes(Telemetry.deadLetters, {
          [Telemetry.Attributes.pipeline]: this.pipeline,
          [Telemetry.Attributes.table]: table
        }),
        added
      )
      yield* this.conditions?.raise({
        name: condition,
        severity: "warning",
        table,
        message: `${count} ${
          count === 1 ? "value" : "values"
        } of ${table} could not be written since this run began: NULL stands in ${
          count === 1 ? "its row" : "their rows"
        }, and the dead letters hold what was sent`,
        hint: "See which columns and why (`etl-stream dlq ls`), give them types that hold such values, and replay them."
      }) ?? Effect.void
    })
  }
}
