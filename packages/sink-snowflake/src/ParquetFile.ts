/**
 * A Parquet file that grows: Arrow tables of one schema go in, compressed bytes gather, and at the end it is one file.
 *
 * Snowflake loads files of 100 to 250 MB (compressed) best; what goes in at a time is much less, so each table becomes row groups of the file
 * and leaves the writer at once. parquet-wasm is loaded at first use; its memory never shrinks, so it is given little at a time, its
 * objects are freed as soon as they are used up, and copies are written in workers that end when it has grown (see `EncodingPool`). Statistics and
 * dictionaries are of no use to COPY, and cost more than the writing.
 *
 * Pages are compressed with zstd: on orders of 250 bytes (numbers, text, JSON, UUID) a row takes 1.1 microseconds of processor and 38 bytes, with snappy
 * 0.5 microseconds and 79 bytes, uncompressed 0.6 and 249; on short rows with much repetition 0.10 and 5, 0.07 and 12, 0.14 and 100. What is saved on
 * the way to the stage is worth more than the processor time, which a copy has to spare in its workers.
 */
import type * as Arrow from "apache-arrow"
import { tableFromIPC, tableToIPC } from "apache-arrow"
import * as Effect from "effect/Effect"
import type * as Parquet from "parquet-wasm"
import type { RecordBatch, WriterProperties } from "parquet-wasm"

/** Compressed size at which a row group ends, at most: what the writer holds at a time. */
export const rowGroupBytes = 16 << 20

const load = Effect.runSync(Effect.cached(Effect.promise(() => import("parquet-wasm"))))

type ParquetWasm = typeof Parquet

const properties = (parquet: ParquetWasm, groupBytes: number): WriterProperties =>
  new parquet.WriterPropertiesBuilder()
    .setCompression(parquet.Compression.ZSTD)
    .setDictionaryEnabled(false)
    .setStatisticsEnabled(parquet.EnabledStatistics.None)
    .setMaxRowGroupBytes(groupBytes)
    .build()

export class ParquetFile {
  private readonly parquet: ParquetWasm
  private readonly parts: Array<Uint8Array> = []
  private readonly input: ReadableStreamDefaultController<RecordBatch>
  /** Ends with the file. */
  private readonly writing: Promise<void>
  private output: ReadableStreamDefaultReader<Uint8Array> | undefined
  /** Called when the writer asks for more: what it was given before is written. */
  private wanted: () => void = () => {}
  private asked = false
  /** Bytes that have left the writer: the file's size but for the last row group and the footer. */
  bytes = 0
  /** Rows so far. */
  rows = 0

  private constructor(parquet: ParquetWasm, groupBytes: number) {
    this.parquet = parquet
    let input: ReadableStreamDefaultController<RecordBatch> | undefined
    const batches = new ReadableStream<RecordBatch>({
      start: (controller) => {
        input = controller
      },
      pull: () => {
        this.asked = true
        this.wanted()
      }
    }, { highWaterMark: 0 })
    // Two casts because TypeScript takes `input` for undefined still: it can't know that `start` has run within the constructor above.
    this.input = input as unknown as ReadableStreamDefaultController<RecordBatch>
    // Settles when the first table has come.
    this.writing = parquet.transformParquetStream(batches, properties(parquet, groupBytes)).then((written) =>
      this.gather(written)
    )
    // Whoever appends or closes sees it.
    this.writing.catch(() => {})
  }

  /** An empty file whose row groups end at `groupBytes` (compressed). */
  static make(groupBytes = rowGroupBytes): Effect.Effect<ParquetFile> {
    return Effect.map(load, (parquet) => new ParquetFile(parquet, groupBytes))
  }

  private async gather(written: ReadableStream<Uint8Array>): Promise<void> {
    this.output = written.getReader()
    for (;;) {
      const { done, value } = await this.output.read()
      if (done) return
      this.parts.push(value)
      this.bytes += value.length
    }
  }

  /** Returns when the writer asks for more, or has failed. */
  private get ready(): Promise<void> {
    const asks = new Promise<void>((resolve) => {
      if (this.asked) resolve()
      else this.wanted = resolve
    })
    return Promise.race([asks, this.writing])
  }

  /** Writes a table of the same schema as those before, which is read at once. A failure of the writer is a defect. */
  append(table: Arrow.Table): Effect.Effect<void> {
    return Effect.promise(async () => {
      const stream = tableToIPC(table, "stream")
      await this.ready
      const given = this.parquet.Table.fromIPCStream(stream)
      try {
        for (const batch of given.recordBatches()) {
          await this.ready
          this.asked = false
          this.input.enqueue(batch)
        }
      } finally {
        given.free()
      }
      await this.ready
      this.rows += table.numRows
    })
  }

  /** Ends the file and returns it. It must have had a table. */
  get close(): Effect.Effect<Buffer> {
    return Effect.promise(async () => {
      this.input.close()
      await this.writing
      return Buffer.concat(this.parts.splice(0))
    })
  }

  /** Gives up the file. */
  get abandon(): Effect.Effect<void> {
    return Effect.promise(async () => {
      this.parts.length = 0
      try {
        this.input.error(new Error("abandoned"))
        await this.output?.cancel()
      } catch {
        // It had failed or ended already.
      }
    })
  }
}

/** Bytes that the writer of all files holds. */
export const memory: Effect.Effect<number> = Effect.map(load, (parquet) => parquet.wasmMemory().buffer.byteLength)

/** What `take` makes of a small file's rows, plain objects of its columns. */
export const read = <A>(content: Uint8Array, take: (rows: Iterable<unknown>) => A): Effect.Effect<A, unknown> =>
  Effect.flatMap(load, (parquet) =>
    Effect.try({
      try: () => take(tableFromIPC(parquet.readParquet(content).intoIPCStream()).toArray().map((row) => row.toJSON())),
      catch: (cause) => cause
    }))

/** A file of one table. */
export const of = Effect.fnUntraced(function*(table: Arrow.Table) {
  const file = yield* ParquetFile.make()
  yield* file.append(table)
  return yield* file.close
})
