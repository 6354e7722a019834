/**
 * Change batches as Arrow tables in the layout of Parquet files for stage and COPY.
 *
 * Columns are named `m0…` (metadata) and `c0…` (the table's), so that no name needs quoting in `$1:…`. Integers and floats keep
 * their Arrow buffers; everything else becomes text by the same writers that make NDJSON, because a Parquet value reaches
 * COPY's SELECT as a VARIANT.
 */
import * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import type * as Arrow from "apache-arrow"
import { makeData } from "apache-arrow/data"
import { RecordBatch } from "apache-arrow/recordbatch"
import { Field, Schema } from "apache-arrow/schema"
import { Table } from "apache-arrow/table"
import { Float64, Int64, Struct, Utf8 } from "apache-arrow/type"
import { ByteBuffer } from "./ByteBuffer.ts"
import type { OutOfRange } from "./Config.ts"
import { operations } from "./NdjsonEncoder.ts"
import * as RowKey from "./RowKey.ts"
import * as UnsentMask from "./UnsentMask.ts"
import type { ColumnValues, TableValues } from "./ValueLayout.ts"
import * as ValueWriter from "./ValueWriter.ts"
import * as VariantJson from "./VariantJson.ts"

/** What a file is for: rows of the target itself, or of the journal. */
export type Purpose = "target" | "journal"

/** Where text is written before it is copied to its column: one column and batch after another. */
const out = new ByteBuffer(64 << 10)
/** More than this is not kept for the next batch. */
const keptBytes = 8 << 20

/** Builds a Utf8 column; `write` appends row `row` to `out`, or returns false for NULL. */
const textColumn = (rows: number, write: (row: number) => boolean): Arrow.Data => {
  const valueOffsets = new Int32Array(rows + 1)
  const nullBitmap = new Uint8Array((rows + 7) >> 3)
  let nullCount = 0
  out.length = 0
  for (let row = 0; row < rows; row++) {
    const start = out.length
    if (write(row)) nullBitmap[row >> 3] = (nullBitmap[row >> 3] as number) | (1 << (row & 7)) // in range
    else {
      out.length = start
      nullCount++
    }
    valueOffsets[row + 1] = out.length
  }
  return makeData({
    type: new Utf8(),
    length: rows,
    nullCount,
    nullBitmap,
    valueOffsets,
    data: out.view().slice()
  })
}

/** Float32 as well: a double holds each of its values exactly. */
const doubles = (data: Arrow.Data, rows: number): Arrow.Data => {
  if (data.values instanceof Float64Array) return data
  const nullBitmap = new Uint8Array((rows + 7) >> 3)
  let nullCount = 0
  for (let row = 0; row < rows; row++) {
    if (ValueWriter.isNull(data, row)) nullCount++
    else nullBitmap[row >> 3] = (nullBitmap[row >> 3] as number) | (1 << (row & 7)) // in range
  }
  return makeData({
    type: new Float64(),
    length: rows,
    nullCount,
    nullBitmap,
    data: new Float64Array(data.values as Float32Array) // the other carrier of floats
  })
}

/** Int64 values that count from `first` on. */
const numbers = (first: number, rows: number): Arrow.Data => {
  const data = new BigInt64Array(rows)
  const halves = new Uint32Array(data.buffer)
  for (let row = 0; row < rows; row++) {
    halves[row * 2] = first + row // its lower 32 bits
    halves[row * 2 + 1] = Math.floor((first + row) / 0x100000000)
  }
  return makeData({ type: new Int64(), length: rows, nullCount: 0, data })
}

/** Whether every value of a column that holds text already is what its writer would write, so that its buffers can go as they are. */
const isWritten = ({ form, maxLength }: ColumnValues, data: Arrow.Data, rows: number, raw: boolean): boolean => {
  if (form !== "text" && form !== "number" && form !== "json") return false
  const offsets = data.valueOffsets
  const bytes = data.values as Uint8Array // text
  for (let row = 0; row < rows; row++) {
    const start = offsets[row] as number // in range
    const end = offsets[row + 1] as number // in range
    // No text has more characters than bytes.
    if (end - start > maxLength) return false
    if (start === end) continue
    // NaN, Infinity, -Infinity.
    if (form === "number" && ((bytes[start] as number) >= 0x49 || bytes[start + 1] === 0x49)) return false // not empty
    if (form === "json" && (raw || VariantJson.isInexact(bytes, start, end))) return false
  }
  return true
}

