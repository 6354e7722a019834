/**
 * Reads a replication stream for what it says about itself only: where transactions commit, how far it has come, and logical
 * messages. Rows are passed over.
 */
import { type Frames, uint32At } from "./frameBuffer.ts"
import { malformedMessage } from "./malformedMessage.ts"

export interface LogEvents {
  /** A transaction with the commit record at `commit` begins. */
  readonly transaction: (commit: bigint) => void
  /** Everything up to `position` has come. */
  readonly reached: (position: bigint) => void
  readonly message: (prefix: string, content: Uint8Array) => void
}

const CopyData = 0x64
const XLogData = 0x77
const Keepalive = 0x6b
const Begin = 0x42
const Commit = 0x43
const Message = 0x4d

/** Frame header, `w`, and three 64-bit fields. */
const xlogHeader = 5 + 1 + 24

const text = new TextDecoder()

const lsnAt = (bytes: Uint8Array, at: number): bigint =>
  BigInt(uint32At(bytes, at)) << 32n | BigInt(uint32At(bytes, at + 4))

/** A scanner that is to be given every view of one stream in order; protocol version 1, where transactions come whole. */
export const make = (events: LogEvents): (frames: Frames) => void => {
  let inTransaction = false

  const message = (bytes: Uint8Array, at: number, limit: number): void => {
    const end = bytes.indexOf(0, at + 10)
    if (end < 0 || end + 5 > limit) malformedMessage("a Message message that is too short")
    events.message(text.decode(bytes.subarray(at + 10, end)), bytes.slice(end + 5, limit))
  }

  const logical = (bytes: Uint8Array, at: number, limit: number): void => {
    switch (bytes[at]) {
      case Begin:
        if (limit - at !== 21) malformedMessage("a Begin message of the wrong length")
        inTransaction = true
        return events.transaction(lsnAt(bytes, at + 1))
      case Commit:
        if (limit - at !== 26) malformedMessage("a Commit message of the wrong length")
        inTransaction = false
        return events.reached(lsnAt(bytes, at + 10))
      case Message:
        return message(bytes, at, limit)
    }
  }

  return ({ bytes, end, start }) => {
    for (let at = start; at < end;) {
      const limit = at + 1 + uint32At(bytes, at + 1)
      if (limit > end || limit < at + 5) malformedMessage("a frame that is cut off")
      if (bytes[at] === CopyData) {
        if (bytes[at + 5] === XLogData && limit - at > xlogHeader) logical(bytes, at + xlogHeader, limit)
        // Within a transaction a keepalive's position may lie behind changes that are still to come.
        else if (bytes[at + 5] === Keepalive && !inTransaction && limit - at === 23) {
          events.reached(lsnAt(bytes, at + 6))
        }
      }
      at = limit
    }
  }
}
