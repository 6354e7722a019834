/**
 * A socket that reads into buffers of whoever takes its bytes, without a chunk, a copy or an event for each read. Until somebody does they are node-postgres's.
 *
 * Chunks of 64 KiB that are thrown away at once make the garbage collector run all the time: it goes by the memory that was taken.
 */
import * as net from "node:net"
import type { Duplex } from "node:stream"

export interface Taker {
  /** Where the next bytes are to be read. */
  readonly target: () => Uint8Array
  /** `count` bytes came in `from`: the last target, unless they had been asked for before. Says whether reading goes on. */
  readonly received: (from: Uint8Array, count: number) => boolean
}

export interface DirectSocket {
  readonly socket: net.Socket
  /** Gives the bytes to `taker`, or, when undefined, to node-postgres. */
  readonly direct: (taker: Taker | undefined) => void
}

const known = new WeakMap<Duplex, DirectSocket>()

const make = (): DirectSocket => {
  let taker: Taker | undefined
  const relay = new Uint8Array(64 * 1024)
  const socket: net.Socket = new net.Socket({
    onread: {
      buffer: () => taker === undefined ? relay : taker.target(),
      callback: (count, from) => {
        if (taker !== undefined) return taker.received(from, count)
        // node-postgres listens to a stream's events.
        socket.emit("data", Buffer.from(from.subarray(0, count)))
        return true
      }
    }
  })
  const made: DirectSocket = {
    socket,
    direct: (to) => {
      taker = to
    }
  }
  known.set(socket, made)
  return made
}

/** node-postgres's option that makes a client's socket such a one. Under TLS it wraps an ordinary one, which decrypts into chunks of its own. */
export const stream = (options?: { readonly ssl?: unknown }): net.Socket =>
  options?.ssl ? new net.Socket() : make().socket

/** What a client's socket is, when it was made here. */
export const of = (socket: Duplex): DirectSocket | undefined => known.get(socket)
