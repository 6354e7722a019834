/**
 * The frames of streamed transactions (protocol version 2: "Streaming of Large Transactions"), where they stand in a view,
 * and what they are once their transaction has committed.
 *
 * Within a block (Stream Start … Stream Stop) each message has a transaction id behind its type. Blocks of several
 * transactions and whole ordinary transactions take turns; a streamed transaction ends with Stream Commit or Stream Abort,
 * outside of a block.
 */
import { type Frames, uint32At } from "./frameBuffer.ts"
import { malformedMessage } from "./malformedMessage.ts"
import type { XidSet } from "./xidSet.ts"

const CopyData = 0x64
const XLogData = 0x77
const Keepalive = 0x6b

/** Frame header, `w`, and three 64-bit fields: where pgoutput's message begins. */
const xlogHeader = 5 + 1 + 24
/** Where the third field begins, the server's clock, which nobody reads. */
const sendTime = 5 + 1 + 16
const keepaliveLength = 23

const Begin = 0x42
const Commit = 0x43
const StreamStop = 0x45
const Relation = 0x52
const StreamStart = 0x53
const StreamAbort = 0x41
const StreamCommit = 0x63
const Origin = 0x4f

/** What comes next in a view. */
export type Step =
  /** Frames of ordinary transactions, and of none. */
  | { readonly _tag: "Ordinary"; readonly frames: Frames }
  /** Frames of the streamed transaction whose block is open. */
  | { readonly _tag: "Streamed"; readonly frames: Frames }
  | { readonly _tag: "Start"; readonly xid: number; readonly first: boolean }
  | { readonly _tag: "Stop" }
  | { readonly _tag: "Abort"; readonly xid: number; readonly subxid: number }
  | { readonly _tag: "Commit"; readonly xid: number; readonly begin: Frames; readonly commit: Frames }
  /** The view is used up. */
  | { readonly _tag: "End" }

/** A relation as it was announced, and where on the wire. */
export interface Announcement {
  readonly place: number
  readonly frame: Uint8Array
}

const whole = (bytes: Uint8Array): Frames => ({ bytes, start: 0, end: bytes.length })

/** A Buffer's `slice` would not copy. */
const copyOf = (bytes: Uint8Array, start: number, end: number): Uint8Array => new Uint8Array(bytes.subarray(start, end))

/** The end of the frame at `at`; throws when it isn't whole. */
const frameEnd = (bytes: Uint8Array, at: number, end: number): number => {
  if (end - at < 5) malformedMessage("a frame that is cut off")
  const limit = at + 1 + uint32At(bytes, at + 1)
  if (limit > end || limit < at + 5) malformedMessage("a frame that is cut off")
  return limit
}

const writeUint32 = (bytes: Uint8Array, at: number, value: number): void => {
  bytes[at] = value >>> 24
  bytes[at + 1] = value >>> 16
  bytes[at + 2] = value >>> 8
  bytes[at + 3] = value
}

/** A place on the wire, a number below 2^53, in the field of the server's clock. */
const writePlace = (bytes: Uint8Array, at: number, place: number): void => {
  writeUint32(bytes, at + sendTime, Math.floor(place / 0x100000000))
  writeUint32(bytes, at + sendTime + 4, place % 0x100000000)
}

const placeOf = (bytes: Uint8Array, at: number): number =>
  uint32At(bytes, at + sendTime) * 0x100000000 + uint32At(bytes, at + sendTime + 4)

/** An XLogData frame with the header of the frame at `at`. */
const frameLike = (bytes: Uint8Array, at: number, type: number, body: ReadonlyArray<Uint8Array>): Frames => {
  const length = body.reduce((sum, part) => sum + part.length, xlogHeader + 1)
  const frame = new Uint8Array(length)
  frame.set(bytes.subarray(at, at + xlogHeader))
  writeUint32(frame, 1, length - 1)
  frame[xlogHeader] = type
  let to = xlogHeader + 1
  for (const part of body) {
    frame.set(part, to)
    to += part.length
  }
  return whole(frame)
}

