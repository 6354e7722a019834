/**
 * Connections to the configuration database.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Effect from "effect/Effect"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { fromSql } from "./DatabaseError.ts"

const isLocal = (host: string): boolean =>
  host === "" || host === "localhost" || host === "[::1]" || host === "::1" || host.startsWith("127.") ||
  /^(\/|%2f)/i.test(host)

/** Without `sslmode` another machine has to show a certificate that is valid for its name, as a source has to. */
export const tls = (url: string): { readonly ssl?: boolean } => {
  const { hostname, searchParams } = new URL(url)
  return searchParams.has("sslmode") || isLocal(searchParams.get("host") ?? hostname) ? {} : { ssl: true }
}

/** Connections for reading, writing and listening. The first is made when it is needed. */
export const open = (url: Redacted.Redacted): Effect.Effect<PgClient.PgClient, ConnectorError, Scope.Scope> =>
  PgClient.make({
    url,
    ...tls(Redacted.value(url)),
    applicationName: "etl-stream",
    connectTimeout: "10 seconds",
    keepAlive: "30 seconds",
    maxConnections: 3,
    // Poolers in front of the database may not keep them.
    prepare: false
  }).pipe(
    Effect.provideServiceEffect(Reactivity.Reactivity, Reactivity.make),
    Effect.mapError(fromSql)
  )
