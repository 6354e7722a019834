/**
 * Collects a server's bytes and cuts them into whole messages ("frames": type byte, int32 length, body).
 *
 * Two buffers take turns: while one is looked at through `Frames`, bytes that arrive go to the other, behind the beginning of
 * a frame that the first one ended with. So a view needs no copy and stays valid until the next `take`. Buffers start
 * small, double up to 4 MiB while reads fill them, halve again when reads stay small, and are larger than that only
 * for a single frame that needs it.
 */

/** Whole frames in `bytes[start, end)`. */
export interface Frames {
  readonly bytes: Uint8Array
  readonly start: number
  readonly end: number
}

/** Why no more frames follow: the server's error or end of the copy, or bytes that aren't its protocol. */
export type Terminal =
  | { readonly _tag: "ServerError"; readonly fields: ReadonlyMap<string, string> }
  | { readonly _tag: "CopyDone" }
  | { readonly _tag: "Malformed"; readonly what: string }

const initialSize = 256 * 1024
const throughputSize = 4 * 1024 * 1024
/** The server's limit of one message (`MaxAllocSize`), with room for the replication header. */
const maximumFrame = 0x40000100
/** A buffer halves after so many reads in a row that used less than an eighth of it. */
const smallReadsToShrink = 128

/** Not zeroed, and not a Buffer, whose `subarray` is several times slower. */
const allocate = (size: number): Uint8Array => new Uint8Array(Buffer.allocUnsafeSlow(size).buffer)

const CopyData = 0x64
const CopyDone = 0x63
const CommandComplete = 0x43
const ErrorResponse = 0x45
const CopyBothResponse = 0x57
const ReadyForQuery = 0x5a
const NoticeResponse = 0x4e
const ParameterStatus = 0x53
const NotificationResponse = 0x41
const XLogData = 0x77
const Keepalive = 0x6b

export const uint32At = (bytes: Uint8Array, at: number): number =>
  ((bytes[at] as number) << 24 | (bytes[at + 1] as number) << 16 | (bytes[at + 2] as number) << 8 |
    (bytes[at + 3] as number)) >>> 0 // callers have checked the length

/** The fields of an ErrorResponse's body (protocol: "Error and Notice Message Fields"), by their one-letter codes. */
const errorFields = (body: Uint8Array): ReadonlyMap<string, string> => {
  const fields = new Map<string, string>()
  const decode = new TextDecoder()
  for (let at = 0; at < body.length && body[at] !== 0;) {
    const end = body.indexOf(0, at + 1)
    if (end < 0) break
    fields.set(String.fromCharCode(body[at] as number), decode.decode(body.subarray(at + 1, end))) // in range
    at = end + 1
  }
  return fields
}

export class FrameBuffer {
  /** Highest WAL position that was received, in 32-bit halves. */
  receivedHigh = 0
  receivedLow = 0
  /** A keepalive asked for an answer; whoever answers clears it. */
  replyRequested = false
  /** Set when nothing follows the frames collected so far. */
  terminal: Terminal | undefined
  /** CopyBothResponse has come: the stream has begun. */
  streaming = false
  /** The error by which the server refused to begin the stream. */
  refusal: ReadonlyMap<string, string> | undefined
  /** ReadyForQuery has come: the command was refused and the session takes another. */
  ready = false
  private current = allocate(initialSize)
  private spare: Uint8Array | undefined
  private start = 0
  private complete = 0
  private tail = 0
  private size = initialSize
  private smallReads = 0
  /** Length of the frame whose beginning has come, 0 when unknown. */
  private awaited = 0

  /** Whether whole frames are waiting to be taken. */
  get hasFrames(): boolean {
    return this.complete > this.start
  }

  /** Bytes that are held but not taken. */
  get pending(): number {
    return this.tail - this.start
  }

  /** Bytes of both buffers. */
  get capacity(): number {
    return this.current.length + (this.spare?.length ?? 0)
  }

  /** Where the next bytes go; never empty. Valid until the next call of `wrote`, `write` or `take`. */
  target(): Uint8Array {
    if (this.tail === this.current.length) this.grow()
    return this.current.subarray(this.tail)
  }

  /** `count` bytes have come in `from`, normally the last `target`. */
  wrote(from: Uint8Array, count: number): void {
    const { buffer, byteOffset } = this.current
    if (from.buffer !== buffer || from.byteOffset !== byteOffset + this.tail) {
      this.write(from.subarray(0, count))
      return
    }
    this.adapt(count, from.length)
    this.tail += count
    this.scan()
  }