/** Whether a message in a block has a transaction id behind its type; throws for one that doesn't belong there. */
const hasXid = (type: number): boolean => {
  switch (type) {
    case 0x49: // I
    case 0x55: // U
    case 0x44: // D
    case 0x54: // T
    case 0x4d: // M
    case Relation:
    case 0x59: // Y
      return true
    case Origin:
      return false
  }
  return malformedMessage(`a message of type 0x${type.toString(16)} within a block of a streamed transaction`)
}

/** Walks through views; keeps what lies between two of them: whether a block or a transaction is open. */
export class Scanner {
  /** WAL position of the frame that is looked at, for errors. */
  messageHigh = 0
  messageLow = 0
  /** Relations announced outside of blocks, by OID. */
  readonly announced = new Map<number, Announcement>()
  private bytes: Uint8Array = new Uint8Array()
  private at = 0
  private end = 0
  private inBlock = false
  private inTransaction = false
  /** Bytes of the views up to and including this one, and the place on the wire of the index 0 of this one. */
  private total = 0
  private base = 0

  look({ bytes, end, start }: Frames): void {
    this.bytes = bytes
    this.at = start
    this.end = end
    this.base = this.total - start
    this.total += end - start
  }

  next(): Step {
    if (this.at >= this.end) return { _tag: "End" }
    return this.inBlock ? this.block() : this.ordinary()
  }

  /** Where on the wire the frame at `at` is. */
  private place(at: number): number {
    return this.base + at
  }

  private note(bytes: Uint8Array, at: number, limit: number): number {
    if (limit - at <= xlogHeader) malformedMessage("a WAL message that is too short")
    this.messageHigh = uint32At(bytes, at + 6)
    this.messageLow = uint32At(bytes, at + 10)
    return bytes[at + xlogHeader] as number // checked above
  }

  private ordinary(): Step {
    const { bytes, end } = this
    const start = this.at
    let at = start
    while (at < end) {
      const limit = frameEnd(bytes, at, end)
      // What isn't XLogData is the decoder's to judge.
      if (bytes[at] === CopyData && bytes[at + 5] === XLogData) {
        const type = this.note(bytes, at, limit)
        if (type === StreamStart || type === StreamStop || type === StreamAbort || type === StreamCommit) {
          if (at > start) break
          this.at = limit
          return this.control(type, bytes, at, limit)
        }
        if (type === Relation) this.relation(bytes, at, limit)
        else if (type === Begin) this.inTransaction = true
        else if (type === Commit) this.inTransaction = false
      }
      at = limit
    }
    this.at = at
    return { _tag: "Ordinary", frames: { bytes, start, end: at } }
  }

  private relation(bytes: Uint8Array, at: number, limit: number): void {
    if (limit - at < xlogHeader + 5) malformedMessage("a Relation message that is too short")
    this.announced.set(uint32At(bytes, at + xlogHeader + 1), { place: this.place(at), frame: copyOf(bytes, at, limit) })
  }

  private control(type: number, bytes: Uint8Array, at: number, limit: number): Step {
    if (this.inTransaction) malformedMessage("a message of a streamed transaction within another transaction")
    const body = at + xlogHeader + 1
    const length = limit - body
    switch (type) {
      case StreamStart:
        if (length !== 5) malformedMessage("a Stream Start message of the wrong length")
        this.inBlock = true
        return { _tag: "Start", xid: uint32At(bytes, body), first: bytes[body + 4] === 1 }
      case StreamAbort:
        if (length !== 8) malformedMessage("a Stream Abort message of the wrong length")
        return { _tag: "Abort", xid: uint32At(bytes, body), subxid: uint32At(bytes, body + 4) }
      case StreamCommit: {
        if (length !== 29) malformedMessage("a Stream Commit message of the wrong length")
        // Transaction id, flags, commit position, end position, commit time.
        const xid = bytes.subarray(body, body + 4)
        const position = bytes.subarray(body + 5, body + 13)
        const time = bytes.subarray(body + 21, limit)
        return {
          _tag: "Commit",
          xid: uint32At(bytes, body),
          begin: frameLike(bytes, at, Begin, [position, time, xid]),
          commit: frameLike(bytes, at, Commit, [bytes.subarray(body + 4, limit)])
        }
      }
    }
    return malformedMessage("a Stream Stop message without a Stream Start")
  }

