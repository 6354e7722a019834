/**
 * Rows of change batches on their way into a Parquet file.
 *
 * It is the same whether it runs in a worker or not (see `EncodingPool`), and what it returns is plain data.
 */
import type { ChangeBatch } from "@etl-stream/core/ChangeBatch"
import type { OutOfRange } from "./Config.ts"
import type { RefusedValue } from "./NdjsonRows.ts"
import { refusedValues } from "./NdjsonRows.ts"
import * as ParquetEncoder from "./ParquetEncoder.ts"
import { ParquetFile } from "./ParquetFile.ts"
import type { TableValues } from "./ValueLayout.ts"
import type { Refusal } from "./ValueWriter.ts"

export interface Options {
  readonly layout: TableValues
  readonly purpose: ParquetEncoder.Purpose
  readonly outOfRange: OutOfRange
  /** Whether refused values are noted, or are errors (`ValueWriter.Unwritable`). */
  readonly noting: boolean
}

export interface Appended {
  /** Bytes of the file so far. */
  readonly bytes: number
  /** How many of the rows have a value, by column. */
  readonly filled: ReadonlyArray<number>
  readonly refused: ReadonlyArray<RefusedValue>
}

export class ParquetRows {
  private readonly options: Options
  private readonly file = new ParquetFile()

  constructor(options: Options) {
    this.options = options
  }

  /** Appends a batch, `firstCopy` numbers rows of a keyless target. */
  append(batch: ChangeBatch, firstCopy: number): Appended {
    const { layout, noting, outOfRange, purpose } = this.options
    const refused: Array<Refusal> | undefined = noting ? [] : undefined
    const table = ParquetEncoder.tableOf(layout, batch, purpose, outOfRange, firstCopy, refused)
    this.file.append(table)
    return {
      bytes: this.file.bytes,
      filled: ParquetEncoder.filled(layout, table),
      refused: refusedValues(layout.columns, refused ?? [])
    }
  }

  /** Ends the file, which must have had a batch. */
  finish(): Uint8Array {
    return this.file.close()
  }
}
