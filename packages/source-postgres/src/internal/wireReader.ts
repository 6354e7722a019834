/**
 * Reads a replication session's socket on demand: bytes are taken from the kernel only while somebody pulls.
 *
 * That is the back pressure: nobody pulls, nothing is read, and the server's sends block. How often it reads decides how
 * fast the *server* is, because a walsender makes a small send per change and every wake-up of its reader costs both sides
 * a switch: so on a busy TCP connection a short read is followed by a pause in which the kernel's buffer fills,
 * and on a quiet one every byte is read at once.
 */
import * as Exit from "effect/Exit"
import type { Socket } from "node:net"
import { FrameBuffer, type Frames, type Terminal } from "./frameBuffer.ts"

/** No more frames: the server ended the stream, or the connection was lost with this error code. */
export type StreamEnd = Terminal | { readonly _tag: "Lost"; readonly code: string | undefined }

/** A read below this that left room is short: the kernel had no more. */
const shortRead = 512 * 1024
/** The stream is busy when so many bytes came within the last `busyWindow` milliseconds. */
const busyBytes = 100 * 1024
const busyWindow = 10
/** How long the kernel's buffer may fill at most; longer pauses starve the server (measured: 60 ms halve the throughput). */
const pauseMillis = 25
/** How far it may fill: a server of large rows, which fills it much faster, would wait for the rest of the pause (measured: rows of 1 MB took 4.0 s instead of 3.0). */
const pauseBytes = 1024 * 1024
/** Decrypted bytes of one turn of the event loop are collected up to this. */
const tlsLimit = 4 * 1024 * 1024

type Waiting = (exit: Exit.Exit<Frames, StreamEnd>) => void

export class WireReader {
  readonly buffer = new FrameBuffer()
  /** When the current pull began to wait or bytes came last, whichever is later; undefined while nobody pulls. */
  quietSince: number | undefined
  private readonly socket: Socket
  /** Whether pausing helps: TCP yes; a Unix socket's buffer is too small for it (measured: 6 times slower). */
  private readonly pausing: boolean
  private readonly onReplyRequested: () => void
  private waiting: Waiting | undefined
  private starting: (() => void) | undefined
  private end: StreamEnd | undefined
  private timer: NodeJS.Timeout | undefined
  private immediate: NodeJS.Immediate | undefined
  private discarding = false
  private readAfter = 0
  private windowStart = 0
  private windowBytes = 0
  /** When the last pause began, and what has come since. */
  private pausedAt = 0
  private bytesSince = 0

  constructor(socket: Socket, pausing: boolean, onReplyRequested: () => void) {
    this.socket = socket
    this.pausing = pausing
    this.onReplyRequested = onReplyRequested
  }

  /** Calls back once when the server has begun the stream, refused to (`buffer` says which), or is gone. */
  start(started: () => void): void {
    this.starting = started
    this.socket.resume()
  }

  /** Calls back once, with frames or with the end. One pull at a time; the frames of the last one are void. */
  pull(waiting: Waiting): void {
    if (this.buffer.hasFrames) {
      waiting(Exit.succeed(this.buffer.take()))
      return
    }
    const end = this.ended
    if (end !== undefined) {
      waiting(Exit.fail(end))
      return
    }
    this.waiting = waiting
    const now = performance.now()
    this.quietSince = now
    if (now < this.readAfter) {
      this.pausedAt = now
      this.bytesSince = 0
      this.timer = setTimeout(() => {
        this.timer = undefined
        this.socket.resume()
      }, this.readAfter - now)
    } else this.socket.resume()
  }

  /** Nobody waits any longer: reading stops. */
  cancel(): void {
    this.waiting = undefined
    this.stopReading()
  }

  /** `count` bytes came in `from`; says whether reading goes on. For sockets that read into `buffer.target()`. */
  received(from: Uint8Array, count: number): boolean {
    if (this.discarding) return true
    this.buffer.wrote(from, count)
    this.arrived(count, count < from.length)
    if (this.deliverable) {
      // The pull's callback may pull again, which resumes the socket: the answer is what is wanted after it.
      this.deliver()
    }
    return this.starting !== undefined || (this.waiting !== undefined && this.timer === undefined)
  }

  /** A chunk came from a stream that allocates its own (TLS). All chunks of a turn make one view. */
  receivedChunk(chunk: Uint8Array): void {
    if (this.discarding) return
    this.buffer.write(chunk)
    this.arrived(chunk.length, true)
    if (this.buffer.pending >= tlsLimit && this.deliverable) this.deliver()
    else {
      this.immediate ??= setImmediate(() => {
        this.immediate = undefined
        if (this.deliverable) this.deliver()
      })
    }
  }

  /** The connection is gone. */
  lost(code: string | undefined): void {
    this.finish({ _tag: "Lost", code })
  }

  /** Ends the stream for whoever pulls; the first reason stays. */
  finish(end: StreamEnd): void {
    this.end ??= end
    this.startUp()
    if (this.waiting !== undefined) this.deliver()
  }

  /** Whatever still comes is of no interest: nothing is kept or scanned any more. */
  discard(): void {
    this.discarding = true
  }

  /** Why the stream ended, once it has. */
  get ended(): StreamEnd | undefined {
    return this.buffer.terminal ?? this.end
  }

  private startUp(): void {
    const { starting } = this
    if (starting === undefined) return
    if (!this.buffer.streaming && !this.buffer.ready && this.ended === undefined) return
    this.starting = undefined
    this.stopReading()
    starting()
  }

  private get deliverable(): boolean {
    return this.waiting !== undefined && (this.buffer.hasFrames || this.buffer.terminal !== undefined)
  }

  /** `all`: as far as can be seen the kernel has no more. */
  private arrived(count: number, all: boolean): void {
    const now = performance.now()
    if (this.quietSince !== undefined) this.quietSince = now
    if (now - this.windowStart > busyWindow) {
      this.windowStart = now
      this.windowBytes = 0
    }
    this.windowBytes += count
    this.bytesSince += count
    const isBusy = this.pausing && all && count < shortRead && this.windowBytes > busyBytes
    this.readAfter = isBusy ? now + Math.min(pauseMillis, pauseBytes * (now - this.pausedAt) / this.bytesSince) : 0
    this.startUp()
    if (this.buffer.replyRequested) {
      this.buffer.replyRequested = false
      this.onReplyRequested()
    }
  }

  private deliver(): void {
    const { waiting } = this
    if (waiting === undefined) return
    this.waiting = undefined
    this.stopReading()
    this.pull(waiting)
  }

  private stopReading(): void {
    this.quietSince = undefined
    clearTimeout(this.timer)
    this.timer = undefined
    this.socket.pause()
  }
}
