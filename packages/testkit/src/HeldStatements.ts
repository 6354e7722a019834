/**
 * A way to a server on which something happens just before a statement gets there: `before` is asked about every piece of what clients send,
 * and the piece waits for what it returns.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { connect, createServer, type Socket } from "node:net"

/** Listens on the loopback interface; returns the port. */
export const start = (
  target: { readonly host: string; readonly port: number },
  before: (sent: string) => Promise<unknown> | undefined
): Effect.Effect<number, never, Scope.Scope> =>
  Effect.gen(function*() {
    const sockets = new Set<Socket>()
    const server = createServer({ allowHalfOpen: true }, (client) => {
      const there = connect({ ...target, allowHalfOpen: true })
      for (const [from, to] of [[client, there], [there, client]] as const) {
        sockets.add(from)
        from.on("error", () => to.destroy())
        from.on("close", () => {
          sockets.delete(from)
          to.destroy()
        })
        from.on("end", () => to.end())
      }
      there.on("data", (bytes) => client.write(bytes))
      let sent: Promise<unknown> = Promise.resolve()
      client.on("data", (bytes) => {
        sent = sent.then(() => before(bytes.toString("latin1"))).then(() => there.write(bytes)).catch(() =>
          client.destroy()
        )
      })
    })
    const listening = Effect.callback<number>((resume) => {
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        resume(
          typeof address === "object" && address !== null
            ? Effect.succeed(address.port)
            : Effect.die("no port")
        )
      })
    })
    return yield* Effect.acquireRelease(listening, () =>
      Effect.callback<void>((resume) => {
        server.close(() => resume(Effect.void))
        for (const socket of sockets) socket.destroy()
      }))
  })
