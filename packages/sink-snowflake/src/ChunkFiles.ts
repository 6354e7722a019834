/**
 * The files that the chunks of a copy become at the stage.
 *
 * Rows of a chunk go to a Parquet file that grows until it is large enough (or memory asks for its end), and is uploaded while the next one grows; its
 * name says which chunk it belongs to and which of its files it is.
 */
import type * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import { unwritable } from "./ChannelWriter.ts"
import type { Config, OutOfRange } from "./Config.ts"
import type { CopyProgress, OpenChunk, StagedFile } from "./CopyProgress.ts"
import type { DeadLetterWriter } from "./DeadLetterWriter.ts"
import { refusedValues } from "./NdjsonRows.ts"
import * as ParquetEncoder from "./ParquetEncoder.ts"
import { ParquetFile, rowGroupBytes } from "./ParquetFile.ts"
import type { Stage } from "./Stage.ts"
import type { StagingMemory } from "./StagingMemory.ts"
import type { TableLayout } from "./TableLayout.ts"
import type { Refusal } from "./ValueWriter.ts"

type Failed = ConnectorError.ConnectorError

/** Arrow bytes that are encoded at a time. */
const pieceBytes = 16 << 20

/** Cuts rows into as many as are encoded at a time. */
export const pieces = (batch: ChangeBatch.ChangeBatch): ReadonlyArray<ChangeBatch.ChangeBatch> => {
  const rowsPerPiece = Math.max(1, Math.floor(batch.rows * pieceBytes / Math.max(batch.bytes, pieceBytes)))
  if (rowsPerPiece >= batch.rows) return batch.rows === 0 ? [] : [batch]
  return Array.from({ length: Math.ceil(batch.rows / rowsPerPiece) }, (_, index) => ({
    ...batch,
    records: batch.records.slice(index * rowsPerPiece, (index + 1) * rowsPerPiece),
    rows: Math.min(rowsPerPiece, batch.rows - index * rowsPerPiece)
  }))
}

export class ChunkFiles {
  private readonly stage: Stage
  private readonly policy: OutOfRange
  private readonly fileBytes: number
  /** Row groups are small beside a file and the memory that there is. */
  private readonly groupBytes: number
  private readonly memory: StagingMemory
  /** Where uploads run. */
  private readonly scope: Scope.Scope
  private readonly letters: DeadLetterWriter | undefined

  constructor(
    stage: Stage,
    config: Config,
    memory: StagingMemory,
    scope: Scope.Scope,
    letters: DeadLetterWriter | undefined
  ) {
    this.stage = stage
    this.policy = config.outOfRange
    this.fileBytes = config.copy.fileBytes
    this.groupBytes = Math.min(rowGroupBytes, Math.ceil(config.copy.fileBytes / 4), Math.ceil(config.copy.memory / 16))
    this.memory = memory
    this.scope = scope
    this.letters = letters
  }

  /** Appends a piece of rows to the chunk's file, and ends that when it is large enough or memory asks for it. Whether it has ended. */
  append(
    layout: TableLayout,
    copy: CopyProgress,
    chunk: OpenChunk,
    piece: ChangeBatch.ChangeBatch
  ): Effect.Effect<boolean, Failed> {
    return Effect.gen({ self: this }, function*() {
      const purpose = layout.mode === "mirror" ? "target" : "journal"
      const refused: Array<Refusal> | undefined = this.letters === undefined ? undefined : []
      const table = yield* ParquetEncoder.encode(layout, piece, purpose, this.policy, copy.staged + 1, refused).pipe(
        Effect.mapError((error) => unwritable(layout, error))
      )
      // Before the rows that lack these values can become durable.
      yield* this.letters?.keep(layout, piece, refusedValues(layout.columns, refused ?? [])) ?? Effect.void
      const file = chunk.file ?? (yield* ParquetFile.make(this.groupBytes))
      chunk.file = file
      const before = file.bytes
      yield* file.append(table)
      this.memory.grew(file.bytes - before)
      copy.staged += piece.rows
      chunk.rows += piece.rows
      chunk.filled = ParquetEncoder.filled(layout, table).map((values, index) => values + (chunk.filled[index] ?? 0))
      if (file.bytes < this.fileBytes && !this.memory.full) return false
      yield* this.seal(layout, copy, chunk)
      return true
    })
  }

  /** Ends the chunk's file and starts its upload, once there is room for it. */
  seal(layout: TableLayout, copy: CopyProgress, chunk: OpenChunk): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      const { file, number, position, uploads } = chunk
      if (file === undefined) return
      const { folder } = copy.identity
      chunk.file = undefined
      this.memory.grew(-file.bytes)
      const content = yield* file.close
      const name = `chunk-${number}-${String(chunk.sealed++).padStart(6, "0")}.parquet`
      const upload = Effect.as(this.stage.upload(layout, folder, name, content), {
        name,
        position,
        rows: file.rows,
        bytes: content.length
      })
      uploads.push(yield* this.memory.start(this.scope, content.length, upload))
    })
  }

  /** The chunk's files, once they are at the stage. */
  uploaded({ uploads }: OpenChunk): Effect.Effect<ReadonlyArray<StagedFile>, Failed> {
    return Effect.suspend(() => Effect.forEach(uploads.splice(0), (upload) => Fiber.join(upload)))
  }

  /** Gives up a copy's files that grow and uploads that run: nothing more comes of them. */
  abandon(copy: CopyProgress): Effect.Effect<void> {
    return Effect.suspend(() =>
      Effect.forEach(
        copy.open.values(),
        (chunk) =>
          Effect.gen({ self: this }, function*() {
            const { file, uploads } = chunk
            chunk.file = undefined
            if (file !== undefined) {
              this.memory.grew(-file.bytes)
              yield* file.abandon
            }
            yield* Fiber.interruptAll(uploads)
          }),
        { discard: true }
      )
    )
  }
}
