/**
 * Writes change batches to a channel: encodes and compresses them in chunks that Snowflake takes.
 *
 * While one request is on its way the next chunk is encoded and compressed. A request that is refused as too large, or for one of its rows, is sent again in
 * halves, down to single rows.
 */
import type * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import { sequenceAt } from "@etl-stream/core/ChangeBatch"
import type * as ConnectorError from "@etl-stream/core/ConnectorError"
import * as Sequence from "@etl-stream/core/Sequence"
import * as Effect from "effect/Effect"
import type * as Semaphore from "effect/Semaphore"
import { BatchSize, maxRequestBytes } from "./BatchSize.ts"
import type { Encoding } from "./BodyCoding.ts"
import type { Channel } from "./Channel.ts"
import type { Compression } from "./Compression.ts"
import type { OutOfRange } from "./Config.ts"
import type { DeadLetterWriter } from "./DeadLetterWriter.ts"
import type { EncodingPool, Options, Rows } from "./EncodingPool.ts"
import * as ErrorPolicy from "./ErrorPolicy.ts"
import type { Selection } from "./NdjsonEncoder.ts"
import { NdjsonEncoder } from "./NdjsonEncoder.ts"
import * as StreamingErrors from "./StreamingErrors.ts"
import type { StreamingFailure } from "./StreamingTransport.ts"
import type { TableLayout } from "./TableLayout.ts"
import * as TableOptions from "./TableOptions.ts"
import { Unwritable } from "./ValueWriter.ts"

type Failed = ConnectorError.ConnectorError

/** What the channels of a sink share. */
export interface Shared {
  readonly compression: Compression
  readonly encoding: EncodingPool
  /** Bounds how many channels encode and send at a time, and with that the memory for it. */
  readonly writers: Semaphore.Semaphore
  /** Where refused values go; undefined: they are errors. */
  readonly letters: DeadLetterWriter | undefined
}

interface Compressed {
  readonly body: Uint8Array
  readonly encoding: Encoding
  readonly rawBytes: number
  readonly rows: number
  readonly first: number
  readonly last: number
}

/** A row that no request can carry. */
export interface TooLarge {
  readonly _tag: "TooLarge"
  readonly row: number
}

/** What became of a request; `otherCoding`: it has to be compressed in another way; a failure: Snowflake refused one of its rows. */
type Outcome = "taken" | "tooLarge" | "otherCoding" | StreamingFailure

export class ChannelWriter {
  private readonly channel: Channel
  private readonly encoder: NdjsonEncoder
  private readonly options: Options
  private readonly shared: Shared
  private readonly size = new BatchSize()

  constructor(channel: Channel, outOfRange: OutOfRange, shared: Shared) {
    this.channel = channel
    this.encoder = new NdjsonEncoder(channel.layout, outOfRange)
    this.options = { layout: channel.layout, outOfRange, noting: shared.letters !== undefined }
    this.shared = shared
  }

  private get layout(): TableLayout {
    return this.channel.layout
  }

  /** Appends the (selected) rows of `batch` from row `from` on. Ends early at a row that is too large for a request. */
  write(
    batch: ChangeBatch.ChangeBatch,
    from: number,
    selection?: Selection
  ): Effect.Effect<TooLarge | undefined, Failed> {
    const { encoding, writers } = this.shared
    return writers.withPermits(1)(Effect.scoped(Effect.gen({ self: this }, function*() {
      const rows = yield* encoding.ndjson(this.encoder, this.options, batch, selection)
      let next = yield* this.prepare(batch, rows, from)
      while (next !== undefined) {
        if ("row" in next) return next
        const chunk: Compressed = next
        const first = Sequence.format(sequenceAt(batch.records, chunk.first))
        const [outcome, following] = yield* Effect.all([
          this.send(chunk, first, Sequence.format(sequenceAt(batch.records, chunk.last))),
          this.prepare(batch, rows, chunk.last + 1)
        ], { concurrency: 2 })
        if (outcome === "taken") next = following
        else if (outcome === "otherCoding") next = yield* this.prepare(batch, rows, chunk.first)
        else if (chunk.rows > 1) {
          next = yield* this.prepare(batch, rows, chunk.first, Math.ceil(chunk.rawBytes / 2))
        } else if (outcome === "tooLarge") return { _tag: "TooLarge", row: chunk.first } as const
        else return yield* this.refusedRow(outcome, first)
      }
      return undefined
    })))
  }

