/**
 * Change batches as NDJSON for Snowpipe Streaming: from Arrow columns into one reused byte buffer.
 *
 * Each row is one JSON object whose keys are the journal's column names. Nulls are left out, which is NULL. The caller takes
 * a batch in chunks of about the size it wants; a chunk ends at a row.
 */
import * as ByteCopy from "@etl-stream/core/ByteCopy"
import * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import type { Sequence } from "@etl-stream/core/Sequence"
import type * as Arrow from "apache-arrow"
import { ByteBuffer } from "./ByteBuffer.ts"
import type { OutOfRange } from "./Config.ts"
import * as RowKey from "./RowKey.ts"
import * as UnsentMask from "./UnsentMask.ts"
import type { ColumnValues, TableValues } from "./ValueLayout.ts"
import { Metadata } from "./ValueLayout.ts"
import * as ValueWriter from "./ValueWriter.ts"

/** Names of operations in the journal, by `ChangeBatch.Operation`. */
export const operations = ["read", "insert", "update", "delete", "key_old", "key_new"] as const

/** A chunk ends when about so many values of it were refused: each is an object, and there may be as many as there are values. */
export const maxRefused = 10_000

/** `rows` rows of a batch, from `first` to `last`. `bytes` is a view into the encoder's buffer, valid until its next use. */
export interface Chunk {
  readonly bytes: Uint8Array
  readonly rows: number
  readonly first: number
  readonly last: number
}

/** Some rows of a batch: those whose number in `routes` is `channel`. */
export interface Selection {
  readonly routes: Uint8Array
  readonly channel: number
}

const bytesOf = (text: string): Uint8Array => Buffer.from(text)

interface ColumnWriter {
  readonly layout: ColumnValues
  readonly prefix: DataView
  readonly prefixLength: number
  readonly data: Arrow.Data
  readonly write: ValueWriter.ValueWriter
}

export class NdjsonEncoder {
  private readonly layout: TableValues
  private readonly policy: OutOfRange
  private readonly out: ByteBuffer
  private readonly heads = operations.map((name) => bytesOf(`{"${Metadata.op}":"${name}","${Metadata.sequence}":"`))
  private readonly time = bytesOf(`","${Metadata.commitTime}":"`)
  private readonly unsent = bytesOf(`,"${Metadata.unsent}":"`)
  private readonly rowKey = bytesOf(`,"${Metadata.rowKey}":"`)
  private readonly prefixes: ReadonlyArray<DataView>
  private readonly unsentNames: UnsentMask.Names

  /** `out` is used by this encoder alone until it has no more to encode. */
  constructor(layout: TableValues, policy: OutOfRange, out = new ByteBuffer(64 << 10)) {
    this.out = out
    this.layout = layout
    this.policy = policy
    this.prefixes = layout.columns.map(({ name }) => ByteCopy.viewOf(bytesOf(`,${JSON.stringify(name)}:`)))
    this.unsentNames = UnsentMask.names(layout, true)
  }

  get columns(): ReadonlyArray<ColumnValues> {
    return this.layout.columns
  }

  /** Lets go of the buffer: there is one encoder per table, and most tables are quiet. */
  release(): void {
    this.out.shrink()
  }

  /** A journal row that says that all rows were removed. */
  truncate(sequence: Sequence, commitTime: bigint): Uint8Array {
    const { out } = this
    out.length = 0
    out.ascii(`{"${Metadata.op}":"truncate","${Metadata.sequence}":"`)
    out.hex64(Number(sequence.commit >> 32n), Number(sequence.commit & 0xffffffffn))
    out.byte(0x2f)
    out.hex64(Number(sequence.ordinal >> 32n), Number(sequence.ordinal & 0xffffffffn))
    out.raw(this.time)
    out.timestamp(Number(commitTime >> 32n), Number(commitTime & 0xffffffffn))
    out.ascii("Z\"}\n")
    return out.view()
  }

