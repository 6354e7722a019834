/**
 * A TCP proxy on the loopback interface that breaks connections on command.
 *
 * Clients connect to the proxy's port and are joined to the target. `cut` resets every connection, `stall` stops the
 * bytes without a word (as a firewall that drops packets does), `refuse` also turns new connections away, `loseAnswer` does so once the target
 * has answered to something, `cutAnswer` loses one answer and serves whoever comes then, `delay` holds every chunk for a while, and `resume` goes back to normal.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { connect, createServer, type Socket } from "node:net"

export class FaultProxyError extends Schema.TaggedError<FaultProxyError>("@etl-stream/testkit/FaultProxyError")(
  "FaultProxyError",
  { message: Schema.String, cause: Schema.optionalKey(Schema.Defect()) }
) {}

export interface Target {
  readonly host: string
  readonly port: number
}

export interface FaultProxy {
  readonly host: string
  readonly port: number
  /** Connections that are open now. */
  readonly connections: () => number
  /** Connections ever accepted. */
  readonly accepted: () => number
  /** Bytes that went from the target to clients. */
  readonly received: () => number
  /** Resets all connections; new ones are served. Returns how many there were. */
  readonly cut: Effect.Effect<number>
  /** Nothing moves in either direction until `resume`; connections, old and new, stay open. */
  readonly stall: Effect.Effect<void>
  /** Resets all connections and new ones as they come, until `resume`. */
  readonly refuse: Effect.Effect<void>
  /**
   * Throws away the nth chunk from now on that the target sends (the next when absent), and then refuses: what was asked for is done, and whoever
   * asked doesn't learn it.
   */
  readonly loseAnswer: (nth?: number) => Effect.Effect<void>
  /** Throws away the nth chunk from now on that the target sends (the next when absent), and resets all connections once; new ones are served. */
  readonly cutAnswer: (nth?: number) => Effect.Effect<void>
  /** Every chunk takes this many milliseconds longer, until `resume`. */
  readonly delay: (millis: number) => Effect.Effect<void>
  /** Ends `stall`, `refuse`, `loseAnswer`, `cutAnswer` and `delay`. */
  readonly resume: Effect.Effect<void>
  /** Joins new connections to another target. */
  readonly retarget: (target: Target) => Effect.Effect<void>
}

interface Pair {
  readonly client: Socket
  readonly server: Socket
}

export const start = (initial: Target): Effect.Effect<FaultProxy, FaultProxyError, Scope.Scope> =>
  Effect.gen(function*() {
    const pairs = new Set<Pair>()
    let target = initial
    let stalled = false
    let refusing = false
    /** How many chunks there are until one is lost, that one included; 0: none will be. */
    let losing = 0
    /** The same of a chunk after which new connections are served. */
    let cutting = 0
    let delay = 0
    let accepted = 0
    let received = 0

    const reset = (pair: Pair): void => {
      pair.client.resetAndDestroy()
      pair.server.resetAndDestroy()
    }
    const resetAll = (): number => {
      const count = pairs.size
      for (const pair of pairs) reset(pair)
      pairs.clear()
      return count
    }

    /** `count` says whether the chunk is to go on. */
    const forward = (from: Socket, to: Socket, count: (bytes: number) => boolean): void => {
      const send = (chunk: Buffer): void => {
        if (to.destroyed || !count(chunk.length)) return
        if (!to.write(chunk)) from.pause()
      }
      from.on("data", (chunk: Buffer) => {
        if (delay > 0) setTimeout(send, delay, chunk)
        else send(chunk)
      })
      to.on("drain", () => {
        if (!stalled) from.resume()
      })
      from.on("end", () => {
        if (delay > 0) setTimeout(() => to.end(), delay)
        else to.end()
      })
      from.on("error", () => to.destroy())
      from.on("close", () => to.destroy())
    }

    const listener = createServer({ allowHalfOpen: true }, (client) => {
      accepted++
      client.on("error", () => {})
      if (refusing) {
        client.resetAndDestroy()
        return
      }
      const server = connect({ ...target, allowHalfOpen: true })
      const pair = { client, server }
      pairs.add(pair)
      client.setNoDelay(true)
      server.setNoDelay(true)
      forward(client, server, () => true)
      forward(server, client, (bytes) => {
        received += bytes
        if (cutting > 0 && --cutting === 0) {
          resetAll()
          return false
        }
        if (losing === 0 || --losing > 0) return true
        refusing = true
        resetAll()
        return false
      })
      const forget = (): void => {
        pairs.delete(pair)
      }
      client.once("close", forget)
      server.once("close", forget)
      if (stalled) {
        client.pause()
        server.pause()
      }
    })

    const port = yield* Effect.acquireRelease(
      Effect.callback<number, FaultProxyError>((resume) => {
        listener.once(
          "error",
          (cause) => resume(Effect.fail(new FaultProxyError({ message: "the proxy could not listen", cause })))
        )
        listener.listen(0, "127.0.0.1", () => {
          const address = listener.address()
          if (address !== null && typeof address === "object") resume(Effect.succeed(address.port))
        })
      }),
      () =>
        Effect.callback<void>((resume) => {
          resetAll()
          listener.close(() => resume(Effect.void))
        })
    )

    return {
      host: "127.0.0.1",
      port,
      connections: () => pairs.size,
      accepted: () => accepted,
      received: () => received,
      cut: Effect.sync(resetAll),
      stall: Effect.sync(() => {
        stalled = true
        for (const { client, server } of pairs) {
          client.pause()
          server.pause()
        }
      }),
      refuse: Effect.sync(() => {
        refusing = true
        resetAll()
      }),
      loseAnswer: (nth = 1) =>
        Effect.sync(() => {
          losing = nth
        }),
      cutAnswer: (nth = 1) =>
        Effect.sync(() => {
          cutting = nth
        }),
      delay: (millis) =>
        Effect.sync(() => {
          delay = millis
        }),
      resume: Effect.sync(() => {
        refusing = false
        losing = 0
        cutting = 0
        stalled = false
        delay = 0
        for (const { client, server } of pairs) {
          client.resume()
          server.resume()
        }
      }),
      retarget: (next) =>
        Effect.sync(() => {
          target = next
        })
    }
  })
