/**
 * Rows of change batches on their way into a Parquet file.
 *
 * It is the same whether it runs in a worker or not (see `EncodingPool`), and what it returns is plain data.
 */
import type { ChangeBatch } from "@etl-stream/core/ChangeBatch"
import * as Effect from "effect/Effect"
import type { OutOfRange } from "./Config.ts"
import type { RefusedValue } from "./NdjsonRows.ts"
import { refusedValues } from "./NdjsonRows.ts"
import * as ParquetEncoder from "./ParquetEncoder.ts"
import { memory, ParquetFile } from "./ParquetFile.ts"
import type { TableValues } from "./ValueLayout.ts"
import type { Refusal } from "./ValueWriter.ts"

export interface Options {
  readonly layout: TableValues
  readonly purpose: ParquetEncoder.Purpose
  readonly outOfRange: OutOfRange
  /** Whether refused values are noted, or are errors (`ValueWriter.Unwritable`). */
  readonly noting: boolean
  /** Compressed size at which row groups end. */
  readonly groupBytes: number
}

export interface Appended {
  /** Bytes of the file so far, but for the last row group. */
  readonly bytes: number
  /** How many of the rows have a value, by column. */
  readonly filled: ReadonlyArray<number>
  readonly refused: ReadonlyArray<RefusedValue>
}

export class ParquetRows {
  private readonly options: Options
  private file: ParquetFile | undefined
  /** The call that came last. */
  private underWay: Promise<unknown> = Promise.resolve()

  constructor(options: Options) {
    this.options = options
  }

  /** Appends a batch, `firstCopy` numbers rows of a keyless target. One call at a time. */
  append(batch: ChangeBatch, firstCopy: number): Promise<Appended> {
    return this.alone(async () => {
      const { groupBytes, layout, noting, outOfRange, purpose } = this.options
      const refused: Array<Refusal> | undefined = noting ? [] : undefined
      const table = ParquetEncoder.tableOf(layout, batch, purpose, outOfRange, firstCopy, refused)
      this.file ??= await Effect.runPromise(ParquetFile.make(groupBytes))
      await Effect.runPromise(this.file.append(table))
      return {
        bytes: this.file.bytes,
        filled: ParquetEncoder.filled(layout, table),
        refused: refusedValues(layout.columns, refused ?? [])
      }
    })
  }

  /** Ends the file, which must have had a batch. */
  finish(): Promise<Uint8Array> {
    return this.alone(async () => {
      const { file } = this
      if (file === undefined) throw new Error("A file without rows was ended")
      this.file = undefined
      return Effect.runPromise(file.close)
    })
  }

  /**
   * Gives up a file that wasn't ended, once what is under way has come to its end, and says how many bytes the writer of all files holds, which it never
   * gives back.
   */
  async release(): Promise<number> {
    await this.underWay
    const { file } = this
    this.file = undefined
    if (file !== undefined) await Effect.runPromise(file.abandon)
    return Effect.runPromise(memory)
  }

  private alone<A>(call: () => Promise<A>): Promise<A> {
    const result = call()
    this.underWay = result.catch(() => {})
    return result
  }
}
