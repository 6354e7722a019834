/**
 * Connections to the configuration database.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Net from "node:net"
import { fromSql, silent, withoutDefects } from "./DatabaseError.ts"

const isLocal = (host: string): boolean =>
  host === "" || host === "localhost" || host === "[::1]" || host === "::1" || host.startsWith("127.") ||
  /^(\/|%2f)/i.test(host)

/** Without `sslmode` another machine has to show a certificate that is valid for its name, as a source has to. */
export const tls = (url: string): { readonly ssl?: boolean } => {
  const { hostname, searchParams } = new URL(url)
  return searchParams.has("sslmode") || isLocal(searchParams.get("host") ?? hostname) ? {} : { ssl: true }
}

/** Where the server at `url` listens. */
const listeningAt = (url: string): Net.NetConnectOpts => {
  const { hostname, port, searchParams } = new URL(url)
  const host = searchParams.get("host") ?? decodeURIComponent(hostname).replace(/^\[(.*)\]$/, "$1")
  const number = Number(searchParams.get("port") ?? (port === "" ? "5432" : port))
  return host.startsWith("/")
    ? { path: `${host}/.s.PGSQL.${number}` }
    : {
      host: host === "" ? "localhost" : host,
      port: number,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: 30_000
    }
}

export interface Connection {
  /** For reading, writing and listening. Connections are made when they are needed. */
  readonly client: PgClient.PgClient
  /**
   * Breaks the connections, so that whatever waits for an answer fails. The beginning and the end of a transaction can't be interrupted otherwise, and on a
   * connection that died silently they would wait for ever.
   */
  readonly sever: Effect.Effect<void>
}

export const connect = Effect.fnUntraced(function*(
  url: Redacted.Redacted
): Effect.fn.Return<Connection, ConnectorError, Scope.Scope> {
  const sockets = new Set<Net.Socket>()
  const client = yield* PgClient.make({
    url,
    ...tls(Redacted.value(url)),
    stream: () => {
      const socket = Net.connect(listeningAt(Redacted.value(url)))
      sockets.add(socket)
      return socket.once("close", () => sockets.delete(socket))
    },
    applicationName: "etl-stream",
    connectTimeout: "10 seconds",
    maxConnections: 3,
    // Poolers in front of the database may not keep them.
    prepare: false
  }).pipe(
    Effect.provideServiceEffect(Reactivity.Reactivity, Reactivity.make),
    Effect.mapError(fromSql)
  )
  return {
    client,
    sever: Effect.sync(() => {
      for (const socket of sockets) socket.destroy()
    })
  }
})

/** Fails when an answer doesn't come within `limit`: a connection may be dead without anybody having said so. */
export const answering =
  (limit: Duration.Duration, { sever }: Pick<Connection, "sever">) =>
  <A, R>(use: Effect.Effect<A, ConnectorError, R>): Effect.Effect<A, ConnectorError, R> =>
    Effect.gen(function*() {
      let late = false
      const timer = yield* Effect.sleep(limit).pipe(
        Effect.andThen(Effect.sync(() => {
          late = true
        })),
        Effect.andThen(sever),
        Effect.forkChild
      )
      return yield* withoutDefects(use).pipe(
        Effect.ensuring(Fiber.interrupt(timer)),
        Effect.mapError((error) => late ? silent() : error)
      )
    })
