/**
 * The files that the chunks of a copy become at the stage.
 *
 * Rows of a chunk go to a Parquet file that grows until it is large enough (or memory asks for its end), and is uploaded while the next one grows; its
 * name says which chunk it belongs to and which of its files it is.
 */
import type * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { unwritable } from "./ChannelWriter.ts"
import type { Config, OutOfRange } from "./Config.ts"
import type { CopyProgress, GrowingFile, OpenChunk, StagedFile } from "./CopyProgress.ts"
import type { DeadLetterWriter } from "./DeadLetterWriter.ts"
import type { EncodingPool } from "./EncodingPool.ts"
import type * as ParquetEncoder from "./ParquetEncoder.ts"
import type { Stage } from "./Stage.ts"
import type { StagingMemory } from "./StagingMemory.ts"
import type { TableLayout } from "./TableLayout.ts"
import { Unwritable } from "./ValueWriter.ts"

type Failed = ConnectorError.ConnectorError

/** Arrow bytes that are encoded at a time. */
const pieceBytes = 16 << 20

/** Values of a piece, each of which may be refused, and is an object then. */
const pieceValues = 500_000

/** Cuts rows into as many as are encoded at a time. */
export const pieces = (batch: ChangeBatch.ChangeBatch): ReadonlyArray<ChangeBatch.ChangeBatch> => {
  const rowsPerPiece = Math.max(
    1,
    Math.floor(Math.min(
      batch.rows * pieceBytes / Math.max(batch.bytes, pieceBytes),
      pieceValues / Math.max(batch.table.columns.length, 1)
    ))
  )
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
  private readonly memory: StagingMemory
  /** Where uploads run. */
  private readonly scope: Scope.Scope
  private readonly letters: DeadLetterWriter | undefined
  private readonly encoding: EncodingPool

  constructor(
    stage: Stage,
    config: Config,
    memory: StagingMemory,
    scope: Scope.Scope,
    letters: DeadLetterWriter | undefined,
    encoding: EncodingPool
  ) {
    this.stage = stage
    this.encoding = encoding
    this.policy = config.outOfRange
    this.fileBytes = config.copy.fileBytes
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
      const file = chunk.file ?? (yield* this.begin(layout, purpose, chunk))
      const { bytes, filled, refused } = yield* file.rows.append(piece, copy.staged + 1).pipe(
        Effect.mapError((error) => error instanceof Unwritable ? unwritable(layout, error) : error)
      )
      // Before the rows that lack these values can become durable.
      yield* this.letters?.keep(layout, piece, refused) ?? Effect.void
      this.memory.grew(bytes - file.bytes)
      file.bytes = bytes
      copy.staged += piece.rows
      file.count += piece.rows
      chunk.rows += piece.rows
      chunk.filled = filled.map((values, index) => values + (chunk.filled[index] ?? 0))
      if (file.bytes < this.fileBytes && !this.memory.full) return false
      yield* this.seal(layout, copy, chunk)
      return true
    })
  }

  /** Begins the chunk's file, so that it is either the chunk's or ended, wherever an interruption comes. */
  private begin(layout: TableLayout, purpose: ParquetEncoder.Purpose, chunk: OpenChunk): Effect.Effect<GrowingFile> {
    const { letters, policy: outOfRange } = this
    const options = { layout, purpose, outOfRange, noting: letters !== undefined }
    return Effect.uninterruptibleMask((restore) =>
      Effect.gen({ self: this }, function*() {
        const scope = yield* Scope.make()
        const rows = yield* restore(Scope.provide(this.encoding.parquet(options), scope)).pipe(
          Effect.onError(() => Scope.close(scope, Exit.void))
        )
        const file = { rows, scope, bytes: 0, count: 0 }
        chunk.file = file
        return file
      })
    )
  }

  /** Ends the chunk's file and starts its upload, once there is room for it. */
  seal(layout: TableLayout, copy: CopyProgress, chunk: OpenChunk): Effect.Effect<void, Failed> {
    return Effect.gen({ self: this }, function*() {
      const { file, number, position, uploads } = chunk
      if (file === undefined) return
      const { folder } = copy.identity
      chunk.file = undefined
      this.memory.grew(-file.bytes)
      const content = yield* Effect.ensuring(file.rows.finish, Scope.close(file.scope, Exit.void))
      const name = `chunk-${number}-${String(chunk.sealed++).padStart(6, "0")}.parquet`
      const upload = Effect.as(
        this.stage.upload(layout, folder, name, Buffer.from(content.buffer, content.byteOffset, content.byteLength)),
        {
          name,
          position,
          rows: file.count,
          bytes: content.length
        }
      )
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
              yield* Scope.close(file.scope, Exit.void)
            }
            yield* Fiber.interruptAll(uploads)
          }),
        { discard: true }
      )
    )
  }
}
