/**
 * A server that speaks just enough of PostgreSQL's protocol to stream what a test wants, and notes what it is told.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { createServer, type Socket } from "node:net"

const message = (type: string, body: Uint8Array): Buffer => {
  const bytes = Buffer.alloc(5 + body.length)
  bytes.write(type)
  bytes.writeInt32BE(4 + body.length, 1)
  bytes.set(body, 5)
  return bytes
}

const ready = message("Z", Buffer.from("I"))

/** One row with one column of text. */
const row = (name: string, value: string): Buffer => {
  const description = Buffer.concat([
    Uint8Array.of(0, 1),
    Buffer.from(`${name}\0`),
    Buffer.alloc(6),
    Uint8Array.of(0, 0, 0, 25, 0xff, 0xff),
    Buffer.alloc(6)
  ])
  const data = Buffer.concat([Uint8Array.of(0, 1, 0, 0, 0, value.length), Buffer.from(value)])
  return Buffer.concat([message("T", description), message("D", data), message("C", Buffer.from("SELECT 1\0"))])
}

export const keepalive = (lsn: bigint, reply: boolean): Buffer => {
  const body = Buffer.alloc(18)
  body.write("k")
  body.writeBigUInt64BE(lsn, 1)
  body[17] = reply ? 1 : 0
  return message("d", body)
}

export const error = (code: string, text: string): Buffer => message("E", Buffer.from(`SFATAL\0C${code}\0M${text}\0\0`))
export const copyDone = message("c", new Uint8Array())

export interface Status {
  readonly written: bigint
  readonly flushed: bigint
  readonly reply: boolean
  readonly at: number
}

export interface FakeWalSender {
  readonly port: number
  /** Status messages of the client so far. */
  readonly statuses: ReadonlyArray<Status>
  /** Types of all messages since the stream began, in order: `d`, `c`, `X`. */
  readonly received: ReadonlyArray<string>
  /** Whether the client has closed its side. */
  readonly closed: () => boolean
  /** Sends bytes to the client that streams. */
  readonly send: (bytes: Uint8Array) => void
  readonly destroy: () => void
}

/** `begin` is what follows CopyBothResponse at once. */
export const start = (begin: Uint8Array = new Uint8Array()): Effect.Effect<FakeWalSender, never, Scope.Scope> =>
  Effect.callback<FakeWalSender & { readonly stop: () => void }>((resume) => {
    const statuses: Array<Status> = []
    const received: Array<string> = []
    let streaming: Socket | undefined
    let closed = false
    const serve = (socket: Socket): void => {
      let pending = Buffer.alloc(0)
      let started = false
      socket.on("error", () => undefined)
      socket.on("close", () => {
        closed = true
      })
      socket.on("data", (chunk) => {
        pending = Buffer.concat([pending, chunk])
        for (;;) {
          const header = started ? 1 : 0
          if (pending.length < header + 4) return
          const length = header + pending.readInt32BE(header)
          if (pending.length < length) return
          const frame = pending.subarray(0, length)
          pending = pending.subarray(length)
          if (!started) {
            started = true
            socket.write(Buffer.concat([message("R", Buffer.alloc(4)), ready]))
            continue
          }
          const type = String.fromCharCode(frame[0] ?? 0)
          if (type === "Q") {
            const text = frame.subarray(5).toString()
            if (!text.startsWith("START_REPLICATION")) socket.write(Buffer.concat([row("setting", "60000"), ready]))
            else {
              streaming = socket
              socket.write(Buffer.concat([message("W", Buffer.alloc(3)), begin]))
            }
            continue
          }
          received.push(type)
          if (type === "d" && frame[5] === 0x72) {
            statuses.push({
              written: frame.readBigUInt64BE(6),
              flushed: frame.readBigUInt64BE(14),
              reply: frame[38] === 1,
              at: performance.now()
            })
          }
        }
      })
    }
    const server = createServer(serve)
    server.listen(0, "127.0.0.1", () => {
      const address = server.address()
      resume(Effect.succeed({
        port: typeof address === "object" && address !== null ? address.port : 0,
        statuses,
        received,
        closed: () => closed,
        send: (bytes) => streaming?.write(bytes),
        destroy: () => streaming?.destroy(),
        stop: () => {
          streaming?.destroy()
          server.close()
        }
      }))
    })
  }).pipe((make) => Effect.acquireRelease(make, (server) => Effect.sync(server.stop)))
