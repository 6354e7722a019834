/**
 * Batches written as rows, and read as rows: how suites and tests say what they give and what they expect.
 */
import * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import type { LogicalType } from "@etl-stream/core/LogicalType"
import * as Sequence from "@etl-stream/core/Sequence"
import { tableId, type TableSchema } from "@etl-stream/core/TableSchema"
import * as BatchOf from "./BatchOf.ts"

/** What happened to a row, as `ChangeBatch.Operation` names it. */
export type RowOperation = keyof typeof ChangeBatch.Operation

/**
 * A value by its column's type. Boolean: `boolean`; Int16, Int32, Float32, Float64 and Date (days since 1970): `number`; Int64, Time and Timestamp
 * (microseconds): `bigint`; Binary: `Uint8Array`; every other type: `string`.
 */
export type Value = boolean | number | bigint | string | Uint8Array | null

export interface Row {
  /** Default: `Insert`. */
  readonly op?: RowOperation
  /** Position of its commit. Default: 1; of rows after the first that of the row before. */
  readonly commit?: bigint
  /** Number within its transaction. Default: one more than that of the row before; 0 for the first, in a new transaction, and for `Read`. */
  readonly ordinal?: bigint
  /** Microseconds since 1970-01-01 UTC. Default: 0. */
  readonly commitTime?: bigint
  /** By column name. A column that is missing was not sent. */
  readonly values: Readonly<Record<string, Value>>
}

const operations = Object.keys(ChangeBatch.Operation) as ReadonlyArray<RowOperation> // in the order of their numbers, from 0

/** What `typeof` says of values of a type. */
export const carrierOf = (type: LogicalType): "boolean" | "number" | "bigint" | "binary" | "string" => {
  switch (type._tag) {
    case "Boolean":
      return "boolean"
    case "Int16":
    case "Int32":
    case "Float32":
    case "Float64":
    case "Date":
      return "number"
    case "Int64":
    case "Time":
    case "Timestamp":
      return "bigint"
    case "Binary":
      return "binary"
    default:
      return "string"
  }
}

/** Whether a value is of the kind that columns of the type hold. */
const fits = (type: LogicalType, value: Exclude<Value, null>): boolean => {
  const carrier = carrierOf(type)
  return carrier === "binary" || carrier === "string"
    ? typeof value === "string" || value instanceof Uint8Array
    : typeof value === carrier
}

/** A batch of `rows` (at least one). Throws when a value doesn't fit its column or a name is none of the table's. */
export const make = (table: TableSchema, rows: ReadonlyArray<Row>): ChangeBatch.ChangeBatch => {
  const names = new Set(table.columns.map(({ name }) => name))
  let lastCommit = 1n
  let lastOrdinal = -1n
  return BatchOf.make(
    table,
    rows.map(({ commit = lastCommit, commitTime = 0n, op = "Insert", ordinal, values }) => {
      const unknown = Object.keys(values).find((name) => !names.has(name))
      if (unknown !== undefined) throw new TypeError(`${tableId(table.table)} has no column ${unknown}`)
      const own = ordinal ?? (op === "Read" || commit !== lastCommit ? 0n : lastOrdinal + 1n)
      lastCommit = commit
      lastOrdinal = own
      return {
        operation: ChangeBatch.Operation[op],
        sequence: Sequence.make(commit, own),
        commitTime,
        values: table.columns.map(({ name, type }) => {
          const value = Object.hasOwn(values, name) ? values[name] : undefined
          if (value === undefined) return BatchOf.unsent
          if (value === null || fits(type, value)) return value
          throw new TypeError(`${tableId(table.table)}: ${name} is ${type._tag}, whose values are of another type`)
        })
      }
    })
  )
}

/** Whether row `row` of a column is null, by its buffers. */
export const isNull = (
  data: { readonly nullCount: number; readonly nullBitmap?: Uint8Array | undefined },
  row: number
): boolean =>
  data.nullCount > 0 && data.nullBitmap !== undefined && ((data.nullBitmap[row >> 3] ?? 0) >> (row & 7) & 1) === 0

const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

const bytesAt = (data: { readonly valueOffsets: Int32Array; readonly values: Uint8Array }, row: number): Uint8Array =>
  data.values.subarray(data.valueOffsets[row], data.valueOffsets[row + 1])

/** Reads the values of a column from its raw buffers, as a sink does. Throws when text isn't UTF-8. */
export const reader = (batch: ChangeBatch.ChangeBatch, index: number): (row: number) => Value => {
  const data = ChangeBatch.child(batch.records, ChangeBatch.metadataColumns + index)
  const column = batch.table.columns[index]
  if (column === undefined) throw new RangeError(`${tableId(batch.table.table)} has no column ${index}`)
  const read = (row: number): Value => {
    switch (carrierOf(column.type)) {
      case "boolean":
        return (((data.values as Uint8Array)[row >> 3] ?? 0) >> (row & 7) & 1) === 1 // booleans are bits
      case "number":
        return Number((data.values as Float64Array)[row]) // some typed array of numbers
      case "bigint":
        return (data.values as BigInt64Array)[row] ?? 0n // 64-bit columns are built over BigInt64Array
      case "binary":
        return bytesAt(data, row).slice()
      case "string":
        return text.decode(bytesAt(data, row))
    }
  }
  return (row) => isNull(data, row) ? null : read(row)
}

/** Whether the value of column `index` (of the table's own) of a row was not sent, by the mask of the batch. */
export const unsentReader = ({ records }: ChangeBatch.ChangeBatch): (row: number, index: number) => boolean => {
  const masks = ChangeBatch.child(records, ChangeBatch.MetadataColumns.unsent)
  return (row, index) => !isNull(masks, row) && ((bytesAt(masks, row)[index >> 3] ?? 0) >> (index & 7) & 1) === 1
}

/** The rows of a batch, each with everything that `Row` says of it. */
export const rows = (batch: ChangeBatch.ChangeBatch): ReadonlyArray<Required<Row>> => {
  const { records, table } = batch
  const ops = ChangeBatch.child(records, ChangeBatch.MetadataColumns.op).values as Uint8Array // uint8 by the layout
  const times = ChangeBatch.child(records, ChangeBatch.MetadataColumns.commitTime).values as BigInt64Array // 64 bits
  const columns = table.columns.map(({ name }, index) => ({ name, read: reader(batch, index) }))
  const isUnsent = unsentReader(batch)
  return Array.from({ length: batch.rows }, (_, row) => {
    const { commit, ordinal } = ChangeBatch.sequenceAt(records, row)
    const op = operations[ops[row] ?? -1]
    const sent: Array<readonly [name: string, value: Value]> = []
    for (const [index, { name, read }] of columns.entries()) {
      if (!isUnsent(row, index)) sent.push([name, read(row)])
    }
    if (op === undefined) throw new RangeError(`Row ${row} has the operation ${ops[row]}, which there isn't`)
    return {
      op,
      commit,
      ordinal,
      commitTime: times[row] ?? 0n,
      values: Object.fromEntries(sent)
    }
  })
}
