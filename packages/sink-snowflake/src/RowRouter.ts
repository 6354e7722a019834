/**
 * Which of a table's channels each row of a batch goes through.
 *
 * Rows of one key always take the same channel, in every run: the number comes from a hash over the bytes of the key's values. Tables without a key take
 * the change's own sequence instead. The hash is part of what channels' offsets mean, so it must never change.
 */
import * as ChangeBatch from "@etl-stream/core/ChangeBatch"
import type * as Arrow from "apache-arrow"
import type { ColumnLayout, TableLayout } from "./TableLayout.ts"
import * as ValueWriter from "./ValueWriter.ts"

/** Stands for no channel: the row is held already, or not to be written yet. */
export const nowhere = 255

// FNV-1a, 32 bits.
const basis = 0x811c9dc5
const prime = 0x01000193

/** Mixes the values of a column into the hashes of their rows. */
const mix = (hashes: Uint32Array, data: Arrow.Data, { type }: ColumnLayout): void => {
  const rows = hashes.length
  const offsets = data.valueOffsets
  if (offsets !== undefined && offsets !== null && offsets.length > 0) {
    const bytes = data.values as Uint8Array // variable-width columns hold bytes
    for (let row = 0; row < rows; row++) {
      let hash = hashes[row] as number // in range
      const end = Number(offsets[row + 1])
      for (let at = Number(offsets[row]); at < end; at++) hash = Math.imul(hash ^ (bytes[at] as number), prime) // in range
      // Where one value ends and the next begins counts as well.
      hashes[row] = Math.imul(hash ^ 0xff, prime)
    }
    return
  }
  // By what the source sends, whatever it is kept as.
  if (type._tag === "Boolean") {
    const bits = data.values as Uint8Array // booleans are bits
    for (let row = 0; row < rows; row++) {
      const bit = data.offset + row
      const value = ((bits[bit >> 3] as number) >> (bit & 7)) & 1 // one bit per row
      hashes[row] = Math.imul((hashes[row] as number) ^ value, prime) // in range
    }
    return
  }
  const values = data.values as Float64Array // any fixed-width column: only its width and bytes matter
  const width = values.BYTES_PER_ELEMENT
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
  for (let row = 0; row < rows; row++) {
    let hash = hashes[row] as number // in range
    const end = (row + 1) * width
    for (let at = row * width; at < end; at++) hash = Math.imul(hash ^ (bytes[at] as number), prime) // in range
    hashes[row] = hash
  }
}

/** The last steps of MurmurHash3: every bit of the hash decides. */
const finish = (value: number): number => {
  let hash = Math.imul(value ^ (value >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}

/** The channel of each row, 0 to `channels` - 1. */
export const route = (
  layout: TableLayout,
  { records, rows }: ChangeBatch.ChangeBatch,
  channels: number
): Uint8Array => {
  const hashes = new Uint32Array(rows).fill(basis)
  if (layout.keys.length > 0) {
    for (const column of layout.keys) {
      mix(hashes, ChangeBatch.child(records, ChangeBatch.metadataColumns + column.index), column)
    }
  } else {
    for (const column of [ChangeBatch.MetadataColumns.commit, ChangeBatch.MetadataColumns.ordinal]) {
      const halves = ValueWriter.halvesOf(ChangeBatch.child(records, column))
      for (let row = 0; row < rows; row++) {
        const hash = Math.imul((hashes[row] as number) ^ (halves[row * 2] as number), prime) // in range
        hashes[row] = Math.imul(hash ^ (halves[row * 2 + 1] as number), prime) // in range
      }
    }
  }
  const routes = new Uint8Array(rows)
  for (let row = 0; row < rows; row++) routes[row] = finish(hashes[row] as number) % channels // in range
  return routes
}