/**
 * The rows of `batch` as an Arrow table in the file's layout. `firstCopy` numbers rows of a keyless target: each row of a copy needs its own. Values that
 * don't fit: as `NdjsonEncoder.encode`.
 */
export const tableOf = (
  layout: TableValues,
  batch: ChangeBatch.ChangeBatch,
  purpose: Purpose,
  outOfRange: OutOfRange,
  firstCopy: number,
  refused: Array<ValueWriter.Refusal> | undefined
): Arrow.Table => {
  const { records, rows } = batch
  const children: Array<Arrow.Data> = []
  const fields: Array<Arrow.Field> = []
  const add = (name: string, data: Arrow.Data): void => {
    children.push(data)
    fields.push(new Field(name, data.type, true))
  }
  const ops = ChangeBatch.child(records, ChangeBatch.MetadataColumns.op).values as Uint8Array // uint8 by the batch's layout
  const policy = ValueWriter.policy(outOfRange, refused, ValueWriter.mattering(layout, ops))
  const rowKey = layout.keyless ? RowKey.make(layout, records) : undefined
  const writeRowKey = (row: number): boolean => {
    out.ascii(rowKey?.(row) ?? "")
    return true
  }
  if (purpose === "journal") {
    const times = ValueWriter.halvesOf(ChangeBatch.child(records, ChangeBatch.MetadataColumns.commitTime))
    const masks = ChangeBatch.child(records, ChangeBatch.MetadataColumns.unsent)
    const names = UnsentMask.names(layout, false)
    const commits = ValueWriter.halvesOf(ChangeBatch.child(records, ChangeBatch.MetadataColumns.commit))
    const ordinals = ValueWriter.halvesOf(ChangeBatch.child(records, ChangeBatch.MetadataColumns.ordinal))
    add(
      "m0",
      textColumn(rows, (row) => {
        out.ascii(operations[ops[row] as number] as string) // one name per operation
        return true
      })
    )
    add(
      "m1",
      textColumn(rows, (row) => {
        out.hex64(commits[row * 2 + 1] as number, commits[row * 2] as number) // in range
        out.byte(0x2f)
        out.hex64(ordinals[row * 2 + 1] as number, ordinals[row * 2] as number) // in range
        return true
      })
    )
    add(
      "m2",
      textColumn(rows, (row) => {
        out.timestamp(times[row * 2 + 1] as number, times[row * 2] as number) // in range
        out.byte(0x5a)
        return true
      })
    )
    add(
      "m3",
      textColumn(rows, (row) => {
        if (ValueWriter.isNull(masks, row)) return false
        UnsentMask.write(out, names, masks, row)
        return true
      })
    )
    if (rowKey !== undefined) add("m4", textColumn(rows, writeRowKey))
  } else if (rowKey !== undefined) {
    add("m4", textColumn(rows, writeRowKey))
    add("m5", numbers(firstCopy, rows))
  }
  layout.columns.forEach((column, position) => {
    const data = ChangeBatch.child(records, ChangeBatch.metadataColumns + column.index)
    add(`c${position}`, carrier(column, data, rows, policy, layout.mode))
  })
  if (out.bytes.length > keptBytes) out.shrink()
  const schema = new Schema(fields)
  const struct = makeData({ type: new Struct(fields), length: rows, nullCount: 0, children })
  return new Table(new RecordBatch(schema, struct))
}

const carrier = (
  column: ColumnValues,
  data: Arrow.Data,
  rows: number,
  policy: ValueWriter.Policy,
  mode: TableValues["mode"]
): Arrow.Data => {
  switch (column.narrowing === undefined ? column.form : undefined) {
    case "int16":
    case "int32":
    case "int64":
      return data
    case "float":
      return doubles(data, rows)
    default: {
      // JSON in a changelog is the same whether it is streamed or copied.
      const json = mode === "changelog" && column.form === "json" ? "raw" : undefined
      if (column.narrowing === undefined && isWritten(column, data, rows, json === "raw")) return data
      const write = ValueWriter.make(column, data, out, policy, json)
      return textColumn(rows, (row) => !ValueWriter.isNull(data, row) && write(row))
    }
  }
}

/** How many rows of an encoded table have a value, for each of the layout's columns. */
export const filled = (layout: TableValues, table: Arrow.Table): ReadonlyArray<number> =>
  layout.columns.map((_, position) => table.numRows - (table.getChild(`c${position}`)?.nullCount ?? 0))