  /** Copies bytes that came in a buffer of somebody else's. */
  write(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length;) {
      const target = this.target()
      const count = Math.min(target.length, chunk.length - at)
      target.set(chunk.subarray(at, at + count))
      this.adapt(count, target.length)
      this.tail += count
      at += count
    }
    this.scan()
  }

  /** The whole frames collected so far; what was taken before is void. */
  take(): Frames {
    const frames: Frames = { bytes: this.current, start: this.start, end: this.complete }
    const rest = this.tail - this.complete
    const needed = Math.max(this.size, rest * 2)
    const next = this.spare !== undefined && this.spare.length === needed ? this.spare : allocate(needed)
    next.set(this.current.subarray(this.complete, this.tail))
    // A buffer that was enlarged for one frame is not kept.
    this.spare = this.current.length === this.size ? this.current : undefined
    this.current = next
    this.start = 0
    this.complete = 0
    this.tail = rest
    return frames
  }

  /** A read that fills its buffer asks for a larger one, many small ones for a smaller one. */
  private adapt(count: number, room: number): void {
    if (count === room && this.size < throughputSize) {
      this.size *= 2
      this.smallReads = 0
    } else if (count > this.size >> 3) this.smallReads = 0
    else if (++this.smallReads >= smallReadsToShrink && this.size > initialSize) {
      this.size /= 2
      this.smallReads = 0
    }
  }

  /** Room for more of a frame that doesn't fit: doubling, so a claimed length alone allocates nothing. */
  private grow(): void {
    const held = this.tail - this.start
    const length = Math.max(this.size, Math.min(held * 2, Math.max(this.awaited, held + initialSize)))
    const larger = allocate(length)
    larger.set(this.current.subarray(this.start, this.tail))
    this.current = larger
    this.complete -= this.start
    this.tail = held
    this.start = 0
  }

  private scan(): void {
    const bytes = this.current
    const { tail } = this
    let at = this.complete
    this.awaited = 0
    while (this.terminal === undefined && tail - at >= 5) {
      const length = uint32At(bytes, at + 1)
      if (length < 4 || length > maximumFrame) {
        this.terminal = { _tag: "Malformed", what: `a message of ${length} bytes` }
        break
      }
      const end = at + 1 + length
      if (end > tail) {
        this.awaited = 1 + length
        break
      }
      if (this.accept(bytes, at, end)) at = end
      else break
    }
    this.complete = at
  }

  /** Looks at one whole frame; false when it ends the stream. */
  private accept(bytes: Uint8Array, at: number, end: number): boolean {
    switch (bytes[at]) {
      case CopyData: {
        if (!this.streaming) break
        const kind = bytes[at + 5]
        if (kind === XLogData && end - at >= 30) this.reached(uint32At(bytes, at + 6), uint32At(bytes, at + 10))
        else if (kind === Keepalive && end - at === 23) {
          this.reached(uint32At(bytes, at + 6), uint32At(bytes, at + 10))
          if (bytes[at + 22] === 1) this.replyRequested = true
        }
        return true
      }
      case NoticeResponse:
      case ParameterStatus:
      case NotificationResponse:
        return true
      case CopyBothResponse:
        this.streaming = true
        this.start = end
        return true
      case ErrorResponse:
        if (!this.streaming) {
          // ReadyForQuery follows: the session lives on.
          this.refusal = errorFields(bytes.subarray(at + 5, end))
          this.start = end
          return true
        }
        this.terminal = { _tag: "ServerError", fields: errorFields(bytes.subarray(at + 5, end)) }
        return false
      case ReadyForQuery:
        if (this.streaming) break
        this.ready = true
        this.start = end
        return true
      case CommandComplete:
        if (!this.streaming) break
        // A walsender that has sent everything at a shutdown ends so, without CopyDone.
        this.terminal = { _tag: "CopyDone" }
        return false
      case CopyDone:
        this.terminal = { _tag: "CopyDone" }
        return false
    }
    this.terminal = { _tag: "Malformed", what: `an unexpected message of type 0x${(bytes[at] as number).toString(16)}` } // in range
    return false
  }

  private reached(high: number, low: number): void {
    if (high > this.receivedHigh || (high === this.receivedHigh && low > this.receivedLow)) {
      this.receivedHigh = high
      this.receivedLow = low
    }
  }
}
