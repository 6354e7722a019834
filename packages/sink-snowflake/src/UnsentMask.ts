/**
 * The mask of columns that a change left unsent, as the journal holds it: a JSON array of target column names.
 *
 * Streaming and files write the same text, the one inside a JSON string and the other bare; which of the two is decided once, with the
 * names.
 */
import type * as Arrow from "apache-arrow"
import type { ByteBuffer } from "./ByteBuffer.ts"
import type { TableValues } from "./ValueLayout.ts"

/** A table's columns with their names as they are to be written. */
export interface Names {
  readonly indexes: ReadonlyArray<number>
  readonly texts: ReadonlyArray<Uint8Array>
}

/** Names as in JSON; with `escaped` as in JSON inside a JSON string. */
export const names = (layout: TableValues, escaped: boolean): Names => ({
  indexes: layout.columns.map(({ index }) => index),
  texts: layout.columns.map(({ name }) => {
    const json = JSON.stringify(name)
    return Buffer.from(escaped ? JSON.stringify(json).slice(1, -1) : json)
  })
})

/** Writes the array of the columns that `masks` marks in `row`, which isn't null there. */
export const write = (out: ByteBuffer, names: Names, masks: Arrow.Data, row: number): void => {
  const { indexes, texts } = names
  const bits = masks.values as Uint8Array // a binary column
  const start = masks.valueOffsets[row] as number // in range
  let first = true
  out.byte(0x5b)
  for (let i = 0; i < indexes.length; i++) {
    const index = indexes[i] as number // in range
    if (((bits[start + (index >> 3)] as number) & (1 << (index & 7))) === 0) continue // the mask covers every column
    if (!first) out.byte(0x2c)
    first = false
    out.raw(texts[i] as Uint8Array) // one per column
  }
  out.byte(0x5d)
}