  /**
   * Rows from `from` on: as many as fit into `limit` bytes, but at least one if there are any. Values that don't fit their columns are left out and
   * noted in `refused` (empty at first); without it they throw `ValueWriter.Unwritable`, as what a row can't do without always does.
   */
  encode(
    batch: ChangeBatch.ChangeBatch,
    from: number,
    limit: number,
    refused?: Array<ValueWriter.Refusal>,
    selection?: Selection
  ): Chunk {
    const { layout, out } = this
    const { records, rows } = batch
    const ops = ChangeBatch.child(records, ChangeBatch.MetadataColumns.op).values as Uint8Array // uint8 by the batch's layout
    const commits = ValueWriter.halvesOf(ChangeBatch.child(records, ChangeBatch.MetadataColumns.commit))
    const ordinals = ValueWriter.halvesOf(ChangeBatch.child(records, ChangeBatch.MetadataColumns.ordinal))
    const times = ValueWriter.halvesOf(ChangeBatch.child(records, ChangeBatch.MetadataColumns.commitTime))
    const masks = ChangeBatch.child(records, ChangeBatch.MetadataColumns.unsent)
    const rowKey = layout.keyless ? RowKey.make(layout, records) : undefined
    const policy = ValueWriter.policy(this.policy, refused, ValueWriter.mattering(layout, ops))
    const columns = layout.columns.map((column, position): ColumnWriter => {
      const data = ChangeBatch.child(records, ChangeBatch.metadataColumns + column.index)
      const prefix = this.prefixes[position] as DataView // made from the same columns
      return {
        layout: column,
        prefix,
        prefixLength: prefix.byteLength,
        data,
        write: ValueWriter.make(column, data, out, policy, layout.mode === "changelog" ? "raw" : "text")
      }
    })
    out.length = 0
    const routes = selection?.routes
    const channel = selection?.channel
    let taken = 0
    let head = 0
    let headLength = 0
    let time = 0
    let timeLength = 0
    let first = from
    let last = from
    for (let row = from; row < rows; row++) {
      if (routes !== undefined && routes[row] !== channel) continue
      const mark = out.length
      const refusals = refused?.length ?? 0
      // Of one transaction and operation everything but the ordinal is what it was in the row before.
      const alike = taken > 0 && ops[row] === ops[last] && commits[row * 2] === commits[last * 2] &&
        commits[row * 2 + 1] === commits[last * 2 + 1]
      if (alike) out.repeat(head, headLength)
      else {
        head = mark
        out.raw(this.heads[ops[row] as number] as Uint8Array) // operations and heads are one list
        out.hex64(commits[row * 2 + 1] as number, commits[row * 2] as number) // in range
        out.byte(0x2f)
        headLength = out.length - head
      }
      out.hex64(ordinals[row * 2 + 1] as number, ordinals[row * 2] as number) // in range
      if (alike && times[row * 2] === times[last * 2] && times[row * 2 + 1] === times[last * 2 + 1]) {
        out.repeat(time, timeLength)
      } else {
        time = out.length
        out.raw(this.time)
        out.timestamp(times[row * 2 + 1] as number, times[row * 2] as number) // in range
        out.byte(0x5a)
        out.byte(0x22)
        timeLength = out.length - time
      }
      if (!ValueWriter.isNull(masks, row)) {
        out.raw(this.unsent)
        UnsentMask.write(out, this.unsentNames, masks, row)
        out.byte(0x22)
      }
      if (rowKey !== undefined) {
        out.raw(this.rowKey)
        out.ascii(rowKey(row))
        out.byte(0x22)
      }
      for (let i = 0; i < columns.length; i++) {
        const column = columns[i] as ColumnWriter // in range
        if (ValueWriter.isNull(column.data, row)) {
          // A change that names no row can't be merged: better no change than one that is lost unseen.
          if (column.layout.isKey) {
            throw new ValueWriter.Unwritable(column.layout.name, "is part of the key and has no value in a change")
          }
          continue
        }
        const start = out.length
        out.copy(column.prefix, 0, column.prefixLength)
        if (!column.write(row)) out.length = start
      }
      out.byte(0x7d)
      out.byte(0x0a)
      if (taken === 0) first = row
      else if (out.length > limit) {
        out.length = mark
        if (refused !== undefined) refused.length = refusals
        break
      }
      taken++
      last = row
      if (refused !== undefined && refused.length >= maxRefused) break
    }
    return { bytes: out.view(), rows: taken, first, last }
  }
}