  private block(): Step {
    const { bytes, end } = this
    const start = this.at
    let at = start
    while (at < end) {
      const limit = frameEnd(bytes, at, end)
      if (bytes[at] === CopyData) {
        const kind = bytes[at + 5]
        if (kind === XLogData) {
          const type = this.note(bytes, at, limit)
          if (type === StreamStop) {
            if (at > start) break
            if (limit - at !== xlogHeader + 1) malformedMessage("a Stream Stop message of the wrong length")
            this.at = limit
            this.inBlock = false
            return { _tag: "Stop" }
          }
          if (hasXid(type) && limit - at < xlogHeader + 5) malformedMessage("a streamed message that is too short")
          if (type === Relation) {
            if (limit - at < xlogHeader + 9) malformedMessage("a Relation message that is too short")
            writePlace(bytes, at, this.place(at))
          }
          // Its position is not yet of use: the transaction goes on.
        } else if (kind !== Keepalive || limit - at !== keepaliveLength) {
          malformedMessage("a replication message of a kind that is not known")
        }
      }
      at = limit
    }
    this.at = at
    return { _tag: "Streamed", frames: { bytes, start, end: at } }
  }
}

/** What `compact` made of the bytes that it was given. */
export interface Compacted {
  /** Ordinary frames are in `[0, written)`. */
  readonly written: number
  /** A frame that isn't whole begins here. */
  readonly consumed: number
}

/**
 * Turns the frames of a committed transaction into ordinary ones, within `bytes`: transaction ids go, and so do the messages
 * of the sub-transactions in `aborted`, announcements of relations too, since the server repeats those after an abort. Notes the
 * relations that are left in `announced`.
 */
export const compact = (
  bytes: Uint8Array,
  end: number,
  aborted: XidSet,
  announced: Map<number, Announcement>
): Compacted => {
  let at = 0
  let to = 0
  while (end - at >= 5) {
    const limit = at + 1 + uint32At(bytes, at + 1)
    if (limit < at + 5) malformedMessage("a frame in a spool file that is damaged")
    if (limit > end) break
    if (bytes[at] === CopyData && bytes[at + 5] === XLogData) {
      const type = bytes[at + xlogHeader]
      const body = at + xlogHeader + 5
      if (limit < body || type === Origin) {
        if (type !== Origin) malformedMessage("a frame in a spool file that is damaged")
        bytes.copyWithin(to, at, limit)
        to += limit - at
      } else if (aborted.size === 0 || !aborted.has(uint32At(bytes, at + xlogHeader + 1))) {
        bytes.copyWithin(to, at, at + xlogHeader + 1)
        bytes.copyWithin(to + xlogHeader + 1, body, limit)
        const length = limit - at - 4
        writeUint32(bytes, to + 1, length - 1)
        if (type === Relation) {
          announced.set(uint32At(bytes, to + xlogHeader + 1), {
            place: placeOf(bytes, to),
            frame: copyOf(bytes, to, to + length)
          })
        }
        to += length
      }
    }
    at = limit
  }
  return { written: to, consumed: at }
}

/** Whether two Relation messages say the same, wherever they stood. */
const sameAnnouncement = (a: Uint8Array, b: Uint8Array): boolean =>
  Buffer.compare(a.subarray(xlogHeader), b.subarray(xlogHeader)) === 0

/**
 * The relations as the server takes them to be known after a streamed transaction: those of `streamed` become the known
 * ones, except where one was announced later on the wire (in an ordinary transaction, or in another streamed one that has
 * committed). Returns the frames of those, which must be announced once more where the streamed transaction said otherwise.
 */
export const settle = (
  known: Map<number, Announcement>,
  streamed: ReadonlyMap<number, Announcement>
): ReadonlyArray<Uint8Array> => {
  const again: Array<Uint8Array> = []
  for (const [oid, announcement] of streamed) {
    const other = known.get(oid)
    if (other === undefined || other.place < announcement.place) known.set(oid, announcement)
    else if (!sameAnnouncement(other.frame, announcement.frame)) again.push(other.frame)
  }
  return again
}
