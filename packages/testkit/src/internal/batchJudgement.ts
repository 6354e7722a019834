/**
 * Judges batches by the contract of `ChangeBatch`, from their raw buffers as a sink reads them, and what a transform made of a batch by the contract of `Transform`.
 */
import * as BatchConcat from "@etl-stream/core/BatchConcat"
import * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import type { LogicalType } from "@etl-stream/core/LogicalType"
import * as Sequence from "@etl-stream/core/Sequence"
import { tableId, type TableSchema } from "@etl-stream/core/TableSchema"
import { isDeepStrictEqual } from "node:util"
import * as RowBatch from "../RowBatch.ts"

/** What is wrong with a table's schema; undefined: nothing. */
export const schemaProblem = ({ columns, identity, table, version }: TableSchema): string | undefined => {
  const names = new Set(columns.map(({ name }) => name))
  if (table.schema === "" || table.name === "") return "the table has no name"
  if (!Number.isInteger(version)) return `its version is ${version}`
  if (columns.length === 0) return "it has no columns"
  if (names.size < columns.length) return "two columns have the same name"
  if (names.has("")) return "a column has no name"
  if (identity._tag !== "Key") return undefined
  const { columns: key } = identity
  if (key.length === 0) return "its key has no columns: a table without a key has the identity Full or None"
  if (new Set(key).size < key.length) return "its key has a column twice"
  const outside = key.find((index) => !Number.isInteger(index) || index < 0 || index >= columns.length)
  return outside === undefined ? undefined : `its key has the column ${outside}, of ${columns.length}`
}

/** What texts of a type look like; undefined: anything. */
const form = (type: LogicalType): RegExp | undefined => {
  switch (type._tag) {
    case "Uuid":
      return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/
    case "Decimal":
      return /^(-?\d+(\.\d*)?|-?\.\d+|NaN|-?Infinity)$/
    default:
      return undefined
  }
}

