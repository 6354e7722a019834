/**
 * The type `"char"`: one byte, which need not be a character.
 *
 * Since version 16 PostgreSQL writes a byte beyond ASCII as a backslash and three octal digits. Before, it wrote the byte itself,
 * which is no UTF-8: here it becomes what later versions write.
 */
import type { BytesColumn } from "@etl-stream/core/ColumnBuilder"
import { copyBytes, malformed, type ValueDecoder } from "./valueDecoder.ts"

const quote = 0x22
const backslash = 0x5c

// Both types are carried by Utf8, whose builder is a BytesColumn: that is why the casts below are safe.

const isHigh = (bytes: Uint8Array, at: number): boolean => (bytes[at] as number) >= 0x80 // the caller has checked the range

/** Writes `\ooo` at `to`. */
const escape = (into: Uint8Array, to: number, byte: number): number => {
  into[to] = backslash
  into[to + 1] = 0x30 + (byte >> 6)
  into[to + 2] = 0x30 + (byte >> 3 & 7)
  into[to + 3] = 0x30 + (byte & 7)
  return to + 4
}

const appendEscaped = (target: BytesColumn, byte: number): void => {
  const at = target.reserve(4)
  target.commit(escape(target.target, at, byte))
}

/** A value in text format. Two or more bytes are a character that the server converted from another encoding. */
export const charFromText: ValueDecoder = (column, bytes, start, end) => {
  if (end - start === 1 && isHigh(bytes, start)) appendEscaped(column as BytesColumn, bytes[start] as number) // there is one
  else copyBytes(column, bytes, start, end)
}

/** A value in binary format: always one byte, 0 for the empty text. */
export const charFromBinary: ValueDecoder = (column, bytes, start, end) => {
  if (end - start !== 1) malformed("\"char\"")
  if (bytes[start] === 0) copyBytes(column, bytes, start, start)
  else charFromText(column, bytes, start, end)
}

/** An array in text format: a single byte beyond ASCII becomes `"\\ooo"`, which is how an array quotes `\ooo`. */
export const charArrayFromText: ValueDecoder = (column, bytes, start, end) => {
  let high = 0
  for (let at = start; at < end; at++) if (isHigh(bytes, at)) high++
  if (high === 0) return copyBytes(column, bytes, start, end)
  const target = column as BytesColumn
  let to = target.reserve(end - start + high * 6)
  const into = target.target
  for (let at = start; at < end; at++) {
    const byte = bytes[at] as number // in range
    const alone = byte >= 0x80 && !(at > start && isHigh(bytes, at - 1)) && !(at + 1 < end && isHigh(bytes, at + 1))
    if (alone) {
      into[to++] = quote
      into[to++] = backslash
      to = escape(into, to, byte)
      into[to++] = quote
    } else into[to++] = byte
  }
  target.commit(to)
}
