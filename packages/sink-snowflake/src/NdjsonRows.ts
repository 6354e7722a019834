/**
 * The rows of one batch on their way into requests: encoded as NDJSON and compressed, a chunk at a time.
 *
 * It is the same whether it runs in a worker or not (see `EncodingPool`), and what it returns is plain data.
 */
import type { ChangeBatch } from "@etl-stream/core/ChangeBatch"
import * as BodyCoding from "./BodyCoding.ts"
import type { NdjsonEncoder, Selection } from "./NdjsonEncoder.ts"
import type { ColumnValues } from "./ValueLayout.ts"
import type { Refusal } from "./ValueWriter.ts"

/** Most bytes of a row that a request can carry, before compression. */
const maxRowBytes = 15_000_000

/** A value that was left out of its row; `column` is its place among the layout's columns. */
export interface RefusedValue extends Omit<Refusal, "column"> {
  readonly column: number
}

export const refusedValues = (
  columns: ReadonlyArray<ColumnValues>,
  refused: ReadonlyArray<Refusal>
): ReadonlyArray<RefusedValue> => refused.map(({ column, row, why }) => ({ row, why, column: columns.indexOf(column) }))

/** `rows` rows, from `first` to `last`. */
export interface Chunk {
  readonly rows: number
  readonly first: number
  readonly last: number
  readonly rawBytes: number
  /** Undefined for a single row that no request can carry. */
  readonly body: Uint8Array | undefined
  readonly refused: ReadonlyArray<RefusedValue>
}

export class NdjsonRows {
  private readonly encoder: NdjsonEncoder
  private readonly batch: ChangeBatch
  private readonly selection: Selection | undefined
  private readonly refused: Array<Refusal> | undefined
  private underWay: Promise<unknown> = Promise.resolve()

  /** Without `noting`, values that are refused are errors (`ValueWriter.Unwritable`). The encoder is used by this alone. */
  constructor(encoder: NdjsonEncoder, batch: ChangeBatch, noting: boolean, selection: Selection | undefined) {
    this.encoder = encoder
    this.batch = batch
    this.selection = selection
    this.refused = noting ? [] : undefined
  }

  /** The rows from `from` on that fit into `limit` bytes before compression, at least one; undefined when there are none. One call at a time. */
  async next(from: number, limit: number, encoding: BodyCoding.Encoding): Promise<Chunk | undefined> {
    if (this.refused !== undefined) this.refused.length = 0
    const { bytes, first, last, rows } = this.encoder.encode(this.batch, from, limit, this.refused, this.selection)
    if (rows === 0) return undefined
    const rawBytes = bytes.length
    const refused = refusedValues(this.encoder.columns, this.refused ?? [])
    if (rows === 1 && rawBytes > maxRowBytes) return { rows, first, last, rawBytes, body: undefined, refused }
    const compressed = BodyCoding.compress(bytes, encoding)
    this.underWay = compressed.catch(() => {})
    return { rows, first, last, rawBytes, body: await compressed, refused }
  }

  /** Once nothing of the encoder's memory is read any more, not even for a call that nobody waits for. */
  get settled(): Promise<unknown> {
    return this.underWay
  }

  /** Lets go of the encoder's memory, once it is settled. */
  async release(): Promise<void> {
    await this.underWay
    this.encoder.release()
  }
}