const isJson = (text: string): boolean => {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

/** Why a value is none of its column's type; undefined: it is one. */
export const valueProblem = (type: LogicalType, value: RowBatch.Value): string | undefined => {
  if (value === null) return undefined
  if (typeof value === "string" && form(type)?.test(value) === false) return `"${value}" is no ${type._tag}`
  if (type._tag === "Json" && typeof value === "string" && !isJson(value)) return `"${value}" is no JSON`
  if (
    type._tag === "Text" && typeof value === "string" && type.maxLength !== undefined &&
    [...value].length > type.maxLength
  ) {
    return `a text has ${[...value].length} characters, of at most ${type.maxLength}`
  }
  if (type._tag === "Time" && typeof value === "bigint" && (value < 0n || value > 86_400_000_000n)) {
    return `${value} is no time of day`
  }
  return undefined
}

const countNulls = (bitmap: Uint8Array, rows: number): number => {
  let nulls = 0
  for (let row = 0; row < rows; row++) if (((bitmap[row >> 3] ?? 0) >> (row & 7) & 1) === 0) nulls++
  return nulls
}

const bufferProblem = (batch: ChangeBatch.ChangeBatch, index: number): string | undefined => {
  const data = ChangeBatch.child(batch.records, index)
  const { rows } = batch
  if (data.length !== rows) return `has ${data.length} values for ${rows} rows`
  if (data.nullCount < 0 || data.nullCount > rows) return `has ${data.nullCount} NULLs in ${rows} rows`
  if (data.nullCount > 0) {
    const bitmap: Uint8Array | undefined = data.nullBitmap
    if (bitmap === undefined || bitmap.length * 8 < rows) return "has NULLs and no bitmap that says where"
    const counted = countNulls(bitmap, rows)
    if (counted !== data.nullCount) return `says that it has ${data.nullCount} NULLs; its bitmap has ${counted}`
  }
  const offsets: Int32Array | undefined = data.valueOffsets
  const values = data.values as Uint8Array | undefined // some typed array
  if (offsets !== undefined) {
    if (offsets.length < rows + 1) return `has ${offsets.length} offsets for ${rows} rows`
    for (let row = 0; row < rows; row++) {
      if ((offsets[row + 1] ?? 0) < (offsets[row] ?? 0)) return `goes back in its offsets at row ${row}`
    }
    if ((offsets[rows] ?? 0) > (values?.length ?? 0)) return "has offsets behind the end of its bytes"
  } else {
    const needed = data.type.toString() === "Bool" ? (rows + 7) >> 3 : rows
    if ((values?.length ?? 0) < needed) return `has room for ${values?.length ?? 0} values of ${rows} rows`
  }
  return index !== ChangeBatch.MetadataColumns.unsent && index < ChangeBatch.metadataColumns && data.nullCount > 0
    ? "has NULLs"
    : undefined
}

const nameOf = (table: TableSchema, index: number): string =>
  ["_op", "_commit", "_ordinal", "_commit_time", "_unsent"][index] ??
    table.columns[index - ChangeBatch.metadataColumns]?.name ?? String(index)

const maskProblem = (batch: ChangeBatch.ChangeBatch): string | undefined => {
  const masks = ChangeBatch.child(batch.records, ChangeBatch.MetadataColumns.unsent)
  const offsets: Int32Array = masks.valueOffsets
  const needed = (batch.table.columns.length + 7) >> 3
  for (let row = 0; row < batch.rows; row++) {
    if (RowBatch.isNull(masks, row)) continue
    const length = (offsets[row + 1] ?? 0) - (offsets[row] ?? 0)
    if (length < needed) {
      return `the mask in _unsent of row ${row} has ${length} bytes; ${batch.table.columns.length} columns need ${needed}`
    }
  }
  return undefined
}

/** What is wrong with a batch by itself; undefined: nothing. It may be a slice, which the engine makes compact. */
export const batchProblem = (given: ChangeBatch.ChangeBatch): string | undefined => {
  const misfit = ChangeBatch.misfit(given)
  if (misfit !== undefined) return misfit
  if (given.rows === 0) return "a batch has no rows: nothing is left of it, which is `undefined`"
  if (given.rows !== given.records.numRows) return `it says ${given.rows} rows, and has ${given.records.numRows}`
  if (!Number.isFinite(given.bytes) || given.bytes < 0) return `its size is ${given.bytes} bytes`
  const batch = BatchConcat.compact(given)
  const { table } = batch
  for (let index = 0; index < table.columns.length + ChangeBatch.metadataColumns; index++) {
    const problem = bufferProblem(batch, index)
    if (problem !== undefined) return `the column ${nameOf(table, index)} ${problem}`
  }
  const masks = maskProblem(batch)
  if (masks !== undefined) return masks
  const isUnsent = RowBatch.unsentReader(batch)
  for (const [index, { name, type }] of table.columns.entries()) {
    const read = RowBatch.reader(batch, index)
    for (let row = 0; row < batch.rows; row++) {
      const value = read(row)
      if (value !== null && isUnsent(row, index)) {
        return `row ${row} has a value in the column ${name}, which it says was not sent`
      }
      const problem = valueProblem(type, value)
      if (problem !== undefined) return `the column ${name} has a value that isn't of its type: ${problem}`
    }
  }
  for (let row = 1; row < batch.rows; row++) {
    if (
      Sequence.compare(ChangeBatch.sequenceAt(batch.records, row - 1), ChangeBatch.sequenceAt(batch.records, row)) > 0
    ) {
      return `row ${row} comes before the row that it follows, by their sequences`
    }
  }
  const ends = [
    ChangeBatch.sequenceAt(batch.records, 0),
    ChangeBatch.sequenceAt(batch.records, batch.rows - 1)
  ] as const
  if (!isDeepStrictEqual(ends, [given.first, given.last])) {
    return "`first` and `last` aren't the sequences of its first and its last row"
  }
  return undefined
}

const sequenceOf = ({ commit, ordinal }: Required<RowBatch.Row>): string => `${commit}/${ordinal}`

/** Why the rows that came out aren't some of those that went in, in their order; undefined: they are. */
export const orderProblem = (
  given: ReadonlyArray<Required<RowBatch.Row>>,
  made: ReadonlyArray<Required<RowBatch.Row>>
): string | undefined => {
  let at = 0
  for (const [row, { commitTime, ...rest }] of made.entries()) {
    const sequence = sequenceOf({ commitTime, ...rest })
    while (
      at < given.length && given[at] !== undefined && sequenceOf(given[at] as Required<RowBatch.Row>) !== sequence
    ) at++ // just looked at
    const from = given[at++]
    if (from === undefined) return `row ${row} (${sequence}) is none of those that went in, or not in their order`
    if (from.commitTime !== commitTime) return `row ${row} (${sequence}) has another commit time than it came with`
  }
  return undefined
}

/** Why changes of keys aren't whole any more; undefined: they are. A half of one would leave the old row behind, or take a row away. */
export const pairProblem = (rows: ReadonlyArray<Required<RowBatch.Row>>): string | undefined => {
  for (const [index, { commit, op, ordinal }] of rows.entries()) {
    if (op !== "KeyChangeOld" && op !== "KeyChangeNew") continue
    const other = op === "KeyChangeOld" ? rows[index + 1] : rows[index - 1]
    const wanted = op === "KeyChangeOld" ? "KeyChangeNew" : "KeyChangeOld"
    const apart = op === "KeyChangeOld" ? 1n : -1n
    if (other?.op !== wanted || other.commit !== commit || other.ordinal !== ordinal + apart) {
      return `row ${index} is ${op} without its ${wanted}: of a change of key both rows are kept or none (or they become Delete and Insert)`
    }
  }
  return undefined
}

/** All that is wrong with what a transform made of a batch; undefined: nothing. */
export const transformedProblem = (
  given: ChangeBatch.ChangeBatch,
  made: ChangeBatch.ChangeBatch | undefined,
  declared: TableSchema
): string | undefined => {
  if (made === undefined) return undefined
  if (!isDeepStrictEqual(made.table, declared)) {
    return `a batch has another schema than \`schema\` has told of ${tableId(given.table.table)}`
  }
  const problem = batchProblem(made)
  if (problem !== undefined) return problem
  const rows = RowBatch.rows(BatchConcat.compact(made))
  return orderProblem(RowBatch.rows(given), rows) ?? pairProblem(rows)
}
