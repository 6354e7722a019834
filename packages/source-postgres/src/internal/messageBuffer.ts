/**
 * Cuts a stream of bytes into the backend's messages: a type byte, a length that counts itself, a body.
 *
 * Chunks are appended behind what isn't consumed yet; room for a large message is made once, when its length is known.
 */
import { Buffer } from "node:buffer"
import * as PostgresError from "../PostgresError.ts"

const initialSize = 256 << 10
/** The least that a read is given room for. */
const leastRead = 64 << 10
/** A larger buffer, left by a large message, is not kept. */
const keptSize = 4 << 20

export class MessageBuffer {
  bytes: Buffer = Buffer.allocUnsafe(initialSize)
  /** The current message: its type, and its body `bytes[start, end)`. Valid until the next call. */
  type = 0
  start = 0
  end = 0
  private position = 0
  private filled = 0

  /** Where the next bytes may be read; valid until the next call of `received` or `append`. */
  target(): Uint8Array {
    if (this.bytes.length - this.filled < leastRead) this.makeRoom(leastRead)
    return this.bytes.subarray(this.filled)
  }

  /** `count` bytes were read into the last target, or into another buffer. */
  received(from: Uint8Array, count: number): void {
    const { buffer, byteOffset } = this.bytes
    if (from.buffer === buffer && from.byteOffset === byteOffset + this.filled) this.filled += count
    else this.append(from.subarray(0, count))
  }

  append(chunk: Uint8Array): void {
    if (this.filled + chunk.length > this.bytes.length) this.makeRoom(chunk.length)
    this.bytes.set(chunk, this.filled)
    this.filled += chunk.length
  }

  /** Moves on to the next complete message; false when there is none yet. */
  next(): boolean {
    const { bytes, position } = this
    if (this.filled - position < 5) return false
    // In range. A method of Buffer would cost more than the rest of this.
    const length = (bytes[position + 1] as number) << 24 | (bytes[position + 2] as number) << 16 |
      (bytes[position + 3] as number) << 8 | (bytes[position + 4] as number)
    if (length < 4) {
      throw PostgresError.make(
        "Protocol",
        "the server sent a message with an impossible length",
        "Please report this with the server's version."
      )
    }
    const end = position + 1 + length
    if (end > this.filled) return false
    this.type = bytes[position] as number // position < filled
    this.start = position + 5
    this.end = end
    this.position = end
    return true
  }

  private makeRoom(more: number): void {
    const held = this.filled - this.position
    const begun = held >= 5 ? 1 + this.bytes.readInt32BE(this.position + 1) : 0
    // As much beside a message that has begun, so that its last bytes need no more room than it has.
    const size = Math.max(Math.max(held, begun) + more, initialSize)
    if (size > this.bytes.length || this.bytes.length > Math.max(keptSize, size)) {
      const other = Buffer.allocUnsafe(size)
      this.bytes.copy(other, 0, this.position, this.filled)
      this.bytes = other
    } else this.bytes.copyWithin(0, this.position, this.filled)
    this.position = 0
    this.filled = held
  }
}