  /** Appends the mark that all rows were removed. */
  truncate(sequence: Sequence.Sequence, commitTime: bigint): Effect.Effect<void, Failed> {
    return Effect.gen({ self: this }, function*() {
      const text = Sequence.format(sequence)
      for (;;) {
        const bytes = this.encoder.truncate(sequence, commitTime)
        const rawBytes = bytes.length
        const outcome = yield* this.send({ ...(yield* this.shared.compression.compress(bytes)), rawBytes }, text, text)
        if (outcome === "taken") return
        if (outcome === "otherCoding") continue
        if (outcome !== "tooLarge") return yield* this.refusedRow(outcome, text)
        const { hint, reason } = StreamingErrors.refusal(413, undefined)
        return yield* ErrorPolicy.failure(
          reason,
          `A truncate of ${this.layout.id} was refused as too large, which no request is smaller than`,
          hint,
          { table: this.layout.id }
        )
      }
    })
  }

  /** Encodes and compresses the rows from `from` on that fit into a request, and into `atMost` bytes before compression. */
  private prepare(
    batch: ChangeBatch.ChangeBatch,
    rows: Rows,
    from: number,
    atMost = Number.POSITIVE_INFINITY
  ): Effect.Effect<Compressed | TooLarge | undefined, Failed> {
    return Effect.gen({ self: this }, function*() {
      if (from >= batch.rows) return undefined
      const { compression, letters } = this.shared
      let limit = Math.min(this.size.rawBytes, atMost)
      for (;;) {
        const { encoding } = compression
        const chunk = yield* Effect.mapError(
          rows.next({ from, limit, encoding }),
          (error) => error instanceof Unwritable ? unwritable(this.layout, error) : error
        )
        if (chunk === undefined) return undefined
        const { body, first, last, rawBytes } = chunk
        const single = chunk.rows === 1
        if (body !== undefined && body.length <= (single ? maxRequestBytes : this.size.requestBytes)) {
          // Before the rows that lack these values can become durable.
          yield* letters?.keep(this.layout, batch, chunk.refused) ?? Effect.void
          this.size.compressed(rawBytes, body.length)
          return { body, encoding, rawBytes, rows: chunk.rows, first, last }
        }
        if (single) return { _tag: "TooLarge", row: first } as const
        limit = Math.floor(Math.min(rawBytes, limit) / 2)
      }
    })
  }

  private refusedRow({ code, error }: StreamingFailure, sequence: Sequence.SequenceText): Failed {
    return ErrorPolicy.failure(
      error.reason,
      `Snowflake refuses the change ${sequence} of ${this.layout.id}${code === undefined ? "" : ` (${code})`}`,
      error.hint,
      { table: this.layout.id }
    )
  }

  /** Sends a request. When it isn't taken, nothing of it is. */
  private send(
    chunk: Pick<Compressed, "body" | "encoding" | "rawBytes">,
    startOffset: Sequence.SequenceText,
    endOffset: Sequence.SequenceText
  ): Effect.Effect<Outcome, Failed> {
    return Effect.gen({ self: this }, function*() {
      const { body, encoding, rawBytes } = chunk
      const { compression } = this.shared
      return yield* this.channel.append({ body, encoding, rawBytes, startOffset, endOffset }).pipe(
        Effect.matchEffect({
          onSuccess: (millis) =>
            Effect.sync((): Outcome => {
              compression.taken(encoding)
              this.size.answered(rawBytes, millis)
              return "taken"
            }),
          onFailure: (failure) => {
            if (compression.refused(failure, encoding)) return Effect.succeed<Outcome>("otherCoding")
            if (failure.action === "dead-letter") return Effect.succeed<Outcome>(failure)
            if (failure.action !== "split") return Effect.fail(this.channel.failed(failure))
            this.size.refused(body.length)
            return Effect.succeed<Outcome>("tooLarge")
          }
        })
      )
    })
  }
}

/** The error for a value that can't be written. */
export const unwritable = (layout: TableLayout, { column, message }: Unwritable): Failed =>
  ErrorPolicy.failure(
    "Rejected",
    `The column ${column} of ${layout.id} ${message}`,
    `Give the column a type that holds it (${
      TableOptions.path(layout.id, "columns", "<column>", "type")
    }: VARCHAR takes everything), set the sink's outOfRange to null or clamp, have such values kept as dead letters (the pipeline's deadLetters), or change the value at the source.`,
    { table: layout.id }
  )
