/**
 * A real HTTP server on this machine that records what it gets and answers as it is told to: the other side of webhooks in tests.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Http from "node:http"
import type { AddressInfo } from "node:net"

export interface ReceivedRequest {
  readonly method: string | undefined
  readonly path: string | undefined
  readonly headers: Http.IncomingHttpHeaders
  readonly body: string
  /** When it had come, milliseconds since 1970-01-01 UTC. */
  readonly at: number
  /** How it was answered. */
  readonly answer: Answer | "hang"
}

export interface Answer {
  readonly status: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
}

export interface HttpReceiver {
  /** Its address, without a path. */
  readonly url: string
  readonly requests: ReadonlyArray<ReceivedRequest>
  /** Answers the next requests so, in the order in which they begin; after them each gets 200. `hang`: no answer at all. */
  readonly script: (...answers: ReadonlyArray<Answer | "hang">) => void
  /** Answers all further requests so. */
  readonly always: (answer: Answer | "hang") => void
  /** Waits until that many requests have come. */
  readonly has: (count: number) => Effect.Effect<void>
}

/** A server that ends with the scope. */
export const start: Effect.Effect<HttpReceiver, never, Scope.Scope> = Effect.gen(function*() {
  const requests: Array<ReceivedRequest> = []
  let scripted: Array<Answer | "hang"> = []
  let otherwise: Answer | "hang" = { status: 200 }
  const waiting = new Set<() => void>()
  const server = Http.createServer((request, response) => {
    let body = ""
    // Decided when it begins: what was sent before another answer was wanted isn't answered by that.
    const answer = scripted.shift() ?? otherwise
    request.setEncoding("utf8").on("data", (text: string) => body += text).on("end", () => {
      const { headers, method, url } = request
      requests.push({ method, path: url, headers, body, at: Date.now(), answer })
      for (const look of waiting) look()
      if (answer !== "hang") response.writeHead(answer.status, { ...answer.headers }).end(answer.body ?? "ok")
    })
  })
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => {
      server.listen(0, "127.0.0.1", () => resume(Effect.void))
    }),
    () =>
      Effect.sync(() => {
        server.closeAllConnections()
        server.close()
      })
  )
  const { port } = server.address() as AddressInfo // it listens on a port
  return {
    url: `http://127.0.0.1:${port}`,
    requests,
    script: (...answers) => {
      scripted = [...answers]
      otherwise = { status: 200 }
    },
    always: (answer) => {
      scripted = []
      otherwise = answer
    },
    has: (count) =>
      Effect.callback<void>((resume) => {
        const look = () => {
          if (requests.length >= count) resume(Effect.void)
        }
        waiting.add(look)
        look()
        return Effect.sync(() => waiting.delete(look))
      })
  }
})
