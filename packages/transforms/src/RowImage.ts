/**
 * Comparing rows of a batch, column by column, without making objects of them.
 */
import type { ChangeBatch } from "@etl-stream/core/ChangeBatch"
import type * as Arrow from "apache-arrow"
import * as Cells from "./Cells.ts"

/** Whether two rows have the same value in a column, NULL being one. */
export type SameValue = (a: number, b: number) => boolean

const sameBytes = (data: Arrow.Data): SameValue => {
  const { valueOffsets } = data
  const values = data.values as Uint8Array // Utf8 and Binary columns hold bytes
  return (a, b) => {
    const start = valueOffsets[a] ?? 0
    const other = valueOffsets[b] ?? 0
    const length = (valueOffsets[a + 1] ?? 0) - start
    if (length !== (valueOffsets[b + 1] ?? 0) - other) return false
    for (let at = 0; at < length; at++) if (values[start + at] !== values[other + at]) return false
    return true
  }
}

const sameValue = (data: Arrow.Data, isBoolean: boolean): SameValue => {
  const values = data.values as Float64Array // or any other typed array, which are read alike
  const equal: SameValue = isBoolean
    ? (a, b) => (((values[a >> 3] ?? 0) >> (a & 7)) & 1) === (((values[b >> 3] ?? 0) >> (b & 7)) & 1)
    : data.valueOffsets !== undefined
    ? sameBytes(data)
    // NaN is NaN, and 0 isn't -0: those would be two values at the target.
    : (a, b) => Object.is(values[a], values[b])
  return (a, b) => {
    const isNull = Cells.isNull(data, a)
    return isNull === Cells.isNull(data, b) && (isNull || equal(a, b))
  }
}

/** For each column of the table. */
export const comparisons = (batch: ChangeBatch): ReadonlyArray<SameValue> =>
  batch.table.columns.map(({ type }, index) => sameValue(Cells.column(batch, index), type._tag === "Boolean"))

/** A number for a row's values in some columns, the same for equal ones. */
export const hasher = (batch: ChangeBatch, columns: ReadonlyArray<number>): (row: number) => number => {
  const parts = columns.map((index) => {
    const data = Cells.column(batch, index)
    const { valueOffsets } = data
    if (valueOffsets !== undefined) {
      const values = data.values as Uint8Array // Utf8 and Binary columns hold bytes
      return (row: number, hash: number): number => {
        let mixed = hash
        const end = valueOffsets[row + 1] ?? 0
        for (let at = valueOffsets[row] ?? 0; at < end; at++) mixed = Math.imul(mixed ^ (values[at] ?? 0), 0x01000193)
        return mixed
      }
    }
    if (batch.table.columns[index]?.type._tag === "Boolean") {
      const bits = data.values as Uint8Array // a bitmap
      return (row: number, hash: number): number =>
        Math.imul(hash ^ (((bits[row >> 3] ?? 0) >> (row & 7)) & 1), 0x01000193)
    }
    const { buffer, byteLength, byteOffset } = data.values as Uint8Array // or another typed array
    const bytes = new Uint8Array(buffer, byteOffset, byteLength)
    const width = data.stride * (data.values as Uint8Array).BYTES_PER_ELEMENT // the same
    return (row: number, hash: number): number => {
      let mixed = hash
      for (let at = row * width; at < (row + 1) * width; at++) mixed = Math.imul(mixed ^ (bytes[at] ?? 0), 0x01000193)
      return mixed
    }
  })
  return (row) => {
    let hash = 0x811c9dc5
    for (const mix of parts) hash = mix(row, hash)
    return hash >>> 0
  }
}
