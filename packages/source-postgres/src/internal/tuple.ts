/**
 * TupleData: a row within a change message, decoded in one pass, or found first and decoded later.
 *
 * Most rows are appended as they are read. Where two tuples have to be compared or completed from one another (updates
 * with an old tuple) and where a key has to be checked first, `locate` notes where each value stands, and `appendLocated` decodes
 * from there.
 */
import type { ChangeBatchBuilder } from "@etl-stream/core/ChangeBatchBuilder"
import type { BytesColumn } from "@etl-stream/core/ColumnBuilder"
import { tableId } from "@etl-stream/core/TableSchema"
import * as PostgresError from "../PostgresError.ts"
import { uint32At } from "./frameBuffer.ts"
import { malformedMessage } from "./malformedMessage.ts"
import type { Plan } from "./relation.ts"
import { copyBytes } from "./valueDecoder.ts"

export const Null = 0x6e
export const Unchanged = 0x75
export const Text = 0x74
export const Binary = 0x62

/** Which column was being decoded: kept outside so that an error can name it without a closure per value. */
export interface Progress {
  column: number
}

const noBinaryDecoder = (plan: Plan, column: number): never => {
  const { name } = plan.relation.columns[column] ?? { name: "?" }
  const table = tableId(plan.schema.table)
  throw PostgresError.make(
    "Unsupported",
    `Column ${name} of table ${table} came in binary format, which can't be read for its type`,
    "Switch the source's binary option off: text format has a decoder for every type.",
    table
  )
}

const append = (
  plan: Plan,
  builder: ChangeBatchBuilder,
  index: number,
  kind: number,
  bytes: Uint8Array,
  start: number,
  end: number
): void => {
  const target = plan.targets[index] as number // index is below the number of columns
  const column = target < 0 ? undefined : builder.columns[target]
  if (column === undefined) return
  if (kind === Text) {
    const decode = plan.text[index] as Plan["text"][number] // the same
    // Most values are copied: known here, that takes no call.
    if (decode === copyBytes) (column as BytesColumn).append(bytes, start, end) // what it is given to
    else decode(column, bytes, start, end)
  } else if (kind === Null) column.appendNull()
  else if (kind === Unchanged) builder.notSent(target)
  else {
    const decode = plan.binary[index] ?? noBinaryDecoder(plan, index)
    decode(column, bytes, start, end)
  }
}

const columnCount = (plan: Plan, bytes: Uint8Array, at: number, limit: number): number => {
  if (limit - at < 2) malformedMessage("a row that is cut off")
  const count = (bytes[at] as number) << 8 | (bytes[at + 1] as number) // in range
  return count === plan.targets.length ? count : malformedMessage("a row with another number of columns than its table")
}

/** End of the value at `at`, whose kind byte was read: checks that it lies within the message. */
const valueEnd = (bytes: Uint8Array, at: number, limit: number): number => {
  if (limit - at < 4) malformedMessage("a value that is cut off")
  const length = uint32At(bytes, at)
  return length > limit - at - 4 ? malformedMessage("a value that is longer than its message") : at + 4 + length
}

/** Appends the tuple at `at` to the builder's current row, and returns the tuple's end. */
export const appendRow = (
  plan: Plan,
  builder: ChangeBatchBuilder,
  progress: Progress,
  bytes: Uint8Array,
  start: number,
  limit: number
): number => {
  const count = columnCount(plan, bytes, start, limit)
  let at = start + 2
  for (let index = 0; index < count; index++) {
    progress.column = index
    if (at >= limit) malformedMessage("a row that is cut off")
    const kind = bytes[at++] as number // in range
    if (kind === Text || kind === Binary) {
      const end = valueEnd(bytes, at, limit)
      append(plan, builder, index, kind, bytes, at + 4, end)
      at = end
    } else if (kind === Null || kind === Unchanged) append(plan, builder, index, kind, bytes, at, at)
    else malformedMessage("a value of a kind that is not known")
  }
  progress.column = -1
  appendAbsent(plan, builder)
  return at
}

/** Columns that came later than this row are null in it. */
const appendAbsent = ({ absent }: Plan, builder: ChangeBatchBuilder): void => {
  for (let index = 0; index < absent.length; index++) builder.columns[absent[index] as number]?.appendNull() // in range
}

/** Where the values of one tuple stand; reused from row to row. */
export interface Located {
  readonly kinds: Uint8Array
  readonly starts: Int32Array
  readonly ends: Int32Array
}

export const makeLocated = (columns: number): Located => ({
  kinds: new Uint8Array(columns),
  starts: new Int32Array(columns),
  ends: new Int32Array(columns)
})

/** Notes where the values of the tuple at `at` stand, and returns the tuple's end. */
export const locate = (plan: Plan, into: Located, bytes: Uint8Array, start: number, limit: number): number => {
  const count = columnCount(plan, bytes, start, limit)
  let at = start + 2
  for (let index = 0; index < count; index++) {
    if (at >= limit) malformedMessage("a row that is cut off")
    const kind = bytes[at++] as number // in range
    into.kinds[index] = kind
    if (kind === Text || kind === Binary) {
      const end = valueEnd(bytes, at, limit)
      into.starts[index] = at + 4
      into.ends[index] = end
      at = end
    } else if (kind !== Null && kind !== Unchanged) malformedMessage("a value of a kind that is not known")
  }
  return at
}

/** Values of `row` that weren't sent are taken from `old`, where it has them. */
export const complete = (row: Located, old: Located): void => {
  for (let index = 0; index < row.kinds.length; index++) {
    const kind = old.kinds[index] as number // both have the relation's columns
    if (row.kinds[index] !== Unchanged || (kind !== Text && kind !== Binary)) continue
    row.kinds[index] = kind
    row.starts[index] = old.starts[index] as number // the same
    row.ends[index] = old.ends[index] as number // the same
  }
}

/** Whether the key columns of two tuples differ. */
export const keyDiffers = (plan: Plan, bytes: Uint8Array, a: Located, b: Located): boolean => {
  for (let position = 0; position < plan.key.length; position++) {
    const index = plan.key[position] as number // in range
    if (a.kinds[index] !== b.kinds[index]) return true
    const start = a.starts[index] as number // both have the relation's columns
    const other = b.starts[index] as number // the same
    const length = (a.ends[index] as number) - start // the same
    if (length !== (b.ends[index] as number) - other) return true
    for (let offset = 0; offset < length; offset++) if (bytes[start + offset] !== bytes[other + offset]) return true
  }
  return false
}

/** Whether every key column has a value. */
export const hasKey = (plan: Plan, row: Located): boolean => {
  for (let position = 0; position < plan.key.length; position++) {
    const kind = row.kinds[plan.key[position] as number] // in range
    if (kind !== Text && kind !== Binary) return false
  }
  return true
}

/** Appends a located tuple to the builder's current row. */
export const appendLocated = (
  plan: Plan,
  builder: ChangeBatchBuilder,
  progress: Progress,
  bytes: Uint8Array,
  row: Located
): void => {
  for (let index = 0; index < row.kinds.length; index++) {
    progress.column = index
    // The three arrays have one length.
    append(
      plan,
      builder,
      index,
      row.kinds[index] as number,
      bytes,
      row.starts[index] as number,
      row.ends[index] as number
    )
  }
  progress.column = -1
  appendAbsent(plan, builder)
}
