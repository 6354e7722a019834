import { assert, describe, it } from "@effect/vitest"
import * as FaultProxy from "@etl-stream/testkit/FaultProxy"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { once } from "node:events"
import { connect, createServer, type Socket } from "node:net"

/** A server that answers every chunk with the same chunk. */
const echo = Effect.acquireRelease(
  Effect.callback<{ readonly port: number; readonly close: () => void }>((resume) => {
    const sockets = new Set<Socket>()
    const server = createServer((socket) => {
      sockets.add(socket)
      socket.on("error", () => {})
      socket.pipe(socket)
    })
    server.listen(0, "127.0.0.1", () => {
      const address = server.address()
      if (address === null || typeof address === "string") throw new Error("no port")
      resume(Effect.succeed({
        port: address.port,
        close: () => {
          for (const socket of sockets) socket.destroy()
          server.close()
        }
      }))
    })
  }),
  (server) => Effect.sync(server.close)
)

const dial = (port: number) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const socket = connect(port, "127.0.0.1")
      socket.on("error", () => {})
      await once(socket, "connect")
      return socket
    }),
    (socket) => Effect.sync(() => socket.destroy())
  )

/** The end of a connection, also by an error (`once` would throw that). */
const closeOf = (socket: Socket): Promise<void> => new Promise((resolve) => socket.once("close", () => resolve()))

const ask = (socket: Socket, text: string) =>
  Effect.promise(async () => {
    const answer = once(socket, "data")
    socket.write(text)
    return String((await answer)[0])
  })

describe("FaultProxy", () => {
  it.live("joins clients to the target, large transfers included", () =>
    Effect.gen(function*() {
      const server = yield* echo
      const proxy = yield* FaultProxy.start({ host: "127.0.0.1", port: server.port })
      const socket = yield* dial(proxy.port)
      assert.strictEqual(yield* ask(socket, "hello"), "hello")
      const bytes = 8 * 1024 * 1024
      const received = Effect.promise(async () => {
        let total = 0
        for await (const chunk of socket) {
          total += (chunk as Buffer).length // a socket without an encoding gives buffers
          if (total === bytes) break
        }
        return total
      })
      socket.write(Buffer.alloc(bytes, 7))
      assert.strictEqual(yield* received, bytes)
    }))

  it.live("cuts every connection and serves new ones", () =>
    Effect.gen(function*() {
      const server = yield* echo
      const proxy = yield* FaultProxy.start({ host: "127.0.0.1", port: server.port })
      const socket = yield* dial(proxy.port)
      yield* ask(socket, "x")
      const closed = closeOf(socket)
      assert.strictEqual(yield* proxy.cut, 1)
      yield* Effect.promise(() => closed)
      assert.strictEqual(yield* ask(yield* dial(proxy.port), "again"), "again")
    }))

  it.live("stalls without closing, and goes on where it stopped", () =>
    Effect.gen(function*() {
      const server = yield* echo
      const proxy = yield* FaultProxy.start({ host: "127.0.0.1", port: server.port })
      const socket = yield* dial(proxy.port)
      yield* ask(socket, "x")
      yield* proxy.stall
      let answered = false
      const answer = Effect.promise(async () => {
        const data = once(socket, "data")
        socket.write("late")
        const text = String((await data)[0])
        answered = true
        return text
      })
      const fiber = yield* Effect.forkChild(answer, { startImmediately: true })
      yield* Effect.sleep(100)
      assert.isFalse(answered)
      yield* proxy.resume
      assert.strictEqual(yield* Fiber.join(fiber), "late")
    }))

  it.live("turns clients away while it refuses", () =>
    Effect.gen(function*() {
      const server = yield* echo
      const proxy = yield* FaultProxy.start({ host: "127.0.0.1", port: server.port })
      yield* proxy.refuse
      const refused = yield* Effect.promise(async () => {
        const socket = connect(proxy.port, "127.0.0.1")
        socket.on("error", () => {})
        await closeOf(socket)
        return true
      })
      assert.isTrue(refused)
      yield* proxy.resume
      assert.strictEqual(yield* ask(yield* dial(proxy.port), "back"), "back")
    }))

  it.live("loses an answer to something that was done, and refuses until it is told to go on", () =>
    Effect.gen(function*() {
      const server = yield* echo
      const proxy = yield* FaultProxy.start({ host: "127.0.0.1", port: server.port })
      const socket = yield* dial(proxy.port)
      assert.strictEqual(yield* ask(socket, "before"), "before")
      yield* proxy.loseAnswer(2)
      assert.strictEqual(yield* ask(socket, "first"), "first")
      const closed = closeOf(socket)
      const heard: Array<string> = []
      socket.on("data", (chunk: Buffer) => heard.push(String(chunk)))
      socket.write("second")
      yield* Effect.promise(() => closed)
      assert.deepStrictEqual(heard, [])
      const refused = connect(proxy.port, "127.0.0.1").on("error", () => {})
      yield* Effect.promise(() => closeOf(refused))
      yield* proxy.resume
      assert.strictEqual(yield* ask(yield* dial(proxy.port), "after"), "after")
    }))

  it.live("loses one answer, and serves whoever comes then", () =>
    Effect.gen(function*() {
      const server = yield* echo
      const proxy = yield* FaultProxy.start({ host: "127.0.0.1", port: server.port })
      const socket = yield* dial(proxy.port)
      yield* proxy.cutAnswer(2)
      assert.strictEqual(yield* ask(socket, "first"), "first")
      const closed = closeOf(socket)
      socket.write("second")
      yield* Effect.promise(() => closed)
      assert.strictEqual(yield* ask(yield* dial(proxy.port), "after"), "after")
    }))
})
