/**
 * The frame around each record of a spool's files: its payload's length and CRC-32, four bytes each, little-endian. A payload's first byte tells its kind.
 */
import { crc32 } from "node:zlib"

/** Bytes before a record's payload. */
export const frameSize = 8
/** Largest payload. */
export const largestPayload = 0x7ffffff0

/** Kinds of payloads. */
export const Kind = { header: 0, table: 1, batch: 2, mark: 3 } as const

/** Bytes that are no record of this version. */
export class Malformed extends Error {}

export const malformed = (what: string): never => {
  throw new Malformed(what)
}

/** A record as pieces that belong one behind the other. */
export interface Encoded {
  readonly parts: ReadonlyArray<Uint8Array>
  readonly length: number
}

/** Puts the frame before a payload. */
export const framed = (payload: ReadonlyArray<Uint8Array>): Encoded => {
  let length = 0
  let crc = 0
  for (const part of payload) {
    length += part.byteLength
    crc = crc32(part, crc)
  }
  if (length > largestPayload) throw new RangeError("A record of a spool can't hold more than 2 GiB")
  const frame = new Uint8Array(frameSize)
  const view = new DataView(frame.buffer)
  view.setUint32(0, length, true)
  view.setUint32(4, crc, true)
  return { parts: [frame, ...payload], length: frameSize + length }
}
