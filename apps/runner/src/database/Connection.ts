/**
 * Connections to the configuration database: where its URL comes from, and a client for it.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Effect from "effect/Effect"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import { type CommandError, usage } from "../CommandError.ts"
import * as Interpolation from "../Interpolation.ts"
import { fromSql } from "./DatabaseError.ts"

/** Variable that holds the URL when no option gives it. */
export const urlVariable = "ETL_STREAM_CONFIG_DB"

type Environment = Readonly<Record<string, string | undefined>>

/** The database's URL in `option` (which may be a reference, so that it doesn't show in the list of processes) or in the environment. */
export const urlFrom = Effect.fnUntraced(function*(
  option: string | undefined,
  environment: Environment
): Effect.fn.Return<Redacted.Redacted | undefined, CommandError> {
  const written = option ?? environment[urlVariable]
  if (written === undefined || written.trim() === "") return undefined
  const { findings, value } = yield* Interpolation.resolve(written.trim(), {
    environment,
    offline: false,
    readFile: (path) => Effect.try({ try: () => Fs.readFileSync(path, "utf8"), catch: () => "can't be read" })
  })
  const [finding] = findings
  if (finding !== undefined) {
    return yield* usage(`The URL of the configuration database: ${finding.message}`, finding.remedy)
  }
  const url = String(value).trim()
  if (!/^postgres(ql)?:\/\//.test(url) || !URL.canParse(url)) {
    return yield* usage(
      "The URL of the configuration database is not one of PostgreSQL",
      "Write it as postgresql://user:password@host:5432/database?sslmode=verify-full."
    )
  }
  return Redacted.make(url, { label: "configuration database" })
})

/** The same where there must be one. */
export const requireUrl = Effect.fnUntraced(function*(option: string | undefined, environment: Environment) {
  const url = yield* urlFrom(option, environment)
  return url === undefined
    ? yield* usage(
      "It is not said where the configuration database is",
      `Give its URL with \`--config-db\`, or in the environment variable ${urlVariable}, where the list of processes doesn't show it.`
    )
    : url
})

const isLocal = (host: string): boolean =>
  host === "" || host === "localhost" || host === "[::1]" || host === "::1" || host.startsWith("127.") ||
  /^(\/|%2f)/i.test(host)

/** Without `sslmode` another machine has to show a certificate that is valid for its name, as a source has to. */
const tls = (url: string): { readonly ssl?: boolean } => {
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
