/**
 * One listening socket, plain or with TLS, that lives as long as its scope.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { IncomingMessage, Server, ServerResponse } from "node:http"
import { createServer } from "node:http"
import { createServer as createTlsServer } from "node:https"

/** The server can't listen. */
export class ListenError extends Schema.TaggedError<ListenError>()("@etl-stream/snowflake-local/Server/ListenError", {
  host: Schema.String,
  port: Schema.Int,
  message: Schema.String
}) {}

/** A certificate (with its chain) and its private key, both PEM. */
export interface Identity {
  readonly certificate: string
  readonly key: string
}

/** Where a socket listens. */
export interface Endpoint {
  readonly url: string
  readonly port: number
}

/** A listening address as a client writes it. */
const urlOf = (scheme: string, host: string, port: number): string => {
  const reachable = host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "::1" : host
  return `${scheme}://${reachable.includes(":") ? `[${reachable}]` : reachable}:${port}`
}

/** Listens until the scope closes; open connections are then cut. */
export const listen = (
  options: { readonly host: string; readonly port: number; readonly identity?: Identity | undefined },
  answer: (request: IncomingMessage, response: ServerResponse) => Promise<void>
): Effect.Effect<Endpoint, ListenError, Scope.Scope> =>
  Effect.gen(function*() {
    const { host, identity, port } = options
    const failed = (cause: unknown) =>
      new ListenError({ host, port, message: cause instanceof Error ? cause.message : String(cause) })
    const handle = (request: IncomingMessage, response: ServerResponse): void => {
      answer(request, response).catch(() => {
        // The client is gone, or the answer is half sent: there is nobody to tell.
        response.destroy()
      })
    }
    const server = yield* Effect.try({
      try: (): Server =>
        identity === undefined
          ? createServer(handle)
          : createTlsServer({ cert: identity.certificate, key: identity.key }, handle),
      catch: (cause) =>
        new ListenError({ host, port, message: `The certificate and key can't be used: ${failed(cause).message}` })
    })
    // Long queries are answered within a minute; a client that holds a connection may keep it.
    server.requestTimeout = 0
    server.keepAliveTimeout = 60_000
    return yield* Effect.acquireRelease(
      Effect.callback<Endpoint, ListenError>((resume) => {
        server.once("error", (cause) => resume(Effect.fail(failed(cause))))
        server.listen(port, host, () => {
          const bound = server.address()
          const actual = typeof bound === "object" && bound !== null ? bound.port : port
          resume(Effect.succeed({ url: urlOf(identity === undefined ? "http" : "https", host, actual), port: actual }))
        })
      }),
      () =>
        Effect.callback<void>((resume) => {
          server.close(() => resume(Effect.void))
          server.closeAllConnections()
        })
    )
  })
